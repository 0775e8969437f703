//! What all users of one store share within a process.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::select;

use super::{
    Invalidation,
    fills::{Fill, Table},
    flights::{Flights, Join},
    markers::Markers,
    refreshes::{Place, Refresh, Refreshes},
};
use crate::{
    key::{Key, NamesUrls},
    stamp::Stamp,
    stored::StoredResponse,
    tag::TagId,
    time::Now,
};

/// Bytes of bodies that may be copied at once, over all requests of the process.
const FILL_BUDGET: usize = 64 * 1024 * 1024;

/// Tags that can be invalid at once; beyond, everything stored so far is.
const MAX_MARKS: usize = 65_536;

/// How far apart warnings about a failing store are.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// What all users of one store share within a process: logical time, invalidations, fills in
/// progress, and the budget for bodies being copied.
///
/// A cheap handle: clones share everything. Each store makes one and gives it out by
/// [`Store::commons`](crate::Store::commons).
#[derive(Clone, Default)]
pub struct Commons(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Logical time: larger after each invalidation.
    clock: AtomicU64,
    /// What is older than this is invalid. Raised under the lock on `marks`.
    floor: AtomicU64,
    marks: RwLock<HashMap<TagId, Stamp>>,
    fills: Arc<Table>,
    flights: Arc<Flights>,
    unstorable: Markers,
    copied: AtomicUsize,
    writes: AtomicUsize,
    refreshes: Arc<Refreshes>,
    draining: AtomicBool,
    further_in: Markers,
    caches: Mutex<Vec<Weak<dyn NamesUrls>>>,
    warned_store: Mutex<Option<Now>>,
    warned_encoding: AtomicBool,
}

impl Commons {
    /// For a new store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The logical time: what a look-up of a store of one process returns.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp::new(self.0.clock.load(Ordering::Acquire))
    }

    /// Whether nothing that `response` carries was invalidated since its fill began.
    #[must_use]
    pub fn is_valid(&self, response: &StoredResponse) -> bool {
        let stamp = response.stamp();
        // Nothing at all was invalidated since: the common case needs one load.
        if stamp >= self.stamp() {
            return true;
        }
        let above_floor = || stamp.get() >= self.0.floor.load(Ordering::Acquire);
        if response.tags().is_empty() {
            return above_floor();
        }
        let marks = self.0.marks.read().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: marks are dropped in the moment in which the floor rises above them.
        above_floor()
            && response.tags().iter().all(|tag| marks.get(tag).is_none_or(|&mark| stamp >= mark))
    }

    /// Records an invalidation: what began before it is invalid from now on.
    pub fn invalidate(&self, what: &Invalidation) {
        let mut marks = self.0.marks.write().unwrap_or_else(PoisonError::into_inner);
        let next = Stamp::new(self.0.clock.load(Ordering::Acquire) + 1);
        match what {
            Invalidation::Tags(tags) if marks.len() + tags.len() <= MAX_MARKS => {
                marks.extend(tags.iter().map(|&tag| (tag, next)));
            }
            // Too many to remember one by one: invalidating all is always safe.
            Invalidation::Tags(_) | Invalidation::All => {
                marks.clear();
                self.0.floor.store(next.get(), Ordering::Release);
            }
        }
        // Last: whoever reads the new time finds the marks that made it.
        self.0.clock.store(next.get(), Ordering::Release);
    }

    /// Begins a fill of `key`; `stamp` is what the look-up before it returned.
    #[must_use]
    pub fn begin_fill(&self, key: &Key, stamp: Stamp) -> Fill {
        self.0.fills.begin(key, stamp)
    }

    /// For a change that makes a response itself: see [`Table::succeed`].
    pub(crate) fn succeed(&self, fill: &Fill) -> Option<Fill> {
        self.0.fills.succeed(fill)
    }

    /// A place for refreshing `key` in the background; `None` if that is being done already, failed
    /// a short while ago, or is being done for too many keys.
    pub(crate) fn begin_refresh(&self, key: &Key, now: Now) -> Option<Refresh> {
        if self.is_draining() { None } else { self.0.refreshes.begin(key, now) }
    }

    /// A place for reading on what no client reads; `None` if that is being done already, or for
    /// too many keys.
    pub(crate) fn claim(&self, key: &Key) -> Option<Place> {
        if self.is_draining() { None } else { self.0.refreshes.claim(key) }
    }

    /// From now on nothing is begun that would have to be waited for.
    pub(crate) fn begin_draining(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Waits until no fill is open and nothing is being refreshed.
    pub(crate) async fn idle(&self) {
        let Inner { fills, refreshes, .. } = &*self.0;
        loop {
            // First of all: what ends between the look and the wait has told already.
            let (filled, refreshed) =
                (pin!(fills.idle.notified()), pin!(refreshes.idle.notified()));
            let told = select(filled, refreshed);
            if fills.len() == 0 && refreshes.len() == 0 {
                return;
            }
            told.await;
        }
    }

    /// Overtakes the fills of `key` that are in progress. Comes before [`Store::remove`]: a fill
    /// then either stored before and is removed, or finds itself overtaken.
    ///
    /// [`Store::remove`]: crate::Store::remove
    pub fn overtake(&self, key: &Key) {
        self.0.fills.overtake(key);
        self.0.flights.overtake(key);
    }

    /// Takes part in asking for a key; `rest` tells requests for it apart that cannot share an
    /// answer.
    pub(crate) fn join(&self, key: &Key, rest: &[u8]) -> Join {
        self.0.flights.join(key, rest)
    }

    /// Changes whenever one's answer is stored that others may have waited for.
    pub(crate) fn flights_stored(&self) -> u64 {
        self.0.flights.stored()
    }

    /// Notes that what is answered for a key, and so told apart, cannot be stored: nobody waits for
    /// it then.
    pub(crate) fn note_unstorable(&self, key: &Key, rest: &[u8], now: Now) {
        self.0.unstorable.note(&[key.as_bytes(), rest].concat(), 0, now);
    }

    /// Whether that was noted a short while ago.
    pub(crate) fn is_unstorable(&self, key: &Key, rest: &[u8], now: Now) -> bool {
        self.0.unstorable.holds(&[key.as_bytes(), rest].concat(), 0, now)
    }

    /// Requests that are being asked for now and may have others waiting, for observation.
    #[must_use]
    pub fn open_flights(&self) -> usize {
        self.0.flights.len()
    }

    /// Keys that are worked for in the background now, for observation.
    #[must_use]
    pub fn open_refreshes(&self) -> usize {
        self.0.refreshes.len()
    }

    /// Keys being filled now, for observation.
    #[must_use]
    pub fn open_fills(&self) -> usize {
        self.0.fills.len()
    }

    /// Bytes of bodies being copied now, for observation.
    #[must_use]
    pub fn bytes_in_fills(&self) -> usize {
        self.0.copied.load(Ordering::Relaxed)
    }

    /// Sets bytes aside for copying a body; `None` if too many are being copied already.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation { commons: self.clone(), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// A place among the writes that outlive their request; `None` if there are `limit`.
    pub(crate) fn begin_write(&self, limit: usize) -> Option<WriteGuard> {
        let admitted = self.0.writes.fetch_add(1, Ordering::Relaxed) < limit;
        // Made first: dropping it takes the place back.
        let guard = WriteGuard(self.clone());
        admitted.then_some(guard)
    }

    /// Notes that a cache further in than `layer` answers for `key`.
    pub(crate) fn note_further_in(&self, key: &Key, layer: u8, now: Now) {
        self.0.further_in.note(key.as_bytes(), layer, now);
    }

    /// Whether a cache further in than `layer` was seen to answer for `key`.
    pub(crate) fn is_further_in(&self, key: &Key, layer: u8, now: Now) -> bool {
        self.0.further_in.holds(key.as_bytes(), layer, now)
    }

    /// Makes a cache known to those who purge.
    pub(crate) fn register(&self, cache: Weak<dyn NamesUrls>) {
        let mut caches = self.caches();
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(cache);
    }

    /// All caches over this store.
    pub(crate) fn registered(&self) -> Vec<Arc<dyn NamesUrls>> {
        self.caches().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether a warning about the store is due; it is at most once an interval.
    pub(crate) fn may_warn_of_store(&self, now: Now) -> bool {
        let mut last = self.0.warned_store.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.since(last) >= WARNING_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }

    /// Whether this is the first encoded response without `Vary`.
    pub(crate) fn may_warn_of_encoding(&self) -> bool {
        !self.0.warned_encoding.swap(true, Ordering::Relaxed)
    }

    fn caches(&self) -> MutexGuard<'_, Vec<Weak<dyn NamesUrls>>> {
        self.0.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Commons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commons")
            .field("stamp", &self.stamp())
            .field("open_fills", &self.open_fills())
            .field("open_flights", &self.open_flights())
            .field("open_refreshes", &self.open_refreshes())
            .field("bytes_in_fills", &self.bytes_in_fills())
            .finish_non_exhaustive()
    }
}

/// Bytes set aside in the fill budget; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    commons: Commons,
    bytes: usize,
}

impl Reservation {
    /// Sets more bytes aside; `false`, and nothing changed, if the budget is spent.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let copied = &self.commons.0.copied;
        let taken = copied.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
            bytes.checked_add(more).filter(|&sum| sum <= FILL_BUDGET)
        });
        if taken.is_ok() {
            self.bytes += more;
        }
        taken.is_ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.commons.0.copied.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One write that outlives its request.
#[derive(Debug)]
pub(crate) struct WriteGuard(Commons);

impl Drop for WriteGuard {
    fn drop(&mut self) {
        self.0.0.writes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::stored::tests::{at, stored};

    fn response(stamp: Stamp, tags: &[TagId]) -> StoredResponse {
        StoredResponse { stamp, tags: tags.iter().copied().collect(), ..stored(0, &[]) }
    }

    #[test]
    fn what_began_before_an_invalidation_of_its_tag_is_invalid() {
        let commons = Commons::new();
        let (a, b) = (TagId::url(b"a"), TagId::url(b"b"));
        let before = commons.stamp();
        commons.invalidate(&Invalidation::Tags(smallvec![a]));
        let after = commons.stamp();
        for (stamp, tags, want) in [
            (before, &[a][..], false),
            (before, &[b], true),
            (before, &[], true),
            (before, &[b, a], false),
            (after, &[a], true),
        ] {
            assert_eq!(commons.is_valid(&response(stamp, tags)), want, "{stamp:?} {tags:?}");
        }
        commons.invalidate(&Invalidation::All);
        assert!(!commons.is_valid(&response(after, &[])));
        assert!(commons.is_valid(&response(commons.stamp(), &[a])));
    }

    #[test]
    fn more_marks_than_fit_invalidate_everything_rather_than_nothing() {
        let commons = Commons::new();
        let old = response(commons.stamp(), &[]);
        for n in 0..=MAX_MARKS {
            commons.invalidate(&Invalidation::Tags(smallvec![TagId::url(&n.to_be_bytes())]));
        }
        assert!(!commons.is_valid(&old));
        assert!(commons.0.marks.read().unwrap().len() <= MAX_MARKS);
    }

    #[test]
    fn the_fill_budget_is_one_for_all_and_given_back() {
        let commons = Commons::new();
        let mut one = commons.reserve(FILL_BUDGET / 2).unwrap();
        let two = commons.clone().reserve(FILL_BUDGET / 2).unwrap();
        assert!(commons.reserve(1).is_none() && !one.grow(1));
        drop(two);
        assert!(one.grow(1));
        drop(one);
        assert_eq!(commons.bytes_in_fills(), 0);
    }

    #[test]
    fn writes_that_outlive_requests_are_bounded() {
        let commons = Commons::new();
        let one = commons.begin_write(1);
        assert!(one.is_some() && commons.begin_write(1).is_none());
        drop(one);
        assert!(commons.begin_write(1).is_some());
    }

    #[test]
    fn trouble_is_warned_of_at_most_once_an_interval() {
        let commons = Commons::new();
        let due = [0, 1, 29, 30, 31].map(|second| commons.may_warn_of_store(at(second)));
        assert_eq!(due, [true, false, false, true, false]);
        assert!(commons.may_warn_of_encoding() && !commons.may_warn_of_encoding());
    }
}
