//! The interface by which a purge learns the keys under which a cache may have stored a URL.

use std::borrow::Cow;

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::entry::{key::CacheKey, url::UrlTarget};

/// A cache that can list the keys under which it may have stored a URL. A purge needs these keys.
///
/// Several caches can share one store. Each cache has its own policy, and the policy decides which
/// parts of a request are in the key. A purge of a URL therefore collects the keys of all caches
/// that share the store.
pub(crate) trait UrlKeys: Send + Sync {
    /// The namespace in the keys of the cache.
    fn namespace(&self) -> &str;

    /// The keys that the cache may have for a URL, without the parts that the application adds.
    fn keys_for_url(&self, target: &UrlTarget) -> Vec<CacheKey>;

    /// Whether the application adds parts to keys. If it does, the keys of a URL cannot be listed.
    fn has_key_parts(&self) -> bool;

    /// The key of a request to `url` with these header fields. Returns `None` if the key depends on
    /// more than the URL and the header fields.
    fn key_for_fields(&self, url: &CacheKey, fields: &HeaderMap) -> Option<CacheKey>;

    /// The normalized value of the request field `name`. Two requests with equal normalized values
    /// select one variant.
    fn value<'a>(&self, fields: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>>;
}
