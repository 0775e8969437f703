//! Memory in front of a Redis that is down, or whose announcements do not arrive.

use std::time::Duration;

use actix_web_cache::{RedisStore, TieredStore, redis::RedisSource};
use tokio::time::Instant;

use crate::{
    redis::{page_path, shop, store_in, tiered_builder, tiered_store},
    support::{Fault, FaultyProxy, PageServer, RedisServer, secs, wait_until},
};

/// The namespace of all stores here.
const NAMESPACE: &str = "tiered";

fn tiered(url: String) -> TieredStore<RedisStore> {
    tiered_store(store_in(url, NAMESPACE))
}

/// A store with the default time-outs, for a Redis that stops replying.
fn tiered_with_defaults(url: String) -> TieredStore<RedisStore> {
    tiered_store(RedisStore::new(url, NAMESPACE).unwrap())
}

/// Requests `path` until the response comes from memory. Returns its run.
async fn until_near(store: &TieredStore<RedisStore>, site: &PageServer, path: &str) -> usize {
    let requests = async {
        loop {
            let before = store.stats().near_hits;
            let hit = site.get_as_until_hit(path, "h").await;
            if store.stats().near_hits > before {
                return hit.run;
            }
        }
    };
    tokio::time::timeout(secs(10), requests).await.expect("a hit in memory")
}

/// Requests `path` until the response is from another run than `run`.
///
/// Returns when the last request with a response from `run` was sent, counted from the call. This
/// is independent of how long a busy machine takes for the responses.
async fn until_not(site: &PageServer, path: &str, run: usize) -> Duration {
    let begin = Instant::now();
    let requests = async {
        let mut last = Duration::ZERO;
        loop {
            let sent = begin.elapsed();
            if site.get_as(path, "h").await.run != run {
                return last;
            }
            last = sent;
        }
    };
    tokio::time::timeout(secs(10), requests).await.expect("a response from another run")
}

#[actix_web::test]
async fn memory_serves_hits_while_redis_is_down() {
    let redis = RedisServer::start();
    let store = tiered_with_defaults(redis.url());
    let site = PageServer::over(store.clone());
    let a = until_near(&store, &site, "/a").await;
    for restart in [false, true] {
        if restart {
            redis.kill()
        } else {
            redis.freeze()
        }
        site.load(4, 60, page_path).await.assert_within_budget("Redis is down");
        wait_until("the breaker opens", || store.far().stats().circuit_open).await;
        let hit = site.get_as("/a", "h").await;
        assert!(hit.is_hit && hit.run == a, "not from memory: {hit:?}");
        if !restart {
            redis.thaw();
            wait_until("the breaker closes", || !store.far().stats().circuit_open).await;
            assert_eq!(until_near(&store, &site, "/a").await, a);
        }
    }
    // The restarted server is empty: purges may have been lost, so no copy in memory is valid.
    redis.restart();
    assert!(until_not(&site, "/a", a).await < secs(5));
    assert!(until_near(&store, &site, "/a").await > a);
}

#[actix_web::test]
async fn purge_during_outage_applies_locally_and_everywhere_once_redis_is_back() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let (cut_off, connected) = (tiered_with_defaults(proxy.url()), tiered(redis.url()));
    let (here, there) = (PageServer::over(cut_off.clone()), shop(connected.clone()));
    let plain = shop(store_in(redis.url(), NAMESPACE));
    // A page for each round, so that no copy of the round before is left.
    for (path, by_tag) in [("/url", false), ("/tag", true)] {
        let old = until_near(&cut_off, &here, path).await;
        assert_eq!(until_near(&connected, &there, path).await, old);
        proxy.set(Fault::BlackHole);
        let purged = if by_tag {
            here.handle().purge_tag("page").await
        } else {
            here.handle().purge_url("http://h/url").await
        };
        assert!(purged.is_err());
        for _ in 0..10 {
            assert_ne!(
                here.get_as(path, "h").await.run,
                old,
                "purged page served by the process that purged it"
            );
        }
        assert_eq!(
            there.get_as(path, "h").await.run,
            old,
            "the purge cannot have reached the other process"
        );
        proxy.set(Fault::None);
        wait_until("the queued purge is sent", || cut_off.far().stats().invalidations_queued == 0)
            .await;
        // Lookups in Redis see the purge at once, copies in memory within the default of
        // `max_staleness`, one second.
        assert_ne!(plain.get_as(path, "h").await.run, old, "purged page served from Redis");
        let time = until_not(&there, path, old).await;
        assert!(time < secs(1), "purged page served from memory after {time:?}");
        for _ in 0..10 {
            for site in [&here, &there, &plain] {
                assert_ne!(site.get_as(path, "h").await.run, old, "purged page served again");
            }
        }
    }
}

#[actix_web::test]
async fn purge_by_another_process_applies_within_max_staleness() {
    let redis = RedisServer::start();
    let limit = secs(1);
    let tiered = |redis| tiered_builder(redis).max_staleness(limit).build().unwrap();
    let by_url = tiered(store_in(redis.url(), NAMESPACE));
    // This user may not subscribe to the announcements.
    redis.command(&["ACL", "SETUSER", "deaf", "on", ">secret", "~*", "resetchannels", "+@all"]);
    let deaf: RedisSource = redis.url().parse().unwrap();
    let deaf = deaf.username("deaf").password("secret");
    let unsubscribed = tiered(store_in(deaf, NAMESPACE));
    let plain = shop(store_in(redis.url(), NAMESPACE));
    for (case, store, kill) in [
        ("subscribed", &by_url, false),
        ("cut off", &by_url, true),
        ("not allowed", &unsubscribed, false),
    ] {
        let site = shop(store.clone());
        for _ in 0..3 {
            let old = until_near(store, &site, "/a").await;
            if kill {
                let killed = || redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]) != "0";
                wait_until("the subscription exists and is killed", killed).await;
            }
            plain.handle().purge_url("http://h/a").await.unwrap();
            let time = until_not(&site, "/a", old).await;
            assert!(time <= limit, "{case}: purged page served after {time:?}");
            for _ in 0..10 {
                assert_ne!(
                    site.get_as("/a", "h").await.run,
                    old,
                    "{case}: purged page served again"
                );
            }
        }
        if !kill && case != "not allowed" {
            let old = until_near(store, &site, "/a").await;
            let subscribers = redis.command(&["PUBSUB", "NUMSUB", "tiered:5:{invalidations}"]);
            assert!(subscribers.ends_with("\n1"), "{case}: {subscribers}");
            assert_eq!(site.get_as("/a", "h").await.run, old);
        }
    }
}
