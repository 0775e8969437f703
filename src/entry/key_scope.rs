//! `KeyScope`: the parts of cache keys that follow from the policy.

use crate::entry::length_prefixed::append_part;

/// The version of the key encoding. The version is the first byte of each key, so keys of different
/// versions are never equal.
pub(super) const SCHEMA: u8 = b'3';

/// The scope of keys: the namespace, and the fingerprint (a digest of the settings) of the policy
/// that makes the keys.
///
/// Two policies that share a store may make different keys from one URL. The fingerprint keeps the
/// keys of the two policies apart. It comes after the URL, so that a purge of the URL applies to the
/// keys of both policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyScope {
    /// The beginning of each key: the schema version and the encoded namespace.
    pub(super) begin: Box<[u8]>,
    /// The ends of the keys of the usual schemes: the encoded scheme and fingerprint.
    pub(super) ends: [(&'static str, Box<[u8]>); 2],
    pub(super) fingerprint: Box<str>,
}

impl KeyScope {
    /// Makes the scope of a policy in `namespace`. `fingerprint` is a digest of the settings of the
    /// policy.
    pub(crate) fn new(namespace: &str, fingerprint: &str) -> Self {
        let mut begin = vec![SCHEMA];
        append_part(&mut begin, namespace.as_bytes());
        Self {
            begin: begin.into_boxed_slice(),
            ends: ["http", "https"].map(|scheme| (scheme, Self::end(scheme, fingerprint))),
            fingerprint: fingerprint.into(),
        }
    }

    /// Returns the end of a key without application parts: the encoded scheme and fingerprint.
    pub(super) fn end(scheme: &str, fingerprint: &str) -> Box<[u8]> {
        let mut end = Vec::new();
        append_part(&mut end, scheme.as_bytes());
        append_part(&mut end, fingerprint.as_bytes());
        end.into_boxed_slice()
    }
}
