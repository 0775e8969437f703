//! The object-safe form of [`Store`], so that [`Cache`](crate::Cache) has no type parameter.
//!
//! If a lookup, a write or an invalidation of the store panics, the cache gets a [`StoreError`],
//! and the request continues.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
};

use futures_util::FutureExt as _;

use super::interface::{Lookup, Put, Store, StoreError};
use crate::{
    coordination::{coordinator::Coordinator, fills::Fill, lease::Lease},
    entry::{
        coded_copy::CodedCopy,
        content_coding::ContentCoding,
        invalidation::Invalidation,
        key::{CacheKey, UrlKey},
        response::StoredResponse,
        selector::Selector,
    },
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// The methods of [`Store`], with boxed futures so that the trait is object-safe.
pub(crate) trait DynStore: Send + Sync {
    fn coordinator(&self) -> &Coordinator;
    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>>;
    fn lookup<'a>(&'a self, key: &'a CacheKey, selector: &'a Selector<'_>)
    -> BoxFuture<'a, Lookup>;
    fn put<'a>(
        &'a self,
        key: &'a CacheKey,
        response: Arc<StoredResponse>,
        fill: &'a Fill,
    ) -> BoxFuture<'a, Put>;
    fn put_now(
        &self,
        key: &CacheKey,
        response: &Arc<StoredResponse>,
        fill: &Fill,
    ) -> Option<Result<Put, StoreError>>;
    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, usize>;
    fn remove_url<'a>(&'a self, url: UrlKey<'a>) -> BoxFuture<'a, usize>;
    fn invalidate<'a>(&'a self, invalidation: &'a Invalidation) -> BoxFuture<'a, ()>;
    fn max_body_size(&self) -> usize;
    fn supports_coded_copies(&self) -> bool;
    fn put_coded_copy<'a>(
        &'a self,
        key: &'a CacheKey,
        response: &'a StoredResponse,
        copy: CodedCopy,
    ) -> BoxFuture<'a, ()>;
    fn find_coded_copy<'a>(
        &'a self,
        key: &'a CacheKey,
        response: &'a StoredResponse,
        coding: ContentCoding,
    ) -> BoxFuture<'a, Option<CodedCopy>>;
    fn supports_leases(&self) -> bool;
    fn lease<'a>(&'a self, key: &'a CacheKey, collapse_key: &'a [u8]) -> BoxFuture<'a, Lease>;
}

impl<S: Store> DynStore for S {
    fn coordinator(&self) -> &Coordinator {
        Store::coordinator(self)
    }

    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>> {
        let call = AssertUnwindSafe(|| Store::lookup_now(self, key, selector));
        catch_unwind(call).unwrap_or_else(|_| Some(Err(panicked())))
    }

    fn lookup<'a>(
        &'a self,
        key: &'a CacheKey,
        selector: &'a Selector<'_>,
    ) -> BoxFuture<'a, Lookup> {
        boxed(async move { Store::lookup(self, key, selector).await })
    }

    fn put<'a>(
        &'a self,
        key: &'a CacheKey,
        response: Arc<StoredResponse>,
        fill: &'a Fill,
    ) -> BoxFuture<'a, Put> {
        boxed(async move { Store::put(self, key, response, fill).await })
    }

    fn put_now(
        &self,
        key: &CacheKey,
        response: &Arc<StoredResponse>,
        fill: &Fill,
    ) -> Option<Result<Put, StoreError>> {
        let call = AssertUnwindSafe(|| Store::put_now(self, key, response, fill));
        catch_unwind(call).unwrap_or_else(|_| Some(Err(panicked())))
    }

    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, usize> {
        boxed(async move { Store::remove(self, key).await })
    }

    fn remove_url<'a>(&'a self, url: UrlKey<'a>) -> BoxFuture<'a, usize> {
        boxed(async move { Store::remove_url(self, url).await })
    }

    fn invalidate<'a>(&'a self, invalidation: &'a Invalidation) -> BoxFuture<'a, ()> {
        boxed(async move { Store::invalidate(self, invalidation).await })
    }

    fn max_body_size(&self) -> usize {
        catch_unwind(AssertUnwindSafe(|| Store::max_body_size(self))).unwrap_or(usize::MAX)
    }

    fn supports_coded_copies(&self) -> bool {
        catch_unwind(AssertUnwindSafe(|| Store::supports_coded_copies(self))).unwrap_or(false)
    }

    fn put_coded_copy<'a>(
        &'a self,
        key: &'a CacheKey,
        response: &'a StoredResponse,
        copy: CodedCopy,
    ) -> BoxFuture<'a, ()> {
        boxed(async move { Store::put_coded_copy(self, key, response, copy).await })
    }

    fn find_coded_copy<'a>(
        &'a self,
        key: &'a CacheKey,
        response: &'a StoredResponse,
        coding: ContentCoding,
    ) -> BoxFuture<'a, Option<CodedCopy>> {
        boxed(async move { Store::find_coded_copy(self, key, response, coding).await })
    }

    fn supports_leases(&self) -> bool {
        catch_unwind(AssertUnwindSafe(|| Store::supports_leases(self))).unwrap_or(false)
    }

    fn lease<'a>(&'a self, key: &'a CacheKey, collapse_key: &'a [u8]) -> BoxFuture<'a, Lease> {
        boxed(async move { Store::lease(self, key, collapse_key).await })
    }
}

/// Boxes the future of a call to the store. A panic of the future becomes an error.
///
/// `AssertUnwindSafe` is correct here: the cache shares only the coordinator with the store, and a
/// panic of the store cannot corrupt the coordinator. The store is responsible for its own state.
fn boxed<'a, T: 'a>(
    call: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> BoxFuture<'a, T> {
    let call = AssertUnwindSafe(call).catch_unwind();
    Box::pin(call.map(|result| result.unwrap_or_else(|_| Err(panicked()))))
}

fn panicked() -> StoreError {
    StoreError::new("the store panicked")
}
