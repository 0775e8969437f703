//! The names of keys in Redis.

use sha2::{Digest as _, Sha256};

use crate::entry::{
    codec,
    key::{CacheKey, UrlKey},
    tag::TagId,
};

/// The version of the data formats in Redis. Each key name contains the version, so that builds
/// with different formats use different keys.
///
/// The version covers the format of records, too. Under common key names, a build would replace the
/// records of a newer build. If [`codec::VERSION`] changes, increment this version, and then set
/// `RECORD_VERSION` to the new version of the codec.
const FORMAT_VERSION: u8 = 5;

/// The version of the codec for which `FORMAT_VERSION` was chosen.
const RECORD_VERSION: u8 = 3;

const _: () = assert!(
    RECORD_VERSION == codec::VERSION,
    "the codec has another version: increment FORMAT_VERSION, and correct RECORD_VERSION"
);

/// The number of hashes among which the cache keys of one URL are divided. The hashes of a URL with
/// many cache keys, such as one for each tenant, are on several nodes of a Cluster.
const HASHES: u8 = 8;

/// The key names of one namespace.
///
/// In a Cluster, the text in braces in a key name chooses the slot of the key, and so its node. All
/// keys that one command or script uses have the same text in braces.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    /// The name of the invalidation table, and of the channel on which invalidations are announced.
    pub(super) table: String,
    /// The name of the removals of single cache keys and URLs, sorted by time.
    pub(super) removals: String,
}

/// The place of the stored responses of one cache key.
#[derive(Debug, Clone)]
pub(super) struct EntryKey {
    /// The name of the hash. Other cache keys of the URL can be in the same hash.
    pub(super) name: String,
    /// The id of the cache key in the hash: a digest of the key.
    pub(super) id: [u8; 16],
    /// A shorter digest of the cache key, to identify the key in the memory of this process.
    pub(super) digest: u64,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        let prefix = format!("{namespace}:{FORMAT_VERSION}:");
        let table = format!("{prefix}{{invalidations}}");
        let removals = format!("{table}:removals");
        Self { prefix, table, removals }
    }

    /// Returns the place of all variants of a cache key.
    ///
    /// The names are digests, so two keys may have the same place by chance, or because a client
    /// has searched for such keys. Each record contains its whole cache key, so neither key then
    /// gets the response of the other one.
    pub(super) fn entry(&self, key: &CacheKey) -> EntryKey {
        let id = TagId::key(key).to_bytes();
        let digest = id.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
        let [.., last] = id;
        EntryKey { name: self.hash(key.url(), last % HASHES), id, digest }
    }

    /// Returns the names of all hashes with responses for a URL.
    pub(super) fn hashes(&self, url: UrlKey<'_>) -> impl Iterator<Item = String> {
        (0..HASHES).map(move |number| self.hash(url, number))
    }

    /// Returns the name of a key that no store writes.
    pub(super) fn unused(&self) -> String {
        format!("{}{{unused}}", self.prefix)
    }

    fn hash(&self, url: UrlKey<'_>, number: u8) -> String {
        let mut name = String::with_capacity(self.prefix.len() + 36);
        name.push_str(&self.prefix);
        name.push('{');
        push_hex(&mut name, &TagId::url(url).to_bytes());
        name.push(':');
        name.push(char::from(b'0' + number));
        name.push('}');
        name
    }

    /// Returns the name of the Redis key of a lease. A lease is the right of one process to run the
    /// handler for a cache key. Requests that cannot share a response have different
    /// `collapse_key`s, and so different leases.
    pub(super) fn lease(&self, key: &CacheKey, collapse_key: &[u8]) -> String {
        let EntryKey { mut name, id, .. } = self.entry(key);
        name.push_str(":lease:");
        push_hex(&mut name, &id);
        name.push(':');
        let digest = Sha256::digest(collapse_key);
        push_hex(&mut name, digest.split_at(8).0);
        name
    }
}

/// Appends bytes in hexadecimal digits. Each lookup does so, and digits that are appended together take
/// less time.
fn push_hex(text: &mut String, bytes: &[u8]) {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' - 10 + value };
    let mut digits = [0; 32];
    for bytes in bytes.chunks(digits.len() / 2) {
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
            *pair = [digit(byte >> 4), digit(byte & 15)];
        }
        let digits = digits.get(..2 * bytes.len()).map(str::from_utf8);
        text.push_str(digits.and_then(Result::ok).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fixed_and_contain_no_url() {
        let keys = Keys::new("shop");
        let key = CacheKey::new("", "http", "h", "/secret", None);
        assert_eq!(keys.table, "shop:5:{invalidations}");
        assert_eq!(keys.removals, "shop:5:{invalidations}:removals");
        let name = "shop:5:{031f361d29855d08f1944c9672f71b95:6}";
        assert_eq!(keys.entry(&key).name, name);
        let hashes: Vec<_> = keys.hashes(key.url()).collect();
        assert_eq!(hashes.len(), 8);
        assert!(hashes.iter().any(|hash| hash == name), "{hashes:?}");
        let lease = keys.lease(&key, b"rest");
        assert!(lease.starts_with(&format!("{name}:lease:")), "{lease}");
        assert_ne!(lease, keys.lease(&key, b"other"));
    }

    #[test]
    fn each_byte_has_two_digits() {
        for length in [0, 1, 15, 16, 17, 256] {
            let bytes: Vec<_> = (0..=255).take(length).collect();
            let mut text = String::from("x");
            push_hex(&mut text, &bytes);
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(text, format!("x{digits}"));
        }
    }
}
