//! Decides whether a stale response answers a request if the handler fails or takes too long
//! (`stale-if-error`, RFC 5861 section 4).

use actix_web::{Error, HttpResponse, body::MessageBody, dev::ServiceRequest, http::StatusCode};

use super::{
    context::{OriginRequest, RequestContext},
    reply::Reply,
    stand_in::StandIn,
};
use crate::{
    entry::{key::CacheKey, response::StoredResponse},
    fill::candidate::Candidate,
    outcome::{Forward, Outcome},
    response::{
        body::CacheBody,
        cached::{CachedResponse, ClientTerms, SelectedResponse},
    },
    semantics::reuse::{is_server_failure, may_serve_stale_on_error},
};

impl RequestContext {
    /// Returns whether a stored response may answer now if the handler fails.
    pub(crate) fn may_serve_stale(&self, key: &CacheKey, stored: &StoredResponse) -> bool {
        let validity = self.shared.store.coordinator().validity(key, stored);
        may_serve_stale_on_error(stored, validity, self.policy().windows(), self.shared.now())
    }

    /// Returns whether a stored response that was selected before the handler was called may still
    /// answer. The response may not answer if its key was invalidated since then.
    fn may_still_serve_stale(&self, candidate: &Candidate, stored: &StoredResponse) -> bool {
        !candidate.fill.is_invalidated() && self.may_serve_stale(&candidate.key, stored)
    }

    /// Makes a stale answer from a stored response.
    pub(super) fn stale(&self, selected: SelectedResponse) -> CachedResponse {
        CachedResponse::stale(selected, self.shared.now(), ClientTerms::of(self.policy()))
    }

    /// Returns a stale response for a request that has waited too long for another request or
    /// another process, or `None` if no stale response may answer.
    pub(crate) fn stale_for_follower<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        origin: &OriginRequest,
    ) -> Option<(HttpResponse<CacheBody<B>>, Outcome)> {
        let key = &origin.cache_request.key;
        let selected = origin.selected.as_ref();
        let selected = selected.filter(|selected| self.may_serve_stale(key, &selected.stored))?;
        let stale = self.stale(selected.clone());
        let outcome = Outcome::StaleIfError { reason: origin.reason, status: None };
        Some((stale.respond(request.method(), request.headers()), outcome))
    }

    /// Returns a stale response in place of a response of the handler that is an error. `failed` is
    /// the status code of the error. Returns `None` if the stale response may not answer.
    pub(crate) fn stale_for_failure<B: MessageBody>(
        &self,
        selected: &SelectedResponse,
        candidate: &Candidate,
        failed: StatusCode,
    ) -> Option<HttpResponse<CacheBody<B>>> {
        if !self.may_still_serve_stale(candidate, &selected.stored) {
            return None;
        }
        log::debug!("stale response instead of status {failed}");
        let stale = self.stale(selected.clone());
        Some(stale.respond(&candidate.method, &candidate.request.to_map()))
    }

    /// Returns a stale response in place of a response of the handler that takes too long, or
    /// `None` if the stale response may not answer.
    pub(crate) fn stale_for_timeout<B: MessageBody>(
        &self,
        selected: &SelectedResponse,
        candidate: &Candidate,
    ) -> Option<HttpResponse<CacheBody<B>>> {
        if !self.may_still_serve_stale(candidate, &selected.stored) {
            return None;
        }
        log::debug!("stale response instead of one that takes too long");
        let stale = self.stale(selected.clone());
        Some(stale.respond(&candidate.method, &candidate.request.to_map()))
    }

    /// Returns a stale response in place of an error of the handler or of an inner middleware.
    /// Returns the error if the stale response may not answer. The original request was dropped
    /// with the error, so the reply is made for its copy in `fallback`.
    pub(crate) fn stale_for_error<B: MessageBody>(
        &self,
        fallback: Option<(SelectedResponse, Box<StandIn>)>,
        candidate: &Candidate,
        reason: Forward,
        error: Error,
    ) -> Result<Reply<B>, Error> {
        let status: StatusCode = error.as_response_error().status_code();
        let fallback = fallback.filter(|(selected, _)| {
            is_server_failure(status) && self.may_still_serve_stale(candidate, &selected.stored)
        });
        let Some((selected, stand_in)) = fallback else { return Err(error) };
        let Some(request) = stand_in.into_request() else { return Err(error) };
        log::debug!("stale response instead of an error");
        log::trace!("{error}");
        let stale = self.stale(selected);
        let response = stale.respond(&candidate.method, &candidate.request.to_map());
        let outcome = Outcome::StaleIfError { reason, status: None };
        Ok(Reply::cached(request, response, outcome))
    }
}
