//! The effect of purges and expiries (soft purges) on one stored response.
//!
//! The logical time of a store is a number that grows with each purge or expiry.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Timestamp;

/// The effect of all purges and expiries so far on a stored response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// No purge or expiry applies to the response.
    Valid,
    /// An expiry applies to the response. The response is stale since this time, or since the end
    /// of its freshness lifetime if that was earlier.
    ExpiredSince(Timestamp),
    /// The response was purged. The cache must not use it.
    Purged,
}

impl Validity {
    /// Returns the time since which an expiry makes the response stale, or `None` if no expiry
    /// applies to the response.
    pub(crate) const fn expired_since(self) -> Option<Timestamp> {
        match self {
            Self::ExpiredSince(since) => Some(since),
            Self::Valid | Self::Purged => None,
        }
    }
}

/// The checks that a stored response has passed: the latest records of purges and expiries by which a
/// store found it valid, and the policy that found its fields acceptable.
///
/// The store checks the response again only after it has got further records. The check belongs to the
/// first store that calls `extend`, because the numbers of records of two stores cannot be compared.
#[derive(Debug, Default)]
pub(crate) struct ValidityCheck {
    store: AtomicU64,
    /// How often the store had added records when it checked the response.
    changes: AtomicU64,
    accepted_by: AtomicU64,
}

impl ValidityCheck {
    /// Returns whether the store with this id found the response valid after it had added records
    /// `changes` times, or later.
    pub(crate) fn holds(&self, store: u64, changes: u64) -> bool {
        self.changes.load(Ordering::Acquire) >= changes
            && self.store.load(Ordering::Relaxed) == store
    }

    /// Returns whether the policy with this id has accepted the fields of the response, which do not
    /// change.
    pub(crate) fn is_accepted_by(&self, policy: u64) -> bool {
        self.accepted_by.load(Ordering::Relaxed) == policy
    }

    /// Records that the policy with this id accepts the fields of the response. `policy` is never zero,
    /// because zero stands for "no policy".
    pub(crate) fn accept(&self, policy: u64) {
        self.accepted_by.store(policy, Ordering::Relaxed);
    }

    /// Records that the store with this id found the response valid after it had added records
    /// `changes` times. Does nothing if another store has recorded a check before. `store` is never
    /// zero, because zero stands for "no store".
    pub(crate) fn extend(&self, store: u64, changes: u64) {
        let claim = self.store.compare_exchange(0, store, Ordering::Relaxed, Ordering::Relaxed);
        if claim.map_or_else(|owner| owner == store, |_| true) {
            self.changes.fetch_max(changes, Ordering::Release);
        }
    }
}

/// A clone of the checks is empty, because the clone of the response may be put into another store, and
/// may get other fields.
impl Clone for ValidityCheck {
    fn clone(&self) -> Self {
        Self::default()
    }
}
