//! The builder of a tiered store. A tiered store is a store in the memory of each process (the near
//! store), in front of a store that all processes share (the far store).

use std::{error::Error, fmt, time::Duration};

use super::{far_store::FarStore, store::TieredStore};
use crate::store::memory::{MemoryStore, MemoryStoreError, eviction::Eviction};

/// The shortest `max_staleness` that the builder accepts. With a shorter time, each process would
/// read new invalidations so often that the load on the far store would be high.
const MIN_MAX_STALENESS: Duration = Duration::from_millis(10);

impl<F: FarStore> TieredStore<F> {
    /// Makes a store in front of `far`, the store that all processes share. The default settings
    /// apply: 64 MiB of memory in each process.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the default settings are valid, as a test shows")]
    pub fn new(far: F) -> Self {
        Self::builder(far).build().expect("the default settings are valid")
    }

    /// Returns a builder of a store in front of `far`, the store that all processes share.
    pub const fn builder(far: F) -> TieredStoreBuilder<F> {
        TieredStoreBuilder {
            far,
            near_bytes: 64 * 1024 * 1024,
            near_eviction: Eviction::TinyLfu,
            near_lifetime: Duration::from_secs(60),
            max_staleness: Duration::from_secs(1),
        }
    }
}

/// Builds a [`TieredStore`].
#[derive(Debug)]
#[must_use]
pub struct TieredStoreBuilder<F> {
    far: F,
    near_bytes: usize,
    near_eviction: Eviction,
    near_lifetime: Duration,
    max_staleness: Duration,
}

impl<F: FarStore> TieredStoreBuilder<F> {
    /// Sets the size limit of the memory store in each process, in bytes. Default 64 MiB.
    pub const fn near_bytes(mut self, bytes: usize) -> Self {
        self.near_bytes = bytes;
        self
    }

    /// Sets the way in which the full memory store of each process chooses the responses that it
    /// evicts. Default [`Eviction::TinyLfu`].
    pub const fn near_eviction(mut self, eviction: Eviction) -> Self {
        self.near_eviction = eviction;
        self
    }

    /// Sets the maximum time that a response is served from memory. Default 60 s.
    ///
    /// If another process stores a newer response, this process serves the newer response at the
    /// latest after this time.
    pub const fn near_lifetime(mut self, lifetime: Duration) -> Self {
        self.near_lifetime = lifetime;
        self
    }

    /// Sets the maximum time that a response is served from memory after another process purged it.
    /// Default 1 s, at least 10 ms.
    ///
    /// The limit holds while this process can reach the far store. Each process reads new
    /// invalidations from the far store four times in each `max_staleness`.
    pub const fn max_staleness(mut self, limit: Duration) -> Self {
        self.max_staleness = limit;
        self
    }

    /// Builds the store.
    ///
    /// # Errors
    ///
    /// If `near_bytes` is too small for any response, `near_lifetime` is zero, or `max_staleness`
    /// is less than 10 ms.
    pub fn build(self) -> Result<TieredStore<F>, TieredStoreError> {
        let Self { far, near_bytes, near_eviction, near_lifetime, max_staleness } = self;
        if max_staleness < MIN_MAX_STALENESS {
            return Err(TieredStoreError::MaxStaleness(max_staleness));
        }
        if near_lifetime.is_zero() {
            return Err(TieredStoreError::NearLifetime);
        }
        let near = MemoryStore::builder()
            .max_bytes(near_bytes)
            .eviction(near_eviction)
            .build_with_coordinator(far.coordinator().clone())
            .map_err(TieredStoreError::NearBytes)?;
        far.keep_current(max_staleness / 4);
        Ok(TieredStore::from_parts(near, far, near_lifetime, max_staleness))
    }
}

/// The reason why a [`TieredStore`] cannot be built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TieredStoreError {
    /// `near_bytes` is too small.
    NearBytes(MemoryStoreError),
    /// `near_lifetime` is zero.
    NearLifetime,
    /// `max_staleness` is less than 10 ms. The value is the time that was set.
    MaxStaleness(Duration),
}

impl fmt::Display for TieredStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NearBytes(_) => f.write_str(
                "near_bytes is too small to store any response: set 64 * 1024 * 1024 or so",
            ),
            Self::NearLifetime => f.write_str(
                "near_lifetime is zero: set it to some seconds, or use the far store without a \
                 `TieredStore`",
            ),
            Self::MaxStaleness(limit) => write!(
                f,
                "max_staleness is {limit:?}: set it to 10 ms or more, or, if no purged response may \
                 be served, use the far store without a `TieredStore`"
            ),
        }
    }
}

impl Error for TieredStoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NearBytes(error) => Some(error),
            Self::NearLifetime | Self::MaxStaleness(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{borrow::Cow, sync::Arc};

    use actix_web::http::header::HeaderName;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::{
        coordination::{coordinator::Coordinator, fills::Fill},
        entry::{
            content_coding::ContentCoding,
            fixtures::{at, stored},
            key::{CacheKey, UrlKey},
            response::StoredResponse,
            selector::{Selector, Selects},
        },
        store::interface::{Lookup, Put, Store, StoreError},
    };

    /// A far store that fails, and knows the invalidations of other processes if `is_current`.
    #[derive(Debug, Default)]
    struct FailingStore {
        coordinator: Coordinator,
        is_current: bool,
    }

    impl Store for FailingStore {
        fn coordinator(&self) -> &Coordinator {
            &self.coordinator
        }

        async fn lookup(&self, _: &CacheKey, _: &Selector<'_>) -> Result<Lookup, StoreError> {
            Err(StoreError::new("no lookups"))
        }

        async fn put(
            &self,
            _: &CacheKey,
            _: Arc<StoredResponse>,
            _: &Fill,
        ) -> Result<Put, StoreError> {
            Err(StoreError::new("no writes"))
        }

        async fn remove(&self, _: &CacheKey) -> Result<usize, StoreError> {
            Ok(0)
        }

        async fn remove_url(&self, _: UrlKey<'_>) -> Result<usize, StoreError> {
            Ok(0)
        }
    }

    impl FarStore for FailingStore {
        fn keep_current(&self, _: Duration) {}

        fn is_current(&self, _: Duration) -> bool {
            self.is_current
        }
    }

    /// A request without fields.
    struct Plain;

    impl Selects for Plain {
        fn value<'a>(&'a self, _: &HeaderName) -> Option<Cow<'a, [u8]>> {
            None
        }

        fn accepts_coding(&self) -> bool {
            false
        }

        fn decodes(&self, _: &StoredResponse) -> bool {
            true
        }

        fn preferred_coding(&self) -> Option<ContentCoding> {
            None
        }
    }

    #[test]
    fn full_near_store_evicts_by_its_setting() {
        const REQUESTED: usize = 20;
        let key = |n: usize| CacheKey::new("t", "http", "h", &format!("/{n}"), None);
        let is_held = |store: &TieredStore<FailingStore>, n: usize| {
            let selector = Selector::new(&Plain, &[], at(0));
            store.lookup_now(&key(n), &selector).is_some_and(|found| found.is_ok())
        };
        let put = |store: &TieredStore<FailingStore>, n: usize| {
            let fill = store.coordinator().begin_fill(&key(n), store.coordinator().stamp());
            let response = StoredResponse { body: vec![0; 1000].into(), ..stored(0, &[]) };
            let put = store.put(&key(n), Arc::new(response), &fill).now_or_never();
            assert_eq!(put.unwrap().unwrap(), Put::Stored);
        };
        // TinyLFU keeps the requested pages, and LRU the last ones.
        for (eviction, want) in [(Eviction::TinyLfu, REQUESTED), (Eviction::Lru, 0)] {
            let far = FailingStore { is_current: true, ..FailingStore::default() };
            let builder = TieredStore::builder(far).near_bytes(200_000);
            let store = builder.near_eviction(eviction).build().unwrap();
            for n in (0..REQUESTED).chain(1000..1200) {
                put(&store, n);
            }
            for _ in 0..20 {
                for n in 0..REQUESTED {
                    if !is_held(&store, n) {
                        put(&store, n);
                    }
                }
                assert!(store.stats().near_len > 50, "the store is full, and applies its changes");
            }
            for n in 2000..3000 {
                put(&store, n);
                assert!(store.stats().near_bytes <= 200_000);
            }
            let held = (0..REQUESTED).filter(|n| is_held(&store, *n)).count();
            assert_eq!(held, want, "{eviction:?}");
        }
    }

    #[test]
    fn default_settings_are_valid() {
        let store = TieredStore::new(FailingStore::default()).clone();
        assert_eq!((store.stats().near_hits, store.stats().near_len), (0, 0));
        assert!(!store.far().is_current(Duration::MAX));
    }

    #[test]
    fn unusable_settings_are_refused_with_advice() {
        let builder = || TieredStore::builder(FailingStore::default());
        let ms = Duration::from_millis;
        for (builder, advice) in [
            (builder().max_staleness(ms(9)), "10 ms"),
            (builder().near_lifetime(Duration::ZERO), "near_lifetime"),
            (builder().near_bytes(0), "near_bytes"),
        ] {
            let error = builder.build().unwrap_err();
            assert!(error.to_string().contains(advice), "{error}");
            let source = error.source().map(ToString::to_string);
            assert!(source.is_none_or(|source| !error.to_string().contains(&source)));
        }
        assert!(builder().max_staleness(ms(10)).build().is_ok());
    }
}
