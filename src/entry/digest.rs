//! Digests of keys, for tables in the memory of this process. The digests of a key are computed once,
//! although a request looks up the key several times.
//!
//! Digests have a random seed in each process. So other keys can have the same digest, but no client
//! can find such keys.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, Hasher, RandomState},
    sync::LazyLock,
};

/// The digests of a cache key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyDigests {
    /// The digest of the URL in the key.
    pub(crate) url: u64,
    /// The digest of the whole key.
    pub(crate) key: u64,
}

impl KeyDigests {
    /// Returns the digests of a key that consists of these parts: its URL, and the rest.
    pub(crate) fn of(url: &[u8], rest: &[u8]) -> Self {
        static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        let mut hasher = SEED.build_hasher();
        hasher.write(url);
        let url = hasher.finish();
        hasher.write(rest);
        Self { url, key: hasher.finish() }
    }
}

/// Makes the hashers of tables whose keys are digests, or have one. The hash is the digest.
pub(crate) type Digests = BuildHasherDefault<DigestHasher>;

#[derive(Debug, Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write_u64(&mut self, digest: u64) {
        self.0 = digest;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = KeyDigests::of(bytes, &[]).key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_url_and_of_the_whole_key() {
        let digests = KeyDigests::of(b"url", b"rest");
        let (url, other) = (KeyDigests::of(b"url", b""), KeyDigests::of(b"url", b"r"));
        assert_eq!((digests.url, digests.url), (url.url, other.url));
        assert_eq!(url.url, url.key, "nothing follows the URL");
        assert!(digests.key != other.key && digests.key != url.key);
        assert_eq!(KeyDigests::of(b"ur", b"lrest").key, digests.key, "the bytes are equal");
    }

    #[test]
    fn hash_of_a_digest_is_the_digest() {
        let hash = |write: fn(&mut DigestHasher)| {
            let mut hasher = Digests::default().build_hasher();
            write(&mut hasher);
            hasher.finish()
        };
        assert_eq!(hash(|hasher| hasher.write_u64(7)), 7);
        assert_eq!(hash(|hasher| hasher.write(b"a")), KeyDigests::of(b"a", b"").key);
    }
}
