//! The list of the caches over one store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::entry::url_keys::UrlKeys;

/// The caches over one store, as far as they still exist.
#[derive(Default)]
pub(super) struct CacheList(Mutex<Vec<Weak<dyn UrlKeys>>>);

impl CacheList {
    /// Adds a cache, and removes caches that do not exist any more.
    pub(super) fn add(&self, cache: Weak<dyn UrlKeys>) {
        let mut caches = self.lock();
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(cache);
    }

    /// Returns the caches that still exist.
    pub(super) fn all(&self) -> Vec<Arc<dyn UrlKeys>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<dyn UrlKeys>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
