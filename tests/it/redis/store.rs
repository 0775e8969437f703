//! A store on Redis: the conformance suite, the round trips of a hit, expiration in Redis, sharing
//! between processes, and configuration errors.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse};
use actix_web_cache::{
    Policy, PurgeTarget, ResponseOptions, Rule,
    redis::RedisStoreError,
    store::{Store as _, conformance},
};

use crate::{
    redis::{
        cache, cache_builder, cluster_url, get_until_hit, own_store, shared_store, store_builder,
        store_in, tiered_store,
    },
    support::{
        Fault, FaultyProxy, RedisCluster, RedisSentinel, RedisServer, TestApp, fills_ended,
        requested_response, resources, secs, test_app,
    },
};

fn two_thread_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn redis_store_passes_conformance_suite() {
    let server = RedisServer::start();
    two_thread_runtime().block_on(conformance::check(|| own_store(server.url())));
}

#[test]
fn redis_store_passes_conformance_suite_over_resp3() {
    let server = RedisServer::start();
    let url = format!("{}?protocol=resp3", server.url());
    two_thread_runtime().block_on(conformance::check(|| own_store(url.as_str())));
}

#[test]
fn redis_store_passes_conformance_suite_on_cluster() {
    let cluster = RedisCluster::start();
    let url = cluster_url(&cluster);
    two_thread_runtime().block_on(conformance::check(|| own_store(url.as_str())));
    two_thread_runtime().block_on(conformance::check(|| tiered_store(own_store(url.as_str()))));
}

#[test]
fn redis_store_passes_conformance_suite_with_sentinel() {
    let sentinel = RedisSentinel::start();
    let url = format!("redis-sentinel://{}/mymaster", sentinel.sentinel().addr());
    two_thread_runtime().block_on(conformance::check(|| own_store(url.as_str())));
}

#[test]
fn tiered_store_passes_conformance_suite() {
    let server = RedisServer::start();
    two_thread_runtime().block_on(conformance::check(|| tiered_store(own_store(server.url()))));
}

#[actix_web::test]
async fn two_processes_share_stored_responses_and_deletions() {
    let redis = RedisServer::start();
    let sites: Vec<TestApp> =
        (0..2).map(|_| test_app(&cache(shared_store(redis.url())), requested_response)).collect();
    let fields =
        [("answer", "cache-control: max-age=60"), ("answer", "x-spaces: a  b"), ("host", "shop")];
    let first = get_until_hit(&sites[0].client, "/a", &fields).await;
    let hit = sites[1].client.get_with("/a", &fields).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
    assert_eq!((hit.text(), hit.field("x-spaces")), (first.text(), first.field("x-spaces")));
    let purged = sites[0].client.send(hyper::Method::DELETE, "/a", &fields).await;
    assert_eq!(purged.status, 200);
    assert!(!sites[1].client.get_with("/a", &fields).await.is_hit(), "deleted page served");
}

#[actix_web::test]
async fn lookup_may_take_as_long_as_its_time_out() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let site = test_app(&cache(own_store(proxy.url())), requested_response);
    let fields = [("answer", "cache-control: max-age=60")];
    get_until_hit(&site.client, "/a", &fields).await;
    // The client library has a limit of its own, 500 ms, which must not apply.
    proxy.set(Fault::Delay(Duration::from_millis(700)));
    let hit = site.client.get_with("/a", &fields).await;
    assert!(hit.is_hit(), "{}", hit.cache_status());
}

/// The names of commands, in the order in which Redis received them, without those of the script
/// that counts some of the lookups as uses.
fn names(commands: &[String]) -> Vec<&str> {
    let by_client = commands.iter().filter(|command| !command.starts_with("lua "));
    let names = by_client.map(|command| command.split('"').nth(1).unwrap());
    names.filter(|name| *name != "EVAL").collect()
}

#[actix_web::test]
async fn hit_takes_one_round_trip_and_memory_hit_takes_none() {
    let redis = RedisServer::start();
    let handler = |_: &HttpRequest, _: usize| {
        let mut response = HttpResponse::Ok();
        let tags = ["a", "b", "c", "d", "e"].into_iter();
        let tags = tags.fold(ResponseOptions::new(), |all, tag| all.tag(tag));
        response.extensions_mut().insert(tags);
        response.insert_header(("vary", "accept-language")).body("page")
    };
    let stores = [0, 1, 2].map(|_| own_store(redis.url()));
    let [plain, varied, far] = stores.clone();
    let plain = test_app(&cache(plain), requested_response);
    let varied = test_app(&cache(varied), handler);
    let near = test_app(&cache(tiered_store(far)), handler);
    let fields = [("answer", "cache-control: max-age=60"), ("accept-language", "de")];
    for (case, site) in [("plain", &plain), ("varied", &varied), ("near", &near)] {
        get_until_hit(&site.client, "/a", &fields).await;
        assert!(site.client.get_with("/a", &fields).await.is_hit());
        // After the write, the store reads the invalidations once more.
        for store in &stores {
            fills_ended(store.coordinator()).await;
        }
        let mut monitor = redis.monitor();
        for _ in 0..3 {
            assert!(site.client.get_with("/a", &fields).await.is_hit(), "{case}");
        }
        let commands = monitor.so_far();
        let lookups: Vec<_> = commands.iter().filter(|command| command.contains("HGET")).collect();
        let names = names(&commands);
        match case {
            "near" => assert!(lookups.is_empty(), "{case}: {names:?}"),
            _ => assert_eq!(names, ["HGET", "ZSCORE"].repeat(3), "{case}"),
        }
    }
    // Both commands are sent together: the server reads them at once.
    let before = redis.info("total_reads_processed").unwrap().parse::<u64>().unwrap();
    for _ in 0..100 {
        assert!(plain.client.get_with("/a", &fields).await.is_hit());
    }
    let after = redis.info("total_reads_processed").unwrap().parse::<u64>().unwrap();
    assert!(after - before < 150, "{} reads for 100 hits", after - before);
}

#[actix_web::test]
async fn hit_on_cluster_takes_one_lookup_and_one_invalidation_check() {
    let cluster = RedisCluster::start();
    let store = own_store(cluster_url(&cluster));
    let site = test_app(&cache(store.clone()), requested_response);
    let fields = [("answer", "cache-control: max-age=60"), ("answer", "vary: accept-language")];
    get_until_hit(&site.client, "/a", &fields).await;
    fills_ended(store.coordinator()).await;
    (0..3).for_each(|node| cluster.node(node).forget_calls());
    for _ in 0..10 {
        assert!(site.client.get_with("/a", &fields).await.is_hit());
    }
    let calls = |name: &str| -> u64 {
        let nodes = (0..3).map(|node| cluster.node(node).calls().get(name).copied());
        nodes.flatten().sum()
    };
    // The script that counts some of the lookups as uses reads once.
    let lookups = calls("hget") - calls("eval");
    assert_eq!((lookups, calls("zscore"), calls("zrange")), (10, 10, 0));
}

#[actix_web::test]
async fn all_keys_in_redis_but_the_invalidations_expire() {
    let redis = RedisServer::start();
    let policy = Policy::new().stale_while_revalidate(secs(30));
    let cache = cache_builder(own_store(redis.url())).policy(policy).build().unwrap();
    let site = test_app(&cache, requested_response);
    let fields = [("answer", "cache-control: max-age=60"), ("answer", "vary: accept")];
    for accept in ["a", "b", "c"] {
        let fields = [fields[0], fields[1], ("accept", accept)];
        get_until_hit(&site.client, "/a", &fields).await;
    }
    site.client.send(hyper::Method::DELETE, "/b", &[]).await;
    cache.handle().purge_tag("t").await.unwrap();
    let mut wire = redis.wire();
    let keys = wire.command(&["KEYS", "*"]);
    for key in keys.split_whitespace() {
        let left: i64 = wire.command(&["PTTL", key]).parse().unwrap();
        let want = if key.ends_with("{invalidations}") {
            -1..0
        } else if key.ends_with(":removals") {
            1..400_000
        } else {
            60_000..91_000
        };
        assert!(want.contains(&left), "{key} expires in {left} ms");
    }
    assert_eq!(keys.split_whitespace().count(), 3, "{keys}");
}

#[actix_web::test]
async fn purge_by_one_process_applies_to_the_next_lookup_of_another() {
    let redis = RedisServer::start();
    let shared_cache = || {
        let rule = Rule::pattern("/{name}").with(|policy| policy.tag("known:{name}"));
        cache_builder(shared_store(redis.url())).rule(rule).build().unwrap()
    };
    let (one, other) = (shared_cache(), shared_cache());
    let (a, b) = (test_app(&one, requested_response), test_app(&other, requested_response));
    let fields = [
        ("answer", "cache-control: max-age=60"),
        ("answer", "cache-groups: \"g\""),
        ("accept", "x"),
    ];
    let host = a.server.addr.to_string();
    let fields = [fields[0], fields[1], ("host", host.as_str())];
    let url = format!("http://{host}/a");
    for target in [
        PurgeTarget::url(url.as_str()),
        PurgeTarget::url(url.as_str()).variant([("accept", "x")]),
        PurgeTarget::tag("known:a"),
        PurgeTarget::group("g").on_host(host.clone()),
        PurgeTarget::prefix("/").on_any_host(),
        PurgeTarget::all(),
    ] {
        get_until_hit(&a.client, "/a", &fields).await;
        get_until_hit(&b.client, "/a", &fields).await;
        other.handle().purge(target.clone()).await.unwrap();
        assert!(!a.client.get_with("/a", &fields).await.is_hit(), "{target:?}");
        get_until_hit(&a.client, "/a", &fields).await;
        other.handle().expire(target.clone()).await.unwrap();
        let stale = a.client.get_with("/a", &fields).await;
        assert!(!stale.is_hit(), "{target:?}: {}", stale.cache_status());
    }
}

#[test]
fn invalid_configuration_is_an_error_with_advice_and_without_secrets() {
    for url in ["", "127.0.0.1:6379", "http://h/", "redis://:secret@h:port/", "redis-sentinel://h"]
    {
        let error = store_builder(url, "test").build().unwrap_err();
        assert_eq!(error, RedisStoreError::InvalidUrl, "{url}");
        assert!(error.to_string().contains("expected redis://"), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
    for namespace in ["", "a{b"] {
        let error = store_builder("redis://h/", namespace).build().unwrap_err();
        assert_eq!(error, RedisStoreError::InvalidNamespace(namespace.to_owned()), "{namespace:?}");
    }
    let no_lease = store_builder("redis://h/", "test").lease(Duration::ZERO).build();
    let error = no_lease.unwrap_err();
    assert!(matches!(error, RedisStoreError::TooShort { setting: "lease", .. }), "{error:?}");
    for url in
        ["redis://h/", "redis+unix:///x", "redis-cluster://h:1,i:2", "redis-sentinel://h:1,i/m"]
    {
        assert!(store_builder(url, "test").build().is_ok(), "{url}");
    }
}

/// A new process knows no purge before its first lookup. The reply about purges may arrive late.
#[actix_web::test]
async fn first_lookup_of_a_process_sees_earlier_purges_however_late_they_arrive() {
    let redis = RedisServer::start();
    let policy = || Policy::new().tag("all");
    let purging = cache_builder(shared_store(redis.url())).policy(policy()).build().unwrap();
    let (first, proxy) = (test_app(&purging, requested_response), FaultyProxy::of(redis.addr()));
    let fields = [("answer", "cache-control: max-age=60"), ("host", "h")];
    // A page for each fault, so that no write of the one before is in progress.
    for (path, fault) in ["/a", "/b", "/c", "/d"].into_iter().zip([
        Fault::None,
        Fault::Delay(Duration::from_millis(10)),
        Fault::Delay(Duration::from_millis(60)),
        Fault::Drip(Duration::from_micros(100)),
    ]) {
        let start = || {
            let cache = cache_builder(shared_store(proxy.url())).policy(policy());
            test_app(&cache.build().unwrap(), requested_response)
        };
        let old = get_until_hit(&first.client, path, &fields).await;
        proxy.set(fault);
        let hit = start().client.get_with(path, &fields).await;
        assert!(hit.is_hit() && hit.body == old.body, "{fault:?}: before the purge");
        purging.handle().purge_tag("all").await.unwrap();
        let cold = start();
        let answer = cold.client.get_with(path, &fields).await;
        assert!(!answer.is_hit(), "{fault:?}: {}", answer.cache_status());
        proxy.set(Fault::None);
    }
}

/// The node with the purges answers later than the node with the record.
#[actix_web::test]
async fn first_lookup_on_a_cluster_waits_for_the_purges_of_another_node() {
    let cluster = RedisCluster::start();
    let policy = || Policy::new().tag("all");
    let store = || shared_store(cluster_url(&cluster));
    let purging = cache_builder(store()).policy(policy()).build().unwrap();
    let first = test_app(&purging, requested_response);
    let tables = (0..3).map(|node| cluster.node(node).command(&["KEYS", "*{invalidations}"]));
    let fields = [("answer", "cache-control: max-age=60"), ("host", "h")];
    get_until_hit(&first.client, "/a", &fields).await;
    purging.handle().purge_tag("all").await.unwrap();
    let with_purges = tables.enumerate().find(|(_, keys)| !keys.is_empty()).unwrap().0;
    // Pages on each of the nodes.
    let paths: Vec<_> = (0..6).map(|n| format!("/{n}")).collect();
    for delay in ["10", "60", "200"] {
        for path in &paths {
            get_until_hit(&first.client, path, &fields).await;
        }
        purging.handle().purge_tag("all").await.unwrap();
        let cold =
            test_app(&cache_builder(store()).policy(policy()).build().unwrap(), requested_response);
        // The process connects before the delay.
        get_until_hit(&cold.client, "/connected", &fields).await;
        for path in &paths {
            cluster.node(with_purges).command(&["CLIENT", "PAUSE", delay, "ALL"]);
            let answer = cold.client.get_with(path, &fields).await;
            assert!(!answer.is_hit(), "{path} after {delay} ms: {}", answer.cache_status());
        }
    }
}

/// Key names begin with the namespace, so a namespace can look like the beginning of such a name.
#[actix_web::test]
async fn namespaces_that_look_like_key_names_are_separate() {
    let redis = RedisServer::start();
    let namespaces = ["app", "app1", "app:", "app:5", "app:5:", "app:5:x", "1:x", "5"];
    let sites = namespaces.map(|namespace| {
        let policy = Policy::new().tag("app1").tag(namespace);
        let store = store_in(redis.url(), namespace);
        let cache = cache_builder(store).policy(policy).build().unwrap();
        (test_app(&cache, requested_response), cache)
    });
    let mut names = Vec::new();
    let paths = ["/", "/2:x"];
    for ((site, _), namespace) in sites.iter().zip(namespaces) {
        let known = resources(&redis);
        let line = format!("x-namespace: {namespace}");
        for path in paths {
            let fields = [("host", "x"), ("answer", line.as_str())];
            assert!(!site.client.get_with(path, &fields).await.is_hit(), "{namespace} {path}");
            get_until_hit(&site.client, path, &fields).await;
        }
        let new: Vec<_> =
            resources(&redis).into_iter().filter(|name| !known.contains(name)).collect();
        assert!(new.iter().all(|name| name.starts_with(&format!("{namespace}:"))), "{new:?}");
        names.push(new);
    }
    assert!(names.iter().all(|names| !names.is_empty()), "{names:?}");
    let hits_of = async |site: &TestApp, namespace: &str| {
        let mut hits = 0;
        for path in paths {
            let answer = site.client.get_with(path, &[("host", "x")]).await;
            let is_own = answer.field("x-namespace").as_deref() == Some(namespace);
            assert_eq!(answer.is_hit(), is_own, "{namespace}: {answer:?}");
            hits += usize::from(answer.is_hit());
        }
        hits
    };
    for (purging, (_, cache)) in sites.iter().enumerate() {
        if purging % 2 == 0 {
            cache.handle().purge_all().await.unwrap();
        } else {
            cache.handle().purge_tag("app1").await.unwrap();
        }
        for (n, ((site, _), namespace)) in sites.iter().zip(namespaces).enumerate() {
            if n == purging {
                assert_eq!(hits_of(site, namespace).await, 0, "{namespace}");
            } else if n > purging {
                assert_eq!(hits_of(site, namespace).await, 2, "{namespace} after {purging}");
            }
        }
    }
}

/// The store finds tagged responses by digests of their tags. Redis matches no pattern.
#[actix_web::test]
async fn tags_with_pattern_characters_reach_only_equal_tags() {
    let redis = RedisServer::start();
    let policy = Policy::new().tag_with(|request| Some(request.path()[1..].to_owned()));
    let cache = cache_builder(own_store(redis.url())).policy(policy).build().unwrap();
    let site = test_app(&cache, requested_response);
    let paths = ["/a*", "/ab", "/*", "/a[b]", "/a_"];
    for path in paths {
        get_until_hit(&site.client, path, &[]).await;
    }
    redis.forget_calls();
    for tag in ["?", "a?", "[a-z]*", "a%", "a", "^a.*"] {
        cache.handle().purge_tag(tag).await.unwrap();
    }
    for path in paths {
        assert!(site.client.get(path).await.is_hit(), "{path}");
    }
    for (n, path) in paths.iter().enumerate() {
        cache.handle().purge_tag(&path[1..]).await.unwrap();
        assert!(!site.client.get(path).await.is_hit(), "{path}");
        for later in &paths[n + 1..] {
            assert!(site.client.get(later).await.is_hit(), "{later} after the purge of {path}");
        }
    }
    let calls = redis.calls();
    assert!(!["keys", "scan", "hscan", "sscan"].iter().any(|name| calls.contains_key(*name)));
}
