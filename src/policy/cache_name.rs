//! `CacheName`: the namespace and the version of a cache.

use super::error::ConfigError;

/// The namespace and the version of a cache, which are parts of each of its keys.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CacheName<'a> {
    /// Separates the stored responses and the purges of applications.
    pub(super) namespace: &'a str,
    /// Separates the stored responses of builds, but not their purges. Usually empty.
    version: &'a str,
}

impl CacheName<'_> {
    pub(super) fn check(self) -> Result<(), ConfigError> {
        if self.namespace.is_empty() { Err(ConfigError::EmptyNamespace) } else { Ok(()) }
    }

    /// Returns the part of the cache keys that separates policies and versions. A fingerprint
    /// contains no colon, so different inputs give different results.
    pub(super) fn fingerprint(self, mut fingerprint: String) -> String {
        if !self.version.is_empty() {
            fingerprint.push(':');
            fingerprint.push_str(self.version);
        }
        fingerprint
    }
}

/// A name without a version.
impl<'a> From<&'a str> for CacheName<'a> {
    fn from(namespace: &'a str) -> Self {
        Self { namespace, version: "" }
    }
}

/// A namespace and a version.
impl<'a> From<(&'a str, &'a str)> for CacheName<'a> {
    fn from((namespace, version): (&'a str, &'a str)) -> Self {
        Self { namespace, version }
    }
}
