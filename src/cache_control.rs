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
    Error, HttpResponse,
    dev::{Extensions, ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{CACHE_CONTROL, EXPIRES, HeaderMap, HeaderValue},
    },
};
use httpdate::fmt_http_date;
use pin_project_lite::pin_project;
use smallvec::SmallVec;

use crate::{
    clock::Clock,
    semantics::{cache_control::ResponseDirectives, directive_list::DirectiveList},
};

/// A middleware that adds `Cache-Control` directives to responses. It stores no responses.
///
/// Directives of two kinds are treated differently:
///
/// - Restrictions (`private`, `no-store`, `no-cache`, `no-transform`, `must-revalidate` and
///   `proxy-revalidate`) are added to every response, errors included.
/// - Permissions (`public`, `max-age`, `s-maxage`, `immutable`, `must-understand` and the windows
///   for stale responses) are added to responses with status 2xx, 301, 304 or 308. Without this
///   limit, clients would keep a 404 or a redirection to a login page as long as the page itself.
///   [`also_for_status`](Self::also_for_status) adds further status codes.
///
/// The middleware never permits what the handler refuses: it adds no `public` to a response with
/// `private`, `no-store` or `no-cache`. If both the handler and the middleware set `max-age`, or
/// both set `s-maxage`, the smaller value applies. Any other added directive replaces a directive
/// of equal name from the handler. The remaining directives of the handler are kept, in their
/// order.
///
/// A [`Cache`](crate::Cache) around this middleware uses the lifetimes that the middleware adds.
/// For the cache, the permissions of the middleware apply only to requests without credentials,
/// because the middleware does not know how a handler uses credentials. For a request with cookies
/// or `Authorization`, the directives of the handler alone decide whether the cache may store the
/// response.
///
/// ```
/// # use std::time::Duration;
/// # use actix_web::App;
/// # use actix_web_cache::SetCacheControl;
/// App::new().wrap(SetCacheControl::new().public().max_age(Duration::from_secs(300)));
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct SetCacheControl {
    edits: Vec<Edit>,
    /// Status codes other than 2xx, 301, 304 and 308 that get permissions.
    statuses: Vec<StatusCode>,
}

/// A change of `Cache-Control`.
#[derive(Debug, Clone)]
enum Edit {
    /// Adds a directive that restricts caches.
    Restriction(&'static str),
    /// Sets `private`, and removes `public`.
    Private,
    /// Sets `public`, and removes `private`, unless the handler sent `private`, `no-store` or
    /// `no-cache`.
    Public,
    /// Adds a directive that permits something to caches.
    Permission(&'static str),
    /// Permits stale responses for a time.
    Window(&'static str, Duration),
    /// Sets a lifetime, unless the response already has a smaller one.
    Lifetime(&'static str, Duration),
    Extension(String, Option<String>),
    Remove(String),
}

/// The directives for which [`SetCacheControl`] has methods of their own.
const KNOWN: [&str; 13] = [
    "max-age",
    "s-maxage",
    "public",
    "private",
    "no-cache",
    "no-store",
    "no-transform",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "immutable",
    "stale-while-revalidate",
    "stale-if-error",
];

/// The directives by which a handler refuses shared storage.
const REFUSALS: [&str; 3] = ["private", "no-store", "no-cache"];

/// Defines methods that each add one edit.
macro_rules! directives {
    ($edit:ident: $($method:ident $name:literal $section:literal),* $(,)?) => {
        $(
            #[doc = concat!("Sets `", $name, "` (", $section, ").")]
            pub fn $method(self) -> Self {
                self.with(Edit::$edit($name))
            }
        )*
    };
    ($edit:ident in seconds: $($method:ident $name:literal $section:literal $rule:literal),* $(,)?) => {
        $(
            #[doc = concat!("Sets `", $name, "`, in whole seconds", $rule, " (", $section, ").")]
            pub fn $method(self, time: Duration) -> Self {
                self.with(Edit::$edit($name, time))
            }
        )*
    };
}

impl SetCacheControl {
    /// Creates a middleware that changes nothing.
    pub const fn new() -> Self {
        Self { edits: Vec::new(), statuses: Vec::new() }
    }

    /// Sets `public`, and removes a `private` that this middleware set (RFC 9111 section 5.2.2.9).
    /// A response whose handler sent `private`, `no-store` or `no-cache` stays as it is.
    pub fn public(self) -> Self {
        self.with(Edit::Public)
    }

    /// Sets `private`, and removes `public` (RFC 9111 section 5.2.2.7).
    pub fn private(self) -> Self {
        self.with(Edit::Private)
    }

    directives! { Lifetime in seconds:
        max_age "max-age" "RFC 9111 section 5.2.2.1" ", unless the handler sent a smaller one",
        s_maxage "s-maxage" "RFC 9111 section 5.2.2.10" ", unless the handler sent a smaller one",
    }

    directives! { Window in seconds:
        stale_while_revalidate "stale-while-revalidate" "RFC 5861 section 3" "",
        stale_if_error "stale-if-error" "RFC 5861 section 4" "",
    }

    directives! { Restriction:
        no_cache "no-cache" "RFC 9111 section 5.2.2.4",
        no_store "no-store" "RFC 9111 section 5.2.2.5",
        no_transform "no-transform" "RFC 9111 section 5.2.2.6",
        must_revalidate "must-revalidate" "RFC 9111 section 5.2.2.2",
        proxy_revalidate "proxy-revalidate" "RFC 9111 section 5.2.2.8",
    }

    directives! { Permission:
        must_understand "must-understand" "RFC 9111 section 5.2.2.3",
        immutable "immutable" "RFC 8246",
    }

    /// Sets an extension directive on every response. With the value `None`, the directive has no
    /// value.
    ///
    /// # Panics
    ///
    /// Panics if the name is not a token, if this type has a method for the directive, or if the
    /// value is neither a token nor a quoted string without escapes (RFC 9111 section 5.2).
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
        assert!(
            !contains(&KNOWN, &name),
            "{name:?} is not an extension directive: use the method of SetCacheControl for it"
        );
        self.with(Edit::Extension(name, value.map(str::to_owned)))
    }

    /// Removes a directive that the handler sent.
    ///
    /// # Panics
    ///
    /// Panics for `private`, `no-store` and `no-cache`: a middleware must not publish what a
    /// handler refuses to publish.
    pub fn remove(self, name: impl Into<String>) -> Self {
        let name = name.into();
        assert!(
            !contains(&REFUSALS, &name),
            "SetCacheControl cannot remove {name:?}, since a handler's refusal takes precedence: \
             change the handler"
        );
        self.with(Edit::Remove(name))
    }

    /// Also adds the permissions of this middleware, such as `public` and `max-age`, to responses
    /// with this status code. By default, only responses with status 2xx, 301, 304 or 308 get them.
    pub fn also_for_status(mut self, status: StatusCode) -> Self {
        self.statuses.push(status);
        self
    }

    fn with(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }

    /// Returns whether a response with this status code gets permissions.
    fn permits(&self, status: StatusCode) -> bool {
        status.is_success()
            || matches!(status.as_u16(), 301 | 304 | 308)
            || self.statuses.contains(&status)
    }

    fn apply<B>(&self, response: &mut HttpResponse<B>) {
        if self.edits.is_empty() {
            return;
        }
        let permits = self.permits(response.status());
        let fields = response.headers();
        let refuses = || ResponseDirectives::of(fields).refuses_sharing();
        let mut list = DirectiveList::of(fields);
        for edit in &self.edits {
            match edit {
                Edit::Restriction(name) => list.set(name, None),
                Edit::Private => {
                    list.remove("public");
                    list.set("private", None);
                }
                Edit::Public if permits && !refuses() => {
                    list.remove("private");
                    list.set("public", None);
                }
                Edit::Permission(name) if permits => list.set(name, None),
                Edit::Window(name, time) if permits => {
                    list.set(name, Some(&time.as_secs().to_string()));
                }
                Edit::Lifetime(name, time) if permits => list.limit(name, *time),
                // A smaller lifetime is a restriction of the one that the handler sent.
                Edit::Lifetime(name, time) if list.has(name) => list.limit(name, *time),
                Edit::Public | Edit::Permission(_) | Edit::Window(..) | Edit::Lifetime(..) => {}
                Edit::Extension(name, value) => list.set(name, value.as_deref()),
                Edit::Remove(name) => list.remove(name),
            }
        }
        if permits {
            HandlerCacheControl::keep(response);
        }
        list.write(response.headers_mut());
    }
}

fn contains(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The `Cache-Control` that the handler sent, in the extensions of a response to which a
/// [`SetCacheControl`] added permissions.
pub(crate) struct HandlerCacheControl(SmallVec<[HeaderValue; 1]>);

impl HandlerCacheControl {
    /// Copies the lines of `Cache-Control` into the extensions of the response, unless an inner
    /// [`SetCacheControl`] has already copied them.
    fn keep<B>(response: &mut HttpResponse<B>) {
        if response.extensions().contains::<Self>() {
            return;
        }
        let lines = response.headers().get_all(CACHE_CONTROL).cloned().collect();
        response.extensions_mut().insert(Self(lines));
    }

    /// Returns the directives that the handler sent; `None` if no [`SetCacheControl`] added
    /// permissions.
    pub(crate) fn directives(extensions: &Extensions) -> Option<ResponseDirectives> {
        let Self(lines) = extensions.get::<Self>()?;
        Some(ResponseDirectives::of_lines(lines.iter().map(HeaderValue::as_bytes)))
    }
}

/// A middleware that forbids clients and caches to store responses.
///
/// It sets `Cache-Control: max-age=0, no-cache, no-store, must-revalidate, private`, and `Expires`
/// to the current time. It does so on every response, also if a handler or an inner middleware
/// returns an `Err`. A [`Cache`](crate::Cache) around this middleware does not store the responses
/// either, regardless of the policy of the cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct NeverCache;

impl NeverCache {
    fn apply(fields: &mut HeaderMap) {
        let mut list = DirectiveList::of(fields);
        list.limit("max-age", Duration::ZERO);
        for name in ["no-cache", "no-store", "must-revalidate"] {
            list.set(name, None);
        }
        list.remove("public");
        list.set("private", None);
        list.write(fields);
        let now = Clock::system().now().system_time();
        if let Ok(expires) = HeaderValue::try_from(fmt_http_date(now)) {
            fields.insert(EXPIRES, expires);
        }
    }
}

/// The change that a middleware makes to each response.
#[derive(Debug, Clone)]
enum Change {
    /// Changes the fields as [`SetCacheControl`] does. All requests of a worker share the edits.
    Set(Rc<SetCacheControl>),
    /// Changes the fields as [`NeverCache`] does.
    Never,
}

impl Change {
    fn apply<B>(&self, response: &mut HttpResponse<B>) {
        match self {
            Self::Set(set) => set.apply(response),
            Self::Never => NeverCache::apply(response.headers_mut()),
        }
    }
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
        Poll::Ready(match ready!(this.inner.poll(cx)) {
            Ok(mut response) => {
                this.change.apply(response.response_mut());
                Ok(response)
            }
            // The server makes the response of an error later.
            Err(mut error) => {
                let change = this.change.clone();
                error.add_response_mapper(move |mut response| {
                    change.apply(&mut response);
                    response
                });
                Err(error)
            }
        })
    }
}
