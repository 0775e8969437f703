//! Completing responses: `Cache-Status`, the log and the observer learn the outcome of a request
//! here, once.

use actix_web::{
    HttpRequest, HttpResponse,
    dev::{RequestHead, ServiceResponse},
    http::{
        StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;

use super::context::{RequestContext, is_owned_by_inner_cache};
use crate::{
    fill::{store::FillReply, write::Write},
    outcome::{Forward, NotStored, Outcome, Stored},
    poll_once::with_context,
    response::{
        body::{CacheBody, pass_through},
        cached::field_value,
    },
    shared::{FieldOutput, Shared},
};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The response to a request, its outcome, and the write that follows.
pub(crate) struct Reply<B> {
    response: ServiceResponse<CacheBody<B>>,
    /// `None` where a cache further in reports the outcome.
    pub(crate) outcome: Option<Outcome>,
    write: Option<Write>,
}

impl<B> Reply<B> {
    /// A response that the cache made.
    pub(crate) fn cached(
        request: HttpRequest,
        response: HttpResponse<CacheBody<B>>,
        outcome: Outcome,
    ) -> Self {
        let response = ServiceResponse::new(request, response);
        Self { response, outcome: Some(outcome), write: None }
    }

    /// A response of the handler that may be stored.
    pub(crate) fn filled(reply: FillReply<B>, outcome: Outcome) -> Self {
        let FillReply { response, write, .. } = reply;
        Self { response, outcome: Some(outcome), write }
    }

    /// A response of the handler that is not stored.
    pub(crate) fn passed(
        response: ServiceResponse<B>,
        reason: Forward,
        not_stored: NotStored,
    ) -> Self {
        let outcome = Some(Outcome::Forward { reason, stored: Stored::No(not_stored) });
        Self { response: pass_through(response), outcome, write: None }
    }

    /// A response that a cache further in is responsible for.
    pub(crate) fn owned_by_inner_cache(response: ServiceResponse<B>) -> Self {
        Self { response: pass_through(response), outcome: None, write: None }
    }

    /// The reply with a write that follows.
    pub(crate) fn with_write(self, write: Option<Write>) -> Self {
        Self { write, ..self }
    }
}

/// The response where the client wants a stored response only, and there is none (RFC 9111 section
/// 5.2.1.7).
pub(crate) fn gateway_timeout<B>() -> HttpResponse<CacheBody<B>> {
    HttpResponse::with_body(StatusCode::GATEWAY_TIMEOUT, CacheBody::whole(Bytes::new()))
}

impl RequestContext {
    /// Completes a response that the cache made.
    pub(crate) fn complete_cached<B>(
        &self,
        request: HttpRequest,
        response: HttpResponse<CacheBody<B>>,
        outcome: Outcome,
    ) -> ServiceResponse<CacheBody<B>> {
        let mut response = ServiceResponse::new(request, response);
        self.report(&mut response, &outcome);
        response
    }

    /// Completes a response that passes the cache. `outcome` is `None` if the cache does not even
    /// report it.
    pub(crate) fn complete_passed<B>(
        &self,
        response: ServiceResponse<B>,
        outcome: Option<&Outcome>,
    ) -> ServiceResponse<CacheBody<B>> {
        let mut response = pass_through(response);
        if let Some(outcome) = outcome {
            self.report_unless_owned(&mut response, outcome);
        }
        response
    }

    /// Completes a reply, and starts the write that follows.
    pub(crate) async fn complete<B>(&self, reply: Reply<B>) -> ServiceResponse<CacheBody<B>> {
        let Reply { mut response, outcome, write } = reply;
        if let Some(outcome) = outcome {
            self.report_unless_owned(&mut response, &outcome);
        }
        if let Some(write) = write {
            // No store is waited for: one that answers at once has stored the response by then.
            with_context(|cx| write.start(cx)).await;
        }
        response
    }

    fn report_unless_owned<B>(&self, response: &mut ServiceResponse<B>, outcome: &Outcome) {
        if !is_owned_by_inner_cache(response) {
            self.report(response, outcome);
        }
    }

    fn report<B>(&self, response: &mut ServiceResponse<B>, outcome: &Outcome) {
        self.log(response.request().head(), outcome);
        write_status_fields(response.headers_mut(), outcome, &self.shared);
        self.claim(response);
    }

    fn log(&self, request: &RequestHead, outcome: &Outcome) {
        match outcome {
            Outcome::Hit { ttl, .. } => log::debug!("hit ttl={}", ttl.as_secs()),
            Outcome::Forward { reason: Forward::Bypass(bypass), .. } => {
                log::debug!("bypass {}", bypass.token());
            }
            Outcome::Forward { reason: Forward::Method, .. } => log::debug!("bypass method"),
            Outcome::Forward { reason, .. } => match outcome.detail() {
                Some(detail) => log::debug!("miss {} not stored: {detail}", reason.token()),
                None => log::debug!("miss {}", reason.token()),
            },
            Outcome::Collapsed { reason, .. } => log::debug!("hit collapsed {}", reason.token()),
            Outcome::StaleHit { over, .. } => log::debug!("hit stale={}", over.as_secs()),
            Outcome::Revalidated { reason, .. } => {
                log::debug!("hit revalidated {}", reason.token());
            }
            Outcome::StaleIfError { reason, .. } => {
                log::debug!("hit stale-if-error {}", reason.token());
            }
            Outcome::OnlyIfCached => log::debug!("miss only-if-cached"),
        }
        log::trace!("{} {}", request.method, request.uri.path());
        if let Some(observer) = &self.shared.settings.observer {
            observer(request, outcome);
        }
    }
}

/// Writes the outcome into the response, and removes the fields that are not for clients.
fn write_status_fields(fields: &mut HeaderMap, outcome: &Outcome, shared: &Shared) {
    for name in shared.policy.removed_downstream() {
        fields.remove(name);
    }
    let settings = &shared.settings;
    if settings.x_cache == FieldOutput::Written {
        if outcome.is_hit() {
            fields.insert(X_CACHE, HeaderValue::from_static("hit"));
        } else if outcome.is_stored() {
            fields.insert(X_CACHE, HeaderValue::from_static("miss"));
        }
    }
    if settings.cache_status == FieldOutput::Written {
        // RFC 9211 section 2: after the members of caches closer to the origin.
        if let Some(value) = field_value(format_args!("actix-web-cache; {outcome}")) {
            fields.append(CACHE_STATUS, value);
        }
    }
}
