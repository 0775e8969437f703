//! The trait that stores implement.

use std::{error::Error, fmt, future::Future, sync::Arc};

use crate::{
    coordination::{coordinator::Coordinator, fills::Fill, lease::Lease},
    entry::{
        invalidation::Invalidation, key::CacheKey, response::StoredResponse, selector::Selector,
        stamp::Stamp, variants::Variants,
    },
};

/// A store of responses.
///
/// Implementations are plain `async fn`s; `examples/custom_store.rs` has a small one. A store makes
/// one [`Coordinator`] when it is made. All clones of the store share it, so that all caches over the
/// store, on all worker threads, share their state.
///
/// A store decides nothing about HTTP: the cache checks freshness, `Vary` and invalidations of the
/// responses that the store returns. A store must keep three promises, which the `conformance`
/// suite (feature `test-util`) checks:
///
/// * [`put`](Self::put) adds the response to the stored variants of its key by [`Variants::add`].
///   Concurrent `put`s of one key lose no response.
/// * `put` does not store the response of an [invalidated](Fill::is_invalidated) fill, nor a response
///   that is not [valid](Coordinator::is_valid). It checks this in the critical section in which it
///   stores, so that no [`remove`](Self::remove) comes between the check and the write.
/// * It compares whole keys ([`CacheKey::as_bytes`]), never only a digest of them.
///
/// The cache limits the time of each call: it drops the future of a call that takes too long. A call
/// that panics counts as failed.
///
/// Use [`BoxedStore`](crate::store::BoxedStore) to choose among stores at run time.
pub trait Store: Send + Sync + 'static {
    /// The coordinator that the store made when it was made.
    fn coordinator(&self) -> &Coordinator;

    /// Looks up a key. Returns the store's logical time, and all stored variants of the key, or at
    /// least the variant that `selector` selects.
    ///
    /// # Errors
    ///
    /// If the store is not reachable. The request then goes to the handler.
    fn lookup(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> impl Future<Output = Result<Lookup, StoreError>> + Send;

    /// Looks up a key without waiting. Returns `None` if the store would have to wait; the cache then
    /// calls [`lookup`](Self::lookup).
    ///
    /// Stores in memory should implement this, because it saves a future for every hit.
    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>> {
        let _ = (key, selector);
        None
    }

    /// Stores the response of a fill.
    ///
    /// # Errors
    ///
    /// If the store is not reachable. The client gets its response nevertheless.
    fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> impl Future<Output = Result<Put, StoreError>> + Send;

    /// Removes all variants of a key and returns their number.
    ///
    /// # Errors
    ///
    /// If the store is not reachable: the removal is not confirmed.
    fn remove(&self, key: &CacheKey) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Records an invalidation, which applies to every response whose fill began before this call.
    ///
    /// The provided implementation records it in the [`Coordinator`]. That is enough for a store of
    /// one process.
    ///
    /// # Errors
    ///
    /// If the store is not reachable: the invalidation is not confirmed.
    fn invalidate(
        &self,
        invalidation: &Invalidation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.coordinator().invalidate(invalidation);
        async { Ok(()) }
    }

    /// Whether the store gives leases. If not, which is the default, [`lease`](Self::lease) is never
    /// called.
    fn supports_leases(&self) -> bool {
        false
    }

    /// Requests the lease of a response that is not stored, so that only one of the processes that
    /// share the store calls the handler.
    ///
    /// `discriminator` keeps requests for one key apart that cannot share a response. A process that
    /// is granted the lease looks up the key once more before it calls the handler. A process that
    /// finds the lease taken repeats the lookup and this call until
    /// [`Policy::wait_limit`](crate::Policy::wait_limit) is nearly over. The store must let a lease
    /// expire whose holder never ends it.
    ///
    /// # Errors
    ///
    /// If the store is not reachable. The process then calls the handler without a lease.
    fn lease(
        &self,
        key: &CacheKey,
        discriminator: &[u8],
    ) -> impl Future<Output = Result<Lease, StoreError>> + Send {
        let _ = (key, discriminator);
        async { Ok(Lease::Unneeded) }
    }
}

/// The result of a lookup.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Lookup {
    /// The stored variants of the key, and the fields that select among them. They may include
    /// invalidated and stale responses, and may be without any response.
    pub variants: Option<Arc<Variants>>,
    /// The store's logical time, read **before** the variants were.
    pub stamp: Stamp,
}

impl Lookup {
    /// Makes a result of the stored variants and the store's logical time, which must be read before
    /// the variants. Stores of one process read it by [`Coordinator::stamp`].
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
    /// The response is larger than the store keeps.
    TooLarge,
    /// The response is outdated: its key or one of its tags was invalidated after its fill began, or
    /// its resource is selected by further fields by now.
    Outdated,
}

/// A store failed to carry out a call.
///
/// The cause is the error's [`source`](Error::source).
#[derive(Debug)]
pub struct StoreError(Box<dyn Error + Send + Sync>);

impl StoreError {
    /// Wraps the cause of the failure. The cache logs its text, which should therefore hold no key and
    /// no content.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }

    /// The failure with its cause, for logs.
    pub(crate) fn with_cause(&self) -> impl fmt::Display {
        format!("{self}: {}", self.0)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the cache store failed")
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.as_ref())
    }
}
