//! The next step of a request that has waited for another request or another process.

use actix_web::{HttpResponse, body::MessageBody, dev::ServiceRequest};

use super::{
    context::{OriginRequest, Purpose, RequestContext},
    lookup::Decision,
    reply::gateway_timeout,
};
use crate::{
    coordination::{flights::FlightEnd, leader::Leader},
    entry::variants::Variants,
    outcome::{Forward, Outcome},
    response::{body::CacheBody, cached::CachedResponse},
    semantics::reuse::may_answer_waiting_request,
};

/// The next step of a request that has waited for another request or another process, or has looked
/// up the store again.
pub(crate) enum Next<B> {
    /// The cache answers the request with this response, for example with the response to another
    /// request.
    Respond(HttpResponse<CacheBody<B>>, Outcome),
    /// The request calls the handler, and the response may be stored. If the request has a
    /// [`Leader`], other requests (followers) may wait for the response.
    Fetch(Box<OriginRequest>, Option<Leader>),
    /// The request calls the handler, and the response is not stored.
    Bypass(Forward),
    /// The request tries again to follow another request or to become a leader.
    Retry(Box<OriginRequest>),
}

impl RequestContext {
    /// Looks up the store again for a request that has waited, and returns the next step of the
    /// request.
    pub(super) async fn next_after_lookup<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        origin: OriginRequest,
    ) -> Next<B> {
        let OriginRequest { cache_request, reason, purpose, .. } = origin;
        match self.lookup_again(request, cache_request).await {
            // The stored response still needs the refresh for which this request was made.
            Decision::RespondAndRefresh(_, _, origin) if purpose == Purpose::Refresh => {
                Next::Fetch(origin, None)
            }
            decision => collapsed(request, decision, reason),
        }
    }

    /// Returns the response for which this request has waited, if that response is never fresh
    /// (such as one with `max-age=0`) but may answer the requests that waited for it. `reason` is
    /// the reason why no stored response answered before the wait.
    pub(super) fn shared_answer(
        &self,
        origin: &OriginRequest,
        reason: Forward,
    ) -> Option<(CachedResponse, Outcome)> {
        let is_shared = self.policy().answers_waiting_requests()
            && origin.never_fresh
            && origin.reason == Forward::Stale;
        let selected = origin.selected.as_ref().filter(|_| is_shared)?;
        let stored = &selected.stored;
        let OriginRequest { cache_request, .. } = origin;
        let key = &cache_request.key;
        // A process or a cache with another policy may have stored the response.
        self.policy().lifetime_under_policy(key, stored)?;
        let validity = self.shared.store.coordinator().validity(key, stored);
        if !may_answer_waiting_request(stored, validity, cache_request.arrived) {
            return None;
        }
        let answer = self.stale(selected.clone());
        let outcome = Outcome::collapsed(reason, answer.age);
        Some((answer, outcome))
    }

    /// Looks up the store again before a leader calls the handler, because another leader may have
    /// stored a response since the first lookup.
    pub(super) async fn lookup_before_fetch<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        origin: OriginRequest,
        mut leader: Leader,
    ) -> Next<B> {
        let reason = origin.reason;
        match self.next_after_lookup(request, origin).await {
            Next::Fetch(origin, _) if origin.never_fresh => {
                if let Some((answer, outcome)) = self.shared_answer(&origin, reason) {
                    leader.finish_stored(None);
                    let answer = answer.respond(request.method(), request.headers());
                    return Next::Respond(answer, outcome);
                }
                // The followers do not wait for this validation.
                leader.set_end_on_drop(FlightEnd::NotStored);
                Next::Fetch(origin, None)
            }
            Next::Respond(response, outcome) => {
                leader.finish_stored(None);
                Next::Respond(response, outcome)
            }
            Next::Fetch(origin, _) => {
                let variants = origin.lookup.variants.as_deref();
                if leader.ignores_any_of(variants.map_or(&[][..], Variants::selecting_fields)) {
                    leader.finish_stored(None);
                    return Next::Retry(origin);
                }
                Next::Fetch(origin, Some(leader))
            }
            next @ (Next::Bypass(_) | Next::Retry(_)) => next,
        }
    }
}

/// Converts the decision about a request that has waited into its next step. If the decision is a
/// fresh or stale hit, the outcome of the request becomes [`Outcome::Collapsed`].
pub(super) fn collapsed<B: MessageBody>(
    request: &ServiceRequest,
    decision: Decision,
    reason: Forward,
) -> Next<B> {
    let respond = |response: CachedResponse| response.respond(request.method(), request.headers());
    match decision {
        Decision::Respond(response, outcome)
        | Decision::RespondAndRefresh(response, outcome, _) => {
            Next::Respond(respond(response), outcome.after_waiting(reason))
        }
        Decision::OnlyIfCached => Next::Respond(gateway_timeout(), Outcome::OnlyIfCached),
        Decision::Fetch(origin) => Next::Fetch(origin, None),
        Decision::Bypass(reason) => Next::Bypass(reason),
    }
}
