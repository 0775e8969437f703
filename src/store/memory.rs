//! A store in the memory of this process, limited in bytes.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
    },
};

use moka::sync::Cache;

use self::{
    entries::{Entries, Entry, start_maintenance},
    entry_key::EntryKey,
    eviction::Eviction,
    hot_entries::{EntryLookup, Readers, kept_entry, responses_for_thread},
};
use super::interface::{Lookup, Put, Store, StoreError};
use crate::{
    coordination::{coordinator::Coordinator, fills::Fill},
    entry::{
        coded_copy::CodedCopy,
        content_coding::ContentCoding,
        digest::Digests,
        invalidation::Invalidation,
        key::{CacheKey, UrlKey},
        response::StoredResponse,
        selector::Selector,
        variants::Variants,
    },
};

/// The measured number of bytes that the bookkeeping of one entry takes: that of moka, the cache
/// library, and the place in the index of URLs, which some entries have. An entry holds responses of
/// one cache key ([`EntryKey`]). The overhead counts toward the limit of the store. Otherwise a store
/// of many small responses would take several times as much memory as its limit.
const ENTRY_OVERHEAD: usize = 640;

/// The smallest size, in bytes, of a response after whose insert a full store evicts other entries
/// at once. After the insert of a smaller response, moka evicts entries later, in batches.
const LARGE: usize = 64 * 1024;

/// A store in the memory of this process, limited in bytes.
///
/// Clones share their entries: make one store before `HttpServer::new`, and clone the store for
/// each worker thread. A full store evicts the responses of the cache keys that are requested
/// least. [`MemoryStoreBuilder::eviction`] chooses another way.
///
/// The limit counts bodies, header fields, keys and bookkeeping (640 bytes for each cache key), so
/// the memory of the process grows by about the limit. All responses of one cache key may together
/// take an eighth of the limit. A response that exceeds this size by itself is not stored. Responses
/// to requests with forwarded fields that any client could have sent
/// ([`Policy::trusted_proxies`](crate::Policy::trusted_proxies)) count as those of further keys.
///
/// A thread of the store frees responses that can neither be fresh nor be served stale, usually some
/// seconds after their end. In a store with millions of entries it may take minutes, because the thread
/// works for at most a hundredth of the time.
///
/// Each thread keeps the responses that it sends most, and finds most of them without a lookup in the
/// store while the store does not change them. If several threads read the store, each keeps copies, so
/// that the threads do not wait for each other. What a thread keeps does not count toward the limit. It
/// is at most 64 entries, which take at most 512 KiB.
///
/// ```
/// use actix_web_cache::{Cache, MemoryStore};
///
/// let store = MemoryStore::new(64 * 1024 * 1024); // bytes
/// let cache = Cache::new(store.clone());
/// ```
#[derive(Clone)]
pub struct MemoryStore(Arc<MemoryState>);

struct MemoryState {
    /// The id of the store in the process.
    id: u64,
    entries: Entries,
    max_entry: usize,
    coordinator: Coordinator,
    readers: Readers,
    /// Lets only the first insert start the maintenance thread.
    maintenance: Once,
}

impl MemoryStore {
    /// Makes a store of at most `max_bytes` bytes. 64 MiB is a good start.
    ///
    /// # Panics
    ///
    /// If `max_bytes` is too small for any response (less than 5128). [`MemoryStoreBuilder::build`]
    /// returns an error instead.
    #[must_use]
    #[expect(clippy::panic, reason = "documented; the builder returns the error")]
    pub fn new(max_bytes: usize) -> Self {
        match Self::builder().max_bytes(max_bytes).build() {
            Ok(store) => store,
            Err(error) => panic!("{error}"),
        }
    }

    /// Returns a builder. [`MemoryStoreBuilder::build`] returns an error if the limit is too small,
    /// and does not panic.
    pub const fn builder() -> MemoryStoreBuilder {
        MemoryStoreBuilder { max_bytes: 64 * 1024 * 1024, eviction: Eviction::TinyLfu }
    }

    /// Returns the number of keys in the store. A key whose responses have expired or were purged
    /// by a tag may still be counted, because the store frees these responses later.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.0.entries.cache.run_pending_tasks();
        self.0.entries.cache.entry_count()
    }

    /// Returns whether the store has no keys, as [`len`](Self::len) counts them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the approximate number of bytes that count toward the limit of the store.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.entries.cache.weighted_size()
    }

    pub(super) fn find(&self, key: &CacheKey, selector: &Selector<'_>) -> Lookup {
        self.find_entry(key, &EntryKey::of(key, selector.discriminator()))
    }

    fn find_entry(&self, key: &CacheKey, entry_key: &EntryKey) -> Lookup {
        let state = &*self.0;
        // Read the stamp before the entry: an invalidation between the two reads is then later than
        // the stamp. The same holds for the version.
        let stamp = state.coordinator.stamp();
        let lookup = EntryLookup {
            store: state.id,
            key: entry_key,
            version: state.entries.urls.version(key.url()),
            now: state.entries.tick(),
        };
        let found = kept_entry(lookup).or_else(|| {
            let found = state.entries.get_entry(entry_key)?;
            Some(responses_for_thread(lookup, found, state.readers.are_several()))
        });
        let newest = found.as_deref().and_then(|variants| variants.responses().first());
        if newest.is_some_and(|newest| !self.0.coordinator.is_valid(key, newest)) {
            return Lookup::new(self.free_purged(key, entry_key), stamp);
        }
        Lookup::new(found, stamp)
    }

    /// Frees the purged variants in an entry of `key`, and returns the others, or `None` if no others
    /// are stored.
    fn free_purged(&self, key: &CacheKey, entry_key: &EntryKey) -> Option<Arc<Variants>> {
        let MemoryState { entries, coordinator, .. } = &*self.0;
        let _url = entries.urls.lock(key.url());
        let existing = entries.get(entry_key)?;
        let left = existing.retain(|response| coordinator.is_valid(key, response)).map(Arc::new);
        match &left {
            Some(left) => self.insert(key, entry_key.clone(), Arc::clone(left)),
            None => entries.cache.invalidate(entry_key),
        }
        left
    }

    /// Marks all entries as removed, after a purge of all responses. The maintenance thread frees
    /// them. Freeing takes long if there are many entries, so the caller does not wait for it.
    pub(super) fn clear(&self) {
        self.0.entries.cache.invalidate_all();
        self.0.entries.urls.change_all();
    }

    fn add(&self, key: &CacheKey, response: Arc<StoredResponse>, fill: &Fill) -> Put {
        let state = &self.0;
        let entry_key = EntryKey::of(key, &response.discriminator);
        let fixed = entry_key.bytes().len() + ENTRY_OVERHEAD;
        let weight = response.weight() + fixed;
        if weight > state.max_entry {
            return Put::TooLarge;
        }
        if !self.add_to_entry(key, entry_key, response, fill, state.max_entry - fixed) {
            return Put::Outdated;
        }
        if weight >= LARGE {
            state.entries.cache.run_pending_tasks();
        }
        Put::Stored
    }

    /// Inserts or replaces an entry of `key`. The caller holds the lock of its URL.
    fn insert(&self, key: &CacheKey, entry_key: EntryKey, variants: Arc<Variants>) {
        let state = &self.0;
        state.entries.insert(key.url(), entry_key, variants);
        state.maintenance.call_once(|| start_maintenance(state, |state| &state.entries));
    }

    /// Adds a response to an entry of `key`. Returns whether the response was added: it is not
    /// added if it was invalidated during its fill, or if the entry does not accept it
    /// ([`Variants::add`]).
    fn add_to_entry(
        &self,
        key: &CacheKey,
        entry_key: EntryKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
        max_weight: usize,
    ) -> bool {
        let MemoryState { entries, coordinator, .. } = &*self.0;
        // No removal of the key runs between the check and the insert, because a removal takes this
        // lock, too. The key is registered before the check. A removal of the URL invalidates the
        // fills of the URL before it reads the index, so it either makes this check fail or finds
        // the key.
        let url = entries.urls.lock(key.url());
        // The eviction policy counts this read as a request. Without it, few new responses would be
        // requested often enough to stay in a full store.
        let existing = entries.get(&entry_key);
        let registration = entries.urls.register(&url, entry_key.bytes());
        if fill.is_invalidated() || !coordinator.is_valid(key, &response) {
            return false;
        }
        let valid = |response: &StoredResponse| coordinator.is_valid(key, response);
        let existing = existing.and_then(|existing| existing.retain(valid));
        let added = Variants::add(existing.as_ref(), response, max_weight);
        let is_added = added.is_some();
        if let Some(variants) = added {
            self.insert(key, entry_key, Arc::new(variants.registered(registration)));
        }
        is_added
    }

    /// Adds a coded copy to the stored response with the variant of `response`, if its body is still
    /// the one from which the copy was made.
    pub(super) fn add_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        copy: &CodedCopy,
    ) {
        let state = &self.0;
        let entry_key = EntryKey::of(key, &response.discriminator);
        let max_weight = state.max_entry.saturating_sub(entry_key.bytes().len() + ENTRY_OVERHEAD);
        let url = state.entries.urls.lock(key.url());
        // The changed entry is registered as well, so a purge of its URL still finds it.
        let changed = state
            .entries
            .get(&entry_key)
            .and_then(|existing| existing.with_coded_copy(response, copy, max_weight));
        if let Some(changed) = changed {
            self.insert(key, entry_key, Arc::new(changed));
        }
        drop(url);
        if copy.bytes().is_some_and(|bytes| bytes.len() >= LARGE) {
            state.entries.cache.run_pending_tasks();
        }
    }

    /// Adds a copy of a response that a tiered store has read from its far store (the store that
    /// several processes share). Does nothing if the copy is too large or was purged, or if this
    /// store has a newer response for the same variant. The selecting fields of a key are the
    /// request fields that choose the variant. Those of the copy replace those in this store,
    /// because only the far store knows all variants of the key.
    pub(super) fn add_copy(&self, key: &CacheKey, copy: Arc<StoredResponse>) {
        let state = &self.0;
        let entry_key = EntryKey::of(key, &copy.discriminator);
        let fixed = entry_key.bytes().len() + ENTRY_OVERHEAD;
        if copy.weight() + fixed > state.max_entry {
            return;
        }
        let url = state.entries.urls.lock(key.url());
        let existing = state.entries.get(&entry_key);
        let registration = state.entries.urls.register(&url, entry_key.bytes());
        if !state.coordinator.is_valid(key, &copy) {
            return;
        }
        let has_newer = existing.iter().flat_map(|variants| variants.responses()).any(|old| {
            old.same_selection(&copy)
                && old.lifetime.response_time.wall() > copy.lifetime.response_time.wall()
        });
        if has_newer {
            return;
        }
        let max_weight = state.max_entry - fixed;
        let added = Variants::add(existing.as_deref(), Arc::clone(&copy), max_weight);
        // If the copy varies on fewer fields than the stored variants, the stored variants are no
        // longer valid. The copy then replaces all of them.
        if let Some(variants) = added.or_else(|| Variants::add(None, copy, max_weight)) {
            self.insert(key, entry_key, Arc::new(variants.registered(registration)));
        }
    }

    /// Removes all variants of all keys of a URL, and returns their number.
    pub(super) fn remove_keys_of(&self, url: UrlKey<'_>) -> usize {
        self.0
            .entries
            .urls
            .keys(url, |_| true)
            .into_iter()
            .map(|entry| self.remove_entry(url, entry))
            .sum()
    }

    /// Removes all variants of a cache key, and returns their number.
    pub(super) fn remove_entries_of(&self, key: &CacheKey) -> usize {
        let entries =
            self.0.entries.urls.keys(key.url(), |entry| entry.starts_with(key.as_bytes()));
        entries.into_iter().map(|entry| self.remove_entry(key.url(), entry)).sum()
    }

    /// Removes all variants in an entry of a key of a URL, and returns their number.
    fn remove_entry(&self, url: UrlKey<'_>, entry: Arc<[u8]>) -> usize {
        // Without the lock, this could run between the check and the insert of `add_to_entry`.
        let _url = self.0.entries.urls.lock(url);
        self.0
            .entries
            .cache
            .remove(&EntryKey::from_bytes(url, entry))
            .map_or(0, |removed| removed.variants.responses().len())
    }
}

impl Store for MemoryStore {
    fn coordinator(&self) -> &Coordinator {
        &self.0.coordinator
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        Ok(self.find(key, selector))
    }

    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>> {
        Some(Ok(self.find(key, selector)))
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        Ok(self.add(key, response, fill))
    }

    fn put_now(
        &self,
        key: &CacheKey,
        response: &Arc<StoredResponse>,
        fill: &Fill,
    ) -> Option<Result<Put, StoreError>> {
        Some(Ok(self.add(key, Arc::clone(response), fill)))
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        Ok(self.remove_entries_of(key))
    }

    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        Ok(self.remove_keys_of(url))
    }

    fn supports_coded_copies(&self) -> bool {
        true
    }

    async fn put_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        copy: CodedCopy,
    ) -> Result<(), StoreError> {
        self.add_coded_copy(key, response, &copy);
        Ok(())
    }

    async fn find_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        coding: ContentCoding,
    ) -> Result<Option<CodedCopy>, StoreError> {
        let found = self.0.entries.get(&EntryKey::of(key, &response.discriminator));
        Ok(found.and_then(|variants| variants.find_coded_copy(response, coding).cloned()))
    }

    fn max_body_size(&self) -> usize {
        self.0.max_entry.saturating_sub(ENTRY_OVERHEAD)
    }

    async fn invalidate(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        self.0.coordinator.invalidate(invalidation);
        if *invalidation == Invalidation::PurgeAll {
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

/// Builds a [`MemoryStore`].
#[derive(Debug, Clone)]
#[must_use]
pub struct MemoryStoreBuilder {
    max_bytes: usize,
    eviction: Eviction,
}

impl MemoryStoreBuilder {
    /// Sets the limit of the store in bytes. Default 64 MiB.
    pub const fn max_bytes(mut self, max_bytes: usize) -> Self {
        self.max_bytes = max_bytes;
        self
    }

    /// Sets the way in which a full store chooses the responses that it evicts. Default
    /// [`Eviction::TinyLfu`].
    ///
    /// ```
    /// use actix_web_cache::{
    ///     MemoryStore,
    ///     store::{Eviction, MemoryStoreError},
    /// };
    ///
    /// # fn build() -> Result<MemoryStore, MemoryStoreError> {
    /// MemoryStore::builder().max_bytes(512 * 1024 * 1024).eviction(Eviction::Lru).build()
    /// # }
    /// # build().unwrap();
    /// ```
    pub const fn eviction(mut self, eviction: Eviction) -> Self {
        self.eviction = eviction;
        self
    }

    /// Builds the store.
    ///
    /// # Errors
    ///
    /// If the limit is too small for any response (less than 5128 bytes).
    pub fn build(self) -> Result<MemoryStore, MemoryStoreError> {
        self.build_with_coordinator(Coordinator::new())
    }

    /// Builds the store with this coordinator. A tiered store passes the coordinator of its far
    /// store (the store that several processes share), so that an invalidation applies in both
    /// stores.
    pub(super) fn build_with_coordinator(
        self,
        coordinator: Coordinator,
    ) -> Result<MemoryStore, MemoryStoreError> {
        let max_entry = self.max_bytes / 8;
        if max_entry <= ENTRY_OVERHEAD {
            return Err(MemoryStoreError(self.max_bytes));
        }
        coordinator.held_bodies().raise_limit(self.max_bytes / 8);
        let cache = Cache::builder()
            .name("actix-web-cache")
            // Moka enforces the byte limit here. The weigher returns the bytes of an entry, and
            // moka evicts entries while the sum of all weights is more than `max_capacity`.
            .max_capacity(self.max_bytes as u64)
            .weigher(|key: &EntryKey, entry: &Entry| {
                let weight = entry.variants.weight() + key.bytes().len() + ENTRY_OVERHEAD;
                u32::try_from(weight).unwrap_or(u32::MAX)
            })
            .eviction_policy(self.eviction.policy())
            .build_with_hasher(Digests::default());
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Ok(MemoryStore(Arc::new(MemoryState {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            entries: Entries::new(cache),
            max_entry,
            coordinator,
            readers: Readers::default(),
            maintenance: Once::new(),
        })))
    }
}

/// The byte limit of a memory store is too small for any response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryStoreError(usize);

impl fmt::Display for MemoryStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = 8 * (ENTRY_OVERHEAD + 1);
        write!(
            f,
            "a memory store of {} bytes is too small for any entry: set at least {least} bytes, \
             better 64 * 1024 * 1024",
            self.0
        )
    }
}

impl Error for MemoryStoreError {}

mod entries;
mod entry_key;
pub(super) mod eviction;
mod hot_entries;
#[cfg(test)]
mod tests;
