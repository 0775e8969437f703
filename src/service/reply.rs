//! Completes responses: reports the outcome of each request once, in `Cache-Status`, in the log and
//! to the observer.

use actix_web::{
    HttpRequest, HttpResponse,
    body::MessageBody,
    dev::{RequestHead, ServiceResponse},
    http::{
        StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;

use super::context::{RequestContext, is_owned_by_inner_cache};
use crate::{
    coordination::inner_caches::InnerCacheMark,
    fill::{
        begin::FillReply,
        write::{StoreWork, Write},
    },
    outcome::{Bypass, Forward, NotStored, Outcome, Stored, written_seconds},
    response::{
        body::{CacheBody, pass_through},
        cached::field_value,
        numbers::hit_status_value,
        streamed_coding::CodingDecision,
    },
    semantics::streamed_coding::VaryOrigin,
    shared::FieldOutput,
};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The response to a request, the outcome of the request, and the work that stores the response.
pub(crate) struct Reply<B> {
    response: ServiceResponse<CacheBody<B>>,
    /// `None` if an inner cache (nested inside this cache) reports the outcome.
    pub(crate) outcome: Option<Outcome>,
    work: Option<StoreWork>,
    coding: CodingDecision,
}

impl<B> Reply<B> {
    /// Makes a reply from a response that the cache made.
    pub(crate) fn cached(
        request: HttpRequest,
        response: HttpResponse<CacheBody<B>>,
        outcome: Outcome,
    ) -> Self {
        let response = ServiceResponse::new(request, response);
        Self { response, outcome: Some(outcome), work: None, coding: CodingDecision::Made }
    }

    /// Makes a reply from a response of the handler that may be stored.
    pub(crate) fn filled(reply: FillReply<B>, outcome: Outcome) -> Self {
        let FillReply { response, work, coding, .. } = reply;
        Self { response, outcome: Some(outcome), work, coding }
    }

    /// Makes a reply from a response of the handler that is not stored.
    pub(crate) fn passed(
        response: ServiceResponse<B>,
        reason: Forward,
        not_stored: NotStored,
    ) -> Self {
        let outcome = Some(Outcome::Forward { reason, stored: Stored::No(not_stored) });
        let coding = CodingDecision::Due(VaryOrigin::Handler);
        Self { response: pass_through(response), outcome, work: None, coding }
    }

    /// Makes a reply from a response whose outcome an inner cache reports.
    pub(crate) fn owned_by_inner_cache(response: ServiceResponse<B>) -> Self {
        let coding = CodingDecision::Made;
        Self { response: pass_through(response), outcome: None, work: None, coding }
    }

    /// Takes the body from a reply to a HEAD request, and keeps its size. Returns the body if the cache
    /// is still receiving it in order to store it.
    pub(crate) fn without_body(self) -> (Self, Option<CacheBody<B>>)
    where
        B: MessageBody,
    {
        let mut taken = None;
        let response = self.response.map_body(|_, body| {
            let for_head = body.for_head();
            taken = Some(body).filter(CacheBody::is_in_progress);
            for_head
        });
        (Self { response, ..self }, taken)
    }

    /// Codes a response of the handler while it is sent to the client, if that is not decided yet.
    pub(crate) fn coded_while_sending(self, context: &RequestContext) -> Self
    where
        B: MessageBody,
    {
        match self.coding {
            CodingDecision::Due(vary) if !is_owned_by_inner_cache(&self.response) => {
                Self { response: context.code_while_sending(self.response, vary), ..self }
            }
            CodingDecision::Due(_) | CodingDecision::Made => self,
        }
    }

    /// Sets the write that stores a response after the outcome is reported.
    pub(crate) fn with_write(self, write: Option<Write>) -> Self {
        let due = |write: &Write| CodingDecision::Due(write.candidate.coding.vary_origin());
        let coding = write.as_ref().map_or(self.coding, due);
        Self { work: write.map(StoreWork::Write), coding, ..self }
    }
}

/// The report about a request that the cache passes on without a lookup, and whose response it does
/// not store.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PassReport {
    /// The cache is off and reports nothing.
    Nothing,
    /// The reason why the cache passed the request on.
    Reason(Forward),
    /// The cache expects that an inner cache (nested inside this cache) reports the outcome, because
    /// an inner cache has handled the latest requests for the cache key.
    ExpectsInnerCache(InnerCacheMark),
}

/// Makes the 504 response for a client that accepts only a stored response (`only-if-cached`) if no
/// stored response may answer (RFC 9111 section 5.2.1.7).
pub(crate) fn gateway_timeout<B>() -> HttpResponse<CacheBody<B>> {
    HttpResponse::with_body(StatusCode::GATEWAY_TIMEOUT, CacheBody::whole(Bytes::new()))
}

impl RequestContext {
    /// Completes a response that the cache made, and reports its outcome.
    #[inline]
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

    /// Completes a response of the handler that the cache does not store, and reports its outcome
    /// unless an inner cache does.
    pub(crate) fn complete_passed<B: MessageBody>(
        &self,
        response: ServiceResponse<B>,
        report: PassReport,
    ) -> ServiceResponse<CacheBody<B>> {
        let response = pass_through(response);
        if is_owned_by_inner_cache(&response) {
            return response;
        }
        let stored = Stored::No(NotStored::NotAttempted);
        let reason = match report {
            PassReport::Nothing => return response,
            PassReport::Reason(reason) => reason,
            PassReport::ExpectsInnerCache(mark) => {
                self.shared.store.coordinator().end_inner_cache(mark, self.shared.now());
                Forward::Bypass(Bypass::NoInnerCache)
            }
        };
        let mut response = self.code_while_sending(response, VaryOrigin::Handler);
        self.report(&mut response, &Outcome::Forward { reason, stored });
        response
    }

    /// Completes the reply to a request of a client that the cache could not answer at once. Codes the
    /// response while it is sent, if the policy says so.
    pub(crate) fn complete_fetched<B: MessageBody>(
        &self,
        reply: Reply<B>,
    ) -> ServiceResponse<CacheBody<B>> {
        if self.policy().compression().is_some() {
            self.complete(reply.coded_while_sending(self))
        } else {
            self.complete(reply)
        }
    }

    /// Reports the outcome of a reply, and starts the work that stores its response.
    pub(crate) fn complete<B>(&self, reply: Reply<B>) -> ServiceResponse<CacheBody<B>> {
        let Reply { mut response, outcome, work, .. } = reply;
        if let Some(outcome) = outcome {
            self.report_unless_owned(&mut response, &outcome);
        }
        if let Some(work) = work {
            // The client does not wait for the store. A store that answers at once has stored the
            // response when `start` returns.
            work.start();
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
        write_status_fields(response.headers_mut(), outcome, self);
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

/// Writes the outcome into `Cache-Status` and `X-Cache`, and removes the response fields that the
/// policy hides from clients.
fn write_status_fields(fields: &mut HeaderMap, outcome: &Outcome, context: &RequestContext) {
    for name in context.policy().removed_downstream() {
        fields.remove(name);
    }
    let settings = &context.shared.settings;
    if settings.x_cache == FieldOutput::Written
        && let Some(result) = x_cache(outcome)
    {
        fields.insert(X_CACHE, HeaderValue::from_static(result));
    }
    if settings.cache_status == FieldOutput::Written {
        // RFC 9211 section 2: the member of this cache follows the members of caches closer to the
        // origin.
        if let Some(value) = cache_status(outcome) {
            fields.append(CACHE_STATUS, value);
        }
    }
}

/// Returns the value of `X-Cache`: whether the handler made the response for this request. `None` if
/// the response is not stored.
fn x_cache(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Hit { .. }
        | Outcome::StaleHit { .. }
        | Outcome::Collapsed { .. }
        | Outcome::StaleIfError { .. } => Some("hit"),
        Outcome::Forward { .. } | Outcome::Revalidated { .. } | Outcome::OnlyIfCached => {
            outcome.is_stored().then_some("miss")
        }
    }
}

/// Returns the member of this cache in `Cache-Status` (RFC 9211 section 2). The most usual members are
/// constants. Others are joined from their parts, which is faster than to format them.
fn cache_status(outcome: &Outcome) -> Option<HeaderValue> {
    let join = |parts: &[&str]| HeaderValue::try_from(parts.concat()).ok();
    match outcome {
        Outcome::Hit { ttl, .. } => hit_status_value(written_seconds(*ttl)),
        Outcome::Forward { reason: Forward::Bypass(Bypass::Rule), stored: Stored::No(_) } => {
            Some(HeaderValue::from_static("actix-web-cache; fwd=bypass; detail=rule"))
        }
        Outcome::Forward { reason: Forward::UriMiss, stored: Stored::Yes }
            if outcome.detail().is_none() =>
        {
            Some(HeaderValue::from_static("actix-web-cache; fwd=uri-miss; stored"))
        }
        Outcome::Forward { reason: Forward::Bypass(bypass), stored: Stored::No(_) } => {
            join(&["actix-web-cache; fwd=bypass; detail=", bypass.token()])
        }
        Outcome::Forward { reason, stored: Stored::Yes } if outcome.detail().is_none() => {
            join(&["actix-web-cache; fwd=", reason.token(), "; stored"])
        }
        _ => field_value(format_args!("actix-web-cache; {outcome}")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn x_cache_says_whether_the_handler_made_the_response() {
        let (reason, second) = (Forward::Stale, Duration::from_secs(1));
        let forward = |stored| Outcome::Forward { reason, stored };
        let not = Stored::No(NotStored::Private);
        for (outcome, want) in [
            (Outcome::hit(second, second), Some("hit")),
            (Outcome::StaleHit { age: second, over: second }, Some("hit")),
            (Outcome::Collapsed { reason, age: second }, Some("hit")),
            (Outcome::StaleIfError { reason, status: None }, Some("hit")),
            (forward(Stored::Yes), Some("miss")),
            (forward(not), None),
            (Outcome::Revalidated { reason, stored: Stored::Yes }, Some("miss")),
            (Outcome::Revalidated { reason, stored: not }, None),
            (Outcome::OnlyIfCached, None),
        ] {
            assert_eq!(x_cache(&outcome), want, "{outcome}");
        }
    }

    #[test]
    fn cache_status_equals_the_formatted_outcome() {
        let hit = |ttl| Outcome::hit(Duration::ZERO, Duration::from_secs(ttl));
        let forward = |reason, stored| Outcome::Forward { reason, stored };
        let not = Stored::No;
        let outcomes = [0, 1, 59, 86_400, 1 << 31, u64::MAX].map(hit).into_iter().chain([
            forward(Forward::Bypass(Bypass::Rule), not(NotStored::NotAttempted)),
            forward(Forward::Bypass(Bypass::Host), not(NotStored::Head)),
            forward(Forward::Bypass(Bypass::Rule), Stored::Yes),
            forward(Forward::UriMiss, Stored::Yes),
            forward(Forward::Stale, Stored::Yes),
            forward(Forward::UriMiss, not(NotStored::Private)),
            forward(Forward::Method, not(NotStored::NotAttempted)),
            Outcome::OnlyIfCached,
        ]);
        for outcome in outcomes {
            let want = format!("actix-web-cache; {outcome}");
            assert_eq!(cache_status(&outcome).unwrap(), want);
        }
    }
}
