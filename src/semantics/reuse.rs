//! Decides whether a stored response may answer a request (RFC 9111 section 4).

use std::{sync::Arc, time::Duration};

use actix_web::http::{StatusCode, header::COOKIE};

use super::{
    cache_control::RequestDirectives,
    requester::Requester,
    staleness::{Windows, max_stale_allows},
};
use crate::{
    clock::Timestamp,
    entry::{
        lifetime::{LifetimeSource, Validation},
        response::StoredResponse,
        selector::Selector,
        validity::Validity,
        variants::Variants,
    },
};

/// The properties of a request that decide whether a stored response may answer it.
#[derive(Debug)]
pub(crate) struct ReuseRequest {
    /// The credentials that the request carries.
    pub(crate) requester: Requester,
    /// The request's directives; `None` if the policy ignores them.
    pub(crate) directives: Option<RequestDirectives>,
    /// The policy's time windows for stale responses that state no `stale-while-revalidate` or
    /// `stale-if-error`.
    pub(crate) windows: Windows,
}

/// Whether and how a stored response answers a request.
#[derive(Debug, Clone)]
pub(crate) enum Reuse {
    /// The response is fresh and answers the request.
    Fresh { stored: Arc<StoredResponse>, age: Duration, ttl: Duration },
    /// The response has been stale for `over`, and may still answer the request.
    Stale { stored: Arc<StoredResponse>, age: Duration, over: Duration, refresh: BackgroundRefresh },
    /// The response may answer the request after the handler has validated it.
    Validate { stored: Arc<StoredResponse>, because: ValidationReason },
    /// No response is stored.
    Absent,
    /// Responses are stored, but the request's selecting fields match none of them.
    OtherVariant,
    /// The selected response must not be served to a client with the credentials of this request.
    NotForRequester,
}

impl Reuse {
    /// Returns the selected response.
    pub(crate) const fn selected(&self) -> Option<&Arc<StoredResponse>> {
        match self {
            Self::Fresh { stored, .. }
            | Self::Stale { stored, .. }
            | Self::Validate { stored, .. } => Some(stored),
            Self::Absent | Self::OtherVariant | Self::NotForRequester => None,
        }
    }
}

/// Whether a response should be refreshed in the background after it was served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BackgroundRefresh {
    /// The response is in its `stale-while-revalidate` window, or about to become stale.
    Due,
    /// The response is fresh, or the client accepts stale responses (`max-stale`).
    NotDue,
}

/// The reason why the handler must validate a stored response before this response answers the
/// request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValidationReason {
    /// The response is stale, or has `no-cache`.
    Stale,
    /// The request's directives demand a validated or a fresher response.
    Client,
}

/// Selects the stored response for a request among the variants of its resource, and decides
/// whether this response may answer the request.
///
/// `validity` returns whether an invalidation purged or expired (soft purge) a stored response.
/// `lifetime_under_policy` returns the freshness lifetime that the current policy gives a stored
/// response, or `None` if the current policy would not store the response. The shorter of this
/// lifetime and the stored one applies, because a process with another policy may have stored the
/// response.
pub(crate) fn select_response(
    variants: Option<&Variants>,
    selector: &Selector<'_>,
    validity: impl Fn(&StoredResponse) -> Validity,
    lifetime_under_policy: impl Fn(&StoredResponse) -> Option<Duration>,
    request: &ReuseRequest,
    now: Timestamp,
) -> Reuse {
    let Some(variants) = variants else { return Reuse::Absent };
    let mut any_valid = false;
    // Section 4.1: the most recent of several matching responses is used. The variants are sorted
    // with the most recent one first.
    for stored in variants.responses() {
        let validity = validity(stored);
        if validity == Validity::Purged {
            continue;
        }
        any_valid = true;
        if selector.selects(stored) {
            let lifetime_limit = lifetime_under_policy(stored).unwrap_or_default();
            return judge(stored, validity.expired_since(), lifetime_limit, request, now);
        }
    }
    if any_valid { Reuse::OtherVariant } else { Reuse::Absent }
}

/// Returns whether a stored response may be served to a client with these credentials. Freshness is
/// not considered.
///
/// A response without explicit freshness answers only anonymous requests (requests without
/// credentials), unless its handler permits sharing by `public` or `s-maxage`. If `Cookie` is
/// a selecting field of the response (a field that `Vary` names), cookies do not count as
/// credentials, because only requests with equal cookies select this response.
pub(crate) fn is_allowed_for(stored: &StoredResponse, requester: Requester) -> bool {
    let selected_by_cookie = stored.selecting.iter().any(|(name, _)| *name == COOKIE);
    let has_cookies = requester.has_cookies && !selected_by_cookie;
    let requester = Requester { has_cookies, ..requester };
    stored.lifetime.source == LifetimeSource::Explicit
        || stored.permits_sharing
        || requester.is_anonymous()
}

/// Returns whether a stored response is never fresh: each request must validate the response
/// (`no-cache`), or the response was already stale when the cache received it from the handler.
/// `lifetime_limit` is the freshness lifetime under the current policy.
///
/// Requests for such a response do not wait until another request has validated it: the validated
/// response is stale again at once, so each further request must validate it itself.
pub(crate) fn is_never_fresh(stored: &StoredResponse, lifetime_limit: Duration) -> bool {
    let lifetime = &stored.lifetime;
    lifetime.staleness.validation == Validation::Always
        || lifetime.initial_age >= lifetime.freshness.min(lifetime_limit)
}

/// Returns whether a response that is never fresh may answer a request that waited for it.
///
/// The request must have arrived (at `arrived`) before the response was received from the handler.
/// The request could then have caused the response itself (section 4). A response with `no-cache`,
/// `must-revalidate`, `proxy-revalidate` or `s-maxage` answers no waiting request, because these
/// directives forbid stale responses.
pub(crate) fn may_answer_waiting_request(
    stored: &StoredResponse,
    validity: Validity,
    arrived: Timestamp,
) -> bool {
    validity == Validity::Valid
        && stored.lifetime.staleness.validation == Validation::OnceStale
        && arrived.since(stored.lifetime.response_time).is_zero()
}

/// Decides whether a selected response may answer a request.
///
/// `expired_since` is the time of the soft purge that expired the response, if any.
fn judge(
    stored: &Arc<StoredResponse>,
    expired_since: Option<Timestamp>,
    lifetime_limit: Duration,
    request: &ReuseRequest,
    now: Timestamp,
) -> Reuse {
    if !is_allowed_for(stored, request.requester) {
        return Reuse::NotForRequester;
    }
    let lifetime = &stored.lifetime;
    let age = lifetime.age(now);
    let freshness = lifetime.freshness.min(lifetime_limit);
    let freshness = expired_since.map_or(freshness, |since| freshness.min(lifetime.age(since)));
    let validate = |because| Reuse::Validate { stored: Arc::clone(stored), because };
    // Section 5.2.2.4: a response with `no-cache` is validated before each reuse.
    if lifetime.staleness.validation == Validation::Always {
        return validate(ValidationReason::Stale);
    }
    let directives = request.directives.unwrap_or_default();
    // Sections 5.2.1.4 and 5.2.1.1: `no-cache` and `max-age` in the request.
    if directives.no_cache || directives.max_age.is_some_and(|limit| age > limit) {
        return validate(ValidationReason::Client);
    }
    match freshness.checked_sub(age).filter(|left| !left.is_zero()) {
        // Section 5.2.1.3: `min-fresh` in the request.
        Some(ttl) if directives.min_fresh.is_some_and(|least| ttl < least) => {
            validate(ValidationReason::Client)
        }
        Some(ttl) => Reuse::Fresh { stored: Arc::clone(stored), age, ttl },
        None => {
            let over = age.saturating_sub(freshness);
            stale_reuse(stored, over, directives, request.windows).map_or_else(
                || validate(ValidationReason::Stale),
                |refresh| Reuse::Stale { stored: Arc::clone(stored), age, over, refresh },
            )
        }
    }
}

/// Returns whether the cache should refresh a stale response after it served the response; `None`
/// if the cache must not serve the stale response (section 4.2.4). `over` is the time for which the
/// response has been stale.
fn stale_reuse(
    stored: &StoredResponse,
    over: Duration,
    directives: RequestDirectives,
    windows: Windows,
) -> Option<BackgroundRefresh> {
    let staleness = &stored.lifetime.staleness;
    // Section 5.2.1.3: a client that sends `min-fresh` does not want a stale response.
    if directives.min_fresh.is_some() {
        return None;
    }
    // RFC 5861 section 3: `stale-while-revalidate`.
    if over < windows.while_revalidate(staleness) {
        return Some(BackgroundRefresh::Due);
    }
    // Section 5.2.1.2: `max-stale` in the request.
    max_stale_allows(staleness, over, directives.max_stale).then_some(BackgroundRefresh::NotDue)
}

/// Returns whether a stored response may be served in place of an error of the handler (section
/// 4.2.4, RFC 5861 section 4).
///
/// `validity` says whether an invalidation purged or expired (soft purge) the response. `windows`
/// are the policy's windows, for responses without `stale-if-error`.
pub(crate) fn may_serve_stale_on_error(
    stored: &StoredResponse,
    validity: Validity,
    windows: Windows,
    now: Timestamp,
) -> bool {
    let lifetime = &stored.lifetime;
    let over = match validity {
        Validity::Purged => return false,
        Validity::Valid => lifetime.stale_for(now),
        Validity::ExpiredSince(since) => {
            lifetime.stale_for(now).max(lifetime.age(now).saturating_sub(lifetime.age(since)))
        }
    };
    over < windows.if_error(&lifetime.staleness)
}

/// Returns whether a status code means that the handler failed: 500, 502, 503 or 504 (RFC 5861
/// section 4).
pub(crate) fn is_server_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

#[cfg(test)]
mod tests;
