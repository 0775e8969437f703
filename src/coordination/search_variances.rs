//! The paths whose responses have `No-Vary-Search`, as this process has learnt them.
//!
//! # Proof: a wrong entry of the table mixes up no responses
//!
//! The cache key of a request for a path in the table contains the `No-Vary-Search` of the table and
//! the part of the query that it makes significant. A response is stored under this key only if the
//! response itself has this `No-Vary-Search`. So each response under the key says that it may answer
//! all queries with this significant part. An entry that is missing, that is outdated, or that
//! belongs to another path with an equal digest, only costs calls of the handler.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{entry::key::CacheKey, semantics::no_vary_search::NoVarySearch};

/// The largest number of paths. If there are more, any one is forgotten for each new one.
const CAPACITY: usize = 16_384;

/// The `No-Vary-Search` of the last response of each path. A path is the key that
/// [`CacheKey::of_path`] returns.
#[derive(Debug, Default)]
pub(crate) struct SearchVariances {
    has_any: AtomicBool,
    /// Digests have a random seed, so that clients cannot make paths with equal digests.
    digests: RandomState,
    paths: RwLock<HashMap<u64, Arc<NoVarySearch>>>,
}

impl SearchVariances {
    /// Returns whether no path was ever in the table. No lock is taken before the first one.
    pub(crate) fn is_unused(&self) -> bool {
        !self.has_any.load(Ordering::Acquire)
    }

    pub(crate) fn get(&self, path: &CacheKey) -> Option<Arc<NoVarySearch>> {
        self.read().get(&self.digest(path)).cloned()
    }

    /// Sets or removes the entry of a path.
    pub(crate) fn set(&self, path: &CacheKey, value: Option<NoVarySearch>) {
        let digest = self.digest(path);
        if self.read().get(&digest).map(|known| &**known) == value.as_ref() {
            return;
        }
        let mut paths = self.write();
        let Some(value) = value else {
            paths.remove(&digest);
            return;
        };
        if paths.len() >= CAPACITY && !paths.contains_key(&digest) {
            let any = paths.keys().next().copied();
            any.and_then(|any| paths.remove(&any));
        }
        paths.insert(digest, Arc::new(value));
        self.has_any.store(true, Ordering::Release);
    }

    /// Returns the number of paths.
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    fn digest(&self, path: &CacheKey) -> u64 {
        self.digests.hash_one(path.as_bytes())
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<u64, Arc<NoVarySearch>>> {
        self.paths.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<u64, Arc<NoVarySearch>>> {
        self.paths.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

    use super::*;

    fn value(text: &'static str) -> Option<NoVarySearch> {
        let mut fields = HeaderMap::new();
        let name = HeaderName::from_static("no-vary-search");
        fields.insert(name, HeaderValue::from_static(text));
        NoVarySearch::of(&fields)
    }

    fn path(path: &str) -> CacheKey {
        CacheKey::new("", "http", "h", path, Some("a=1")).of_path().unwrap()
    }

    #[test]
    fn last_value_of_a_path_is_known() {
        let table = SearchVariances::default();
        assert!(table.is_unused());
        table.set(&path("/a"), None);
        assert!(table.is_unused());
        table.set(&path("/a"), value("params"));
        assert_eq!(table.get(&path("/a")).as_deref(), value("params").as_ref());
        assert_eq!(table.get(&path("/b")), None);
        table.set(&path("/a"), value("key-order"));
        assert_eq!(table.get(&path("/a")).as_deref(), value("key-order").as_ref());
        table.set(&path("/a"), None);
        assert_eq!((table.get(&path("/a")), table.len(), table.is_unused()), (None, 0, false));
    }

    #[test]
    fn table_stays_bounded_and_keeps_the_newest_path() {
        let table = SearchVariances::default();
        for n in 0..CAPACITY + 100 {
            table.set(&path(&format!("/{n}")), value("params"));
            assert!(table.get(&path(&format!("/{n}"))).is_some());
        }
        assert_eq!(table.len(), CAPACITY);
    }
}
