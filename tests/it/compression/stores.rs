//! Copies in Redis, and in memory before Redis: processes share them.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse};
use actix_web_cache::{
    Cache, ManualClock, RedisStore, TieredStore,
    store::{BoxedStore, Store},
};
use log::Level;

use super::{CODINGS, decoded, is_copy, page, policy, streamed, until};
use crate::support::{
    Answer, CapturedLog, Client, HookedStore, RedisServer, START, fills_ended, secs,
    store as memory_store, test_app, wait_until,
};

fn redis_store(redis: &RedisServer) -> RedisStore {
    let builder = RedisStore::builder(redis.url(), "shop").lease(secs(5));
    builder.lookup_timeout(secs(5)).write_timeout(secs(5)).build().unwrap()
}

fn cache(store: impl Store) -> Cache {
    let builder = Cache::builder(store).policy(policy());
    builder.lookup_timeout(secs(5)).store_timeout(secs(5)).build().unwrap()
}

/// A page of its path and of the handler call.
fn numbered_page(request: &HttpRequest, run: usize) -> HttpResponse {
    let body = format!("{}{} run {run}", page(), request.path());
    HttpResponse::Ok().content_type("text/html").insert_header(("cache-tag", "page")).body(body)
}

/// Requests the page of all servers by one host name, so that they share their cache keys.
async fn get(client: &Client, accepted: &str) -> Answer {
    client.get_with("/", &[("host", "shop.test"), ("accept-encoding", accepted)]).await
}

async fn get_shared_copy(client: &Client, coding: &str) -> Answer {
    until(async || get(client, coding).await, is_copy).await
}

/// The names of the fields in the hashes of responses.
fn fields(redis: &RedisServer) -> Vec<Vec<u8>> {
    let mut wire = redis.wire();
    let keys = redis.command(&["KEYS", "shop:5:{????????????????????????????????:?}"]);
    let names = |key: &str| wire.hash(key).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    keys.split_whitespace().flat_map(names).collect()
}

fn copies(redis: &RedisServer) -> usize {
    fields(redis).iter().filter(|name| name.len() == 33).count()
}

#[actix_web::test]
async fn processes_share_the_copies_in_redis() {
    let redis = RedisServer::start();
    let stores: [BoxedStore; 3] = [
        BoxedStore::new(redis_store(&redis)),
        BoxedStore::new(redis_store(&redis)),
        BoxedStore::new(TieredStore::new(redis_store(&redis))),
    ];
    let apps = stores.map(|store| test_app(&cache(store), numbered_page));
    for coding in CODINGS {
        let first = get_shared_copy(&apps[0].client, coding).await;
        assert!(first.is_hit() && decoded(coding, &first.body).ends_with(b"/ run 1"));
        for (app, is_tiered) in [(&apps[1], false), (&apps[2], true)] {
            // The copy that another process made comes with the first lookup, or is read by a process
            // that has the page in memory already.
            let other = match is_tiered {
                true => get_shared_copy(&app.client, coding).await,
                false => get(&app.client, coding).await,
            };
            assert!(other.is_hit(), "{}", other.cache_status());
            for name in ["etag", "content-encoding"] {
                assert_eq!(other.field(name), first.field(name));
            }
            assert_eq!(other.body, first.body);
        }
    }
    assert_eq!(copies(&redis), 3);
    assert_eq!(apps.each_ref().map(|app| app.runs.get()), [1, 0, 0]);
}

/// The near store has the page, but not the copy that another process made in the meantime.
#[actix_web::test]
async fn memory_before_redis_reads_a_copy_instead_of_making_it_again() {
    let redis = RedisServer::start();
    let one = test_app(&cache(TieredStore::new(redis_store(&redis))), numbered_page);
    let far = redis_store(&redis);
    let other = test_app(&cache(TieredStore::new(far.clone())), numbered_page);
    get(&one.client, "").await;
    wait_until("the page is stored", || fields(&redis).iter().any(|name| name.len() == 32)).await;
    let plain = get(&other.client, "").await;
    assert!(plain.is_hit());
    let made = get_shared_copy(&one.client, "gzip").await;
    wait_until("the copy is stored", || copies(&redis) == 1).await;
    let writes = far.stats().writes;
    redis.forget_calls();
    let read = get_shared_copy(&other.client, "gzip").await;
    assert_eq!((&read.body, read.field("etag")), (&made.body, made.field("etag")));
    assert_eq!(far.stats().writes, writes);
    assert_eq!(redis.calls().get("hset"), None, "no copy was written: {:?}", redis.calls());
}

#[actix_web::test]
async fn coded_hit_takes_one_round_trip() {
    let redis = RedisServer::start();
    let store = redis_store(&redis);
    let app = test_app(&cache(store.clone()), numbered_page);
    get_shared_copy(&app.client, "br").await;
    fills_ended(store.coordinator()).await;
    let mut monitor = redis.monitor();
    for _ in 0..3 {
        assert!(is_copy(&get(&app.client, "br").await));
    }
    let commands = monitor.so_far();
    let names: Vec<_> = commands.iter().map(|line| line.split('"').nth(1).unwrap()).collect();
    assert_eq!(names, ["HMGET", "ZSCORE"].repeat(3));
}

/// After a purge, or when the page has changed, no client gets a copy of the old page.
#[actix_web::test]
async fn copy_of_an_old_page_is_never_sent() {
    let redis = RedisServer::start();
    let tagging = || policy().tag("page");
    let build = |store: BoxedStore| Cache::builder(store).policy(tagging()).build().unwrap();
    for (case, store) in [
        ("memory", BoxedStore::new(memory_store())),
        ("Redis", BoxedStore::new(redis_store(&redis))),
        ("tiered", BoxedStore::new(TieredStore::new(redis_store(&redis)))),
    ] {
        redis.command(&["FLUSHALL"]);
        let cache = build(store);
        let app = test_app(&cache, numbered_page);
        for run in 1..6 {
            let copy = get_shared_copy(&app.client, CODINGS[run % 3]).await;
            let text = decoded(CODINGS[run % 3], &copy.body);
            assert!(text.ends_with(format!("/ run {run}").as_bytes()), "{case}, run {run}");
            match run % 2 {
                0 => cache.handle().purge_tag("page").await.unwrap(),
                _ => cache.handle().purge_url("http://shop.test/").await.unwrap(),
            };
        }
    }
}

#[actix_web::test]
async fn purge_of_a_url_removes_its_copies_from_redis() {
    let redis = RedisServer::start();
    let cache = cache(redis_store(&redis));
    let app = test_app(&cache, numbered_page);
    for coding in CODINGS {
        get_shared_copy(&app.client, coding).await;
    }
    wait_until("all copies are stored", || copies(&redis) == 3).await;
    cache.handle().purge_url("http://shop.test/").await.unwrap();
    let left: BTreeSet<_> = fields(&redis).into_iter().filter(|name| name.len() > 1).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A damaged copy counts as missing. A copy whose record is gone is not written.
#[actix_web::test]
async fn damaged_copy_is_made_again() {
    let redis = RedisServer::start();
    let clock = ManualClock::at(START);
    let builder = Cache::builder(redis_store(&redis)).policy(policy()).clock(clock.clock());
    let app = test_app(&builder.build().unwrap(), numbered_page);
    get_shared_copy(&app.client, "gzip").await;
    wait_until("the copy is stored", || copies(&redis) == 1).await;
    let keys = redis.command(&["KEYS", "shop:5:{????????????????????????????????:?}"]);
    let key = keys.split_whitespace().next().unwrap();
    let field = fields(&redis).into_iter().find(|name| name.len() == 33).unwrap();
    for damage in [&b"damaged"[..], b""] {
        let command = [b"HSET", key.as_bytes(), &field, damage];
        redis.ask(&command).unwrap();
        let answer = get(&app.client, "gzip").await;
        assert!(answer.is_hit());
        assert!(streamed(&answer, "gzip", "a damaged copy").ends_with(b"/ run 1"));
        // A copy is not made again within some seconds.
        clock.advance(secs(11));
        let again = get_shared_copy(&app.client, "gzip").await;
        assert!(decoded("gzip", &again.body).ends_with(b"/ run 1"));
    }
    assert_eq!(app.runs.get(), 1);
}

/// A store of an application that has no copies.
#[actix_web::test]
async fn store_without_copies_is_reported_and_codes_pages_for_each_client() {
    let lines = CapturedLog::default();
    lines.capture();
    let cache = cache(HookedStore::new());
    let warnings = lines.take(Level::Warn);
    assert!(warnings.len() == 1 && warnings[0].contains("put_coded_copy"), "{warnings:?}");
    let app = test_app(&cache, numbered_page);
    for round in 0..3 {
        let answer = get(&app.client, "gzip").await;
        assert_eq!(answer.is_hit(), round > 0);
        assert!(streamed(&answer, "gzip", "no copies").ends_with(b"/ run 1"));
    }
}
