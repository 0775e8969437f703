//! Looks up the store, and decides which response answers a request.

use std::{sync::Arc, time::Duration};

use actix_web::{
    dev::ServiceRequest,
    http::{
        Method,
        header::{ETAG, HeaderMap, LAST_MODIFIED},
    },
};

use super::{
    context::{CacheRequest, OriginRequest, Purpose, RequestContext},
    request::client_network,
};
use crate::{
    coordination::held_bodies::HeldBodies,
    entry::{key::CacheKey, response::StoredResponse, selector::Selector},
    fill::coded_copies::make_coded_copy,
    outcome::{Bypass, Forward, Outcome},
    poll_once::within,
    response::{
        cached::{CachedResponse, ClientTerms, SelectedResponse},
        representation::{Acceptance, Choice, Representation, StreamedCoding, choose},
    },
    semantics::{
        request::is_conditional,
        reuse::{
            BackgroundRefresh, Reuse, ReuseRequest, ValidationReason, is_never_fresh,
            select_response,
        },
        special_fields::SpecialFields,
        validation::{Validators, not_modified},
    },
    shared::ComparedFields,
    store::interface::{Lookup, StoreError},
};

/// The decision after a lookup: which response answers the request.
pub(crate) enum Decision {
    /// A stored response answers the request.
    Respond(CachedResponse, Outcome),
    /// A stored response answers the request, and the cache calls the handler in the background for
    /// a new response.
    RespondAndRefresh(CachedResponse, Outcome, Box<OriginRequest>),
    /// The client accepts only a stored response (`only-if-cached`), and no stored response may
    /// answer. The cache answers with status 504.
    OnlyIfCached,
    /// The cache calls the handler, or waits for another request that does so. The response may be
    /// stored.
    Fetch(Box<OriginRequest>),
    /// The handler answers the request, and its response is not stored. The value is the reason.
    Bypass(Forward),
}

impl RequestContext {
    /// Returns the request fields by which a lookup selects a response.
    fn compared<'a>(&'a self, fields: &'a HeaderMap) -> ComparedFields<'a> {
        let offered = self.policy().compression().map_or(&[][..], |found| &found.codings);
        ComparedFields { fields, cache: &*self.shared, rule: self.rule, offered }
    }

    /// Looks up the store without waiting. Returns `None` if the store cannot answer at once.
    pub(crate) fn lookup_now(
        &self,
        fields: &HeaderMap,
        request: &CacheRequest,
    ) -> Option<Result<Lookup, StoreError>> {
        let compared = self.compared(fields);
        let selector = Selector::new(&compared, &request.discriminator, request.now);
        self.shared.store.lookup_now(&request.key, &selector)
    }

    /// Looks up the store. Returns an error if the lookup takes longer than the time-out for
    /// lookups.
    pub(crate) async fn lookup(
        &self,
        fields: &HeaderMap,
        request: &CacheRequest,
    ) -> Result<Lookup, StoreError> {
        let compared = self.compared(fields);
        let selector = Selector::new(&compared, &request.discriminator, request.now);
        let limit = self.shared.settings.lookup_timeout;
        let found = within(limit, self.shared.store.lookup(&request.key, &selector)).await;
        found.unwrap_or_else(|| {
            Err(StoreError::new(format!("the lookup took longer than {limit:?}")))
        })
    }

    /// Looks up the store again for a request that has waited since its first lookup, and decides
    /// again which response answers the request.
    pub(crate) async fn lookup_again(
        &self,
        request: &ServiceRequest,
        mut cache_request: CacheRequest,
    ) -> Decision {
        let coordinator = self.shared.store.coordinator();
        cache_request.stored_count = coordinator.stored_count();
        cache_request.removals = coordinator.removals();
        cache_request.now = self.shared.now();
        let fields = request.headers();
        let found = match self.lookup_now(fields, &cache_request) {
            Some(found) => found,
            None => self.lookup(fields, &cache_request).await,
        };
        self.decide(request, cache_request, found)
    }

    /// Decides by the result of a lookup which response answers the request.
    pub(crate) fn decide(
        &self,
        request: &ServiceRequest,
        cache_request: CacheRequest,
        found: Result<Lookup, StoreError>,
    ) -> Decision {
        let lookup = match found {
            Ok(lookup) => lookup,
            Err(error) => {
                self.shared.warn_about_store(&error);
                return Decision::Bypass(Forward::Bypass(Bypass::StoreError));
            }
        };
        let (now, terms) = (cache_request.now, ClientTerms::of(self.policy()));
        let mut reuse = self.reuse(request.headers(), &cache_request, &lookup);
        if reuse.selected().is_some_and(|stored| self.policy().refuses_stored(stored)) {
            log::debug!("stored response not used: it has a field that this policy never stores");
            reuse = Reuse::Absent;
        }
        let hold = |stored| self.hold(request, &cache_request.key, stored);
        // The handler answers the request. Concurrent requests share its response, whose bytes count
        // in the memory for bodies that are being stored.
        let not_held = |reason| (Forward::Bypass(reason), None);
        let (reason, selected) = match reuse {
            Reuse::Fresh { stored, age, ttl } => match hold(stored) {
                Ok(selected) => {
                    selected.stored.uses.add();
                    let response = CachedResponse { selected, age, left: ttl, now, terms };
                    let outcome = Outcome::Hit { age, ttl };
                    let refresh = self.policy().refresh_ahead(age.saturating_add(ttl), ttl);
                    if !is_refreshed(request, refresh) {
                        return Decision::Respond(response, outcome);
                    }
                    return respond_and_refresh(response, outcome, cache_request, lookup);
                }
                Err(reason) => not_held(reason),
            },
            Reuse::Stale { stored, age, over, refresh } => match hold(stored) {
                Ok(selected) => {
                    selected.stored.uses.add();
                    let left = Duration::ZERO;
                    let response = CachedResponse { selected, age, left, now, terms };
                    let outcome = Outcome::StaleHit { age, over };
                    if !is_refreshed(request, refresh) {
                        return Decision::Respond(response, outcome);
                    }
                    return respond_and_refresh(response, outcome, cache_request, lookup);
                }
                Err(reason) => not_held(reason),
            },
            Reuse::Validate { stored, because } => match hold(stored) {
                Ok(selected) => {
                    let reason = match because {
                        ValidationReason::Stale => Forward::Stale,
                        ValidationReason::Client => Forward::Request,
                    };
                    (reason, Some(selected))
                }
                Err(reason) => not_held(reason),
            },
            Reuse::Absent => (Forward::UriMiss, None),
            Reuse::OtherVariant => (Forward::VaryMiss, None),
            Reuse::NotForRequester => (Forward::Request, None),
        };
        // RFC 9111 section 5.2.1.7: `only-if-cached` in the request.
        let honors = self.policy().honors_request_directives();
        if honors && cache_request.directives.only_if_cached {
            return Decision::OnlyIfCached;
        }
        if self.shared.store.coordinator().is_draining() {
            return Decision::Bypass(Forward::Bypass(Bypass::Draining));
        }
        let never_fresh = selected
            .as_ref()
            .is_some_and(|selected| self.is_never_fresh(&cache_request.key, &selected.stored));
        Decision::Fetch(Box::new(OriginRequest {
            cache_request,
            lookup,
            reason,
            selected,
            never_fresh,
            purpose: Purpose::Client,
        }))
    }

    /// Returns the stored response with the representation that the client gets, and its body. Starts
    /// to make the copy in the content coding that the client prefers, if there is none yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the bodies that responses keep in memory take too much of it, or if the
    /// client accepts no representation.
    fn hold(
        &self,
        request: &ServiceRequest,
        key: &CacheKey,
        stored: Arc<StoredResponse>,
    ) -> Result<SelectedResponse, Bypass> {
        let compression = self.policy().compression();
        let streamed_coding = StreamedCoding::by(request.version());
        let Choice { representation, missing, acceptance } =
            choose(request.headers(), self.special, &stored, compression, streamed_coding);
        if let Some((coding, compression)) = missing.zip(compression) {
            make_coded_copy(&self.shared, compression.level, key, &stored, coding);
        }
        if acceptance == Acceptance::Refused {
            return Err(Bypass::AcceptEncoding);
        }
        let body = representation.body(&stored);
        let is_sent = || {
            let is_conditional = self.special.has(SpecialFields::CONDITIONS);
            request.method() != Method::HEAD
                && !(is_conditional && is_not_modified(request.headers(), &stored, &representation))
        };
        let body = if HeldBodies::counts(body) && is_sent() {
            let client = client_network(request);
            let held_bodies = self.shared.store.coordinator().held_bodies();
            held_bodies.hold(key, body, client).ok_or(Bypass::SlowClients)?
        } else {
            body.clone()
        };
        Ok(SelectedResponse { stored, representation, body })
    }

    /// Returns whether each request must validate the stored response, because it has `no-cache`,
    /// or because it was stale under the policy when the handler sent it.
    pub(crate) fn is_never_fresh(&self, key: &CacheKey, stored: &StoredResponse) -> bool {
        let limit = self.policy().lifetime_under_policy(key, stored);
        is_never_fresh(stored, limit.unwrap_or_default())
    }

    /// Decides by RFC 9111 and by the policy whether a stored response may answer the request.
    fn reuse(&self, fields: &HeaderMap, request: &CacheRequest, lookup: &Lookup) -> Reuse {
        let policy = self.policy();
        let compared = self.compared(fields);
        let selector = Selector::new(&compared, &request.discriminator, request.now);
        let reuse_request = ReuseRequest {
            requester: request.requester,
            directives: policy.honors_request_directives().then_some(request.directives),
            windows: policy.windows(),
        };
        let coordinator = self.shared.store.coordinator();
        select_response(
            lookup.variants.as_deref(),
            &selector,
            |stored| coordinator.validity(&request.key, stored),
            |stored| policy.lifetime_under_policy(&request.key, stored),
            &reuse_request,
            request.now,
        )
    }
}

/// Returns whether the conditions of a request turn a representation of a stored response into a 304.
fn is_not_modified(
    request: &HeaderMap,
    stored: &StoredResponse,
    representation: &Representation,
) -> bool {
    if !is_conditional(request) {
        return false;
    }
    let mut fields = HeaderMap::new();
    if let Some(tag) = representation.etag(stored) {
        fields.insert(ETAG, tag.clone());
    }
    for line in stored.lines(&LAST_MODIFIED) {
        fields.append(LAST_MODIFIED, line.clone());
    }
    not_modified(request, stored.status, Validators::of(&fields))
}

/// Returns whether the cache refreshes a stored response that answers a request: a refresh is due, and
/// the method of the request is not HEAD.
fn is_refreshed(request: &ServiceRequest, refresh: BackgroundRefresh) -> bool {
    refresh != BackgroundRefresh::NotDue && *request.method() != Method::HEAD
}

/// Makes the decision to answer with a stored response, and to refresh it in the background.
fn respond_and_refresh(
    response: CachedResponse,
    outcome: Outcome,
    cache_request: CacheRequest,
    lookup: Lookup,
) -> Decision {
    // The response to a refresh is sent to no client, so its body does not count.
    let stored = Arc::clone(&response.selected.stored);
    let (representation, body) = (Representation::Stored, stored.body.clone());
    let selected = Some(SelectedResponse { stored, representation, body });
    let (reason, purpose) = (Forward::Stale, Purpose::Refresh);
    let never_fresh = false;
    let refresh = OriginRequest { cache_request, lookup, reason, selected, never_fresh, purpose };
    Decision::RespondAndRefresh(response, outcome, Box::new(refresh))
}
