//! Memory in front of a Redis that is away, or whose announcements are.

use std::time::Duration;

use actix_web_cache::{RedisStore, TieredStore};
use deadpool_redis::{Config, Runtime};
use tokio::time::Instant;

use crate::support::{Fault, FaultyProxy, RedisServer, Shop, eventually, secs};

fn tiered(url: &str) -> TieredStore {
    TieredStore::new(far(url))
}

fn far(url: &str) -> RedisStore {
    RedisStore::builder(url).namespace("tiers").build().unwrap()
}

/// Asks until the answer comes from memory.
async fn until_near(store: &TieredStore, shop: &Shop, path: &str) -> usize {
    let asked = async {
        loop {
            let before = store.stats().near_hits;
            let visit = shop.until_hit_as(path, "h").await;
            if store.stats().near_hits > before {
                return visit.run;
            }
        }
    };
    tokio::time::timeout(secs(10), asked).await.expect("a hit in memory")
}

/// Asks until the answer is another; how long that took.
async fn until_not(shop: &Shop, path: &str, run: usize) -> Duration {
    let begun = Instant::now();
    let asked = async { while shop.get_as(path, "h").await.run == run {} };
    tokio::time::timeout(secs(10), asked).await.expect("another answer");
    begun.elapsed()
}

#[actix_web::test]
async fn memory_goes_on_while_redis_is_away() {
    let redis = RedisServer::start();
    let store = tiered(&redis.url());
    let shop = Shop::over(store.clone());
    let a = until_near(&store, &shop, "/a").await;
    for restart in [false, true] {
        if restart {
            redis.kill()
        } else {
            redis.freeze()
        }
        shop.load(4, 60, |n| format!("/{}", n % 10)).await.assert_within_budget("away");
        eventually("it is left alone", || store.stats().far.is_open).await;
        let visit = shop.get_as("/a", "h").await;
        assert!(visit.is_hit && visit.run == a, "memory has it: {visit:?}");
        if !restart {
            redis.thaw();
            eventually("it is asked again", || !store.stats().far.is_open).await;
            assert_eq!(until_near(&store, &shop, "/a").await, a);
        }
    }
    // Empty: nobody knows any more what was purged, so nothing counts.
    redis.restart();
    assert!(until_not(&shop, "/a", a).await < secs(5));
    assert!(until_near(&store, &shop, "/a").await > a);
}

#[actix_web::test]
async fn a_purge_without_redis_counts_here_and_everywhere_once_redis_is_back() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let (cut_off, well) = (tiered(&proxy.url()), tiered(&redis.url()));
    let (here, there) = (Shop::over(cut_off.clone()), Shop::over(well.clone()));
    let plain = Shop::over(far(&redis.url()));
    // Pages of their own, so that no copy of the first round is left somewhere.
    for (path, by_tag) in [("/url", false), ("/tag", true)] {
        let old = until_near(&cut_off, &here, path).await;
        assert_eq!(until_near(&well, &there, path).await, old);
        proxy.set(Fault::BlackHole);
        let purged = if by_tag {
            here.handle().purge_tag("page").await
        } else {
            here.handle().purge_url("http://h/url").await
        };
        assert!(purged.is_err());
        for _ in 0..10 {
            assert_ne!(here.get_as(path, "h").await.run, old, "it was purged here");
        }
        assert_eq!(there.get_as(path, "h").await.run, old, "nobody could know");
        proxy.set(Fault::None);
        eventually("Redis is told", || cut_off.stats().far.queued == 0).await;
        // Whoever asks Redis knows it now; whoever has a copy, after a moment.
        assert_ne!(plain.get_as(path, "h").await.run, old, "it is back");
        let time = until_not(&there, path, old).await;
        assert!(time < secs(1), "heard after {time:?}");
        for _ in 0..10 {
            for shop in [&here, &there, &plain] {
                assert_ne!(shop.get_as(path, "h").await.run, old, "it is back");
            }
        }
    }
}

#[actix_web::test]
async fn what_others_purge_is_known_in_time_also_without_announcements() {
    let redis = RedisServer::start();
    let limit = secs(1);
    let by_url = TieredStore::builder(far(&redis.url())).max_staleness(limit).build().unwrap();
    // Where a pool leads is not known, so nothing is heard.
    let pool = Config::from_url(redis.url()).create_pool(Some(Runtime::Tokio1)).unwrap();
    let by_pool = RedisStore::builder(pool).namespace("tiers").build().unwrap();
    let by_pool = TieredStore::builder(by_pool).max_staleness(limit).build().unwrap();
    let plain = Shop::over(far(&redis.url()));
    for (case, store, kill) in
        [("heard", &by_url, false), ("cut off", &by_url, true), ("no channel", &by_pool, false)]
    {
        let shop = Shop::over(store.clone());
        for _ in 0..3 {
            let old = until_near(store, &shop, "/a").await;
            if kill {
                let killed = || redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]) != "0";
                eventually("it listened", killed).await;
            }
            plain.handle().purge_url("http://h/a").await.unwrap();
            let time = until_not(&shop, "/a", old).await;
            assert!(time < limit + Duration::from_millis(250), "{case}: known after {time:?}");
            for _ in 0..10 {
                assert_ne!(shop.get_as("/a", "h").await.run, old, "{case}: it is back");
            }
        }
        if !kill && case != "no channel" {
            let old = until_near(store, &shop, "/a").await;
            let pubsub = redis.command(&["PUBSUB", "NUMSUB", "tiers:1:{invalidations}"]);
            assert!(pubsub.ends_with("\n1"), "{case}: {pubsub}");
            assert_eq!(shop.get_as("/a", "h").await.run, old);
        }
    }
}
