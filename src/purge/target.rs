//! The target of a purge or an expiry: a choice of stored responses.

use actix_web::HttpRequest;

use super::error::PurgeError;

/// The target of a purge or an expiry: the stored responses that it applies to.
///
/// [`CacheHandle::purge`](crate::CacheHandle::purge) and
/// [`CacheHandle::expire`](crate::CacheHandle::expire) take a target. For a target without further
/// settings, the handle has shorter methods, such as `purge_tag`.
///
/// ```
/// # use actix_web_cache::{CacheHandle, PurgeError, PurgeTarget};
/// # async fn f(cache: CacheHandle) -> Result<(), PurgeError> {
/// cache.purge(PurgeTarget::prefix("/blog").on_any_host()).await?;
/// cache.expire(PurgeTarget::url("/").variant([("accept-language", "de")])).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct PurgeTarget {
    pub(super) scope: Scope,
    pub(super) host: Host,
    /// The header fields of a request that selects one variant. `None` for all variants.
    pub(super) fields: Option<Vec<(String, String)>>,
}

#[derive(Debug, Clone)]
pub(super) enum Scope {
    All,
    Url(String),
    Path(String),
    Prefix(String),
    Tags(Vec<String>),
    Group(String),
    User(String),
}

/// The host of the responses that a target includes.
#[derive(Debug, Clone)]
pub(super) enum Host {
    /// The host in the URL, or else the host of the current request.
    Own,
    Named(String),
    Any,
}

impl PurgeTarget {
    /// Targets all variants of a URL.
    ///
    /// `url` is either a path and query (`/path?query`) on the host of the current request, or a
    /// full URL (`https://host/path?query`). The target includes the responses for `http` and for
    /// `https`, whatever the scheme of `url` is. Percent-encode the path and the query as clients
    /// do in their requests.
    pub fn url(url: impl Into<String>) -> Self {
        Self::new(Scope::Url(url.into()))
    }

    /// Targets all variants of the URL of a named resource. [`HttpRequest::url_for`] makes the URL
    /// from the name and the parameters.
    ///
    /// The host is the host of the current request. The host in the URL of `url_for` is not used,
    /// because `url_for` trusts header fields that proxies add, such as `X-Forwarded-Host`.
    ///
    /// # Errors
    ///
    /// [`PurgeError::Route`] if the application has no resource with this name, or if the resource
    /// has more parameters than `parameters` has values.
    pub fn route<P>(request: &HttpRequest, name: &str, parameters: P) -> Result<Self, PurgeError>
    where
        P: IntoIterator,
        P::Item: AsRef<str>,
    {
        let link = request.url_for(name, parameters).map_err(PurgeError::Route)?;
        let mut url = link.path().to_owned();
        if let Some(query) = link.query() {
            url = format!("{url}?{query}");
        }
        Ok(Self::url(url))
    }

    /// Targets one path with every query: `/search` includes `/search` and `/search?q=1`, but neither
    /// `/search/` nor `/search/1`.
    ///
    /// Percent-encoding makes no difference, except that an encoded slash (`%2F`) does not separate
    /// segments. The argument is either a path on the host of the current request, or a full URL, such
    /// as `https://example.com/search`, which names its host. It has no query:
    /// [`url`](Self::url) targets one query.
    pub fn path(path: impl Into<String>) -> Self {
        Self::new(Scope::Path(path.into()))
    }

    /// Targets a path and all paths below it, with any query.
    ///
    /// The prefix matches whole segments: `/blog` includes `/blog` and `/blog/1`, but not `/blogs`.
    /// A trailing slash makes no difference, and neither does percent-encoding, except that an
    /// encoded slash (`%2F`) does not separate segments.
    ///
    /// The argument is either a path, such as `/blog`, on the host of the current request, or a
    /// full URL, such as `https://example.com/blog`, which names its host.
    ///
    /// Only the first 15 segments of a prefix are compared. A longer prefix includes all paths that
    /// begin with its first 15 segments.
    pub fn prefix(path: impl Into<String>) -> Self {
        Self::new(Scope::Prefix(path.into()))
    }

    /// Targets all responses with a tag. A response gets tags from the policy, its handler and
    /// its header fields.
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::tags([tag])
    }

    /// Targets all responses that have at least one of these tags.
    pub fn tags(tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Scope::Tags(tags.into_iter().map(Into::into).collect()))
    }

    /// Targets the responses on one host whose `Cache-Groups` field names this group (RFC 9875).
    /// The host is the host of the current request, or that of [`on_host`](Self::on_host).
    pub fn group(group: impl Into<String>) -> Self {
        Self::new(Scope::Group(group.into()))
    }

    /// Targets all responses that are kept for the person with this id
    /// ([`Policy::per_user`](crate::Policy::per_user)).
    pub fn user(id: impl Into<String>) -> Self {
        Self::new(Scope::User(id.into()))
    }

    /// Targets all responses in the store, including those of other applications that use the
    /// store.
    pub const fn all() -> Self {
        Self::new(Scope::All)
    }

    /// Sets the host of the target, in place of the host of the current request.
    ///
    /// The setting applies to groups, and to URLs, paths and prefixes that name no host themselves.
    /// Include the port in `host` if clients send a port in the `Host` field, for example
    /// `example.com:8080`.
    pub fn on_host(mut self, host: impl Into<String>) -> Self {
        self.host = Host::Named(host.into());
        self
    }

    /// Extends the target to all hosts. The setting applies to URLs, paths and prefixes. A group
    /// always needs one host.
    pub fn on_any_host(mut self) -> Self {
        self.host = Host::Any;
        self
    }

    /// Limits a URL target to one variant: the variant that a `GET` with these header fields
    /// selects.
    ///
    /// Responses to `QUERY`, and to `POST` by
    /// [`Policy::cache_posts_by_body`](crate::Policy::cache_posts_by_body), are not part of the
    /// variant, because their keys contain a body. Target the URL without a variant to reach them.
    ///
    /// A response that answers several queries, because it has `No-Vary-Search`, is part of every
    /// variant.
    ///
    /// Name the fields that `Vary` lists, and those of
    /// [`Policy::key_header`](crate::Policy::key_header) and
    /// [`Policy::vary_cookie`](crate::Policy::vary_cookie). If you do not name a field, the cache
    /// assumes that the request lacks this field.
    ///
    /// If `Vary` has changed, the memory of a [`TieredStore`](crate::TieredStore) may have copies of
    /// responses that the former fields selected. The target includes all of them.
    ///
    /// With [`Policy::key_with`](crate::Policy::key_with),
    /// [`Policy::per_user`](crate::Policy::per_user),
    /// [`Policy::share_authorized`](crate::Policy::share_authorized) or
    /// [`on_any_host`](Self::on_any_host), the cache does not know the cache keys of the URL. The
    /// target then includes all variants.
    ///
    /// A purge of any other target with this limit, such as that of a tag, returns
    /// [`PurgeError::VariantWithoutUrl`].
    pub fn variant<'a>(mut self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.fields = Some(owned.collect());
        self
    }

    const fn new(scope: Scope) -> Self {
        Self { scope, host: Host::Own, fields: None }
    }
}
