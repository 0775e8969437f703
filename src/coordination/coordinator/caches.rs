//! Methods of [`Coordinator`] for the caches over the store, for their problems and their warnings.

use std::sync::{Arc, Weak};

use super::Coordinator;
use crate::{
    clock::Timestamp,
    coordination::{inner_caches::InnerCacheMark, problems::Problem},
    entry::{key::CacheKey, url_keys::UrlKeys},
};

/// Methods for the list of caches, for inner caches and for warnings.
impl Coordinator {
    /// Marks that an inner cache, nested inside the outer cache that calls this method, handles the
    /// requests for `key` with this discriminator. The discriminator contains the position of the
    /// outer cache.
    pub(crate) fn mark_inner_cache(&self, key: &CacheKey, discriminator: &[u8], now: Timestamp) {
        self.0.inner_caches.mark(key, discriminator, now);
    }

    /// Returns the mark of `key` if an inner cache handled a request for `key` with this
    /// discriminator within the last few seconds.
    pub(crate) fn inner_cache(
        &self,
        key: &CacheKey,
        discriminator: &[u8],
        now: Timestamp,
    ) -> Option<InnerCacheMark> {
        self.0.inner_caches.find(key, discriminator, now)
    }

    /// Ends a mark, because no inner cache has handled a request for its key. For some seconds, the
    /// key is not marked again.
    pub(crate) fn end_inner_cache(&self, mark: InnerCacheMark, now: Timestamp) {
        self.0.inner_caches.end(mark, now);
    }

    /// Registers a cache that uses this store. A purge of a URL asks each registered cache for the
    /// keys of that URL.
    pub(crate) fn register_cache(&self, cache: Weak<dyn UrlKeys>) {
        self.0.caches.add(cache);
    }

    /// Returns the caches that are registered for this store and still exist.
    pub(crate) fn registered_caches(&self) -> Vec<Arc<dyn UrlKeys>> {
        self.0.caches.all()
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
        self.0.warnings.is_store_warning_due(now)
    }

    /// Returns whether to log the warning about a response with `Content-Encoding` but without
    /// `Vary: Accept-Encoding`. Returns `true` only at the first call.
    pub(crate) fn should_warn_about_encoding(&self) -> bool {
        self.0.warnings.encoding.is_due()
    }

    /// Returns whether to log the warning about a path that changed between the cache and the
    /// handler. Returns `true` only at the first call.
    pub(crate) fn should_warn_about_rewritten_paths(&self) -> bool {
        self.0.warnings.rewritten_paths.is_due()
    }
}
