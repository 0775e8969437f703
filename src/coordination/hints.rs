//! Short-lived marks on keys, bounded in number and in time.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::clock::Timestamp;

/// The most marks. A full table is cleared: a lost mark costs time and nothing else.
const CAPACITY: usize = 10_000;

/// How long a mark lasts.
const LIFETIME: Duration = Duration::from_secs(10);

/// Marked keys: hit-for-miss, or answered by an inner cache.
///
/// The table keeps digests, because clients can make keys of any length. The digests have a random
/// seed, so that clients cannot make keys that collide; if two do, the wrong key is marked for some
/// seconds.
#[derive(Debug, Default)]
pub(super) struct Hints {
    has_any: AtomicBool,
    digests: RandomState,
    marked: Mutex<HashMap<u64, Timestamp>>,
}

impl Hints {
    pub(super) fn mark(&self, key: impl Hash, now: Timestamp) {
        let digest = self.digests.hash_one(key);
        let mut marked = self.lock();
        if marked.len() >= CAPACITY {
            marked.clear();
        }
        marked.insert(digest, now);
        self.has_any.store(true, Ordering::Release);
    }

    /// Whether the key was marked in the last ten seconds.
    pub(super) fn is_marked(&self, key: impl Hash, now: Timestamp) -> bool {
        // No lock is taken before the first mark, which for many applications never comes.
        if !self.has_any.load(Ordering::Acquire) {
            return false;
        }
        let digest = self.digests.hash_one(key);
        self.lock().get(&digest).is_some_and(|&marked| now.since(marked) < LIFETIME)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Timestamp>> {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::at;

    #[test]
    fn mark_lasts_for_its_key_and_lifetime() {
        let hints = Hints::default();
        assert!(!hints.is_marked("a", at(0)));
        hints.mark("a", at(0));
        assert!(hints.is_marked("a", at(9)));
        assert!(!hints.is_marked("b", at(9)));
        assert!(!hints.is_marked("a", at(10)));
    }

    #[test]
    fn table_stays_bounded() {
        let hints = Hints::default();
        for n in 0..CAPACITY * 3 {
            hints.mark(n, at(0));
        }
        assert!(hints.lock().len() <= CAPACITY);
    }
}
