//! A middleware that does only the work that no stored miss of a cache can avoid: it looks at each
//! request field once, makes a key, finds nothing in a map, calls the handler, adds the header fields
//! that a miss has, and inserts a copy of the response into the map, which is full. It is not a cache,
//! because it checks nothing.

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
};

use actix_service::{Service, Transform, forward_ready};
use actix_web::{
    Error,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{CACHE_CONTROL, DATE, EXPIRES, HeaderName, HeaderValue, VARY},
};
use bytes::Bytes;
use moka::sync::Cache;

use crate::{
    floor::{Page, key},
    servers::CACHE_STATUS,
};

/// The number of bytes that the bookkeeping of an entry takes, as `MemoryStore` counts it.
const ENTRY_OVERHEAD: usize = 640;

/// The middleware. `added` are the header fields that it adds to each response.
#[derive(Clone)]
pub(crate) struct FillFloor {
    entries: Cache<Box<[u8]>, Arc<Page>>,
    added: Arc<[(HeaderName, HeaderValue)]>,
}

impl FillFloor {
    /// Makes a middleware whose map has room for `max_bytes`.
    pub(crate) fn new(max_bytes: u64) -> Self {
        let entries = Cache::<Box<[u8]>, Arc<Page>>::builder()
            .max_capacity(max_bytes)
            .weigher(|key, page| {
                u32::try_from(key.len() + page.body.len() + ENTRY_OVERHEAD).unwrap_or(u32::MAX)
            })
            .build();
        let value = HeaderValue::from_static;
        let added = [
            (DATE, value("Mon, 30 Nov 2026 12:00:00 GMT")),
            (CACHE_CONTROL, value("max-age=86400")),
            (EXPIRES, value("Tue, 01 Dec 2026 12:00:00 GMT")),
            (VARY, value("accept-encoding")),
        ];
        Self { entries, added: Arc::new(added) }
    }
}

impl<S, B> Transform<S, ServiceRequest> for FillFloor
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<Bytes, B>>;
    type Error = Error;
    type Transform = FillFloorService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, inner: S) -> Self::Future {
        ready(Ok(FillFloorService { floor: self.clone(), inner }))
    }
}

pub(crate) struct FillFloorService<S> {
    floor: FillFloor,
    inner: S,
}

impl<S, B> Service<ServiceRequest> for FillFloorService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
    S::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<EitherBody<Bytes, B>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>>>>;

    forward_ready!(inner);

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let key = key(&request).filter(|key| self.floor.entries.get(&**key).is_none());
        let response = self.inner.call(request);
        let floor = self.floor.clone();
        Box::pin(async move {
            let response = response.await?;
            Ok(match key {
                Some(key) => floor.store(key.into(), response),
                None => response.map_into_right_body(),
            })
        })
    }
}

impl FillFloor {
    fn store<B: MessageBody>(
        &self,
        key: Box<[u8]>,
        response: ServiceResponse<B>,
    ) -> ServiceResponse<EitherBody<Bytes, B>> {
        let (request, response) = response.into_parts();
        let (mut head, body) = response.into_parts();
        let body = match body.try_into_bytes() {
            Ok(body) => body,
            Err(body) => {
                return ServiceResponse::new(request, head.set_body(body).map_into_right_body());
            }
        };
        let fields = head.headers_mut();
        for (name, value) in &*self.added {
            fields.append(name.clone(), value.clone());
        }
        self.entries.insert(key, Arc::new(Page::copy_of(fields.iter(), &body)));
        fields.append(
            CACHE_STATUS,
            HeaderValue::from_static("actix-web-cache; fwd=uri-miss; stored"),
        );
        ServiceResponse::new(request, head.set_body(body).map_into_left_body())
    }
}
