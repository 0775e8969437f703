//! The effect of invalidations on one stored response.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{clock::Timestamp, entry::stamp::Stamp};

/// The effect of all invalidations so far on a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// No invalidation applies to the response.
    Valid,
    /// The response was expired: it is stale since this time, or since earlier by its own lifetime.
    ExpiredSince(Timestamp),
    /// The response was purged and must not be used.
    Purged,
}

impl Validity {
    /// The time since which the response is stale by an invalidation.
    pub(crate) const fn expired_since(self) -> Option<Timestamp> {
        match self {
            Self::ExpiredSince(since) => Some(since),
            Self::Valid | Self::Purged => None,
        }
    }
}

/// The logical time up to which a store found a response valid.
///
/// A response need not be checked again until the store's logical time moves on. The check belongs
/// to the first store that extends it: logical times of two stores cannot be compared.
#[derive(Debug, Default)]
pub(crate) struct ValidityCheck {
    store: AtomicU64,
    valid_until: AtomicU64,
}

impl ValidityCheck {
    /// Whether the store with this id found the response valid at this logical time or later.
    pub(crate) fn holds(&self, store: u64, at: Stamp) -> bool {
        self.valid_until.load(Ordering::Acquire) >= at.get()
            && self.store.load(Ordering::Relaxed) == store
    }

    /// Records that the store with this id found the response valid at this logical time. The id is
    /// not zero.
    pub(crate) fn extend(&self, store: u64, at: Stamp) {
        let claim = self.store.compare_exchange(0, store, Ordering::Relaxed, Ordering::Relaxed);
        if claim.map_or_else(|owner| owner == store, |_| true) {
            self.valid_until.fetch_max(at.get(), Ordering::Release);
        }
    }
}

/// A copy starts without a check, for it may be put into another store.
impl Clone for ValidityCheck {
    fn clone(&self) -> Self {
        Self::default()
    }
}
