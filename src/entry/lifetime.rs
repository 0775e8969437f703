//! The freshness of a stored response, decided once when it is stored.

use std::time::Duration;

use crate::clock::Timestamp;

/// The source of a freshness lifetime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LifetimeSource {
    /// The response's `Cache-Control`, a field targeted at this cache, or `Expires` (RFC 9111
    /// section 4.2.1, RFC 9213).
    Explicit,
    /// The response's `Last-Modified` (RFC 9111 section 4.2.2).
    Heuristic,
    /// A lifetime that the handler gave this cache for this response, beside the response's fields.
    Handler,
    /// A rule or the policy, for a response without a lifetime of its own.
    Policy,
}

impl LifetimeSource {
    /// Whether clients can compute the lifetime from the response's own fields.
    pub(crate) const fn is_stated(self) -> bool {
        matches!(self, Self::Explicit | Self::Heuristic)
    }
}

/// How long a response may be reused (RFC 9111 section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lifetime {
    /// `response_time` of RFC 9111 section 4.2.3: when the head of the response was received from the
    /// handler.
    pub response_time: Timestamp,
    /// `corrected_initial_age` of RFC 9111 section 4.2.3.
    pub initial_age: Duration,
    /// `freshness_lifetime` of RFC 9111 section 4.2.1, at most 2^31 seconds (68 years).
    pub freshness: Duration,
    /// The source of the freshness lifetime.
    pub source: LifetimeSource,
    /// The response's own terms for reuse without validation.
    pub staleness: Staleness,
    /// How long after its freshness lifetime the response is kept: for validation, and to be served
    /// stale.
    pub retention: Duration,
}

/// A response's own terms for its reuse without validation (RFC 9111 sections 4.2.4 and 5.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Staleness {
    /// When the response must be validated before it is reused.
    pub validation: Validation,
    /// The response's `stale-while-revalidate` (RFC 5861 section 3).
    pub while_revalidate: Option<Duration>,
    /// The response's `stale-if-error` (RFC 5861 section 4).
    pub if_error: Option<Duration>,
}

/// When a stored response must be validated before it is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Validation {
    /// Once the response is stale, unless the response, the client or the policy allows a stale
    /// reply.
    #[default]
    OnceStale,
    /// Once the response is stale, without exception: `must-revalidate`, `proxy-revalidate`,
    /// `s-maxage` (RFC 9111 section 4.2.4).
    Strict,
    /// Always: `no-cache` (RFC 9111 section 5.2.2.4).
    Always,
}

impl Lifetime {
    /// The response's `current_age` (RFC 9111 section 4.2.3).
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Duration {
        self.initial_age.saturating_add(now.since(self.response_time))
    }

    /// The rest of the freshness lifetime; `None` once the response is stale. A response is fresh
    /// while its freshness lifetime is greater than its age (RFC 9111 section 4.2).
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Option<Duration> {
        self.freshness.checked_sub(self.age(now)).filter(|rest| !rest.is_zero())
    }

    /// How long the response has been stale; zero while it is fresh.
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
            (LifetimeSource::Heuristic, true),
            (LifetimeSource::Handler, false),
            (LifetimeSource::Policy, false),
        ] {
            assert_eq!(source.is_stated(), stated, "{source:?}");
        }
    }
}
