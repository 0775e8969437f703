//! Memory in front of Redis: a hit without a round trip, coherent between processes.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Coordinator, Fill, Invalidation, Lease, Lookup, MemoryStore, MemoryStoreError, Put, Store,
    StoreError,
    redis::{RedisStats, RedisStore},
};
use crate::{
    entry::key::CacheKey, entry::response::StoredResponse, entry::selector::Selector,
    entry::validity::Validity,
};

/// A [`MemoryStore`] in each process, in front of the [`RedisStore`] that all of them share.
///
/// A cheap handle, as each of the two is. What is asked for often is answered from memory; the rest
/// costs a round trip and is then in memory, too.
///
/// ```no_run
/// use actix_web_cache::{Cache, RedisStore, TieredStore};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let redis = RedisStore::new("redis://127.0.0.1:6379")?;
/// let cache = Cache::new(TieredStore::new(redis));
/// # Ok(())
/// # }
/// ```
///
/// # How old an answer may be
///
/// A copy in memory is judged by the same table of invalidations as what is in Redis. Each process
/// hears of a purge when it is announced, which takes about a millisecond, with whatever it asks of
/// Redis, and by asking for it a few times in each
/// [`max_staleness`](TieredStoreBuilder::max_staleness). So after a purge has returned
///
/// | while | the process that purged | other processes |
/// |---|---|---|
/// | all is well | serves nothing of it | serve nothing of it from some milliseconds on |
/// | announcements are not heard | serves nothing of it | serve nothing of it after `max_staleness`, 1 s |
/// | Redis cannot be reached by another process | serves nothing of it | that one serves nothing of it after [`near_lifetime`](TieredStoreBuilder::near_lifetime), 60 s |
/// | Redis cannot be reached by the process that purges: the purge returns an error | serves nothing of it, now and after Redis is back | serve it until Redis is back and was told, or its lifetime is over |
///
/// Nothing is answered from memory for longer than `near_lifetime`, whatever its lifetime is: what
/// another process stores over it is seen here no later than that.
///
/// # When Redis fails
///
/// The memory goes on as if it were alone: it answers, and keeps what handlers answer. What was
/// invalidated by others meanwhile is invalid as soon as Redis is back.
#[derive(Clone)]
pub struct TieredStore(Arc<Inner>);

struct Inner {
    near: MemoryStore,
    far: RedisStore,
    max_staleness: Duration,
    near_lifetime: Duration,
    near_hits: AtomicU64,
}

/// What a [`TieredStore`] did so far, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TieredStats {
    /// Look-ups that were answered from memory, without a round trip.
    pub near_hits: u64,
    /// URLs in memory, about.
    pub near_len: u64,
    /// Bytes in memory, about.
    pub near_bytes: u64,
    /// What happened between the process and Redis.
    pub far: RedisStats,
}

impl TieredStore {
    /// A store with the default settings: 64 MiB of memory.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the defaults are valid, as a test shows")]
    pub fn new(far: RedisStore) -> Self {
        Self::builder(far).build().expect("the default configuration is valid")
    }

    /// A store to be configured.
    pub const fn builder(far: RedisStore) -> TieredStoreBuilder {
        TieredStoreBuilder {
            far,
            near_bytes: 64 * 1024 * 1024,
            near_lifetime: Duration::from_secs(60),
            max_staleness: Duration::from_secs(1),
        }
    }

    /// What happened so far, in this process.
    #[must_use]
    pub fn stats(&self) -> TieredStats {
        let Inner { near, far, near_hits, .. } = &*self.0;
        TieredStats {
            near_hits: near_hits.load(Ordering::Relaxed),
            near_len: near.len(),
            near_bytes: near.bytes(),
            far: far.stats(),
        }
    }

    /// What memory has, of what it may answer with; `wanted` tells the responses that count.
    fn near(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
        wanted: impl Fn(&StoredResponse) -> bool,
    ) -> Lookup {
        let Inner { near, near_lifetime, .. } = &*self.0;
        let mut found = near.find(key);
        let now = selector.now().monotonic();
        let counts = |response: &StoredResponse| {
            now.saturating_sub(response.received) < *near_lifetime && wanted(response)
        };
        if let Some(variants) = &found.variants
            && !variants.responses().iter().all(|response| counts(response))
        {
            found.variants = variants.retain(counts).map(Arc::new);
        }
        found
    }
}

impl Store for TieredStore {
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
        // What is no longer fresh here may have been renewed by another process.
        let found = self.near(key, selector, |response| {
            selector.selects(response)
                && response.lifetime.remaining(selector.now()).is_some()
                && self.coordinator().validity(key, response) == Validity::Valid
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
                    log::warn!("{}; what is in memory goes on", error.with_cause());
                }
                return Ok(self.near(key, selector, |_| true));
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
        // There first: it knows what selects among all that was ever stored.
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
        self.0.near.remove_entry(key);
        removed
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        let result = self.0.far.invalidate(what).await;
        if *what == Invalidation::PurgeAll {
            self.0.near.clear();
        }
        result
    }

    fn supports_leases(&self) -> bool {
        self.0.far.supports_leases()
    }

    async fn lease(&self, key: &CacheKey, rest: &[u8]) -> Result<Lease, StoreError> {
        self.0.far.lease(key, rest).await
    }
}

impl fmt::Debug for TieredStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TieredStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

/// Makes a [`TieredStore`].
#[derive(Debug)]
#[must_use]
pub struct TieredStoreBuilder {
    far: RedisStore,
    near_bytes: usize,
    near_lifetime: Duration,
    max_staleness: Duration,
}

impl TieredStoreBuilder {
    /// Bytes of memory it takes at most, in each process. Default 64 MiB.
    pub const fn near_bytes(mut self, bytes: usize) -> Self {
        self.near_bytes = bytes;
        self
    }

    /// How long a copy in memory is used at most. Default 60 s.
    pub const fn near_lifetime(mut self, lifetime: Duration) -> Self {
        self.near_lifetime = lifetime;
        self
    }

    /// How long it may take, while Redis can be reached, until a purge by another process counts
    /// for what is in memory. Default 1 s; 10 ms at least. Each process asks Redis for purges four
    /// times as often.
    pub const fn max_staleness(mut self, limit: Duration) -> Self {
        self.max_staleness = limit;
        self
    }

    /// Makes the store.
    ///
    /// # Errors
    ///
    /// If it could keep nothing, or would never be current.
    pub fn build(self) -> Result<TieredStore, TieredStoreError> {
        let Self { far, near_bytes, near_lifetime, max_staleness } = self;
        if max_staleness < Duration::from_millis(10) {
            return Err(TieredStoreError::MaxStaleness);
        }
        if near_lifetime.is_zero() {
            return Err(TieredStoreError::NearLifetime);
        }
        let near = MemoryStore::builder().max_bytes(near_bytes);
        let near = near
            .build_with_coordinator(far.coordinator().clone())
            .map_err(TieredStoreError::NearBytes)?;
        far.keep_current(max_staleness / 4);
        let near_hits = AtomicU64::new(0);
        Ok(TieredStore(Arc::new(Inner { near, far, max_staleness, near_lifetime, near_hits })))
    }
}

/// A [`TieredStore`] cannot be made like this.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TieredStoreError {
    /// There is too little memory for anything.
    NearBytes(MemoryStoreError),
    /// Copies in memory would never be used.
    NearLifetime,
    /// Redis would be asked without end.
    MaxStaleness,
}

impl fmt::Display for TieredStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NearBytes(error) => error.fmt(f),
            Self::NearLifetime => f.write_str(
                "copies that are never used need no memory: give near_lifetime some seconds, or use \
                 RedisStore alone",
            ),
            Self::MaxStaleness => f.write_str(
                "max_staleness is 10 ms at least: where nothing may be stale, use RedisStore alone",
            ),
        }
    }
}

impl Error for TieredStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NearBytes(error) => Some(error),
            Self::NearLifetime | Self::MaxStaleness => None,
        }
    }
}
