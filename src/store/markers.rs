//! Short notes about keys: bounded in number and in time.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::time::Now;

/// Notes kept at most; a table that is full forgets them all, for they are only hints.
const CAPACITY: usize = 10_000;

/// How long a note holds.
const HOLDS: Duration = Duration::from_secs(10);

/// Keys that were seen to belong to a cache further in.
///
/// By digests, for clients make keys as long as they like. Where two are the same, a cache steps
/// aside that need not have.
#[derive(Debug, Default)]
pub(super) struct Markers {
    any: AtomicBool,
    digests: RandomState,
    noted: Mutex<HashMap<u64, Now>>,
}

impl Markers {
    /// Notes that `key`, as seen from `layer` caches further in, belongs to another.
    pub(super) fn note(&self, key: &[u8], layer: u8, now: Now) {
        let digest = self.digests.hash_one((key, layer));
        let mut noted = self.lock();
        if noted.len() >= CAPACITY {
            noted.clear();
        }
        noted.insert(digest, now);
        self.any.store(true, Ordering::Release);
    }

    pub(super) fn holds(&self, key: &[u8], layer: u8, now: Now) -> bool {
        // Applications without nested caches never take the lock.
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let digest = self.digests.hash_one((key, layer));
        self.lock().get(&digest).is_some_and(|&noted| now.since(noted) < HOLDS)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Now>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored::tests::at;

    #[test]
    fn a_note_holds_for_its_key_and_time() {
        let markers = Markers::default();
        assert!(!markers.holds(b"a", 0, at(0)));
        markers.note(b"a", 0, at(0));
        assert!(markers.holds(b"a", 0, at(9)));
        assert!(!markers.holds(b"a", 1, at(9)));
        assert!(!markers.holds(b"b", 0, at(9)));
        assert!(!markers.holds(b"a", 0, at(10)));
    }

    #[test]
    fn the_table_stays_bounded() {
        let markers = Markers::default();
        for n in 0..CAPACITY * 3 {
            markers.note(&n.to_be_bytes(), 0, at(0));
        }
        assert!(markers.lock().len() <= CAPACITY);
    }
}
