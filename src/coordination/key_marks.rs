//! Short-lived marks on cache keys, such as hit-for-miss. Each mark lasts for ten seconds, and the
//! number of marks is bounded.

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

/// The largest number of marks. A full table is cleared. The loss of a mark can make a request
/// slower, but the request never gets a wrong response.
const CAPACITY: usize = 10_000;

/// The lifetime of a mark.
const LIFETIME: Duration = Duration::from_secs(10);

/// A table of marked keys. Each kind of mark has its own table. The kinds are hit-for-miss, a
/// response that is too large to be stored, and an inner cache (nested inside another cache) that
/// handles the requests for the key.
///
/// The table holds digests instead of keys, because clients can make keys of any length. The
/// digests have a random seed, so that clients cannot make keys with equal digests. If two keys had
/// equal digests by chance, a mark on one key would also mark the other key for some seconds.
#[derive(Debug, Default)]
pub(super) struct KeyMarks {
    has_any: AtomicBool,
    digests: RandomState,
    marked: Mutex<HashMap<u64, Timestamp>>,
}

impl KeyMarks {
    pub(super) fn mark(&self, key: impl Hash, now: Timestamp) {
        self.mark_digest(self.digest(key), now);
    }

    /// Marks the key with this digest.
    pub(super) fn mark_digest(&self, digest: u64, now: Timestamp) {
        let mut marked = self.lock();
        if marked.len() >= CAPACITY {
            marked.clear();
        }
        marked.insert(digest, now);
        self.has_any.store(true, Ordering::Release);
    }

    /// Returns the digest of a key in this table.
    pub(super) fn digest(&self, key: impl Hash) -> u64 {
        self.digests.hash_one(key)
    }

    /// Returns whether the key was marked in the last ten seconds.
    pub(super) fn is_marked(&self, key: impl Hash, now: Timestamp) -> bool {
        self.marked_digest(key, now).is_some()
    }

    /// Returns the digest of the key if the key was marked in the last ten seconds.
    pub(super) fn marked_digest(&self, key: impl Hash, now: Timestamp) -> Option<u64> {
        // No lock is taken before the first mark. In many applications no key is ever marked.
        if !self.has_any.load(Ordering::Acquire) {
            return None;
        }
        let digest = self.digest(key);
        let is_current = |&marked: &Timestamp| now.since(marked) < LIFETIME;
        self.lock().get(&digest).is_some_and(is_current).then_some(digest)
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
        let marks = KeyMarks::default();
        assert!(!marks.is_marked("a", at(0)));
        marks.mark("a", at(0));
        assert!(marks.is_marked("a", at(9)));
        assert!(!marks.is_marked("b", at(9)));
        assert!(!marks.is_marked("a", at(10)));
    }

    #[test]
    fn each_table_has_a_seed_of_its_own() {
        let digests = [(); 2].map(|()| KeyMarks::default().digests.hash_one("a"));
        assert_ne!(digests[0], digests[1]);
    }

    #[test]
    fn table_stays_bounded() {
        let marks = KeyMarks::default();
        for n in 0..CAPACITY * 3 {
            marks.mark(n, at(0));
        }
        assert!(marks.lock().len() <= CAPACITY);
    }
}
