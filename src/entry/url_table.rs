//! A table with a value for each key of a store. It finds the value of a key, and all keys of a URL.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem,
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

/// The keys whose URLs have the same digest. Most URLs have a single key, so the map for several keys
/// is in a box, which keeps the table small.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a box is a third of the size of a map")]
enum Keys<V> {
    One(Arc<[u8]>, V),
    Several(Box<HashMap<Arc<[u8]>, V>>),
}

impl<V> Default for UrlTable<V> {
    fn default() -> Self {
        Self { urls: HashMap::default() }
    }
}

impl<V> UrlTable<V> {
    /// Returns the value of a key of the URL with the digest `url`.
    pub(crate) fn get(&self, url: u64, key: &[u8]) -> Option<&V> {
        match self.urls.get(&url)? {
            Keys::One(one, value) => (**one == *key).then_some(value),
            Keys::Several(keys) => keys.get(key),
        }
    }

    /// Returns the value of a key of the URL with the digest `url`.
    pub(crate) fn get_mut(&mut self, url: u64, key: &[u8]) -> Option<&mut V> {
        match self.urls.get_mut(&url)? {
            Keys::One(one, value) => (**one == *key).then_some(value),
            Keys::Several(keys) => keys.get_mut(key),
        }
    }

    /// Returns the value of a key of the URL with the digest `url`. A key without a value gets the
    /// default value.
    pub(crate) fn get_or_add(&mut self, url: u64, key: &Arc<[u8]>) -> &mut V
    where
        V: Default,
    {
        match self.urls.entry(url) {
            Entry::Occupied(keys) => keys.into_mut().get_or_add(key),
            Entry::Vacant(place) => {
                place.insert(Keys::One(Arc::clone(key), V::default())).get_or_add(key)
            }
        }
    }

    /// Removes a key of the URL with the digest `url`, and returns its value.
    pub(crate) fn remove(&mut self, url: u64, key: &[u8]) -> Option<V> {
        let Entry::Occupied(mut keys) = self.urls.entry(url) else { return None };
        let removed = match keys.get_mut() {
            Keys::One(one, _) if **one != *key => None,
            Keys::One(..) => match keys.remove() {
                Keys::One(_, value) => Some(value),
                Keys::Several(_) => None,
            },
            Keys::Several(several) => {
                let value = several.remove(key);
                if several.is_empty() {
                    keys.remove();
                }
                value
            }
        };
        if self.urls.is_empty() && self.urls.capacity() > KEPT_CAPACITY {
            self.urls = HashMap::default();
        }
        removed
    }

    /// Returns all keys of a URL.
    pub(crate) fn keys_of(&self, url: UrlKey<'_>) -> Vec<Arc<[u8]>> {
        let is_of_url = |key: &&Arc<[u8]>| url.contains_bytes(key);
        match self.urls.get(&url.digest()) {
            None => Vec::new(),
            Some(Keys::One(one, _)) => Some(one).filter(is_of_url).cloned().into_iter().collect(),
            Some(Keys::Several(keys)) => keys.keys().filter(is_of_url).cloned().collect(),
        }
    }

    /// Removes all keys of a URL except `kept`, and returns their values.
    pub(crate) fn remove_url(&mut self, url: UrlKey<'_>, kept: Option<&CacheKey>) -> Vec<V> {
        let is_kept = |key: &[u8]| kept.is_some_and(|kept| kept.as_bytes() == key);
        let keys = self.keys_of(url).into_iter().filter(|key| !is_kept(key));
        keys.filter_map(|key| self.remove(url.digest(), &key)).collect()
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.urls.values().flat_map(|keys| {
            let (one, several) = match keys {
                Keys::One(_, value) => (Some(value), None),
                Keys::Several(keys) => (None, Some(keys.values())),
            };
            one.into_iter().chain(several.into_iter().flatten())
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.urls.is_empty()
    }
}

impl<V: Default> Keys<V> {
    fn get_or_add(&mut self, key: &Arc<[u8]>) -> &mut V {
        if matches!(self, Self::One(one, _) if one != key)
            && let Self::One(one, value) = mem::replace(self, Self::Several(Box::default()))
            && let Self::Several(keys) = self
        {
            keys.insert(one, value);
        }
        match self {
            Self::One(_, value) => value,
            Self::Several(keys) => keys.entry(Arc::clone(key)).or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(path: &str, tenant: Option<usize>) -> CacheKey {
        let mut key = CacheKey::new("t", "http", "h", path, None);
        if let Some(tenant) = tenant {
            key.push_part("tenant", Some(tenant.to_string().as_bytes()));
        }
        key
    }

    fn set(table: &mut UrlTable<usize>, key: &CacheKey, value: usize) {
        *table.get_or_add(key.url().digest(), &key.to_shared()) = value;
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
            *table.get_or_add(a.url().digest(), &key.to_shared()) = value;
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
