//! Lets code that has no request set the caching options of the response that is being made.
//!
//! While the future of a handler runs, a variable of the thread says which call it is, and holds the
//! options of its response. The variable is set only during a call of [`Future::poll`], so handlers
//! that take turns on one thread do not mix their options. Most handlers set no options, so the
//! options are made when they are first set or extracted.

use std::{
    cell::RefCell,
    future::{self, Future},
    mem,
    pin::Pin,
    ptr,
    task::{Context, Poll},
    time::Duration,
};

use actix_service::Service;
use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    dev::{Payload, ServiceRequest, ServiceResponse},
};
use pin_project_lite::pin_project;

use super::CacheOptions;

thread_local! {
    /// The call of the handler that is running. `None` outside of the calls whose responses may be
    /// stored.
    static CURRENT: RefCell<Option<HandlerCall>> = const { RefCell::new(None) };
}

/// A call of a handler, and the options of its response. `None` if no code has needed them yet.
struct HandlerCall {
    request: RequestId,
    options: Option<CacheOptions>,
}

impl HandlerCall {
    fn options(&mut self) -> &CacheOptions {
        self.options.get_or_insert_with(CacheOptions::new)
    }
}

/// The identity of a request while the request exists: the address of its head, which all clones of
/// the request share.
#[derive(Clone, Copy, PartialEq, Eq)]
struct RequestId(usize);

impl RequestId {
    fn of(request: &HttpRequest) -> Self {
        Self(ptr::from_ref(request.head()).addr())
    }
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
    let options = current_options(|_| true);
    if let Some(options) = options {
        set(&options);
    }
}

/// Returns the options of the response that the running handler makes, if `is_wanted` accepts its
/// request.
fn current_options(is_wanted: impl FnOnce(RequestId) -> bool) -> Option<CacheOptions> {
    let options = CURRENT.try_with(|current| {
        let mut current = current.borrow_mut();
        let call = current.as_mut().filter(|call| is_wanted(call.request))?;
        Some(call.options().clone())
    });
    // When the thread ends, the variable may no longer exist.
    options.ok().flatten()
}

/// Returns the options of the response to a request, if its handler is running.
fn options_of(request: &HttpRequest) -> Option<CacheOptions> {
    let id = RequestId::of(request);
    current_options(|current| current == id)
}

impl FromRequest for CacheOptions {
    type Error = Error;
    type Future = future::Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let options = options_of(request).unwrap_or_else(|| {
            let mut extensions = request.extensions_mut();
            Self::extracted(&extensions).unwrap_or_else(|| {
                let options = Self::new();
                options.keep(&mut extensions);
                options
            })
        });
        future::ready(Ok(options))
    }
}

/// Calls an inner service with a request whose response may be stored. The functions of this module
/// set the options of that response.
pub(crate) fn call<S: Service<ServiceRequest>>(
    inner: &S,
    request: ServiceRequest,
) -> WithOptions<S::Future> {
    // The calls of nested caches for one request share their options.
    let options = options_of(request.request());
    let options = options.or_else(|| CacheOptions::extracted(&request.extensions()));
    let mut call = Some(HandlerCall { request: RequestId::of(request.request()), options });
    let entered = Entered::new(&mut call);
    let future = inner.call(request);
    drop(entered);
    WithOptions { future, call }
}

pin_project! {
    /// The future of an inner service. While it runs, the functions of this module set the options
    /// of its response. At its end, the options are kept in the extensions of the request.
    pub(crate) struct WithOptions<F> {
        #[pin]
        future: F,
        call: Option<HandlerCall>,
    }
}

impl<F, B, E> Future for WithOptions<F>
where
    F: Future<Output = Result<ServiceResponse<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = Entered::new(this.call);
        let result = this.future.poll(cx);
        drop(entered);
        if let Poll::Ready(Ok(response)) = &result
            && let Some(HandlerCall { options: Some(options), .. }) = this.call
        {
            options.keep(&mut response.request().extensions_mut());
        }
        result
    }
}

/// Exchanges a call with that of the thread, until this value is dropped. A panic of the
/// handler drops it, too.
struct Entered<'a>(&'a mut Option<HandlerCall>);

impl<'a> Entered<'a> {
    fn new(call: &'a mut Option<HandlerCall>) -> Self {
        let mut entered = Self(call);
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
        task::Waker,
    };

    use actix_service::fn_service;
    use actix_web::{HttpResponse, test::TestRequest};

    use super::*;

    type Answer = Result<ServiceResponse, Error>;

    /// Makes the future of a call whose handler runs `handler`, and a clone of its request.
    fn call(
        handler: impl Future<Output = ()>,
    ) -> (WithOptions<impl Future<Output = Answer>>, HttpRequest) {
        let request = TestRequest::default().to_http_request();
        let answer = ServiceResponse::new(request.clone(), HttpResponse::Ok().finish());
        let call = Some(HandlerCall { request: RequestId::of(&request), options: None });
        let future = async {
            handler.await;
            Ok(answer)
        };
        (WithOptions { future, call }, request)
    }

    fn tags(request: &HttpRequest) -> Vec<String> {
        let options = CacheOptions::extracted(&request.extensions());
        options.map(|options| options.0.borrow().tags.clone()).unwrap_or_default()
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
        let (first, of_first) = call(tag_twice("a"));
        let (second, of_second) = call(tag_twice("b"));
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
        let (inner, of_inner) = call(async { tag("inner") });
        let (outer, of_outer) = call(async {
            tag("before");
            assert!(inner.await.is_ok());
            tag("after");
        });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(outer).poll(&mut cx).is_ready());
        assert_eq!(tags(&of_inner), ["inner"]);
        assert_eq!(tags(&of_outer), ["before", "after"]);
    }

    #[test]
    fn panic_of_a_handler_restores_the_options_of_the_thread() {
        let (panics, _) = call(async { panic!("a fault of the handler") });
        let (outer, of_outer) = call(async {
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

    fn extract(request: &HttpRequest) -> CacheOptions {
        CacheOptions::from_request(request, &mut Payload::None).into_inner().unwrap()
    }

    #[test]
    fn extracted_options_are_those_of_the_call_for_the_same_request() {
        let other = TestRequest::default().to_http_request();
        let (inner, of_inner) = call(async {
            extract(&other).tag("other");
            tag("function");
        });
        let request = of_inner.clone();
        let (outer, of_outer) = call(async move {
            extract(&request).tag("before the call");
            assert!(inner.await.is_ok());
            extract(&request).tag("after the call");
        });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(outer).poll(&mut cx).is_ready());
        let want = ["before the call", "function", "after the call"];
        assert_eq!(tags(&of_inner), want, "options from outside of the call are kept");
        assert_eq!((tags(&other), tags(&of_outer)), (vec!["other".to_owned()], vec![]));
    }

    #[test]
    fn nested_calls_for_one_request_share_their_options() {
        let request = TestRequest::default().to_srv_request();
        let clone = request.request().clone();
        let inner = fn_service(|request: ServiceRequest| async {
            ttl(Duration::from_secs(2));
            tag("inner");
            Ok::<_, Error>(request.into_response(HttpResponse::Ok()))
        });
        let middle = fn_service(move |request: ServiceRequest| {
            ttl(Duration::from_secs(1));
            let inner = super::call(&inner, request);
            async {
                let response = inner.await;
                tag("middle");
                response
            }
        });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(super::call(&middle, request)).poll(&mut cx).is_ready());
        assert_eq!(tags(&clone), ["inner", "middle"]);
        let options = extract(&clone).0.borrow().clone();
        assert_eq!(options.ttl, Some(Duration::from_secs(2)), "the last call applies");
    }

    #[test]
    fn call_whose_handler_sets_nothing_leaves_the_request_as_it_is() {
        let (handler, request) = call(async {});
        let mut cx = Context::from_waker(Waker::noop());
        assert!(pin!(handler).poll(&mut cx).is_ready());
        assert!(CacheOptions::extracted(&request.extensions()).is_none());
    }
}
