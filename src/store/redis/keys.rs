//! What things are called in Redis.

use sha2::{Digest as _, Sha256};

use crate::entry::key::CacheKey;

/// Version of everything that is written: processes of another version keep to their own.
const VERSION: u8 = 1;

/// All names of one namespace.
///
/// What stands in braces tells a Cluster the slot, so that what one command or script touches is on
/// one of its servers.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    /// The table of all invalidations; also the channel on which they are announced.
    pub(super) table: String,
    /// Those of single keys, to be found again when their time is over.
    pub(super) recent: String,
}

/// What a resource is called.
#[derive(Debug, Clone)]
pub(super) struct Resource {
    pub(super) name: String,
    /// The same as a number.
    pub(super) digest: u64,
}

impl Keys {
    pub(super) fn new(namespace: &str) -> Self {
        let prefix = format!("{namespace}:{VERSION}:");
        let table = format!("{prefix}{{invalidations}}");
        let recent = format!("{table}:recent");
        Self { prefix, table, recent }
    }

    /// The hash that holds all variants of a key.
    pub(super) fn resource(&self, key: &CacheKey) -> Resource {
        let digest = Sha256::digest(key.as_bytes());
        let (short, _) = digest.split_at(20);
        let mut name = String::with_capacity(self.prefix.len() + 42);
        name.push_str(&self.prefix);
        name.push('{');
        hex(&mut name, short);
        name.push('}');
        let digest = short.first_chunk().map_or(0, |first| u64::from_le_bytes(*first));
        Resource { name, digest }
    }

    /// The lease for asking a key's handler; `rest` tells requests apart that cannot share an answer.
    pub(super) fn lease(&self, key: &CacheKey, rest: &[u8]) -> String {
        let mut name = self.resource(key).name;
        name.push_str(":lease:");
        let digest = Sha256::digest(rest);
        hex(&mut name, digest.split_at(8).0);
        name
    }
}

fn hex(text: &mut String, bytes: &[u8]) {
    let digit = |value: u8| char::from_digit(value.into(), 16);
    text.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(digit));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_every_process_and_show_no_url() {
        let keys = Keys::new("shop");
        let key = CacheKey::new("", "http", "h", "/secret", None);
        assert_eq!(keys.table, "shop:1:{invalidations}");
        assert_eq!(keys.recent, "shop:1:{invalidations}:recent");
        let name = "shop:1:{e49b71cc3536cead0b71d562a82b8651d8a31ec8}";
        assert_eq!(keys.resource(&key).name, name);
        let lease = keys.lease(&key, b"rest");
        assert!(lease.starts_with(&format!("{name}:lease:")), "{lease}");
        assert_ne!(lease, keys.lease(&key, b"other"));
    }
}
