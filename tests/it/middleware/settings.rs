//! Size limits, modes, and the validation of settings.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse,
    body::SizedStream,
    web::{self, Bytes},
};
use actix_web_cache::{
    Cache, CacheBuilder, CacheHandle, MemoryStore, Mode, Policy, ResponseOptions, Rule,
};
use futures_util::stream;
use hyper::Method;

use crate::support::{
    Answer, CapturedLog, Client, Counter, Protocol, builder, cache, requested_response, secs,
    serve, store, test_app,
};

/// Responds with a body of the given length: in one piece, as a stream of declared length, or as a
/// stream of undeclared length.
async fn body_of_length(path: web::Path<(String, usize)>) -> HttpResponse {
    let (kind, length) = path.into_inner();
    let chunks: Vec<_> = vec![b'x'; length].chunks(1000).map(Bytes::copy_from_slice).collect();
    let chunks = stream::iter(chunks.into_iter().map(Ok::<_, actix_web::Error>));
    match kind.as_str() {
        "full" => HttpResponse::Ok().body("x".repeat(length)),
        "declared" => HttpResponse::Ok().body(SizedStream::new(length as u64, chunks)),
        _ => HttpResponse::Ok().streaming(chunks),
    }
}

#[actix_web::test]
async fn body_over_the_limit_is_served_completely_and_not_stored() {
    const LIMIT: usize = 10_000;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let policy = Policy::new().max_body_size(LIMIT);
        let cache = builder().0.policy(policy).build().unwrap();
        let server = serve(1, move || {
            App::new().route("/{kind}/{length}", web::to(body_of_length)).wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for kind in ["full", "declared", "streamed"] {
            for length in [0, LIMIT, LIMIT + 1, 5 * LIMIT] {
                let path = format!("/{kind}/{length}");
                for run in [1, 2] {
                    let answer = client.get(&path).await;
                    let case =
                        format!("{path}, run {run}, by {protocol:?}: {}", answer.cache_status());
                    assert_eq!(answer.body.len(), length, "{case}");
                    assert_eq!(answer.is_hit(), run == 2 && length <= LIMIT, "{case}");
                    let too_large = "fwd=uri-miss; detail=too-large";
                    // The length of a stream of undeclared length is known once it was received.
                    let is_known = length > LIMIT && (kind != "streamed" || run == 2);
                    assert_eq!(answer.cache_status() == too_large, is_known, "{case}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn body_larger_than_the_store_accepts_is_served_completely() {
    let app = test_app(&Cache::new(MemoryStore::new(64 * 1024)), |request, _| {
        let length = request.path()[1..].parse().unwrap();
        HttpResponse::Ok().body("x".repeat(length))
    });
    for (length, hit) in [(4 * 1024, true), (16 * 1024, false), (128 * 1024, false)] {
        let path = format!("/{length}");
        for run in [1, 2] {
            let answer = app.client.get(&path).await;
            assert_eq!((answer.body.len(), answer.is_hit()), (length, hit && run == 2), "{length}");
            // Neither this field nor `max-age` promises what the store does not keep.
            let refused = answer.cache_status() == "fwd=uri-miss; detail=too-large";
            assert_eq!(refused, !hit, "{length}: {answer:?}");
            assert_eq!(answer.field("cache-control").is_some(), hit, "{length}: {answer:?}");
        }
    }
}

#[actix_web::test]
async fn disabled_cache_changes_no_request_and_no_response() {
    let store = store();
    let builder_in = |mode| Cache::builder(store.clone()).mode(mode).x_cache();
    let observed = Counter::default();
    let observer = observed.clone();
    let off = builder_in(Mode::Off)
        .observer(move |_, _| {
            observer.count();
        })
        .build()
        .unwrap();
    let off = test_app(&off, requested_response);
    let on = test_app(&builder_in(Mode::On).build().unwrap(), requested_response);
    let uncached = serve(1, || {
        App::new()
            .default_service(web::to(async |request: HttpRequest| requested_response(&request, 1)))
    });
    let direct = Client::new(uncached.addr, Protocol::Http1);
    let names = |answer: &Answer| {
        let mut names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    };
    let requests: &[(Method, &[(&str, &str)])] = &[
        (Method::GET, &[("host", "a")]),
        (Method::GET, &[("host", "a"), ("answer", "cache-control: max-age=60")]),
        (Method::GET, &[("host", "a"), ("range", "bytes=0-0")]),
        (Method::HEAD, &[("host", "a")]),
        (Method::POST, &[("host", "a")]),
    ];
    assert!(on.client.get_with("/", &[("host", "a")]).await.is_stored());
    for (index, (method, fields)) in requests.iter().enumerate() {
        let with = off.client.send(method.clone(), "/", fields).await;
        let without = direct.send(method.clone(), "/", fields).await;
        assert_eq!(with.status, without.status);
        assert_eq!(names(&with), names(&without), "{method} {fields:?}");
        assert_eq!(off.runs.get(), index + 1, "{method} {fields:?}: the handler ran");
    }
    assert_eq!(observed.get(), 0, "the observer is not called");
    let hit = on.client.get_with("/", &[("host", "a")]).await;
    assert!(hit.is_hit(), "the entry of the enabled cache is unchanged");
}

#[actix_web::test]
async fn handler_can_purge_when_the_cache_is_off() {
    let cache = builder().0.mode(Mode::Off).build().unwrap();
    let purge = async |cache: CacheHandle| cache.purge_url("/").await.map(|_| "purged");
    let server = serve(1, move || App::new().route("/", web::post().to(purge)).wrap(cache.clone()));
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(client.send(Method::POST, "/", &[]).await.text(), "purged");
}

fn build_error(build: impl FnOnce() -> CacheBuilder) -> String {
    build().build().expect_err("the settings are invalid").to_string()
}

#[test]
fn invalid_settings_are_rejected_with_advice() {
    let new = || Cache::builder(store());
    let policy = |policy| move || Cache::builder(store()).policy(policy);
    let rule = |rule| move || Cache::builder(store()).rule(rule);
    for (advice, error) in [
        ("give it the application's name", build_error(|| new().namespace(""))),
        ("turn the cache off with Mode::Off", build_error(policy(Policy::new().max_body_size(0)))),
        ("use one like \"accept\"", build_error(policy(Policy::new().key_header("x y")))),
        ("use one like \"accept\"", build_error(policy(Policy::new().credentials([""])))),
        ("name it", build_error(policy(Policy::new().vary_cookie("")))),
        ("name it", build_error(policy(Policy::new().ignore_cookies([""])))),
        ("name it", build_error(policy(Policy::new().key_with("", |_| None)))),
        ("other than 206 and 304", build_error(policy(Policy::new().status_ttl(206, secs(1))))),
        (
            "other than 206 and 304",
            build_error(policy(Policy::new().override_status_ttl(304, secs(1)))),
        ),
        ("other than 206 and 304", build_error(policy(Policy::new().never_store_status([99])))),
        ("let a rule bypass", build_error(policy(Policy::new().override_ttl(Duration::ZERO)))),
        ("or compute the tag", build_error(policy(Policy::new().tag("post:{id}")))),
        ("use one like \"api.example.com\"", build_error(rule(Rule::any().host("http://a")))),
        (
            "in the rule for the prefix \"/a\": max_body_size is 0",
            build_error(rule(Rule::prefix("/a").with(|policy| policy.max_body_size(0)))),
        ),
        ("without host and query", build_error(rule(Rule::path("health")))),
        ("without host and query", build_error(rule(Rule::prefix("http://a/b")))),
        ("use one like \"/posts/{id}\"", build_error(rule(Rule::pattern("/posts/{id")))),
        ("use one like \"/posts/{id}\"", build_error(rule(Rule::pattern("/posts/{}")))),
        ("cannot be read", build_error(rule(Rule::regex("/a(")))),
        (
            "make two rules",
            build_error(rule(Rule::any().bypass().with(|policy| policy.default_ttl(secs(1))))),
        ),
    ] {
        assert!(error.contains(advice), "{advice:?} is not in {error:?}");
    }
    for bytes in [0, 1024] {
        assert!(MemoryStore::builder().max_bytes(bytes).build().is_err(), "{bytes} bytes");
    }
    let cache = Cache::new(store());
    let panics = |f: &dyn Fn()| catch_unwind(AssertUnwindSafe(f)).is_err();
    assert!(panics(&|| drop(cache.with_policy(Policy::new().max_body_size(0)))));
    assert!(panics(&|| drop(MemoryStore::new(0))));
}

#[actix_web::test]
async fn enormous_lifetimes_are_clamped() {
    let longest = Duration::MAX;
    let cases = [
        ("default", Policy::new().default_ttl(longest), Rule::path("/none")),
        ("status", Policy::new().status_ttl(200, longest), Rule::path("/none")),
        ("client", Policy::new().default_ttl(longest).client_ttl(longest), Rule::path("/none")),
        ("rule", Policy::new(), Rule::any().with(move |policy| policy.default_ttl(longest))),
        ("override", Policy::new(), Rule::any().with(move |policy| policy.override_ttl(longest))),
        ("stale", Policy::new().default_ttl(longest).stale_if_error(longest), Rule::path("/none")),
    ];
    for (case, policy, rule) in cases {
        let (builder, clock) = builder();
        let app = test_app(&builder.policy(policy).rule(rule).build().unwrap(), requested_response);
        assert!(app.client.get("/").await.is_stored(), "{case}");
        clock.advance(secs(40 * 365 * 24 * 3600));
        let hit = app.client.get("/").await;
        assert!(hit.is_hit(), "{case}: {hit:?}");
        assert!(hit.field("expires").is_some(), "{case}");
    }
    let (cache, _) = cache();
    let app = test_app(&cache, |request, run| {
        let mut response = requested_response(request, run);
        if request.path() == "/handler" {
            response.extensions_mut().insert(ResponseOptions::new().ttl(Duration::MAX));
        }
        response
    });
    for (path, line) in [
        ("/handler", "x-a: b"),
        ("/max-age", "cache-control: max-age=99999999999999999999"),
        ("/s-maxage", "cache-control: s-maxage=18446744073709551616"),
        ("/expires", "expires: Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        app.client.get_with(path, &[("answer", line)]).await;
        assert_eq!(app.client.get(path).await.cache_status(), "hit; ttl=2147483648", "{path}");
    }
}

#[actix_web::test]
async fn caches_of_all_workers_share_one_store() {
    let (runs, factories) = (Counter::default(), Counter::default());
    let (counter, built) = (runs.clone(), factories.clone());
    let store = store();
    let server = serve(4, move || {
        built.count();
        let runs = counter.clone();
        let handler = move || {
            let run = runs.count();
            async move { run.to_string() }
        };
        App::new().wrap(Cache::new(store.clone())).default_service(web::to(handler))
    });
    let first = Client::new(server.addr, Protocol::Http1).get("/").await;
    assert!(first.is_stored());
    assert_eq!(factories.get(), 4);
    // actix assigns connections to the workers in turn.
    for connection in 0..16 {
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/").await.is_hit(), "connection {connection}");
    }
    let client = Client::new(server.addr, Protocol::Http1);
    client.send(Method::DELETE, "/", &[]).await;
    assert_eq!(
        client.get("/").await.text(),
        "3",
        "an invalidation by one worker reaches all workers"
    );
    assert!(Client::new(server.addr, Protocol::Http1).get("/").await.is_hit());
}

#[actix_web::test]
async fn arbitrary_urls_and_hosts_never_exceed_the_byte_limit_of_the_store() {
    const LIMIT: usize = 256 * 1024;
    let store = MemoryStore::new(LIMIT);
    let app =
        test_app(&Cache::new(store.clone()), |_, _| HttpResponse::Ok().body("x".repeat(4096)));
    for n in 0..300 {
        let host = format!("host-{}", n % 7);
        let answer = app.client.get_with(&format!("/?n={n}"), &[("host", &host)]).await;
        assert!(answer.is_stored(), "{n}");
        let bytes = usize::try_from(store.bytes()).unwrap();
        assert!(bytes <= LIMIT, "{bytes} bytes after {n} responses");
    }
}

#[test]
fn body_limit_above_that_of_the_store_is_reported_when_the_cache_is_built() {
    let log = CapturedLog::default();
    log.capture();
    let small = || MemoryStore::new(1024 * 1024);
    let build = |store: MemoryStore, policy: Policy| {
        Cache::builder(store).policy(policy).build().unwrap();
        log.take(log::Level::Warn)
    };
    let warnings = build(small(), Policy::new().max_body_size(1024 * 1024));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for part in ["max_body_size is 1048576 bytes", "Make the store larger"] {
        assert!(warnings[0].contains(part), "{part} in {warnings:?}");
    }
    // The application did not choose the default limit, and a limit that fits is fine.
    assert!(build(small(), Policy::new()).is_empty());
    assert!(build(small(), Policy::new().max_body_size(64 * 1024)).is_empty());
    assert!(build(store(), Policy::new().max_body_size(1024 * 1024)).is_empty());
}
