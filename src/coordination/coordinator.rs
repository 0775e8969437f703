//! The handle through which caches and their store share state.

use std::{
    fmt,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::select;

use super::{
    budget::{FillBudget, OpenWrites, Reservation, WritePermit},
    fills::{Fill, OpenFills},
    flights::{FlightRole, Flights},
    hints::Hints,
    invalidation_log::InvalidationLog,
    refreshes::{BackgroundPermit, RefreshPermit, Refreshes},
};
use crate::{
    clock::Timestamp,
    entry::{
        invalidation::Invalidation, key::CacheKey, response::StoredResponse, stamp::Stamp,
        url_keys::UrlKeys, validity::Validity,
    },
};

/// The least time between two warnings about a failing store.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// Shares state between a store and all caches over it, within one process.
///
/// A store makes one coordinator when it is made, and returns it from
/// [`Store::coordinator`](crate::store::Store::coordinator). Clones share their state.
///
/// A store uses the coordinator for three things:
///
/// * [`stamp`](Self::stamp): the logical time that a lookup returns.
/// * [`is_valid`](Self::is_valid): no response that was purged may be stored.
/// * [`invalidate`](Self::invalidate): records an invalidation, which the provided
///   [`Store::invalidate`](crate::store::Store::invalidate) calls. A store that several processes
///   share also reports invalidations by other processes
///   ([`record_remote`](Self::record_remote)).
///
/// The other public methods are for metrics and tests.
#[derive(Clone, Default)]
pub struct Coordinator(Arc<SharedState>);

#[derive(Default)]
struct SharedState {
    log: InvalidationLog,
    fills: Arc<OpenFills>,
    fill_budget: FillBudget,
    flights: Arc<Flights>,
    hits_for_miss: Hints,
    refreshes: Arc<Refreshes>,
    writes: OpenWrites,
    draining: AtomicBool,
    inner_caches: Hints,
    caches: Mutex<Vec<Weak<dyn UrlKeys>>>,
    last_store_warning: Mutex<Option<Timestamp>>,
    warned_about_encoding: AtomicBool,
}

/// Methods for stores, metrics and tests.
impl Coordinator {
    /// Makes the coordinator of a new store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The logical time of the store. A lookup must read it **before** it reads stored responses.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.0.log.now()
    }

    /// Whether `response` has not been purged since its fill began: by a tag that it carries, or by a
    /// tag that `key` or the variant implies. A response that was only expired is valid, and the
    /// cache validates it before reuse.
    #[must_use]
    pub fn is_valid(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        self.validity(key, response) != Validity::Purged
    }

    /// Records an invalidation. From now on it applies to every response whose fill began before this
    /// call.
    pub fn invalidate(&self, invalidation: &Invalidation) {
        self.0.log.invalidate(invalidation);
    }

    /// Records invalidations by other processes, each with its logical time, oldest first.
    ///
    /// `until` is the logical time up to which the list is complete. Invalidations that are recorded
    /// already may be repeated.
    ///
    /// This is for stores whose logical time is made outside of this process. That time must grow by
    /// more than one with each invalidation: [`invalidate`](Self::invalidate) counts on from the
    /// last recorded time, for invalidations that this process cannot report to the others.
    ///
    /// ```
    /// use actix_web_cache::store::{Coordinator, Invalidation, Stamp};
    ///
    /// let coordinator = Coordinator::new();
    /// // Another process purged everything at the time 20. The list is complete up to 25.
    /// coordinator.record_remote(&[(Stamp::new(20), Invalidation::PurgeAll)], Stamp::new(25));
    /// assert_eq!(coordinator.stamp(), Stamp::new(25));
    /// ```
    pub fn record_remote(&self, invalidations: &[(Stamp, Invalidation)], until: Stamp) {
        if !invalidations.is_empty() || until > self.stamp() {
            self.0.log.record_remote(invalidations, until);
        }
    }

    /// The number of tags whose invalidation is recorded. It is bounded: the oldest records are
    /// replaced by an invalidation of everything that is as old.
    #[must_use]
    pub fn recorded_tags(&self) -> usize {
        self.0.log.len()
    }

    /// The number of requests to handlers that other requests can wait for (flights).
    #[must_use]
    pub fn open_flights(&self) -> usize {
        self.0.flights.len()
    }

    /// The number of keys with background work: a refresh, or a fill that no client reads.
    #[must_use]
    pub fn open_refreshes(&self) -> usize {
        self.0.refreshes.len()
    }

    /// The number of keys that are being filled.
    #[must_use]
    pub fn open_fills(&self) -> usize {
        self.0.fills.len()
    }

    /// The bytes of bodies that fills hold.
    #[must_use]
    pub fn bytes_in_fills(&self) -> usize {
        self.0.fill_budget.reserved()
    }
}

/// Validity and fills.
impl Coordinator {
    /// The effect of all invalidations so far on a response.
    pub(crate) fn validity(&self, key: &CacheKey, response: &StoredResponse) -> Validity {
        self.0.log.validity(key, response)
    }

    /// Begins a fill of `key`; `stamp` is the logical time that the lookup before it returned.
    pub(crate) fn begin_fill(&self, key: &CacheKey, stamp: Stamp) -> Fill {
        self.0.fills.begin(key, stamp)
    }

    /// Invalidates all fills of a fill's key and begins a new one in its place. Returns `None` if
    /// the fill was invalidated already.
    ///
    /// An unsafe method that responds with the new representation of its target uses this: the
    /// response is more recent than every other fill.
    pub(crate) fn supersede(&self, fill: &Fill) -> Option<Fill> {
        self.0.fills.supersede(fill)
    }

    /// Invalidates the fills of `key` that are in progress, and lets later requests join none of its
    /// flights.
    ///
    /// It is called before [`Store::remove`](crate::store::Store::remove). A fill has then either
    /// stored its response before, and the response is removed, or finds itself invalidated.
    pub(crate) fn invalidate_fills(&self, key: &CacheKey) {
        self.0.fills.invalidate(key);
        self.0.flights.close(key);
    }

    /// Whether a fill of the key is in progress.
    pub(crate) fn is_filling(&self, key: &CacheKey) -> bool {
        self.0.fills.is_open(key)
    }

    /// Reserves bytes for the body of a fill; `None` if the budget does not have them.
    pub(crate) fn reserve_bytes(&self, bytes: usize) -> Option<Reservation> {
        self.0.fill_budget.reserve(bytes)
    }

    /// Begins a write that outlives its request; `None` if `limit` such writes are open.
    pub(crate) fn try_begin_write(&self, limit: usize) -> Option<WritePermit> {
        self.0.writes.try_begin(limit)
    }
}

/// Flights and hit-for-miss.
impl Coordinator {
    /// Joins the flight for a key. `discriminator` keeps requests for the key apart that cannot share
    /// a response.
    pub(crate) fn join(&self, key: &CacheKey, discriminator: &[u8]) -> FlightRole {
        self.0.flights.join(key, discriminator)
    }

    /// The number of flights that ended with a stored response, as a version for lookups.
    pub(crate) fn stored_count(&self) -> u64 {
        self.0.flights.stored()
    }

    /// Marks a key as hit-for-miss: its response cannot be stored, and for some seconds no request
    /// waits for it.
    pub(crate) fn mark_hit_for_miss(&self, key: &CacheKey, discriminator: &[u8], now: Timestamp) {
        self.0.hits_for_miss.mark((key.as_bytes(), discriminator), now);
    }

    /// Whether the key was marked as hit-for-miss in the last seconds.
    pub(crate) fn is_hit_for_miss(
        &self,
        key: &CacheKey,
        discriminator: &[u8],
        now: Timestamp,
    ) -> bool {
        self.0.hits_for_miss.is_marked((key.as_bytes(), discriminator), now)
    }
}

/// Background work and drain.
impl Coordinator {
    /// Permits a refresh of `key` in the background. Returns `None` if the key has background work,
    /// if its last refresh failed a short while ago, if too many keys have background work, or while
    /// the cache drains.
    pub(crate) fn try_refresh(&self, key: &CacheKey, now: Timestamp) -> Option<RefreshPermit> {
        if self.is_draining() { None } else { self.0.refreshes.try_refresh(key, now) }
    }

    /// Permits a fill of `key` to go on after its client has left. Returns `None` if the key has
    /// background work, if too many keys have, or while the cache drains.
    pub(crate) fn try_background(&self, key: &CacheKey) -> Option<BackgroundPermit> {
        if self.is_draining() { None } else { self.0.refreshes.try_background(key) }
    }

    /// Permits no new background work from now on.
    pub(crate) fn begin_draining(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Waits until no fill and no background work is in progress.
    pub(crate) async fn idle(&self) {
        let SharedState { fills, refreshes, .. } = &*self.0;
        loop {
            // Both futures are made before the check, so that an end between the check and the wait
            // is noticed.
            let (no_fills, no_refreshes) =
                (pin!(fills.idle.notified()), pin!(refreshes.idle.notified()));
            let either = select(no_fills, no_refreshes);
            if fills.len() == 0 && refreshes.len() == 0 {
                return;
            }
            either.await;
        }
    }
}

/// Caches over the store, and warnings.
impl Coordinator {
    /// Marks that a cache nested within `layer` answers for `key`.
    pub(crate) fn mark_inner_cache(&self, key: &CacheKey, layer: u8, now: Timestamp) {
        self.0.inner_caches.mark((key.as_bytes(), layer), now);
    }

    /// Whether a cache nested within `layer` answered for `key` in the last seconds.
    pub(crate) fn has_inner_cache(&self, key: &CacheKey, layer: u8, now: Timestamp) -> bool {
        self.0.inner_caches.is_marked((key.as_bytes(), layer), now)
    }

    /// Registers a cache over this store, so that purges of a URL ask it for its keys.
    pub(crate) fn register_cache(&self, cache: Weak<dyn UrlKeys>) {
        let mut caches = self.caches();
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(cache);
    }

    /// All caches over this store.
    pub(crate) fn registered_caches(&self) -> Vec<Arc<dyn UrlKeys>> {
        self.caches().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether to log a warning about a failing store now. It is `true` at most once in 30 seconds.
    pub(crate) fn should_warn_about_store(&self, now: Timestamp) -> bool {
        let mut last = self.0.last_store_warning.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.since(last) >= WARNING_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }

    /// Whether to log the warning about an encoded response without `Vary`. It is `true` once.
    pub(crate) fn should_warn_about_encoding(&self) -> bool {
        !self.0.warned_about_encoding.swap(true, Ordering::Relaxed)
    }

    fn caches(&self) -> MutexGuard<'_, Vec<Weak<dyn UrlKeys>>> {
        self.0.caches.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator")
            .field("stamp", &self.stamp())
            .field("recorded_tags", &self.recorded_tags())
            .field("open_fills", &self.open_fills())
            .field("open_flights", &self.open_flights())
            .field("open_refreshes", &self.open_refreshes())
            .field("bytes_in_fills", &self.bytes_in_fills())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::at;

    #[test]
    fn store_warning_is_due_at_most_once_an_interval() {
        let coordinator = Coordinator::new();
        let due = [0, 1, 29, 30, 31].map(|second| coordinator.should_warn_about_store(at(second)));
        assert_eq!(due, [true, false, false, true, false]);
    }

    #[test]
    fn encoding_warning_is_due_once() {
        let coordinator = Coordinator::new();
        assert!(coordinator.should_warn_about_encoding());
        assert!(!coordinator.should_warn_about_encoding());
    }

    #[test]
    fn background_work_is_not_permitted_while_draining() {
        let coordinator = Coordinator::new();
        let key = CacheKey::new("t", "http", "h", "/", None);
        coordinator.begin_draining();
        assert!(coordinator.try_refresh(&key, at(0)).is_none());
        assert!(coordinator.try_background(&key).is_none());
    }
}
