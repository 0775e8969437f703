//! What a purge is about.

use actix_web::HttpRequest;

use crate::purge::execute::PurgeError;

/// Which stored responses a purge is about.
///
/// [`CacheHandle::purge`](crate::CacheHandle::purge) and
/// [`CacheHandle::expire`](crate::CacheHandle::expire) take it; for what needs no more than a name,
/// the handle has methods of its own, like `purge_tag`.
///
/// ```
/// # use actix_web_cache::{CacheHandle, PurgeTarget, PurgeError};
/// # async fn f(cache: CacheHandle) -> Result<(), PurgeError> {
/// cache.purge(PurgeTarget::prefix("/blog").on_any_host()).await?;
/// cache.expire(PurgeTarget::url("/").variant([("accept-language", "de")])).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct PurgeTarget {
    pub(crate) what: What,
    pub(crate) host: Host,
    /// The fields of a request whose variant is meant.
    pub(crate) fields: Option<Vec<(String, String)>>,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    All,
    Url(String),
    Prefix(String),
    Tags(Vec<String>),
    Group(String),
}

/// Whose pages.
#[derive(Debug, Clone)]
pub(crate) enum Host {
    /// The URL's own, or that of the request.
    Own,
    Named(String),
    Any,
}

impl PurgeTarget {
    /// All variants of a URL: `/path?query` on the host of the current request, or a full
    /// `https://host/path?query`; the scheme makes no difference. The path is that of requests:
    /// percent-encoded alike.
    pub fn url(url: impl Into<String>) -> Self {
        Self::new(What::Url(url.into()))
    }

    /// The URL of a named resource, as [`HttpRequest::url_for`] makes it. Its host is not that of
    /// `url_for`, which believes what proxies claim, but that of the current request.
    ///
    /// # Errors
    ///
    /// If there is no such resource, or its parameters are not these.
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

    /// A path and all that is below it by whole segments, with any query: `/blog` is `/blog` and
    /// `/blog/1`, not `/blogs`. A full URL names its host. A slash at the end makes no difference,
    /// nor do percent-encodings.
    ///
    /// Beyond 15 segments it is what the first 15 are a prefix of.
    pub fn prefix(path: impl Into<String>) -> Self {
        Self::new(What::Prefix(path.into()))
    }

    /// What was tagged so: by a rule, the policy, its handler or a response field.
    pub fn tag(tag: impl Into<String>) -> Self {
        Self::tags([tag])
    }

    /// What has one of these tags or more.
    pub fn tags(tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(What::Tags(tags.into_iter().map(Into::into).collect()))
    }

    /// What `Cache-Groups` says is in a group of the host (RFC 9875).
    pub fn group(group: impl Into<String>) -> Self {
        Self::new(What::Group(group.into()))
    }

    /// Everything in the store, other applications' entries included.
    pub const fn all() -> Self {
        Self::new(What::All)
    }

    /// On this host, with its port if clients write one. For URLs without host, prefixes and groups.
    pub fn on_host(mut self, host: impl Into<String>) -> Self {
        self.host = Host::Named(host.into());
        self
    }

    /// Whatever the host. For URLs and prefixes.
    pub fn on_any_host(mut self) -> Self {
        self.host = Host::Any;
        self
    }

    /// Only the variant of a URL that a request with these fields would get: those that `Vary`
    /// names, and those of [`Policy::key_header`](crate::Policy::key_header) and
    /// [`Policy::vary_cookie`](crate::Policy::vary_cookie). A field that is left out is one that the
    /// request does not have.
    ///
    /// Where the keys of a URL cannot be told ([`Policy::key_with`](crate::Policy::key_with), or
    /// [any host](Self::on_any_host)) it is all variants.
    pub fn variant<'a>(mut self, fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = fields.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.fields = Some(owned.collect());
        self
    }

    const fn new(what: What) -> Self {
        Self { what, host: Host::Own, fields: None }
    }
}
