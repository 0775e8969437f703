//! The object-safe twin of [`Store`], which spares [`Cache`](crate::Cache) a type parameter.

use std::{future::Future, pin::Pin, sync::Arc};

use super::{Commons, Fill, Invalidation, Lookup, Put, Store, StoreError};
use crate::{key::Key, stored::StoredResponse};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

pub(crate) trait Erased: Send + Sync {
    fn commons(&self) -> &Commons;
    fn lookup_now(&self, key: &Key) -> Option<Result<Lookup, StoreError>>;
    fn lookup<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Lookup>;
    fn put<'a>(
        &'a self,
        key: &'a Key,
        response: Arc<StoredResponse>,
        fill: &'a Fill,
    ) -> BoxFuture<'a, Put>;
    fn remove<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, usize>;
    fn invalidate<'a>(&'a self, what: &'a Invalidation) -> BoxFuture<'a, ()>;
}

impl<S: Store> Erased for S {
    fn commons(&self) -> &Commons {
        Store::commons(self)
    }

    fn lookup_now(&self, key: &Key) -> Option<Result<Lookup, StoreError>> {
        Store::lookup_now(self, key)
    }

    fn lookup<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Lookup> {
        Box::pin(Store::lookup(self, key))
    }

    fn put<'a>(
        &'a self,
        key: &'a Key,
        response: Arc<StoredResponse>,
        fill: &'a Fill,
    ) -> BoxFuture<'a, Put> {
        Box::pin(Store::put(self, key, response, fill))
    }

    fn remove<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, usize> {
        Box::pin(Store::remove(self, key))
    }

    fn invalidate<'a>(&'a self, what: &'a Invalidation) -> BoxFuture<'a, ()> {
        Box::pin(Store::invalidate(self, what))
    }
}
