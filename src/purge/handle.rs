//! Handles for purging: extracted by handlers, or made for code outside of requests.

use std::{fmt, future, sync::Arc};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest, ResponseError,
    dev::Payload,
    http::{StatusCode, header::HOST},
};

use super::{
    effect::Effect, error::PurgeError, execute::invalidate, purged::Purged, target::PurgeTarget,
};
use crate::shared::{EnclosingCache, Shared};

/// Purges stored responses before their lifetimes end.
///
/// Handlers take it as an argument; it belongs to the innermost cache around them. Outside of
/// requests, [`Cache::handle`](crate::Cache::handle) makes one.
///
/// ```
/// # use actix_web::{HttpResponse, Responder, put, web};
/// # use actix_web_cache::{CacheHandle, PurgeError};
/// #[put("/posts/{id}")]
/// async fn update(id: web::Path<u32>, cache: CacheHandle) -> Result<HttpResponse, PurgeError> {
///     // `/posts/{id}` itself is purged automatically, since this is a PUT to it.
///     cache.purge_url("/posts").await?;
///     Ok(HttpResponse::NoContent().finish())
/// }
/// ```
///
/// `purge_*` methods remove responses: once such a call has returned, no response is served that was
/// made before it began, whether it was stored by then or not. `expire_*` methods make responses
/// stale (soft purge). Where a stale response may answer
/// ([`Policy::stale_while_revalidate`](crate::Policy::stale_while_revalidate)), it does so while it
/// is refreshed in the background. Otherwise the handler is asked whether it is still valid.
///
/// | target | reaches | costs | leaves behind |
/// |---|---|---|---|
/// | URL, route | all variants, of all tenants and cookies; with [`PurgeTarget::variant`] one of them | a removal; an invalidation record where the application adds parts to keys, or on any host | nothing, or a record |
/// | tag, tags | responses tagged by rules, policy, handlers and [`Policy::tag_fields`](crate::Policy::tag_fields) | a record for each tag | a record for each tag |
/// | group | responses that `Cache-Groups` puts in it, on one host | two records | two records |
/// | prefix | a path and all paths below it, by whole segments | one or two records | one or two records |
/// | all | everything in the store | a record | nothing |
/// | unsafe methods | the URL, `Location` and `Content-Location` on the same host (RFC 9111 section 4.4), and the groups of `Cache-Group-Invalidation` (RFC 9875) | as above, before the client gets its response | as above |
///
/// An invalidation record costs the same whether it reaches one response or a million. The memory of
/// a response is freed when the response is looked up next, or expires. Some 65,000 records are kept.
/// Beyond that number, responses older than the older half of the records are invalid as a whole.
///
/// The result does not depend on timing. A response that is being made during a purge is not served
/// after it, even if its tags become known only with the response. Requests that arrive after a purge
/// do not wait for fills from before it. Change your data first, then purge.
///
/// Purges do not reach browsers and caches in between: see
/// [`Policy::client_ttl`](crate::Policy::client_ttl).
#[derive(Clone)]
pub struct CacheHandle {
    shared: Arc<Shared>,
    /// The host of URLs without one.
    host: Option<String>,
}

impl CacheHandle {
    pub(crate) const fn new(shared: Arc<Shared>, host: Option<String>) -> Self {
        Self { shared, host }
    }

    /// Purges a target; see [`CacheHandle`].
    ///
    /// # Errors
    ///
    /// If the target is not valid, or the store fails. In the latter case the responses may still
    /// be stored.
    pub async fn purge(&self, target: PurgeTarget) -> Result<Purged, PurgeError> {
        invalidate(&self.shared, self.host.as_deref(), &target, Effect::Purge).await
    }

    /// Makes the responses of a target stale; see [`CacheHandle`].
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge).
    pub async fn expire(&self, target: PurgeTarget) -> Result<Purged, PurgeError> {
        let effect = Effect::Expire { since: self.shared.now() };
        invalidate(&self.shared, self.host.as_deref(), &target, effect).await
    }
}

/// Defines one purge and one expiry for each kind of target.
macro_rules! shorthands {
    ($($purge:ident $expire:ident $what:literal ($($name:ident: $type:ty),*) $target:expr;)*) => {
        impl CacheHandle {
            $(
                #[doc = concat!("Purges ", $what, ".")]
                ///
                /// # Errors
                ///
                /// As [`purge`](Self::purge).
                pub async fn $purge(&self, $($name: $type),*) -> Result<Purged, PurgeError> {
                    self.purge($target).await
                }

                #[doc = concat!("Expires ", $what, ".")]
                ///
                /// # Errors
                ///
                /// As [`purge`](Self::purge).
                pub async fn $expire(&self, $($name: $type),*) -> Result<Purged, PurgeError> {
                    self.expire($target).await
                }
            )*
        }
    };
}

shorthands! {
    purge_url expire_url "all variants of a [URL](PurgeTarget::url)"
        (url: impl Into<String>) PurgeTarget::url(url);
    purge_tag expire_tag "the responses with a [tag](PurgeTarget::tag)"
        (tag: impl Into<String>) PurgeTarget::tag(tag);
    purge_tags expire_tags "the responses with at least one of these [tags](PurgeTarget::tags)"
        (tags: impl IntoIterator<Item = impl Into<String>>) PurgeTarget::tags(tags);
    purge_group expire_group "a [group](PurgeTarget::group) of the request's host"
        (group: impl Into<String>) PurgeTarget::group(group);
    purge_prefix expire_prefix "a path and [all paths below it](PurgeTarget::prefix)"
        (path: impl Into<String>) PurgeTarget::prefix(path);
    purge_all expire_all "everything in the store, including the entries of other applications"
        () PurgeTarget::all();
}

impl CacheHandle {
    /// Purges all variants of a [named resource](PurgeTarget::route).
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge), and as [`PurgeTarget::route`].
    pub async fn purge_route<P>(
        &self,
        request: &HttpRequest,
        name: &str,
        parameters: P,
    ) -> Result<Purged, PurgeError>
    where
        P: IntoIterator,
        P::Item: AsRef<str>,
    {
        self.purge(self.route(request, name, parameters)?).await
    }

    /// Expires all variants of a [named resource](PurgeTarget::route).
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge), and as [`PurgeTarget::route`].
    pub async fn expire_route<P>(
        &self,
        request: &HttpRequest,
        name: &str,
        parameters: P,
    ) -> Result<Purged, PurgeError>
    where
        P: IntoIterator,
        P::Item: AsRef<str>,
    {
        self.expire(self.route(request, name, parameters)?).await
    }

    fn route<P>(
        &self,
        request: &HttpRequest,
        name: &str,
        parameters: P,
    ) -> Result<PurgeTarget, PurgeError>
    where
        P: IntoIterator,
        P::Item: AsRef<str>,
    {
        let target = PurgeTarget::route(request, name, parameters)?;
        match host_of(request).filter(|_| self.host.is_none()) {
            Some(host) => Ok(target.on_host(host)),
            None => Ok(target),
        }
    }
}

/// The host that the request names itself; the fields of proxies do not count.
fn host_of(request: &HttpRequest) -> Option<String> {
    let sent = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host = sent.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    host.map(str::to_owned)
}

impl fmt::Debug for CacheHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheHandle")
            .field("namespace", &self.shared.settings.namespace)
            .finish_non_exhaustive()
    }
}

impl FromRequest for CacheHandle {
    type Error = CacheNotConfigured;
    type Future = future::Ready<Result<Self, CacheNotConfigured>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let extensions = request.extensions();
        let shared = extensions.get::<EnclosingCache>().map(|cache| Arc::clone(&cache.shared));
        let handle = shared.map(|shared| Self::new(shared, host_of(request)));
        future::ready(handle.ok_or(CacheNotConfigured(())))
    }
}

/// A handler takes a [`CacheHandle`], but no cache is wrapped around it. The response is a 500.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheNotConfigured(());

impl fmt::Display for CacheNotConfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "CacheHandle is used in a handler without a cache around it: wrap the application, \
             scope or route with Cache::new(store)",
        )
    }
}

impl std::error::Error for CacheNotConfigured {}

impl ResponseError for CacheNotConfigured {
    fn status_code(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}
