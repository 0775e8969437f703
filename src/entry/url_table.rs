//! A table with a value for each key of a store. It finds the value of a key, and all keys of a URL.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use crate::entry::{
    digest::Digests,
    key::{CacheKey, UrlKey},
};

/// The number of URLs for which an empty table may keep memory.
const KEPT_CAPACITY: usize = 1024;

/// A table with a value for each key. A key is the encoded bytes of a cache key, possibly followed by
/// more bytes, and belongs to a URL.
#[derive(Debug)]
pub(crate) struct UrlTable<V> {
    /// The keys of each URL, by the digest of the URL.
    urls: HashMap<u64, Keys<V>, Digests>,
}

/// The keys whose URLs have the same digest. Most URLs have a single key, so the map for further keys is
/// in a box, which keeps the table small.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a box is a third of the size of a map")]
struct Keys<V> {
    /// The key that was added first, until it is removed.
    first: Option<(Arc<[u8]>, V)>,
    others: Option<Box<HashMap<Arc<[u8]>, V>>>,
}

impl<V> Default for UrlTable<V> {
    fn default() -> Self {
        Self { urls: HashMap::default() }
    }
}

impl<V> UrlTable<V> {
    /// Returns the value of a key of the URL with the digest `url`.
    pub(crate) fn get(&self, url: u64, key: &[u8]) -> Option<&V> {
        let Keys { first, others } = self.urls.get(&url)?;
        match first {
            Some((first, value)) if **first == *key => Some(value),
            _ => others.as_ref()?.get(key),
        }
    }

    /// Returns the value of a key of the URL with the digest `url`.
    pub(crate) fn get_mut(&mut self, url: u64, key: &[u8]) -> Option<&mut V> {
        let Keys { first, others } = self.urls.get_mut(&url)?;
        match first {
            Some((first, value)) if **first == *key => Some(value),
            _ => others.as_mut()?.get_mut(key),
        }
    }

    /// Returns the value of a key of the URL with the digest `url`. A key without a value gets the one
    /// that `make` returns.
    pub(crate) fn get_or_add(
        &mut self,
        url: u64,
        key: &Arc<[u8]>,
        make: impl FnOnce() -> V,
    ) -> &mut V {
        match self.urls.entry(url) {
            Entry::Vacant(place) => {
                let keys = place.insert(Keys { first: None, others: None });
                &mut keys.first.insert((Arc::clone(key), make())).1
            }
            Entry::Occupied(keys) => {
                let Keys { first, others } = keys.into_mut();
                match first {
                    Some((first, value)) if first == key => value,
                    _ => others.get_or_insert_default().entry(Arc::clone(key)).or_insert_with(make),
                }
            }
        }
    }

    /// Removes a key of the URL with the digest `url`, and returns its value.
    pub(crate) fn remove(&mut self, url: u64, key: &[u8]) -> Option<V> {
        self.remove_if(url, key, |_| true)
    }

    /// Removes a key of the URL with the digest `url` if `is_removed` accepts its value, and returns the
    /// value. `is_removed` may change a value that stays.
    pub(crate) fn remove_if(
        &mut self,
        url: u64,
        key: &[u8],
        is_removed: impl FnOnce(&mut V) -> bool,
    ) -> Option<V> {
        let Entry::Occupied(mut keys) = self.urls.entry(url) else { return None };
        let Keys { first, others } = keys.get_mut();
        let removed = if first.as_ref().is_some_and(|(first, _)| **first == *key) {
            Some(first.take_if(|(_, value)| is_removed(value))?.1)
        } else {
            let others = others.as_mut()?;
            if !is_removed(others.get_mut(key)?) {
                return None;
            }
            others.remove(key)
        };
        if first.is_none() && others.as_ref().is_none_or(|others| others.is_empty()) {
            keys.remove();
        }
        if self.urls.is_empty() && self.urls.capacity() > KEPT_CAPACITY {
            self.urls = HashMap::default();
        }
        removed
    }

    /// Returns all keys of a URL.
    pub(crate) fn keys_of(&self, url: UrlKey<'_>) -> Vec<Arc<[u8]>> {
        let Some(Keys { first, others }) = self.urls.get(&url.digest()) else { return Vec::new() };
        let others = others.iter().flat_map(|others| others.keys());
        let all = first.iter().map(|(key, _)| key).chain(others);
        all.filter(|key| url.contains_bytes(key)).cloned().collect()
    }

    /// Removes all keys of a URL except `kept`, and returns their values.
    pub(crate) fn remove_url(&mut self, url: UrlKey<'_>, kept: Option<&CacheKey>) -> Vec<V> {
        let is_kept = |key: &[u8]| kept.is_some_and(|kept| kept.as_bytes() == key);
        let keys = self.keys_of(url).into_iter().filter(|key| !is_kept(key));
        keys.filter_map(|key| self.remove(url.digest(), &key)).collect()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.urls.values().flat_map(|Keys { first, others }| {
            let others = others.iter().flat_map(|others| others.values());
            first.iter().map(|(_, value)| value).chain(others)
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::tenant_key as key;

    fn set(table: &mut UrlTable<usize>, key: &CacheKey, value: usize) {
        *table.get_or_add(key.url().digest(), key.shared(), usize::default) = value;
    }

    fn get(table: &UrlTable<usize>, key: &CacheKey) -> Option<usize> {
        table.get(key.url().digest(), key.as_bytes()).copied()
    }

    fn remove(table: &mut UrlTable<usize>, key: &CacheKey) -> Option<usize> {
        table.remove(key.url().digest(), key.as_bytes())
    }

    #[test]
    fn each_key_of_a_url_has_its_value() {
        let mut table = UrlTable::default();
        let keys: Vec<_> = (0..20_usize).map(|tenant| key("/a", tenant.checked_sub(1))).collect();
        for (value, key) in keys.iter().enumerate() {
            assert_eq!(get(&table, key), None);
            set(&mut table, key, value);
            set(&mut table, key, value + 1);
            if let Some(value) = table.get_mut(key.url().digest(), key.as_bytes()) {
                *value -= 1;
            }
        }
        set(&mut table, &key("/b", None), 99);
        for (value, key) in keys.iter().enumerate() {
            assert_eq!(get(&table, key), Some(value));
        }
        assert_eq!(table.values().count(), 21);
        assert_eq!(table.keys_of(keys[0].url()).len(), 20);
        for (value, key) in keys.iter().enumerate() {
            assert_eq!(remove(&mut table, key), Some(value));
            assert_eq!((remove(&mut table, key), get(&table, key)), (None, None));
        }
        assert_eq!(remove(&mut table, &key("/b", Some(1))), None, "the URL has another key");
        assert_eq!(remove(&mut table, &key("/b", None)), Some(99));
        assert!(table.is_empty());
    }

    #[test]
    fn key_is_removed_only_if_its_value_is_accepted() {
        let mut table = UrlTable::default();
        let (first, other) = (key("/a", None), key("/a", Some(1)));
        set(&mut table, &first, 0);
        set(&mut table, &other, 1);
        for key in [&first, &other] {
            let value = get(&table, key);
            let (url, bytes) = (key.url().digest(), key.as_bytes());
            let change = |value: &mut usize| {
                *value += 10;
                *value > 15
            };
            assert_eq!(table.remove_if(url, bytes, change), None);
            assert_eq!(get(&table, key), value.map(|value| value + 10), "the change stays");
            assert_eq!(table.remove_if(url, bytes, change), value.map(|value| value + 20));
            assert_eq!(get(&table, key), None);
            assert_eq!(table.remove_if(url, bytes, |_| true), None);
        }
        assert!(table.is_empty());
    }

    #[test]
    fn removal_of_a_url_leaves_the_kept_key_and_other_urls() {
        let mut table = UrlTable::default();
        let (one, kept, other) = (key("/a", None), key("/a", Some(1)), key("/b", None));
        for (value, key) in [&one, &kept, &other].into_iter().enumerate() {
            set(&mut table, key, value);
        }
        assert_eq!(table.remove_url(one.url(), Some(&kept)), [0]);
        assert_eq!([&one, &kept, &other].map(|key| get(&table, key)), [None, Some(1), Some(2)]);
        assert_eq!(table.remove_url(other.url(), None), [2]);
        assert!(table.keys_of(other.url()).is_empty());
    }

    #[test]
    fn urls_with_equal_digests_keep_their_keys_apart() {
        let mut table = UrlTable::default();
        let (a, b) = (key("/a", None), key("/b", None));
        for (value, key) in [&a, &b].into_iter().enumerate() {
            *table.get_or_add(a.url().digest(), key.shared(), usize::default) = value;
        }
        assert_eq!(table.keys_of(a.url()), [a.to_shared()]);
        assert_eq!(table.remove_url(a.url(), None), [0]);
        assert_eq!(table.get(a.url().digest(), b.as_bytes()), Some(&1));
    }

    #[test]
    fn empty_table_releases_the_memory_of_many_urls() {
        let mut table = UrlTable::default();
        let keys: Vec<_> = (0..5000).map(|n| key(&format!("/{n}"), None)).collect();
        for key in &keys {
            set(&mut table, key, 0);
        }
        for key in &keys {
            assert!(table.urls.capacity() > KEPT_CAPACITY);
            remove(&mut table, key);
        }
        assert!(table.urls.capacity() <= KEPT_CAPACITY);
    }
}
