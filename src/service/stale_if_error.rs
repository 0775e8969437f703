//! Stale responses in place of errors and of responses that take too long (RFC 5861 section 4): the
//! one place that decides about them.

use std::sync::Arc;

use actix_web::{
    Error, HttpResponse,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
};

use super::{
    context::{OriginRequest, RequestContext},
    reply::Reply,
    stand_in::StandIn,
};
use crate::{
    entry::{key::CacheKey, response::StoredResponse},
    fill::candidate::Candidate,
    outcome::{Forward, Outcome},
    response::{body::CacheBody, cached::CachedResponse},
    semantics::reuse::{is_server_failure, may_serve_stale_on_error},
};

impl RequestContext {
    /// Whether a stored response may answer now if the handler fails.
    pub(crate) fn may_serve_stale(&self, key: &CacheKey, stored: &StoredResponse) -> bool {
        let validity = self.shared.store.coordinator().validity(key, stored);
        may_serve_stale_on_error(stored, validity, self.shared.policy.windows(), self.shared.now())
    }

    /// Whether a stored response may answer now although it was selected before the handler was
    /// called: not if the key was invalidated since.
    fn may_still_serve_stale(&self, candidate: &Candidate, stored: &StoredResponse) -> bool {
        !candidate.fill.is_invalidated() && self.may_serve_stale(&candidate.key, stored)
    }

    fn stale(&self, stored: &Arc<StoredResponse>) -> CachedResponse {
        let compression = self.shared.policy.outer_compression();
        CachedResponse::stale(Arc::clone(stored), self.shared.now(), compression)
    }

    /// A stale response for a request that has waited too long for another one.
    pub(crate) fn stale_for_follower<B>(
        &self,
        request: &ServiceRequest,
        origin: &OriginRequest,
    ) -> Option<(HttpResponse<CacheBody<B>>, Outcome)> {
        let key = &origin.cache_request.key;
        let stored = origin.selected.as_ref().filter(|stored| self.may_serve_stale(key, stored))?;
        let stale = self.stale(stored);
        let outcome = Outcome::StaleIfError { reason: origin.reason, status: None };
        Some((stale.respond(request.method(), request.headers()), outcome))
    }

    /// A stale response in place of a handler's response with an error status. An error response
    /// that is meant to be stored stays.
    pub(crate) fn stale_for_failure<B: MessageBody>(
        &self,
        method: &Method,
        stored: &Arc<StoredResponse>,
        candidate: &Candidate,
        failed: &ServiceResponse<B>,
    ) -> Option<HttpResponse<CacheBody<B>>> {
        let now = self.shared.now();
        if !is_server_failure(failed.status())
            || !self.may_still_serve_stale(candidate, stored)
            || candidate.plan(failed, now).is_ok()
        {
            return None;
        }
        log::debug!("stale response instead of status {}", failed.status());
        let stale = self.stale(stored);
        Some(stale.respond(method, &candidate.request))
    }

    /// A stale response in place of a handler's response that takes too long.
    pub(crate) fn stale_for_timeout<B>(
        &self,
        method: &Method,
        stored: &Arc<StoredResponse>,
        candidate: &Candidate,
    ) -> Option<HttpResponse<CacheBody<B>>> {
        if !self.may_still_serve_stale(candidate, stored) {
            return None;
        }
        log::debug!("stale response instead of one that takes too long");
        let stale = self.stale(stored);
        Some(stale.respond(method, &candidate.request))
    }

    /// A stale response in place of an error of the handler, which took the request with it.
    pub(crate) fn stale_for_error<B>(
        &self,
        method: &Method,
        fallback: Option<(Arc<StoredResponse>, StandIn)>,
        candidate: &Candidate,
        reason: Forward,
        error: Error,
    ) -> Result<Reply<B>, Error> {
        let status: StatusCode = error.as_response_error().status_code();
        let fallback = fallback.filter(|(stored, _)| {
            is_server_failure(status) && self.may_still_serve_stale(candidate, stored)
        });
        let Some((stored, stand_in)) = fallback else { return Err(error) };
        let Some(request) = stand_in.into_request() else { return Err(error) };
        log::debug!("stale response instead of an error");
        log::trace!("{error}");
        let stale = self.stale(&stored);
        let response = stale.respond(method, &candidate.request);
        let outcome = Outcome::StaleIfError { reason, status: None };
        Ok(Reply::cached(request, response, outcome))
    }
}
