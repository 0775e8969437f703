//! Stale responses that several processes share: freshened by one of them, and purged or expired by
//! another.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_cache::{
    Cache, ManualClock, Policy, PurgeTarget, RedisStore, TieredStore, store::Store,
};
use hyper::Method;

use crate::{
    redis::{
        cache_builder, get_until_hit, record_fields, shared_store, store_builder, tiered_store,
    },
    support::{
        Answer, Fault, FaultyProxy, RedisServer, START, SharedLines, TestApp, conditions,
        requested_response, resources, secs, test_app,
        validators::{MINUTE, TAG},
        wait_until,
    },
};

/// A process with a clock of its own, for a page under one host name.
struct Process {
    cache: Cache,
    clock: ManualClock,
    app: TestApp,
}

const HOST: (&str, &str) = ("host", "h");
const FAILURE: (&str, &str) = ("answer-status", "503");

fn process(
    store: impl Store,
    policy: Policy,
    handler: impl Fn(&HttpRequest, usize) -> HttpResponse + Clone + Send + 'static,
) -> Process {
    let clock = ManualClock::at(START);
    let builder = cache_builder(store).clock(clock.clock()).policy(policy);
    let cache = builder.build().unwrap();
    let app = test_app(&cache, handler);
    Process { cache, clock, app }
}

impl Process {
    async fn get(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.app.client.get_with(path, &[&[HOST], fields].concat()).await
    }

    async fn get_until_hit(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        get_until_hit(&self.app.client, path, &[&[HOST], fields].concat()).await
    }
}

/// A large page with a date in an old format, or a 304 without any field of it.
fn large_page(request: &HttpRequest, recorded: &SharedLines) -> HttpResponse {
    let conditions = conditions(request);
    recorded.add(conditions.clone());
    if conditions.contains("if-modified-since") {
        return HttpResponse::NotModified().finish();
    }
    HttpResponse::Ok()
        .insert_header(("last-modified", OLD_FORMAT))
        .insert_header(("cache-control", "max-age=60"))
        .insert_header(("content-type", "video/mp4"))
        .body("x".repeat(LARGE - 1) + "y")
}

const LARGE: usize = 8 * 1024 * 1024;
const OLD_FORMAT: &str = "Sunday, 06-Nov-94 08:49:37 GMT";

/// A process that only read the freshened response would ask again and again.
#[actix_web::test]
async fn response_freshened_by_one_process_is_fresh_in_the_others() {
    let redis = RedisServer::start();
    let recorded = SharedLines::default();
    let start = || {
        let builder = store_builder(redis.url(), "shared").max_record(2 * LARGE);
        let (store, recorded) = (builder.build().unwrap(), recorded.clone());
        let policy = Policy::new().max_body_size(2 * LARGE).honor_request_directives();
        process(store, policy, move |request, _| large_page(request, &recorded))
    };
    let (one, other) = (start(), start());
    one.get_until_hit("/", &[]).await;
    assert!(other.get("/", &[]).await.is_hit());
    recorded.take();
    for (reader, validator) in [(&one, &other), (&other, &one)] {
        for process in [&one, &other] {
            process.clock.advance(secs(65));
        }
        let validated = validator.get("/", &[("range", "bytes=-2")]).await;
        assert_eq!((validated.status.as_u16(), validated.text()), (206, "xy"));
        assert_eq!(validated.cache_status(), "fwd=stale; fwd-status=304; stored");
        assert_eq!(recorded.take(), [format!("if-modified-since: {OLD_FORMAT}")]);
        // The response is written in the background.
        validator.cache.idle().await;
        for process in [&one, &other] {
            process.clock.advance(secs(9));
        }
        for process in [reader, validator] {
            let hit = process.get("/", &[]).await;
            assert_eq!(hit.cache_status(), "hit; ttl=51");
            assert_eq!(hit.field("age").as_deref(), Some("9"));
            assert_eq!((hit.body.len(), hit.body.last()), (LARGE, Some(&b'y')));
        }
        // A range of a fresh response that the client wants validated.
        let fields = [("range", "bytes=-1"), ("cache-control", "no-cache")];
        let forced = reader.get("/", &fields).await;
        assert_eq!((forced.status.as_u16(), forced.text()), (206, "y"));
        assert_eq!(forced.cache_status(), "fwd=request; fwd-status=304; stored");
        assert_eq!(recorded.take(), [format!("if-modified-since: {OLD_FORMAT}")]);
        reader.cache.idle().await;
    }
}

/// The hash of a URL lives as long as its longest variant.
#[actix_web::test]
async fn short_variant_ends_no_other_variant_of_its_url() {
    let redis = RedisServer::start();
    let site = process(shared_store(redis.url()), Policy::new(), requested_response);
    let (long, short) = ("cache-control: max-age=600", "cache-control: max-age=1");
    let variant = |coding, lifetime| {
        [("accept-encoding", coding), ("answer", "vary: accept-encoding"), ("answer", lifetime)]
    };
    site.get_until_hit("/", &variant("br", long)).await;
    site.get_until_hit("/", &variant("gzip", short)).await;
    let mut wire = redis.wire();
    let names = resources(&redis);
    let [name] = names.as_slice() else { panic!("not one hash: {names:?}") };
    let left: u64 = wire.command(&["PTTL", name]).parse().unwrap();
    assert!(left > 500_000, "the hash expires in {left} ms");
    site.clock.advance(secs(3));
    assert_eq!(site.get("/", &[("accept-encoding", "br")]).await.text(), "run 1");
    // Another short variant replaces the one that has expired.
    site.get_until_hit("/", &variant("zstd", short)).await;
    assert!(site.get("/", &[("accept-encoding", "br")]).await.is_hit());
    let left: u64 = wire.command(&["PTTL", name]).parse().unwrap();
    assert!(left > 500_000, "the hash expires in {left} ms");
}

/// Redis keeps the hash until its last variant expires, so it still has the record.
#[actix_web::test]
async fn variant_is_not_used_after_its_retention_although_another_one_keeps_the_hash() {
    let redis = RedisServer::start();
    let policy = Policy::new().honor_request_directives();
    let site = process(shared_store(redis.url()), policy, requested_response);
    let variant = |coding, lifetime| {
        [("accept-encoding", coding), ("answer", "vary: accept-encoding"), ("answer", lifetime)]
    };
    site.get_until_hit("/", &variant("br", "cache-control: max-age=600")).await;
    let short = variant("gzip", "cache-control: max-age=5");
    site.get_until_hit("/", &short).await;
    let any_age = [&short[..], &[("cache-control", "max-stale")]].concat();
    site.clock.advance(secs(4));
    assert!(site.get("/", &any_age).await.is_hit(), "fresh");
    site.clock.advance(secs(2));
    let answer = site.get("/", &any_age).await;
    assert!(!answer.is_hit(), "{}", answer.cache_status());
    assert!(site.get("/", &[("accept-encoding", "br")]).await.is_hit());
}

/// The index of a hash can name a record that is gone.
#[actix_web::test]
async fn missing_record_of_an_indexed_variant_is_a_miss_for_this_variant_only() {
    let redis = RedisServer::start();
    let site = process(shared_store(redis.url()), Policy::new(), requested_response);
    let variant =
        |coding| [("accept-encoding", coding), ("answer", "vary: accept-encoding"), MINUTE];
    site.get_until_hit("/", &variant("br")).await;
    let name = resources(&redis).pop().unwrap();
    let mut wire = redis.wire();
    let before = record_fields(&mut wire, &name);
    site.get_until_hit("/", &variant("gzip")).await;
    let after = record_fields(&mut wire, &name);
    let added = after.into_iter().find(|field| !before.contains(field)).unwrap();
    assert_eq!(wire.command(&[b"HDEL", name.as_bytes(), &added]), "1");
    assert!(site.get("/", &[("accept-encoding", "br")]).await.is_hit());
    let missing = site.get("/", &variant("gzip")).await;
    assert_eq!(missing.text(), "run 3", "{missing:?}");
    site.get_until_hit("/", &variant("gzip")).await;
    assert!(site.get("/", &[("accept-encoding", "br")]).await.is_hit());
}

/// How a page is purged or expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Url,
    Tag,
    Prefix,
    All,
    UnsafeMethod,
}

const KINDS: [Kind; 5] = [Kind::Url, Kind::Tag, Kind::Prefix, Kind::All, Kind::UnsafeMethod];

impl Kind {
    fn target(self, path: &str) -> PurgeTarget {
        match self {
            Self::Url | Self::UnsafeMethod => PurgeTarget::url(format!("http://h{path}")),
            Self::Tag => PurgeTarget::tag("all"),
            Self::Prefix => PurgeTarget::prefix(path).on_host("h"),
            Self::All => PurgeTarget::all(),
        }
    }

    /// Purges the page. A purge that does not reach Redis fails.
    async fn purge(self, process: &Process, path: &str) -> bool {
        if self == Self::UnsafeMethod {
            let client = &process.app.client;
            assert_eq!(client.send(Method::PUT, path, &[HOST]).await.status, 200);
            return true;
        }
        process.cache.handle().purge(self.target(path)).await.is_ok()
    }
}

fn policy() -> Policy {
    Policy::new().tag("all").stale_if_error(secs(600))
}

/// Stores a page in all processes, and lets it become stale.
async fn store_and_wait(processes: &[&Process], path: &str) {
    for process in processes {
        process.get_until_hit(path, &[TAG, MINUTE]).await;
    }
    for process in processes {
        process.clock.advance(secs(65));
    }
    for process in processes {
        let answer = process.get(path, &[FAILURE]).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}: the stale page replaces an error");
    }
}

/// Requests a page from a failing handler until the error reaches the client.
async fn until_error(process: &Process, path: &str) {
    let requests = async {
        while process.get(path, &[FAILURE]).await.status != 503 {
            tokio::task::yield_now().await;
        }
    };
    let ended = tokio::time::timeout(secs(10), requests).await;
    ended.unwrap_or_else(|_| panic!("{path}: the purged page still replaces errors"));
}

/// A purge by one process also ends the use of stale copies in Redis and in the memory of others.
#[actix_web::test]
async fn stale_page_that_another_process_purged_replaces_no_error() {
    let redis = RedisServer::start();
    let plain = process(shared_store(redis.url()), policy(), requested_response);
    let near = process(tiered_store(shared_store(redis.url())), policy(), requested_response);
    let third = process(shared_store(redis.url()), policy(), requested_response);
    for kind in KINDS {
        let path = format!("/{kind:?}");
        store_and_wait(&[&plain, &near, &third], &path).await;
        assert!(kind.purge(&third, &path).await);
        for process in [&plain, &near] {
            until_error(process, &path).await;
            for _ in 0..3 {
                assert_eq!(process.get(&path, &[FAILURE]).await.status, 503, "{kind:?}");
            }
        }
    }
    // Without Redis, the copies in memory are left.
    redis.kill();
    for kind in KINDS {
        for process in [&plain, &near, &third] {
            let answer = process.get(&format!("/{kind:?}"), &[FAILURE]).await;
            assert_eq!(answer.status, 503, "{kind:?}: without Redis");
        }
    }
}

/// An expired page is stale, but not withdrawn.
#[actix_web::test]
async fn page_that_another_process_expired_replaces_an_error() {
    let redis = RedisServer::start();
    let plain = process(shared_store(redis.url()), policy(), requested_response);
    let near = process(tiered_store(shared_store(redis.url())), policy(), requested_response);
    for kind in KINDS.into_iter().filter(|kind| *kind != Kind::UnsafeMethod) {
        let path = format!("/{kind:?}");
        for process in [&plain, &near] {
            process.get_until_hit(&path, &[TAG, MINUTE]).await;
        }
        plain.cache.handle().expire(kind.target(&path)).await.unwrap();
        for process in [&plain, &near] {
            let requests = async {
                loop {
                    let answer = process.get(&path, &[FAILURE]).await;
                    assert_eq!(answer.status.as_u16(), 200, "{kind:?}");
                    if answer.cache_status().ends_with("stale-if-error") {
                        return;
                    }
                }
            };
            tokio::time::timeout(secs(10), requests).await.expect("the expiry arrives");
        }
    }
}

/// The purge applies in its own process at once, also to copies in memory.
#[actix_web::test]
async fn stale_page_that_is_purged_during_an_outage_replaces_no_error() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    // The default time-outs.
    let store = TieredStore::new(RedisStore::new(proxy.url(), "shared").unwrap());
    let site = process(store.clone(), policy(), requested_response);
    for kind in KINDS {
        let path = format!("/{kind:?}");
        store_and_wait(&[&site], &path).await;
        proxy.set(Fault::BlackHole);
        assert!(!kind.purge(&site, &path).await || kind == Kind::UnsafeMethod);
        for _ in 0..3 {
            assert_eq!(site.get(&path, &[FAILURE]).await.status, 503, "{kind:?}");
        }
        proxy.set(Fault::None);
        wait_until("Redis is used again", || {
            let stats = store.far().stats();
            !stats.circuit_open && stats.invalidations_queued == 0
        })
        .await;
        assert_eq!(site.get(&path, &[FAILURE]).await.status, 503, "{kind:?}");
    }
}

/// Whether the `Vary` of a page has changed since a process read the page into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vary {
    Unchanged,
    Widened,
    Replaced,
}

/// A process has copies in memory. The page then varies on other fields, which only Redis knows.
#[actix_web::test]
async fn variant_purge_reaches_copies_of_a_former_vary_in_memory() {
    let redis = RedisServer::start();
    let plain = process(shared_store(redis.url()), Policy::new(), requested_response);
    let near = process(tiered_store(shared_store(redis.url())), Policy::new(), requested_response);
    let mut problems = Vec::new();
    for (by, purging) in [("another process", &plain), ("the process with the copy", &near)] {
        for purged in [&[("a", "1")][..], &[("a", "1"), ("b", "1")]] {
            for (vary, expires) in [
                (Vary::Unchanged, false),
                (Vary::Widened, false),
                (Vary::Widened, true),
                (Vary::Replaced, false),
                (Vary::Replaced, true),
            ] {
                let case = format!("{purged:?} by {by}, expires: {expires}, Vary: {vary:?}");
                let path = format!("/{}{}{expires}{vary:?}", by.len(), purged.len());
                let former = |a| [("a", a), ("answer", "vary: a"), MINUTE];
                let copy = near.get_until_hit(&path, &former("1")).await;
                let other = near.get_until_hit(&path, &former("2")).await;
                let new_vary = match vary {
                    Vary::Unchanged => None,
                    Vary::Widened => Some(("answer", "vary: a, b")),
                    Vary::Replaced => {
                        // Redis evicts the page.
                        for name in resources(&redis) {
                            redis.command(&["UNLINK", &name]);
                        }
                        Some(("answer", "vary: b"))
                    }
                };
                if let Some(vary) = new_vary {
                    plain.get_until_hit(&path, &[("a", "2"), ("b", "1"), vary, MINUTE]).await;
                }
                let target = PurgeTarget::url(format!("http://h{path}"));
                let target = target.variant(purged.iter().copied());
                let handle = purging.cache.handle();
                if expires {
                    handle.expire(target).await.unwrap();
                } else {
                    handle.purge(target).await.unwrap();
                }
                if by == "the process with the copy" {
                    assert_ne!(near.get(&path, purged).await.body, copy.body, "{case}");
                }
                let requests = async {
                    while near.get(&path, purged).await.body == copy.body {
                        tokio::task::yield_now().await;
                    }
                };
                // By default, a purge applies to copies in memory within a second.
                if tokio::time::timeout(secs(5), requests).await.is_err() {
                    problems.push(case);
                } else if vary == Vary::Unchanged {
                    let still = near.get(&path, &former("2")).await;
                    assert!(still.is_hit() && still.body == other.body, "{case}: other variant");
                }
            }
        }
    }
    assert!(problems.is_empty(), "served from memory: {problems:#?}");
}
