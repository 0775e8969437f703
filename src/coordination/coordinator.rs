//! The coordinator of a store: the state that the store and all caches with this store share within
//! one process.
//!
//! A fill is one call of a handler whose response may be stored. A flight is one handler call whose
//! response several requests may share (request collapsing). The logical time of a store is a
//! number that grows with each purge or expiry (soft purge). A stamp is one reading of the logical
//! time. An inner cache is nested inside another cache.

use std::{
    fmt,
    net::IpAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::select;

use super::{
    budget::{FillBudget, OpenWrites, WritePermit},
    copy_jobs::CopyJobs,
    fills::{Fill, OpenFills},
    flights::{FlightRole, Flights},
    held_bodies::HeldBodies,
    invalidation_log::InvalidationLog,
    key_marks::KeyMarks,
    problems::{Problem, ProblemCounts, Problems},
    refreshes::{BackgroundPermit, RefreshPermit, Refreshes},
    removals::Removal,
    replacements::ReplacedInvalidations,
    request_bodies::{RequestBodies, RequestBody},
    search_variances::SearchVariances,
    shared_body::{BodyWriter, SharedBody},
};
use crate::{
    clock::{Clock, Timestamp},
    entry::{
        invalidation::Invalidation,
        key::{CacheKey, UrlKey},
        response::StoredResponse,
        stamp::Stamp,
        url_keys::UrlKeys,
        validity::Validity,
    },
};

/// The shortest time between two warnings about a failing store.
const WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// The state that a store and all caches with this store share within one process.
///
/// A store makes one coordinator when the store itself is made, and returns it from
/// [`Store::coordinator`](crate::store::Store::coordinator). Clones of a coordinator share their
/// state.
///
/// A store calls these methods of its coordinator:
///
/// * [`stamp`](Self::stamp) returns the logical time of the store: a number that grows with each
///   purge or expiry (soft purge). The result of each lookup contains this time.
/// * [`is_valid`](Self::is_valid) returns whether a response may be stored. A response that was
///   purged while its handler ran must not be stored.
/// * [`invalidate`](Self::invalidate) records a purge or an expiry. The default implementation of
///   [`Store::invalidate`](crate::store::Store::invalidate) calls this method.
/// * [`record_remote`](Self::record_remote) records the invalidations of other processes (for a
///   store that several processes share) or of earlier processes (for a store on disk).
///
/// The public methods that return counts are for metrics and tests.
#[derive(Clone, Default)]
pub struct Coordinator(Arc<SharedState>);

#[derive(Default)]
struct SharedState {
    log: InvalidationLog,
    fills: Arc<OpenFills>,
    fill_budget: FillBudget,
    held_bodies: HeldBodies,
    copy_jobs: CopyJobs,
    request_bodies: RequestBodies,
    search_variances: SearchVariances,
    flights: Arc<Flights>,
    hits_for_miss: KeyMarks,
    too_large: KeyMarks,
    refreshes: Arc<Refreshes>,
    writes: OpenWrites,
    draining: AtomicBool,
    inner_caches: KeyMarks,
    /// The marks of `inner_caches` that a request without an inner cache has ended.
    ended_inner_caches: KeyMarks,
    caches: Mutex<Vec<Weak<dyn UrlKeys>>>,
    problems: Problems,
    last_store_warning: Mutex<Option<Timestamp>>,
    warned_about_encoding: AtomicBool,
    warned_about_rewritten_paths: AtomicBool,
}

/// The mark of a key whose requests an inner cache handles.
#[derive(Debug, Clone, Copy)]
pub(crate) struct InnerCacheMark(u64);

/// Methods for stores, metrics and tests.
impl Coordinator {
    /// Makes the coordinator of a new store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the coordinator of a store whose responses outlive the process, such as a store on
    /// disk, when the store is opened again.
    ///
    /// `highest` is the latest stamp, of a response or of an invalidation, that the store has
    /// written. The logical time begins at the present time in microseconds since 1970, or just
    /// after `highest` if that is later. The present time counts because the store may have lost
    /// its latest writes. A purge in this process therefore applies to the responses of earlier
    /// processes. With [`new`](Self::new), the logical time would begin at zero, and a purge would
    /// apply to none of them.
    ///
    /// The new coordinator does not know the purges and expiries of earlier processes. Pass them to
    /// [`record_remote`](Self::record_remote) before the store is used:
    ///
    /// ```
    /// use actix_web_cache::store::{Coordinator, Invalidation, Stamp};
    ///
    /// // Read from disk.
    /// let highest = Stamp::new(57);
    /// let invalidations = [(Stamp::new(56), Invalidation::PurgeAll)];
    ///
    /// let coordinator = Coordinator::resume(highest);
    /// coordinator.record_remote(&invalidations, highest);
    /// assert!(coordinator.stamp() > highest);
    /// ```
    #[must_use]
    pub fn resume(highest: Stamp) -> Self {
        let present = Clock::system().now().wall().as_micros();
        let present = u64::try_from(present).unwrap_or_default();
        let start = Stamp::new(present.max(highest.get().saturating_add(1)));
        let log = InvalidationLog::starting_at(start);
        Self(Arc::new(SharedState { log, ..SharedState::default() }))
    }

    /// Returns the logical time of the store: a number that grows with each purge or expiry (soft
    /// purge). A lookup must read the logical time **before** it reads stored responses.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.0.log.now()
    }

    /// Returns whether `response` is valid: no purge since the beginning of its handler call
    /// applies to it.
    ///
    /// The check covers the tags that are stored with the response, and the tags that follow from
    /// `key` and from the variant. A response that was only expired (soft purge) is valid but
    /// stale.
    #[must_use]
    pub fn is_valid(&self, key: &CacheKey, response: &StoredResponse) -> bool {
        self.0.log.may_store(key, response)
    }

    /// Records a purge or an expiry. The invalidation applies only to responses whose handler was
    /// called before this method was called.
    pub fn invalidate(&self, invalidation: &Invalidation) {
        self.0.log.invalidate(invalidation);
    }

    /// Records the invalidations of other or earlier processes, each with its logical time. The
    /// list begins with the oldest invalidation.
    ///
    /// `until` is the logical time up to which the list is complete. The list may repeat
    /// invalidations that are recorded already.
    ///
    /// A store on disk calls this method when it is opened again (see [`resume`](Self::resume)). A
    /// store whose logical time comes from outside of this process, for example from a database
    /// server, calls it whenever the store learns invalidations. Such a logical time must grow by
    /// more than one with each invalidation. The gap is needed because
    /// [`invalidate`](Self::invalidate) records its invalidation at the latest known time plus one.
    /// A store calls `invalidate`, for example, for an invalidation that it could not send to the
    /// server.
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
        self.record_remote_removals(invalidations, &[], until);
    }

    /// Takes the replacements of invalidations since the last call. If there are too many
    /// invalidations, one invalidation **replaces** many others: those of the groups and path
    /// prefixes of one host, those of names, or the many expiries of one tag. A store that keeps
    /// invalidations outside of this process can then replace them there, too.
    ///
    /// There are replacements only after a call of [`record_remote`](Self::record_remote). Some of
    /// them are kept for a later call, until they replace more. If a store does not take them, they
    /// are dropped.
    #[must_use]
    pub fn take_replaced(&self) -> Vec<ReplacedInvalidations> {
        self.0.log.take_replaced()
    }

    /// Records invalidations and removals of other processes, each with its logical time. `until` is
    /// the logical time up to which both lists are complete. See
    /// [`record_remote`](Self::record_remote).
    ///
    /// A removal deletes the stored responses of a key or a URL
    /// ([`Store::remove_url`](crate::store::Store::remove_url)). A store that several processes
    /// share records it for handlers that are running meanwhile in other processes. The store can
    /// forget a removal once no response of such a handler can be stored any more. The number of
    /// removals is bounded apart from the number of invalidations, because clients can cause
    /// removals: they never make the stored responses of other URLs invalid.
    pub fn record_remote_removals(
        &self,
        invalidations: &[(Stamp, Invalidation)],
        removals: &[(Stamp, Removal)],
        until: Stamp,
    ) {
        if !(invalidations.is_empty() && removals.is_empty()) || until > self.stamp() {
            self.0.log.record_remote(invalidations, removals, until);
        }
    }

    /// Returns the number of tags that have a recorded invalidation. A tag that was both purged and
    /// expired counts twice. The number is bounded. If there are too many records, one record for
    /// all responses of a host, or for all responses with names, replaces many others. If this is
    /// not possible, the oldest records are dropped, and all responses that are older than the
    /// dropped records become invalid or stale.
    #[must_use]
    pub fn recorded_tags(&self) -> usize {
        self.0.log.len()
    }

    /// Returns the number of problems that the caches over the store had in this process: requests
    /// without a variant, failed and refused refreshes, and replaced and dropped records. If a
    /// problem repeats for one cache key, the cache also logs a warning.
    #[must_use]
    pub fn problems(&self) -> ProblemCounts {
        self.0.problems.counts(self.0.log.replaced(), self.0.log.dropped())
    }

    /// Returns the number of open flights: handler calls whose response other requests can wait
    /// for.
    #[must_use]
    pub fn open_flights(&self) -> usize {
        self.0.flights.len()
    }

    /// Returns the number of keys with background work: a refresh of a stored response, or a fill
    /// that continues after its client has been answered.
    #[must_use]
    pub fn open_refreshes(&self) -> usize {
        self.0.refreshes.len()
    }

    /// Returns the number of keys with a fill in progress. A fill is one call of a handler whose
    /// response may be stored.
    #[must_use]
    pub fn open_fills(&self) -> usize {
        self.0.fills.len()
    }

    /// Returns the number of bytes that the response bodies of fills take in memory, without the
    /// first 32 KiB of each body that a client reads.
    #[must_use]
    pub fn bytes_in_fills(&self) -> usize {
        self.0.fill_budget.held()
    }

    /// Returns the number of bytes of the stored bodies that responses to clients keep in memory,
    /// even if the store has dropped the bodies since. Bodies of at most 64 KiB do not count. The
    /// limit is 12 MiB, or an eighth of the limit of a memory store if that is more. One client, or
    /// one proxy, takes at most half of the limit. The bodies that requests have waited for while
    /// the handler ran may take as much again.
    #[must_use]
    pub fn bytes_in_hits(&self) -> usize {
        self.0.held_bodies.bytes()
    }

    /// Returns the number of paths whose responses have `No-Vary-Search`, as far as this process
    /// remembers them. The limit is 16384.
    #[must_use]
    pub fn paths_with_no_vary_search(&self) -> usize {
        self.0.search_variances.len()
    }

    /// Returns the number of bytes of the request bodies in memory that are part of cache keys
    /// ([`Policy::cache_queries`](crate::Policy::cache_queries)). The limit is 16 MiB.
    #[must_use]
    pub fn bytes_in_requests(&self) -> usize {
        self.0.request_bodies.bytes()
    }
}

/// Methods for validity and fills.
impl Coordinator {
    /// Returns the effect that all purges and expiries so far have on a response.
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
    /// The cache calls this method if the response to an unsafe request (a `POST`) is the new
    /// representation of its target. The response to the unsafe request is more recent than the
    /// response of every other fill.
    pub(crate) fn supersede(&self, fill: &Fill) -> Option<Fill> {
        self.0.fills.supersede(fill)
    }

    /// Invalidates the fills of `key` that are in progress, and closes the flights of `key` to
    /// later requests.
    ///
    /// The cache calls this method before [`Store::remove`](crate::store::Store::remove). If a fill
    /// stored its response before this call, `remove` removes the response. If not, the store
    /// never stores the response of this fill.
    pub(crate) fn invalidate_fills(&self, key: &CacheKey) {
        self.0.fills.invalidate(key);
        self.0.flights.close(key);
    }

    /// Does the same as [`invalidate_fills`](Self::invalidate_fills) for all keys of a URL, except
    /// the key `kept`. The cache calls this method before
    /// [`Store::remove_url`](crate::store::Store::remove_url).
    pub(crate) fn invalidate_fills_of_url(&self, url: UrlKey<'_>, kept: Option<&CacheKey>) {
        self.0.fills.invalidate_url(url, kept);
        self.0.flights.close_url(url, kept);
    }

    /// Returns the number of removals of keys and URLs so far. If the number is equal before a
    /// lookup and after the begin of a fill, nothing was removed between them.
    pub(crate) fn removals(&self) -> u64 {
        self.0.fills.removals()
    }

    /// Returns whether a fill of `key` is in progress.
    pub(crate) fn is_filling(&self, key: &CacheKey) -> bool {
        self.0.fills.is_open(key)
    }

    /// Begins the response body of a fill, with the declared length of the body in bytes. Returns
    /// `None` if the memory budget of all fills is full.
    pub(crate) fn begin_body(&self, declared: Option<usize>) -> Option<BodyWriter> {
        SharedBody::begin(&self.0.fill_budget, declared.unwrap_or(0))
    }

    /// Returns the paths whose responses have `No-Vary-Search`.
    pub(crate) fn search_variances(&self) -> &SearchVariances {
        &self.0.search_variances
    }

    /// Begins the body of a request that is part of a cache key.
    pub(crate) fn begin_request_body(&self) -> RequestBody {
        self.0.request_bodies.begin()
    }

    /// Returns the stored bodies that responses keep in memory.
    pub(crate) fn copy_jobs(&self) -> &CopyJobs {
        &self.0.copy_jobs
    }

    pub(crate) fn held_bodies(&self) -> &HeldBodies {
        &self.0.held_bodies
    }

    /// Permits a write to the store, of a body with this length. The write may outlive its request.
    /// Returns `None` if too many writes are in progress.
    pub(crate) fn try_begin_write(&self, length: usize) -> Option<WritePermit> {
        self.0.writes.try_begin(length)
    }
}

/// Methods for flights and hit-for-miss.
impl Coordinator {
    /// Joins the open flight for a cache key and a collapse key, or opens one. `collapse_key` is
    /// the encoded [`CollapseKey`](super::leader::CollapseKey) of the request. Requests for one
    /// cache key with different collapse keys cannot share a response in progress.
    pub(crate) fn join(&self, key: &CacheKey, collapse_key: &[u8]) -> FlightRole {
        self.0.flights.join(key, collapse_key)
    }

    /// Returns the number of flights that ended with a stored response. If the number has grown
    /// since a lookup, the store may have a response that this lookup did not find.
    pub(crate) fn stored_count(&self) -> u64 {
        self.0.flights.stored()
    }

    /// Marks a key as hit-for-miss because its response cannot be stored. For some seconds,
    /// requests with this key and collapse key do not wait for each other.
    pub(crate) fn mark_hit_for_miss(&self, key: &CacheKey, collapse_key: &[u8], now: Timestamp) {
        self.0.hits_for_miss.mark((key.as_bytes(), collapse_key), now);
    }

    /// Returns whether the key was marked as hit-for-miss within the last few seconds.
    pub(crate) fn is_hit_for_miss(
        &self,
        key: &CacheKey,
        collapse_key: &[u8],
        now: Timestamp,
    ) -> bool {
        self.0.hits_for_miss.is_marked((key.as_bytes(), collapse_key), now)
    }
}

/// Methods for responses that turned out to be too large.
impl Coordinator {
    /// Marks a key because its response is too large to be stored, which the cache noticed only
    /// while it received or stored the body. For some seconds, the cache does not try to store a
    /// response for the key.
    pub(crate) fn mark_too_large(&self, key: &CacheKey, now: Timestamp) {
        self.0.too_large.mark(key.as_bytes(), now);
    }

    /// Returns whether a response for the key was too large within the last few seconds.
    pub(crate) fn was_too_large(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.0.too_large.is_marked(key.as_bytes(), now)
    }
}

/// Methods for background work and draining.
impl Coordinator {
    /// Permits a refresh of `key` in the background. `client` is the address of the client whose
    /// request causes the refresh. Returns `None` in four cases: the key has background work
    /// already, its last refresh failed a short while ago, no place is free for the refresh, or the
    /// cache is being drained.
    pub(crate) fn try_refresh(
        &self,
        key: &CacheKey,
        client: Option<IpAddr>,
        now: Timestamp,
    ) -> Option<RefreshPermit> {
        if self.is_draining() { None } else { self.0.refreshes.try_refresh(key, client, now) }
    }

    /// Permits a fill of `key` to continue in the background after its client has been answered,
    /// for example by a stale response. `client` is the address of this client. Returns `None` in
    /// three cases: the key has background work already, no place is free for the fill, or the
    /// cache is being drained.
    pub(crate) fn try_continue_fill(
        &self,
        key: &CacheKey,
        client: Option<IpAddr>,
    ) -> Option<BackgroundPermit> {
        if self.is_draining() { None } else { self.0.refreshes.try_continue_fill(key, client) }
    }

    /// Refuses all new background work from now on, because the server is about to stop
    /// ([`Cache::drain`](crate::Cache::drain)).
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
    /// Marks that an inner cache, nested inside the outer cache that calls this method, handles the
    /// requests for `key` with this discriminator. The discriminator contains the position of the
    /// outer cache. For some seconds after [`end_inner_cache`](Self::end_inner_cache), the key is
    /// not marked again.
    pub(crate) fn mark_inner_cache(&self, key: &CacheKey, discriminator: &[u8], now: Timestamp) {
        let mark = self.0.inner_caches.digest((key.as_bytes(), discriminator));
        if !self.0.ended_inner_caches.is_marked(mark, now) {
            self.0.inner_caches.mark_digest(mark, now);
        }
    }

    /// Returns the mark of `key` if an inner cache handled a request for `key` with this
    /// discriminator within the last few seconds.
    pub(crate) fn inner_cache(
        &self,
        key: &CacheKey,
        discriminator: &[u8],
        now: Timestamp,
    ) -> Option<InnerCacheMark> {
        let mark = self.0.inner_caches.marked_digest((key.as_bytes(), discriminator), now)?;
        let is_ended = self.0.ended_inner_caches.is_marked(mark, now);
        (!is_ended).then_some(InnerCacheMark(mark))
    }

    /// Ends a mark, because no inner cache has handled a request for its key.
    pub(crate) fn end_inner_cache(&self, mark: InnerCacheMark, now: Timestamp) {
        self.0.ended_inner_caches.mark(mark.0, now);
    }

    /// Registers a cache that uses this store. A purge of a URL asks each registered cache for the
    /// keys of that URL.
    pub(crate) fn register_cache(&self, cache: Weak<dyn UrlKeys>) {
        let mut caches = self.caches();
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(cache);
    }

    /// Returns the caches that are registered for this store and still exist.
    pub(crate) fn registered_caches(&self) -> Vec<Arc<dyn UrlKeys>> {
        self.caches().iter().filter_map(Weak::upgrade).collect()
    }

    /// Counts a problem of a key. Returns whether to log a warning about it.
    pub(crate) fn note_problem(&self, problem: Problem, key: &CacheKey, now: Timestamp) -> bool {
        self.0.problems.note(problem, key, now)
    }

    /// Forgets the problems of a key, after a success.
    pub(crate) fn end_problem(&self, problem: Problem, key: &CacheKey) {
        self.0.problems.end(problem, key);
    }

    /// Returns whether a warning about a failing store should be logged now. Returns `true` at most
    /// once in 30 seconds.
    pub(crate) fn should_warn_about_store(&self, now: Timestamp) -> bool {
        let mut last = self.0.last_store_warning.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.since(last) >= WARNING_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }

    /// Returns whether to log the warning about a response with `Content-Encoding` but without
    /// `Vary: Accept-Encoding`. Returns `true` only at the first call.
    pub(crate) fn should_warn_about_encoding(&self) -> bool {
        !self.0.warned_about_encoding.swap(true, Ordering::Relaxed)
    }

    /// Returns whether to log the warning about a path that changed between the cache and the
    /// handler. Returns `true` only at the first call.
    pub(crate) fn should_warn_about_rewritten_paths(&self) -> bool {
        !self.0.warned_about_rewritten_paths.swap(true, Ordering::Relaxed)
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
        assert!(coordinator.try_refresh(&key, None, at(0)).is_none());
        assert!(coordinator.try_continue_fill(&key, None).is_none());
    }
}
