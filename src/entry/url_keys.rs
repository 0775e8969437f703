//! The keys under which one cache stores a URL.

use std::borrow::Cow;

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::entry::{key::CacheKey, url::UrlTarget};

/// A cache that can tell under which keys it may have stored a URL, for purging.
///
/// Each cache over a store has its own policy, and the policy decides what a key is made of. A purge
/// of a URL therefore asks every cache over the store for its keys.
pub(crate) trait UrlKeys: Send + Sync {
    /// The namespace of the cache's keys.
    fn namespace(&self) -> &str;

    /// The keys that the cache may have for a URL, without parts that the application adds.
    fn keys_for_url(&self, target: &UrlTarget) -> Vec<CacheKey>;

    /// Whether the application adds parts to keys, so that the keys of a URL cannot be listed.
    fn has_key_parts(&self) -> bool;

    /// The key of a request to `url` with these fields; `None` if the fields do not determine it.
    fn key_for_fields(&self, url: &CacheKey, fields: &HeaderMap) -> Option<CacheKey>;

    /// The value by which a request with these fields selects among variants, for the field `name`.
    fn value<'a>(&self, fields: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>>;
}
