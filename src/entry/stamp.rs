//! Logical time of a store: what orders fills and invalidations.

use std::sync::atomic::{AtomicU64, Ordering};

/// A store's logical time.
///
/// A fill carries the stamp that was current before its handler ran. An invalidation has a stamp
/// of its own, younger than every one handed out before it. A response is valid only while no
/// invalidation of anything it carries is younger than its stamp; so whatever began before a
/// purge is never served after it, in whichever order the two reach the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// Before every invalidation.
    pub const ZERO: Self = Self(0);

    /// A stamp from a store's own clock. Later stamps are larger numbers.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number, for stores that write stamps down.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Up to which logical time a response was found to be valid: until something is invalidated after
/// that, nobody has to look again.
///
/// It counts for one store only, the first to say so.
#[derive(Debug, Default)]
pub(crate) struct ValidityCheck {
    by: AtomicU64,
    until: AtomicU64,
}

impl ValidityCheck {
    pub(crate) fn holds(&self, store: u64, at: Stamp) -> bool {
        self.until.load(Ordering::Acquire) >= at.get() && self.by.load(Ordering::Relaxed) == store
    }

    pub(crate) fn extend(&self, store: u64, at: Stamp) {
        let ours = self.by.compare_exchange(0, store, Ordering::Relaxed, Ordering::Relaxed);
        if ours.map_or_else(|first| first == store, |_| true) {
            self.until.fetch_max(at.get(), Ordering::Release);
        }
    }
}

/// A copy is another's affair.
impl Clone for ValidityCheck {
    fn clone(&self) -> Self {
        Self::default()
    }
}
