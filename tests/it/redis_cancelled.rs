//! Calls of the store that are given up after any number of polls: nothing is left half done.

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
    redis_store::store_at,
    support::{RedisServer, Shop, assert_all_expires, eventually, secs, settled},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Lookup,
    Put,
    Remove,
    Invalidate,
}

/// A store in Redis, whose next call of one kind is dropped after so many polls.
#[derive(Debug, Clone)]
struct Impatient {
    inner: RedisStore,
    next: Arc<Mutex<Option<(Call, usize)>>>,
    /// Whether a call was dropped before its end.
    dropped: Arc<Mutex<Option<bool>>>,
}

impl Impatient {
    fn at(redis: &RedisServer) -> Self {
        let inner = store_at(&redis.url());
        Self { inner, next: Arc::default(), dropped: Arc::default() }
    }

    fn drop_next(&self, call: Call, polls: usize) {
        *self.next.lock().unwrap() = Some((call, polls));
    }

    /// What became of the call, once there was one.
    async fn was_dropped(&self) -> bool {
        eventually("the call is made", || self.dropped.lock().unwrap().is_some()).await;
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
                Some((which, polls)) if which == call => {
                    *next = None;
                    Some(polls)
                }
                _ => None,
            }
        };
        let Some(mut left) = polls else { return work.await };
        let done = {
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
        *self.dropped.lock().unwrap() = Some(done.is_none());
        done.unwrap_or_else(|| Err(StoreError::new("given up")))
    }
}

impl Store for Impatient {
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

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        self.limit(Call::Invalidate, self.inner.invalidate(what)).await
    }
}

/// Gives up at the first poll, the second, and so on, until the call ends before.
async fn at_every_poll(call: Call, fresh_connection: bool) {
    let redis = RedisServer::start();
    let mut store = Impatient::at(&redis);
    let mut shop = Shop::over(store.clone());
    for polls in 0.. {
        assert!(polls < 200, "{call:?} has no end");
        if fresh_connection && call != Call::Put {
            store = Impatient::at(&redis);
            shop = Shop::over(store.clone());
        } else {
            shop.until_hit("/warm").await;
        }
        let dropped = one(call, polls, &store, &shop).await;
        settled(store.coordinator()).await;
        assert_all_expires(&redis);
        // All goes on as if nothing had been.
        shop.until_hit(&format!("/after/{polls}")).await;
        assert_eq!(store.inner.stats().unreadable, 0, "{call:?} at poll {polls}");
        if !dropped {
            assert!(polls > 0);
            return;
        }
    }
}

async fn one(call: Call, polls: usize, store: &Impatient, shop: &Shop) -> bool {
    let path = format!("/{polls}");
    match call {
        Call::Lookup | Call::Put => {
            store.drop_next(call, polls);
            let first = shop.get(&path).await;
            let dropped = store.was_dropped().await;
            assert!(shop.until_hit(&path).await.run >= first.run);
            dropped
        }
        Call::Remove | Call::Invalidate => {
            let before = shop.until_hit(&path).await.run;
            store.drop_next(call, polls);
            let purged = match call {
                Call::Remove => shop.handle().purge_url(&shop.url(&path)).await.map(drop),
                _ => shop.handle().purge_tag("page").await.map(drop),
            };
            let dropped = store.was_dropped().await;
            assert_eq!(purged.is_err(), dropped, "{call:?} at poll {polls}");
            if purged.is_ok() {
                assert!(shop.get(&path).await.run > before, "{call:?} at poll {polls}");
            } else if polls > 0 {
                // It was begun, so it goes on to its end.
                let gone = async { while shop.get(&path).await.run == before {} };
                let gone = tokio::time::timeout(secs(10), gone).await;
                assert!(gone.is_ok(), "{call:?} at poll {polls} was half done");
            }
            let after = shop.until_hit(&path).await.run;
            assert!(after > before || polls == 0, "{call:?} at poll {polls}: it is back");
            dropped
        }
    }
}

#[actix_web::test]
async fn a_look_up_may_be_given_up_at_any_moment() {
    for fresh_connection in [false, true] {
        at_every_poll(Call::Lookup, fresh_connection).await;
    }
}

#[actix_web::test]
async fn a_write_may_be_given_up_at_any_moment() {
    at_every_poll(Call::Put, false).await;
}

#[actix_web::test]
async fn a_removal_may_be_given_up_at_any_moment() {
    for fresh_connection in [false, true] {
        at_every_poll(Call::Remove, fresh_connection).await;
    }
}

#[actix_web::test]
async fn an_invalidation_may_be_given_up_at_any_moment() {
    for fresh_connection in [false, true] {
        at_every_poll(Call::Invalidate, fresh_connection).await;
    }
}
