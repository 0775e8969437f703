//! Redis is away, or says nothing: handlers answer, nobody waits for long, and it is used again once
//! it is back.
//!
//! A generic store that fails, hangs or panics is in `failing_store`.

use std::time::Duration;

use actix_web_cache::{Cache, ManualClock, RedisStore, store::Store as _};
use deadpool_redis::{Config, PoolConfig, Runtime};
use futures_util::future::join;

use crate::{
    redis_store::store_at,
    support::{
        Fault, FaultyProxy, RedisReply, RedisServer, START, Shop, eventually, resources, secs,
        settled,
    },
};

const CLIENTS: usize = 8;

fn some(n: usize) -> String {
    format!("/{}", n % 10)
}

#[actix_web::test]
async fn a_redis_that_is_down_at_first_is_used_once_it_is_there() {
    let redis = RedisServer::start();
    redis.kill();
    let store = store_at(&redis.url());
    let clock = ManualClock::at(START);
    let shop = Shop::with(Cache::builder(store.clone()).clock(clock.clock()).build().unwrap());
    shop.load(CLIENTS, 100, some).await.assert_short("nothing listens");
    let stats = store.stats();
    assert!(stats.is_open && stats.opened == 1, "{stats:?}");
    assert!(stats.failed == 100 && stats.found == 0, "{stats:?}");
    // Only those that were sent before the fifth had failed.
    assert!(stats.lookups == 0 && stats.connects == 0, "{stats:?}");
    let warnings = shop.warnings();
    let [warning] = warnings.as_slice() else { panic!("one warning: {warnings:?}") };
    assert!(warning.contains("Redis cannot be reached"), "{warning}");
    assert!(!warning.contains(&redis.port().to_string()), "{warning}");
    for (later, want) in [(29, 0), (1, 1), (29, 0)] {
        clock.advance(secs(later));
        shop.load(CLIENTS, 20, some).await.assert_short("nothing listens");
        assert_eq!(shop.warnings().len(), want, "after {later} s more");
    }
    redis.restart();
    shop.until_hit("/1").await;
    let stats = store.stats();
    assert!(!stats.is_open && stats.found > 0 && stats.writes > 0, "{stats:?}");
}

#[actix_web::test]
async fn a_redis_that_dies_under_load_fails_no_request_and_is_used_again_when_it_is_back() {
    let redis = RedisServer::start();
    let store = store_at(&redis.url());
    let shop = Shop::over(store.clone());
    for n in 0..10 {
        shop.until_hit(&some(n)).await;
    }
    let found = store.stats().found;
    let crash = async {
        eventually("there is load", || store.stats().found > found + 200).await;
        redis.kill();
    };
    let load = shop.load(CLIENTS, 1500, some);
    let (times, ()) = join(load, crash).await;
    times.assert_short("killed");
    let stats = store.stats();
    assert!(stats.is_open && stats.failed > 500, "{stats:?}");
    assert_eq!(shop.warnings().len(), 1);
    redis.restart();
    for n in 0..10 {
        shop.until_hit(&some(n)).await;
    }
    assert!(!store.stats().is_open);
    assert!(shop.warnings().is_empty());
}

#[actix_web::test]
async fn what_was_purged_is_not_back_when_redis_has_lost_what_it_knew_of_purges() {
    let redis = RedisServer::start();
    let store = store_at(&redis.url());
    let shop = Shop::over(store.clone());
    let kept = shop.until_hit("/kept").await;
    let names = resources(&redis);
    let purged = shop.until_hit("/purged").await;
    let name = resources(&redis).into_iter().find(|name| !names.contains(name)).unwrap();
    let RedisReply::List(fields) = redis.ask(&["HGETALL", &name]).unwrap() else { panic!() };
    let fields: Vec<_> = fields.into_iter().map(bytes).collect();
    shop.handle().purge_url(&shop.url("/purged")).await.unwrap();

    // It is empty, but for what was purged: as from a copy that is older than the purge.
    redis.restart();
    let mut back = vec![b"HSET".to_vec(), name.into_bytes()];
    back.extend(fields);
    redis.command(&back);
    assert!(shop.until_hit("/purged").await.run > purged.run, "a purged page is back");
    assert!(shop.until_hit("/kept").await.run > kept.run);
    assert!(store.stats().lost > 0);

    // The table alone is evicted: everything is invalid, what was purged among it.
    for what in ["by tag", "none"] {
        let before = shop.until_hit("/purged").await;
        if what == "by tag" {
            shop.handle().purge_tag("page").await.unwrap();
        }
        let lost = store.stats().lost;
        let tables = redis.command(&["KEYS", "*{invalidations}"]);
        assert_eq!(redis.command(&["DEL", &tables]), "1");
        let after = shop.get("/purged").await;
        assert!(after.run > before.run, "{what}");
        assert_eq!(store.stats().lost, lost + 1);
        let again = shop.until_hit("/purged").await;
        assert!(again.run > before.run, "{what}");
    }
}

fn bytes(reply: RedisReply) -> Vec<u8> {
    let RedisReply::Bytes(bytes) = reply else { panic!("{reply:?}") };
    bytes
}

#[derive(Debug, Clone, Copy)]
enum Silence {
    /// Of the server.
    Frozen,
    /// Of the way to it.
    Way(Fault),
}

#[actix_web::test]
async fn nobody_waits_for_long_for_a_redis_that_says_nothing_or_little() {
    let redis = RedisServer::start();
    for silence in [
        Silence::Frozen,
        Silence::Way(Fault::BlackHole),
        Silence::Way(Fault::Mute),
        Silence::Way(Fault::Delay(secs(5))),
        Silence::Way(Fault::Drip(secs(1))),
    ] {
        let case = format!("{silence:?}");
        let proxy = FaultyProxy::of(redis.addr());
        let store = store_at(&proxy.url());
        let shop = Shop::over(store.clone());
        for n in 0..10 {
            shop.until_hit(&some(n)).await;
        }
        match silence {
            Silence::Frozen => redis.freeze(),
            Silence::Way(fault) => proxy.set(fault),
        }
        shop.load(CLIENTS, 100, some).await.assert_within_budget(&case);
        let stats = store.stats();
        assert!(stats.is_open && stats.late >= 5, "{case}: {stats:?}");
        let asked = stats.lookups;
        shop.load(CLIENTS, 100, some).await.assert_short(&case);
        assert_eq!(store.stats().lookups, asked, "{case}: it is left alone");
        assert_eq!(shop.warnings().len(), 1, "{case}");
        match silence {
            Silence::Frozen => redis.thaw(),
            Silence::Way(_) => proxy.set(Fault::None),
        }
        shop.until_hit("/1").await;
        assert!(!store.stats().is_open, "{case}");
    }
}

#[actix_web::test]
async fn a_thousand_requests_pile_nothing_up_before_a_frozen_redis() {
    const CROWD: usize = 50;
    let redis = RedisServer::start();
    let store = store_at(&redis.url());
    let shop = Shop::over(store.clone());
    shop.until_hit("/large/first").await;
    let coordinator = store.coordinator();
    let crowd = async {
        // From misses that are being written on.
        let load = shop.load(CROWD, 1000, |n| format!("/large/{n}"));
        let freeze = async {
            eventually("there are writes", || store.stats().writes > 20).await;
            redis.freeze();
        };
        join(load, freeze).await
    };
    let watch = async {
        let (mut fills, mut bytes) = (0, 0);
        loop {
            fills = fills.max(coordinator.open_fills());
            bytes = bytes.max(coordinator.bytes_in_fills());
            assert!(fills <= 2 * CROWD, "{fills} fills are open");
            assert!(bytes <= 2 * CROWD * 128 * 1024, "{bytes} bytes are being copied");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = crowd => {}
        () = watch => {}
    }
    assert!(store.stats().is_open);
    settled(coordinator).await;
    assert_eq!(coordinator.open_flights(), 0);
    redis.thaw();
    shop.until_hit("/large/last").await;
    // One for each kind of work of the worker, one that watches, and the one that asks here.
    let clients: usize = redis.info("connected_clients").unwrap().parse().unwrap();
    assert!(clients <= 10, "{clients} connections");
}

#[actix_web::test]
async fn a_pool_that_has_no_connection_to_spare_holds_no_request_up() {
    let redis = RedisServer::start();
    let mut config = Config::from_url(redis.url());
    config.pool = Some(PoolConfig::new(1));
    let pool = config.create_pool(Some(Runtime::Tokio1)).unwrap();
    let held = pool.get().await.unwrap();
    let store = RedisStore::new(pool).unwrap();
    let shop = Shop::over(store.clone());
    shop.load(CLIENTS, 100, some).await.assert_within_budget("no connection");
    assert!(store.stats().is_open && store.stats().lookups == 0);
    shop.load(CLIENTS, 100, some).await.assert_short("no connection");
    assert_eq!(shop.warnings().len(), 1);
    drop(held);
    shop.until_hit("/1").await;
    assert!(!store.stats().is_open);
}

/// A purge that cannot be told is an error, at once, and counts here from then on.
#[actix_web::test]
async fn a_purge_during_an_outage_is_an_error_and_made_up_for_before_anything_is_read() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let near_by = RedisStore::builder(redis.url()).namespace("both").build().unwrap();
    let cut_off = RedisStore::builder(proxy.url()).namespace("both").build().unwrap();
    let (one, other) = (Shop::over(cut_off.clone()), Shop::over(near_by));
    for fault in [Fault::BlackHole, Fault::Mute, Fault::Refuse] {
        // A page of its own, so that no write of the round before is under way.
        let path = format!("/{fault:?}");
        let before = one.until_hit_as(&path, "h").await.run;
        assert_eq!(other.until_hit_as(&path, "h").await.run, before);
        proxy.set(fault);
        proxy.drop_connections();
        let handle = one.handle();
        let url = format!("http://h{path}");
        let purge = handle.purge_url(&url);
        let purged = tokio::time::timeout(Duration::from_millis(500), purge).await;
        assert!(purged.expect("no longer than its limit").is_err(), "{fault:?}");
        assert!(cut_off.stats().is_open && cut_off.stats().queued > 0, "{fault:?}");
        assert!(one.get_as(&path, "h").await.run > before);
        proxy.set(Fault::None);
        eventually("it is told", || cut_off.stats().queued == 0).await;
        eventually("it is asked again", || !cut_off.stats().is_open).await;
        for shop in [&one, &other] {
            assert!(shop.get_as(&path, "h").await.run != before, "{fault:?}: it is back");
        }
    }
}
