//! A store whose type is chosen at run time.

use std::{fmt, sync::Arc};

use super::{
    erased::DynStore,
    interface::{Lookup, Put, Store, StoreError},
};
use crate::{
    coordination::{coordinator::Coordinator, fills::Fill, lease::Lease},
    entry::{
        coded_copy::CodedCopy,
        content_coding::ContentCoding,
        invalidation::Invalidation,
        key::{CacheKey, UrlKey},
        response::StoredResponse,
        selector::Selector,
    },
};

/// A store of any type, so that an application can choose its store at run time.
///
/// Clones of a boxed store share the inner store. Each call of an asynchronous method allocates a
/// future. A lookup or write that the inner store answers by [`lookup_now`](Store::lookup_now) or
/// [`put_now`](Store::put_now) allocates none.
///
/// ```
/// use actix_web_cache::{Cache, MemoryStore, store::BoxedStore};
///
/// fn store() -> Result<BoxedStore, Box<dyn std::error::Error>> {
///     # #[cfg(feature = "redis")]
///     if let Ok(url) = std::env::var("REDIS_URL") {
///         return Ok(BoxedStore::new(actix_web_cache::RedisStore::new(&url, "shop")?));
///     }
///     Ok(BoxedStore::new(MemoryStore::new(64 * 1024 * 1024)))
/// }
///
/// let cache = Cache::new(store()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct BoxedStore(Arc<dyn DynStore>);

impl BoxedStore {
    /// Makes a boxed store from a store of any type.
    #[must_use]
    pub fn new(store: impl Store) -> Self {
        Self(Arc::new(store))
    }
}

impl Store for BoxedStore {
    fn coordinator(&self) -> &Coordinator {
        self.0.coordinator()
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        self.0.lookup(key, selector).await
    }

    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>> {
        self.0.lookup_now(key, selector)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        self.0.put(key, response, fill).await
    }

    fn put_now(
        &self,
        key: &CacheKey,
        response: &Arc<StoredResponse>,
        fill: &Fill,
    ) -> Option<Result<Put, StoreError>> {
        self.0.put_now(key, response, fill)
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        self.0.remove(key).await
    }

    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        self.0.remove_url(url).await
    }

    async fn invalidate(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        self.0.invalidate(invalidation).await
    }

    fn max_body_size(&self) -> usize {
        self.0.max_body_size()
    }

    fn supports_coded_copies(&self) -> bool {
        self.0.supports_coded_copies()
    }

    async fn put_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        copy: CodedCopy,
    ) -> Result<(), StoreError> {
        self.0.put_coded_copy(key, response, copy).await
    }

    async fn find_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        coding: ContentCoding,
    ) -> Result<Option<CodedCopy>, StoreError> {
        self.0.find_coded_copy(key, response, coding).await
    }

    fn supports_leases(&self) -> bool {
        self.0.supports_leases()
    }

    async fn lease(&self, key: &CacheKey, collapse_key: &[u8]) -> Result<Lease, StoreError> {
        self.0.lease(key, collapse_key).await
    }
}

impl fmt::Debug for BoxedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxedStore").finish_non_exhaustive()
    }
}

#[cfg(all(test, feature = "test-util"))]
mod tests {
    use super::*;
    use crate::store::{conformance, memory::MemoryStore};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn boxed_store_passes_the_conformance_suite() {
        conformance::check(|| BoxedStore::new(MemoryStore::new(16 * 1024 * 1024))).await;
    }

    #[test]
    fn boxed_store_shares_the_coordinator_of_its_store() {
        let store = MemoryStore::new(1024 * 1024);
        let boxed = BoxedStore::new(store.clone());
        Store::coordinator(&store).invalidate(&Invalidation::PurgeAll);
        assert_eq!(Store::coordinator(&boxed).stamp(), Store::coordinator(&store).stamp());
        assert!(!Store::supports_leases(&boxed));
        assert_eq!(Store::max_body_size(&boxed), Store::max_body_size(&store));
        assert!(Store::max_body_size(&store) < 1024 * 1024 / 8);
    }
}
