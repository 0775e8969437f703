//! An index of the cache keys in a store by their URLs, so that the removal of a URL finds all keys that
//! are stored.
//!
//! A key consists of its URL and an end: the scheme, the policy and further parts. Most applications
//! have few different ends. The index keeps a list of the first ends that it sees, and supposes that
//! each URL has a key with each end in the list. All other keys are registered.
//!
//! The index needs no clean-up: each stored entry with another end holds a [`Registration`], and the
//! index lists a key for as long as a registration of the key exists. When a store evicts or replaces
//! an entry, the entry is dropped, and its registration with it.

use std::{
    array, fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::entry::{key::UrlKey, url_table::UrlTable};

/// The number of locks among which the URLs in the index are divided.
const SHARDS: usize = 16;

/// The number of locks for changes of stored entries. A store may hold such a lock while it evicts
/// other entries, so there are more of them.
const CHANGE_LOCKS: usize = 64;

/// The largest number of ends in the list of known ends. The removal of a URL looks for a key with each
/// of them.
const KNOWN_ENDS: usize = 16;

/// The length in bytes of the longest end in the list of known ends.
const MAX_END: usize = 128;

/// An index of the cache keys in a store by their URLs.
#[derive(Default)]
pub(crate) struct UrlIndex {
    /// The ends that were seen first, in the order in which they were seen.
    ends: [OnceLock<Box<[u8]>>; KNOWN_ENDS],
    /// The registered keys, each with the number of its registrations.
    shards: [Mutex<UrlTable<usize>>; SHARDS],
    changes: ChangeLocks,
}

/// A URL whose stored entries only the holder of this value changes.
pub(crate) struct LockedUrl<'a> {
    bytes: &'a [u8],
    digest: u64,
    version: &'a AtomicU64,
    _lock: MutexGuard<'a, ()>,
}

/// The locks of [`UrlIndex::lock`].
struct ChangeLocks([ChangeLock; CHANGE_LOCKS]);

/// The lock for changes of the stored entries of some URLs.
struct ChangeLock {
    lock: Mutex<()>,
    /// The number of times that the lock was held.
    version: AtomicU64,
}

impl ChangeLocks {
    /// Returns the lock of the URL with this digest.
    fn of(&self, digest: u64) -> &ChangeLock {
        let Self(locks) = self;
        let [first, ..] = locks;
        locks.get((digest >> 48) as usize % CHANGE_LOCKS).unwrap_or(first)
    }
}

impl Default for ChangeLocks {
    fn default() -> Self {
        let lock = || ChangeLock { lock: Mutex::new(()), version: AtomicU64::new(0) };
        Self(array::from_fn(|_| lock()))
    }
}

impl Drop for LockedUrl<'_> {
    fn drop(&mut self) {
        // Before the lock is released, and after the changes.
        self.version.fetch_add(1, Ordering::Release);
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
    /// Makes sure that [`keys`](Self::keys) lists a key of a URL whose entries may be changed. `shared`
    /// has the bytes of the key. Returns a registration if the end of the key is not in the list of
    /// known ends.
    pub(crate) fn register(
        self: &Arc<Self>,
        url: &LockedUrl<'_>,
        shared: &Arc<[u8]>,
    ) -> Option<Registration> {
        if self.knows(shared.strip_prefix(url.bytes)?) {
            return None;
        }
        let digest = url.digest;
        *self.shard(digest).get_or_add(digest, shared, usize::default) += 1;
        Some(Registration { key: Arc::clone(shared), digest, index: Arc::clone(self) })
    }

    /// Returns whether an end is in the list of known ends. Adds the end if the list has room for it.
    fn knows(&self, end: &[u8]) -> bool {
        end.len() <= MAX_END
            && self.ends.iter().any(|known| **known.get_or_init(|| end.into()) == *end)
    }

    /// Returns the keys of a URL that `is_wanted` accepts: those that are registered, and those with
    /// the known ends, which need not be stored.
    pub(crate) fn keys(
        &self,
        url: UrlKey<'_>,
        is_wanted: impl Fn(&[u8]) -> bool,
    ) -> Vec<Arc<[u8]>> {
        // A store that adds an entry holds this lock while it registers the key, checks whether the fill
        // was invalidated, and inserts the entry. So either the key is found here, or the check sees an
        // invalidation from before this call.
        let _changes = self.lock(url);
        let mut keys = self.shard(url.digest()).keys_of(url);
        let ends = self.ends.iter().map_while(OnceLock::get);
        keys.extend(ends.map(|end| Arc::from([url.as_bytes(), end].concat())));
        keys.retain(|key| is_wanted(key));
        keys
    }

    /// Takes the lock for changes of the stored entries of a URL. The store holds the lock while it
    /// reads an entry, and replaces or removes it.
    pub(crate) fn lock<'a>(&'a self, url: UrlKey<'a>) -> LockedUrl<'a> {
        let digest = url.digest();
        let ChangeLock { lock, version } = self.changes.of(digest);
        let lock = lock.lock().unwrap_or_else(PoisonError::into_inner);
        LockedUrl { bytes: url.as_bytes(), digest, version, _lock: lock }
    }

    /// Returns a number that grows with each change of the stored entries of a URL, at the latest when the
    /// change ends. So an entry that was read after this number was read is still the same while the
    /// number is.
    pub(crate) fn version(&self, url: UrlKey<'_>) -> u64 {
        self.changes.of(url.digest()).version.load(Ordering::Acquire)
    }

    /// Counts a change of the stored entries of all URLs.
    pub(crate) fn change_all(&self) {
        let ChangeLocks(locks) = &self.changes;
        for ChangeLock { version, .. } in locks {
            version.fetch_add(1, Ordering::Release);
        }
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
    use crate::entry::{fixtures::tenant_key as key, key::CacheKey};

    fn register(index: &Arc<UrlIndex>, key: &CacheKey) -> Registration {
        index.register(&index.lock(key.url()), key.shared()).unwrap()
    }

    /// Makes an index that knows the ends of other keys, but not those that the tests register.
    fn index() -> Arc<UrlIndex> {
        let index = Arc::new(UrlIndex::default());
        for end in 0..KNOWN_ENDS as u8 {
            assert!(index.knows(&[end]));
        }
        index
    }

    /// Returns the registered keys of a URL.
    fn of_url(index: &UrlIndex, url: UrlKey<'_>) -> Vec<Arc<[u8]>> {
        let is_registered = |key: &[u8]| key.len() > url.as_bytes().len() + 1;
        index.keys(url, is_registered)
    }

    fn keys(index: &UrlIndex) -> usize {
        index.shards.iter().map(|shard| shard.lock().unwrap().values().count()).sum()
    }

    #[test]
    fn version_of_a_url_grows_with_each_change() {
        let (index, a) = (UrlIndex::default(), key("/a", None));
        let version = || index.version(a.url());
        let before = version();
        let lock = index.lock(a.url());
        assert_eq!(version(), before, "the change has not ended");
        drop(lock);
        let after = version();
        assert!(before < after && version() == after);
        index.change_all();
        assert!(after < version());
    }

    #[test]
    fn key_is_listed_while_a_registration_exists() {
        let index = index();
        let a = key("/a", None);
        let (first, second) = (register(&index, &a), register(&index, &a));
        let second_clone = second.clone();
        let _other = register(&index, &key("/b", None));
        assert_eq!(of_url(&index, a.url()), [a.to_shared()]);
        drop(first);
        assert_eq!(of_url(&index, a.url()), [a.to_shared()], "the second registration exists");
        drop(second);
        assert_eq!(of_url(&index, a.url()), [a.to_shared()], "a clone of it exists");
        drop(second_clone);
        assert!(of_url(&index, a.url()).is_empty());
        assert_eq!(keys(&index), 1, "nothing is left of the URL");
    }

    #[test]
    fn all_keys_of_a_url_are_listed() {
        let index = index();
        let url = key("/a", None);
        let mut registrations: Vec<_> = (0..100)
            .flat_map(|tenant| [key("/a", Some(tenant)), key("/a", Some(tenant))])
            .map(|key| register(&index, &key))
            .collect();
        assert_eq!(of_url(&index, url.url()).len(), 100);
        let wanted = key("/a", Some(0));
        assert_eq!(index.keys(url.url(), |key| key == wanted.as_bytes()).len(), 1);
        registrations.truncate(101);
        assert_eq!(of_url(&index, url.url()).len(), 51);
        registrations.truncate(1);
        assert_eq!(of_url(&index, url.url()), [key("/a", Some(0)).to_shared()]);
        registrations.push(register(&index, &url));
        assert_eq!(of_url(&index, url.url()).len(), 2);
        registrations.clear();
        assert_eq!(keys(&index), 0);
    }

    #[test]
    fn keys_with_known_ends_need_no_registration() {
        let index = Arc::new(UrlIndex::default());
        let registration = |key: &CacheKey| index.register(&index.lock(key.url()), key.shared());
        let tenants: Vec<_> = (0..KNOWN_ENDS).map(|tenant| key("/a", Some(tenant))).collect();
        for key in &tenants {
            assert!(registration(key).is_none());
        }
        assert!(registration(&key("/b", Some(0))).is_none(), "the end of another URL");
        let (late, mut long) = (key("/a", Some(KNOWN_ENDS)), key("/a", None));
        long.push_part("tenant", Some(&[0; MAX_END]));
        let registrations = [&late, &long].map(registration);
        assert!(registrations.iter().all(Option::is_some));
        let all = index.keys(late.url(), |_| true);
        assert_eq!(all.len(), KNOWN_ENDS + 2);
        for key in tenants.iter().chain([&late, &long]) {
            assert!(all.contains(key.shared()));
        }
        let others = index.keys(key("/b", None).url(), |_| true);
        assert_eq!(others.len(), KNOWN_ENDS, "the keys that may be stored");
        assert!(others.contains(key("/b", Some(0)).shared()));
    }

    #[test]
    fn long_end_is_not_known() {
        let index = UrlIndex::default();
        assert!(!index.knows(&[0; MAX_END + 1]) && index.knows(&[0; MAX_END]));
    }
}
