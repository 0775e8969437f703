//! Limits, switches, and what a cache says of itself.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse,
    body::SizedStream,
    web::{self, Bytes},
};
use actix_web_cache::{
    Cache, CacheBuilder, CacheHandle, MemoryStore, Mode, Outcome, Policy, QueryKey,
    ResponseOptions, Rule,
    outcome::{Bypass, Forward, NotStored, Stored},
};
use futures_util::stream;
use hyper::Method;

use crate::support::{
    Answer, Client, Counter, Protocol, builder, cache, obey, secs, serve, site, store,
};

/// A body of some length: at once, as a stream of declared length, or as a stream of none.
async fn of_length(path: web::Path<(String, usize)>) -> HttpResponse {
    let (how, length) = path.into_inner();
    let chunks: Vec<_> = vec![b'x'; length].chunks(1000).map(Bytes::copy_from_slice).collect();
    let chunks = stream::iter(chunks.into_iter().map(Ok::<_, actix_web::Error>));
    match how.as_str() {
        "whole" => HttpResponse::Ok().body("x".repeat(length)),
        "declared" => HttpResponse::Ok().body(SizedStream::new(length as u64, chunks)),
        _ => HttpResponse::Ok().streaming(chunks),
    }
}

#[actix_web::test]
async fn a_body_over_the_limit_is_served_whole_and_not_stored() {
    const LIMIT: usize = 10_000;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let policy = Policy::new().max_body_size(LIMIT);
        let cache = builder().0.policy(policy).build().unwrap();
        let server = serve(1, move || {
            App::new().route("/{how}/{length}", web::to(of_length)).wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for how in ["whole", "declared", "streamed"] {
            for length in [0, LIMIT, LIMIT + 1, 5 * LIMIT] {
                let path = format!("/{how}/{length}");
                for run in [1, 2] {
                    let answer = client.get(&path).await;
                    let case =
                        format!("{path}, run {run}, by {protocol:?}: {}", answer.cache_status());
                    assert_eq!(answer.body.len(), length, "{case}");
                    assert_eq!(answer.is_hit(), run == 2 && length <= LIMIT, "{case}");
                    let told = "fwd=uri-miss; detail=too-large";
                    // Of what is not declared nobody knows beforehand.
                    let knows = length > LIMIT && how != "streamed";
                    assert_eq!(answer.cache_status() == told, knows, "{case}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn what_is_larger_than_the_store_keeps_is_served_whole() {
    let site = site(&Cache::new(MemoryStore::new(64 * 1024)), |request, _| {
        let length = request.path()[1..].parse().unwrap();
        HttpResponse::Ok().body("x".repeat(length))
    });
    for (length, hit) in [(4 * 1024, true), (16 * 1024, false), (128 * 1024, false)] {
        let path = format!("/{length}");
        for run in [1, 2] {
            let answer = site.client.get(&path).await;
            assert_eq!((answer.body.len(), answer.is_hit()), (length, hit && run == 2), "{length}");
        }
    }
}

#[actix_web::test]
async fn a_cache_that_is_off_changes_nothing_of_any_request_or_response() {
    let store = store();
    let of = |mode| Cache::builder(store.clone()).mode(mode).x_cache();
    let told = Counter::default();
    let observer = told.clone();
    let off = of(Mode::Off)
        .observer(move |_, _| {
            observer.count();
        })
        .build()
        .unwrap();
    let off = site(&off, obey);
    let on = site(&of(Mode::On).build().unwrap(), obey);
    let none = serve(1, || {
        App::new().default_service(web::to(async |request: HttpRequest| obey(&request, 1)))
    });
    let bare = Client::new(none.addr, Protocol::Http1);
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
        let without = bare.send(method.clone(), "/", fields).await;
        assert_eq!(with.status, without.status);
        assert_eq!(names(&with), names(&without), "{method} {fields:?}");
        assert_eq!(off.runs.get(), index + 1, "{method} {fields:?}: the handler ran");
    }
    assert_eq!(told.get(), 0, "nothing is observed");
    let hit = on.client.get_with("/", &[("host", "a")]).await;
    assert!(hit.is_hit(), "what others stored is not touched");
}

#[actix_web::test]
async fn handlers_that_purge_work_where_the_cache_is_off() {
    let cache = builder().0.mode(Mode::Off).build().unwrap();
    let purge = async |cache: CacheHandle| cache.purge_url("/").await.map(|_| "purged");
    let server = serve(1, move || App::new().route("/", web::post().to(purge)).wrap(cache.clone()));
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(client.send(Method::POST, "/", &[]).await.text(), "purged");
}

#[actix_web::test]
async fn the_observer_is_told_once_what_became_of_each_request() {
    let seen: Arc<Mutex<Vec<(String, Outcome)>>> = Arc::default();
    let sink = Arc::clone(&seen);
    let (builder, clock) = builder();
    let cache = builder
        .rule(Rule::path("/bypass").bypass())
        .observer(move |request, outcome| {
            let request = format!("{} {}", request.method, request.uri);
            sink.lock().unwrap().push((request, *outcome));
        })
        .build()
        .unwrap();
    let server = serve(1, move || {
        let page = || web::to(async |request: HttpRequest| obey(&request, 1));
        let inner = cache.with_policy(Policy::new().default_ttl(secs(5)));
        App::new()
            .service(web::scope("/inner").wrap(inner).default_service(page()))
            .default_service(page())
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let forward = |reason, stored| Outcome::Forward { reason, stored };
    let stored = |reason| forward(reason, Stored::Yes);
    let passed = |reason| forward(reason, Stored::No(NotStored::NotAttempted));
    let hit = |age, ttl| Outcome::Hit { age: secs(age), ttl: secs(ttl) };
    for (step, method, path, fields, want) in [
        (0, Method::GET, "/?a", &[][..], stored(Forward::UriMiss)),
        (7, Method::GET, "/?a", &[], hit(7, 53)),
        (0, Method::HEAD, "/?a", &[], hit(7, 53)),
        (
            0,
            Method::GET,
            "/?a",
            &[("cookie", "a=b")],
            forward(Forward::Request, Stored::No(NotStored::Cookie)),
        ),
        (60, Method::GET, "/?a", &[], stored(Forward::Stale)),
        (0, Method::HEAD, "/b", &[], forward(Forward::UriMiss, Stored::No(NotStored::Head))),
        (0, Method::GET, "/bypass", &[], passed(Forward::Bypass(Bypass::Rule))),
        (0, Method::GET, "/?a", &[("if-match", "*")], passed(Forward::Bypass(Bypass::Condition))),
        (0, Method::POST, "/?a", &[], passed(Forward::Method)),
        (0, Method::OPTIONS, "/", &[], passed(Forward::Method)),
        (0, Method::GET, "/inner/x", &[], stored(Forward::UriMiss)),
        (2, Method::GET, "/inner/x", &[], hit(2, 3)),
        (0, Method::POST, "/inner/x", &[], passed(Forward::Method)),
    ] {
        clock.advance(secs(step));
        client.send(method.clone(), path, fields).await;
        let told = std::mem::take(&mut *seen.lock().unwrap());
        assert_eq!(told, [(format!("{method} {path}"), want)], "{fields:?}");
    }
}

#[actix_web::test]
async fn the_fields_that_report_can_be_turned_on_and_off() {
    let builder = || builder().0;
    for (builder, status, x_cache) in [
        (builder(), true, false),
        (builder().without_cache_status(), false, false),
        (builder().x_cache(), true, true),
        (builder().without_cache_status().x_cache(), false, true),
    ] {
        let site = site(&builder.build().unwrap(), obey);
        for word in ["miss", "hit"] {
            let answer = site.client.get("/").await;
            assert_eq!(answer.field("cache-status").is_some(), status, "{word}");
            assert_eq!(answer.field("x-cache").as_deref(), x_cache.then_some(word));
        }
    }
}

#[actix_web::test]
async fn what_caches_further_in_report_stays_before_our_own_word() {
    let (cache, _) = cache();
    let site = site(&cache, obey);
    let fields = [("answer", "cache-status: origin; hit")];
    for want in ["fwd=uri-miss; stored", "hit; ttl=60"] {
        let answer = site.client.get_with("/", &fields).await;
        let status = answer.field("cache-status").unwrap();
        assert_eq!(status, format!("origin; hit, actix-web-cache; {want}"));
    }
}

fn refused(build: impl FnOnce() -> CacheBuilder) -> String {
    build().build().expect_err("it cannot work").to_string()
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_advice() {
    let new = || Cache::builder(store());
    let policy = |policy| move || Cache::builder(store()).policy(policy);
    let rule = |rule| move || Cache::builder(store()).rule(rule);
    for (advice, error) in [
        ("give it the application's name", refused(|| new().namespace(""))),
        ("turn the cache off with Mode::Off", refused(policy(Policy::new().max_body_size(0)))),
        ("use one like \"accept\"", refused(policy(Policy::new().key_header("x y")))),
        ("use one like \"accept\"", refused(policy(Policy::new().credentials([""])))),
        ("name it", refused(policy(Policy::new().vary_cookie("")))),
        ("name it", refused(policy(Policy::new().ignore_cookies([""])))),
        ("name it", refused(policy(Policy::new().key_with("", |_| None)))),
        ("other than 206 and 304", refused(policy(Policy::new().status_ttl(206, secs(1))))),
        ("other than 206 and 304", refused(rule(Rule::any().status([304])))),
        ("without host and query", refused(rule(Rule::path("health")))),
        ("without host and query", refused(rule(Rule::prefix("http://a/b")))),
        ("use one like \"/posts/{id}\"", refused(rule(Rule::pattern("/posts/{id")))),
        ("use one like \"/posts/{id}\"", refused(rule(Rule::pattern("/posts/{}")))),
        ("cannot be read", refused(rule(Rule::regex("/a(")))),
        ("make two rules", refused(rule(Rule::any().bypass().ttl(secs(1))))),
        (
            "a rule without status()",
            refused(rule(Rule::any().status([200]).query(QueryKey::sorted()))),
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
async fn lifetimes_beyond_all_measure_break_nothing() {
    let forever = Duration::MAX;
    let cases = [
        ("default", Policy::new().default_ttl(forever), Rule::path("/none")),
        ("status", Policy::new().status_ttl(200, forever), Rule::path("/none")),
        ("client", Policy::new().default_ttl(forever).client_ttl(forever), Rule::path("/none")),
        ("rule", Policy::new(), Rule::any().ttl(forever)),
        ("override", Policy::new(), Rule::any().override_ttl(forever)),
        ("stale", Policy::new().default_ttl(forever).stale_if_error(forever), Rule::path("/none")),
    ];
    for (case, policy, rule) in cases {
        let (builder, clock) = builder();
        let site = site(&builder.policy(policy).rule(rule).build().unwrap(), obey);
        assert!(site.client.get("/").await.is_stored(), "{case}");
        clock.advance(secs(40 * 365 * 24 * 3600));
        let hit = site.client.get("/").await;
        assert!(hit.is_hit(), "{case}: {hit:?}");
        assert!(hit.field("expires").is_some(), "{case}");
    }
    let (cache, _) = cache();
    let site = site(&cache, |request, run| {
        let mut response = obey(request, run);
        if request.path() == "/handler" {
            response.extensions_mut().insert(ResponseOptions::new().ttl(Duration::MAX));
        }
        response
    });
    for (path, said) in [
        ("/handler", "x-a: b"),
        ("/max-age", "cache-control: max-age=99999999999999999999"),
        ("/s-maxage", "cache-control: s-maxage=18446744073709551616"),
        ("/expires", "expires: Fri, 31 Dec 9999 23:59:59 GMT"),
    ] {
        site.client.get_with(path, &[("answer", said)]).await;
        assert_eq!(site.client.get(path).await.cache_status(), "hit; ttl=2147483648", "{path}");
    }
}

#[actix_web::test]
async fn caches_made_for_each_worker_of_one_store_are_one() {
    let (runs, factories) = (Counter::default(), Counter::default());
    let (counter, made) = (runs.clone(), factories.clone());
    let store = store();
    let server = serve(4, move || {
        made.count();
        let runs = counter.clone();
        let page = move || {
            let run = runs.count();
            async move { run.to_string() }
        };
        App::new().wrap(Cache::new(store.clone())).default_service(web::to(page))
    });
    let first = Client::new(server.addr, Protocol::Http1).get("/").await;
    assert!(first.is_stored());
    assert_eq!(factories.get(), 4);
    // Connections go to the workers by turns.
    for connection in 0..16 {
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/").await.is_hit(), "connection {connection}");
    }
    let client = Client::new(server.addr, Protocol::Http1);
    client.send(Method::DELETE, "/", &[]).await;
    assert_eq!(client.get("/").await.text(), "3", "what one worker forgets all have");
    assert!(Client::new(server.addr, Protocol::Http1).get("/").await.is_hit());
}
