//! The trait that stores implement.

use std::{error::Error, fmt, future::Future, sync::Arc};

use crate::{
    coordination::{Coordinator, Fill, Lease},
    entry::{
        invalidation::Invalidation,
        key::CacheKey,
        response::{StoredResponse, Variants},
        selector::Selector,
        stamp::Stamp,
    },
};

/// Where responses are kept.
///
/// Implementers write plain `async fn`s. A store holds one [`Coordinator`], made with
/// [`Coordinator::new`] when the store is, and shared by its clones: it is what lets all caches over
/// the store, on all worker threads, know of each other.
///
/// A store need not judge anything: freshness, `Vary` and invalidation are read from what it
/// returns. It must keep three promises, which the `conformance` module (feature `test-util`)
/// checks:
///
/// * `put` adds to what is stored under the key by [`Variants::add`], and no two `put`s of one
///   key lose each other's response;
/// * `put` stores nothing of a [`Fill`] that [is overtaken](Fill::is_invalidated), and checks that
///   in the same critical section in which it stores, so that no [`remove`](Self::remove) can
///   come between;
/// * it compares whole keys ([`CacheKey::as_bytes`]), never only a digest of them.
///
/// Calls are bounded in time by the caller; a call that takes too long is dropped, and one that
/// panics counts as failed.
pub trait Store: Send + Sync + 'static {
    /// What the users of this store share.
    fn coordinator(&self) -> &Coordinator;

    /// What is stored under `key`, and the store's logical time at this moment: all variants, or at
    /// least the one that `selector` selects.
    ///
    /// # Errors
    ///
    /// If the store cannot be asked. The request then goes to the handler.
    fn lookup(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> impl Future<Output = Result<Lookup, StoreError>> + Send;

    /// Answers at once, if the store can without waiting; `None` if it cannot.
    ///
    /// Stores in memory should: it saves a future on every hit.
    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>> {
        let _ = (key, selector);
        None
    }

    /// Stores a response that `fill` produced.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The client has its answer all the same.
    fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> impl Future<Output = Result<Put, StoreError>> + Send;

    /// Forgets all variants under `key`; tells how many there were.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached: then nothing is known to be forgotten.
    fn remove(&self, key: &CacheKey) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Makes whatever began before this call invalid.
    ///
    /// The provided implementation records it in [`Coordinator`], which suits stores used by one
    /// process.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached: then nothing is known to be invalid.
    fn invalidate(
        &self,
        what: &Invalidation,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.coordinator().invalidate(what);
        async { Ok(()) }
    }

    /// Whether [`lease`](Self::lease) is to be called: by default it is not.
    fn leases(&self) -> bool {
        false
    }

    /// Lets one of all processes ask the handler for something that is not stored.
    ///
    /// `rest` tells requests for one key apart that cannot share an answer. Whoever is granted it
    /// looks once more whether something is stored by now before it asks. Whoever finds it taken
    /// looks, and calls this, again and again, until
    /// [`Policy::wait_limit`](crate::Policy::wait_limit) is nearly over. Stores see to it that a lease
    /// ends although nobody gives it up.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached. The process then asks as if it were alone.
    fn lease(
        &self,
        key: &CacheKey,
        rest: &[u8],
    ) -> impl Future<Output = Result<Lease, StoreError>> + Send {
        let _ = (key, rest);
        async { Ok(Lease::Unneeded) }
    }
}

/// What a look-up found.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// What is stored under the key, and the fields that select among it; invalidated and stale
    /// responses may be among it, and none need be.
    pub variants: Option<Arc<Variants>>,
    /// The store's logical time, read **before** the variants were:
    /// [`Coordinator::stamp`] for stores of one process.
    pub stamp: Stamp,
}

/// What became of a response given to [`Store::put`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Put {
    /// It is stored.
    Stored,
    /// It is larger than this store keeps.
    TooLarge,
    /// The resource changed since its fill began: it was invalidated, or selects by more fields.
    Outdated,
}

/// A store could not do what it was asked to.
#[derive(Debug)]
pub struct StoreError(Box<dyn Error + Send + Sync>);

impl StoreError {
    /// Wraps what went wrong. Its text is logged, so it should name no key and no content.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the cache's store failed: {}", self.0)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.0.as_ref())
    }
}
