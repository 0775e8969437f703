//! Purging: by handlers, from outside, and by unsafe requests.

use std::{
    fmt,
    future::{self, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest, ResponseError,
    dev::Payload,
    http::{StatusCode, Uri, header::HOST, uri::Authority},
    rt::time::timeout,
};
use smallvec::SmallVec;

use crate::{
    key::{Key, Target, default_port},
    service::Nest,
    shared::Shared,
    store::{Invalidation, StoreError},
};

/// How long one purge may take of a request's time.
const PURGE_LIMIT: Duration = Duration::from_millis(250);

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
#[derive(Clone)]
pub struct CacheHandle {
    shared: Arc<Shared>,
    /// The host that relative URLs mean.
    host: Option<String>,
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Purged {
    /// Stored responses that were found and forgotten. Those of keys with application parts are
    /// made invalid without being counted.
    pub responses: usize,
}

impl CacheHandle {
    pub(crate) const fn new(shared: Arc<Shared>, host: Option<String>) -> Self {
        Self { shared, host }
    }

    /// Forgets all variants of a URL: whatever was stored, and whatever handlers that run now are
    /// about to store. When it returns, nothing made before it was called will be served.
    ///
    /// The URL is `/path?query` on the host of the current request, or a full
    /// `https://host/path?query`; the scheme makes no difference. The path is that of requests:
    /// percent-encoded alike.
    ///
    /// # Errors
    ///
    /// If the URL cannot be read, or the store fails: then the responses may still be there.
    pub async fn purge_url(&self, url: impl AsRef<str>) -> Result<Purged, PurgeError> {
        let target = self.target(url.as_ref())?;
        Ok(purge(&self.shared, &target, None).await?)
    }

    /// Forgets everything in the store, other applications' entries included.
    ///
    /// # Errors
    ///
    /// If the store fails: then the responses may still be there.
    pub async fn purge_all(&self) -> Result<(), PurgeError> {
        within(self.shared.store.invalidate(&Invalidation::All)).await?;
        log::debug!("purge all");
        Ok(())
    }

    fn target(&self, url: &str) -> Result<Target, PurgeError> {
        let uri: Uri = url.parse().map_err(|_| PurgeError::Url)?;
        let host = match (uri.scheme_str(), uri.authority()) {
            // Without a scheme a host would be taken for all of the URL, and nothing be purged.
            (Some(scheme @ ("http" | "https")), Some(authority)) => named_by(scheme, authority),
            (None, None) if url.starts_with('/') => {
                self.host.as_deref().ok_or(PurgeError::NoHost)?
            }
            _ => return Err(PurgeError::Url),
        };
        Ok(Target {
            host: host.to_owned(),
            path: uri.path().to_owned(),
            query: uri.query().map(str::to_owned),
        })
    }
}

/// The host that a URL names, as clients send it: without the user's name and without the port
/// that its scheme implies, for a page stored under the other scheme has another.
fn named_by<'a>(scheme: &str, authority: &'a Authority) -> &'a str {
    let host = authority.as_str();
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    host.strip_suffix(default_port(scheme)).unwrap_or(host)
}

/// Forgets a URL in all caches that share store and namespace. Fills of `spared` go on.
pub(crate) async fn purge(
    shared: &Shared,
    target: &Target,
    spared: Option<&Key>,
) -> Result<Purged, StoreError> {
    let store = &*shared.store;
    let (mut keys, mut tags) = (Vec::new(), SmallVec::new());
    for cache in store.commons().registered() {
        if *cache.namespace() == *shared.settings.namespace {
            let names = cache.names_of(target);
            keys.extend(names.keys);
            tags.extend(names.tags);
        }
    }
    keys.sort_unstable();
    keys.dedup();
    // First of all: what is being made now must not be stored once we have returned.
    let others = keys.iter().filter(|key| Some(*key) != spared);
    others.for_each(|key| store.commons().overtake(key));
    let mut purged = Purged::default();
    let mut result = Ok(());
    for key in &keys {
        // One that fails keeps the others from nothing.
        match within(store.remove(key)).await {
            Ok(responses) => purged.responses += responses,
            Err(error) => result = Err(error),
        }
    }
    if !tags.is_empty() {
        result = within(store.invalidate(&Invalidation::Tags(tags))).await.and(result);
    }
    log::debug!("purge url responses={}", purged.responses);
    result.map(|()| purged)
}

/// Waits for a store that is to forget something, for no longer than a request can wait.
pub(crate) async fn within<T>(
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let mut call = pin!(call);
    // Without a timer first: a store that answers at once can be purged from any thread, whether
    // it has a runtime or not.
    if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
        return result;
    }
    timeout(PURGE_LIMIT, call).await.unwrap_or_else(|_| Err(StoreError::new("it took too long")))
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
        let shared = request.extensions().get::<Nest>().map(|nest| Arc::clone(&nest.shared));
        let sent = request.headers().get(HOST).and_then(|host| host.to_str().ok());
        let host = sent.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
        let host = host.map(str::to_owned);
        future::ready(shared.map(|shared| Self::new(shared, host)).ok_or(CacheNotConfigured(())))
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

/// Nothing is known to be purged.
#[derive(Debug)]
#[non_exhaustive]
pub enum PurgeError {
    /// The URL cannot be read.
    Url,
    /// The URL has no host, and neither has the handle.
    NoHost,
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str(
                "this is no URL to purge: use \"/path?query\" or \"https://host/path?query\", \
                 percent-encoded",
            ),
            Self::NoHost => f.write_str(
                "outside of a request a URL to purge needs its host: use \
                 \"https://host/path?query\"",
            ),
            Self::Store(error) => write!(f, "nothing is known to be purged: {error}"),
        }
    }
}

impl std::error::Error for PurgeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            Self::Url | Self::NoHost => None,
        }
    }
}

impl From<StoreError> for PurgeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl ResponseError for PurgeError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Url | Self::NoHost => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
