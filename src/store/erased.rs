//! The object-safe twin of [`Store`], which spares [`Cache`](crate::Cache) a type parameter. A
//! panic of the store is a failure of the store here, and no end of the request.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
};

use futures_util::FutureExt as _;

use super::{Coordinator, Fill, Invalidation, Lease, Lookup, Put, Store, StoreError};
use crate::{entry::key::CacheKey, entry::response::StoredResponse, entry::selector::Selector};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

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
    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, usize>;
    fn invalidate<'a>(&'a self, what: &'a Invalidation) -> BoxFuture<'a, ()>;
    fn leases(&self) -> bool;
    fn lease<'a>(&'a self, key: &'a CacheKey, rest: &'a [u8]) -> BoxFuture<'a, Lease>;
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
        guarded(async move { Store::lookup(self, key, selector).await })
    }

    fn put<'a>(
        &'a self,
        key: &'a CacheKey,
        response: Arc<StoredResponse>,
        fill: &'a Fill,
    ) -> BoxFuture<'a, Put> {
        guarded(async move { Store::put(self, key, response, fill).await })
    }

    fn remove<'a>(&'a self, key: &'a CacheKey) -> BoxFuture<'a, usize> {
        guarded(async move { Store::remove(self, key).await })
    }

    fn invalidate<'a>(&'a self, what: &'a Invalidation) -> BoxFuture<'a, ()> {
        guarded(async move { Store::invalidate(self, what).await })
    }

    fn leases(&self) -> bool {
        catch_unwind(AssertUnwindSafe(|| Store::leases(self))).unwrap_or(false)
    }

    fn lease<'a>(&'a self, key: &'a CacheKey, rest: &'a [u8]) -> BoxFuture<'a, Lease> {
        guarded(async move { Store::lease(self, key, rest).await })
    }
}

/// Unwind safe: what a store holds is its own affair, and it has heard of its panic.
fn guarded<'a, T: 'a>(
    call: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> BoxFuture<'a, T> {
    let call = AssertUnwindSafe(call).catch_unwind();
    Box::pin(call.map(|result| result.unwrap_or_else(|_| Err(panicked()))))
}

fn panicked() -> StoreError {
    StoreError::new("it panicked")
}
