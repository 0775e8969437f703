//! The stored responses that a purge reaches.

use actix_web::HttpRequest;

use super::error::PurgeError;

/// The stored responses that a purge or an expiry reaches.
///
/// [`CacheHandle::purge`](crate::CacheHandle::purge) and
/// [`CacheHandle::expire`](crate::CacheHandle::expire) take a target. For targets that need only a
/// name the handle has shorter methods, like `purge_tag`.
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
    /// The fields of a request that selects the variant.
    pub(super) fields: Option<Vec<(String, String)>>,
}

#[derive(Debug, Clone)]
pub(super) enum Scope {
    All,
    Url(String),
    Prefix(String),
    Tags(Vec<String>),
    Group(String),
}

/// The host whose responses are reached.
#[derive(Debug, Clone)]
pub(super) enum Host {
    /// The host in the URL, or that of the current request.
    Own,
    Named(String),
    Any,
}

impl PurgeTarget {
    /// All variants of a URL: `/path?query` on the host of the current request, or a full
    /// `https://host/path?query`. The scheme makes no difference. The path is percent-encoded in
    /// the same way as in requests.
    pub fn url(url: impl Into<String>) -> Self {
        Self::new(Scope::Url(url.into()))
    }

    /// All variants of the URL of a named resource, as [`HttpRequest::url_for`] generates it.
    ///
    /// The host is that of the current request, not that of `url_for`, which trusts the fields of
    /// proxies.
    ///
    /// # Errors
    ///
    /// If there is no resource of that name, or it has other parameters.
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

    /// A path and all paths below it, by whole segments and with any query: `/blog` reaches `/blog`
    /// and `/blog/1`, but not `/blogs`. A full URL names its host. A slash at the end and
    /// percent-encodings make no difference.
    ///
    /// Only the first 15 segments count: a longer prefix reaches all paths below these.
    pub fn prefix(path: impl Into<String>) -> Self {
        Self::new(Scope::Prefix(path.into()))
    }

    /// All responses with a tag, given by a rule, the policy, the handler or a response field.
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::tags([tag])
    }

    /// All responses with at least one of these tags.
    pub fn tags(tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(Scope::Tags(tags.into_iter().map(Into::into).collect()))
    }

    /// All responses that `Cache-Groups` puts in a group of the host (RFC 9875).
    pub fn group(group: impl Into<String>) -> Self {
        Self::new(Scope::Group(group.into()))
    }

    /// Everything in the store, including the entries of other applications.
    pub const fn all() -> Self {
        Self::new(Scope::All)
    }

    /// Responses on this host, with its port if clients send one. For URLs without a host, prefixes
    /// and groups.
    pub fn on_host(mut self, host: impl Into<String>) -> Self {
        self.host = Host::Named(host.into());
        self
    }

    /// Responses on every host. For URLs and prefixes.
    pub fn on_any_host(mut self) -> Self {
        self.host = Host::Any;
        self
    }

    /// Only the variant of a URL that a request with these fields selects.
    ///
    /// Name the fields that `Vary` lists, and those of
    /// [`Policy::key_header`](crate::Policy::key_header) and
    /// [`Policy::vary_cookie`](crate::Policy::vary_cookie). A field that is not named counts as
    /// absent from the request.
    ///
    /// If the cache keys of a URL are unknown, because of
    /// [`Policy::key_with`](crate::Policy::key_with) or [any host](Self::on_any_host), all variants
    /// are reached.
    pub fn variant<'a>(mut self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.fields = Some(owned.collect());
        self
    }

    const fn new(scope: Scope) -> Self {
        Self { scope, host: Host::Own, fields: None }
    }
}
