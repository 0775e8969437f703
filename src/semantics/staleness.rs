//! When a response that is no longer fresh may still be used (section 4.2.4, RFC 5861).

use std::time::Duration;

use super::cache_control::{Extent, ResponseDirectives};
use crate::entry::lifetime::{Staleness, Validation};

/// What a policy allows where a response says nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Windows {
    /// As `stale-while-revalidate`.
    pub(crate) while_revalidate: Duration,
    /// As `stale-if-error`.
    pub(crate) if_error: Duration,
}

/// What a response says of its use when stale.
pub(crate) fn stated(directives: &ResponseDirectives) -> Staleness {
    let always = directives.no_cache == Extent::Whole;
    // Sections 5.2.2.2 and 5.2.2.8: a MUST, which no window opens.
    let must = always || directives.must_revalidate || directives.proxy_revalidate;
    let validation = if always {
        Validation::Always
    } else if must || directives.s_maxage.is_some() {
        // Section 5.2.2.10: `s-maxage` implies `proxy-revalidate`, unless a window says otherwise.
        Validation::Strict
    } else {
        Validation::OnceStale
    };
    Staleness {
        validation,
        while_revalidate: directives.stale_while_revalidate.filter(|_| !must),
        if_error: directives.stale_if_error.filter(|_| !must),
    }
}

impl Windows {
    /// How long a response may answer while it is being refreshed.
    pub(crate) fn while_revalidate(&self, staleness: &Staleness) -> Duration {
        window(staleness.validation, staleness.while_revalidate, self.while_revalidate)
    }

    /// How long a response may answer where the handler fails.
    pub(crate) fn if_error(&self, staleness: &Staleness) -> Duration {
        window(staleness.validation, staleness.if_error, self.if_error)
    }

    /// The longer of both.
    pub(crate) fn longest(&self, staleness: &Staleness) -> Duration {
        self.while_revalidate(staleness).max(self.if_error(staleness))
    }
}

fn window(validation: Validation, stated: Option<Duration>, allowed: Duration) -> Duration {
    match validation {
        Validation::Always => Duration::ZERO,
        Validation::Strict => stated.unwrap_or_default(),
        Validation::OnceStale => stated.unwrap_or(allowed),
    }
}

/// Whether a client that takes stale responses (`max-stale`, section 5.2.1.2) may have this one.
pub(crate) fn suits_client(
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

    fn of(cache_control: &str) -> Staleness {
        let mut fields = HeaderMap::new();
        fields.insert(CACHE_CONTROL, HeaderValue::from_str(cache_control).unwrap());
        stated(&ResponseDirectives::of(&fields))
    }

    #[test]
    fn windows_are_the_responses_or_the_policys_unless_validation_is_a_must() {
        for (cache_control, validation, while_revalidate, if_error, for_clients) in [
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
            let staleness = of(cache_control);
            assert_eq!(staleness.validation, validation, "{cache_control}");
            let (wr, ie) = (POLICY.while_revalidate(&staleness), POLICY.if_error(&staleness));
            assert_eq!(
                (wr.as_secs(), ie.as_secs()),
                (while_revalidate, if_error),
                "{cache_control}"
            );
            assert_eq!(POLICY.longest(&staleness), wr.max(ie));
            let over = Duration::from_secs(5);
            for (most, suits) in [(None, false), (Some(4), false), (Some(5), true)] {
                let most = most.map(Duration::from_secs);
                let got = suits_client(&staleness, over, most);
                assert_eq!(got, suits && for_clients, "{cache_control} {most:?}");
            }
            assert_eq!(suits_client(&staleness, over, Some(Duration::MAX)), for_clients);
        }
    }
}
