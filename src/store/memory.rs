//! A store in this process's memory, bounded in bytes.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Once},
    thread,
    time::{Duration, Instant},
};

use moka::{
    Expiry,
    ops::compute::{CompResult, Op},
    sync::Cache,
};

use super::{Coordinator, Fill, Invalidation, Lookup, Put, Store, StoreError};
use crate::{
    entry::key::CacheKey,
    entry::response::{StoredResponse, Variants},
    entry::selector::Selector,
};

/// What the engine itself takes for an entry, measured; without it a store of many small
/// responses would take several times its limit.
const ENTRY_OVERHEAD: usize = 512;

/// The engine frees what no longer fits at its own pace; after inserts of this size it is told to.
const LARGE: usize = 64 * 1024;

/// How often what expired is freed when nobody asks.
const TICK: Duration = Duration::from_secs(1);

/// Keeps responses in this process's memory, up to a number of bytes.
///
/// A cheap handle: clones share one memory, so one store made before `HttpServer::new` serves
/// all worker threads. What is used least is forgotten first.
///
/// Bytes count bodies, head fields, keys and the store's own bookkeeping (512 bytes a URL), so
/// the process grows by about what was asked for. No URL may take more than an eighth of it.
#[derive(Clone)]
pub struct MemoryStore(Arc<Inner>);

struct Inner {
    // The engine is private so that it can change without a breaking release.
    entries: Cache<Arc<[u8]>, Arc<Variants>>,
    max_entry: usize,
    coordinator: Coordinator,
    housekeeper: Once,
}

impl MemoryStore {
    /// A store of at most `max_bytes` bytes. 64 MiB is a good start.
    ///
    /// # Panics
    ///
    /// At start-up, if `max_bytes` is so small that the store could keep nothing;
    /// [`builder`](Self::builder) returns that as an error instead.
    #[must_use]
    #[expect(clippy::panic, reason = "documented, at start-up; the builder returns the error")]
    pub fn new(max_bytes: usize) -> Self {
        match Self::builder().max_bytes(max_bytes).build() {
            Ok(store) => store,
            Err(error) => panic!("{error}"),
        }
    }

    /// For a store whose configuration is checked without panic.
    pub const fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { max_bytes: 64 * 1024 * 1024 }
    }

    /// URLs in the store, about: what was just added or forgotten may not count yet.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.entries.entry_count()
    }

    /// Whether the store is empty, about.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes in the store, about, as its limit counts them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.entries.weighted_size()
    }

    pub(super) fn find(&self, key: &CacheKey) -> Lookup {
        // Time first: what is invalidated in between is then older than the look-up says.
        let stamp = self.0.coordinator.stamp();
        let found = self.0.entries.get(key.as_bytes());
        let first = found.as_deref().and_then(|variants| variants.responses().first());
        if first.is_some_and(|newest| !self.0.coordinator.is_valid(key, newest)) {
            return Lookup { variants: self.sweep(key), stamp };
        }
        Lookup { variants: found, stamp }
    }

    /// Frees what was purged of an entry that is met; returns what is left of it.
    fn sweep(&self, key: &CacheKey) -> Option<Arc<Variants>> {
        let coordinator = &self.0.coordinator;
        let swept = self.0.entries.entry(key.to_shared()).and_compute_with(|existing| {
            let valid = |response: &StoredResponse| coordinator.is_valid(key, response);
            let left = existing.and_then(|existing| existing.into_value().retain(valid));
            left.map_or(Op::Remove, |left| Op::Put(Arc::new(left)))
        });
        match swept {
            CompResult::Inserted(entry)
            | CompResult::ReplacedWith(entry)
            | CompResult::Unchanged(entry) => Some(entry.into_value()),
            CompResult::Removed(_) | CompResult::StillNone(_) => None,
        }
    }

    /// Only to free memory: what is invalid is so without it.
    pub(super) fn clear(&self) {
        self.0.entries.invalidate_all();
        self.0.entries.run_pending_tasks();
    }

    fn add(&self, key: &CacheKey, response: Arc<StoredResponse>, fill: &Fill) -> Put {
        let inner = &self.0;
        let fixed = key.as_bytes().len() + ENTRY_OVERHEAD;
        let weight = response.weight() + fixed;
        if weight > inner.max_entry {
            return Put::TooLarge;
        }
        let result = inner.entries.entry(key.to_shared()).and_compute_with(|existing| {
            // The engine holds the key's lock here: no removal comes between check and insert.
            if fill.is_invalidated() || !inner.coordinator.is_valid(key, &response) {
                return Op::Nop;
            }
            let valid = |response: &StoredResponse| inner.coordinator.is_valid(key, response);
            let existing = existing.and_then(|existing| existing.into_value().retain(valid));
            Variants::add(existing.as_ref(), response, inner.max_entry - fixed)
                .map_or(Op::Nop, |variants| Op::Put(Arc::new(variants)))
        });
        if !matches!(result, CompResult::Inserted(_) | CompResult::ReplacedWith(_)) {
            return Put::Outdated;
        }
        if weight >= LARGE {
            inner.entries.run_pending_tasks();
        }
        inner.housekeeper.call_once(|| keep_house(inner));
        Put::Stored
    }

    /// Keeps a copy of what another store has. It knows best: what there is may only stay if it is
    /// younger.
    pub(super) fn keep(&self, key: &CacheKey, copy: Arc<StoredResponse>) {
        let inner = &self.0;
        let fixed = key.as_bytes().len() + ENTRY_OVERHEAD;
        if copy.weight() + fixed > inner.max_entry {
            return;
        }
        inner.entries.entry(key.to_shared()).and_compute_with(|existing| {
            if !inner.coordinator.is_valid(key, &copy) {
                return Op::Nop;
            }
            let existing = existing.map(moka::Entry::into_value);
            let younger = existing.iter().flat_map(|variants| variants.responses()).any(|old| {
                old.same_selection(&copy)
                    && old.lifetime.response.wall() > copy.lifetime.response.wall()
            });
            if younger {
                return Op::Nop;
            }
            let room = inner.max_entry - fixed;
            let added = Variants::add(existing.as_deref(), Arc::clone(&copy), room);
            // Less selects than was known here: then nothing here is right.
            added
                .or_else(|| Variants::add(None, copy, room))
                .map_or(Op::Nop, |all| Op::Put(Arc::new(all)))
        });
    }

    pub(super) fn forget(&self, key: &CacheKey) -> usize {
        // By the same lock as `add`: a plain removal could slip between its check and insert.
        let removed = self.0.entries.entry(key.to_shared()).and_compute_with(|_| Op::Remove);
        match removed {
            CompResult::Removed(entry) => entry.into_value().responses().len(),
            _ => 0,
        }
    }
}

impl Store for MemoryStore {
    fn coordinator(&self) -> &Coordinator {
        &self.0.coordinator
    }

    async fn lookup(&self, key: &CacheKey, _: &Selector<'_>) -> Result<Lookup, StoreError> {
        Ok(self.find(key))
    }

    fn lookup_now(&self, key: &CacheKey, _: &Selector<'_>) -> Option<Result<Lookup, StoreError>> {
        Some(Ok(self.find(key)))
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        Ok(self.add(key, response, fill))
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        Ok(self.forget(key))
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        self.0.coordinator.invalidate(what);
        if *what == Invalidation::PurgeAll {
            self.clear();
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore")
            .field("len", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// Makes a [`MemoryStore`].
#[derive(Debug, Clone)]
#[must_use]
pub struct MemoryStoreBuilder {
    max_bytes: usize,
}

impl MemoryStoreBuilder {
    /// Bytes it takes at most. Default 64 MiB.
    pub const fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Makes the store.
    ///
    /// # Errors
    ///
    /// If it could keep nothing.
    pub fn build(self) -> Result<MemoryStore, MemoryStoreError> {
        self.build_over(Coordinator::new())
    }

    /// The same for copies of what another store has, whose users share the rest.
    pub(super) fn build_over(
        self,
        coordinator: Coordinator,
    ) -> Result<MemoryStore, MemoryStoreError> {
        let max_entry = self.max_bytes / 8;
        if max_entry <= ENTRY_OVERHEAD {
            return Err(MemoryStoreError(self.max_bytes));
        }
        let entries = Cache::builder()
            .name("actix-web-cache")
            .max_capacity(self.max_bytes as u64)
            .weigher(|key: &Arc<[u8]>, variants: &Arc<Variants>| {
                let weight = variants.weight() + key.len() + ENTRY_OVERHEAD;
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .expire_after(WhenUseless)
            .build();
        let housekeeper = Once::new();
        Ok(MemoryStore(Arc::new(Inner { entries, max_entry, coordinator, housekeeper })))
    }
}

/// The number of bytes a memory store was given lets it keep nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryStoreError(usize);

impl fmt::Display for MemoryStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = 8 * (ENTRY_OVERHEAD + 1);
        write!(
            f,
            "a memory store of {} bytes could keep nothing: give it at least {least}, better \
             64 * 1024 * 1024",
            self.0
        )
    }
}

impl Error for MemoryStoreError {}

/// Frees entries when none of their responses is of use. Only memory hangs on it: look-ups judge
/// freshness themselves.
struct WhenUseless;

impl WhenUseless {
    fn keep(variants: &Variants) -> Duration {
        let made = variants.responses().first().map(|newest| newest.lifetime().response);
        // A second of grace: the engine's clock is not the cache's.
        made.map_or(Duration::ZERO, |made| variants.useful_for(made)) + Duration::from_secs(1)
    }
}

impl Expiry<Arc<[u8]>, Arc<Variants>> for WhenUseless {
    fn expire_after_create(
        &self,
        _: &Arc<[u8]>,
        value: &Arc<Variants>,
        _: Instant,
    ) -> Option<Duration> {
        Some(Self::keep(value))
    }

    fn expire_after_update(
        &self,
        _: &Arc<[u8]>,
        value: &Arc<Variants>,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(Self::keep(value))
    }
}

/// The engine works only when it is called; this calls it, from the first insert to the store's
/// end, so that what expires in a quiet hour is freed in that hour.
fn keep_house(store: &Arc<Inner>) {
    let store = Arc::downgrade(store);
    let work = move || {
        loop {
            thread::sleep(TICK);
            let Some(store) = store.upgrade() else { return };
            store.entries.run_pending_tasks();
        }
    };
    if let Err(error) = thread::Builder::new().name("cache-memory".to_owned()).spawn(work) {
        log::warn!("no thread to free expired cache entries: {error}");
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::ACCEPT;
    use bytes::Bytes;

    use super::*;
    use crate::{entry::response::tests::stored, entry::tag::TagId};

    fn key(n: usize) -> CacheKey {
        CacheKey::new("t", "http", "h", &format!("/{n}"), None)
    }

    fn put(store: &MemoryStore, key: &CacheKey, body: usize) -> Put {
        let fill = store.coordinator().begin_fill(key, store.coordinator().stamp());
        let body = Bytes::from(vec![0; body]);
        store.add(key, Arc::new(StoredResponse { body, ..stored(0, &[]) }), &fill)
    }

    #[test]
    fn a_store_that_could_keep_nothing_is_refused_with_advice() {
        for bytes in [0, 1, 4096] {
            let error = MemoryStore::builder().max_bytes(bytes).build().unwrap_err();
            assert!(error.to_string().contains("at least 4104"), "{error}");
        }
        assert!(MemoryStore::builder().max_bytes(64 * 1024).build().is_ok());
    }

    #[test]
    #[should_panic(expected = "give it at least")]
    fn new_panics_at_start_up_for_a_store_of_nothing() {
        let _ = MemoryStore::new(0);
    }

    #[test]
    fn what_is_larger_than_an_eighth_is_not_kept() {
        let store = MemoryStore::new(1024 * 1024);
        assert_eq!(put(&store, &key(1), 128 * 1024), Put::TooLarge);
        assert!(store.find(&key(1)).variants.is_none());
        assert_eq!(put(&store, &key(1), 100 * 1024), Put::Stored);
        assert!(store.find(&key(1)).variants.is_some());
    }

    #[test]
    fn what_was_purged_is_freed_when_it_is_met_and_variants_that_were_not_stay() {
        let store = MemoryStore::new(16 * 1024 * 1024);
        let tag = TagId::tag("t", "a");
        let tagged = |accept| StoredResponse {
            tags: Box::new([tag]),
            ..stored(0, &[(ACCEPT, Some(accept))])
        };
        let add = |key: &CacheKey, response: StoredResponse| {
            let stamp = store.coordinator().stamp();
            let fill = store.coordinator().begin_fill(key, stamp);
            store.add(key, Arc::new(StoredResponse { stamp, ..response }), &fill)
        };
        for n in 0..1000 {
            assert_eq!(add(&key(n), stored(0, &[(ACCEPT, Some("fr"))])), Put::Stored);
            assert_eq!(add(&key(n), tagged("de")), Put::Stored);
        }
        for n in 1000..2000 {
            assert_eq!(add(&key(n), tagged("de")), Put::Stored);
        }
        store.0.entries.run_pending_tasks();
        let (full, count) = (store.bytes(), store.len());
        store.coordinator().invalidate(&Invalidation::PurgeTags(vec![tag]));
        for n in 0..2000 {
            let found = store.find(&key(n)).variants;
            assert_eq!(found.map(|found| found.responses().len()), (n < 1000).then_some(1), "{n}");
        }
        store.0.entries.run_pending_tasks();
        assert_eq!((store.len(), count), (1000, 2000));
        assert!(store.bytes() < full * 6 / 10, "{} of {full} bytes", store.bytes());
        assert_eq!(add(&key(0), tagged("es")), Put::Stored);
    }

    #[test]
    fn it_stays_within_its_bytes() {
        let store = MemoryStore::new(1024 * 1024);
        for n in 0..10_000 {
            put(&store, &key(n), 100);
        }
        store.0.entries.run_pending_tasks();
        assert!(store.bytes() <= 1024 * 1024, "{} bytes", store.bytes());
        assert!(store.len() > 500, "{} entries", store.len());
        for n in 0..100 {
            put(&store, &key(n), 100 * 1024);
            assert!(store.bytes() <= 1024 * 1024 + 110 * 1024, "{} bytes", store.bytes());
        }
    }
}
