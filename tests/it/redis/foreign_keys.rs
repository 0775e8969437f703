//! Keys of the store that another program has replaced or damaged heal by themselves.

use std::time::Duration;

use actix_web::HttpResponse;
use actix_web_cache::{Policy, store::Store as _};

use crate::{
    redis::{cache_builder, leasing_store, own_namespace, shop, store_in},
    support::{
        Client, GatedApp, PageServer, Protocol, RedisServer, fills_ended, resources, secs,
        wait_until,
    },
};

/// The warning about a table of invalidations that another program changed.
const WARNING: &str = "another program changed it";

/// A Redis with a stored page, and the name of its table of invalidations.
async fn site(redis: &RedisServer) -> (PageServer, String, String) {
    let namespace = own_namespace();
    let site = shop(store_in(redis.url(), &namespace));
    site.get_as_until_hit("/page", "h").await;
    let table = format!("{namespace}:5:{{invalidations}}");
    assert_eq!(redis.command(&["EXISTS", &table]), "1");
    (site, namespace, table)
}

/// Asserts that a purge by one process reaches another one, and that pages are stored again.
async fn assert_purges_work(redis: &RedisServer, site: &PageServer, namespace: &str, case: &str) {
    let other = shop(store_in(redis.url(), namespace));
    site.get_as_until_hit("/page", "h").await;
    other.get_as_until_hit("/page", "h").await;
    site.handle().purge_url("http://h/page").await.unwrap();
    assert!(!other.get_as("/page", "h").await.is_hit, "{case}");
    site.handle().purge_tag("page").await.unwrap();
    other.get_as_until_hit("/page", "h").await;
}

#[actix_web::test]
async fn damaged_table_of_invalidations_is_replaced_with_a_warning() {
    for (case, damage) in [
        ("another type", None),
        ("an infinite epoch", Some("inf")),
        ("an epoch of minus infinity", Some("-inf")),
        ("an epoch that cannot grow", Some("9007199254740993")),
        ("a huge epoch", Some("1e300")),
    ] {
        for restarted in [false, true] {
            let case = format!("{case}, restarted: {restarted}");
            let redis = RedisServer::start();
            let (mut site, namespace, table) = site(&redis).await;
            match damage {
                Some(epoch) => redis.command(&["ZADD", &table, epoch, "e"]),
                None => {
                    redis.command(&["DEL", &table]);
                    redis.command(&["SET", &table, "foreign"])
                }
            };
            if restarted {
                site = shop(store_in(redis.url(), &namespace));
            }
            // A purge may be lost, so no stored page is valid.
            assert!(!site.get_as("/page", "h").await.is_hit, "{case}");
            let warnings = site.warnings();
            assert!(warnings.iter().any(|line| line.contains(WARNING)), "{case}: {warnings:?}");
            assert_purges_work(&redis, &site, &namespace, &case).await;
        }
    }
}

#[actix_web::test]
async fn removals_of_another_type_are_replaced() {
    let redis = RedisServer::start();
    let (site, namespace, table) = site(&redis).await;
    let removals = format!("{table}:removals");
    redis.command(&["DEL", &removals]);
    redis.command(&["SET", &removals, "foreign"]);
    assert_purges_work(&redis, &site, &namespace, "removals").await;
    assert_eq!(redis.command(&["TYPE", &removals]), "zset");
}

#[actix_web::test]
async fn request_is_answered_before_the_wait_limit_when_a_lease_never_expires() {
    const LEASE: Duration = Duration::from_millis(300);
    for (case, damage) in [
        ("no expiry", &["SET", "{lease}", "foreign"][..]),
        ("another type", &["LPUSH", "{lease}", "foreign"]),
    ] {
        let redis = RedisServer::start();
        let (store, app) = (leasing_store(redis.url(), LEASE), GatedApp::new());
        // Without the repair, the request would wait for this limit.
        let policy = Policy::new().wait_limit(secs(60));
        let cache = cache_builder(store.clone()).policy(policy).build().unwrap();
        let server = app.serve(
            1,
            move || cache.clone(),
            async |app, _| {
                app.pass_gate().await;
                HttpResponse::Ok().body("page")
            },
        );
        let client = Client::new(server.addr, Protocol::Http1);
        // The first request shows the name of the lease, which its end releases.
        let request = client.get("/page");
        let name = async {
            let lease = || redis.command(&["KEYS", "*:lease:*"]);
            wait_until("the lease is taken", || !lease().is_empty()).await;
            let name = lease();
            app.gate.add_permits(100);
            name
        };
        let (_, name) = futures_util::join!(request, name);
        fills_ended(store.coordinator()).await;
        wait_until("the lease is released", || redis.command(&["EXISTS", &name]) == "0").await;
        for page in resources(&redis) {
            redis.command(&["DEL", &page]);
        }
        let damage: Vec<_> = damage.iter().map(|part| part.replace("{lease}", &name)).collect();
        redis.command(&damage);
        let answer = tokio::time::timeout(secs(20), client.get("/page")).await.expect(case);
        assert!(answer.is_stored(), "{case}");
        fills_ended(store.coordinator()).await;
        assert!(client.get("/page").await.is_hit(), "{case}");
    }
}
