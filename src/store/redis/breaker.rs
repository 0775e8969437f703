//! Leaving Redis alone while it fails.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Failures in a row, over all threads, after which Redis is left alone.
const LIMIT: u32 = 5;

/// Whether Redis is asked. It is closed at first, so that everything passes; open, nothing does until
/// a probe closes it again.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    open: AtomicBool,
    failures: AtomicU32,
    /// How often it opened: what was connected before the last time is not used again.
    opened: AtomicU64,
}

impl Breaker {
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::Acquire)
    }

    pub(super) fn succeeded(&self) {
        // Mostly a load: a store would make all threads wait for each other's caches.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Whether this opens it.
    pub(super) fn failed(&self) -> bool {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        before + 1 >= LIMIT && self.trip()
    }

    /// Opens it; whether it was closed.
    pub(super) fn trip(&self) -> bool {
        let opens = !self.open.swap(true, Ordering::AcqRel);
        if opens {
            self.opened.fetch_add(1, Ordering::AcqRel);
        }
        opens
    }

    pub(super) fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.open.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_so_many_failures_in_a_row_and_closes_when_told() {
        let breaker = Breaker::default();
        for _ in 0..3 {
            (1..LIMIT).for_each(|_| assert!(!breaker.failed()));
            breaker.succeeded();
        }
        assert!(!breaker.is_open());
        (1..LIMIT).for_each(|_| assert!(!breaker.failed()));
        assert!(breaker.failed() && breaker.is_open());
        assert!(!breaker.failed(), "it is open already");
        breaker.succeeded();
        assert!(breaker.is_open(), "a late success does not close it");
        breaker.close();
        assert!(!breaker.is_open() && !breaker.failed());
        assert_eq!(breaker.opened(), 1);
        assert!(breaker.trip() && !breaker.trip());
        assert_eq!(breaker.opened(), 2);
    }
}
