//! Work for a key that no client waits for: once at a time, and not again soon after it failed.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{clock::Timestamp, entry::key::CacheKey};

/// Keys worked for at once; beyond, stale answers wait for their refresh.
const MAX_OPEN: usize = 64;

/// Keys whose failures are remembered; a table that is full forgets them all.
const MAX_FAILED: usize = 10_000;

/// How long after its first failure a refresh is tried again; twice that after the second, and so
/// on.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest time between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Refreshes {
    state: Mutex<State>,
    digests: RandomState,
    /// Told whenever none is open any more.
    pub(super) idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: HashSet<Arc<[u8]>>,
    /// By the keys' digests: two that collide share a pause.
    failed: HashMap<u64, Failed>,
}

#[derive(Debug)]
struct Failed {
    times: u32,
    last: Timestamp,
}

impl Failed {
    fn pause(&self) -> Duration {
        FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.times - 1)).min(LONGEST_PAUSE)
    }
}

impl Refreshes {
    /// A place for work on a key; `None` if it is being worked for already, or too many are.
    pub(super) fn claim(self: &Arc<Self>, key: &CacheKey) -> Option<Place> {
        self.lock().claim(key).map(|key| Place { key, refreshes: Arc::clone(self) })
    }

    /// The same for a refresh, unless the last ones failed a short while ago.
    pub(super) fn begin(self: &Arc<Self>, key: &CacheKey, now: Timestamp) -> Option<Refresh> {
        let digest = self.digests.hash_one(key.as_bytes());
        let mut state = self.lock();
        let failed = state.failed.get(&digest);
        if failed.is_some_and(|failed| now.since(failed.last) < failed.pause()) {
            return None;
        }
        let key = state.claim(key)?;
        drop(state);
        let place = Place { key, refreshes: Arc::clone(self) };
        Some(Refresh { place, digest, failed: Some(now) })
    }

    pub(super) fn len(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn claim(&mut self, key: &CacheKey) -> Option<Arc<[u8]>> {
        let key = key.to_shared();
        (self.open.len() < MAX_OPEN && self.open.insert(Arc::clone(&key))).then_some(key)
    }
}

/// One key being worked for.
#[derive(Debug)]
pub(crate) struct Place {
    key: Arc<[u8]>,
    refreshes: Arc<Refreshes>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.refreshes.lock();
        state.open.remove(&self.key);
        if state.open.is_empty() {
            self.refreshes.idle.notify_waiters();
        }
    }
}

/// One refresh. One that is dropped without a word has failed: its handler panicked.
#[derive(Debug)]
pub(crate) struct Refresh {
    place: Place,
    digest: u64,
    /// When it failed, unless it did not.
    failed: Option<Timestamp>,
}

impl Refresh {
    pub(crate) fn succeeded(mut self) {
        self.failed = None;
    }

    /// The next try has to wait from now on.
    pub(crate) fn failed(mut self, now: Timestamp) {
        self.failed = Some(now);
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        let mut state = self.place.refreshes.lock();
        let Some(last) = self.failed else {
            state.failed.remove(&self.digest);
            return;
        };
        if state.failed.len() >= MAX_FAILED {
            state.failed.clear();
        }
        let times = state.failed.get(&self.digest).map_or(0, |failed| failed.times);
        state.failed.insert(self.digest, Failed { times: times.saturating_add(1), last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::response::tests::at;

    fn key(n: usize) -> CacheKey {
        CacheKey::new("t", "http", "h", &format!("/{n}"), None)
    }

    #[test]
    fn a_key_is_worked_for_once_at_a_time_and_not_too_many_are() {
        let refreshes = Arc::new(Refreshes::default());
        let one = refreshes.begin(&key(0), at(0));
        assert!(one.is_some() && refreshes.begin(&key(0), at(0)).is_none());
        assert!(refreshes.claim(&key(0)).is_none());
        one.unwrap().succeeded();
        let all: Vec<_> = (0..MAX_OPEN).map(|n| refreshes.claim(&key(n))).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(refreshes.begin(&key(MAX_OPEN), at(0)).is_none());
        drop(all);
        assert_eq!(refreshes.len(), 0);
    }

    #[test]
    fn after_each_failure_the_next_try_waits_longer_until_one_succeeds() {
        let refreshes = Arc::new(Refreshes::default());
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            refreshes.begin(&key(0), at(now)).unwrap().failed(at(now));
            assert!(refreshes.begin(&key(0), at(now + pause - 1)).is_none(), "{pause}");
            assert!(refreshes.begin(&key(1), at(now)).is_some(), "another key");
            now += pause;
        }
        refreshes.begin(&key(0), at(now)).unwrap().succeeded();
        refreshes.begin(&key(0), at(now)).unwrap().failed(at(now));
        assert!(refreshes.begin(&key(0), at(now)).is_none());
        assert!(refreshes.begin(&key(0), at(now + 1)).is_some(), "it counts from the beginning");
    }

    #[test]
    fn what_was_dropped_halfway_has_failed() {
        let refreshes = Arc::new(Refreshes::default());
        drop(refreshes.begin(&key(0), at(0)));
        assert!(refreshes.begin(&key(0), at(0)).is_none());
        assert!(refreshes.begin(&key(0), at(1)).is_some());
    }

    #[test]
    fn the_table_of_failures_stays_bounded() {
        let refreshes = Arc::new(Refreshes::default());
        for n in 0..MAX_FAILED * 2 + 1 {
            refreshes.begin(&key(n), at(0)).unwrap().failed(at(0));
        }
        assert!(refreshes.lock().failed.len() <= MAX_FAILED);
    }
}
