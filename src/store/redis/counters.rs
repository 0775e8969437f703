//! Counters of the calls between a store and its Redis.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($name:ident $doc:literal)*) => {
        /// Counters of a [`RedisStore`](crate::RedisStore) since it was built, in this process.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct RedisStats {
            $(#[doc = $doc] pub $name: u64,)*
            /// Whether the circuit breaker is open: Redis failed, and is not called until a probe
            /// finds that it works again.
            pub circuit_open: bool,
            /// Invalidations that did not reach Redis yet, and are sent before anything is read again.
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
    lookups "Look-ups that were sent to Redis."
    found "Look-ups that found a response. It may be stale or invalidated."
    lookups_failed "Look-ups that failed, including those not sent while the circuit breaker is open."
    timeouts "Calls of any kind that timed out."
    writes "Responses that were written."
    writes_failed "Responses that could not be written."
    unreadable_records "Records that could not be used: damaged, of another format version or from the future."
    leases_granted "Leases that were granted to this process."
    leases_taken "Leases that were refused, as another process held them."
    leases_failed "Leases that could not be asked for."
    connections "Connections that were made."
    circuit_openings "Times that the circuit breaker opened."
    invalidations "Invalidations that reached Redis."
    invalidations_failed "Invalidations that did not reach Redis at once, and were queued."
    table_losses "Times that Redis had lost the table of invalidations, so that all stored responses became invalid."
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
