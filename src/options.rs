//! What a handler says of its own response, beside the response's fields.

use std::{cell::RefCell, future, mem, rc::Rc, time::Duration};

use actix_service::{Service, Transform, forward_ready};
use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest,
    dev::{Extensions, Payload, ServiceRequest, ServiceResponse},
    http::StatusCode,
};

use crate::outcome::NotStored;

/// What a handler tells the cache about one response.
///
/// Put it into the response's extensions, where only the code that makes the response is at hand;
/// [`CacheOptions`] does the same from a handler's arguments, [`CachePolicy`] from a route's
/// `wrap`.
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
    /// Says nothing.
    pub const fn new() -> Self {
        Self { ttl: None, no_store: None, tags: Vec::new() }
    }

    /// The response's lifetime, whatever its fields say of it. Zero: it is not stored.
    ///
    /// Refusals in its fields (`no-store`, `private`, `Set-Cookie`, ...) hold all the same.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The response is not stored. The reason appears in the log and in
    /// [`NotStored::Handler`](crate::outcome::NotStored::Handler), not in any header.
    pub const fn no_store(mut self, reason: &'static str) -> Self {
        self.no_store = Some(reason);
        self
    }

    /// Tags the response, so that [`CacheHandle::purge_tag`](crate::CacheHandle::purge_tag) finds
    /// it. Several add up, and to those of rules, of the policy and of fields.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }
}

/// An extractor by which a handler says how its response is cached.
///
/// Without a cache around the handler it does nothing. The lifetime it gives holds for status
/// codes that have lifetimes without being asked (200, 203, 301, 308, and those of
/// [`Policy::status_ttl`](crate::Policy::status_ttl)), so that a handler may set it first and
/// fail later.
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
    /// The response's lifetime; see [`ResponseOptions::ttl`].
    pub fn ttl(&self, ttl: Duration) {
        self.change(|said| said.ttl(ttl));
    }

    /// The response is not stored; see [`ResponseOptions::no_store`].
    pub fn no_store(&self, reason: &'static str) {
        self.change(|said| said.no_store(reason));
    }

    /// Tags the response; see [`ResponseOptions::tag`].
    pub fn tag(&self, tag: impl Into<String>) {
        let tag = tag.into();
        self.change(|said| said.tag(tag));
    }

    fn change(&self, change: impl FnOnce(ResponseOptions) -> ResponseOptions) {
        let mut said = self.0.borrow_mut();
        *said = change(mem::take(&mut *said));
    }
}

impl FromRequest for CacheOptions {
    type Error = Error;
    type Future = future::Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let mut extensions = request.extensions_mut();
        let cell = match extensions.get::<Extracted>() {
            Some(Extracted(cell)) => Rc::clone(cell),
            None => {
                let cell = Rc::default();
                extensions.insert(Extracted(Rc::clone(&cell)));
                cell
            }
        };
        future::ready(Ok(Self(cell)))
    }
}

/// What the handler said by [`CacheOptions`].
struct Extracted(Rc<RefCell<ResponseOptions>>);

/// What the route said by [`CachePolicy`].
struct Declared(ResponseOptions);

/// Says for a route how its responses are cached, without a store at hand: for
/// `#[get("/", wrap = "...")]`.
///
/// It needs a cache further out, and does nothing without. As with [`CacheOptions`], which goes
/// before it, the lifetime holds for status codes that have lifetimes without being asked.
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
pub struct CachePolicy(ResponseOptions);

impl CachePolicy {
    /// The lifetime of the route's responses; see [`ResponseOptions::ttl`].
    pub const fn ttl(ttl: Duration) -> Self {
        Self(ResponseOptions::new().ttl(ttl))
    }

    /// The route's responses are not stored; see [`ResponseOptions::no_store`].
    pub const fn no_store(reason: &'static str) -> Self {
        Self(ResponseOptions::new().no_store(reason))
    }

    /// The same, and tags the route's responses; see [`ResponseOptions::tag`].
    pub fn tag(self, tag: impl Into<String>) -> Self {
        Self(self.0.tag(tag))
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
        future::ready(Ok(CachePolicyMiddleware { inner, overrides: self.0.clone() }))
    }
}

/// The service that [`CachePolicy`] makes.
#[derive(Debug)]
pub struct CachePolicyMiddleware<S> {
    inner: S,
    overrides: ResponseOptions,
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
        // The innermost speaks last, and overwrites.
        request.extensions_mut().insert(Declared(self.overrides.clone()));
        self.inner.call(request)
    }
}

/// What a handler says of a response in all.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HandlerOptions {
    pub(crate) ttl: Option<Duration>,
    pub(crate) tags: Vec<String>,
}

/// The lifetime that the handler gives a response, or its refusal: the response itself goes
/// before the extractor, that before the route. The tags of all three.
pub(crate) fn handler_options(
    request: &Extensions,
    response: &Extensions,
    general: impl Fn(StatusCode) -> bool,
    status: StatusCode,
) -> Result<HandlerOptions, NotStored> {
    let attached = response.get::<ResponseOptions>().cloned().unwrap_or_default();
    let extracted = request.get::<Extracted>().map(|Extracted(cell)| cell.borrow().clone());
    let extracted = extracted.unwrap_or_default();
    let declared = request.get::<Declared>().map(|declared| declared.0.clone());
    let declared = declared.unwrap_or_default();
    let ttl = attached.ttl.or_else(|| extracted.ttl.or(declared.ttl).filter(|_| general(status)));
    let all = [attached, extracted, declared];
    if let Some(reason) = all.iter().find_map(|overrides| overrides.no_store) {
        return Err(NotStored::Handler(reason));
    }
    Ok(HandlerOptions { ttl, tags: all.into_iter().flat_map(|overrides| overrides.tags).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_response_goes_before_the_extractor_and_that_before_the_route() {
        let secs = Duration::from_secs;
        let ttl = |n| ResponseOptions::new().ttl(secs(n));
        let none = || ResponseOptions::new();
        for (attached, extracted, declared, status, want) in [
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

            let case = format!("{attached:?} {extracted:?} {declared:?}");
            request.insert(Extracted(Rc::new(RefCell::new(extracted))));
            request.insert(Declared(declared));
            response.insert(attached);
            let status = StatusCode::from_u16(status).unwrap();
            let got =
                handler_options(&request, &response, |status| status == StatusCode::OK, status);
            assert_eq!(got.map(|said| said.ttl), want, "{case}");
        }
    }

    #[test]
    fn tags_of_the_response_the_extractor_and_the_route_add_up() {
        let (mut request, mut response) = (Extensions::new(), Extensions::new());
        response.insert(ResponseOptions::new().tag("a").tag("b"));
        request.insert(Extracted(Rc::new(RefCell::new(ResponseOptions::new().tag("c")))));
        request.insert(Declared(CachePolicy::ttl(Duration::ZERO).tag("d").0));
        let said = handler_options(&request, &response, |_| true, StatusCode::OK).unwrap();
        assert_eq!(said.tags, ["a", "b", "c", "d"]);
    }
}
