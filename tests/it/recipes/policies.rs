//! Recipes that set the policy or the rules of a cache.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use actix_web::dev::ServiceRequest;
use actix_web_cache::{
    Cache, CacheBuilder, ManualClock, MemoryStore, Mode, Policy, PurgeTarget, QueryKey, RedisStore,
    Rule,
};

use crate::{
    redis::get_until_hit,
    support::{Answer, RedisServer, START, requested_response, secs, test_app},
};

const SECOND: Duration = secs(1);
pub(super) const MINUTE: Duration = secs(60);
pub(super) const HOUR: Duration = secs(3600);
const DAY: Duration = secs(86_400);

/// The path and the fields of a request.
type Request = (&'static str, &'static [(&'static str, &'static str)]);

/// A recipe: a configuration, requests in their order, and what happens to each of them.
type Recipe = (&'static str, fn(CacheBuilder) -> CacheBuilder, &'static [(Request, &'static str)]);

/// The outcome of a request: `hit` with the rest of the lifetime in seconds, `stored`, or the reason
/// why the response is neither.
pub(super) fn outcome(answer: &Answer) -> String {
    let status = answer.cache_status();
    if let Some(ttl) = status.strip_prefix("hit; ttl=") {
        return format!("hit {ttl}");
    }
    if answer.is_stored() {
        return "stored".to_owned();
    }
    status.rsplit("detail=").next().unwrap_or_default().to_owned()
}

async fn check(recipes: &[Recipe]) {
    for (name, configure, requests) in recipes {
        let clock = ManualClock::at(START);
        let store = MemoryStore::new(100 * 1024 * 1024);
        let cache = configure(Cache::builder(store).clock(clock.clock())).build().unwrap();
        let app = test_app(&cache, requested_response);
        for ((path, fields), want) in *requests {
            if *path == "wait a minute" {
                clock.advance(MINUTE);
                continue;
            }
            let answer = app.client.get_with(path, fields).await;
            assert_eq!(outcome(&answer), *want, "{name}: {path} {fields:?}");
        }
    }
}

const NEXT_MINUTE: (Request, &str) = (("wait a minute", &[]), "");

static MINUTES: AtomicUsize = AtomicUsize::new(0);

/// A value that is part of the cache key.
fn minute() -> String {
    (MINUTES.fetch_add(1, Ordering::SeqCst) / 2).to_string()
}

fn user(request: &ServiceRequest) -> Option<String> {
    request.headers().get("authorization").map(|user| user.to_str().unwrap().to_owned())
}

/// Changes the policy of a cache.
fn with(builder: CacheBuilder, change: impl Fn(Policy) -> Policy) -> CacheBuilder {
    builder.policy(change(Policy::new()))
}

#[actix_web::test]
async fn lifetimes_apply_to_the_cache_or_by_rules() {
    check(&[
        (
            "base policy",
            |builder| builder.policy(Policy::new().default_ttl(MINUTE)),
            &[(("/", &[]), "stored"), (("/", &[]), "hit 60"), NEXT_MINUTE, (("/", &[]), "stored")],
        ),
        (
            "policy for a path",
            |builder| builder.rule(Rule::prefix("/blog").with(|policy| policy.default_ttl(HOUR))),
            &[
                (("/blog/1", &[]), "stored"),
                (("/blog/1", &[]), "hit 3600"),
                (("/", &[]), "stored"),
                (("/", &[]), "hit 60"),
            ],
        ),
        (
            "rule with another lifetime",
            |builder| {
                let builder = with(builder, |policy| policy.default_ttl(HOUR));
                builder.rule(Rule::prefix("/api").with(|policy| policy.default_ttl(MINUTE)))
            },
            &[
                (("/api", &[]), "stored"),
                (("/api", &[]), "hit 60"),
                (("/", &[]), "stored"),
                (("/", &[]), "hit 3600"),
            ],
        ),
        (
            "policy for some requests",
            |builder| {
                let beta = Rule::any().when(|request| request.headers().contains_key("x-beta"));
                builder.rule(beta.with(|policy| policy.tag("beta"))).rules_only()
            },
            &[(("/", &[("x-beta", "1")]), "stored"), (("/", &[]), "rule")],
        ),
        (
            "stale while revalidate by rule",
            |builder| {
                builder.rule(
                    Rule::prefix("/blog")
                        .with(|policy| policy.default_ttl(MINUTE).stale_while_revalidate(DAY)),
                )
            },
            &[
                (("/blog/a", &[]), "stored"),
                NEXT_MINUTE,
                NEXT_MINUTE,
                (("/blog/a", &[]), "hit -60"),
                (("/", &[]), "stored"),
                NEXT_MINUTE,
                (("/", &[]), "stored"),
            ],
        ),
        (
            "stale while revalidate",
            |builder| with(builder, |policy| policy.stale_while_revalidate(DAY)),
            &[(("/", &[]), "stored"), NEXT_MINUTE, (("/", &[]), "hit -0")],
        ),
        (
            "other status codes",
            |builder| with(builder, |policy| policy.status_ttl(404, MINUTE)),
            &[
                (("/", &[("answer-status", "404")]), "stored"),
                (("/", &[]), "hit 60"),
                (("/500", &[("answer-status", "500")]), "status"),
            ],
        ),
    ])
    .await;
}

#[actix_web::test]
async fn parts_of_requests_are_parts_of_keys() {
    check(&[
        (
            "parameters of the query",
            |builder| with(builder, |policy| policy.query(QueryKey::only(["culture"]))),
            &[
                (("/?culture=de&utm=1", &[]), "stored"),
                (("/?utm=2&culture=de", &[]), "hit 60"),
                (("/?culture=en", &[]), "stored"),
            ],
        ),
        (
            "field",
            |builder| with(builder, |policy| policy.key_header("x-tenant")),
            &[
                (("/", &[("x-tenant", "a")]), "stored"),
                (("/", &[("x-tenant", "b")]), "stored"),
                (("/", &[("x-tenant", "a")]), "hit 60"),
            ],
        ),
        (
            "user agent",
            |builder| with(builder, |policy| policy.key_header("user-agent")),
            &[
                (("/", &[("user-agent", "a")]), "stored"),
                (("/", &[("user-agent", "b")]), "stored"),
                (("/", &[("user-agent", "a")]), "hit 60"),
            ],
        ),
        (
            "cookie",
            |builder| with(builder, |policy| policy.vary_cookie("lang")),
            &[
                (("/", &[("cookie", "lang=de")]), "stored"),
                (("/", &[("cookie", "lang=en")]), "stored"),
                (("/", &[("cookie", "lang=de")]), "hit 60"),
            ],
        ),
        (
            "prefix for some pages",
            |builder| with(builder, |policy| policy.key_with("site", |_| Some("site1".to_owned()))),
            &[(("/", &[]), "stored"), (("/", &[]), "hit 60")],
        ),
        (
            "language",
            |builder| with(builder, |policy| policy.vary_languages(["de", "en"])),
            &[
                (
                    ("/", &[("accept-language", "de-DE, en"), ("answer", "vary: accept-language")]),
                    "stored",
                ),
                (("/", &[("accept-language", "de")]), "hit 60"),
                (
                    ("/", &[("accept-language", "en"), ("answer", "vary: accept-language")]),
                    "stored",
                ),
            ],
        ),
        (
            "time zone",
            |builder| with(builder, |policy| policy.vary_cookie("timezone")),
            &[
                (("/", &[("cookie", "timezone=UTC")]), "stored"),
                (("/", &[("cookie", "timezone=CET")]), "stored"),
                (("/", &[("cookie", "timezone=UTC")]), "hit 60"),
            ],
        ),
        (
            "fields that Vary names",
            |builder| builder,
            &[
                (("/", &[("cookie", "a=1"), ("answer", "vary: user-agent, cookie")]), "stored"),
                (("/", &[("cookie", "a=2"), ("answer", "vary: user-agent, cookie")]), "stored"),
                (("/", &[("cookie", "a=1")]), "hit 60"),
            ],
        ),
        (
            "any value",
            |builder| with(builder, |policy| policy.key_with("minute", |_| Some(minute()))),
            &[(("/", &[]), "stored"), (("/", &[]), "hit 60"), (("/", &[]), "stored")],
        ),
        (
            "path, with its case",
            |builder| builder,
            &[(("/a", &[]), "stored"), (("/A", &[]), "stored"), (("/a", &[]), "hit 60")],
        ),
        (
            "host",
            |builder| with(builder, |policy| policy.trusted_proxies(["10.0.0.0/8"])),
            &[
                (("/", &[("host", "a")]), "stored"),
                (("/", &[("host", "b")]), "stored"),
                (("/", &[("host", "a")]), "hit 60"),
                (("/", &[("host", "a"), ("x-forwarded-host", "b")]), "untrusted-proxy"),
            ],
        ),
        (
            "presence of credentials",
            |builder| with(builder, |policy| policy.share_authorized()),
            &[
                (("/", &[("authorization", "a")]), "stored"),
                (("/", &[("authorization", "b")]), "hit 60"),
                (("/", &[]), "stored"),
            ],
        ),
        (
            "pages of users",
            |builder| with(builder, |policy| policy.per_user(user)),
            &[
                (("/", &[("authorization", "a")]), "stored"),
                (("/", &[("authorization", "b")]), "stored"),
                (("/", &[("authorization", "a")]), "hit 60"),
            ],
        ),
    ])
    .await;
}

#[actix_web::test]
async fn some_requests_bypass_the_cache() {
    check(&[
        (
            "path",
            |builder| builder.rule(Rule::prefix("/live").bypass()),
            &[(("/live/1", &[]), "rule"), (("/", &[]), "stored")],
        ),
        (
            "function",
            |builder| {
                builder.rule(
                    Rule::any()
                        .when(|request| request.headers().contains_key("x-preview"))
                        .bypass(),
                )
            },
            &[(("/", &[("x-preview", "1")]), "rule"), (("/", &[]), "stored")],
        ),
        (
            "directives of clients",
            |builder| with(builder, |policy| policy.honor_request_directives()),
            &[
                (("/", &[]), "stored"),
                (("/", &[]), "hit 60"),
                (("/", &[("cache-control", "no-cache")]), "stored"),
            ],
        ),
        (
            "everybody but anonymous clients",
            |builder| with(builder, |policy| policy.anonymous_only()),
            &[
                (("/", &[("answer", "cache-control: max-age=60")]), "stored"),
                (("/", &[]), "hit 60"),
                (("/", &[("cookie", "id=1")]), "credentials"),
            ],
        ),
        (
            "time of waiting",
            |builder| with(builder, |policy| policy.wait_limit(SECOND)),
            &[(("/", &[]), "stored"), (("/", &[]), "hit 60")],
        ),
        (
            "size",
            |builder| with(builder, |policy| policy.max_body_size(64 * 1024)),
            &[(("/", &[]), "stored")],
        ),
        ("development", |builder| builder.mode(Mode::Off), &[(("/", &[]), ""), (("/", &[]), "")]),
    ])
    .await;
}

#[actix_web::test]
async fn namespaces_and_versions_of_one_store_are_separate() {
    let store = MemoryStore::new(1 << 20);
    let builder = Cache::builder(store.clone());
    let shop = test_app(&builder.namespace("shop").build().unwrap(), requested_response);
    let builder = Cache::builder(store.clone());
    let next = test_app(&builder.version("2").build().unwrap(), requested_response);
    let plain = test_app(&Cache::new(store), requested_response);
    for app in [shop, next, plain] {
        let host = [("host", "h")];
        assert_eq!(outcome(&app.client.get_with("/", &host).await), "stored");
        assert!(app.client.get_with("/", &host).await.is_hit());
    }
}

#[actix_web::test]
async fn purges_reach_tags_urls_and_prefixes() {
    let blog = Rule::prefix("/blog").with(|policy| policy.tag("tag-blog"));
    let cache = Cache::builder(MemoryStore::new(1 << 20)).rule(blog).build().unwrap();
    let app = test_app(&cache, requested_response);
    for round in 0..4 {
        for path in ["/blog", "/other"] {
            app.client.get(path).await;
            assert!(app.client.get(path).await.is_hit());
        }
        let url = format!("http://{}/blog", app.server.addr);
        let purged = match round {
            0 => cache.handle().purge_tag("tag-blog").await,
            1 => cache.handle().purge_url(url).await,
            2 => cache.handle().purge(PurgeTarget::prefix("/blog").on_any_host()).await,
            _ => cache.handle().purge_all().await,
        };
        purged.unwrap();
        assert!(!app.client.get("/blog").await.is_hit(), "{round}");
        assert_eq!(app.client.get("/other").await.is_hit(), round < 3, "{round}");
    }
}

#[actix_web::test]
async fn redis_keeps_responses_for_all_processes() {
    let redis = RedisServer::start();
    let [one, two] = [redis.url(), redis.url()].map(|redis_url| {
        let store = RedisStore::new(redis_url, "shop").unwrap();
        let builder = Cache::builder(store).lookup_timeout(secs(5));
        test_app(&builder.store_timeout(secs(5)).build().unwrap(), requested_response)
    });
    let host = [("host", "h")];
    assert_eq!(outcome(&one.client.get_with("/", &host).await), "stored");
    get_until_hit(&one.client, "/", &host).await;
    assert!(two.client.get_with("/", &host).await.is_hit());
}
