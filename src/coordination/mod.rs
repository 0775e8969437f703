//! What all users of one store share within a process.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::select;

mod fills;
mod flights;
mod hints;
mod invalidation_log;
mod lease;
mod refreshes;
mod shared_body;

pub(crate) use self::invalidation_log::KEY_WINDOW;
pub use self::{
    fills::Fill,
    lease::{Lease, LeaseEnd, LeaseGuard},
};
use self::{
    fills::Table,
    flights::Flights,
    hints::Hints,
    invalidation_log::InvalidationLog,
    refreshes::{Place, Refresh, Refreshes},
};
pub(crate) use self::{
    flights::{FlightEnd, FlightEvent, FlightFollower, FlightLeader, Join, ResponseInProgress},
    shared_body::{BodyReader, BodyStep, BodyWriter, SharedBody},
};
use crate::{
    clock::Timestamp,
    entry::invalidation::Invalidation,
    entry::key::{CacheKey, UrlKeys},
    entry::response::{StoredResponse, Validity},
    entry::stamp::Stamp,
};

/// Bytes of bodies that may be copied at once, over all requests of the process.
const FILL_BUDGET: usize = 64 * 1024 * 1024;

/// How far apart warnings about a failing store are.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// What all users of one store share within a process: logical time, invalidations, fills in
/// progress, and the budget for bodies being copied.
///
/// A cheap handle: clones share everything. Each store makes one and gives it out by
/// [`Store::coordinator`](crate::store::Store::coordinator).
#[derive(Clone, Default)]
pub struct Coordinator(Arc<Inner>);

#[derive(Default)]
struct Inner {
    marks: InvalidationLog,
    fills: Arc<Table>,
    flights: Arc<Flights>,
    unstorable: Hints,
    copied: AtomicUsize,
    writes: AtomicUsize,
    refreshes: Arc<Refreshes>,
    draining: AtomicBool,
    further_in: Hints,
    caches: Mutex<Vec<Weak<dyn UrlKeys>>>,
    warned_store: Mutex<Option<Timestamp>>,
    warned_encoding: AtomicBool,
}

impl Coordinator {
    /// For a new store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The logical time: what a look-up of a store of one process returns.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.0.marks.now()
    }

    /// Whether nothing that `response` has by its tags, its key and its variant was purged since its
    /// fill began. What was only made stale is valid, and will be validated.
    #[must_use]
    pub fn is_valid(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        self.validity(key, response) != Validity::Purged
    }

    pub(crate) fn validity(&self, key: &CacheKey, response: &StoredResponse) -> Validity {
        self.0.marks.validity(key, response)
    }

    /// Records an invalidation: what began before it is invalid from now on, or stale.
    pub fn invalidate(&self, what: &Invalidation) {
        self.0.marks.invalidate(what);
    }

    /// Takes over what was invalidated by other processes: each with the store's logical time of it,
    /// oldest first. `until` is the time up to which that is all there is. What was known already
    /// may be among it.
    ///
    /// For stores whose logical time is made elsewhere. It has to be larger after each invalidation,
    /// by more than one: `invalidate` counts on from the last that was learnt, which is how a process
    /// keeps to itself what it could not tell others.
    pub fn learn(&self, news: &[(Stamp, Invalidation)], until: Stamp) {
        if !news.is_empty() || until > self.stamp() {
            self.0.marks.learn(news, until);
        }
    }

    /// Tags whose invalidation is remembered, for observation; their number is bounded.
    #[must_use]
    pub fn marks(&self) -> usize {
        self.0.marks.len()
    }

    /// Begins a fill of `key`; `stamp` is what the look-up before it returned.
    #[must_use]
    pub fn begin_fill(&self, key: &CacheKey, stamp: Stamp) -> Fill {
        self.0.fills.begin(key, stamp)
    }

    /// For a change that makes a response itself: see [`Table::succeed`].
    pub(crate) fn supersede(&self, fill: &Fill) -> Option<Fill> {
        self.0.fills.succeed(fill)
    }

    /// A place for refreshing `key` in the background; `None` if that is being done already, failed
    /// a short while ago, or is being done for too many keys.
    pub(crate) fn try_refresh(&self, key: &CacheKey, now: Timestamp) -> Option<Refresh> {
        if self.is_draining() { None } else { self.0.refreshes.begin(key, now) }
    }

    /// A place for reading on what no client reads; `None` if that is being done already, or for
    /// too many keys.
    pub(crate) fn try_background(&self, key: &CacheKey) -> Option<Place> {
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
    pub fn invalidate_fills(&self, key: &CacheKey) {
        self.0.fills.overtake(key);
        self.0.flights.overtake(key);
    }

    /// Whether the key is being filled now.
    pub(crate) fn is_filling(&self, key: &CacheKey) -> bool {
        self.0.fills.is_open(key)
    }

    /// Takes part in asking for a key; `rest` tells requests for it apart that cannot share an
    /// answer.
    pub(crate) fn join(&self, key: &CacheKey, rest: &[u8]) -> Join {
        self.0.flights.join(key, rest)
    }

    /// Changes whenever one's answer is stored that others may have waited for.
    pub(crate) fn stored_count(&self) -> u64 {
        self.0.flights.stored()
    }

    /// Notes that what is answered for a key, and so told apart, cannot be stored: nobody waits for
    /// it then.
    pub(crate) fn mark_hit_for_miss(&self, key: &CacheKey, rest: &[u8], now: Timestamp) {
        self.0.unstorable.note((key.as_bytes(), rest), now);
    }

    /// Whether that was noted a short while ago.
    pub(crate) fn is_hit_for_miss(&self, key: &CacheKey, rest: &[u8], now: Timestamp) -> bool {
        self.0.unstorable.holds((key.as_bytes(), rest), now)
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
    pub(crate) fn reserve_bytes(&self, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation { coordinator: self.clone(), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    /// A place among the writes that outlive their request; `None` if there are `limit`.
    pub(crate) fn try_begin_write(&self, limit: usize) -> Option<WriteGuard> {
        let admitted = self.0.writes.fetch_add(1, Ordering::Relaxed) < limit;
        // Made first: dropping it takes the place back.
        let guard = WriteGuard(self.clone());
        admitted.then_some(guard)
    }

    /// Notes that a cache further in than `layer` answers for `key`.
    pub(crate) fn mark_inner_cache(&self, key: &CacheKey, layer: u8, now: Timestamp) {
        self.0.further_in.note((key.as_bytes(), layer), now);
    }

    /// Whether a cache further in than `layer` was seen to answer for `key`.
    pub(crate) fn has_inner_cache(&self, key: &CacheKey, layer: u8, now: Timestamp) -> bool {
        self.0.further_in.holds((key.as_bytes(), layer), now)
    }

    /// Makes a cache known to those who purge.
    pub(crate) fn register_cache(&self, cache: Weak<dyn UrlKeys>) {
        let mut caches = self.caches();
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(cache);
    }

    /// All caches over this store.
    pub(crate) fn registered_caches(&self) -> Vec<Arc<dyn UrlKeys>> {
        self.caches().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether a warning about the store is due; it is at most once an interval.
    pub(crate) fn should_warn_about_store(&self, now: Timestamp) -> bool {
        let mut last = self.0.warned_store.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.since(last) >= WARNING_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }

    /// Whether this is the first encoded response without `Vary`.
    pub(crate) fn should_warn_about_encoding(&self) -> bool {
        !self.0.warned_encoding.swap(true, Ordering::Relaxed)
    }

    fn caches(&self) -> MutexGuard<'_, Vec<Weak<dyn UrlKeys>>> {
        self.0.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("stamp", &self.stamp())
            .field("marks", &self.marks())
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
    coordinator: Coordinator,
    bytes: usize,
}

impl Reservation {
    /// Sets more bytes aside; `false`, and nothing changed, if the budget is spent.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let copied = &self.coordinator.0.copied;
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
        self.coordinator.0.copied.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// One write that outlives its request.
#[derive(Debug)]
pub(crate) struct WriteGuard(Coordinator);

impl Drop for WriteGuard {
    fn drop(&mut self) {
        self.0.0.writes.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::response::tests::at;

    #[test]
    fn the_fill_budget_is_one_for_all_and_given_back() {
        let coordinator = Coordinator::new();
        let mut one = coordinator.reserve_bytes(FILL_BUDGET / 2).unwrap();
        let two = coordinator.clone().reserve_bytes(FILL_BUDGET / 2).unwrap();
        assert!(coordinator.reserve_bytes(1).is_none() && !one.grow(1));
        drop(two);
        assert!(one.grow(1));
        drop(one);
        assert_eq!(coordinator.bytes_in_fills(), 0);
    }

    #[test]
    fn writes_that_outlive_requests_are_bounded() {
        let coordinator = Coordinator::new();
        let one = coordinator.try_begin_write(1);
        assert!(one.is_some() && coordinator.try_begin_write(1).is_none());
        drop(one);
        assert!(coordinator.try_begin_write(1).is_some());
    }

    #[test]
    fn trouble_is_warned_of_at_most_once_an_interval() {
        let coordinator = Coordinator::new();
        let due = [0, 1, 29, 30, 31].map(|second| coordinator.should_warn_about_store(at(second)));
        assert_eq!(due, [true, false, false, true, false]);
        assert!(
            coordinator.should_warn_about_encoding() && !coordinator.should_warn_about_encoding()
        );
    }
}
