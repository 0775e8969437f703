//! A store of your own: plain `async fn`s, and the conformance suite.
//!
//! This store is a map behind a lock. It limits the number of URLs instead of bytes, evicts any entry
//! instead of the one that is used least, and does not free expired entries. `MemoryStore` does all
//! of that.

use std::{
    collections::HashMap,
    env, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix_web::{App, HttpServer, Responder, get};
use actix_web_cache::{
    Cache,
    store::{
        CacheKey, Coordinator, Fill, Lookup, Put, Selector, Store, StoreError, StoredResponse,
        UrlKey, Variants,
    },
};

/// Clones share one map.
#[derive(Clone)]
struct MapStore {
    entries: Arc<Mutex<HashMap<CacheKey, Arc<Variants>>>>,
    coordinator: Coordinator,
    max_urls: usize,
}

impl MapStore {
    fn new(max_urls: usize) -> Self {
        Self { entries: Arc::default(), coordinator: Coordinator::new(), max_urls }
    }

    /// The lock is never held across an await.
    fn lock(&self) -> MutexGuard<'_, HashMap<CacheKey, Arc<Variants>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MapStore {
    fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    async fn lookup(&self, key: &CacheKey, _: &Selector<'_>) -> Result<Lookup, StoreError> {
        // The stamp is read before the responses: see `Lookup::stamp`.
        let stamp = self.coordinator.stamp();
        Ok(Lookup::new(self.lock().get(key).cloned(), stamp))
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        let mut entries = self.lock();
        // The lock is held until the insert below, so that no removal comes in between.
        if fill.is_invalidated() || !self.coordinator.is_valid(key, &response) {
            return Ok(Put::Outdated);
        }
        let existing = entries.get(key).map(Arc::as_ref);
        let Some(variants) = Variants::add(existing, response, usize::MAX) else {
            return Ok(Put::Outdated);
        };
        if existing.is_none() && entries.len() >= self.max_urls {
            let any = entries.keys().next().cloned();
            any.and_then(|key| entries.remove(&key));
        }
        entries.insert(key.clone(), Arc::new(variants));
        Ok(Put::Stored)
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        let removed = self.lock().remove(key);
        Ok(removed.map_or(0, |variants| variants.responses().len()))
    }

    /// Visits all entries. A larger store has an index by `CacheKey::url`.
    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        let mut entries = self.lock();
        let removed = entries.extract_if(|key, _| url.contains(key));
        Ok(removed.map(|(_, variants)| variants.responses().len()).sum())
    }
}

/// The response states no lifetime, so the default policy stores it for a minute.
#[get("/")]
async fn page() -> impl Responder {
    "kept in a map\n"
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let store = MapStore::new(1000);
    let server = HttpServer::new(move || App::new().wrap(Cache::new(store.clone())).service(page))
        .bind(("127.0.0.1", port()))?;
    for addr in server.addrs() {
        println!("listening on http://{addr}");
        println!("  curl -i http://{addr}/   # Cache-Status: fwd=uri-miss; stored");
        println!("  curl -i http://{addr}/   # Cache-Status: hit");
    }
    server.run().await
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}

/// `cargo test --example custom_store --features test-util`
#[cfg(test)]
mod tests {
    use actix_web_cache::store::conformance;

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn map_store_passes_the_conformance_suite() {
        conformance::check(|| MapStore::new(1000)).await;
    }
}
