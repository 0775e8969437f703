//! Store calls that are dropped after any number of polls leave no partial record and no partial
//! purge.

use actix_web_cache::{RedisStore, store::Store as _};

use crate::{
    redis::own_store,
    support::{
        HookedStore, PageServer, RedisServer, StoreCall, assert_all_expires, fills_ended, secs,
    },
};

/// Drops a call before its first poll, then after one poll, and so on until the call completes.
async fn drop_after_each_poll(call: StoreCall, fresh_connection: bool) {
    let redis = RedisServer::start();
    let mut store = HookedStore::over(own_store(redis.url()));
    let mut site = PageServer::over(store.clone());
    for polls in 0.. {
        assert!(polls < 200, "{call:?} never completes");
        if fresh_connection && call != StoreCall::Put {
            store = HookedStore::over(own_store(redis.url()));
            site = PageServer::over(store.clone());
        } else {
            site.get_until_hit("/warm").await;
        }
        let dropped = drop_one(call, polls, &store, &site).await;
        fills_ended(store.coordinator()).await;
        assert_all_expires(&redis);
        // The store still works.
        site.get_until_hit(&format!("/after/{polls}")).await;
        assert_eq!(store.inner().stats().unreadable_records, 0, "{call:?} at poll {polls}");
        if !dropped {
            assert!(polls > 0);
            return;
        }
    }
}

/// Drops one call after `polls` polls. Returns whether it was dropped before it completed.
async fn drop_one(
    call: StoreCall,
    polls: usize,
    store: &HookedStore<RedisStore>,
    site: &PageServer,
) -> bool {
    let path = format!("/{polls}");
    match call {
        StoreCall::Lookup | StoreCall::Put => {
            store.drop_next(call, polls);
            let first = site.get(&path).await;
            let dropped = store.was_dropped().await;
            assert!(site.get_until_hit(&path).await.run >= first.run);
            dropped
        }
        StoreCall::LookupNow => unreachable!("`lookup_now` returns no future to drop"),
        StoreCall::Remove | StoreCall::Invalidate => {
            let before = site.get_until_hit(&path).await.run;
            store.drop_next(call, polls);
            let purged = match call {
                StoreCall::Remove => site.handle().purge_url(&site.url(&path)).await.map(drop),
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
            let after = site.get_until_hit(&path).await.run;
            assert!(after > before || polls == 0, "{call:?} at poll {polls}: purged page served");
            dropped
        }
    }
}

#[actix_web::test]
async fn lookup_can_be_dropped_at_any_poll() {
    for fresh_connection in [false, true] {
        drop_after_each_poll(StoreCall::Lookup, fresh_connection).await;
    }
}

#[actix_web::test]
async fn put_can_be_dropped_at_any_poll() {
    drop_after_each_poll(StoreCall::Put, false).await;
}

#[actix_web::test]
async fn remove_can_be_dropped_at_any_poll() {
    for fresh_connection in [false, true] {
        drop_after_each_poll(StoreCall::Remove, fresh_connection).await;
    }
}

#[actix_web::test]
async fn invalidate_can_be_dropped_at_any_poll() {
    for fresh_connection in [false, true] {
        drop_after_each_poll(StoreCall::Invalidate, fresh_connection).await;
    }
}
