//! The handle by which an application purges and expires stored responses.

use std::{fmt, future};

use actix_web::{
    FromRequest, HttpRequest, ResponseError,
    dev::Payload,
    http::{StatusCode, header::HOST},
};

use super::{
    effect::Effect, error::PurgeError, execute::invalidate, purged::Purged, target::PurgeTarget,
};
use crate::shared::{EnclosingCache, Mode, SharedRef};

/// Purges or expires stored responses before their freshness lifetimes end.
///
/// A handler takes a `CacheHandle` as an argument. The handle belongs to the innermost cache around
/// the handler. Outside of requests, [`Cache::handle`](crate::Cache::handle) returns a handle.
///
/// ```
/// # use actix_web::{HttpResponse, Responder, put, web};
/// # use actix_web_cache::{CacheHandle, PurgeError};
/// #[put("/posts/{id}")]
/// async fn update(id: web::Path<u32>, cache: CacheHandle) -> Result<HttpResponse, PurgeError> {
///     // After a successful PUT, the cache itself purges the URL of the request.
///     cache.purge_url("/posts").await?;
///     Ok(HttpResponse::NoContent().finish())
/// }
/// ```
///
/// The `purge_*` methods delete responses or make them invalid. Once such a call has returned, the
/// cache serves no response of the target whose handler was called before the purge. This also
/// holds for a response that is stored only after the purge. With a
/// [`TieredStore`](crate::TieredStore), other processes may still serve such a response for a short
/// time.
///
/// The `expire_*` methods make responses stale (soft purge). Within the window of
/// [`Policy::stale_while_revalidate`](crate::Policy::stale_while_revalidate), the cache serves a
/// stale response while it refreshes the response in the background. After the window, the cache
/// revalidates the response with the handler.
///
/// A purge works by removals or by records. A **removal** deletes the stored responses of one cache
/// key. A **record** (invalidation record) says that all responses with a certain tag are invalid
/// if their handlers were called before the purge. An expiry makes only records.
///
/// | target | responses that it applies to | work in the store |
/// |---|---|---|
/// | URL, route | all variants of one URL, for all tenants and cookies | a few removals, or a few records if the policy adds parts to cache keys |
/// | URL with [`PurgeTarget::variant`] | the variant that a request with the given fields selects | a few lookups and records |
/// | URL with [`PurgeTarget::on_any_host`] | all variants of one path and query, on all hosts | a few records |
/// | tag, tags | responses with a tag from the policy, a handler or [`Policy::tag_fields`](crate::Policy::tag_fields) | a record for each tag |
/// | user | responses that are kept for one person ([`Policy::per_user`](crate::Policy::per_user)) | a record |
/// | group | responses on one host whose `Cache-Groups` field names the group (RFC 9875) | two records |
/// | path | one path with every query | one or two records |
/// | prefix | a path and all paths below it, by whole segments | one or two records |
/// | all | all responses in the store | one record |
///
/// A record takes equally little time and memory whether it applies to one response or to a
/// million. A response that a record makes invalid still takes space in the store for some time.
/// The store frees the space after a later access to the cache key of the response, or at the end
/// of its lifetime.
///
/// A store keeps about 65,000 records. If there are more, the store replaces the older half by a
/// single record. This record applies to all responses whose handlers were called before the newest
/// of the replaced records was made, whatever the tags of the responses are.
///
/// After an unsafe request (such as `POST` or `PUT`) with a 2xx or 3xx response, the cache itself
/// purges three targets: the URL of the request (with
/// [`Policy::purge_paths_by_requests`](crate::Policy::purge_paths_by_requests), its path with every
/// query), the URLs in `Location` and `Content-Location` on
/// the same host (RFC 9111 section 4.4), and the groups in `Cache-Group-Invalidation` (RFC 9875).
/// The cache does so before the client gets the response.
///
/// Change your data first, then purge. If a handler makes a response during a purge, this response
/// is not served after the purge, even if its tags become known only with the response. A request
/// that arrives after a purge does not wait for the response of a handler that was called before
/// the purge.
///
/// A purge has no effect on browsers, nor on other caches between the application and its clients.
/// To limit how long these keep a response, set [`Policy::client_ttl`](crate::Policy::client_ttl).
/// [`CacheBuilder::on_purge`](crate::CacheBuilder::on_purge) lets the application purge a CDN.
#[derive(Clone)]
pub struct CacheHandle {
    shared: SharedRef,
    /// The host of the current request, for targets that name no host. `None` outside of requests.
    host: Option<String>,
}

impl CacheHandle {
    /// Returns whether the cache is on or off.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.shared.settings.mode.get()
    }

    /// Turns the cache on or off, in this process and on all threads. Caches that were made from the
    /// same cache by [`Cache::with`](crate::Cache::with) or
    /// [`Cache::with_policy`](crate::Cache::with_policy) have the same mode.
    pub fn set_mode(&self, mode: Mode) {
        self.shared.settings.mode.set(mode);
    }

    pub(crate) const fn new(shared: SharedRef, host: Option<String>) -> Self {
        Self { shared, host }
    }

    /// Purges the responses of a target.
    ///
    /// # Errors
    ///
    /// If the target is not valid, or if the store fails. If the store fails, the responses may
    /// still be stored and served.
    pub async fn purge(&self, target: PurgeTarget) -> Result<Purged, PurgeError> {
        invalidate(&self.shared, self.host.as_deref(), &target, Effect::Purge).await
    }

    /// Expires the responses of a target: makes them stale (soft purge).
    ///
    /// # Errors
    ///
    /// The errors of [`purge`](Self::purge).
    pub async fn expire(&self, target: PurgeTarget) -> Result<Purged, PurgeError> {
        let effect = Effect::Expire { since: self.shared.now() };
        invalidate(&self.shared, self.host.as_deref(), &target, effect).await
    }
}

/// Defines a `purge_*` method and an `expire_*` method for each kind of target.
macro_rules! shorthands {
    ($($purge:ident $expire:ident $what:literal ($($name:ident: $type:ty),*) $target:expr;)*) => {
        impl CacheHandle {
            $(
                #[doc = concat!("Purges ", $what, ".")]
                ///
                /// # Errors
                ///
                /// The errors of [`purge`](Self::purge).
                pub async fn $purge(&self, $($name: $type),*) -> Result<Purged, PurgeError> {
                    self.purge($target).await
                }

                #[doc = concat!("Expires ", $what, ".")]
                ///
                /// # Errors
                ///
                /// The errors of [`purge`](Self::purge).
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
    purge_user expire_user "the responses that are kept for one [person](PurgeTarget::user)"
        (id: impl Into<String>) PurgeTarget::user(id);
    purge_path expire_path "one path with [every query](PurgeTarget::path)"
        (path: impl Into<String>) PurgeTarget::path(path);
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
    /// The errors of [`purge`](Self::purge) and of [`PurgeTarget::route`].
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
    /// The errors of [`purge`](Self::purge) and of [`PurgeTarget::route`].
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

/// Returns the host in the `Host` field or in the URL of a request, or else the host of the server.
/// The function ignores the fields that proxies add, such as `X-Forwarded-Host`, because a client
/// may have sent them.
fn host_of(request: &HttpRequest) -> Option<String> {
    let Some(sent) = request.headers().get(HOST) else {
        let authority = request.uri().authority().map(|authority| authority.as_str());
        return Some(authority.unwrap_or_else(|| request.app_config().host()).to_owned());
    };
    sent.to_str().ok().map(str::to_owned)
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
        let shared = EnclosingCache::find(request, |cache| cache.shared.clone());
        let handle = shared.map(|shared| Self::new(shared, host_of(request)));
        future::ready(handle.ok_or(CacheNotConfigured(())))
    }
}

/// The error if a handler takes a [`CacheHandle`] as an argument but has no cache around it. The
/// client gets the status code 500.
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
