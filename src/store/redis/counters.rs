//! Counters of the calls of a store to Redis.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($name:ident $doc:literal)*) => {
        /// Counters of a [`RedisStore`](crate::RedisStore) since it was built, in this process.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct RedisStats {
            $(#[doc = $doc] pub $name: u64,)*
            /// Whether the circuit breaker is open. While the breaker is open, only probes call
            /// Redis.
            pub circuit_open: bool,
            /// Invalidations that have not reached Redis yet. This process sends them before it
            /// reads anything from Redis again.
            pub invalidations_queued: u64,
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> RedisStats {
                RedisStats {
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    ..RedisStats::default()
                }
            }
        }
    };
}

counters! {
    lookups "Lookups that were sent to Redis."
    found "Lookups that found a response. The response may be stale or invalidated."
    lookups_failed "Lookups that failed, including lookups that were not sent because the circuit breaker was open."
    timeouts "Calls to Redis, of any kind, that timed out."
    writes "Responses that were written to Redis."
    writes_failed "Responses that could not be written to Redis."
    unreadable_records "Stored responses that could not be used: damaged, of another format version or from the future."
    leases_granted "Leases that were granted to this process."
    leases_taken "Leases that were refused, because another process held them."
    leases_failed "Lease requests to Redis that failed."
    connections "Connections to Redis that were made."
    circuit_openings "How many times the circuit breaker opened."
    invalidations "Invalidations that reached Redis."
    invalidations_failed "Invalidations that did not reach Redis at once, and were queued."
    table_losses "How many times Redis had lost the table of invalidations, which made all stored responses invalid."
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
