//! Fills in progress: what lets a purge reach a response that is not stored yet.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{clock::Clock, clock::Timestamp, entry::key::CacheKey, entry::stamp::Stamp};

/// One run of a handler whose answer may be stored.
///
/// Dropping it ends the fill.
pub struct Fill {
    key: Arc<[u8]>,
    stamp: Stamp,
    began: Timestamp,
    state: Arc<State>,
    table: Arc<Table>,
}

impl Fill {
    /// The store's logical time from before the handler ran.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// How long ago it began, by the machine's clock.
    #[must_use]
    pub fn age(&self) -> Duration {
        Clock::system().now().since(self.began)
    }

    /// Whether the resource was removed since the handler began to run: what it answered may be
    /// older than what the removal announced, and must not be stored.
    #[must_use]
    pub fn is_invalidated(&self) -> bool {
        self.state.overtaken.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Fill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fill")
            .field("stamp", &self.stamp)
            .field("overtaken", &self.is_invalidated())
            .finish_non_exhaustive()
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        let mut open = self.table.lock();
        // Handles on the state are not counted: they are dropped after us, outside of the lock.
        let last = self.state.fills.fetch_sub(1, Ordering::Relaxed) == 1;
        let current = open.get(&self.key).is_some_and(|state| Arc::ptr_eq(state, &self.state));
        if last && current {
            open.remove(&self.key);
        }
        if open.is_empty() {
            self.table.idle.notify_waiters();
        }
    }
}

#[derive(Default)]
struct State {
    overtaken: AtomicBool,
    /// Fills that have not ended; changed under the table's lock only.
    fills: AtomicUsize,
}

/// All fills of one store in this process. One entry a key that is being filled: bounded by the
/// requests in flight.
#[derive(Default)]
pub(super) struct Table {
    open: Mutex<HashMap<Arc<[u8]>, Arc<State>>>,
    /// Told whenever none is open any more.
    pub(super) idle: Notify,
}

impl Table {
    pub(super) fn begin(self: &Arc<Self>, key: &CacheKey, stamp: Stamp) -> Fill {
        let mut open = self.lock();
        let (key, state) = match open.get_key_value(key.as_bytes()) {
            Some((key, state)) => (Arc::clone(key), Arc::clone(state)),
            None => {
                let (key, state) = (key.to_shared(), Arc::<State>::default());
                open.insert(Arc::clone(&key), Arc::clone(&state));
                (key, state)
            }
        };
        state.fills.fetch_add(1, Ordering::Relaxed);
        drop(open);
        Fill { key, stamp, began: Clock::system().now(), state, table: Arc::clone(self) }
    }

    /// Every fill of the key that is open now is overtaken; those that begin later are not.
    pub(super) fn overtake(&self, key: &CacheKey) {
        if let Some(state) = self.lock().remove(key.as_bytes()) {
            state.overtaken.store(true, Ordering::Release);
        }
    }

    /// Ends a fill that nothing has overtaken so far: all fills of its key that are open now are
    /// overtaken, and the one returned is the first after that. What is overtaken between the two
    /// is so for it too.
    pub(super) fn succeed(self: &Arc<Self>, fill: &Fill) -> Option<Fill> {
        let mut open = self.lock();
        if !open.get(&fill.key).is_some_and(|state| Arc::ptr_eq(state, &fill.state)) {
            return None;
        }
        fill.state.overtaken.store(true, Ordering::Release);
        let (key, state) = (Arc::clone(&fill.key), Arc::<State>::default());
        open.insert(Arc::clone(&key), Arc::clone(&state));
        Some(Fill { key, stamp: fill.stamp, began: fill.began, state, table: Arc::clone(self) })
    }

    pub(super) fn is_open(&self, key: &CacheKey) -> bool {
        self.lock().contains_key(key.as_bytes())
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<[u8]>, Arc<State>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str) -> CacheKey {
        CacheKey::new("t", "http", "h", path, None)
    }

    #[test]
    fn a_removal_overtakes_the_fills_that_are_open_and_no_others() {
        let table = Arc::new(Table::default());
        let (one, two, other) = (
            table.begin(&key("/a"), Stamp::ZERO),
            table.begin(&key("/a"), Stamp::ZERO),
            table.begin(&key("/b"), Stamp::ZERO),
        );
        table.overtake(&key("/a"));
        let later = table.begin(&key("/a"), Stamp::ZERO);
        assert!(one.is_invalidated() && two.is_invalidated());
        assert!(!other.is_invalidated() && !later.is_invalidated());
        drop((one, two));
        table.overtake(&key("/a"));
        assert!(later.is_invalidated(), "fills that ended did not take the later one with them");
    }

    #[test]
    fn a_fill_is_succeeded_only_by_one_that_nothing_overtakes_in_between() {
        let table = Arc::new(Table::default());
        let (fill, other) =
            (table.begin(&key("/a"), Stamp::ZERO), table.begin(&key("/a"), Stamp::ZERO));
        let next = table.succeed(&fill).unwrap();
        assert!(fill.is_invalidated() && other.is_invalidated() && !next.is_invalidated());
        assert!(table.succeed(&fill).is_none(), "it has ended");
        drop((fill, other));
        table.overtake(&key("/a"));
        assert!(next.is_invalidated());
        assert!(table.succeed(&next).is_none());
        drop(next);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_fill_has_ended_although_its_handle_on_the_state_is_still_to_be_dropped() {
        let table = Arc::new(Table::default());
        let (one, two) =
            (table.begin(&key("/a"), Stamp::ZERO), table.begin(&key("/a"), Stamp::ZERO));
        // As if both had ended at the same moment on two threads.
        let handle = Arc::clone(&one.state);
        drop((one, two));
        assert_eq!(table.len(), 0);
        drop(handle);
    }

    #[test]
    fn ended_fills_leave_nothing_behind() {
        let table = Arc::new(Table::default());
        let fills: Vec<_> = (0..10).map(|_| table.begin(&key("/a"), Stamp::ZERO)).collect();
        assert_eq!(table.len(), 1);
        table.overtake(&key("/a"));
        let later = table.begin(&key("/a"), Stamp::ZERO);
        drop(fills);
        assert_eq!(table.len(), 1);
        drop(later);
        assert_eq!(table.len(), 0);
    }
}
