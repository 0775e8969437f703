//! The time for which a stale response may be served (RFC 9111 section 4.2.4, RFC 5861).

use std::time::Duration;

use actix_web::http::StatusCode;

use super::cache_control::{DirectiveScope, ResponseDirectives};
use crate::entry::lifetime::{Staleness, Validation};

/// The policy's windows: how long a stale response may be served that has no
/// `stale-while-revalidate` or `stale-if-error` of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Windows {
    /// The window of `stale-while-revalidate`.
    pub(crate) while_revalidate: Duration,
    /// The window of `stale-if-error`.
    pub(crate) if_error: Duration,
}

/// Returns when a response must be validated and how long it may be served stale, by its
/// directives.
pub(crate) fn response_staleness(directives: &ResponseDirectives) -> Staleness {
    let no_cache = directives.no_cache == DirectiveScope::Response;
    // Sections 5.2.2.2 and 5.2.2.8: `no-cache`, `must-revalidate` and `proxy-revalidate` forbid
    // stale responses without exception, so the windows in the response do not apply.
    let never_stale = no_cache || directives.must_revalidate || directives.proxy_revalidate;
    let validation = if no_cache {
        Validation::Always
    } else if never_stale || directives.s_maxage.is_some() {
        // Section 5.2.2.10: `s-maxage` implies `proxy-revalidate`. A window for stale responses in
        // the same response is an explicit exception.
        Validation::Strict
    } else {
        Validation::OnceStale
    };
    Staleness {
        validation,
        while_revalidate: directives.stale_while_revalidate.filter(|_| !never_stale),
        if_error: directives.stale_if_error.filter(|_| !never_stale),
    }
}

/// Returns whether the cache must stop serving stale responses of a resource once the handler has
/// answered with this status code: 401, 403, 404, 410 or 451.
///
/// By these codes, the origin withdraws the resource or restricts the access to it. If the handler
/// fails later, the cache must not serve a stale response of the resource again. Other client
/// errors, such as 400 or 429, say nothing about the resource.
pub(crate) fn withdraws_stale_responses(status: StatusCode) -> bool {
    matches!(status.as_u16(), 401 | 403 | 404 | 410 | 451)
}

/// Returns `staleness` without any permission to serve the response stale.
pub(crate) const fn never_stale(staleness: Staleness) -> Staleness {
    let validation = match staleness.validation {
        Validation::Always => Validation::Always,
        Validation::OnceStale | Validation::Strict => Validation::Strict,
    };
    let none = Some(Duration::ZERO);
    Staleness { validation, while_revalidate: none, if_error: none }
}

impl Windows {
    /// Returns how long a stale response may be served while the cache refreshes it.
    pub(crate) fn while_revalidate(&self, staleness: &Staleness) -> Duration {
        window(staleness.validation, staleness.while_revalidate, self.while_revalidate)
    }

    /// Returns how long a stale response may be served if the handler fails.
    pub(crate) fn if_error(&self, staleness: &Staleness) -> Duration {
        window(staleness.validation, staleness.if_error, self.if_error)
    }

    /// Returns the longer of the windows for `stale-while-revalidate` and `stale-if-error`.
    pub(crate) fn longest(&self, staleness: &Staleness) -> Duration {
        self.while_revalidate(staleness).max(self.if_error(staleness))
    }
}

/// Returns the window that applies to a stale response: the one that the response states, or else
/// the policy's.
///
/// `Validation::Strict` excludes the policy's window. `Validation::Always` excludes both windows.
fn window(validation: Validation, stated: Option<Duration>, by_policy: Duration) -> Duration {
    match validation {
        Validation::Always => Duration::ZERO,
        Validation::Strict => stated.unwrap_or_default(),
        Validation::OnceStale => stated.unwrap_or(by_policy),
    }
}

/// Returns whether the client's `max-stale` allows the cache to serve a response that has been
/// stale for `over` (section 5.2.1.2).
pub(crate) fn max_stale_allows(
    staleness: &Staleness,
    over: Duration,
    max_stale: Option<Duration>,
) -> bool {
    staleness.validation == Validation::OnceStale && max_stale.is_some_and(|most| over <= most)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderValue};

    use super::*;

    const POLICY: Windows =
        Windows { while_revalidate: Duration::from_secs(7), if_error: Duration::from_secs(8) };

    fn staleness_of(cache_control: &str) -> Staleness {
        let mut fields = HeaderMap::new();
        fields.insert(CACHE_CONTROL, HeaderValue::from_str(cache_control).unwrap());
        response_staleness(&ResponseDirectives::of(&fields))
    }

    #[test]
    fn windows_of_response_or_policy_apply_unless_validation_is_required() {
        for (cache_control, validation, while_revalidate, if_error, may_be_stale) in [
            ("max-age=1", Validation::OnceStale, 7, 8, true),
            (
                "max-age=1, stale-while-revalidate=3, stale-if-error=4",
                Validation::OnceStale,
                3,
                4,
                true,
            ),
            ("max-age=1, stale-while-revalidate=0", Validation::OnceStale, 0, 8, true),
            ("max-age=1, must-revalidate", Validation::Strict, 0, 0, false),
            ("max-age=1, proxy-revalidate", Validation::Strict, 0, 0, false),
            ("s-maxage=1", Validation::Strict, 0, 0, false),
            (
                "s-maxage=1, stale-while-revalidate=3, stale-if-error=4",
                Validation::Strict,
                3,
                4,
                false,
            ),
            (
                "must-revalidate, stale-while-revalidate=3, stale-if-error=4",
                Validation::Strict,
                0,
                0,
                false,
            ),
            ("proxy-revalidate, s-maxage=1, stale-if-error=4", Validation::Strict, 0, 0, false),
            ("no-cache, stale-if-error=4, max-age=9", Validation::Always, 0, 0, false),
            ("no-cache=\"a\", max-age=9", Validation::OnceStale, 7, 8, true),
        ] {
            let staleness = staleness_of(cache_control);
            assert_eq!(staleness.validation, validation, "{cache_control}");
            let (wr, ie) = (POLICY.while_revalidate(&staleness), POLICY.if_error(&staleness));
            assert_eq!(
                (wr.as_secs(), ie.as_secs()),
                (while_revalidate, if_error),
                "{cache_control}"
            );
            assert_eq!(POLICY.longest(&staleness), wr.max(ie));
            let over = Duration::from_secs(5);
            for (most, within) in [(None, false), (Some(4), false), (Some(5), true)] {
                let most = most.map(Duration::from_secs);
                let got = max_stale_allows(&staleness, over, most);
                assert_eq!(got, within && may_be_stale, "{cache_control} {most:?}");
            }
            assert_eq!(max_stale_allows(&staleness, over, Some(Duration::MAX)), may_be_stale);
        }
    }

    #[test]
    fn withdrawing_status_codes_end_stale_use() {
        for status in 100..600 {
            let want = [401, 403, 404, 410, 451].contains(&status);
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(withdraws_stale_responses(status), want, "{status}");
        }
    }

    #[test]
    fn response_that_is_never_stale_has_no_window_and_accepts_no_max_stale() {
        let long = Duration::from_secs(600);
        let windows = Windows { while_revalidate: long, if_error: long };
        for (validation, want) in [
            (Validation::OnceStale, Validation::Strict),
            (Validation::Strict, Validation::Strict),
            (Validation::Always, Validation::Always),
        ] {
            let before =
                Staleness { validation, while_revalidate: Some(long), if_error: Some(long) };
            let after = never_stale(before);
            assert_eq!(after.validation, want);
            assert_eq!(windows.while_revalidate(&after), Duration::ZERO);
            assert_eq!(windows.if_error(&after), Duration::ZERO);
            assert!(!max_stale_allows(&after, Duration::ZERO, Some(Duration::MAX)));
            assert_eq!(never_stale(after), after);
        }
    }
}
