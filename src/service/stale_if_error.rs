//! Something stale where the handler fails or takes too long (RFC 5861 section 4).

use std::sync::Arc;

use actix_web::{
    Error, HttpResponse,
    body::MessageBody,
    dev::ServiceResponse,
    http::{Method, StatusCode, header::HeaderMap},
};

use crate::{
    clock::Timestamp,
    entry::response::StoredResponse,
    entry::validity::Validity,
    fill::Candidate,
    outcome::{Forward, Outcome},
    response::body::CacheBody,
    response::cached::answer,
    semantics::reuse::may_serve_stale_on_error,
    service::RequestContext,
    service::origin::Reply,
    service::stand_in::StandIn,
};

/// Status codes by which a handler says that it failed, rather than that the request did.
fn has_failed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

impl RequestContext {
    /// Whether a stored answer may stand in for a handler's with this status. Not one that was
    /// purged since it was looked up.
    fn may_rescue(
        &self,
        stored: &StoredResponse,
        candidate: &Candidate,
        status: StatusCode,
    ) -> bool {
        let now = self.shared.settings.clock.now();
        let validity = self.shared.store.coordinator().validity(&candidate.key, stored);
        has_failed(status)
            && may_serve_stale_on_error(
                stored,
                validity.expired_since(),
                self.shared.checked.windows(),
                now,
            )
            && !candidate.fill.is_invalidated()
            && validity != Validity::Purged
    }

    /// In place of a handler's failure; not where that is itself meant to be stored.
    pub(crate) fn instead_of<B: MessageBody>(
        &self,
        method: &Method,
        stored: &StoredResponse,
        candidate: &Candidate,
        failed: &ServiceResponse<B>,
    ) -> Option<HttpResponse<CacheBody<B>>> {
        let now = self.shared.settings.clock.now();
        if !self.may_rescue(stored, candidate, failed.status())
            || candidate.plan(failed, now).is_ok()
        {
            return None;
        }
        log::debug!("stale instead of {}", failed.status());
        Some(stale(method, &candidate.request, stored, now))
    }

    /// In place of an answer that does not come.
    pub(crate) fn rescued_late<B>(
        &self,
        method: &Method,
        candidate: &Candidate,
        stored: &StoredResponse,
    ) -> Option<HttpResponse<CacheBody<B>>> {
        let now = self.shared.settings.clock.now();
        let may = self.may_rescue(stored, candidate, StatusCode::GATEWAY_TIMEOUT);
        may.then(|| {
            log::debug!("stale instead of an answer that takes too long");
            stale(method, &candidate.request, stored, now)
        })
    }

    /// In place of an error, which took the request with it.
    pub(crate) fn instead_of_error<B>(
        &self,
        method: &Method,
        rescue: Option<(Arc<StoredResponse>, StandIn)>,
        candidate: &Candidate,
        reason: Forward,
        error: Error,
    ) -> Result<Reply<B>, Error> {
        let now = self.shared.settings.clock.now();
        let status = error.as_response_error().status_code();
        let rescue = rescue.filter(|(stored, _)| self.may_rescue(stored, candidate, status));
        let Some((stored, mirror)) = rescue else { return Err(error) };
        log::debug!("stale instead of an error");
        log::trace!("{error}");
        let response = stale(method, &candidate.request, &stored, now);
        let outcome = Outcome::StaleIfError { reason, status: None };
        Ok(Reply::new(mirror.into_request(), response, outcome))
    }
}

pub(crate) fn stale<B>(
    method: &Method,
    request: &HeaderMap,
    stored: &StoredResponse,
    now: Timestamp,
) -> HttpResponse<CacheBody<B>> {
    let lifetime = stored.lifetime();
    let left = lifetime.remaining(now).unwrap_or_default();
    answer(method, request, stored, lifetime.age(now), left, now)
}
