//! Lets code that has no request set the caching options of the response that is being made.
//!
//! While the future of a handler runs, a variable of the thread holds the options of its response.
//! The variable is set only during a call of [`Future::poll`], so handlers that take turns on one
//! thread do not mix their options.

use std::{
    cell::RefCell,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use actix_service::Service;
use actix_web::{HttpMessage, dev::ServiceRequest};
use pin_project_lite::pin_project;

use super::CacheOptions;

thread_local! {
    /// The options of the response that the running handler makes. `None` outside of the calls
    /// whose responses may be stored.
    static CURRENT: RefCell<Option<CacheOptions>> = const { RefCell::new(None) };
}

/// Adds a tag (surrogate key) to the response that is being made, from code that has no request.
///
/// The function has the effect of [`CacheOptions::tag`]: the response gets the tags of both. Call it
/// where data is read, so that each response has the tags of all data that it contains:
///
/// ```
/// # struct Post;
/// # async fn select(id: u32) -> Post { Post }
/// async fn load_post(id: u32) -> Post {
///     actix_web_cache::tag(format!("post:{id}"));
///     select(id).await
/// }
/// ```
///
/// # Limits
///
/// The functions `tag`, [`ttl`] and [`no_store`] apply to the innermost [`Cache`](crate::Cache)
/// around the handler. They have no effect in these places:
///
/// * without a cache around the handler, or if the cache passes the request on without trying to
///   store the response, for example because of a rule (except that
///   [`Policy::emit_tags`](crate::Policy::emit_tags) lists the tags),
/// * in a response body that is still being produced after the handler has returned its response,
/// * in another task or thread, such as in `spawn`, in
///   [`web::block`](actix_web::web::block) or in a thread pool. Return the tags from there, and call
///   the function in the handler, or call it before the other task is started.
///
/// If several requests share one computation, for example by a memory of loaded records or by a
/// future of which each request has a clone, only the response of the request that runs the
/// computation gets the tag. Call the function outside of the shared part, for each request.
pub fn tag(tag: impl Into<String>) {
    let tag = tag.into();
    with_current(|options| options.tag(tag));
}

/// Sets the lifetime of the response that is being made, from code that has no request.
///
/// The function has the effect of [`CacheOptions::ttl`]. The last call of either of them applies.
/// [`tag`](tag#limits) describes where the function has no effect.
pub fn ttl(ttl: Duration) {
    with_current(|options| options.ttl(ttl));
}

/// Forbids the cache to store the response that is being made, from code that has no request.
///
/// The function has the effect of [`CacheOptions::no_store`]. [`tag`](tag#limits) describes where
/// the function has no effect. A response that must not be stored for reasons of privacy should
/// therefore send `Cache-Control: no-store` or `private`, which other caches obey as well.
pub fn no_store(reason: &'static str) {
    with_current(|options| options.no_store(reason));
}

fn with_current(set: impl FnOnce(&CacheOptions)) {
    // When the thread ends, the variable may no longer exist.
    let _ = CURRENT.try_with(|current| current.borrow().as_ref().map(set));
}

/// Calls an inner service with a request whose response may be stored. The functions of this module
/// set the options of that response.
pub(crate) fn call<S: Service<ServiceRequest>>(
    inner: &S,
    request: ServiceRequest,
) -> WithOptions<S::Future> {
    let mut options = Some(CacheOptions::of(&mut request.extensions_mut()));
    let entered = Entered::new(&mut options);
    let future = inner.call(request);
    drop(entered);
    WithOptions { future, options }
}

pin_project! {
    /// The future of an inner service. While it runs, the functions of this module set the options
    /// of its response.
    pub(crate) struct WithOptions<F> {
        #[pin]
        future: F,
        options: Option<CacheOptions>,
    }
}

impl<F: Future> Future for WithOptions<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = Entered::new(this.options);
        this.future.poll(cx)
    }
}

/// Exchanges the options of a call with those of the thread, until it is dropped. A panic of the
/// handler drops it, too.
struct Entered<'a>(&'a mut Option<CacheOptions>);

impl<'a> Entered<'a> {
    fn new(options: &'a mut Option<CacheOptions>) -> Self {
        let mut entered = Self(options);
        entered.exchange();
        entered
    }

    fn exchange(&mut self) {
        let _ = CURRENT.try_with(|current| mem::swap(self.0, &mut *current.borrow_mut()));
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.exchange();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        panic::{AssertUnwindSafe, catch_unwind},
        pin::pin,
        rc::Rc,
        task::Waker,
    };

    use super::*;

    fn with_options<F>(future: F) -> (WithOptions<F>, CacheOptions) {
        let options = CacheOptions(Rc::default());
        (WithOptions { future, options: Some(options.clone()) }, options)
    }

    fn tags(options: &CacheOptions) -> Vec<String> {
        options.0.borrow().tags.clone()
    }

    fn has_current() -> bool {
        CURRENT.with(|current| current.borrow().is_some())
    }

    /// A future that adds a tag whenever it is polled, and ends when it is polled again.
    async fn tag_twice(name: &'static str) {
        tag(format!("{name}1"));
        let mut polled = false;
        poll_fn(|_| if mem::replace(&mut polled, true) { Poll::Ready(()) } else { Poll::Pending })
            .await;
        tag(format!("{name}2"));
    }

    #[test]
    fn futures_that_take_turns_do_not_mix_their_options() {
        let (first, of_first) = with_options(tag_twice("a"));
        let (second, of_second) = with_options(tag_twice("b"));
        let (mut first, mut second) = (pin!(first), pin!(second));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending() && !has_current());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        tag("outside");
        assert!(first.poll(&mut cx).is_ready() && second.poll(&mut cx).is_ready());
        assert_eq!(tags(&of_first), ["a1", "a2"]);
        assert_eq!(tags(&of_second), ["b1", "b2"]);
        assert!(!has_current());
    }

    #[test]
    fn inner_call_has_its_own_options() {
        let (inner, of_inner) = with_options(async { tag("inner") });
        let (outer, of_outer) = with_options(async {
            tag("before");
            inner.await;
            tag("after");
        });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(outer).poll(&mut cx).is_ready());
        assert_eq!(tags(&of_inner), ["inner"]);
        assert_eq!(tags(&of_outer), ["before", "after"]);
    }

    #[test]
    fn panic_of_a_handler_restores_the_options_of_the_thread() {
        let (panics, _) = with_options(async { panic!("a fault of the handler") });
        let (outer, of_outer) = with_options(async {
            let mut panics = Box::pin(panics);
            let mut cx = Context::from_waker(Waker::noop());
            let poll = AssertUnwindSafe(|| panics.as_mut().poll(&mut cx));
            assert!(catch_unwind(poll).is_err());
            tag("after");
        });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(outer).poll(&mut cx).is_ready());
        assert_eq!(tags(&of_outer), ["after"]);
        assert!(!has_current());
    }
}
