//! Limits the searches for the primary after a server refused a write because it is a replica.
//!
//! After a failover, the connections of a process may lead to the former primary. That server still
//! answers lookups, so the connections stay in use until a search has found a server that accepts
//! writes. A search makes one new connection. If the search succeeds, all threads replace their
//! connections, also those for lookups, because a replica may lack the latest purge.
//!
//! Sentinel may name the former primary for a while, and a single server may stay a replica. The
//! time between two searches is therefore limited, whatever number of writes is refused. A failed
//! purge needs no search: it opens the circuit breaker, and the probes make new connections.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The shortest time between the beginnings of two searches, and the longest time of a search.
pub(super) const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// The searches of one store.
#[derive(Debug, Default)]
pub(super) struct PrimarySearch {
    /// The time at which the latest search began, in microseconds of the monotonic clock, plus one.
    /// The value is 0 before the first search.
    begun_at: AtomicU64,
    /// The number of searches that found a server that accepts writes.
    found: AtomicU64,
}

impl PrimarySearch {
    /// Returns whether a search has to begin at the time `now`, in microseconds of the monotonic
    /// clock. If several threads ask at the same time, only one of them has to begin it.
    pub(super) fn is_due(&self, now: u64) -> bool {
        let (last, now) = (self.begun_at.load(Ordering::Relaxed), now.saturating_add(1));
        let elapsed = Duration::from_micros(now.saturating_sub(last));
        let relaxed = Ordering::Relaxed;
        (last == 0 || elapsed >= SEARCH_INTERVAL)
            && self.begun_at.compare_exchange(last, now, relaxed, relaxed).is_ok()
    }

    /// Records that a search found a server that accepts writes.
    pub(super) fn record_found(&self) {
        self.found.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns how many searches have found a server that accepts writes.
    pub(super) fn found(&self) -> u64 {
        self.found.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_is_due_at_most_once_in_an_interval() {
        let search = PrimarySearch::default();
        let interval = u64::try_from(SEARCH_INTERVAL.as_micros()).unwrap();
        for (now, is_due) in [
            (0, true),
            (0, false),
            (interval - 1, false),
            (interval, true),
            (interval + 1, false),
            (interval / 2, false),
            (2 * interval, true),
        ] {
            assert_eq!(search.is_due(now), is_due, "{now}");
        }
    }
}
