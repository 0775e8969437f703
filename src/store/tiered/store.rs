//! The tiered store: a store in the memory of each process (the near store), in front of a store
//! that all processes share (the far store).

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::far_store::FarStore;
use crate::{
    coordination::{coordinator::Coordinator, fills::Fill, lease::Lease},
    entry::{
        coded_copy::CodedCopy,
        content_coding::ContentCoding,
        invalidation::Invalidation,
        key::{CacheKey, UrlKey},
        response::StoredResponse,
        selector::Selector,
        validity::Validity,
    },
    store::{
        interface::{Lookup, Put, Store, StoreError},
        memory::MemoryStore,
    },
};

/// A [`MemoryStore`] in each process (the near store), in front of a store that all processes share
/// (the far store).
///
/// A popular response is served from memory. The first request for another response costs a round
/// trip to the far store, and later requests find the response in memory. The far store is a
/// `RedisStore` (feature `redis`) or any other [`FarStore`](crate::store::FarStore). Clones of a
/// tiered store share both stores.
///
/// ```no_run
/// # #[cfg(feature = "redis")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use actix_web_cache::{Cache, RedisStore, TieredStore};
///
/// let redis = RedisStore::new("redis://127.0.0.1:6379", "shop")?;
/// let cache = Cache::new(TieredStore::new(redis));
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "redis"))]
/// # fn main() {}
/// ```
///
/// # Responses that were purged
///
/// An invalidation applies to responses in memory and in the far store. With a `RedisStore`, a
/// process learns of a purge in three ways: from the announcement of the purge (a pub/sub message
/// of Redis that takes about a millisecond), from each lookup in Redis, and from reading new
/// invalidations four times in each
/// [`max_staleness`](crate::store::TieredStoreBuilder::max_staleness). The table shows for how long
/// a purged response may be served after the purge has returned:
///
/// | while | by the process that purged | by other processes |
/// |---|---|---|
/// | Redis works | not served | some milliseconds |
/// | announcements do not arrive | not served | `max_staleness` (1 s by default) |
/// | another process cannot reach Redis | not served | by that process for [`near_lifetime`](crate::store::TieredStoreBuilder::near_lifetime) (60 s by default) |
/// | the purging process cannot reach Redis, and the purge returns an error | not served | until the purge reaches Redis, or the response's lifetime ends |
///
/// No response is served from memory for longer than `near_lifetime`. If another process stores a
/// newer response, this process serves the newer response at the latest after that time.
///
/// # When the far store fails
///
/// While the far store fails, the near store alone serves responses and stores the responses of
/// handlers. Responses that other processes purged during that time become invalid once the far
/// store can be reached again.
pub struct TieredStore<F>(Arc<Inner<F>>);

struct Inner<F> {
    near: MemoryStore,
    far: F,
    near_lifetime: Duration,
    max_staleness: Duration,
    near_hits: AtomicU64,
}

/// Counters of the near store (the memory) of a [`TieredStore`], in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TieredStats {
    /// The number of lookups that were answered from memory, without a round trip to the far store.
    pub near_hits: u64,
    /// The approximate number of cache keys in memory.
    pub near_len: u64,
    /// The approximate number of bytes in memory.
    pub near_bytes: u64,
}

impl<F: FarStore> TieredStore<F> {
    pub(super) fn from_parts(
        near: MemoryStore,
        far: F,
        near_lifetime: Duration,
        max_staleness: Duration,
    ) -> Self {
        let near_hits = AtomicU64::new(0);
        Self(Arc::new(Inner { near, far, near_lifetime, max_staleness, near_hits }))
    }

    /// Returns the counters of this process since the store was built.
    #[must_use]
    pub fn stats(&self) -> TieredStats {
        let Inner { near, near_hits, .. } = &*self.0;
        TieredStats {
            near_hits: near_hits.load(Ordering::Relaxed),
            near_len: near.len(),
            near_bytes: near.bytes(),
        }
    }

    /// Returns the far store, for instance to read the counters of the far store.
    #[must_use]
    pub fn far(&self) -> &F {
        &self.0.far
    }

    /// Looks up a key in memory. Returns the responses that `is_usable` accepts and that have been
    /// in memory for less than `near_lifetime`.
    fn lookup_near(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
        is_usable: impl Fn(&StoredResponse) -> bool,
    ) -> Lookup {
        let Inner { near, near_lifetime, .. } = &*self.0;
        let mut found = near.find(key, selector);
        let now = selector.now().monotonic();
        let counts = |response: &StoredResponse| {
            now.saturating_sub(response.received) < *near_lifetime && is_usable(response)
        };
        if let Some(variants) = &found.variants
            && !variants.responses().iter().all(|response| counts(response))
        {
            found.variants = variants.retain(counts).map(Arc::new);
        }
        found
    }
}

impl<F: FarStore> Store for TieredStore<F> {
    fn coordinator(&self) -> &Coordinator {
        self.0.far.coordinator()
    }

    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>> {
        let Inner { far, max_staleness, near_hits, .. } = &*self.0;
        if !far.is_current(*max_staleness) {
            return None;
        }
        // Use only fresh responses: another process may have replaced a stale response.
        let found = self.lookup_near(key, selector, |response| {
            selector.selects(response)
                && response.lifetime.remaining(selector.now()).is_some()
                && self.coordinator().validity(key, response) == Validity::Valid
                // A copy that is older than a dropped record of a removal is read again.
                && self.coordinator().is_valid(key, response)
        });
        found.variants.is_some().then(|| {
            near_hits.fetch_add(1, Ordering::Relaxed);
            Ok(found)
        })
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        let found = match self.0.far.lookup(key, selector).await {
            Ok(found) => found,
            Err(error) => {
                if self.coordinator().should_warn_about_store(selector.now()) {
                    log::warn!("{error}; serving responses from memory only");
                }
                return Ok(self.lookup_near(key, selector, |_| true));
            }
        };
        if let Some(variants) = &found.variants {
            for response in variants.responses() {
                self.0.near.add_copy(key, Arc::clone(response));
            }
        }
        Ok(found)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        let Inner { near, far, .. } = &*self.0;
        // Write to the far store first, because only the far store knows the selecting fields of
        // all variants.
        match far.put(key, Arc::clone(&response), fill).await {
            Ok(Put::Stored) => {
                near.add_copy(key, response);
                Ok(Put::Stored)
            }
            Ok(other) => Ok(other),
            Err(_) => near.put(key, response, fill).await,
        }
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        let removed = self.0.far.remove(key).await;
        self.0.near.remove_entries_of(key);
        removed
    }

    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        let removed = self.0.far.remove_url(url).await;
        self.0.near.remove_keys_of(url);
        removed
    }

    async fn invalidate(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        let result = self.0.far.invalidate(invalidation).await;
        if *invalidation == Invalidation::PurgeAll {
            self.0.near.clear();
        }
        result
    }

    fn max_body_size(&self) -> usize {
        self.0.far.max_body_size()
    }

    fn supports_coded_copies(&self) -> bool {
        self.0.far.supports_coded_copies()
    }

    async fn put_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        copy: CodedCopy,
    ) -> Result<(), StoreError> {
        let Inner { near, far, .. } = &*self.0;
        near.add_coded_copy(key, response, &copy);
        far.put_coded_copy(key, response, copy).await
    }

    async fn find_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        coding: ContentCoding,
    ) -> Result<Option<CodedCopy>, StoreError> {
        let Inner { near, far, .. } = &*self.0;
        let found = far.find_coded_copy(key, response, coding).await?;
        if let Some(copy) = &found {
            near.add_coded_copy(key, response, copy);
        }
        Ok(found)
    }

    fn supports_leases(&self) -> bool {
        self.0.far.supports_leases()
    }

    async fn lease(&self, key: &CacheKey, rest: &[u8]) -> Result<Lease, StoreError> {
        self.0.far.lease(key, rest).await
    }
}

impl<F> Clone for TieredStore<F> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<F: FarStore> fmt::Debug for TieredStore<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
