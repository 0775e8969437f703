//! The requests and responses of the conformance suite.

use std::{borrow::Cow, sync::Arc, time::Duration};

use actix_web::http::{
    StatusCode,
    header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue, LINK},
};
use bytes::Bytes;

use super::super::interface::{Lookup, Put, Store};
use crate::{
    clock::{Clock, Timestamp},
    coordination::fills::Fill,
    entry::{
        coded_copy::{CodedCopies, ContentDigest},
        content_coding::ContentCoding,
        key::CacheKey,
        lifetime::{Lifetime, LifetimeSource, Staleness, Validation},
        response::{Audience, EtagSource, StoredResponse, WeakTag},
        selector::{Selector, Selects},
        stamp::Stamp,
        stored_fields::StoredFields,
        tag::TagId,
        uses::Uses,
        validity::ValidityCheck,
        variants::Variants,
    },
};

pub(super) fn tag_id(name: &[u8]) -> TagId {
    TagId::tag("conformance", &String::from_utf8_lossy(name))
}

pub(super) fn key(path: &str) -> CacheKey {
    CacheKey::new("conformance", "http", "host", path, None)
}

pub(super) async fn begin<S: Store>(store: &S, key: &CacheKey) -> Fill {
    let stamp = lookup(store, key, None).await.stamp;
    store.coordinator().begin_fill(key, stamp)
}

pub(super) async fn lookup<S: Store>(store: &S, key: &CacheKey, accept: Option<&str>) -> Lookup {
    // A lookup may fail because the store is busy, so try again.
    let repeated = async {
        loop {
            if let Ok(found) = store.lookup(key, &Request(accept).selector()).await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), repeated).await.expect("lookup")
}

/// Returns the valid responses that a request without `Accept` finds for a key.
pub(super) async fn found<S: Store>(store: &S, key: &CacheKey) -> Vec<Arc<StoredResponse>> {
    let variants = lookup(store, key, None).await.variants;
    let responses = variants.as_deref().map_or(&[][..], Variants::responses);
    responses
        .iter()
        .filter(|response| store.coordinator().is_valid(key, response))
        .cloned()
        .collect()
}

/// Returns the valid response that a request with this `Accept` selects for a key.
pub(super) async fn found_for<S: Store>(
    store: &S,
    key: &CacheKey,
    accept: Option<&str>,
) -> Option<Arc<StoredResponse>> {
    let variants = lookup(store, key, accept).await.variants?;
    let selects = |response: &&Arc<StoredResponse>| {
        let recorded = response.selecting.first().and_then(|(_, value)| value.as_deref());
        recorded == accept.map(str::as_bytes) && store.coordinator().is_valid(key, response)
    };
    variants.responses().iter().find(selects).cloned()
}

const DISCRIMINATOR: &[u8] = b"discriminator";

/// A request that prefers a copy in a content coding.
struct CodedRequest(ContentCoding);

impl Selects for CodedRequest {
    fn value(&self, _: &HeaderName) -> Option<Cow<'_, [u8]>> {
        None
    }

    fn accepts_coding(&self) -> bool {
        true
    }

    fn decodes(&self, _: &StoredResponse) -> bool {
        true
    }

    fn preferred_coding(&self) -> Option<ContentCoding> {
        Some(self.0)
    }
}

/// Returns the responses that a request for a copy in this coding finds.
pub(super) async fn found_with_copy<S: Store>(
    store: &S,
    key: &CacheKey,
    coding: ContentCoding,
) -> Vec<Arc<StoredResponse>> {
    let request = CodedRequest(coding);
    let selector = Selector::new(&request, DISCRIMINATOR, Clock::system().now());
    let lookup = store.lookup(key, &selector).await.expect("lookup");
    let found = lookup.variants.iter().flat_map(|variants| variants.responses());
    found.filter(|response| selector.selects(response)).cloned().collect()
}

/// A request with or without an `Accept`.
pub(super) struct Request<'a>(pub(super) Option<&'a str>);

impl Request<'_> {
    pub(super) fn selector(&self) -> Selector<'_> {
        Selector::new(self, DISCRIMINATOR, Clock::system().now())
    }
}

impl Selects for Request<'_> {
    fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        self.0.filter(|_| *name == ACCEPT).map(|accept| Cow::Borrowed(accept.as_bytes()))
    }

    fn accepts_coding(&self) -> bool {
        false
    }

    fn decodes(&self, _: &StoredResponse) -> bool {
        false
    }

    fn preferred_coding(&self) -> Option<ContentCoding> {
        None
    }
}

pub(super) fn only(mut responses: Vec<Arc<StoredResponse>>) -> Arc<StoredResponse> {
    assert_eq!(responses.len(), 1, "number of responses");
    responses.remove(0)
}

/// A response that the checks put into the store.
#[derive(Clone)]
pub(super) struct Response {
    pub(super) body: Bytes,
    pub(super) accept: Option<String>,
    pub(super) tags: Box<[TagId]>,
    pub(super) at: Timestamp,
    /// Whether the cache may make coded copies.
    pub(super) codable: bool,
}

impl Response {
    pub(super) fn new(n: usize) -> Self {
        // The time of the response is the present, because a store may drop old responses.
        let at = Clock::system().now();
        Self {
            body: Bytes::from(format!("body {n}")),
            accept: None,
            tags: Box::default(),
            at,
            codable: false,
        }
    }

    pub(super) fn accept(mut self, accept: &str) -> Self {
        self.accept = Some(accept.to_owned());
        self
    }

    pub(super) fn tag(mut self, tag: &[u8]) -> Self {
        self.tags = Box::new([tag_id(tag)]);
        self
    }

    pub(super) fn codable(mut self) -> Self {
        self.codable = true;
        self
    }

    pub(super) fn stored(&self, stamp: Stamp) -> StoredResponse {
        let hour = Duration::from_secs(3600);
        let link = |text| (LINK, HeaderValue::from_static(text));
        let accept = self.accept.as_ref().map(|accept| Bytes::from(accept.clone()));
        StoredResponse {
            status: StatusCode::OK,
            fields: StoredFields::from_iter([
                link("<b>"),
                link("<a>"),
                (HeaderName::from_static("x-empty"), HeaderValue::from_static("")),
            ]),
            body: self.body.clone(),
            lifetime: Lifetime {
                response_time: self.at,
                initial_age: Duration::from_secs(1),
                freshness: hour,
                source: LifetimeSource::Explicit,
                staleness: Staleness {
                    validation: Validation::Strict,
                    while_revalidate: Some(Duration::from_secs(2)),
                    if_error: None,
                },
                retention: Duration::from_secs(3),
            },
            stated: Some(hour),
            selecting: accept.map(|accept| (ACCEPT, Some(accept))).into_iter().collect(),
            discriminator: Box::from(DISCRIMINATOR),
            tags: self.tags.clone(),
            stamp,
            client_ttl: Some(Duration::from_secs(5)),
            original_fields: Some(Box::new([(CACHE_CONTROL, HeaderValue::from_static("public"))])),
            etag_source: EtagSource::Handler,
            coded: self.codable.then(|| {
                let content = ContentDigest::of(&self.body);
                Box::new(CodedCopies::of_content(content))
            }),
            audience: Audience::Everyone,
            permits_sharing: false,
            weak_tag: WeakTag::default(),
            validity_check: ValidityCheck::default(),
            uses: Uses::default(),
            received: self.at.monotonic(),
        }
    }

    /// Begins a fill, and stores the response by this fill.
    pub(super) async fn put<S: Store>(&self, store: &S, key: &CacheKey) -> Put {
        let fill = begin(store, key).await;
        let response = Arc::new(self.stored(fill.stamp()));
        match store.put_now(key, &response, &fill) {
            Some(result) => result.expect("put_now"),
            None => store.put(key, response, &fill).await.expect("put"),
        }
    }

    /// Stores the response by [`Store::put`], also if the store implements [`Store::put_now`].
    pub(super) async fn put_later<S: Store>(&self, store: &S, key: &CacheKey) -> Put {
        let fill = begin(store, key).await;
        let response = Arc::new(self.stored(fill.stamp()));
        store.put(key, response, &fill).await.expect("put")
    }
}
