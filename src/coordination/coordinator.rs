//! The coordinator of a store: the state that the store and all caches with this store share within
//! one process.
//!
//! A fill is one call of a handler whose response may be stored. A flight is one handler call whose
//! response several requests may share (request collapsing). The logical time of a store is a
//! number that grows with each purge or expiry (soft purge). A stamp is one reading of the logical
//! time. An inner cache is nested inside another cache.

mod background;
mod caches;
mod counts;
mod fills;
mod flights;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicBool},
};

use super::{
    budget::{FillBudget, OpenWrites},
    cache_list::CacheList,
    copy_jobs::CopyJobs,
    fills::OpenFills,
    flights::Flights,
    held_bodies::HeldBodies,
    inner_caches::InnerCaches,
    invalidation_log::InvalidationLog,
    key_marks::KeyMarks,
    problems::Problems,
    refreshes::Refreshes,
    removals::Removal,
    replacements::ReplacedInvalidations,
    request_bodies::RequestBodies,
    search_variances::SearchVariances,
    warnings::Warnings,
};
use crate::{
    clock::Clock,
    entry::{invalidation::Invalidation, key::CacheKey, response::StoredResponse, stamp::Stamp},
};

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
    inner_caches: InnerCaches,
    caches: CacheList,
    problems: Problems,
    warnings: Warnings,
}

/// Methods for stores.
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
