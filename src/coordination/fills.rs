//! The fills in progress. An invalidation of a cache key invalidates the fills of that key, so that
//! they do not store outdated responses.
//!
//! A fill is one call of a handler whose response may be stored. The logical time of a store is a
//! number that grows with each purge or expiry (soft purge). A stamp is one reading of the logical
//! time.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    clock::monotonic_now,
    entry::{
        key::{CacheKey, UrlKey},
        stamp::Stamp,
        url_table::UrlTable,
    },
};

/// A fill: one call of a handler whose response may be stored.
///
/// The cache begins a fill before it calls the handler. The cache passes the fill to
/// [`Store::put`](crate::store::Store::put), together with the response. Dropping the fill ends it.
pub struct Fill {
    stamp: Stamp,
    /// The time at which the fill began, by the monotonic clock of the system.
    began: Duration,
    state: Arc<KeyState>,
    open_fills: Arc<OpenFills>,
}

impl Fill {
    /// Returns the stamp of the fill: the logical time of the store before the handler ran. The
    /// logical time is a number that grows with each purge or expiry (soft purge).
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Returns the time since the fill began. The clocks of the system measure this time, even if
    /// the cache uses a `ManualClock`.
    #[must_use]
    pub fn age(&self) -> Duration {
        monotonic_now().saturating_sub(self.began)
    }

    /// Returns whether the cache key of the fill was invalidated after the fill began. If so, the
    /// response must not be stored, because the handler may have read its data before the change
    /// that caused the invalidation.
    #[must_use]
    pub fn is_invalidated(&self) -> bool {
        self.state.invalidated.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill")
            .field("stamp", &self.stamp)
            .field("is_invalidated", &self.is_invalidated())
            .finish_non_exhaustive()
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        let mut open = self.open_fills.lock();
        // The counter decides whether this is the last fill of the key. The reference count of the
        // state cannot decide that, because `self.state` is dropped only after this function has
        // released the lock.
        let is_last = self.state.fills.fetch_sub(1, Ordering::Relaxed) == 1;
        if is_last {
            let key = &self.state.key;
            // After an invalidation, later fills of the key have another state.
            let is_own = |state: &mut Arc<KeyState>| Arc::ptr_eq(state, &self.state);
            open.remove_if(key.url().digest(), key.as_bytes(), is_own);
        }
        if open.is_empty() {
            self.open_fills.idle.notify_waiters();
        }
    }
}

/// The state that the fills of one key share. Fills that begin after an invalidation of the key
/// share a new state.
struct KeyState {
    key: CacheKey,
    invalidated: AtomicBool,
    /// The number of fills that have not ended. The number changes only while the lock of
    /// [`OpenFills`] is held.
    fills: AtomicUsize,
}

impl KeyState {
    fn new(key: &CacheKey) -> Arc<Self> {
        let (invalidated, fills) = (AtomicBool::default(), AtomicUsize::default());
        Arc::new(Self { key: key.clone(), invalidated, fills })
    }
}

/// All fills of one store that are in progress in this process. The map has one entry for each key
/// with a fill, so it never has more entries than there are fills in progress.
#[derive(Default)]
pub(super) struct OpenFills {
    open: Mutex<UrlTable<Arc<KeyState>>>,
    /// The number of removals of keys and URLs so far, counted under the lock.
    removals: AtomicU64,
    /// Notified whenever a fill ends and no other fill is in progress.
    pub(super) idle: Notify,
}

impl OpenFills {
    pub(super) fn begin(self: &Arc<Self>, key: &CacheKey, stamp: Stamp) -> Fill {
        let mut open = self.lock();
        let make = || KeyState::new(key);
        let state = Arc::clone(open.get_or_add(key.url().digest(), key.shared(), make));
        state.fills.fetch_add(1, Ordering::Relaxed);
        drop(open);
        let began = monotonic_now();
        Fill { stamp, began, state, open_fills: Arc::clone(self) }
    }

    /// Invalidates the fills of a key that are in progress. A later fill of the key is not
    /// affected.
    pub(super) fn invalidate(&self, key: &CacheKey) {
        let mut open = self.lock();
        self.removals.fetch_add(1, Ordering::Relaxed);
        if let Some(state) = open.remove(key.url().digest(), key.as_bytes()) {
            state.invalidated.store(true, Ordering::Release);
        }
    }

    /// Invalidates the fills in progress of all keys of a URL, except those of the key `kept`.
    pub(super) fn invalidate_url(&self, url: UrlKey<'_>, kept: Option<&CacheKey>) {
        let mut open = self.lock();
        self.removals.fetch_add(1, Ordering::Relaxed);
        for state in open.remove_url(url, kept) {
            state.invalidated.store(true, Ordering::Release);
        }
    }

    /// Returns the number of removals of keys and URLs so far. If the number is equal before a
    /// lookup and after the begin of a fill, nothing was removed between them.
    pub(super) fn removals(&self) -> u64 {
        self.removals.load(Ordering::Relaxed)
    }

    /// Invalidates all fills of the key of `fill` and begins a new fill with an equal stamp.
    /// Returns `None` if `fill` was invalidated already.
    ///
    /// Both changes are made in one step under the lock. An invalidation of the key before this
    /// step therefore invalidates `fill`, and an invalidation after it invalidates the new fill.
    pub(super) fn supersede(self: &Arc<Self>, fill: &Fill) -> Option<Fill> {
        let mut open = self.lock();
        if !is_current(&open, fill) {
            return None;
        }
        fill.state.invalidated.store(true, Ordering::Release);
        let key = &fill.state.key;
        let state = KeyState::new(key);
        state.fills.fetch_add(1, Ordering::Relaxed);
        open.remove(key.url().digest(), key.as_bytes());
        open.get_or_add(key.url().digest(), key.shared(), || Arc::clone(&state));
        let open_fills = Arc::clone(self);
        Some(Fill { stamp: fill.stamp, began: fill.began, state, open_fills })
    }

    pub(super) fn is_open(&self, key: &CacheKey) -> bool {
        self.lock().get(key.url().digest(), key.as_bytes()).is_some()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().values().count()
    }

    fn lock(&self) -> MutexGuard<'_, UrlTable<Arc<KeyState>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether later fills of the key share the state of this fill: neither an invalidation nor
/// another fill has replaced it.
fn is_current(open: &UrlTable<Arc<KeyState>>, fill: &Fill) -> bool {
    let key = &fill.state.key;
    let state = open.get(key.url().digest(), key.as_bytes());
    state.is_some_and(|state| Arc::ptr_eq(state, &fill.state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> CacheKey {
        CacheKey::new("t", "http", "h", path, None)
    }

    #[test]
    fn invalidation_applies_to_fills_in_progress_only() {
        let fills = Arc::new(OpenFills::default());
        let (one, two, other) = (
            fills.begin(&key("/a"), Stamp::ZERO),
            fills.begin(&key("/a"), Stamp::ZERO),
            fills.begin(&key("/b"), Stamp::ZERO),
        );
        fills.invalidate(&key("/a"));
        let later = fills.begin(&key("/a"), Stamp::ZERO);
        assert!(one.is_invalidated() && two.is_invalidated());
        assert!(!other.is_invalidated() && !later.is_invalidated());
        drop((one, two));
        fills.invalidate(&key("/a"));
        assert!(later.is_invalidated(), "the end of earlier fills does not end the later one");
        assert_eq!(fills.removals(), 2);
    }

    #[test]
    fn invalidation_of_a_url_applies_to_all_its_keys_but_the_kept_one() {
        let fills = Arc::new(OpenFills::default());
        let with_part = |path, part: &str| {
            let mut key = key(path);
            key.push_part("tenant", Some(part.as_bytes()));
            key
        };
        let https = CacheKey::new("t", "https", "h", "/a", None);
        let kept = with_part("/a", "kept");
        let begin = |key: &CacheKey| fills.begin(key, Stamp::ZERO);
        let of_url = [key("/a"), with_part("/a", "one"), https].map(|key| begin(&key));
        let others = [key("/"), key("/a/"), key("/b"), kept.clone()].map(|key| begin(&key));
        fills.invalidate_url(key("/a").url(), Some(&kept));
        assert!(of_url.iter().all(Fill::is_invalidated));
        assert!(!others.iter().any(Fill::is_invalidated));
        assert_eq!(fills.removals(), 1);
        drop((of_url, others));
        assert_eq!(fills.len(), 0);
    }

    #[test]
    fn superseding_fill_notices_later_invalidations() {
        let fills = Arc::new(OpenFills::default());
        let (fill, other) =
            (fills.begin(&key("/a"), Stamp::ZERO), fills.begin(&key("/a"), Stamp::ZERO));
        let next = fills.supersede(&fill).unwrap();
        assert!(fill.is_invalidated() && other.is_invalidated() && !next.is_invalidated());
        assert!(fills.supersede(&fill).is_none(), "a fill is superseded once");
        drop((fill, other));
        fills.invalidate(&key("/a"));
        assert!(next.is_invalidated());
        assert!(fills.supersede(&next).is_none());
        drop(next);
        assert_eq!(fills.len(), 0);
    }

    #[test]
    fn superseding_fill_that_is_not_invalidated_is_removed_when_it_ends() {
        let fills = Arc::new(OpenFills::default());
        let fill = fills.begin(&key("/a"), Stamp::ZERO);
        let next = fills.supersede(&fill).unwrap();
        drop(fill);
        assert!(fills.is_open(&key("/a")));
        drop(next);
        assert_eq!(fills.len(), 0);
    }

    #[test]
    fn fill_has_ended_although_a_reference_to_its_state_remains() {
        let fills = Arc::new(OpenFills::default());
        let (one, two) =
            (fills.begin(&key("/a"), Stamp::ZERO), fills.begin(&key("/a"), Stamp::ZERO));
        // The clone keeps the state alive. The reference count is then the same as if two fills
        // ended at the same moment on two threads.
        let state = Arc::clone(&one.state);
        drop((one, two));
        assert_eq!(fills.len(), 0);
        drop(state);
    }

    #[test]
    fn ended_fills_are_removed() {
        let fills = Arc::new(OpenFills::default());
        let open: Vec<_> = (0..10).map(|_| fills.begin(&key("/a"), Stamp::ZERO)).collect();
        assert_eq!(fills.len(), 1);
        fills.invalidate(&key("/a"));
        let later = fills.begin(&key("/a"), Stamp::ZERO);
        drop(open);
        assert_eq!(fills.len(), 1);
        drop(later);
        assert_eq!(fills.len(), 0);
    }
}
