//! An index of the cache keys in a store by their URLs, so that the removal of a URL finds exactly
//! the keys that are stored.
//!
//! The index needs no clean-up: each stored entry holds a [`Registration`], and the index lists a
//! key for as long as a registration of the key exists. When a store evicts or replaces an entry,
//! the entry is dropped, and its registration with it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::entry::{key::UrlKey, url_table::UrlTable};

/// The number of locks among which the URLs in the index are divided.
const SHARDS: usize = 16;

/// The number of locks for changes of stored entries. A store may hold such a lock while it evicts
/// other entries, so there are more of them.
const CHANGE_LOCKS: usize = 64;

/// An index of the registered cache keys by their URLs.
#[derive(Default)]
pub(crate) struct UrlIndex {
    /// The registered keys, each with the number of its registrations.
    shards: [Mutex<UrlTable<usize>>; SHARDS],
    changes: ChangeLocks,
}

/// A URL whose stored entries only the holder of this value changes.
pub(crate) struct LockedUrl<'a> {
    digest: u64,
    _lock: MutexGuard<'a, ()>,
}

/// The locks of [`UrlIndex::lock`].
struct ChangeLocks([Mutex<()>; CHANGE_LOCKS]);

impl Default for ChangeLocks {
    fn default() -> Self {
        Self([const { Mutex::new(()) }; CHANGE_LOCKS])
    }
}

/// The registration of a cache key in a [`UrlIndex`]. A clone is a registration of its own. Dropping the
/// registration ends it.
pub(crate) struct Registration {
    key: Arc<[u8]>,
    digest: u64,
    index: Arc<UrlIndex>,
}

impl UrlIndex {
    /// Registers a key of a URL whose entries may be changed. `shared` has the bytes of the key.
    pub(crate) fn register(
        self: &Arc<Self>,
        url: &LockedUrl<'_>,
        shared: Arc<[u8]>,
    ) -> Registration {
        let digest = url.digest;
        *self.shard(digest).get_or_add(digest, &shared, usize::default) += 1;
        Registration { key: shared, digest, index: Arc::clone(self) }
    }

    /// Returns the registered keys of a URL that `is_wanted` accepts.
    pub(crate) fn keys(
        &self,
        url: UrlKey<'_>,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<Arc<[u8]>> {
        let mut keys = self.shard(url.digest()).keys_of(url);
        keys.retain(|key| is_wanted(key));
        keys
    }

    /// Takes the lock for changes of the stored entries of a URL. The store holds the lock while it
    /// reads an entry, and replaces or removes it.
    pub(crate) fn lock(&self, url: UrlKey<'_>) -> LockedUrl<'_> {
        let digest = url.digest();
        let ChangeLocks(locks) = &self.changes;
        let [first, ..] = locks;
        let lock = locks.get((digest >> 48) as usize % CHANGE_LOCKS).unwrap_or(first);
        let lock = lock.lock().unwrap_or_else(PoisonError::into_inner);
        LockedUrl { digest, _lock: lock }
    }

    fn shard(&self, digest: u64) -> MutexGuard<'_, UrlTable<usize>> {
        // The lowest bits of the digest choose the place in the map of the shard.
        let shard = (digest >> 56) as usize % SHARDS;
        let [first, ..] = &self.shards;
        let shard = self.shards.get(shard).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for Registration {
    fn clone(&self) -> Self {
        let Self { key, digest, index } = self;
        *index.shard(*digest).get_or_add(*digest, key, usize::default) += 1;
        Self { key: Arc::clone(key), digest: *digest, index: Arc::clone(index) }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut shard = self.index.shard(self.digest);
        if let Some(registrations) = shard.get_mut(self.digest, &self.key) {
            *registrations -= 1;
            if *registrations == 0 {
                shard.remove(self.digest, &self.key);
            }
        }
    }
}

impl fmt::Debug for UrlIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UrlIndex").finish_non_exhaustive()
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::key::CacheKey;

    fn key(path: &str, tenant: Option<usize>) -> CacheKey {
        let mut key = CacheKey::new("t", "http", "h", path, None);
        if let Some(tenant) = tenant {
            key.push_part("tenant", Some(tenant.to_string().as_bytes()));
        }
        key
    }

    fn register(index: &Arc<UrlIndex>, key: &CacheKey) -> Registration {
        index.register(&index.lock(key.url()), key.to_shared())
    }

    fn keys(index: &UrlIndex) -> usize {
        index.shards.iter().map(|shard| shard.lock().unwrap().values().count()).sum()
    }

    #[test]
    fn key_is_listed_while_a_registration_exists() {
        let index = Arc::new(UrlIndex::default());
        let a = key("/a", None);
        let (first, second) = (register(&index, &a), register(&index, &a));
        let second_clone = second.clone();
        let _other = register(&index, &key("/b", None));
        assert_eq!(index.keys(a.url(), |_| true), [a.to_shared()]);
        drop(first);
        assert_eq!(
            index.keys(a.url(), |_| true),
            [a.to_shared()],
            "the second registration exists"
        );
        drop(second);
        assert_eq!(index.keys(a.url(), |_| true), [a.to_shared()], "a clone of it exists");
        drop(second_clone);
        assert!(index.keys(a.url(), |_| true).is_empty());
        assert_eq!(keys(&index), 1, "nothing is left of the URL");
    }

    #[test]
    fn all_keys_of_a_url_are_listed() {
        let index = Arc::new(UrlIndex::default());
        let url = key("/a", None);
        let mut registrations: Vec<_> = (0..100)
            .flat_map(|tenant| [key("/a", Some(tenant)), key("/a", Some(tenant))])
            .map(|key| register(&index, &key))
            .collect();
        assert_eq!(index.keys(url.url(), |_| true).len(), 100);
        let wanted = key("/a", Some(0));
        assert_eq!(index.keys(url.url(), |key| key == wanted.as_bytes()).len(), 1);
        registrations.truncate(101);
        assert_eq!(index.keys(url.url(), |_| true).len(), 51);
        registrations.truncate(1);
        assert_eq!(index.keys(url.url(), |_| true), [key("/a", Some(0)).to_shared()]);
        registrations.push(register(&index, &url));
        assert_eq!(index.keys(url.url(), |_| true).len(), 2);
        registrations.clear();
        assert_eq!(keys(&index), 0);
    }
}
