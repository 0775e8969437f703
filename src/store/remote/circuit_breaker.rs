//! A circuit breaker: it stops calls to a server that fails, until a probe of the server succeeds.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Stops calls to a server after several failures in a row.
///
/// A breaker has two states. A new breaker is **closed**: the store that uses the breaker calls its
/// server, and the breaker counts failed calls. After [`failure_limit`](Self::new) failures without
/// a success between them, the breaker is **open**: the store makes no calls except probes, which
/// test whether the server works again. Once a probe succeeds, the store calls
/// [`close`](Self::close).
///
/// All threads of a process share one breaker. The methods of a breaker take no lock and do not
/// wait.
#[derive(Debug)]
pub struct CircuitBreaker {
    failure_limit: u32,
    is_open: AtomicBool,
    failures: AtomicU32,
    openings: AtomicU64,
}

impl CircuitBreaker {
    /// The number of failures in a row after which a [`default`](Self::default) breaker opens.
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

    /// Returns whether the breaker is open. While it is open, only a probe should call the server.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// Returns how many times the breaker has opened.
    ///
    /// Do not reuse a connection that was made before the latest opening: the server may have been
    /// replaced since then.
    #[must_use]
    pub fn openings(&self) -> u64 {
        self.openings.load(Ordering::Acquire)
    }

    /// Records that a call succeeded, and resets the count of failures.
    ///
    /// An open breaker stays open until [`close`](Self::close) is called.
    pub fn record_success(&self) {
        // The count is 0 for nearly every call, so no write is needed. A write would move the cache
        // line between threads.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Records that a call failed. Returns whether this failure opened the breaker.
    pub fn record_failure(&self) -> bool {
        let earlier = self.failures.fetch_add(1, Ordering::Relaxed);
        earlier.saturating_add(1) >= self.failure_limit && self.open()
    }

    /// Opens the breaker at once. Returns whether the breaker was closed before.
    pub fn open(&self) -> bool {
        let opened = !self.is_open.swap(true, Ordering::AcqRel);
        if opened {
            self.openings.fetch_add(1, Ordering::AcqRel);
        }
        opened
    }

    /// Closes the breaker, and resets the count of failures.
    pub fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.is_open.store(false, Ordering::Release);
    }
}

impl Default for CircuitBreaker {
    /// Makes a closed breaker with the limit
    /// [`DEFAULT_FAILURE_LIMIT`](Self::DEFAULT_FAILURE_LIMIT).
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
