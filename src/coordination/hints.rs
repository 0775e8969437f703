//! Short notes about keys: bounded in number and in time.

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

/// Notes kept at most; a table that is full forgets them all, for they are only hints.
const CAPACITY: usize = 10_000;

/// How long a note holds.
const HOLDS: Duration = Duration::from_secs(10);

/// What was noted: keys that belong to a cache further in, or whose answers cannot be stored.
///
/// Digests of them: clients make keys as long as they like, and two that collide, which nobody can
/// bring about from outside, cost a hint's worth.
#[derive(Debug, Default)]
pub(super) struct Hints {
    any: AtomicBool,
    digests: RandomState,
    noted: Mutex<HashMap<u64, Timestamp>>,
}

impl Hints {
    /// Notes something by what names it.
    pub(super) fn note(&self, name: impl Hash, now: Timestamp) {
        let name = self.digests.hash_one(name);
        let mut noted = self.lock();
        if noted.len() >= CAPACITY {
            noted.clear();
        }
        noted.insert(name, now);
        self.any.store(true, Ordering::Release);
    }

    /// Whether that was noted a short while ago.
    pub(super) fn holds(&self, name: impl Hash, now: Timestamp) -> bool {
        // Where nothing ever is, nobody takes the lock.
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let name = self.digests.hash_one(name);
        self.lock().get(&name).is_some_and(|&noted| now.since(noted) < HOLDS)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Timestamp>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::response::tests::at;

    #[test]
    fn a_note_holds_for_its_name_and_time() {
        let markers = Hints::default();
        assert!(!markers.holds("a", at(0)));
        markers.note("a", at(0));
        assert!(markers.holds("a", at(9)));
        assert!(!markers.holds("b", at(9)));
        assert!(!markers.holds("a", at(10)));
    }

    #[test]
    fn the_table_stays_bounded() {
        let markers = Hints::default();
        for n in 0..CAPACITY * 3 {
            markers.note(n, at(0));
        }
        assert!(markers.lock().len() <= CAPACITY);
    }
}
