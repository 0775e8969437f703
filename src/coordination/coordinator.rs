//! The coordinator of a store: the state that the store and all caches over it share within one
//! process.
//!
//! A fill is one call of a handler whose response may be stored. A flight is one call of a handler
//! for whose response several requests wait (request collapsing). The logical time of a store is a
//! number that grows with each purge or expiry. A stamp is one reading of the logical time.

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

/// The shortest time between two warnings about a failing store.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// The state that a store and all caches over it share within one process.
///
/// A store makes one coordinator when the store itself is made, and returns it from
/// [`Store::coordinator`](crate::store::Store::coordinator). Clones of a coordinator share their
/// state.
///
/// A store calls these methods of its coordinator:
///
/// * [`stamp`](Self::stamp) returns the logical time of the store, which each lookup returns.
/// * [`is_valid`](Self::is_valid) tells whether a response may be stored. A purged response may
///   not.
/// * [`invalidate`](Self::invalidate) records a purge or an expiry. The provided
///   [`Store::invalidate`](crate::store::Store::invalidate) calls this method. A store that several
///   processes share also reports the invalidations of other processes
///   ([`record_remote`](Self::record_remote)).
///
/// The other public methods of the coordinator are for metrics and tests.
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

    /// The logical time of the store: a number that grows with each purge or expiry. A lookup must
    /// read the logical time **before** it reads stored responses.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.0.log.now()
    }

    /// Whether `response` has not been purged since the call of its handler began. The check covers
    /// the tags that the response carries, and the tags that follow from `key` and from the
    /// variant. An expired response is still valid, and the cache validates it with the handler
    /// before reuse.
    #[must_use]
    pub fn is_valid(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        self.validity(key, response) != Validity::Purged
    }

    /// Records a purge or an expiry. The invalidation applies to every response whose handler was
    /// called before `invalidate`.
    pub fn invalidate(&self, invalidation: &Invalidation) {
        self.0.log.invalidate(invalidation);
    }

    /// Records invalidations by other processes, oldest first. Each invalidation has its logical
    /// time.
    ///
    /// `until` is the logical time up to which the list is complete. The list may repeat
    /// invalidations that are recorded already.
    ///
    /// Only stores that take their logical time from outside of this process call this method. A
    /// logical time from outside must grow by more than one with each invalidation. If this process
    /// cannot report an invalidation to the other processes, [`invalidate`](Self::invalidate)
    /// increases the last recorded time by one.
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

    /// The number of tags that have a recorded invalidation. The number is bounded: the oldest
    /// records are replaced by one invalidation of all responses that are as old.
    #[must_use]
    pub fn recorded_tags(&self) -> usize {
        self.0.log.len()
    }

    /// The number of open flights: calls of a handler that other requests can wait for.
    #[must_use]
    pub fn open_flights(&self) -> usize {
        self.0.flights.len()
    }

    /// The number of keys with background work: a refresh, or a fill whose client has left.
    #[must_use]
    pub fn open_refreshes(&self) -> usize {
        self.0.refreshes.len()
    }

    /// The number of keys with a fill in progress.
    #[must_use]
    pub fn open_fills(&self) -> usize {
        self.0.fills.len()
    }

    /// The number of bytes of response bodies that fills hold in memory.
    #[must_use]
    pub fn bytes_in_fills(&self) -> usize {
        self.0.fill_budget.reserved()
    }
}

/// Methods for validity and fills.
impl Coordinator {
    /// The effect of all purges and expiries so far on a response.
    pub(crate) fn validity(&self, key: &CacheKey, response: &StoredResponse) -> Validity {
        self.0.log.validity(key, response)
    }

    /// Begins a fill of `key`. `stamp` is the logical time that the preceding lookup returned.
    pub(crate) fn begin_fill(&self, key: &CacheKey, stamp: Stamp) -> Fill {
        self.0.fills.begin(key, stamp)
    }

    /// Invalidates all fills of the key of `fill` and begins a new fill of the key. Returns `None`
    /// if `fill` was invalidated already.
    ///
    /// The cache calls this method if an unsafe request (for example a `PUT`) is answered with the
    /// new representation of its target. The response to the unsafe request is more recent than the
    /// response of every other fill.
    pub(crate) fn supersede(&self, fill: &Fill) -> Option<Fill> {
        self.0.fills.supersede(fill)
    }

    /// Invalidates the fills of `key` that are in progress, and closes the flights of `key` to
    /// later requests.
    ///
    /// The cache calls this method before [`Store::remove`](crate::store::Store::remove). Each fill
    /// has then either stored its response, and the store removes the response, or has not, and
    /// does not store it.
    pub(crate) fn invalidate_fills(&self, key: &CacheKey) {
        self.0.fills.invalidate(key);
        self.0.flights.close(key);
    }

    /// The number of keys that were invalidated so far. If the number is equal before a lookup and
    /// after the begin of a fill, no key was invalidated between them.
    pub(crate) fn invalidated_keys(&self) -> u64 {
        self.0.fills.invalidated_keys()
    }

    /// Whether a fill of `key` is in progress.
    pub(crate) fn is_filling(&self, key: &CacheKey) -> bool {
        self.0.fills.is_open(key)
    }

    /// Reserves bytes for the body of a fill. Returns `None` if the budget has too few bytes left.
    pub(crate) fn reserve_bytes(&self, bytes: usize) -> Option<Reservation> {
        self.0.fill_budget.reserve(bytes)
    }

    /// Permits a write to the store that outlives its request. Returns `None` if `limit` such
    /// writes are in progress.
    pub(crate) fn try_begin_write(&self, limit: usize) -> Option<WritePermit> {
        self.0.writes.try_begin(limit)
    }
}

/// Methods for flights and hit-for-miss.
impl Coordinator {
    /// Joins or opens the flight for a key. `collapse_key` is the encoded
    /// [`CollapseKey`](super::leader::CollapseKey) of the request. Requests for one cache key with
    /// different collapse keys cannot share a response.
    pub(crate) fn join(&self, key: &CacheKey, collapse_key: &[u8]) -> FlightRole {
        self.0.flights.join(key, collapse_key)
    }

    /// The number of flights that ended with a stored response. A lookup uses the number as a
    /// version of the store.
    pub(crate) fn stored_count(&self) -> u64 {
        self.0.flights.stored()
    }

    /// Marks a key as hit-for-miss because its response cannot be stored. For some seconds,
    /// requests for the key do not wait for each other.
    pub(crate) fn mark_hit_for_miss(&self, key: &CacheKey, collapse_key: &[u8], now: Timestamp) {
        self.0.hits_for_miss.mark((key.as_bytes(), collapse_key), now);
    }

    /// Whether the key was marked as hit-for-miss within the last few seconds.
    pub(crate) fn is_hit_for_miss(
        &self,
        key: &CacheKey,
        collapse_key: &[u8],
        now: Timestamp,
    ) -> bool {
        self.0.hits_for_miss.is_marked((key.as_bytes(), collapse_key), now)
    }
}

/// Methods for background work and draining.
impl Coordinator {
    /// Permits a refresh of `key` in the background. Returns `None` in four cases: the key has
    /// background work already, its last refresh failed a short while ago, too many keys have
    /// background work, or the cache drains.
    pub(crate) fn try_refresh(&self, key: &CacheKey, now: Timestamp) -> Option<RefreshPermit> {
        if self.is_draining() { None } else { self.0.refreshes.try_refresh(key, now) }
    }

    /// Permits a fill of `key` to continue after its client has left. Returns `None` in three
    /// cases: the key has background work already, too many keys have background work, or the cache
    /// drains.
    pub(crate) fn try_background(&self, key: &CacheKey) -> Option<BackgroundPermit> {
        if self.is_draining() { None } else { self.0.refreshes.try_background(key) }
    }

    /// Refuses all new background work from now on.
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
            // Both futures are made before the check, so that they also notice work that ends
            // between the check and the wait.
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

/// Methods for the list of caches and for warnings.
impl Coordinator {
    /// Marks that an inner cache answers for `key`. An inner cache is nested in the cache at
    /// position `layer`, where 0 is the outermost cache.
    pub(crate) fn mark_inner_cache(&self, key: &CacheKey, layer: u8, now: Timestamp) {
        self.0.inner_caches.mark((key.as_bytes(), layer), now);
    }

    /// Whether an inner cache, nested in the cache at position `layer`, answered for `key` within
    /// the last few seconds.
    pub(crate) fn has_inner_cache(&self, key: &CacheKey, layer: u8, now: Timestamp) -> bool {
        self.0.inner_caches.is_marked((key.as_bytes(), layer), now)
    }

    /// Registers a cache over this store, so that a purge of a URL can ask the cache for its keys.
    pub(crate) fn register_cache(&self, cache: Weak<dyn UrlKeys>) {
        let mut caches = self.caches();
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(cache);
    }

    /// The caches that are registered for this store and still exist.
    pub(crate) fn registered_caches(&self) -> Vec<Arc<dyn UrlKeys>> {
        self.caches().iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether a warning about a failing store is due. The warning is due at most once in 30
    /// seconds.
    pub(crate) fn should_warn_about_store(&self, now: Timestamp) -> bool {
        let mut last = self.0.last_store_warning.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.since(last) >= WARNING_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }

    /// Whether the warning about an encoded response without `Vary` is due. The warning is due once
    /// in the life of the coordinator.
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
