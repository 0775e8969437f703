//! The interface by which a purge asks a cache for the keys under which the cache may have stored
//! responses for a URL.

use std::borrow::Cow;

use actix_web::http::header::{HeaderMap, HeaderName};

use crate::entry::{key::CacheKey, url::UrlTarget};

/// The rule whose policy applies to a request, as its position in the list of rules; `None` if the
/// policy of the cache applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct AppliedRule(pub(crate) Option<usize>);

/// A key that a cache may have for a URL, without the parts that the application adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UrlKey {
    pub(crate) key: CacheKey,
    /// The rule that may apply to requests with this key.
    pub(crate) rule: AppliedRule,
}

/// A cache that can list the keys under which it may have stored responses for a URL. A purge needs
/// these keys.
///
/// Several caches can share one store. Each cache has its own policies, and a policy decides how the
/// query of a URL is normalized. A purge of a URL therefore collects the URLs of all caches that
/// share the store.
pub(crate) trait UrlKeys: Send + Sync {
    /// Returns the namespace in the keys of the cache.
    fn namespace(&self) -> &str;

    /// Returns the keys that the cache may have for a URL. The keys differ in their schemes, in the
    /// fingerprints of the policies that may apply, and in the query, which a policy may normalize.
    fn keys_for_url(&self, target: &UrlTarget) -> Vec<UrlKey>;

    /// Returns the key of a request to `url` with these header fields. Returns `None` if the key
    /// depends on more than the URL and the header fields.
    fn key_for_fields(&self, url: &UrlKey, fields: &HeaderMap) -> Option<CacheKey>;

    /// Returns the normalized value of the request field `name` under the policy of `rule`. The
    /// cache compares normalized values when it selects a variant.
    fn value<'a>(
        &self,
        rule: AppliedRule,
        fields: &'a HeaderMap,
        name: &HeaderName,
    ) -> Option<Cow<'a, [u8]>>;
}
