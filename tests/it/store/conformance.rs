//! The conformance suite: the memory store passes it, and stores with one fault each fail it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use actix_web_cache::{
    MemoryStore,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse, UrlKey, Variants, conformance,
    },
};

/// The fault of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    ComparesUrlsOnly,
    KeepsOneVariant,
    IgnoresInvalidatedFills,
    IgnoresInvalidation,
    RemovesNothing,
    CountsOne,
    RemovesOneKeyOfUrl,
    LosesConcurrentPuts,
}

/// A simple store with a fault, which the conformance suite must find. The fault is inside the store, so a
/// `HookedStore` cannot add it.
struct Faulty {
    fault: Fault,
    entries: Mutex<HashMap<Vec<u8>, Arc<Variants>>>,
    coordinator: Coordinator,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { fault, entries: Mutex::default(), coordinator: Coordinator::new() }
    }

    /// The bytes by which the store finds an entry.
    fn name(&self, key: &CacheKey) -> Vec<u8> {
        match self.fault {
            Fault::ComparesUrlsOnly => key.url().as_bytes().to_vec(),
            _ => key.as_bytes().to_vec(),
        }
    }

    fn existing(&self, key: &CacheKey) -> Option<Arc<Variants>> {
        self.entries.lock().unwrap().get(&self.name(key)).cloned()
    }

    fn add(
        &self,
        entries: &mut HashMap<Vec<u8>, Arc<Variants>>,
        existing: Option<&Variants>,
        key: &CacheKey,
        response: Arc<StoredResponse>,
    ) -> Put {
        let existing = existing.filter(|_| self.fault != Fault::KeepsOneVariant);
        let Some(variants) = Variants::add(existing, response, usize::MAX) else {
            return Put::Outdated;
        };
        entries.insert(self.name(key), Arc::new(variants));
        Put::Stored
    }
}

impl Store for Faulty {
    fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    async fn lookup(&self, key: &CacheKey, _: &Selector<'_>) -> Result<Lookup, StoreError> {
        Ok(Lookup::new(self.existing(key), self.coordinator.stamp()))
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        if self.fault == Fault::LosesConcurrentPuts {
            let existing = self.existing(key);
            tokio::task::yield_now().await;
            let mut entries = self.entries.lock().unwrap();
            return Ok(self.add(&mut entries, existing.as_deref(), key, response));
        }
        let mut entries = self.entries.lock().unwrap();
        let outdated = fill.is_invalidated() && self.fault != Fault::IgnoresInvalidatedFills;
        if outdated || !self.coordinator.is_valid(key, &response) {
            return Ok(Put::Outdated);
        }
        let existing = entries.get(&self.name(key)).cloned();
        Ok(self.add(&mut entries, existing.as_deref(), key, response))
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        if self.fault == Fault::RemovesNothing {
            return Ok(self.existing(key).map_or(0, |variants| variants.responses().len()));
        }
        let removed = self.entries.lock().unwrap().remove(&self.name(key));
        Ok(removed.map_or(0, |variants| match self.fault {
            Fault::CountsOne => 1,
            _ => variants.responses().len(),
        }))
    }

    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        let mut entries = self.entries.lock().unwrap();
        let mut keys: Vec<_> =
            entries.keys().filter(|key| url.contains_bytes(key)).cloned().collect();
        if self.fault == Fault::RemovesOneKeyOfUrl {
            keys.truncate(1);
        }
        let removed = keys.iter().filter_map(|key| entries.remove(key));
        Ok(removed.map(|variants| variants.responses().len()).sum())
    }

    async fn invalidate(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        if self.fault != Fault::IgnoresInvalidation {
            self.coordinator.invalidate(invalidation);
        }
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_store_passes_conformance_suite() {
    conformance::check(|| MemoryStore::new(16 * 1024 * 1024)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn custom_store_without_fault_passes_conformance_suite() {
    conformance::check(|| Faulty::new(Fault::None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn store_with_any_single_fault_fails_conformance_suite() {
    for fault in [
        Fault::ComparesUrlsOnly,
        Fault::KeepsOneVariant,
        Fault::IgnoresInvalidatedFills,
        Fault::IgnoresInvalidation,
        Fault::RemovesNothing,
        Fault::CountsOne,
        Fault::RemovesOneKeyOfUrl,
        Fault::LosesConcurrentPuts,
    ] {
        let result = tokio::spawn(conformance::check(move || Faulty::new(fault))).await;
        assert!(result.is_err_and(|error| error.is_panic()), "{fault:?} passes the suite");
    }
}
