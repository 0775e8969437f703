//! What happened between us and Redis, counted.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($name:ident $what:literal)*) => {
        /// What happened between a [`RedisStore`](crate::RedisStore) and its Redis, since the store was
        /// made, in this process.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct RedisStats {
            $(#[doc = $what] pub $name: u64,)*
            /// Whether Redis is left alone now, for it failed.
            pub is_open: bool,
            /// Invalidations that Redis has still to be told.
            pub queued: u64,
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
    lookups "Look-ups that were sent."
    found "Look-ups that found a response; it may be stale or invalidated."
    failed "Look-ups that failed, those included that were not sent because Redis is left alone."
    late "Calls of any kind that took too long."
    writes "Responses that were written."
    unwritten "Responses that could not be written."
    unreadable "Records that could not be read: damaged, of another version, or not ours."
    leases "Leases that were granted to this process."
    taken "Leases that were asked for, and that another had."
    unleased "Leases that could not be asked for."
    connects "Connections that were made."
    opened "Times that Redis began to be left alone."
    invalidations "Invalidations that were made."
    uninvalidated "Invalidations that failed, and were queued."
    lost "Times that the table of invalidations was found to be lost, so that all was invalid."
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
