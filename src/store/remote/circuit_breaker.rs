//! Stops calls to a server that fails, until a probe finds that it works again.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Stops calls to a server after several failures in a row.
///
/// A breaker has two states. It starts **closed**: calls are made, and their failures are counted. It
/// becomes **open** after [`failure_limit`](Self::new) failures without a success between them: no
/// call is made then, except by the probe that calls [`close`](Self::close) once the server works.
///
/// All threads of a process share one breaker. Its methods do not lock and do not wait.
#[derive(Debug)]
pub struct CircuitBreaker {
    failure_limit: u32,
    is_open: AtomicBool,
    failures: AtomicU32,
    openings: AtomicU64,
}

impl CircuitBreaker {
    /// The failures in a row after which a [`default`](Self::default) breaker opens.
    pub const DEFAULT_FAILURE_LIMIT: u32 = 5;

    /// Makes a closed breaker that opens after `failure_limit` failures in a row.
    ///
    /// A limit of 0 counts as 1.
    #[must_use]
    pub const fn new(failure_limit: u32) -> Self {
        Self {
            failure_limit,
            is_open: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            openings: AtomicU64::new(0),
        }
    }

    /// Returns whether the breaker is open, so that no call should be made.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Returns how many times the breaker has opened.
    ///
    /// A connection that was made before the latest opening should not be used again: it may lead to
    /// a server that has been replaced since.
    #[must_use]
    pub fn openings(&self) -> u64 {
        self.openings.load(Ordering::Acquire)
    }

    /// Records that a call succeeded: the count of failures starts again.
    ///
    /// An open breaker stays open. Only [`close`](Self::close) closes it.
    pub fn record_success(&self) {
        // A load is enough on nearly every call. A store would move the cache line between threads.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Records that a call failed. Returns whether this failure opened the breaker.
    pub fn record_failure(&self) -> bool {
        let earlier = self.failures.fetch_add(1, Ordering::Relaxed);
        earlier.saturating_add(1) >= self.failure_limit && self.open()
    }

    /// Opens the breaker at once. Returns whether it was closed before.
    pub fn open(&self) -> bool {
        let opened = !self.is_open.swap(true, Ordering::AcqRel);
        if opened {
            self.openings.fetch_add(1, Ordering::AcqRel);
        }
        opened
    }

    /// Closes the breaker, and starts the count of failures again.
    pub fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.is_open.store(false, Ordering::Release);
    }
}

impl Default for CircuitBreaker {
    /// A breaker with the [`DEFAULT_FAILURE_LIMIT`](Self::DEFAULT_FAILURE_LIMIT).
    fn default() -> Self {
        Self::new(Self::DEFAULT_FAILURE_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u32 = CircuitBreaker::DEFAULT_FAILURE_LIMIT;

    fn fail_below_the_limit(breaker: &CircuitBreaker) {
        (1..LIMIT).for_each(|_| assert!(!breaker.record_failure()));
    }

    #[test]
    fn breaker_opens_after_the_limit_of_failures_in_a_row() {
        let breaker = CircuitBreaker::default();
        for _ in 0..3 {
            fail_below_the_limit(&breaker);
            breaker.record_success();
        }
        assert!(!breaker.is_open());
        fail_below_the_limit(&breaker);
        assert!(breaker.record_failure() && breaker.is_open());
        assert!(!breaker.record_failure(), "the breaker was open already");
        assert_eq!(breaker.openings(), 1);
    }

    #[test]
    fn open_breaker_stays_open_until_it_is_closed() {
        let breaker = CircuitBreaker::new(1);
        assert!(breaker.record_failure());
        breaker.record_success();
        assert!(breaker.is_open(), "a late success does not close it");
        breaker.close();
        assert!(!breaker.is_open());
        assert!(breaker.open() && !breaker.open());
        assert_eq!(breaker.openings(), 2);
    }

    #[test]
    fn closed_breaker_counts_failures_from_zero() {
        let breaker = CircuitBreaker::default();
        breaker.open();
        fail_below_the_limit(&breaker);
        breaker.close();
        fail_below_the_limit(&breaker);
        assert!(!breaker.is_open());
    }
}
