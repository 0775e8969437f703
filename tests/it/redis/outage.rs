//! Redis is down, unreachable or silent: handlers answer within the time budget, and the store uses
//! Redis again when it is back.
//!
//! `store::failing` tests stores of any kind that fail, hang or panic.

use std::time::Duration;

use actix_web_cache::{Cache, ManualClock, PurgeError, RedisStore, store::Store as _};
use futures_util::future::join;

use crate::{
    redis::{own_namespace, own_store, own_store_with_defaults, page_path, shop, store_in},
    support::{
        Fault, FaultyProxy, PageServer, RedisServer, START, fills_ended, resources, secs,
        wait_until,
    },
};

const CLIENTS: usize = 8;

#[actix_web::test]
async fn redis_that_is_down_at_startup_is_used_once_it_runs() {
    let redis = RedisServer::start();
    redis.kill();
    let store = own_store_with_defaults(redis.url());
    let clock = ManualClock::at(START);
    let site =
        PageServer::with(Cache::builder(store.clone()).clock(clock.clock()).build().unwrap());
    site.load(CLIENTS, 100, page_path).await.assert_short("nothing listens");
    let stats = store.stats();
    assert!(stats.circuit_open && stats.circuit_openings == 1, "{stats:?}");
    assert!(stats.lookups_failed == 100 && stats.found == 0, "{stats:?}");
    // No lookup is sent without a connection.
    assert!(stats.lookups == 0 && stats.connections == 0, "{stats:?}");
    let warnings = site.warnings();
    let [warning] = warnings.as_slice() else { panic!("not one warning: {warnings:?}") };
    assert!(warning.contains("Redis cannot be reached"), "{warning}");
    assert!(!warning.contains(&redis.port().to_string()), "{warning}");
    // The warning repeats every 30 seconds.
    for (seconds, want) in [(29, 0), (1, 1), (29, 0)] {
        clock.advance(secs(seconds));
        site.load(CLIENTS, 20, page_path).await.assert_short("nothing listens");
        assert_eq!(site.warnings().len(), want, "after {seconds} s more");
    }
    redis.restart();
    site.get_until_hit("/1").await;
    // A response is found before its write is confirmed and counted.
    wait_until("the write is counted", || store.stats().writes > 0).await;
    let stats = store.stats();
    assert!(!stats.circuit_open && stats.found > 0, "{stats:?}");
}

#[actix_web::test]
async fn redis_that_dies_under_load_fails_no_request_and_is_used_after_restart() {
    let redis = RedisServer::start();
    let store = own_store_with_defaults(redis.url());
    let site = PageServer::over(store.clone());
    for n in 0..10 {
        site.get_until_hit(&page_path(n)).await;
    }
    let found = store.stats().found;
    let crash = async {
        wait_until("there are hits under load", || store.stats().found > found + 200).await;
        redis.kill();
    };
    let load = site.load(CLIENTS, 1500, page_path);
    let (times, ()) = join(load, crash).await;
    times.assert_short("killed");
    let stats = store.stats();
    assert!(stats.circuit_open && stats.lookups_failed > 500, "{stats:?}");
    assert_eq!(site.warnings().len(), 1);
    redis.restart();
    for n in 0..10 {
        site.get_until_hit(&page_path(n)).await;
    }
    assert!(!store.stats().circuit_open);
    assert!(site.warnings().is_empty());
}

#[actix_web::test]
async fn purged_page_stays_purged_when_redis_loses_its_invalidations() {
    let redis = RedisServer::start();
    let store = own_store(redis.url());
    let site = shop(store.clone());
    let kept = site.get_until_hit("/kept").await;
    let names = resources(&redis);
    let purged = site.get_until_hit("/purged").await;
    let name = resources(&redis).into_iter().find(|name| !names.contains(name)).unwrap();
    let fields = redis.wire().hash(&name);
    site.handle().purge_url(&site.url("/purged")).await.unwrap();

    // The restarted server has only the purged record, like one restored from a backup that is
    // older than the purge.
    redis.restart();
    let mut restore = vec![b"HSET".to_vec(), name.into_bytes()];
    restore.extend(fields.into_iter().flat_map(|(name, value)| [name, value]));
    redis.command(&restore);
    assert!(site.get_until_hit("/purged").await.run > purged.run, "purged page served");
    assert!(site.get_until_hit("/kept").await.run > kept.run);
    assert!(store.stats().table_losses > 0);

    // Only the table of invalidations is evicted: then no record is valid, with or without a purge
    // before.
    for purge in ["by tag", "none"] {
        let before = site.get_until_hit("/purged").await;
        if purge == "by tag" {
            site.handle().purge_tag("page").await.unwrap();
        }
        let lost = store.stats().table_losses;
        let tables = redis.command(&["KEYS", "*{invalidations}"]);
        assert_eq!(redis.command(&["DEL", &tables]), "1");
        let after = site.get("/purged").await;
        assert!(after.run > before.run, "{purge}");
        assert_eq!(store.stats().table_losses, lost + 1);
        let again = site.get_until_hit("/purged").await;
        assert!(again.run > before.run, "{purge}");
    }
}

/// The part that stops replying.
#[derive(Debug, Clone, Copy)]
enum Silence {
    Server,
    Network(Fault),
}

#[actix_web::test]
async fn silent_or_slow_redis_delays_no_request_beyond_the_budget() {
    let redis = RedisServer::start();
    for silence in [
        Silence::Server,
        Silence::Network(Fault::BlackHole),
        Silence::Network(Fault::Mute),
        Silence::Network(Fault::Delay(secs(5))),
        Silence::Network(Fault::Drip(secs(1))),
    ] {
        let case = format!("{silence:?}");
        let proxy = FaultyProxy::of(redis.addr());
        let store = own_store_with_defaults(proxy.url());
        let site = PageServer::over(store.clone());
        for n in 0..10 {
            site.get_until_hit(&page_path(n)).await;
        }
        match silence {
            Silence::Server => redis.freeze(),
            Silence::Network(fault) => proxy.set(fault),
        }
        site.load(CLIENTS, 100, page_path).await.assert_within_budget(&case);
        let stats = store.stats();
        assert!(stats.circuit_open && stats.timeouts >= 5, "{case}: {stats:?}");
        let lookups = stats.lookups;
        site.load(CLIENTS, 100, page_path).await.assert_short(&case);
        assert_eq!(store.stats().lookups, lookups, "{case}: looked up with an open breaker");
        assert_eq!(site.warnings().len(), 1, "{case}");
        match silence {
            Silence::Server => redis.thaw(),
            Silence::Network(_) => proxy.set(Fault::None),
        }
        site.get_until_hit("/1").await;
        assert!(!store.stats().circuit_open, "{case}");
    }
}

#[actix_web::test]
async fn frozen_redis_accumulates_no_fills_bytes_or_connections() {
    const MANY_CLIENTS: usize = 50;
    let redis = RedisServer::start();
    let store = own_store_with_defaults(redis.url());
    let site = PageServer::over(store.clone());
    site.get_until_hit("/large/first").await;
    let coordinator = store.coordinator();
    let load_and_freeze = async {
        // Redis freezes while the misses are being written.
        let load = site.load(MANY_CLIENTS, 1000, |n| format!("/large/{n}"));
        let freeze = async {
            wait_until("there are writes", || store.stats().writes > 20).await;
            redis.freeze();
        };
        join(load, freeze).await
    };
    let watch = async {
        let (mut fills, mut bytes) = (0, 0);
        loop {
            fills = fills.max(coordinator.open_fills());
            bytes = bytes.max(coordinator.bytes_in_fills());
            // Each client has a request. Besides, up to 256 writes outlive their requests.
            assert!(fills <= MANY_CLIENTS + 256, "{fills} fills are open");
            assert!(bytes <= (MANY_CLIENTS + 256) * 128 * 1024, "{bytes} bytes are being copied");
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = load_and_freeze => {}
        () = watch => {}
    }
    assert!(store.stats().circuit_open);
    fills_ended(coordinator).await;
    assert_eq!(coordinator.open_flights(), 0);
    redis.thaw();
    site.get_until_hit("/large/last").await;
    // One for each kind of work of the worker, one for announcements, and the one of this command.
    let clients: usize = redis.info("connected_clients").unwrap().parse().unwrap();
    assert!(clients <= 10, "{clients} connections");
}

/// A purge that cannot reach Redis is an error within its time limit. It applies in its own process
/// from then on, and reaches Redis before that process reads from Redis again.
#[actix_web::test]
async fn purge_during_outage_fails_and_is_sent_before_any_lookup_afterwards() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let namespace = own_namespace();
    let cut_off = RedisStore::new(proxy.url(), namespace.as_str()).unwrap();
    let (one, other) = (PageServer::over(cut_off.clone()), shop(store_in(redis.url(), &namespace)));
    for fault in [Fault::BlackHole, Fault::Mute, Fault::Refuse] {
        // A page for each fault, so that no write of the round before is in progress.
        let path = format!("/{fault:?}");
        let before = one.get_as_until_hit(&path, "h").await.run;
        assert_eq!(other.get_as_until_hit(&path, "h").await.run, before);
        proxy.set(fault);
        proxy.drop_connections();
        let handle = one.handle();
        let url = format!("http://h{path}");
        let purge = handle.purge_url(&url);
        let purged = tokio::time::timeout(Duration::from_millis(500), purge).await;
        let error = purged.expect("the purge ends within its time limit").unwrap_err();
        assert!(matches!(error, PurgeError::Queued(_)), "{fault:?}: {error}");
        assert!(
            cut_off.stats().circuit_open && cut_off.stats().invalidations_queued > 0,
            "{fault:?}"
        );
        assert!(one.get_as(&path, "h").await.run > before);
        proxy.set(Fault::None);
        wait_until("the queued purge is sent", || cut_off.stats().invalidations_queued == 0).await;
        wait_until("the breaker closes", || !cut_off.stats().circuit_open).await;
        for site in [&one, &other] {
            assert!(site.get_as(&path, "h").await.run != before, "{fault:?}: purged page served");
        }
    }
}
