//! One request on its way through one cache, and the requests it makes of store and handler.

use std::sync::Arc;

use actix_web::{
    HttpMessage,
    dev::{ServiceRequest, ServiceResponse},
};
use smallvec::SmallVec;

use super::request::watch_payload;
use crate::{
    clock::Timestamp,
    entry::{key::CacheKey, response::StoredResponse},
    fill::candidate::{Candidate, ClientConditions},
    outcome::Forward,
    policy::{discriminator::discriminator_for, matched::MatchedRules},
    semantics::{cache_control::RequestDirectives, requester::Requester},
    shared::{EnclosingCache, Shared},
    store::interface::Lookup,
};

/// One request's way through one cache.
#[derive(Clone)]
pub(crate) struct RequestContext {
    pub(crate) shared: Arc<Shared>,
    /// The number of caches further out.
    pub(crate) layer: u8,
}

/// A request that may be answered from the store.
pub(crate) struct CacheRequest {
    pub(crate) matched: MatchedRules,
    pub(crate) key: CacheKey,
    pub(crate) discriminator: SmallVec<[u8; 32]>,
    pub(crate) requester: Requester,
    /// The credentials in the request, whatever cookies mean under the policy.
    pub(crate) carried: Requester,
    pub(crate) directives: RequestDirectives,
    /// The time at which the request reached the cache.
    pub(crate) arrived: Timestamp,
    /// The time of the last lookup.
    pub(crate) now: Timestamp,
    /// The number of responses that leaders had stored when this request looked into the store. If
    /// it has changed since, the lookup may have missed a response.
    pub(crate) stored_count: u64,
    /// The number of removals of keys and URLs when this request looked into the store.
    pub(crate) removals: u64,
}

/// A request to the handler, with what the lookup found.
pub(crate) struct OriginRequest {
    pub(crate) cache_request: CacheRequest,
    pub(crate) lookup: Lookup,
    pub(crate) reason: Forward,
    /// The stored response that answers if the handler says that it is still valid.
    pub(crate) selected: Option<Arc<StoredResponse>>,
    /// The selected response is never fresh, so requests do not wait for each other's validation.
    pub(crate) never_fresh: bool,
    pub(crate) purpose: Purpose,
}

/// The reason for calling the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client waits for the response.
    Client,
    /// The stored response is refreshed in the background while it answers clients.
    Refresh,
}

/// Stored in the extensions of a response: a cache further in is responsible for the response.
struct OwnedByInnerCache;

impl RequestContext {
    /// Tells the caches and handlers further in that the request has passed this cache.
    pub(crate) fn enter(&self, request: &ServiceRequest) {
        let layers = self.layer.saturating_add(1);
        let marker = EnclosingCache { shared: Arc::clone(&self.shared), layers };
        request.extensions_mut().insert(marker);
    }

    /// Tells the caches further out that this cache is responsible for the response.
    pub(crate) fn claim<B>(&self, response: &mut ServiceResponse<B>) {
        if self.layer > 0 {
            response.response_mut().extensions_mut().insert(OwnedByInnerCache);
        }
    }

    /// Remembers a key that a cache further in answers for. Returns whether one answered this
    /// request.
    pub(crate) fn note_inner_cache<B>(
        &self,
        response: &ServiceResponse<B>,
        key: &CacheKey,
    ) -> bool {
        let owned = is_owned_by_inner_cache(response);
        if owned {
            let now = self.shared.now();
            self.shared.store.coordinator().mark_inner_cache(key, self.layer, now);
        }
        owned
    }

    pub(crate) fn cache_request(
        &self,
        request: &ServiceRequest,
        matched: MatchedRules,
        key: CacheKey,
        now: Timestamp,
    ) -> CacheRequest {
        let fields = request.headers();
        let coordinator = self.shared.store.coordinator();
        let carried = Requester::carried(fields, &self.shared.policy.identity);
        CacheRequest {
            matched,
            key,
            discriminator: discriminator_for(self.layer, request),
            requester: carried.under(&self.shared.policy.identity),
            carried,
            directives: RequestDirectives::of(fields),
            arrived: now,
            now,
            stored_count: coordinator.stored_count(),
            removals: coordinator.removals(),
        }
    }

    /// The request whose response may be stored.
    pub(crate) fn candidate(
        &self,
        request: &mut ServiceRequest,
        cache_request: CacheRequest,
        lookup: Lookup,
    ) -> Box<Candidate> {
        let CacheRequest {
            matched, key, discriminator, requester, directives, now, removals, ..
        } = cache_request;
        let variants = lookup.variants;
        let coordinator = self.shared.store.coordinator();
        let fill = coordinator.begin_fill(&key, lookup.stamp);
        // In a box, for it is moved several times on its way through the fill.
        Box::new(Candidate {
            shared: Arc::clone(&self.shared),
            fill,
            lookup_is_current: coordinator.removals() == removals,
            request_tags: self.shared.policy.request_tags(request, &matched),
            matched,
            key,
            request: request.headers().clone(),
            requester,
            request_no_store: directives.no_store,
            discriminator,
            selecting_fields: variants
                .map(|variants| variants.selecting_fields().into())
                .unwrap_or_default(),
            replaced_audience: None,
            requested: now,
            conditions: ClientConditions::ByHandler,
            leader: None,
            body_seen: watch_payload(request),
        })
    }
}

/// Whether a cache further in is responsible for a response.
pub(crate) fn is_owned_by_inner_cache<B>(response: &ServiceResponse<B>) -> bool {
    response.response().extensions().contains::<OwnedByInnerCache>()
}
