//! The interface by which a purge asks a cache for the keys under which the cache may have stored
//! responses for a URL.

use std::borrow::Cow;

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::entry::{key::CacheKey, url::UrlTarget};

/// A cache that can list the keys under which it may have stored responses for a URL. A purge needs
/// these keys.
///
/// Several caches can share one store. Each cache has its own policy, and the policy decides how the
/// query of a URL is normalized. A purge of a URL therefore collects the URLs of all caches that
/// share the store.
pub(crate) trait UrlKeys: Send + Sync {
    /// Returns the namespace in the keys of the cache.
    fn namespace(&self) -> &str;

    /// Returns the keys that the cache may have for a URL, without the parts that the application
    /// adds. The keys differ in their schemes and in the query, which the policy may normalize.
    fn keys_for_url(&self, target: &UrlTarget) -> Vec<CacheKey>;

    /// Returns the key of a request to `url` with these header fields. Returns `None` if the key
    /// depends on more than the URL and the header fields.
    fn key_for_fields(&self, url: &CacheKey, fields: &HeaderMap) -> Option<CacheKey>;

    /// Returns the normalized value of the request field `name`. The cache compares normalized
    /// values when it selects a variant.
    fn value<'a>(&self, fields: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>>;
}
