//! A memory store that records its operations, and can be paused or made to fail.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web_cache::{
    MemoryStore,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse,
    },
};
use tokio::sync::Semaphore;

/// A point at which a task waits until the test lets it continue.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<(Semaphore, Semaphore)>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Semaphore::new(0), Semaphore::new(0))))
    }

    /// Waits until the test calls [`release`](Self::release).
    pub(crate) async fn wait(&self) {
        self.0.0.add_permits(1);
        self.0.1.acquire().await.unwrap().forget();
    }

    /// Waits until a task has reached this point.
    pub(crate) async fn reached(&self) {
        let arrival = tokio::time::timeout(Duration::from_secs(20), self.0.0.acquire()).await;
        arrival.expect("a task reaches the stop in time").unwrap().forget();
    }

    /// Lets one task continue.
    pub(crate) fn release(&self) {
        self.0.1.add_permits(1);
    }
}

/// A memory store whose operations yield before they complete.
#[derive(Clone)]
pub(crate) struct Watched(Arc<Inner>);

struct Inner {
    store: MemoryStore,
    fails: AtomicBool,
    log: Mutex<Vec<&'static str>>,
    puts: Semaphore,
    stops: Mutex<Vec<(&'static str, Stop)>>,
}

impl Watched {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner {
            store: super::store(),
            fails: AtomicBool::new(false),
            log: Mutex::default(),
            puts: Semaphore::new(0),
            stops: Mutex::default(),
        }))
    }

    /// Makes `remove` and `invalidate` fail, or succeed again.
    pub(crate) fn fail(&self, fails: bool) {
        self.0.fails.store(fails, Ordering::SeqCst);
    }

    /// Pauses the next operation at `looked up`, `putting` or `removing`.
    pub(crate) fn stop_at(&self, event: &'static str) -> Stop {
        let stop = Stop::new();
        self.0.stops.lock().unwrap().push((event, stop.clone()));
        stop
    }

    /// Waits until another `put` is complete.
    pub(crate) async fn stored(&self) {
        let put = tokio::time::timeout(Duration::from_secs(20), self.0.puts.acquire()).await;
        put.expect("a response is put in time").unwrap().forget();
    }

    /// Records an event of the test between those of the store: `looked up`, `putting`, `put`, `removing`
    /// and `removed`.
    pub(crate) fn note(&self, event: &'static str) {
        self.0.log.lock().unwrap().push(event);
    }

    /// Takes the events since the last call.
    pub(crate) fn events(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.0.log.lock().unwrap())
    }

    async fn at(&self, event: &'static str) {
        self.note(event);
        let stop = {
            let mut stops = self.0.stops.lock().unwrap();
            let found = stops.iter().position(|(name, _)| *name == event);
            found.map(|index| stops.remove(index).1)
        };
        match stop {
            Some(stop) => stop.wait().await,
            // A caller that does not await the operation must fail the test each time.
            None => tokio::task::yield_now().await,
        }
    }

    fn works(&self) -> Result<(), StoreError> {
        let fails = self.0.fails.load(Ordering::SeqCst);
        if fails { Err(StoreError::new("out of order")) } else { Ok(()) }
    }
}

impl Store for Watched {
    fn coordinator(&self) -> &Coordinator {
        self.0.store.coordinator()
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        let found = self.0.store.lookup(key, selector).await;
        self.at("looked up").await;
        found
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        self.at("putting").await;
        let put = self.0.store.put(key, response, fill).await;
        self.note("put");
        self.0.puts.add_permits(1);
        put
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        self.at("removing").await;
        self.works()?;
        let removed = self.0.store.remove(key).await;
        self.note("removed");
        removed
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        self.works()?;
        self.0.store.invalidate(what).await
    }
}
