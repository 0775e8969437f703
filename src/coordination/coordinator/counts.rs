//! Methods of [`Coordinator`] that return counts.

use super::Coordinator;
use crate::coordination::problems::ProblemCounts;

/// Methods for metrics and tests.
impl Coordinator {
    /// Returns the number of tags that have a recorded invalidation. A tag that was both purged and
    /// expired counts twice. The number is bounded. If there are too many records, one record for
    /// all responses of a host, or for all responses with names, replaces many others. If this is
    /// not possible, the oldest records are dropped, and all responses that are older than the
    /// dropped records become invalid or stale.
    #[must_use]
    pub fn recorded_tags(&self) -> usize {
        self.0.log.len()
    }

    /// Returns the number of problems that the caches over the store had in this process: requests
    /// without a variant, failed and refused refreshes, and replaced and dropped records. If a
    /// problem repeats for one cache key, the cache also logs a warning.
    #[must_use]
    pub fn problems(&self) -> ProblemCounts {
        self.0.problems.counts(self.0.log.replaced(), self.0.log.dropped())
    }

    /// Returns the number of open flights: handler calls whose response other requests can wait
    /// for.
    #[must_use]
    pub fn open_flights(&self) -> usize {
        self.0.flights.len()
    }

    /// Returns the number of keys with background work: a refresh of a stored response, or a fill
    /// that continues after its client has been answered.
    #[must_use]
    pub fn open_refreshes(&self) -> usize {
        self.0.refreshes.len()
    }

    /// Returns the number of keys with a fill in progress. A fill is one call of a handler whose
    /// response may be stored.
    #[must_use]
    pub fn open_fills(&self) -> usize {
        self.0.fills.len()
    }

    /// Returns the number of bytes that the response bodies of fills take in memory, without the
    /// first 32 KiB of each body that a client reads.
    #[must_use]
    pub fn bytes_in_fills(&self) -> usize {
        self.0.fill_budget.held()
    }

    /// Returns the number of bytes of the stored bodies that responses to clients keep in memory,
    /// even if the store has dropped the bodies since. Bodies of at most 64 KiB do not count. The
    /// limit is 12 MiB, or an eighth of the limit of a memory store if that is more. One client, or
    /// one proxy, takes at most half of the limit. The bodies that requests have waited for while
    /// the handler ran may take as much again.
    #[must_use]
    pub fn bytes_in_hits(&self) -> usize {
        self.0.held_bodies.bytes()
    }

    /// Returns the number of paths whose responses have `No-Vary-Search`, as far as this process
    /// remembers them. The limit is 16384.
    #[must_use]
    pub fn paths_with_no_vary_search(&self) -> usize {
        self.0.search_variances.len()
    }

    /// Returns the number of bytes of the request bodies in memory that are part of cache keys
    /// ([`Policy::cache_queries`](crate::Policy::cache_queries)). The limit is 16 MiB.
    #[must_use]
    pub fn bytes_in_requests(&self) -> usize {
        self.0.request_bodies.bytes()
    }
}
