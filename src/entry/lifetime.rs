//! The freshness lifetime of a stored response, and the rules for its reuse. The cache computes
//! both once, when it stores the response.

use std::time::Duration;

use crate::clock::Timestamp;

/// The source of the freshness lifetime of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LifetimeSource {
    /// `Cache-Control`, `Expires` or a targeted field (such as `CDN-Cache-Control`) of the response
    /// states the lifetime (RFC 9111 section 4.2.1, RFC 9213).
    Explicit,
    /// A middleware such as [`SetCacheControl`](crate::SetCacheControl) added the lifetime to the
    /// fields of the response. The handler stated none.
    Middleware,
    /// The cache computed the lifetime from `Last-Modified` of the response (RFC 9111 section
    /// 4.2.2).
    Heuristic,
    /// The handler or its route set the lifetime by [`ResponseOptions`](crate::ResponseOptions),
    /// not in a header field.
    Handler,
    /// The policy set the lifetime, because the response states none or because the policy overrides
    /// the stated lifetime.
    Policy,
}

impl LifetimeSource {
    /// Returns whether clients can compute the lifetime from the header fields of the response.
    pub(crate) const fn is_stated(self) -> bool {
        matches!(self, Self::Explicit | Self::Middleware | Self::Heuristic)
    }
}

/// How long a response may be reused (RFC 9111 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lifetime {
    /// `response_time` of RFC 9111 section 4.2.3: the time at which the cache received the status
    /// line and the header fields from the handler.
    pub response_time: Timestamp,
    /// `corrected_initial_age` of RFC 9111 section 4.2.3.
    pub initial_age: Duration,
    /// `freshness_lifetime` of RFC 9111 section 4.2.1, at most 2^31 seconds (68 years).
    pub freshness: Duration,
    /// The source of the freshness lifetime.
    pub source: LifetimeSource,
    /// The directives of the response about its validation, and about its reuse once it is stale.
    pub staleness: Staleness,
    /// How long the store keeps the response after its freshness lifetime has ended. During this
    /// time the cache can validate the response, or serve it stale.
    pub retention: Duration,
}

/// The directives of a response about its validation, and about its reuse once it is stale (RFC
/// 9111 sections 4.2.4 and 5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Staleness {
    /// When the cache must validate the response before it reuses the response.
    pub validation: Validation,
    /// The response's `stale-while-revalidate` (RFC 5861 section 3).
    pub while_revalidate: Option<Duration>,
    /// The response's `stale-if-error` (RFC 5861 section 4).
    pub if_error: Option<Duration>,
}

/// When the cache must validate a stored response before it reuses the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Validation {
    /// The cache validates the response once it is stale, unless the response, the client or the
    /// policy allows the cache to serve it stale.
    #[default]
    OnceStale,
    /// The cache validates the response once it is stale, without exception. The response has
    /// `must-revalidate`, `proxy-revalidate` or `s-maxage` (RFC 9111 section 4.2.4).
    Strict,
    /// The cache validates the response before each reuse. The response has `no-cache` (RFC 9111
    /// section 5.2.2.4).
    Always,
}

impl Lifetime {
    /// Returns the age of the response at `now`: `current_age` of RFC 9111 section 4.2.3.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        self.initial_age.saturating_add(now.since(self.response_time))
    }

    /// Returns the rest of the freshness lifetime at `now`, or `None` if the response is stale.
    ///
    /// A response is fresh while its freshness lifetime is greater than its age (RFC 9111 section
    /// 4.2).
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        self.freshness.checked_sub(self.age(now)).filter(|rest| !rest.is_zero())
    }

    /// Returns the time that has passed at `now` since the response became stale. The result is
    /// zero while the response is fresh.
    #[must_use]
    pub fn stale_for(&self, now: Timestamp) -> Duration {
        self.age(now).saturating_sub(self.freshness)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::at;

    #[test]
    fn response_is_fresh_while_its_lifetime_exceeds_its_age() {
        let lifetime = Lifetime {
            response_time: at(0),
            initial_age: Duration::from_secs(20),
            freshness: Duration::from_secs(60),
            source: LifetimeSource::Explicit,
            staleness: Staleness::default(),
            retention: Duration::ZERO,
        };
        for (second, age, remaining, stale_for) in [
            (0, 20, Some(40), 0),
            (39, 59, Some(1), 0),
            (40, 60, None, 0),
            (55, 75, None, 15),
            (999, 1019, None, 959),
        ] {
            let now = at(second);
            assert_eq!(lifetime.age(now).as_secs(), age);
            assert_eq!(lifetime.remaining(now).map(|rest| rest.as_secs()), remaining);
            assert_eq!(lifetime.stale_for(now).as_secs(), stale_for);
        }
    }

    #[test]
    fn lifetime_is_stated_if_it_comes_from_the_fields_of_the_response() {
        for (source, stated) in [
            (LifetimeSource::Explicit, true),
            (LifetimeSource::Middleware, true),
            (LifetimeSource::Heuristic, true),
            (LifetimeSource::Handler, false),
            (LifetimeSource::Policy, false),
        ] {
            assert_eq!(source.is_stated(), stated, "{source:?}");
        }
    }
}
