//! The names of keys in Redis.

use sha2::{Digest as _, Sha256};

use crate::entry::key::CacheKey;

/// The version of the data formats in Redis. Each key name contains the version, so that builds
/// with different formats use different keys.
const FORMAT_VERSION: u8 = 1;

/// The key names of one namespace.
///
/// In a Cluster, the text in braces in a key name chooses the slot of the key, and so its node. All
/// keys that one command or script uses have the same text in braces.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    /// The name of the invalidation table, and of the channel on which invalidations are announced.
    pub(super) table: String,
    /// The name of the index of all invalidations of single cache keys, sorted by time.
    pub(super) recent: String,
}

/// The name of the hash with the stored responses of one cache key.
#[derive(Debug, Clone)]
pub(super) struct EntryKey {
    pub(super) name: String,
    /// A digest of the cache key, to identify the key in the memory of this process.
    pub(super) digest: u64,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        let prefix = format!("{namespace}:{FORMAT_VERSION}:");
        let table = format!("{prefix}{{invalidations}}");
        let recent = format!("{table}:recent");
        Self { prefix, table, recent }
    }

    /// Returns the name of the hash that holds all variants of a cache key.
    pub(super) fn entry(&self, key: &CacheKey) -> EntryKey {
        let digest = Sha256::digest(key.as_bytes());
        let (digest, _) = digest.split_at(20);
        let mut name = String::with_capacity(self.prefix.len() + 42);
        name.push_str(&self.prefix);
        name.push('{');
        push_hex(&mut name, digest);
        name.push('}');
        let digest = digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        EntryKey { name, digest }
    }

    /// Returns the name of the lease: the right to run the handler for a cache key. Requests that
    /// cannot share a response have different `collapse_key`s.
    pub(super) fn lease(&self, key: &CacheKey, collapse_key: &[u8]) -> String {
        let mut name = self.entry(key).name;
        name.push_str(":lease:");
        let digest = Sha256::digest(collapse_key);
        push_hex(&mut name, digest.split_at(8).0);
        name
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    let digit = |value: u8| char::from_digit(value.into(), 16);
    text.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(digit));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fixed_and_contain_no_url() {
        let keys = Keys::new("shop");
        let key = CacheKey::new("", "http", "h", "/secret", None);
        assert_eq!(keys.table, "shop:1:{invalidations}");
        assert_eq!(keys.recent, "shop:1:{invalidations}:recent");
        let name = "shop:1:{e49b71cc3536cead0b71d562a82b8651d8a31ec8}";
        assert_eq!(keys.entry(&key).name, name);
        let lease = keys.lease(&key, b"rest");
        assert!(lease.starts_with(&format!("{name}:lease:")), "{lease}");
        assert_ne!(lease, keys.lease(&key, b"other"));
    }
}
