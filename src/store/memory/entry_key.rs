//! The keys of the entries in a memory store.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::entry::{
    digest::KeyDigests,
    discriminator::is_chosen_by_client,
    key::{CacheKey, UrlKey},
};

/// The key of an entry: the responses of one cache key, or those for requests with forged fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryKey {
    digest: u64,
    bytes: Arc<[u8]>,
}

impl EntryKey {
    /// Returns the key of the entry for the responses with this discriminator.
    ///
    /// If any client could have chosen the forwarded fields of a request, the response has an entry of
    /// its own. A full store then evicts responses to requests with forged fields, and not the other
    /// responses of the cache key, which are requested more often.
    pub(super) fn of(key: &CacheKey, discriminator: &[u8]) -> Self {
        if is_chosen_by_client(discriminator) {
            Self::from_bytes(key.url(), [key.as_bytes(), discriminator].concat().into())
        } else {
            Self { digest: key.digest(), bytes: key.to_shared() }
        }
    }

    /// Returns the key of an entry of `url` from its bytes.
    pub(super) fn from_bytes(url: UrlKey<'_>, bytes: Arc<[u8]>) -> Self {
        let rest = bytes.strip_prefix(url.as_bytes()).unwrap_or_default();
        Self { digest: KeyDigests::of(url.as_bytes(), rest).key, bytes }
    }

    /// Makes a key with this digest.
    #[cfg(test)]
    pub(super) fn with_digest(digest: u64) -> Self {
        Self { digest, bytes: Arc::from(digest.to_le_bytes()) }
    }

    pub(super) const fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) const fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }
}

impl Hash for EntryKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.digest);
    }
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher as _;

    use super::*;
    use crate::entry::{
        digest::Digests,
        discriminator::{Discriminator, Property, append},
    };

    #[test]
    fn key_of_an_entry_depends_on_forged_fields_alone() {
        let key = CacheKey::new("t", "http", "h", "/", None);
        let discriminator = |property| {
            let mut text = Discriminator::new();
            append(&mut text, property, b"host");
            text
        };
        let plain = EntryKey::of(&key, &[]);
        assert_eq!(plain, EntryKey::of(&key, &discriminator(Property::Layer)));
        assert_eq!(plain, EntryKey::from_bytes(key.url(), key.to_shared()));
        let forged = EntryKey::of(&key, &discriminator(Property::ForwardedHost));
        assert_ne!(plain, forged);
        assert_eq!(forged, EntryKey::from_bytes(key.url(), Arc::clone(forged.bytes())));
        let hash = |key: &EntryKey| Digests::default().hash_one(key);
        assert_eq!(hash(&plain), key.digest());
        assert_ne!(hash(&plain), hash(&forged));
    }
}
