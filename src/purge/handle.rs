//! Purging by hand: from handlers, and from anywhere else.

use std::{fmt, future, sync::Arc};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest, ResponseError,
    dev::Payload,
    http::{StatusCode, header::HOST},
};

use crate::{
    purge::execute::{Effect, PurgeError, Purged, invalidate},
    purge::target::PurgeTarget,
    service::EnclosingCache,
    shared::Shared,
};

/// Forgets what is stored, before its lifetime ends.
///
/// Handlers take it as an argument; it is the innermost cache's around them. Outside of requests,
/// [`Cache::handle`](crate::Cache::handle) makes one.
///
/// ```
/// # use actix_web::{HttpResponse, Responder, put, web};
/// # use actix_web_cache::{CacheHandle, PurgeError};
/// #[put("/posts/{id}")]
/// async fn update(id: web::Path<u32>, cache: CacheHandle) -> Result<HttpResponse, PurgeError> {
///     // `/posts/{id}` itself is forgotten without asking, for this is a PUT to it.
///     cache.purge_url("/posts").await?;
///     Ok(HttpResponse::NoContent().finish())
/// }
/// ```
/// What is purged (`purge_*`) is forgotten: when the call returns, nothing is served any more that was
/// made before it began, stored or not yet. What is expired (`expire_*`) is no longer fresh from that
/// moment on: where something stale may answer
/// ([`Policy::stale_while_revalidate`](crate::Policy::stale_while_revalidate)), it does while it is
/// refreshed in the background; otherwise its handler is asked whether it still holds.
///
/// | by | reaches | costs | leaves behind |
/// |---|---|---|---|
/// | URL, route | all variants, of all tenants and cookies; by [`PurgeTarget::variant`] one of them | a removal; where the application adds parts to keys, or on any host, a mark | nothing; or a mark |
/// | tag, tags | what rules, policy, handlers and [`Policy::tag_fields`](crate::Policy::tag_fields) tagged | a mark a tag | a mark a tag |
/// | group | what `Cache-Groups` put in it, on one host | two marks | two marks |
/// | prefix | a path and all below it, by whole segments | one or two marks | one or two marks |
/// | all | everything in the store | a mark | nothing |
/// | unsafe methods | the URL, `Location` and `Content-Location` on the same host (RFC 9111 section 4.4), and the groups of `Cache-Group-Invalidation` (RFC 9875) | as above, before the client gets its answer | as above |
///
/// A mark costs the same whether it is about one response or a million. Memory is freed when what is
/// marked is met or expires. Some 65 000 marks are kept; when there are more, what is older than the
/// oldest half of them is invalid as a whole.
///
/// Nothing here depends on when things happen: a page that is being made during a purge is not served
/// after it, whether its tags were known before or come with its answer, and requests that come
/// after a purge do not wait for it. Change first, then purge. Clients and caches in between are out
/// of reach: see [`Policy::client_ttl`](crate::Policy::client_ttl).
#[derive(Clone)]
pub struct CacheHandle {
    pub(crate) shared: Arc<Shared>,
    /// The host that relative URLs mean.
    pub(crate) host: Option<String>,
}

impl CacheHandle {
    pub(crate) const fn new(shared: Arc<Shared>, host: Option<String>) -> Self {
        Self { shared, host }
    }

    /// Forgets pages; see [`CacheHandle`].
    ///
    /// # Errors
    ///
    /// If what they are called makes no sense, or the store fails: then they may still be there.
    pub async fn purge(&self, pages: PurgeTarget) -> Result<Purged, PurgeError> {
        invalidate(self, &pages, Effect::Purge).await
    }

    /// Lets pages be no longer fresh; see [`CacheHandle`].
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge).
    pub async fn expire(&self, pages: PurgeTarget) -> Result<Purged, PurgeError> {
        let since = self.shared.settings.clock.now();
        invalidate(self, &pages, Effect::Expire { since }).await
    }
}

/// One purge and one expiry for each kind of pages.
macro_rules! shorthands {
    ($($purge:ident $expire:ident $what:literal ($($name:ident: $type:ty),*) $pages:expr;)*) => {
        impl CacheHandle {
            $(
                #[doc = concat!("Forgets ", $what, ".")]
                ///
                /// # Errors
                ///
                /// As [`purge`](Self::purge).
                pub async fn $purge(&self, $($name: $type),*) -> Result<Purged, PurgeError> {
                    self.purge($pages).await
                }

                #[doc = concat!("Expires ", $what, ".")]
                ///
                /// # Errors
                ///
                /// As [`purge`](Self::purge).
                pub async fn $expire(&self, $($name: $type),*) -> Result<Purged, PurgeError> {
                    self.expire($pages).await
                }
            )*
        }
    };
}

shorthands! {
    purge_url expire_url "all variants of a [URL](PurgeTarget::url)"
        (url: impl AsRef<str>) PurgeTarget::url(url.as_ref());
    purge_tag expire_tag "what has a [tag](PurgeTarget::tag)"
        (tag: impl Into<String>) PurgeTarget::tag(tag);
    purge_tags expire_tags "what has one of these [tags](PurgeTarget::tags)"
        (tags: impl IntoIterator<Item = impl Into<String>>) PurgeTarget::tags(tags);
    purge_group expire_group "a [group](PurgeTarget::group) of the request's host"
        (group: impl Into<String>) PurgeTarget::group(group);
    purge_prefix expire_prefix "a path and [all below it](PurgeTarget::prefix)"
        (path: impl AsRef<str>) PurgeTarget::prefix(path.as_ref());
    purge_all expire_all "everything in the store, other applications' entries included"
        () PurgeTarget::all();
}

impl CacheHandle {
    /// Forgets all variants of a [named resource](PurgeTarget::route).
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
        let pages = PurgeTarget::route(request, name, parameters)?;
        match host_of(request).filter(|_| self.host.is_none()) {
            Some(host) => Ok(pages.on_host(host)),
            None => Ok(pages),
        }
    }
}

/// The host that a request says it is for, and no proxy for it.
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
        let shared =
            request.extensions().get::<EnclosingCache>().map(|nest| Arc::clone(&nest.shared));
        let handle = shared.map(|shared| Self::new(shared, host_of(request)));
        future::ready(handle.ok_or(CacheNotConfigured(())))
    }
}

/// A handler wants a [`CacheHandle`], and no cache is around it: answered with status 500.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheNotConfigured(());

impl fmt::Display for CacheNotConfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "no cache is around this handler: wrap the application, scope or route with \
             Cache::new(store)",
        )
    }
}

impl std::error::Error for CacheNotConfigured {}

impl ResponseError for CacheNotConfigured {
    fn status_code(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}
