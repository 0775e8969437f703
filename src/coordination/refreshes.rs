//! Background work on cache keys. One kind of work is a refresh: a call of the handler that
//! replaces a stored response while clients still receive the stored one. The other kind is a fill
//! (a call of the handler whose response may be stored) that continues after its client has been
//! answered, for example by a stale response. A key has at most one background task. After a failed
//! refresh, no refresh of the key begins until a back-off time has passed. Each kind of work has
//! places of its own, so that neither prevents the other.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::Notify;

use super::places::{Place, Places};
use crate::{backoff::Backoff, clock::Timestamp, entry::key::CacheKey};

/// The largest number of keys whose failed refreshes are remembered. A full table is cleared.
const MAX_FAILED: usize = 10_000;

/// The back-off time between a failed refresh and the next refresh. The time is 1 s after the first
/// failure, doubles with each further failure, and is a minute at most.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 2.0);

/// The background work on the keys of one store.
///
/// Failures are stored under the digest of the key, because clients can make keys of any length.
/// The digests have a random seed, so that clients cannot make keys with equal digests. If two keys
/// had equal digests by chance, they would share a back-off.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    state: Mutex<State>,
    digests: RandomState,
    /// Notified whenever a background task ends and no other one is in progress.
    pub(super) idle: Notify,
}

#[derive(Debug, Default)]
struct State {
    open: HashSet<Arc<[u8]>>,
    refreshes: Places,
    continued_fills: Places,
    failures: HashMap<u64, Failures>,
}

/// The consecutive failures of the refreshes of one key.
#[derive(Debug)]
struct Failures {
    /// The number of failures, at least one.
    number: u32,
    last: Timestamp,
}

impl Failures {
    fn is_backing_off(&self, now: Timestamp) -> bool {
        now.since(self.last) < BACKOFF.delay(self.number.saturating_sub(1))
    }
}

/// The kinds of background work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Refresh,
    ContinuedFill,
}

impl Refreshes {
    /// Permits a fill of a key to continue in the background. `client` is the address of the client
    /// whose request began the fill. Returns `None` if the key has background work already, or if
    /// no place is free for the fill.
    pub(super) fn try_continue_fill(
        self: &Arc<Self>,
        key: &CacheKey,
        client: Option<IpAddr>,
    ) -> Option<BackgroundPermit> {
        let (key, place) = self.lock().begin(Work::ContinuedFill, key, client)?;
        let refreshes = Arc::clone(self);
        Some(BackgroundPermit { key, place, work: Work::ContinuedFill, refreshes })
    }

    /// Permits a refresh of a key. `client` is the address of the client whose request causes the
    /// refresh. Returns `None` if the key has background work already, if no place is free for the
    /// refresh, or while the key backs off after a failed refresh.
    pub(super) fn try_refresh(
        self: &Arc<Self>,
        key: &CacheKey,
        client: Option<IpAddr>,
        now: Timestamp,
    ) -> Option<RefreshPermit> {
        let digest = self.digests.hash_one(key.as_bytes());
        let mut state = self.lock();
        if state.failures.get(&digest).is_some_and(|failures| failures.is_backing_off(now)) {
            return None;
        }
        let (key, place) = state.begin(Work::Refresh, key, client)?;
        drop(state);
        let refreshes = Arc::clone(self);
        let permit = BackgroundPermit { key, place, work: Work::Refresh, refreshes };
        Some(RefreshPermit { permit, digest, end: RefreshEnd::Failed(now) })
    }

    pub(super) fn len(&self) -> usize {
        self.lock().open.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(
        &mut self,
        work: Work,
        key: &CacheKey,
        client: Option<IpAddr>,
    ) -> Option<(Arc<[u8]>, Place)> {
        if self.open.contains(key.as_bytes()) {
            return None;
        }
        let place = self.places(work).take(key, client)?;
        let key = key.to_shared();
        self.open.insert(Arc::clone(&key));
        Some((key, place))
    }

    const fn places(&mut self, work: Work) -> &mut Places {
        match work {
            Work::Refresh => &mut self.refreshes,
            Work::ContinuedFill => &mut self.continued_fills,
        }
    }
}

/// A permit for background work on one key. The permit is dropped when the work has ended.
#[derive(Debug)]
pub(crate) struct BackgroundPermit {
    key: Arc<[u8]>,
    place: Place,
    work: Work,
    refreshes: Arc<Refreshes>,
}

impl Drop for BackgroundPermit {
    fn drop(&mut self) {
        let mut state = self.refreshes.lock();
        state.open.remove(&self.key);
        state.places(self.work).free(&self.place);
        if state.open.is_empty() {
            self.refreshes.idle.notify_waiters();
        }
    }
}

/// A permit for a refresh of one key. A permit that is dropped without a result counts as a failed
/// refresh, for example after a panic of the handler.
#[derive(Debug)]
pub(crate) struct RefreshPermit {
    permit: BackgroundPermit,
    digest: u64,
    end: RefreshEnd,
}

/// The result of a refresh.
#[derive(Debug, Clone, Copy)]
enum RefreshEnd {
    Succeeded,
    /// The back-off of the key begins at this time.
    Failed(Timestamp),
    /// The handler was not called.
    Cancelled,
}

impl RefreshPermit {
    /// Ends the refresh as successful and forgets earlier failures of the key.
    pub(crate) fn succeeded(mut self) {
        self.end = RefreshEnd::Succeeded;
    }

    /// Ends the refresh as failed. The back-off of the key begins at `now`.
    pub(crate) fn failed(mut self, now: Timestamp) {
        self.end = RefreshEnd::Failed(now);
    }

    /// Ends a refresh for which the handler was not called. The number of failures of the key does
    /// not change.
    pub(crate) fn cancelled(mut self) {
        self.end = RefreshEnd::Cancelled;
    }
}

impl Drop for RefreshPermit {
    fn drop(&mut self) {
        let mut state = self.permit.refreshes.lock();
        let last = match self.end {
            RefreshEnd::Cancelled => return,
            RefreshEnd::Succeeded => {
                state.failures.remove(&self.digest);
                return;
            }
            RefreshEnd::Failed(now) => now,
        };
        if state.failures.len() >= MAX_FAILED {
            state.failures.clear();
        }
        let earlier = state.failures.get(&self.digest).map_or(0, |failures| failures.number);
        state.failures.insert(self.digest, Failures { number: earlier.saturating_add(1), last });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{coordination::places::MAX_TASKS, entry::fixtures::at};

    fn key(n: usize) -> CacheKey {
        CacheKey::new("t", "http", "h", &format!("/{n}"), None)
    }

    #[test]
    fn background_work_is_limited_to_one_task_a_key_and_in_number() {
        let refreshes = Arc::new(Refreshes::default());
        let one = refreshes.try_refresh(&key(0), None, at(0));
        assert!(one.is_some() && refreshes.try_refresh(&key(0), None, at(0)).is_none());
        assert!(refreshes.try_continue_fill(&key(0), None).is_none());
        one.unwrap().succeeded();
        let all: Vec<_> =
            (0..MAX_TASKS).map(|n| refreshes.try_continue_fill(&key(n), None)).collect();
        assert!(all.iter().all(Option::is_some));
        assert!(refreshes.try_continue_fill(&key(MAX_TASKS), None).is_none());
        let other = refreshes.try_refresh(&key(MAX_TASKS), None, at(0));
        other.expect("refreshes have places of their own").succeeded();
        drop(all);
        assert_eq!(refreshes.len(), 0);
    }

    #[test]
    fn backoff_grows_with_each_failure_until_a_refresh_succeeds() {
        let refreshes = Arc::new(Refreshes::default());
        let mut now = 0;
        for backoff in [1, 2, 4, 8, 16, 32, 60, 60] {
            refreshes.try_refresh(&key(0), None, at(now)).unwrap().failed(at(now));
            assert!(
                refreshes.try_refresh(&key(0), None, at(now + backoff - 1)).is_none(),
                "{backoff}"
            );
            assert!(refreshes.try_refresh(&key(1), None, at(now)).is_some(), "another key");
            now += backoff;
        }
        refreshes.try_refresh(&key(0), None, at(now)).unwrap().succeeded();
        refreshes.try_refresh(&key(0), None, at(now)).unwrap().failed(at(now));
        assert!(refreshes.try_refresh(&key(0), None, at(now)).is_none());
        assert!(
            refreshes.try_refresh(&key(0), None, at(now + 1)).is_some(),
            "back to the first delay"
        );
    }

    #[test]
    fn dropped_refresh_counts_as_failed() {
        let refreshes = Arc::new(Refreshes::default());
        drop(refreshes.try_refresh(&key(0), None, at(0)));
        assert!(refreshes.try_refresh(&key(0), None, at(0)).is_none());
        assert!(refreshes.try_refresh(&key(0), None, at(1)).is_some());
    }

    #[test]
    fn cancelled_refresh_neither_begins_nor_ends_a_backoff() {
        let refreshes = Arc::new(Refreshes::default());
        refreshes.try_refresh(&key(0), None, at(0)).unwrap().cancelled();
        refreshes.try_refresh(&key(0), None, at(0)).unwrap().failed(at(0));
        refreshes.try_refresh(&key(0), None, at(1)).unwrap().cancelled();
        refreshes.try_refresh(&key(0), None, at(1)).unwrap().failed(at(1));
        assert!(refreshes.try_refresh(&key(0), None, at(2)).is_none(), "the second failure of two");
        assert!(refreshes.try_refresh(&key(0), None, at(3)).is_some());
    }

    #[test]
    fn table_of_failures_stays_bounded() {
        let refreshes = Arc::new(Refreshes::default());
        for n in 0..MAX_FAILED * 2 + 1 {
            refreshes.try_refresh(&key(n), None, at(0)).unwrap().failed(at(0));
        }
        assert!(refreshes.lock().failures.len() <= MAX_FAILED);
    }
}
