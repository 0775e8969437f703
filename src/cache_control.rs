//! Middlewares that write `Cache-Control` for clients and other caches. They store no responses.

use std::{
    future::{self, Future},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use actix_service::{Service, Transform, forward_ready};
use actix_web::{
    Error,
    dev::{ServiceRequest, ServiceResponse},
    http::header::{EXPIRES, HeaderMap, HeaderValue},
};
use httpdate::fmt_http_date;
use pin_project_lite::pin_project;

use crate::{clock::Clock, semantics::directive_list::DirectiveList};

/// A middleware that adds `Cache-Control` directives to every response. It stores no responses.
///
/// An added directive replaces a directive of equal name from the handler. Of two `max-age`, the
/// smaller one applies. Other directives of the handler are kept, in their order.
///
/// ```
/// # use std::time::Duration;
/// # use actix_web::App;
/// # use actix_web_cache::SetCacheControl;
/// App::new().wrap(SetCacheControl::new().public().max_age(Duration::from_secs(300)));
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct SetCacheControl(Vec<Edit>);

/// A change of `Cache-Control`.
#[derive(Debug, Clone)]
enum Edit {
    Flag(&'static str),
    Seconds(&'static str, Duration),
    /// Sets `max-age`, unless the response already has a smaller one.
    MaxAge(Duration),
    Other(String, Option<String>),
    Remove(String),
    /// Sets one of `public` and `private`, and removes the other.
    Scope {
        set: &'static str,
        remove: &'static str,
    },
}

/// Defines methods that each set one directive.
macro_rules! directives {
    ($($method:ident $name:literal $section:literal),*: flags;
     $($timed:ident $timed_name:literal $timed_section:literal),*: seconds) => {
        $(
            #[doc = concat!("Sets `", $name, "` (", $section, ").")]
            pub fn $method(self) -> Self {
                self.with(Edit::Flag($name))
            }
        )*
        $(
            #[doc = concat!("Sets `", $timed_name, "`, in whole seconds (", $timed_section, ").")]
            pub fn $timed(self, time: Duration) -> Self {
                self.with(Edit::Seconds($timed_name, time))
            }
        )*
    };
}

impl SetCacheControl {
    /// Creates a middleware that changes nothing.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sets `max-age`, in whole seconds, unless the handler sent a smaller one (RFC 9111 section
    /// 5.2.2.1).
    pub fn max_age(self, time: Duration) -> Self {
        self.with(Edit::MaxAge(time))
    }

    /// Sets `public`, and removes `private` (RFC 9111 section 5.2.2.9).
    pub fn public(self) -> Self {
        self.with(Edit::Scope { set: "public", remove: "private" })
    }

    /// Sets `private`, and removes `public` (RFC 9111 section 5.2.2.7).
    pub fn private(self) -> Self {
        self.with(Edit::Scope { set: "private", remove: "public" })
    }

    directives! {
        no_cache "no-cache" "RFC 9111 section 5.2.2.4",
        no_store "no-store" "RFC 9111 section 5.2.2.5",
        no_transform "no-transform" "RFC 9111 section 5.2.2.6",
        must_revalidate "must-revalidate" "RFC 9111 section 5.2.2.2",
        proxy_revalidate "proxy-revalidate" "RFC 9111 section 5.2.2.8",
        must_understand "must-understand" "RFC 9111 section 5.2.2.3",
        immutable "immutable" "RFC 8246": flags;
        s_maxage "s-maxage" "RFC 9111 section 5.2.2.10",
        stale_while_revalidate "stale-while-revalidate" "RFC 5861 section 3",
        stale_if_error "stale-if-error" "RFC 5861 section 4": seconds
    }

    /// Sets any directive, such as an extension. With the value `None`, the directive has no value.
    ///
    /// # Panics
    ///
    /// Panics if the name is not a token, or if the value is neither a token nor a quoted string
    /// without escapes (RFC 9111 section 5.2).
    pub fn directive(self, name: impl Into<String>, value: Option<&str>) -> Self {
        let name = name.into();
        let is_token = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_graphic() && !b",;=\"()".contains(&b))
        };
        // Escapes are not accepted, so a quote or backslash inside the string is invalid.
        let is_quoted_string = |text: &str| {
            let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            let is_valid = |b: u8| matches!(b, b'\t' | b' '..=b'~') && !b"\"\\".contains(&b);
            inner.is_some_and(|inner| inner.bytes().all(is_valid))
        };
        assert!(
            is_token(&name) && value.is_none_or(|value| is_token(value) || is_quoted_string(value)),
            "{name:?} with value {value:?} is not a Cache-Control directive: quote a value with \
             commas or spaces"
        );
        self.with(Edit::Other(name, value.map(str::to_owned)))
    }

    /// Removes a directive that the handler sent.
    pub fn remove(self, name: impl Into<String>) -> Self {
        self.with(Edit::Remove(name.into()))
    }

    fn with(mut self, edit: Edit) -> Self {
        self.0.push(edit);
        self
    }

    fn apply(&self, fields: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let mut list = DirectiveList::of(fields);
        for edit in &self.0 {
            match edit {
                Edit::Flag(name) => list.set(name, None),
                Edit::Seconds(name, time) => list.set(name, Some(&time.as_secs().to_string())),
                Edit::MaxAge(time) => list.limit("max-age", *time),
                Edit::Other(name, value) => list.set(name, value.as_deref()),
                Edit::Remove(name) => list.remove(name),
                Edit::Scope { set, remove } => {
                    list.remove(remove);
                    list.set(set, None);
                }
            }
        }
        list.write(fields);
    }
}

/// A middleware that forbids clients and caches to store responses.
///
/// It sets `Cache-Control: max-age=0, no-cache, no-store, must-revalidate, private`, and `Expires`
/// to the current time. A [`Cache`](crate::Cache) around it does not store the responses either,
/// regardless of its policy.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverCache;

impl NeverCache {
    fn apply(fields: &mut HeaderMap) {
        SetCacheControl::new()
            .with(Edit::MaxAge(Duration::ZERO))
            .no_cache()
            .no_store()
            .must_revalidate()
            .private()
            .apply(fields);
        let now = Clock::system().now().system_time();
        if let Ok(expires) = HeaderValue::try_from(fmt_http_date(now)) {
            fields.insert(EXPIRES, expires);
        }
    }
}

/// The change that a middleware makes to the fields of each response.
#[derive(Debug, Clone)]
enum Change {
    /// Changes the fields as [`SetCacheControl`] does. All requests of a worker share the edits.
    Set(Rc<SetCacheControl>),
    /// Changes the fields as [`NeverCache`] does.
    Never,
}

/// The service of [`SetCacheControl`] and [`NeverCache`].
#[derive(Debug)]
pub struct HeadersMiddleware<S> {
    inner: S,
    change: Change,
}

macro_rules! transform {
    ($type:ty, $this:ident => $change:expr) => {
        impl<S, B> Transform<S, ServiceRequest> for $type
        where
            S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
        {
            type Response = ServiceResponse<B>;
            type Error = Error;
            type Transform = HeadersMiddleware<S>;
            type InitError = ();
            type Future = future::Ready<Result<Self::Transform, ()>>;

            fn new_transform(&self, inner: S) -> Self::Future {
                let $this = self;
                future::ready(Ok(HeadersMiddleware { inner, change: $change }))
            }
        }
    };
}

transform!(SetCacheControl, this => Change::Set(Rc::new(this.clone())));
transform!(NeverCache, _this => Change::Never);

impl<S, B> Service<ServiceRequest> for HeadersMiddleware<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = HeadersFuture<S::Future>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        HeadersFuture { inner: self.inner.call(request), change: self.change.clone() }
    }
}

pin_project! {
    /// The future of [`HeadersMiddleware`].
    #[derive(Debug)]
    pub struct HeadersFuture<F> {
        #[pin]
        inner: F,
        change: Change,
    }
}

impl<F, B> Future for HeadersFuture<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = Result<ServiceResponse<B>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.inner.poll(cx))?;
        match this.change {
            Change::Set(set) => set.apply(response.headers_mut()),
            Change::Never => NeverCache::apply(response.headers_mut()),
        }
        Poll::Ready(Ok(response))
    }
}
