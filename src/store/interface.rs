//! `Store`, the trait that every store implements, and the results and the error of its methods.

use std::{error::Error, fmt, future::Future, sync::Arc};

use crate::{
    coordination::{coordinator::Coordinator, fills::Fill, lease::Lease},
    entry::{
        coded_copy::CodedCopy,
        content_coding::ContentCoding,
        invalidation::Invalidation,
        key::{CacheKey, UrlKey},
        response::StoredResponse,
        selector::Selector,
        stamp::Stamp,
        variants::Variants,
    },
};

/// A store of responses.
///
/// The methods can be implemented as plain `async fn`s. `examples/custom_store.rs` shows a small
/// store. A store makes one [`Coordinator`] when it is built, and all clones of the store share
/// this coordinator. The coordinator holds the state that all caches with this store share within
/// the process, on all worker threads.
///
/// A store makes no HTTP decisions. For each response that the store returns, the cache itself
/// checks whether the response is fresh, matches the request (`Vary`), and was not purged. A store
/// must keep three promises, which the `conformance` suite (feature `test-util`) checks:
///
/// * [`put`](Self::put) adds the response to the stored variants of its key by the rules of
///   [`Variants::add`]. If several `put`s of one key run at the same time, no response is lost.
/// * `put` does not store a response if its fill (the call of its handler) [was
///   invalidated](Fill::is_invalidated), or if the response is not [valid](Coordinator::is_valid).
///   `put` checks both in the critical section in which it stores the response, so that no
///   [`remove`](Self::remove) or [`remove_url`](Self::remove_url) runs between the check and the
///   write.
/// * A lookup compares whole cache keys ([`CacheKey::as_bytes`]), never only digests of keys.
///
/// # Stores whose responses outlive the process
///
/// A store on disk must also:
///
/// * open with [`Coordinator::resume`];
/// * write each invalidation down before [`invalidate`](Self::invalidate) returns, with the stamp
///   that [`Coordinator::stamp`] returns after [`Coordinator::invalidate`], and pass all of them to
///   [`Coordinator::record_remote`] when it is opened. An invalidation may be forgotten once no
///   stored response has an earlier stamp;
/// * make removals permanent before `remove` and `remove_url` return.
///
/// The check
/// [`conformance::purges_outlive_the_process`](crate::store::conformance::purges_outlive_the_process)
/// tests such a store: it drops the store and opens it again. A store that several processes share,
/// such as `RedisStore`, does not use [`Coordinator::resume`]. It keeps its logical time (a number
/// that grows with each invalidation) outside of the processes, for example on a server.
///
/// # Limits
///
/// The cache limits the time of each call, and drops the future of a call that takes too long. If a
/// call panics, the cache handles the panic like an error.
///
/// Use [`BoxedStore`](crate::store::BoxedStore) to choose among stores at run time.
pub trait Store: Send + Sync + 'static {
    /// Returns the coordinator of the store: the state that all caches with this store share within
    /// the process. The store makes the coordinator when it is built.
    fn coordinator(&self) -> &Coordinator;

    /// Looks up the stored responses of a key.
    ///
    /// The result holds the store's logical time (a number that grows with each invalidation) and
    /// the stored variants of the key. A store may return all variants of the key, or only the
    /// variant that `selector` selects.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The handler then answers the request.
    fn lookup(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> impl Future<Output = Result<Lookup, StoreError>> + Send;

    /// Looks up a key without waiting.
    ///
    /// Returns `None` if the store would have to wait. The cache then calls
    /// [`lookup`](Self::lookup). The default implementation always returns `None`.
    ///
    /// Implement this method for a store in memory. The cache then allocates no future for the
    /// lookup of a hit.
    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>> {
        let _ = (key, selector);
        None
    }

    /// Stores a response. `fill` is the call of the handler that made the response.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The client still receives the response.
    fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> impl Future<Output = Result<Put, StoreError>> + Send;

    /// Stores a response without waiting, as [`put`](Self::put) does.
    ///
    /// Returns `None` if the store would have to wait. The cache then calls [`put`](Self::put). The
    /// default implementation always returns `None`.
    ///
    /// Implement this method for a store in memory. The cache then allocates no future for the write
    /// of a response.
    fn put_now(
        &self,
        key: &CacheKey,
        response: &Arc<StoredResponse>,
        fill: &Fill,
    ) -> Option<Result<Put, StoreError>> {
        let _ = (key, response, fill);
        None
    }

    /// Removes all variants of a key and returns their number.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The store may then still hold the responses.
    fn remove(&self, key: &CacheKey) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Removes all variants of all keys of a URL ([`UrlKey::contains`]), and returns their number.
    ///
    /// Keys of a URL can have different policies and parts, such as a tenant, so no caller knows all
    /// of them. Find them by the beginning of their bytes, for example with an index by
    /// [`CacheKey::url`], or by [`range`](std::collections::BTreeMap::range) in an ordered map.
    /// Clients can cause these calls by unsafe requests (such as `POST`) for any URL, so a call for
    /// a URL of which nothing is stored should be cheap, and should leave nothing behind.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The removal is then not confirmed.
    fn remove_url(&self, url: UrlKey<'_>)
    -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Records an invalidation (a purge or an expiry). The invalidation applies to every response
    /// whose handler was called before this call.
    ///
    /// The default implementation records the invalidation in the [`Coordinator`]. This record is
    /// enough for a store in the memory of one process.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. A purge then returns [`PurgeError`](crate::PurgeError),
    /// because the responses may still be served.
    fn invalidate(
        &self,
        invalidation: &Invalidation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.coordinator().invalidate(invalidation);
        async { Ok(()) }
    }

    /// Returns the size in bytes of the largest body that the store accepts. The cache does not
    /// store larger bodies, and says so in `Cache-Status`. Default: no limit.
    ///
    /// [`put`](Self::put) may still refuse a response with a smaller body ([`Put::TooLarge`]),
    /// because the header fields count as well.
    fn max_body_size(&self) -> usize {
        usize::MAX
    }

    /// Returns whether the store keeps coded copies: the bodies of stored responses in content codings
    /// ([`Policy::compress`](crate::Policy::compress)). Default `false`.
    ///
    /// The cache makes coded copies only if the store keeps them.
    fn supports_coded_copies(&self) -> bool {
        false
    }

    /// Adds a coded copy to a stored response, so that later lookups find the response with the copy.
    ///
    /// `response` is the response that a lookup has returned. The store adds the copy to the stored
    /// response of the same variant, if the copy [belongs to](CodedCopy::belongs_to) it, and otherwise
    /// drops the copy. [`Variants::with_coded_copy`] does both. A store that keeps records adds the
    /// copy to a decoded response by [`StoredResponse::with_coded_copy`].
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The cache makes the copy again later.
    fn put_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        copy: CodedCopy,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        let _ = (key, response, copy);
        async { Ok(()) }
    }

    /// Returns a coded copy of a response, if the store has one: another process may have added it since
    /// the response was looked up, or the stored response has the same body as an earlier one. The cache
    /// calls this method just before it makes a copy. [`Variants::find_coded_copy`] finds it among
    /// variants.
    ///
    /// The default implementation returns `None`. The cache then makes the copy.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The cache then makes no copy.
    fn find_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        coding: ContentCoding,
    ) -> impl Future<Output = Result<Option<CodedCopy>, StoreError>> + Send {
        let _ = (key, response, coding);
        async { Ok(None) }
    }

    /// Returns whether the store grants leases, by which one process calls a handler while other
    /// processes wait. Default `false`.
    ///
    /// The cache calls [`lease`](Self::lease) only if the store grants leases.
    fn supports_leases(&self) -> bool {
        false
    }

    /// Requests a lease: the right of one process to call the handler for a response that is not
    /// stored, while the other processes that share the store wait.
    ///
    /// Two requests for one key with different `collapse_key`s cannot share a response, so each
    /// `collapse_key` has its own lease. A process that is granted the lease looks up the key once
    /// more before it calls the handler. A process that finds the lease taken repeats the lookup
    /// and the lease request for at most three quarters of
    /// [`Policy::wait_limit`](crate::Policy::wait_limit). A lease must expire even if its holder
    /// never ends it.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The process then calls the handler without a lease.
    fn lease(
        &self,
        key: &CacheKey,
        collapse_key: &[u8],
    ) -> impl Future<Output = Result<Lease, StoreError>> + Send {
        let _ = (key, collapse_key);
        async { Ok(Lease::Unneeded) }
    }
}

/// The result of a lookup.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Lookup {
    /// The stored variants of the key, and the fields that select among the variants. The responses
    /// may be invalidated or stale, and the list of responses may be empty. `None` if nothing is
    /// stored for the key.
    pub variants: Option<Arc<Variants>>,
    /// The logical time of the store (a number that grows with each invalidation), read **before**
    /// the variants.
    pub stamp: Stamp,
}

impl Lookup {
    /// Makes a result from the stored variants and the store's logical time (a number that grows
    /// with each invalidation).
    ///
    /// Read the time before the variants, so that an invalidation between the two reads is later
    /// than the stamp. A store that only one process uses reads the time by [`Coordinator::stamp`].
    #[must_use]
    pub const fn new(variants: Option<Arc<Variants>>, stamp: Stamp) -> Self {
        Self { variants, stamp }
    }
}

/// The result of [`Store::put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Put {
    /// The response is stored.
    Stored,
    /// The response is larger than the store allows.
    TooLarge,
    /// The response is outdated. Its key or one of its tags was invalidated after its handler was
    /// called, or a request field selects among the stored variants (`Vary`) and the response does
    /// not vary on this field.
    Outdated,
}

/// The error of a call to a store.
///
/// [`source`](Error::source) returns the cause.
#[derive(Debug)]
pub struct StoreError {
    source: Box<dyn Error + Send + Sync>,
    retry: Retry,
}

/// Whether the store repeats an invalidation that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retry {
    Never,
    Queued,
}

impl StoreError {
    /// Wraps the cause of the failure.
    ///
    /// The cache logs the text of the cause, so the text must not contain secrets, such as a cache
    /// key or a part of a response.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), retry: Retry::Never }
    }

    /// Wraps the cause of a failed invalidation that the store has queued. The store sends the
    /// invalidation again by itself. Until then, the store returns no response to which the
    /// invalidation applies.
    pub fn queued(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: source.into(), retry: Retry::Queued }
    }

    /// Returns whether the store has queued the invalidation that failed.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.retry == Retry::Queued
    }

    /// Returns the text of the error and of its cause, for logs.
    pub(crate) fn with_cause(&self) -> impl fmt::Display {
        format!("{self}: {}", self.source)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cache store failed")
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}
