//! Methods of [`Coordinator`] for validity, fills and bodies.

use super::Coordinator;
use crate::{
    coordination::{
        budget::WritePermit,
        copy_jobs::CopyJobs,
        fills::Fill,
        held_bodies::HeldBodies,
        request_bodies::RequestBody,
        search_variances::SearchVariances,
        shared_body::{BodyWriter, SharedBody},
    },
    entry::{
        key::{CacheKey, UrlKey},
        response::StoredResponse,
        stamp::Stamp,
        validity::Validity,
    },
};

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
    pub(crate) fn held_bodies(&self) -> &HeldBodies {
        &self.0.held_bodies
    }

    /// Returns the coded copies that are being made.
    pub(crate) fn copy_jobs(&self) -> &CopyJobs {
        &self.0.copy_jobs
    }

    /// Permits a write to the store, of a body with this length. The write may outlive its request.
    /// Returns `None` if too many writes are in progress.
    pub(crate) fn try_begin_write(&self, length: usize) -> Option<WritePermit> {
        self.0.writes.try_begin(length)
    }
}
