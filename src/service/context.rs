//! The state of a request in one cache: the data for its lookup in the store and for its call of
//! the handler.
//!
//! Caches can be nested. An inner cache is nested inside this cache, and an outer cache is around
//! it.

use std::{rc::Rc, sync::Arc};

use actix_web::{
    HttpMessage,
    dev::{Extensions, ServiceRequest, ServiceResponse},
    http::header::{HeaderMap, RANGE},
};
use bytes::Bytes;

use super::request::{add_data, client_network};
use crate::{
    clock::Timestamp,
    coordination::leader::Leader,
    entry::{
        discriminator::{Discriminator, layer_of},
        key::CacheKey,
        response::StoredResponse,
        url_keys::AppliedRule,
    },
    fill::candidate::{Candidate, ClientConditions, WriteCoding},
    outcome::Forward,
    policy::{cache_key::RequestKey, compiled::CompiledPolicy},
    response::cached::SelectedResponse,
    semantics::{
        cache_control::RequestDirectives,
        compression::CodingSupport,
        no_vary_search::NoVarySearch,
        request_fields::RequestFields,
        requester::{Requester, Sharing},
        special_fields::SpecialFields,
    },
    session::SessionBefore,
    shared::{EnclosingCache, SharedRef},
    store::interface::Lookup,
};

/// The cache that handles a request, and its position among nested caches.
#[derive(Clone)]
pub(crate) struct RequestContext {
    pub(crate) shared: SharedRef,
    /// The application data that mark requests as those of this cache, if it is an outermost one
    /// ([`EnclosingCache::outermost`]).
    pub(crate) marker: Rc<Extensions>,
    /// The number of outer caches.
    pub(crate) layer: u8,
    /// The rule whose policy applies to the request.
    pub(crate) rule: AppliedRule,
    /// The special fields that the request may have when it reaches the cache.
    pub(crate) special: SpecialFields,
}

/// A request for which the cache looks up the store.
pub(crate) struct CacheRequest {
    pub(crate) key: CacheKey,
    pub(crate) discriminator: Discriminator,
    pub(crate) requester: Requester,
    /// The clients that may share the stored response.
    pub(crate) sharing: Sharing,
    /// The kinds of credentials that the request carries. Cookies count here even if cookies do not
    /// identify a client under the policy. In `requester`, they do not count then.
    pub(crate) carried: Requester,
    pub(crate) directives: RequestDirectives,
    /// The `No-Vary-Search` in the cache key, if the key has one.
    pub(crate) variance: Option<Arc<NoVarySearch>>,
    /// The body of the request, if it is part of the cache key. Each further call of the handler
    /// needs the body again.
    pub(crate) body: Option<Bytes>,
    /// The time at which the request reached the cache.
    pub(crate) arrived: Timestamp,
    /// The time of the latest lookup for the request.
    pub(crate) now: Timestamp,
    /// How many flights over the whole store had ended with a stored response when the latest lookup
    /// began. A flight is one handler call for several requests. If the number has grown since then,
    /// the store may have a response that the lookup did not find.
    pub(crate) stored_count: u64,
    /// How many keys and URLs had been removed from the store by this process when the latest lookup
    /// began.
    pub(crate) removals: u64,
}

/// A request for which the cache has to call the handler, and the result of its lookup.
pub(crate) struct OriginRequest {
    pub(crate) cache_request: CacheRequest,
    pub(crate) lookup: Lookup,
    pub(crate) reason: Forward,
    /// The stored response that answers the request if the handler validates it (RFC 9111 section
    /// 4.3).
    pub(crate) selected: Option<SelectedResponse>,
    /// Whether each request must validate the selected response, for example because of
    /// `max-age=0`. Requests do not wait for each other's validation of such a response.
    pub(crate) never_fresh: bool,
    pub(crate) purpose: Purpose,
}

/// The reason for calling the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A client waits for the response.
    Client,
    /// The cache refreshes a stored response in the background, while this stored response answers
    /// clients.
    Refresh,
}

/// Whether a lookup has found usable responses of its own cache, not only of nested caches, which
/// may all use one store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnResponses {
    Absent,
    Present,
}

/// A marker in the extensions of a response. The marker says that an inner cache has handled the
/// request and reports its outcome.
struct OwnedByInnerCache;

impl RequestContext {
    /// Returns the policy that applies to the request.
    pub(crate) fn policy(&self) -> &CompiledPolicy {
        self.shared.policy(self.rule)
    }

    /// Returns whether a request to this cache has `Range`.
    pub(crate) fn has_range(&self, request: &HeaderMap) -> bool {
        self.special.has(SpecialFields::RANGE) && request.contains_key(RANGE)
    }

    /// Adds a marker to the request, by which inner caches and handlers find this cache.
    pub(crate) fn enter(&self, request: &mut ServiceRequest) {
        if self.layer == 0 && add_data(&self.shared, request, &self.marker) {
            return;
        }
        let layers = self.layer.saturating_add(1);
        let marker = EnclosingCache { shared: self.shared.clone(), layers };
        request.extensions_mut().insert(marker);
    }

    /// Marks the response if there is an outer cache. Outer caches neither store nor report a
    /// marked response.
    pub(crate) fn claim<B>(&self, response: &mut ServiceResponse<B>) {
        if self.layer > 0 {
            response.response_mut().extensions_mut().insert(OwnedByInnerCache);
        }
    }

    /// Returns whether an inner cache has handled the request. If so, and if this cache has no
    /// stored response for `key`, marks the key: for some seconds, this cache passes requests for
    /// the key to the inner cache without a lookup. The first of them that no inner cache handles
    /// ends the mark, because it reaches another route.
    pub(crate) fn note_inner_cache<B>(
        &self,
        response: &ServiceResponse<B>,
        key: &CacheKey,
        discriminator: &[u8],
        own_responses: OwnResponses,
    ) -> bool {
        let owned = is_owned_by_inner_cache(response);
        if owned && own_responses == OwnResponses::Absent {
            let now = self.shared.now();
            self.shared.store.coordinator().mark_inner_cache(key, discriminator, now);
        }
        owned
    }

    /// Returns whether the lookup has found responses of this cache that can still be used.
    pub(crate) fn own_responses(&self, request: &CacheRequest, lookup: &Lookup) -> OwnResponses {
        let coordinator = self.shared.store.coordinator();
        let is_usable = |response: &StoredResponse| {
            layer_of(&response.discriminator) == self.layer
                && !response.useful_for(request.now).is_zero()
                && coordinator.is_valid(&request.key, response)
        };
        let mut responses = lookup.variants.iter().flat_map(|variants| variants.responses());
        match responses.any(|response| is_usable(response)) {
            true => OwnResponses::Present,
            false => OwnResponses::Absent,
        }
    }

    /// Returns the `No-Vary-Search` of the path of a request, if the policy honors it and a response
    /// in this process had one.
    #[inline]
    pub(crate) fn search_variance(&self, request: &ServiceRequest) -> Option<Arc<NoVarySearch>> {
        let variances = self.shared.store.coordinator().search_variances();
        if variances.is_unused() || !self.policy().honors_no_vary_search() {
            return None;
        }
        variances.get(&self.policy().path_key(request).ok()?)
    }

    /// Returns the data for the lookup of a request.
    #[inline]
    pub(crate) fn cache_request(
        &self,
        request: &ServiceRequest,
        RequestKey { key, sharing }: RequestKey,
        discriminator: Discriminator,
        variance: Option<Arc<NoVarySearch>>,
        body: Option<Bytes>,
        now: Timestamp,
    ) -> CacheRequest {
        let coordinator = self.shared.store.coordinator();
        let carried = self.policy().credentials_of(request, self.special);
        let directives = if self.special.has(SpecialFields::DIRECTIVES) {
            RequestDirectives::of(request.headers())
        } else {
            RequestDirectives::default()
        };
        CacheRequest {
            key,
            discriminator,
            requester: carried.under(&self.policy().identity, &sharing),
            sharing,
            carried,
            directives,
            variance,
            body,
            arrived: now,
            now,
            stored_count: coordinator.stored_count(),
            removals: coordinator.removals(),
        }
    }

    /// Warns once about a rule whose path seems to be relative to the scope of the cache by mistake.
    pub(crate) fn warn_about_misplaced_rule(&self, request: &ServiceRequest) {
        if let Some(rule) = self.shared.policies.misplaced_rule(request) {
            log::warn!("{rule}");
        }
    }

    /// Begins a fill: a call of the handler whose response may be stored. Returns the
    /// [`Candidate`], which holds the data for storing the response. `leader` is the leader of the
    /// flight, if other requests may wait for the response.
    pub(crate) fn candidate(
        &self,
        request: &ServiceRequest,
        cache_request: CacheRequest,
        lookup: Lookup,
        leader: Option<Leader>,
    ) -> Box<Candidate> {
        self.warn_about_misplaced_rule(request);
        let CacheRequest {
            key,
            discriminator,
            requester,
            sharing,
            directives,
            variance,
            body,
            now,
            removals,
            ..
        } = cache_request;
        let variants = lookup.variants;
        let coordinator = self.shared.store.coordinator();
        let fill = coordinator.begin_fill(&key, lookup.stamp);
        // In a box, for it is moved several times on its way through the fill.
        Box::new(Candidate {
            shared: self.shared.clone(),
            fill,
            lookup_is_current: coordinator.removals() == removals,
            request_tags: self.policy().request_tags(request),
            rule: self.rule,
            key,
            method: request.method().clone(),
            uri: request.uri().clone(),
            variance,
            body,
            request: RequestFields::of(request.headers()),
            coding_support: CodingSupport::of(request.headers()),
            special: self.special,
            requester,
            session: SessionBefore::of(request),
            sharing,
            client: client_network(request),
            request_no_store: directives.no_store,
            discriminator,
            selecting_fields: variants
                .map(|variants| variants.selecting_fields().into())
                .unwrap_or_default(),
            replaced_audience: None,
            coding: WriteCoding::default(),
            requested: now,
            conditions: ClientConditions::ByHandler,
            leader,
        })
    }
}

/// Returns whether an inner cache has handled the request for this response.
pub(crate) fn is_owned_by_inner_cache<B>(response: &ServiceResponse<B>) -> bool {
    response.response().extensions().contains::<OwnedByInnerCache>()
}
