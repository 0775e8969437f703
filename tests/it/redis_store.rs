//! A store in Redis: the suite, what is in the server, and how often it is asked.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse};
use actix_web_cache::{
    Cache, Policy, PurgeTarget, RedisStore, ResponseOptions, Rule, TieredStore,
    redis::RedisStoreError, store::conformance,
};

use crate::support::{
    Answer, Client, RedisCluster, RedisSentinel, RedisServer, Site, obey, secs, site,
};

/// A store of its own on a shared server.
pub(crate) fn store_at(url: &str) -> RedisStore {
    static STORES: AtomicUsize = AtomicUsize::new(0);
    let namespace = format!("test-{}", STORES.fetch_add(1, Ordering::Relaxed));
    RedisStore::builder(url).namespace(namespace).build().unwrap()
}

fn threads() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn the_store_passes_the_suite() {
    let server = RedisServer::start();
    threads().block_on(conformance::check(|| store_at(&server.url())));
}

#[test]
fn the_store_passes_the_suite_by_the_newer_protocol() {
    let server = RedisServer::start();
    let url = format!("{}?protocol=resp3", server.url());
    threads().block_on(conformance::check(|| store_at(&url)));
}

#[test]
fn the_store_passes_the_suite_on_a_cluster() {
    let cluster = RedisCluster::start();
    let nodes: Vec<_> = cluster.urls().iter().map(|url| host_of(url)).collect();
    let url = format!("redis-cluster://{}", nodes.join(","));
    threads().block_on(conformance::check(|| store_at(&url)));
    threads().block_on(conformance::check(|| TieredStore::new(store_at(&url))));
}

#[test]
fn the_store_passes_the_suite_by_a_sentinel() {
    let sentinel = RedisSentinel::start();
    let url = format!("redis-sentinel://{}/mymaster", host_of(&sentinel.sentinel_url()));
    threads().block_on(conformance::check(|| store_at(&url)));
}

fn host_of(url: &str) -> String {
    url.trim_start_matches("redis://").trim_end_matches('/').to_owned()
}

#[test]
fn memory_in_front_of_the_store_passes_the_suite() {
    let server = RedisServer::start();
    threads().block_on(conformance::check(|| TieredStore::new(store_at(&server.url()))));
}

/// Asks until the answer is from the store.
pub(crate) async fn until_hit(client: &Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    let asked = async {
        loop {
            let answer = client.get_with(path, fields).await;
            if answer.is_hit() {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let hit = tokio::time::timeout(secs(10), asked).await;
    hit.unwrap_or_else(|_| panic!("never a hit: {path} {fields:?}"))
}

#[actix_web::test]
async fn two_processes_answer_from_what_either_stored() {
    let redis = RedisServer::start();
    let sites: Vec<Site> =
        (0..2).map(|_| site(&Cache::new(RedisStore::new(redis.url()).unwrap()), obey)).collect();
    let fields =
        [("answer", "cache-control: max-age=60"), ("answer", "x-odd: a  b"), ("host", "shop")];
    // A look-up that a busy machine makes late is no hit, and another page is tried.
    let mut shared = None;
    for n in 0..20 {
        let path = format!("/{n}");
        let first = until_hit(&sites[0].client, &path, &fields).await;
        let second = sites[1].client.get_with(&path, &fields).await;
        if second.is_hit() {
            shared = Some((path, first, second));
            break;
        }
    }
    let (path, first, hit) = shared.expect("a hit for a process that asked no handler");
    assert_eq!((hit.text(), hit.field("x-odd")), (first.text(), first.field("x-odd")));
    let purged = sites[0].client.send(hyper::Method::DELETE, &path, &fields).await;
    assert_eq!(purged.status, 200);
    assert!(!sites[1].client.get_with(&path, &fields).await.is_hit(), "it was deleted");
}

/// The commands that a request takes, in the order in which Redis got them.
fn round_trips(commands: &[String]) -> Vec<&str> {
    commands.iter().map(|command| command.split('"').nth(1).unwrap()).collect()
}

#[actix_web::test]
async fn a_hit_is_one_round_trip_also_with_vary_and_tags_and_a_hit_in_memory_none() {
    let redis = RedisServer::start();
    let handler = |_: &HttpRequest, _: usize| {
        let mut response = HttpResponse::Ok();
        let tags = ["a", "b", "c", "d", "e"].into_iter();
        let tags = tags.fold(ResponseOptions::new(), |all, tag| all.tag(tag));
        response.extensions_mut().insert(tags);
        response.insert_header(("vary", "accept-language")).body("page")
    };
    let far = RedisStore::new(redis.url()).unwrap();
    let plain = site(&Cache::new(far.clone()), obey);
    let varied = site(&Cache::new(store_at(&redis.url())), handler);
    let near = site(&Cache::new(TieredStore::new(store_at(&redis.url()))), handler);
    let fields = [("answer", "cache-control: max-age=60"), ("accept-language", "de")];
    for (case, site) in [("plain", &plain), ("varied", &varied), ("near", &near)] {
        until_hit(&site.client, "/a", &fields).await;
        // What was invalidated of others makes a look at the tags necessary.
        redis.command(&["PING"]);
        assert!(site.client.get_with("/a", &fields).await.is_hit());
        let mut monitor = redis.monitor();
        for _ in 0..3 {
            assert!(site.client.get_with("/a", &fields).await.is_hit(), "{case}");
        }
        let commands = monitor.so_far();
        let ours: Vec<_> = commands.iter().filter(|command| command.contains("HGET")).collect();
        let asked = round_trips(&commands);
        match case {
            "near" => assert!(ours.is_empty(), "{case}: {asked:?}"),
            _ => assert_eq!(asked, ["HGET", "ZSCORE"].repeat(3), "{case}"),
        }
    }
    // They are sent together: the server reads both at once.
    let before = redis.info("total_reads_processed").unwrap().parse::<u64>().unwrap();
    for _ in 0..100 {
        assert!(plain.client.get_with("/a", &fields).await.is_hit());
    }
    let after = redis.info("total_reads_processed").unwrap().parse::<u64>().unwrap();
    assert!(after - before < 150, "{} reads for 100 hits", after - before);
}

#[actix_web::test]
async fn a_hit_in_a_cluster_asks_for_the_page_and_for_what_is_new_at_the_same_time() {
    let cluster = RedisCluster::start();
    let nodes: Vec<_> = cluster.urls().iter().map(|url| host_of(url)).collect();
    let store = RedisStore::new(format!("redis-cluster://{}", nodes.join(","))).unwrap();
    let site = site(&Cache::new(store), obey);
    let fields = [("answer", "cache-control: max-age=60"), ("answer", "vary: accept-language")];
    until_hit(&site.client, "/a", &fields).await;
    (0..3).for_each(|node| cluster.node(node).forget_calls());
    for _ in 0..10 {
        assert!(site.client.get_with("/a", &fields).await.is_hit());
    }
    let calls = |name: &str| -> u64 {
        let nodes = (0..3).map(|node| cluster.node(node).calls().get(name).copied());
        nodes.flatten().sum()
    };
    assert_eq!((calls("hget"), calls("zscore"), calls("zrange")), (10, 10, 0));
}

#[actix_web::test]
async fn everything_in_redis_but_the_table_of_invalidations_expires() {
    let redis = RedisServer::start();
    let store = RedisStore::new(redis.url()).unwrap();
    let policy = Policy::new().stale_while_revalidate(secs(30));
    let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
    let site = site(&cache, obey);
    let fields = [("answer", "cache-control: max-age=60"), ("answer", "vary: accept")];
    for accept in ["a", "b", "c"] {
        let fields = [fields[0], fields[1], ("accept", accept)];
        until_hit(&site.client, "/a", &fields).await;
    }
    site.client.send(hyper::Method::DELETE, "/b", &[]).await;
    cache.handle().purge_tag("t").await.unwrap();
    let mut wire = redis.wire();
    let keys = wire.command(&["KEYS", "*"]);
    for key in keys.split_whitespace() {
        let left: i64 = wire.command(&["PTTL", key]).parse().unwrap();
        let want = if key.ends_with("{invalidations}") {
            -1..0
        } else if key.ends_with(":recent") {
            1..300_000
        } else {
            60_000..91_000
        };
        assert!(want.contains(&left), "{key} is kept for {left} ms");
    }
    assert_eq!(keys.split_whitespace().count(), 3, "{keys}");
}

#[actix_web::test]
async fn an_application_wide_purge_by_one_process_reaches_the_others_at_once() {
    let redis = RedisServer::start();
    let make = || {
        let rule = Rule::pattern("/{name}").tag("known:{name}");
        Cache::builder(RedisStore::new(redis.url()).unwrap()).rule(rule).build().unwrap()
    };
    let (one, other) = (make(), make());
    let (a, b) = (site(&one, obey), site(&other, obey));
    let fields = [
        ("answer", "cache-control: max-age=60"),
        ("answer", "cache-groups: \"g\""),
        ("accept", "x"),
    ];
    let host = a.server.addr.to_string();
    let fields = [fields[0], fields[1], ("host", host.as_str())];
    let url = format!("http://{host}/a");
    for pages in [
        PurgeTarget::url(url.as_str()),
        PurgeTarget::url(url.as_str()).variant([("accept", "x")]),
        PurgeTarget::tag("known:a"),
        PurgeTarget::group("g").on_host(host.clone()),
        PurgeTarget::prefix("/").on_any_host(),
        PurgeTarget::all(),
    ] {
        until_hit(&a.client, "/a", &fields).await;
        until_hit(&b.client, "/a", &fields).await;
        other.handle().purge(pages.clone()).await.unwrap();
        assert!(!a.client.get_with("/a", &fields).await.is_hit(), "{pages:?}");
        until_hit(&a.client, "/a", &fields).await;
        other.handle().expire(pages.clone()).await.unwrap();
        let stale = a.client.get_with("/a", &fields).await;
        assert!(!stale.is_hit(), "{pages:?}: {}", stale.cache_status());
    }
}

#[test]
fn what_is_no_way_to_redis_is_refused_at_start_up_with_advice_and_without_secrets() {
    let refused = |url: &str| RedisStore::new(url).unwrap_err();
    for url in ["", "127.0.0.1:6379", "http://h/", "redis://:secret@h:port/", "redis-sentinel://h"]
    {
        let error = refused(url);
        assert_eq!(error, RedisStoreError::Url, "{url}");
        assert!(error.to_string().contains("redis://host:port"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    let namespaced = |name: &str| RedisStore::builder("redis://h/").namespace(name).build();
    assert_eq!(namespaced("").unwrap_err(), RedisStoreError::Namespace);
    assert_eq!(namespaced("a{b").unwrap_err(), RedisStoreError::Namespace);
    let leased = RedisStore::builder("redis://h/").lease(Duration::ZERO).build();
    assert_eq!(leased.unwrap_err(), RedisStoreError::Lease);
    for url in
        ["redis://h/", "redis+unix:///x", "redis-cluster://h:1,i:2", "redis-sentinel://h:1,i/m"]
    {
        assert!(RedisStore::new(url).is_ok(), "{url}");
    }
}
