//! The next step of a request that has waited for others.

use actix_web::{HttpResponse, dev::ServiceRequest};

use super::{
    context::{OriginRequest, Purpose, RequestContext},
    lookup::Decision,
    reply::gateway_timeout,
};
use crate::{
    coordination::leader::Leader,
    entry::variants::Variants,
    outcome::{Forward, Outcome},
    response::{body::CacheBody, cached::CachedResponse},
};

/// The next step of a request that has waited for others, or looked into the store again.
pub(crate) enum Next<B> {
    /// The response to another request answers this one, too.
    Respond(HttpResponse<CacheBody<B>>, Outcome),
    /// The request calls the handler; followers may wait for its response.
    Fetch(Box<OriginRequest>, Option<Leader>),
    /// The request calls the handler, whose response is not stored.
    Bypass(Forward),
    /// The request takes part in collapsing once more.
    Retry(Box<OriginRequest>),
}

impl RequestContext {
    /// Looks into the store again on behalf of a request that has waited.
    pub(super) async fn next_after_lookup<B>(
        &self,
        request: &ServiceRequest,
        origin: OriginRequest,
    ) -> Next<B> {
        let OriginRequest { cache_request, reason, purpose, .. } = origin;
        match self.lookup_again(request, cache_request).await {
            // The stored response is still the one that this request is to refresh.
            Decision::RespondAndRefresh(_, _, origin) if purpose == Purpose::Refresh => {
                Next::Fetch(origin, None)
            }
            decision => collapsed(request, decision, reason),
        }
    }

    /// Looks into the store again before a leader calls the handler: another leader may have stored
    /// a response since the first lookup.
    pub(super) async fn lookup_before_fetch<B>(
        &self,
        request: &ServiceRequest,
        origin: OriginRequest,
        leader: Leader,
    ) -> Next<B> {
        match self.next_after_lookup(request, origin).await {
            Next::Respond(response, outcome) => {
                leader.finish_stored();
                Next::Respond(response, outcome)
            }
            Next::Fetch(origin, _) => {
                let variants = origin.lookup.variants.as_deref();
                if leader.ignores_any_of(variants.map_or(&[][..], Variants::selecting_fields)) {
                    leader.finish_stored();
                    return Next::Retry(origin);
                }
                Next::Fetch(origin, Some(leader))
            }
            next @ (Next::Bypass(_) | Next::Retry(_)) => next,
        }
    }
}

/// The next step of a request that has waited: a response found in the store now is one that
/// another request brought there.
pub(super) fn collapsed<B>(
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
