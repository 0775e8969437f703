//! Store calls that are dropped after any number of polls leave no partial record and no partial
//! purge.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, Mutex},
    task::Poll,
};

use actix_web_cache::{
    RedisStore,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse,
    },
};

use crate::{
    redis::{own_store, shop},
    support::{RedisServer, Shop, assert_all_expires, eventually, secs, settled},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Lookup,
    Put,
    Remove,
    Invalidate,
}

/// A store on Redis that drops the next call of one kind after a number of polls.
#[derive(Debug, Clone)]
struct CancelingStore {
    inner: RedisStore,
    /// The call to drop, and the polls that it gets before.
    next: Arc<Mutex<Option<(Call, usize)>>>,
    /// Set once that call is over: `true` if it was dropped before it completed.
    dropped: Arc<Mutex<Option<bool>>>,
}

impl CancelingStore {
    fn at(redis: &RedisServer) -> Self {
        let inner = own_store(redis.url());
        Self { inner, next: Arc::default(), dropped: Arc::default() }
    }

    fn drop_next(&self, call: Call, polls: usize) {
        *self.next.lock().unwrap() = Some((call, polls));
    }

    /// Waits until the call is over, and returns whether it was dropped.
    async fn was_dropped(&self) -> bool {
        eventually("the call to drop is made", || self.dropped.lock().unwrap().is_some()).await;
        self.dropped.lock().unwrap().take().unwrap()
    }

    async fn limit<T>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let polls = {
            let mut next = self.next.lock().unwrap();
            match *next {
                Some((wanted, polls)) if wanted == call => {
                    *next = None;
                    Some(polls)
                }
                _ => None,
            }
        };
        let Some(mut left) = polls else { return work.await };
        let output = {
            let mut work = pin!(work);
            poll_fn(|context| {
                if left == 0 {
                    return Poll::Ready(None);
                }
                left -= 1;
                work.as_mut().poll(context).map(Some)
            })
            .await
        };
        *self.dropped.lock().unwrap() = Some(output.is_none());
        output.unwrap_or_else(|| Err(StoreError::new("dropped by the test")))
    }
}

impl Store for CancelingStore {
    fn coordinator(&self) -> &Coordinator {
        self.inner.coordinator()
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        self.limit(Call::Lookup, self.inner.lookup(key, selector)).await
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        self.limit(Call::Put, self.inner.put(key, response, fill)).await
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        self.limit(Call::Remove, self.inner.remove(key)).await
    }

    async fn invalidate(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        self.limit(Call::Invalidate, self.inner.invalidate(invalidation)).await
    }
}

/// Drops a call before its first poll, then after one poll, and so on until the call completes.
async fn drop_after_each_poll(call: Call, fresh_connection: bool) {
    let redis = RedisServer::start();
    let mut store = CancelingStore::at(&redis);
    let mut site = shop(store.clone());
    for polls in 0.. {
        assert!(polls < 200, "{call:?} never completes");
        if fresh_connection && call != Call::Put {
            store = CancelingStore::at(&redis);
            site = shop(store.clone());
        } else {
            site.until_hit("/warm").await;
        }
        let dropped = drop_one(call, polls, &store, &site).await;
        settled(store.coordinator()).await;
        assert_all_expires(&redis);
        // The store still works.
        site.until_hit(&format!("/after/{polls}")).await;
        assert_eq!(store.inner.stats().unreadable_records, 0, "{call:?} at poll {polls}");
        if !dropped {
            assert!(polls > 0);
            return;
        }
    }
}

/// Drops one call after `polls` polls. Returns whether it was dropped before it completed.
async fn drop_one(call: Call, polls: usize, store: &CancelingStore, site: &Shop) -> bool {
    let path = format!("/{polls}");
    match call {
        Call::Lookup | Call::Put => {
            store.drop_next(call, polls);
            let first = site.get(&path).await;
            let dropped = store.was_dropped().await;
            assert!(site.until_hit(&path).await.run >= first.run);
            dropped
        }
        Call::Remove | Call::Invalidate => {
            let before = site.until_hit(&path).await.run;
            store.drop_next(call, polls);
            let purged = match call {
                Call::Remove => site.handle().purge_url(&site.url(&path)).await.map(drop),
                _ => site.handle().purge_tag("page").await.map(drop),
            };
            let dropped = store.was_dropped().await;
            assert_eq!(purged.is_err(), dropped, "{call:?} at poll {polls}");
            if purged.is_ok() {
                assert!(site.get(&path).await.run > before, "{call:?} at poll {polls}");
            } else if polls > 0 {
                // A purge that was polled once is completed by the store, even if its caller is
                // gone.
                let purge_seen = async { while site.get(&path).await.run == before {} };
                let purge_seen = tokio::time::timeout(secs(10), purge_seen).await;
                assert!(purge_seen.is_ok(), "{call:?} at poll {polls} was not completed");
            }
            let after = site.until_hit(&path).await.run;
            assert!(after > before || polls == 0, "{call:?} at poll {polls}: purged page served");
            dropped
        }
    }
}

#[actix_web::test]
async fn lookup_can_be_dropped_at_any_poll() {
    for fresh_connection in [false, true] {
        drop_after_each_poll(Call::Lookup, fresh_connection).await;
    }
}

#[actix_web::test]
async fn put_can_be_dropped_at_any_poll() {
    drop_after_each_poll(Call::Put, false).await;
}

#[actix_web::test]
async fn remove_can_be_dropped_at_any_poll() {
    for fresh_connection in [false, true] {
        drop_after_each_poll(Call::Remove, fresh_connection).await;
    }
}

#[actix_web::test]
async fn invalidate_can_be_dropped_at_any_poll() {
    for fresh_connection in [false, true] {
        drop_after_each_poll(Call::Invalidate, fresh_connection).await;
    }
}
