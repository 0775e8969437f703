//! Problems that make a cache useless without an error: each request makes another variant,
//! refreshes keep failing, or no request may start a refresh. The problems are counted, and repeated
//! problems of one key are reported.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::{clock::Timestamp, entry::key::CacheKey};

/// The largest number of keys whose problems are remembered. A full table is cleared.
const CAPACITY: usize = 10_000;

/// The shortest time between two warnings about one kind of problem.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A kind of problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Problem {
    /// The store had other variants of the resource, and none for this request.
    OtherVariant,
    /// A refresh failed.
    FailedRefresh,
    /// A stale response was served, and its request could not start a refresh, because it had
    /// credentials or cookies.
    RefusedRefresh,
}

impl Problem {
    /// Returns the number of problems of one key in a row that are reported, and the time in which
    /// they must occur.
    const fn threshold(self) -> (u32, Duration) {
        match self {
            Self::OtherVariant => (64, Duration::from_secs(60)),
            Self::FailedRefresh => (5, Duration::from_secs(3600)),
            Self::RefusedRefresh => (20, Duration::from_secs(3600)),
        }
    }
}

/// The number of problems of the caches over one store, in this process. See
/// [`Coordinator::problems`](crate::store::Coordinator::problems).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ProblemCounts {
    /// The number of requests that called the handler although other variants of the resource were
    /// stored (`fwd=vary-miss`).
    pub other_variants: u64,
    /// The number of refreshes in the background that failed.
    pub failed_refreshes: u64,
    /// The number of stale responses that were served without the beginning of a refresh, because
    /// their requests had credentials or cookies.
    pub refused_refreshes: u64,
    /// The number of times that one record replaced the records of many tags, because there were
    /// too many. All responses of a host, or all responses with names, that are older than the
    /// replaced records then count as purged or expired.
    pub replaced_records: u64,
    /// The number of times that records of invalidations were dropped, because there were too many
    /// and no record could replace them.
    ///
    /// If records of tags are dropped, all responses that are older than the dropped records count
    /// as purged or expired. If records of removed URLs are dropped, handler calls that began
    /// before do not store their responses, and stored responses are not affected.
    pub dropped_records: u64,
}

/// The problems of one store.
#[derive(Debug, Default)]
pub(super) struct Problems {
    counts: [AtomicU64; 3],
    digests: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The problems of each key, under a digest with a random seed.
    repeated: HashMap<(Problem, u64), Repeated>,
    last_warnings: HashMap<Problem, Timestamp>,
}

#[derive(Debug)]
struct Repeated {
    since: Timestamp,
    number: u32,
}

impl Problems {
    /// Counts a problem of a key. Returns whether to log a warning about it.
    pub(super) fn note(&self, problem: Problem, key: &CacheKey, now: Timestamp) -> bool {
        let [other_variants, failed, refused] = &self.counts;
        let count = match problem {
            Problem::OtherVariant => other_variants,
            Problem::FailedRefresh => failed,
            Problem::RefusedRefresh => refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let digest = self.digests.hash_one(key.as_bytes());
        let (threshold, window) = problem.threshold();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.repeated.len() >= CAPACITY {
            state.repeated.clear();
        }
        let first = || Repeated { since: now, number: 0 };
        let repeated = state.repeated.entry((problem, digest)).or_insert_with(first);
        if now.since(repeated.since) > window {
            *repeated = first();
        }
        repeated.number += 1;
        if repeated.number < threshold {
            return false;
        }
        *repeated = first();
        let last = state.last_warnings.get(&problem);
        let is_due = last.is_none_or(|&last| now.since(last) >= WARNING_INTERVAL);
        if is_due {
            state.last_warnings.insert(problem, now);
        }
        is_due
    }

    /// Forgets the problems of a key, after a success.
    pub(super) fn end(&self, problem: Problem, key: &CacheKey) {
        let digest = self.digests.hash_one(key.as_bytes());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.repeated.remove(&(problem, digest));
    }

    /// Returns the counts, with the numbers of times that records were replaced and dropped.
    pub(super) fn counts(&self, replaced_records: u64, dropped_records: u64) -> ProblemCounts {
        let [other_variants, failed_refreshes, refused_refreshes] =
            self.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        ProblemCounts {
            other_variants,
            failed_refreshes,
            refused_refreshes,
            replaced_records,
            dropped_records,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::at;

    fn key(path: &str) -> CacheKey {
        CacheKey::new("t", "http", "h", path, None)
    }

    #[test]
    fn repeated_problem_of_one_key_is_reported_once_an_interval() {
        let problems = Problems::default();
        let note = |path, second| problems.note(Problem::FailedRefresh, &key(path), at(second));
        let reported: Vec<_> = (0..12).map(|_| note("/a", 0)).collect();
        let number = |reported: &[bool]| reported.iter().filter(|&&reported| reported).count();
        assert_eq!((reported[4], number(&reported)), (true, 1));
        for path in ["/b", "/c", "/d", "/e", "/f"] {
            assert!(!note(path, 61), "one problem of each key");
        }
        let later: Vec<_> = (0..12).map(|_| note("/a", 61)).collect();
        assert_eq!(number(&later), 1);
        let counts = problems.counts(5, 7);
        assert_eq!(counts.failed_refreshes, 29);
        assert_eq!((counts.replaced_records, counts.dropped_records), (5, 7));
    }

    #[test]
    fn problems_count_in_a_row_and_within_their_time() {
        let problems = Problems::default();
        let note = |second| problems.note(Problem::RefusedRefresh, &key("/a"), at(second));
        for _ in 0..10 {
            assert!(!(0..19).any(|_| note(0)));
            problems.end(Problem::RefusedRefresh, &key("/a"));
        }
        for second in 0..100 {
            assert!(!note(second * 3601));
        }
        let other = |n: usize| problems.note(Problem::OtherVariant, &key(&n.to_string()), at(0));
        assert!(!(0..CAPACITY * 2).any(other));
        assert!(problems.state.lock().unwrap().repeated.len() <= CAPACITY);
    }
}
