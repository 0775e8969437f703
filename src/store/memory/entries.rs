//! The entries of a memory store, and their end.
//!
//! An entry ends when its responses can neither be fresh nor be served stale. No lookup finds an entry
//! that has ended. To free it only saves memory, and a timer for each entry would take a tenth of the time
//! in which a response is stored. So a thread looks at all entries from time to time, if one of them may
//! have ended, and frees those that have.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use moka::sync::Cache;

use super::entry_key::EntryKey;
use crate::{
    clock::monotonic_now,
    entry::{digest::Digests, key::UrlKey, url_index::UrlIndex, variants::Variants},
};

/// The time between two ticks of the maintenance thread.
const TICK: Duration = Duration::from_secs(1);

/// The pause after a sweep, as a multiple of the time that the sweep took. So the sweeps of a large store
/// take at most a hundredth of the time of one processor.
const PAUSE: u32 = 100;

/// The value of an entry: the responses of a cache key, and the time of their end.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) variants: Arc<Variants>,
    /// The length of the URL, with which the bytes of the key begin.
    url_length: u32,
    /// The number of the tick with which the entry ends.
    pub(super) end: u32,
}

impl Entry {
    /// Makes an entry that ends with this tick.
    #[cfg(test)]
    pub(super) const fn until(variants: Arc<Variants>, end: u32) -> Self {
        Self { variants, url_length: 0, end }
    }

    /// Returns the URL of the entry, whose key has these bytes.
    fn url<'a>(&self, key: &'a [u8]) -> UrlKey<'a> {
        let length = usize::try_from(self.url_length).ok();
        UrlKey::of_bytes(length.and_then(|length| key.get(..length)).unwrap_or(key))
    }
}

/// The time of a store, in ticks of its thread. The store does not know the clock of the cache. At least a
/// second passes between two ticks, so that no entry ends too early.
struct Ticks {
    now: AtomicU32,
    /// A tick before which no entry ends. The entry that ended first may have been replaced meanwhile.
    first_end: AtomicU32,
}

impl Ticks {
    /// Counts the end of an entry.
    fn note_end(&self, end: u32) {
        // Most entries do not end first, so that the threads seldom write the value.
        if end < self.first_end.load(Ordering::Relaxed) {
            self.first_end.fetch_min(end, Ordering::Relaxed);
        }
    }
}

/// The entries of a memory store.
pub(super) struct Entries {
    pub(super) cache: Cache<EntryKey, Entry, Digests>,
    pub(super) urls: Arc<UrlIndex>,
    ticks: Ticks,
}

impl Entries {
    pub(super) fn new(cache: Cache<EntryKey, Entry, Digests>) -> Self {
        let ticks = Ticks { now: AtomicU32::new(0), first_end: AtomicU32::new(u32::MAX) };
        Self { cache, urls: Arc::default(), ticks }
    }

    /// Returns the responses of an entry that has not ended. The eviction policy counts the read as a
    /// request.
    pub(super) fn get(&self, key: &EntryKey) -> Option<Arc<Variants>> {
        self.get_entry(key).map(|entry| entry.variants)
    }

    /// Returns an entry that has not ended. The eviction policy counts the read as a request.
    pub(super) fn get_entry(&self, key: &EntryKey) -> Option<Entry> {
        self.cache.get(key).filter(|entry| self.tick() < entry.end)
    }

    /// Returns the number of the current tick.
    pub(super) fn tick(&self) -> u32 {
        self.ticks.now.load(Ordering::Relaxed)
    }

    /// Inserts or replaces an entry for a key of `url`, whose lock the caller holds. The caller makes sure
    /// that the maintenance thread runs ([`start_maintenance`]).
    pub(super) fn insert(&self, url: UrlKey<'_>, key: EntryKey, variants: Arc<Variants>) {
        let newest = variants.responses().first().map(|newest| newest.lifetime().response_time);
        let useful = newest.map_or(Duration::ZERO, |at| variants.useful_for(at));
        // One more for the fraction of a second in `useful`, and one because the next tick may begin at once.
        let ticks = u32::try_from(useful.as_secs().saturating_add(2)).unwrap_or(u32::MAX);
        let end = self.tick().saturating_add(ticks);
        let url_length = u32::try_from(url.as_bytes().len()).unwrap_or(u32::MAX);
        self.cache.insert(key, Entry { variants, url_length, end });
        self.ticks.note_end(end);
    }

    /// Begins the next tick, and returns its number.
    fn begin_tick(&self) -> u32 {
        self.ticks.now.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Frees the entries that have ended at the tick `now`, if there may be any.
    fn free_ended(&self, now: u32) {
        if now < self.ticks.first_end.load(Ordering::Relaxed) {
            return;
        }
        // Reset before the sweep, so that entries that are inserted during the sweep count. If the sweep
        // misses one of them, a later sweep frees it.
        self.ticks.first_end.store(u32::MAX, Ordering::Relaxed);
        for (key, entry) in &self.cache {
            if entry.end > now {
                self.ticks.note_end(entry.end);
                continue;
            }
            // No thread replaces the entry between the check and the removal.
            let _url = self.urls.lock(entry.url(key.bytes()));
            if self.cache.get(&*key).is_some_and(|entry| entry.end <= now) {
                self.cache.invalidate(&*key);
            }
        }
        self.cache.run_pending_tasks();
    }
}

/// Starts the maintenance thread of the entries in a store, which runs until the store is dropped. Moka,
/// the cache library, frees removed entries only during calls, so a store without traffic would keep them.
pub(super) fn start_maintenance<T: Send + Sync + 'static>(
    store: &Arc<T>,
    entries: impl Fn(&T) -> &Entries + Send + 'static,
) {
    let store = Arc::downgrade(store);
    let work = move || {
        let mut next_sweep = Duration::ZERO;
        loop {
            thread::sleep(TICK);
            let Some(store) = store.upgrade() else { return };
            let entries = entries(&store);
            entries.cache.run_pending_tasks();
            let (tick, began) = (entries.begin_tick(), monotonic_now());
            if began >= next_sweep {
                entries.free_ended(tick);
                let ended = monotonic_now();
                next_sweep = ended + PAUSE * ended.saturating_sub(began);
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("cache-memory".to_owned()).spawn(work) {
        log::warn!("cannot start the thread that frees expired cache entries: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::{super::MemoryStore, *};
    use crate::{
        entry::{fixtures::stored, key::CacheKey, response::StoredResponse},
        store::interface::Put,
    };

    fn key(path: &str) -> CacheKey {
        CacheKey::new("t", "http", "h", path, None)
    }

    /// Stores a response that is of use for this time.
    fn put(store: &MemoryStore, path: &str, useful: Duration) {
        let key = key(path);
        let fill = store.0.coordinator.begin_fill(&key, store.0.coordinator.stamp());
        let mut response = stored(0, &[]);
        (response.lifetime.freshness, response.lifetime.retention) = (useful / 2, useful / 2);
        let response = StoredResponse { stamp: fill.stamp(), ..response };
        assert_eq!(store.add(&key, Arc::new(response), &fill), Put::Stored);
    }

    fn has(store: &MemoryStore, path: &str) -> bool {
        store.0.entries.cache.contains_key(&EntryKey::of(&key(path), &[]))
    }

    /// Returns whether a lookup finds an entry.
    fn finds(store: &MemoryStore, path: &str) -> bool {
        store.0.entries.get(&EntryKey::of(&key(path), &[])).is_some()
    }

    #[test]
    fn lookup_finds_no_entry_that_has_ended() {
        let store = MemoryStore::new(1 << 20);
        put(&store, "/", Duration::from_secs(5));
        for tick in 1..10 {
            store.0.entries.begin_tick();
            assert_eq!(finds(&store, "/"), tick < 7, "tick {tick}");
            assert!(has(&store, "/"), "no sweep has freed it");
        }
    }

    #[test]
    fn each_way_to_add_a_response_starts_the_maintenance_thread() {
        for copies in [false, true] {
            let store = MemoryStore::new(1 << 20);
            assert!(!store.0.maintenance.is_completed());
            if copies {
                store.add_copy(&key("/"), Arc::new(stored(0, &[])));
            } else {
                put(&store, "/", Duration::from_secs(5));
            }
            assert!(store.0.maintenance.is_completed() && finds(&store, "/"), "{copies}");
        }
    }

    fn pass(store: &MemoryStore, ticks: u32) {
        for _ in 0..ticks {
            store.0.entries.free_ended(store.0.entries.begin_tick());
        }
    }

    #[test]
    fn entry_is_freed_after_its_time_and_not_before() {
        let store = MemoryStore::new(1 << 20);
        for (path, seconds) in [("/0", 0), ("/1", 1), ("/10", 10), ("/year", 365 * 86_400)] {
            put(&store, path, Duration::from_secs(seconds));
        }
        put(&store, "/ever", Duration::MAX);
        for (ticks, want) in [
            (1, &["/0", "/1", "/10", "/year", "/ever"][..]),
            (1, &["/1", "/10", "/year", "/ever"]),
            (1, &["/10", "/year", "/ever"]),
            (8, &["/10", "/year", "/ever"]),
            (1, &["/year", "/ever"]),
            (1000, &["/year", "/ever"]),
        ] {
            pass(&store, ticks);
            let held: Vec<_> = ["/0", "/1", "/10", "/year", "/ever"]
                .into_iter()
                .filter(|path| has(&store, path))
                .collect();
            assert_eq!(held, want, "after {ticks} more ticks");
        }
    }

    #[test]
    fn replaced_entry_has_the_time_of_its_new_response() {
        let store = MemoryStore::new(1 << 20);
        put(&store, "/", Duration::from_secs(5));
        pass(&store, 6);
        put(&store, "/", Duration::from_secs(5));
        pass(&store, 6);
        assert!(has(&store, "/"));
        pass(&store, 1);
        assert!(!has(&store, "/"));
    }

    #[test]
    fn first_end_is_that_of_the_entries_that_are_left() {
        let store = MemoryStore::new(1 << 20);
        let first_end = || store.0.entries.ticks.first_end.load(Ordering::Relaxed);
        assert_eq!(first_end(), u32::MAX);
        put(&store, "/20", Duration::from_secs(18));
        put(&store, "/10", Duration::from_secs(8));
        assert_eq!(first_end(), 10);
        pass(&store, 10);
        assert_eq!(first_end(), 20);
        pass(&store, 10);
        assert_eq!(first_end(), u32::MAX);
    }
}
