//! The removal of a URL in Redis: it reaches the pages of every policy in every process, also those
//! that are written meanwhile, and no number of removals reaches another URL.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_cache::{Cache, Policy, store::Store};
use hyper::Method;

use crate::{
    redis::{
        cache_builder, get_until_hit, own_namespace, record_fields, shop, store_in, tiered_store,
    },
    support::{
        Client, GatedApp, Protocol, RedisServer, TestApp, fills_ended, requested_response,
        resources, secs, test_app, wait_until,
    },
};

const INDEX_VARIANT: &str = include_str!("../../../src/store/redis/index_variant.lua");
const SETTLE_WRITE: &str = include_str!("../../../src/store/redis/settle_write.lua");

/// The number of removals that the invalidation table keeps.
const MAX_REMOVALS: usize = 131_072;

fn cache_with(store: impl Store, policy: Policy) -> Cache {
    cache_builder(store).policy(policy.default_ttl(secs(600))).build().unwrap()
}

fn records(redis: &RedisServer) -> usize {
    let mut wire = redis.wire();
    resources(redis).iter().map(|name| record_fields(&mut wire, name).len()).sum()
}

#[actix_web::test]
async fn url_purge_reaches_the_pages_of_other_policies_in_other_processes() {
    let redis = RedisServer::start();
    let namespace = own_namespace();
    let store = || store_in(redis.url(), &namespace);
    let plain = test_app(&cache_with(store(), Policy::new()), requested_response);
    let tenants =
        test_app(&cache_with(store(), Policy::new().key_header("x-tenant")), requested_response);
    let strict =
        test_app(&cache_with(tiered_store(store()), Policy::rfc9111()), requested_response);
    let answer = ("answer", "cache-control: public, max-age=600");
    let fields: Vec<Vec<(&str, &str)>> = ["a", "b", "c", "d", "e", "f", "g", "h", "i"]
        .map(|tenant| vec![("host", "h"), ("x-tenant", tenant), answer])
        .to_vec();
    for purging in [&plain, &tenants, &strict] {
        for path in ["/page?q=1", "/other"] {
            for fields in &fields {
                get_until_hit(&tenants.client, path, fields).await;
            }
            get_until_hit(&plain.client, path, &fields[0]).await;
            get_until_hit(&strict.client, path, &fields[0]).await;
        }
        assert_eq!(purging.client.send(Method::PUT, "/page?q=1", &fields[0]).await.status, 200);
        for fields in &fields {
            assert!(!tenants.client.get_with("/page?q=1", fields).await.is_hit());
            assert!(tenants.client.get_with("/other", fields).await.is_hit());
        }
        assert!(!plain.client.get_with("/page?q=1", &fields[0]).await.is_hit());
        assert!(plain.client.get_with("/other", &fields[0]).await.is_hit());
        // Memory in another process follows within some milliseconds.
        let fresh = async {
            while strict.client.get_with("/page?q=1", &fields[0]).await.is_hit() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(secs(5), fresh).await.expect("the copy in memory is purged");
        assert!(strict.client.get_with("/other", &fields[0]).await.is_hit());
    }
}

#[actix_web::test]
async fn response_whose_handler_ran_during_a_removal_is_not_kept() {
    // The write of a response with a short lifetime needs no confirmation.
    for (removed_by_handle, lifetime) in [(true, 600), (false, 600), (true, 30), (false, 30)] {
        let redis = RedisServer::start();
        let namespace = own_namespace();
        let store = store_in(redis.url(), &namespace);
        let policy = Policy::new().default_ttl(secs(lifetime));
        let filling = cache_builder(store.clone()).policy(policy).build().unwrap();
        let other = cache_with(store_in(redis.url(), &namespace), Policy::new().key_header("x"));
        let app = GatedApp::new();
        let server = app.serve(
            1,
            move || filling.clone(),
            async |app: &GatedApp, _: HttpRequest| {
                HttpResponse::Ok().body(format!("run {}", app.pass_gate().await))
            },
        );
        let client = Client::new(server.addr, Protocol::Http1);
        let host = [("host", "h")];
        let purging: TestApp = test_app(&other, requested_response);
        let removal = async {
            wait_until("the handler runs", || app.runs.get() == 1).await;
            if removed_by_handle {
                other.handle().purge_url("http://h/").await.unwrap();
            } else {
                assert_eq!(purging.client.send(Method::POST, "/", &host).await.status, 200);
            }
            app.gate.add_permits(1);
        };
        let (first, ()) = futures_util::join!(client.get_with("/", &host), removal);
        assert_eq!(first.text(), "run 1");
        app.gate.add_permits(1);
        let second = client.get_with("/", &host).await;
        assert_eq!((second.text(), second.is_hit()), ("run 2", false));
        // A miss would wait for a permit, so the write must have ended.
        fills_ended(store.coordinator()).await;
        let hit = client.get_with("/", &host).await;
        assert_eq!((hit.text(), hit.is_hit()), ("run 2", true));
        assert_eq!(
            records(&redis),
            1,
            "the response of the first run was removed, or never written"
        );
    }
}

#[actix_web::test]
async fn too_many_removals_keep_the_pages_of_other_urls() {
    let redis = RedisServer::start();
    let namespace = own_namespace();
    let sites = [0, 1].map(|_| shop(store_in(redis.url(), &namespace)));
    for site in &sites {
        site.get_as_until_hit("/hot", "h").await;
    }
    let table = format!("{namespace}:5:{{invalidations}}");
    let at_start = redis.command(&["ZSCORE", &table, "f"]);
    // Removals of other processes, as many as the table keeps.
    let removals = format!("{table}:removals");
    let fill = "local time = redis.call('TIME'); local now = time[1] * 1000000 + time[2]
        for n = 1, ARGV[1] do
            redis.call('ZADD', KEYS[1], string.format('%.0f', now - 60000000 + n), string.format('%016d', n))
        end";
    let count = MAX_REMOVALS.to_string();
    redis.command(&["EVAL", fill, "1", &removals, &count]);
    for n in 0..20 {
        sites[n % 2].handle().purge_url(format!("http://h/{n}")).await.unwrap();
    }
    let left: usize = redis.command(&["ZCARD", &removals]).parse().unwrap();
    assert!(left <= MAX_REMOVALS, "{left} removals");
    assert_ne!(redis.command(&["ZSCORE", &removals, "d"]), "", "the floor of dropped removals");
    assert_eq!(redis.command(&["ZSCORE", &table, "f"]), at_start, "invalidations of all responses");
    for site in &sites {
        assert!(site.get_as("/hot", "h").await.is_hit);
    }
    let late = shop(store_in(redis.url(), &namespace));
    // Its lookups may fail until it has read the table.
    late.get_as_until_hit("/new", "h").await;
    assert!(late.get_as("/hot", "h").await.is_hit, "in a process that starts later");
    assert_eq!(redis.command(&["ZSCORE", &table, "o"]), "");
}

#[actix_web::test]
async fn lost_removals_affect_no_stored_page() {
    let redis = RedisServer::start();
    let namespace = own_namespace();
    let site = shop(store_in(redis.url(), &namespace));
    site.get_as_until_hit("/hot", "h").await;
    site.handle().purge_url("http://h/other").await.unwrap();
    assert_eq!(redis.command(&["DEL", &format!("{namespace}:5:{{invalidations}}:removals")]), "1");
    let late = shop(store_in(redis.url(), &namespace));
    assert!(late.get_as("/hot", "h").await.is_hit);
    late.get_as_until_hit("/other", "h").await;
    assert!(late.warnings().is_empty(), "{:?}", late.warnings());
}

/// The names of the variant, and of the field of its record, that [`write`] writes.
const VARIANT: &str = "vvvvvvvvvvvvvvvv";

fn record_field(id: usize) -> String {
    format!("{id:016}{VARIANT}")
}

/// Writes a variant by the script, as the store does, into the hash `h`.
fn write(redis: &RedisServer, id: usize, retention: usize, token: usize) {
    let (field, id, token) = (record_field(id), format!("{id:016}"), format!("{token:016}"));
    let unconfirmed = if retention > 60_000 { "60000" } else { "" };
    let retention = retention.to_string();
    redis.command(&["HSET", "h", &field, &format!("record {token}")]);
    let arguments = [id.as_str(), VARIANT, "accept", &retention, "64", &token, unconfirmed, "o"];
    let script = ["EVAL", INDEX_VARIANT, "1", "h"];
    assert_eq!(redis.command(&[&script[..], &arguments].concat()), "1");
}

fn confirm(redis: &RedisServer, token: usize) {
    redis.command(&["EVAL", SETTLE_WRITE, "1", "h", &format!("{token:016}")]);
}

/// Ends the write of a response that was invalidated during the write.
fn withdraw(redis: &RedisServer, id: usize, token: usize) {
    let (id, token) = (format!("{id:016}"), format!("{token:016}"));
    redis.command(&["EVAL", SETTLE_WRITE, "1", "h", &token, &id, VARIANT]);
}

fn time_left(redis: &RedisServer) -> i64 {
    redis.command(&["PTTL", "h"]).parse().unwrap()
}

#[test]
fn hash_expires_soon_until_all_its_writes_are_confirmed() {
    let redis = RedisServer::start();
    write(&redis, 1, 600_000, 1);
    assert!((1..=60_000).contains(&time_left(&redis)));
    write(&redis, 2, 900_000, 2);
    confirm(&redis, 2);
    assert!((1..=60_000).contains(&time_left(&redis)), "the first write is not confirmed");
    confirm(&redis, 1);
    assert!((600_001..=900_000).contains(&time_left(&redis)), "as long as the last variant");
    write(&redis, 3, 30_000, 3);
    assert!(time_left(&redis) > 600_000, "a short write needs no confirmation");
    write(&redis, 4, 600_000, 4);
    assert!((1..=60_000).contains(&time_left(&redis)));
    withdraw(&redis, 4, 4);
    assert_eq!(redis.command(&["HEXISTS", "h", &record_field(4)]), "0");
    assert!(time_left(&redis) > 600_000);
    redis.command(&["DEL", "h"]);
    confirm(&redis, 1);
    assert_eq!(redis.command(&["EXISTS", "h"]), "0", "a hash that was removed stays removed");
}

#[test]
fn withdrawn_write_keeps_the_record_of_a_later_write() {
    for retention in [600_000, 30_000] {
        let redis = RedisServer::start();
        write(&redis, 1, retention, 1);
        write(&redis, 1, retention, 2);
        withdraw(&redis, 1, 1);
        let record = redis.command(&["HGET", "h", &record_field(1)]);
        assert_eq!(record, format!("record {:016}", 2));
        withdraw(&redis, 1, 2);
        assert_eq!(redis.command(&["HEXISTS", "h", &record_field(1)]), "0");
    }
}

#[test]
fn expired_cache_keys_of_a_living_hash_are_removed() {
    let redis = RedisServer::start();
    write(&redis, 0, 600_000, 0);
    for id in 1..600 {
        write(&redis, id, 1, id);
    }
    let left: usize = redis.command(&["HLEN", "h"]).parse().unwrap();
    assert!(left < 300, "{left} fields of 1200 are left");
    assert_eq!(redis.command(&["HEXISTS", "h", &record_field(0)]), "1");
}
