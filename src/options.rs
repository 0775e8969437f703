//! Caching options that handlers and routes set for their own responses.

pub(crate) mod scope;

use std::{cell::RefCell, future, mem, rc::Rc, time::Duration};

use actix_service::{Service, Transform, forward_ready};
use actix_web::{
    Error, HttpMessage,
    dev::{Extensions, ServiceRequest, ServiceResponse},
    http::StatusCode,
};

use crate::{outcome::NotStored, semantics::status::gets_general_lifetime};

/// Caching options of one response: its lifetime, its tags, and whether it may be stored.
///
/// Insert the options into the extensions of the response. A handler can set them through the
/// extractor [`CacheOptions`], and a route through the middleware [`CachePolicy`]. If several of
/// these set a lifetime, the lifetime in the extensions of the response takes precedence over the
/// lifetime of the handler, and the lifetime of the handler over the lifetime of the route.
///
/// ```
/// # use std::time::Duration;
/// # use actix_web::HttpResponse;
/// # use actix_web_cache::ResponseOptions;
/// let mut response = HttpResponse::Ok().body("page");
/// response.extensions_mut().insert(ResponseOptions::new().ttl(Duration::from_secs(5)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct ResponseOptions {
    ttl: Option<Duration>,
    no_store: Option<&'static str>,
    tags: Vec<String>,
}

impl ResponseOptions {
    /// Creates options that change nothing.
    pub const fn new() -> Self {
        Self { ttl: None, no_store: None, tags: Vec::new() }
    }

    /// Sets the lifetime of the response, regardless of the lifetime that its fields state.
    ///
    /// In the extensions of a response, the lifetime applies to any status code. It does not
    /// override refusals: a response with `no-store`, `private` or `Set-Cookie`, for example, is
    /// not stored. With zero, the response is stale at once. The cache then stores it only if it
    /// can be revalidated or served stale.
    ///
    /// If the handler validates the stored response with a 304, the lifetime begins again. If the 304
    /// states another lifetime than the response did, the shorter of both applies from then on, until
    /// the handler sets another lifetime or sends another complete response.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Forbids the cache to store the response.
    ///
    /// The reason appears in the log and in
    /// [`NotStored::Handler`](crate::outcome::NotStored::Handler), but in no header field. The reasons
    /// of [`Policy::store_if`](crate::Policy::store_if) appear in `Cache-Status`.
    pub const fn no_store(mut self, reason: &'static str) -> Self {
        self.no_store = Some(reason);
        self
    }

    /// Adds a tag (surrogate key) to the response, for
    /// [`CacheHandle::purge_tag`](crate::CacheHandle::purge_tag).
    ///
    /// Several calls add up. The response keeps its tags from the policy and from response
    /// fields.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Adds other options. Theirs apply where both have one.
    fn merge(&mut self, other: &Self) {
        self.ttl = other.ttl.or(self.ttl);
        self.no_store = other.no_store.or(self.no_store);
        self.tags.extend_from_slice(&other.tags);
    }

    /// Returns whether one of the tags is empty.
    pub(crate) fn has_empty_tag(&self) -> bool {
        self.tags.iter().any(String::is_empty)
    }
}

/// An extractor that lets a handler set the caching options of its response.
///
/// A lifetime applies to responses with status 200, 203, 301 or 308. A handler can therefore set a
/// lifetime and still return an error later; [`Policy::status_ttl`](crate::Policy::status_ttl) sets
/// the lifetime of errors. Without a cache around the handler, the options have no effect.
///
/// Code that has no request, such as data access code, can set the same options by the functions
/// [`tag`](crate::tag), [`ttl`](crate::ttl) and [`no_store`](crate::no_store).
///
/// ```
/// # use std::time::Duration;
/// # use actix_web::{Responder, get};
/// # use actix_web_cache::CacheOptions;
/// #[get("/news")]
/// async fn news(cache: CacheOptions) -> impl Responder {
///     cache.ttl(Duration::from_secs(10));
///     "news"
/// }
/// ```
#[derive(Debug, Clone)]
pub struct CacheOptions(Rc<RefCell<ResponseOptions>>);

impl CacheOptions {
    /// Sets the lifetime of the response; see [`ResponseOptions::ttl`].
    pub fn ttl(&self, ttl: Duration) {
        self.update(|options| options.ttl(ttl));
    }

    /// Forbids the cache to store the response; see [`ResponseOptions::no_store`].
    pub fn no_store(&self, reason: &'static str) {
        self.update(|options| options.no_store(reason));
    }

    /// Adds a tag to the response; see [`ResponseOptions::tag`].
    pub fn tag(&self, tag: impl Into<String>) {
        let tag = tag.into();
        self.update(|options| options.tag(tag));
    }

    /// Makes options that change nothing yet.
    fn new() -> Self {
        Self(Rc::default())
    }

    /// Returns the options that code outside of the handler call has extracted from this request.
    fn extracted(request: &Extensions) -> Option<Self> {
        request.get().map(|ExtractedOptions(options)| Self(Rc::clone(options)))
    }

    /// Keeps the options in the extensions of their request, beside those that are there already.
    fn keep(&self, request: &mut Extensions) {
        match request.get() {
            Some(ExtractedOptions(kept)) if Rc::ptr_eq(kept, &self.0) => {}
            Some(ExtractedOptions(kept)) => kept.borrow_mut().merge(&self.0.borrow()),
            None => {
                request.insert(ExtractedOptions(Rc::clone(&self.0)));
            }
        }
    }

    fn update(&self, update: impl FnOnce(ResponseOptions) -> ResponseOptions) {
        let mut options = self.0.borrow_mut();
        *options = update(mem::take(&mut *options));
    }
}

/// The options that a handler set through [`CacheOptions`] or through the functions in [`scope`], in
/// the extensions of the request.
struct ExtractedOptions(Rc<RefCell<ResponseOptions>>);

/// The options that a route set through [`CachePolicy`], in the extensions of the request.
struct RouteOptions(Rc<CachePolicy>);

/// A middleware that sets the caching options of a route's responses, for
/// `#[get("/", wrap = "...")]`.
///
/// The middleware has an effect only inside a [`Cache`](crate::Cache). A lifetime applies to
/// responses with status 200, 203, 301 or 308; [`Policy::status_ttl`](crate::Policy::status_ttl)
/// sets the lifetime of errors. If several of these middlewares are nested, the innermost one
/// applies.
///
/// ```
/// # use std::time::Duration;
/// # use actix_web::{Responder, get};
/// # use actix_web_cache::CachePolicy;
/// #[get("/about", wrap = "CachePolicy::ttl(Duration::from_secs(3600))")]
/// async fn about() -> impl Responder {
///     "about"
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct CachePolicy {
    options: ResponseOptions,
    /// The name of further options, which the cache has.
    name: Option<&'static str>,
}

impl CachePolicy {
    /// Sets the lifetime of the route's responses; see [`ResponseOptions::ttl`].
    pub const fn ttl(ttl: Duration) -> Self {
        Self::new(ResponseOptions::new().ttl(ttl))
    }

    /// Forbids the cache to store the route's responses; see [`ResponseOptions::no_store`].
    pub const fn no_store(reason: &'static str) -> Self {
        Self::new(ResponseOptions::new().no_store(reason))
    }

    /// Gives the route's responses the options that the innermost cache around the route has under
    /// this name; see [`CacheBuilder::options`](crate::CacheBuilder::options).
    ///
    /// The routes of an application thus share their lifetimes and tags, which are set in one
    /// place. If the cache does not have the name, it stores none of the route's responses
    /// ([`NotStored::UnknownOptions`]), and logs an error once.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use actix_web::{Responder, get};
    /// # use actix_web_cache::{Cache, CachePolicy, MemoryStore, ResponseOptions};
    /// # fn main() -> Result<(), actix_web_cache::ConfigError> {
    /// #[get("/news", wrap = "CachePolicy::named(\"minutes\")")]
    /// async fn news() -> impl Responder {
    ///     "news"
    /// }
    ///
    /// let cache = Cache::builder(MemoryStore::new(64 * 1024 * 1024))
    ///     .options("minutes", ResponseOptions::new().ttl(Duration::from_secs(300)))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub const fn named(name: &'static str) -> Self {
        Self { options: ResponseOptions::new(), name: Some(name) }
    }

    /// Adds a tag to the route's responses; see [`ResponseOptions::tag`].
    pub fn tag(self, tag: impl Into<String>) -> Self {
        Self { options: self.options.tag(tag), ..self }
    }

    const fn new(options: ResponseOptions) -> Self {
        Self { options, name: None }
    }
}

impl<S, B> Transform<S, ServiceRequest> for CachePolicy
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Transform = CachePolicyMiddleware<S>;
    type InitError = ();
    type Future = future::Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        future::ready(Ok(CachePolicyMiddleware { inner, options: Rc::new(self.clone()) }))
    }
}

/// The service of [`CachePolicy`].
#[derive(Debug)]
pub struct CachePolicyMiddleware<S> {
    inner: S,
    options: Rc<CachePolicy>,
}

impl<S, B> Service<ServiceRequest> for CachePolicyMiddleware<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = S::Future;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        // An inner `CachePolicy` runs later, so its options replace those of an outer one.
        request.extensions_mut().insert(RouteOptions(Rc::clone(&self.options)));
        self.inner.call(request)
    }
}

/// The combined options of the response, its handler and its route.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HandlerOptions {
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<String>,
}

/// Returns the combined options from the extensions of a request and of its response. `named` finds
/// the options that a route refers to by name.
///
/// Lifetimes that the handler or the route sets apply only to responses with status 200, 203, 301
/// or 308 ([`gets_general_lifetime`]).
///
/// # Errors
///
/// Returns [`NotStored::Handler`] if any of the options forbids the cache to store the response, and
/// the error of `named` if the name does not exist.
pub(crate) fn handler_options<'a>(
    request: &Extensions,
    response: &Extensions,
    status: StatusCode,
    named: impl Fn(&'static str) -> Result<&'a ResponseOptions, NotStored>,
) -> Result<HandlerOptions, NotStored> {
    let (mut attached, mut general, mut refusal, mut tags) = (None, None, None, Vec::new());
    read_all(request, response, named, |source, options| {
        let ttl = match source {
            OptionsSource::Response => &mut attached,
            OptionsSource::Handler | OptionsSource::Route => &mut general,
        };
        *ttl = ttl.or(options.ttl);
        refusal = refusal.or(options.no_store);
        tags.extend_from_slice(&options.tags);
    })?;
    if let Some(reason) = refusal {
        return Err(NotStored::Handler(reason));
    }
    let general = general.filter(|_| gets_general_lifetime(status));
    Ok(HandlerOptions { ttl: attached.or(general), tags })
}

/// Returns all tags that the options of a response have, also if the options forbid the cache to
/// store the response. `named` returns the options that a route refers to by name.
pub(crate) fn handler_tags<'a>(
    request: &Extensions,
    response: &Extensions,
    named: impl Fn(&'static str) -> Result<&'a ResponseOptions, NotStored>,
) -> Vec<String> {
    let mut tags = Vec::new();
    let all = read_all(request, response, named, |_, options| {
        tags.extend_from_slice(&options.tags);
    });
    if all.is_ok() { tags } else { Vec::new() }
}

/// The code that has set options.
#[derive(Debug, Clone, Copy)]
enum OptionsSource {
    /// The options are attached to the response.
    Response,
    Handler,
    Route,
}

/// Reads the options of the response, of its handler and of its route, in this order of precedence.
/// Most responses have none of them.
fn read_all<'a>(
    request: &Extensions,
    response: &Extensions,
    named: impl Fn(&'static str) -> Result<&'a ResponseOptions, NotStored>,
    mut read: impl FnMut(OptionsSource, &ResponseOptions),
) -> Result<(), NotStored> {
    if let Some(attached) = response.get::<ResponseOptions>() {
        read(OptionsSource::Response, attached);
    }
    if let Some(extracted) = request.get::<ExtractedOptions>() {
        read(OptionsSource::Handler, &extracted.0.borrow());
    }
    if let Some(RouteOptions(route)) = request.get::<RouteOptions>() {
        read(OptionsSource::Route, &route.options);
        if let Some(name) = route.name {
            read(OptionsSource::Route, named(name)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttl_of_the_response_precedes_the_handler_and_the_route() {
        let secs = Duration::from_secs;
        let ttl = |n| ResponseOptions::new().ttl(secs(n));
        let none = || ResponseOptions::new();
        for (attached, extracted, route, status, want) in [
            (none(), none(), none(), 200, Ok(None)),
            (ttl(1), ttl(2), ttl(3), 200, Ok(Some(secs(1)))),
            (none(), ttl(2), ttl(3), 200, Ok(Some(secs(2)))),
            (none(), none(), ttl(3), 200, Ok(Some(secs(3)))),
            (none(), ttl(2), ttl(3), 500, Ok(None)),
            (ttl(1), none(), none(), 500, Ok(Some(secs(1)))),
            (none().no_store("a"), ttl(2), none(), 200, Err(NotStored::Handler("a"))),
            (ttl(1), none().no_store("b"), none(), 200, Err(NotStored::Handler("b"))),
            (ttl(1), none(), none().no_store("c"), 200, Err(NotStored::Handler("c"))),
        ] {
            let (mut request, mut response) = (Extensions::new(), Extensions::new());

            let case = format!("{attached:?} {extracted:?} {route:?}");
            request.insert(ExtractedOptions(Rc::new(RefCell::new(extracted))));
            request.insert(RouteOptions(Rc::new(CachePolicy::new(route))));
            response.insert(attached);
            let status = StatusCode::from_u16(status).unwrap();
            let got = handler_options(&request, &response, status, no_names);
            assert_eq!(got.map(|options| options.ttl), want, "{case}");
        }
    }

    #[test]
    fn tags_of_response_handler_and_route_add_up() {
        let (mut request, mut response) = (Extensions::new(), Extensions::new());
        response.insert(ResponseOptions::new().tag("a").tag("b"));
        request.insert(ExtractedOptions(Rc::new(RefCell::new(ResponseOptions::new().tag("c")))));
        request.insert(RouteOptions(Rc::new(CachePolicy::ttl(Duration::ZERO).tag("d"))));
        let options = handler_options(&request, &response, StatusCode::OK, no_names).unwrap();
        assert_eq!(options.tags, ["a", "b", "c", "d"]);
    }

    fn no_names(name: &'static str) -> Result<&'static ResponseOptions, NotStored> {
        Err(NotStored::UnknownOptions(name))
    }

    #[test]
    fn named_options_of_the_route_are_those_of_the_cache() {
        let minute = ResponseOptions::new().ttl(Duration::from_secs(60)).tag("a");
        let never = ResponseOptions::new().no_store("never");
        let find = |name: &'static str| match name {
            "minute" => Ok(&minute),
            "never" => Ok(&never),
            _ => Err(NotStored::UnknownOptions(name)),
        };
        let options = |policy: CachePolicy, status| {
            let mut request = Extensions::new();
            request.insert(RouteOptions(Rc::new(policy)));
            handler_options(&request, &Extensions::new(), status, find)
        };
        let (ok, failed) = (StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR);
        let named = CachePolicy::named;
        let tags = vec!["b".to_owned(), "a".to_owned()];
        let ttl = Some(Duration::from_secs(60));
        let want = HandlerOptions { ttl, tags: tags.clone() };
        assert_eq!(options(named("minute").tag("b"), ok), Ok(want));
        let want = HandlerOptions { ttl: None, tags };
        assert_eq!(options(named("minute").tag("b"), failed), Ok(want));
        assert_eq!(options(named("never"), ok), Err(NotStored::Handler("never")));
        assert_eq!(options(named("x").tag("b"), ok), Err(NotStored::UnknownOptions("x")));
    }
}
