//! A middleware that does only the work that no hit of a cache can avoid: it looks at each request
//! field once, makes a key, reads a map once, makes the head of the response and clones the body.
//! It is not a cache, because it checks nothing and stores nothing of a handler.

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use actix_service::{Service, Transform, forward_ready};
use actix_web::{
    Error, HttpResponse,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        StatusCode,
        header::{
            AGE, AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, HeaderName, HeaderValue,
            IF_NONE_MATCH, RANGE,
        },
    },
};
use bytes::Bytes;
use moka::sync::Cache;

use crate::servers::CACHE_STATUS;

/// The header fields and the body of a page.
pub(crate) struct Page {
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Page {
    /// Copies header fields and a body. The values and the body are in one buffer, as a cache stores
    /// them.
    pub(crate) fn copy_of<'a>(
        fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        body: &[u8],
    ) -> Self {
        let fields: Vec<_> = fields.collect();
        let values = fields.iter().map(|(_, value)| value.as_bytes());
        let parts: Vec<_> = values.chain([body]).collect();
        let mut rest = Bytes::from(parts.concat());
        let copy = |(name, value): (&HeaderName, &HeaderValue)| {
            let value = rest.split_to(value.len());
            (name.clone(), HeaderValue::from_maybe_shared(value).expect("a copied value"))
        };
        let fields = fields.into_iter().map(copy).collect();
        Self { fields, body: rest }
    }

    /// Returns a copy that shares no memory with this page.
    fn copied(&self) -> Self {
        Self::copy_of(self.fields.iter().map(|(name, value)| (name, value)), &self.body)
    }
}

/// The middleware. Each URL has a copy of the page, as if its handler had made it.
#[derive(Clone)]
pub(crate) struct Floor {
    entries: Cache<Box<[u8]>, Arc<Page>>,
    page: Arc<Page>,
}

impl Floor {
    pub(crate) fn new(page: Page) -> Self {
        Self { entries: Cache::new(100_000), page: Arc::new(page) }
    }
}

impl<S> Transform<S, ServiceRequest> for Floor
where
    S: Service<ServiceRequest, Error = Error>,
{
    type Response = ServiceResponse<Bytes>;
    type Error = Error;
    type Transform = FloorService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(FloorService { floor: self.clone(), inner }))
    }
}

pub(crate) struct FloorService<S> {
    floor: Floor,
    inner: S,
}

impl<S> Service<ServiceRequest> for FloorService<S>
where
    S: Service<ServiceRequest, Error = Error>,
{
    type Response = ServiceResponse<Bytes>;
    type Error = Error;
    type Future = Ready<Result<Self::Response, Error>>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let response = match key(&request) {
            Some(key) => self.floor.respond(&key),
            None => HttpResponse::with_body(StatusCode::NOT_FOUND, Bytes::new()),
        };
        ready(Ok(request.into_response(response)))
    }
}

impl Floor {
    fn respond(&self, key: &[u8]) -> HttpResponse<Bytes> {
        let page = self.entries.get(key).unwrap_or_else(|| {
            let page = Arc::new(self.page.copied());
            self.entries.insert(Box::from(key), Arc::clone(&page));
            page
        });
        let mut response = HttpResponse::with_body(StatusCode::OK, page.body.clone());
        let fields = response.headers_mut();
        fields.reserve(page.fields.len() + 2);
        for (name, value) in &page.fields {
            fields.append(name.clone(), value.clone());
        }
        fields.append(AGE, HeaderValue::from_static("7"));
        fields.append(CACHE_STATUS, HeaderValue::from_static("actix-web-cache; hit; ttl=53"));
        response
    }
}

/// Makes the key of a request: its host and path. Returns `None` for a request that a cache would
/// handle in another way.
pub(crate) fn key(request: &ServiceRequest) -> Option<Vec<u8>> {
    let mut host = None;
    for (name, value) in request.headers() {
        if *name == HOST {
            host = Some(value);
        } else if [AUTHORIZATION, COOKIE, CACHE_CONTROL, IF_NONE_MATCH, RANGE].contains(name) {
            return None;
        }
    }
    let (host, path) = (host?.as_bytes(), request.uri().path().as_bytes());
    Some([host, path].concat())
}
