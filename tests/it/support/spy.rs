//! A memory store that counts its operations and can be made to fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web_cache::{
    MemoryStore,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse,
    },
};

use super::{Counter, store};

/// A memory store with counters and a switch.
#[derive(Debug, Clone)]
pub(crate) struct Spy {
    store: MemoryStore,
    pub(crate) lookups: Counter,
    pub(crate) puts: Counter,
    broken: Arc<AtomicBool>,
}

impl Spy {
    pub(crate) fn new() -> Self {
        Self {
            store: store(),
            lookups: Counter::default(),
            puts: Counter::default(),
            broken: Arc::default(),
        }
    }

    /// Makes all operations fail, or succeed again.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.broken.load(Ordering::SeqCst) { Err(StoreError::new("broken")) } else { Ok(()) }
    }
}

impl Store for Spy {
    fn coordinator(&self) -> &Coordinator {
        self.store.coordinator()
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        self.lookups.count();
        self.check()?;
        self.store.lookup(key, selector).await
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        self.puts.count();
        self.check()?;
        self.store.put(key, response, fill).await
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        self.check()?;
        self.store.remove(key).await
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        self.check()?;
        self.store.invalidate(what).await
    }
}
