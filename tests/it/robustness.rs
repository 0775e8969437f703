//! Requests and responses that nobody sane sends: the cache changes nothing about their answers,
//! and the worker goes on.

use std::{
    future::{pending, ready},
    net::SocketAddr,
    panic::resume_unwind,
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse, dev::ServiceResponse, error::ErrorImATeapot,
    http::header::HeaderValue, middleware::from_fn, web,
};
use actix_web_cache::{Cache, CacheOptions, Policy, QueryKey, Rule, store::Store as _};
use hyper::Method;

use crate::support::{
    Client, Counter, Protocol, SETUPS, Wire, builder, cache, eventually, feeds, serve, settled,
    store,
};

/// A cache that looks at everything it can look at.
fn curious() -> Cache {
    let policy = Policy::rfc9111()
        .default_ttl(Duration::from_secs(60))
        .query(QueryKey::sorted())
        .ignore_cookies(["_ga*"])
        .vary_cookie("lang")
        .key_header("x-tenant");
    let rules = [
        Rule::pattern("/posts/{id}").ttl(Duration::from_secs(5)),
        Rule::prefix("/x").query(QueryKey::only(["q"])),
        Rule::regex("/caf.*").ttl(Duration::from_secs(5)),
    ];
    builder().0.policy(policy).rules(rules).build().unwrap()
}

async fn echo(request: HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header(("vary", "x-varied")).insert_header(("etag", "\"e\""));
    response.body(format!("{} {}", request.uri(), request.match_info().as_str()))
}

/// Status and body of the answer; nothing if the connection just ends.
fn ask(addr: SocketAddr, request: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut wire = Wire::open(addr);
    wire.send_anyway(request);
    wire.receive_or_end().map(|message| (message.status, message.body))
}

#[actix_web::test]
async fn whatever_the_target_the_answer_is_what_it_were_without_a_cache() {
    let bare = serve(1, || App::new().default_service(web::to(echo)));
    let cache = curious();
    let handle = cache.handle();
    let server = serve(1, move || App::new().wrap(cache.clone()).default_service(web::to(echo)));
    let long = format!("/{}", "x".repeat(60 * 1024));
    let many = format!("/x?{}", "q&".repeat(20 * 1024));
    let targets: [&[u8]; 32] = [
        b"/caf%C3%A9",
        b"/caf\xc3\xa9",
        b"/caf%E9",
        b"/%",
        b"/%zz",
        b"/%2",
        b"/%00",
        b"/%0d%0a",
        b"//",
        b"//t/x",
        b"/./",
        b"/x/../",
        b"/x/..%2f",
        b"/\\",
        b"/|",
        b"/{}",
        b"/posts/%zz",
        b"/posts/%2F",
        b"/;x=1",
        b"/:80",
        b"*",
        b"/?",
        b"/??",
        b"/x?%",
        b"/x?%zz=%&q=%FF",
        b"/?&&=&=",
        b"/?\xff",
        b"http://t/",
        b"http://evil/",
        b"t:80",
        long.as_bytes(),
        many.as_bytes(),
    ];
    for target in targets {
        let case = String::from_utf8_lossy(&target[..target.len().min(40)]).into_owned();
        for method in ["GET", "GET", "HEAD", "POST", "GET", "BREW"] {
            let request =
                [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nHost: t\r\n\r\n"].concat();
            if method == "HEAD" {
                // Its length is not followed by a body.
                drop(crate::support::raw(
                    server.addr,
                    &[&request[..request.len() - 2], b"Connection: close\r\n\r\n"].concat(),
                ));
                continue;
            }
            let want = ask(bare.addr, &request);
            assert!(want.is_some(), "{case}: the server itself has no answer");
            assert_eq!(ask(server.addr, &request), want, "{method} {case}");
        }
        // An error or none, but no panic.
        drop(handle.purge_url(format!("http://t{case}")).await);
        drop(handle.purge_url(&*case).await);
    }
    assert_eq!(Wire::open(server.addr).get("/end", "").status, 200);
}

#[actix_web::test]
async fn whatever_the_fields_the_request_is_answered() {
    let cache = curious();
    let server = serve(1, move || App::new().wrap(cache.clone()).default_service(web::to(echo)));
    let large = 100 * 1024;
    let field = |name: &str, value: &[u8]| [name.as_bytes(), b": ", value, b"\r\n"].concat();
    let of = |name: &str, piece: &str| field(name, piece.repeat(large / piece.len()).as_bytes());
    let lines: String = (0..94).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let cases = [
        ("96 lines", lines.into_bytes()),
        ("commas", of("Cache-Control", ",")),
        ("quotes", of("Cache-Control", "\"")),
        ("equal signs", of("Cache-Control", "a=")),
        ("directives", of("Cache-Control", "max-age=1,")),
        ("an unclosed string", field("Cache-Control", b"max-age=\"1, no-store, \\")),
        ("a large number", field("Cache-Control", b"max-age=99999999999999999999999")),
        ("no number", field("Cache-Control", b"max-age=abc, min-fresh=-1, max-stale=1.5")),
        ("no text", field("Cache-Control", b"\xff\xfe=\xff")),
        ("tags", of("If-None-Match", "\"x\", ")),
        ("weak tags", of("If-None-Match", "W/\"x\",")),
        ("unclosed tags", of("If-None-Match", "\"")),
        ("no tags", field("If-None-Match", b"a, W/, \"\xff")),
        ("no date", field("If-Modified-Since", b"Thu, 99 Foo 0000 99:99:99 GMT")),
        (
            "two dates",
            [field("If-Modified-Since", b"x"), field("If-Modified-Since", b"y")].concat(),
        ),
        ("cookies", of("Cookie", "lang=de; ")),
        ("no cookies", field("Cookie", b";;; =;=;=; lang; lang=\"\xff; \t;")),
        ("semicolons", of("Cookie", ";")),
        ("forwarded", of("Forwarded", "host=a;proto=b,")),
        ("forwarded quotes", of("Forwarded", "host=\"")),
        ("forwarded host", field("X-Forwarded-Host", b"a b\xff")),
        ("ranges", of("Range", "bytes=0-,")),
        ("a varied field", of("X-Varied", "x,")),
        ("a keyed field", of("X-Tenant", "ä")),
        ("lines of a keyed field", field("X-Tenant", b"a").repeat(90)),
        ("connection options", of("Connection", "x,")),
    ];
    Wire::open(server.addr).get("/", "");
    for (case, fields) in &cases {
        let request = [b"GET / HTTP/1.1\r\nHost: t\r\n", &**fields, b"\r\n"].concat();
        for round in 0..3 {
            let answer = ask(server.addr, &request);
            assert_eq!(answer, Some((200, b"/ /".to_vec())), "{case}, round {round}");
        }
        assert!(Wire::open(server.addr).get("/", "").is_hit(), "after {case}");
    }
    assert_eq!(
        ask(server.addr, b"GET / HTTP/1.0\r\n\r\n"),
        Some((200, b"/ /".to_vec())),
        "no host"
    );
    for host in
        [&b""[..], b"a b", b"a,b", b"x/../y", b"[::1", b"a:b:c", b"\xc3\xa4", b"t:99999", b"@"]
    {
        let request = [b"GET / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
        let post = [b"POST / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat();
        for request in [&request, &request, &post, &request] {
            let answer = ask(server.addr, request);
            assert_eq!(answer, Some((200, b"/ /".to_vec())), "host {:?}", host.escape_ascii());
        }
    }
}

#[actix_web::test]
async fn no_word_of_a_client_changes_what_is_stored() {
    for (protocol, workers) in SETUPS {
        let (cache, runs) = (cache().0, Counter::default());
        let counter = runs.clone();
        let server = serve(workers, move || {
            let runs = counter.clone();
            let handler = move || ready(format!("run {}", runs.count()));
            App::new().route("/", web::get().to(handler)).wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        assert!(client.get("/").await.is_stored());
        for (name, value) in [
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=0"),
            ("cache-control", "no-store"),
            ("pragma", "no-cache"),
            ("x-purge", "1"),
            ("x-cache-bypass", "1"),
            ("x-invalidate-cache", "1"),
            ("cache-tag", "a"),
            ("surrogate-key", "a"),
            ("cache-status", "actix-web-cache; hit"),
            ("x-http-method-override", "DELETE"),
            ("age", "1000000"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let answer = client.send(method, "/", &[(name, value)]).await;
                assert!(answer.is_hit(), "{name}: {value} by {protocol:?}");
                assert_eq!(answer.field("age").as_deref(), Some("0"), "{name}: {value}");
            }
        }
        // The route refuses these, and nothing happened that would change the page.
        for method in ["PURGE", "BAN", "REFRESH", "POST", "DELETE", "OPTIONS", "TRACE"] {
            let method: Method = method.parse().unwrap();
            let answer = client.send(method.clone(), "/", &[("x-purge", "1")]).await;
            assert_eq!(answer.status, 404, "{method} by {protocol:?}");
            assert!(client.get("/").await.is_hit(), "after {method} by {protocol:?}");
        }
        assert_eq!(runs.get(), 1, "{protocol:?}");
    }
}

#[actix_web::test]
async fn whatever_a_handler_writes_reaches_the_client() {
    let large = 100 * 1024;
    let cases: Vec<(&str, Vec<u8>)> = [
        ("cache-control", "max-age=abc"),
        ("cache-control", "max-age="),
        ("cache-control", "max-age"),
        ("cache-control", "max-age=-1, s-maxage=\"x"),
        ("cache-control", "max-age=1.5"),
        ("cache-control", "max-age=\"60\""),
        ("cache-control", "max-age=99999999999999999999999999"),
        ("cache-control", "=,=;\"\\"),
        ("expires", "0"),
        ("expires", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("expires", "Thu, 99 Foo 0000 99:99:99 GMT"),
        ("date", "yesterday"),
        ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("date", "Fri, 31 Dec 9999 23:59:59 GMT"),
        ("age", "-1"),
        ("age", "99999999999999999999999999"),
        ("etag", "not quoted"),
        ("last-modified", "never"),
        ("vary", "not a name, *, \","),
        ("vary", ""),
        ("connection", ",,\", ;"),
        ("content-encoding", "?"),
        ("set-cookie", ""),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.as_bytes().to_vec()))
    .chain(
        [",", "\"", "a=", "max-age=1,", "\\"]
            .map(|piece| ("cache-control", piece.repeat(large / piece.len()).into_bytes())),
    )
    .chain(["x,", ",", "\""].map(|piece| ("vary", piece.repeat(large / piece.len()).into_bytes())))
    .chain([("cache-control", b"max-age=60, \xff\xfe".to_vec()), ("etag", b"\"\xff\"".to_vec())])
    .collect();
    for policy in
        [Policy::new(), Policy::rfc9111(), Policy::new().client_ttl(Duration::from_secs(1))]
    {
        let cache = builder().0.policy(policy).build().unwrap();
        let fields = cases.clone();
        let server = serve(1, move || {
            let fields = fields.clone();
            App::new().wrap(cache.clone()).default_service(web::to(move |request: HttpRequest| {
                let index: usize = request.path()[1..].parse().unwrap();
                let (name, value) = &fields[index];
                let value = HeaderValue::from_bytes(value).unwrap();
                ready(HttpResponse::Ok().insert_header((*name, value)).body("page"))
            }))
        });
        for (index, (name, value)) in cases.iter().enumerate() {
            for fields in ["", "", "If-None-Match: \"x\"\r\n", "If-Modified-Since: x\r\n"] {
                let answer = Wire::open(server.addr).get(&format!("/{index}"), fields);
                let value = value[..value.len().min(60)].escape_ascii();
                assert_eq!((answer.status, answer.text()), (200, "page"), "{name}: {value}");
            }
        }
    }
}

#[actix_web::test]
async fn no_lifetime_is_too_long() {
    const FOREVER: Duration = Duration::MAX;
    let plain = || async { "page" };
    let told = |cache: CacheOptions| {
        cache.ttl(FOREVER);
        ready("page")
    };
    let policies = [
        Policy::new().default_ttl(FOREVER),
        Policy::new().status_ttl(200, FOREVER),
        Policy::new().default_ttl(FOREVER).client_ttl(FOREVER),
        Policy::new().client_ttl(FOREVER),
    ];
    let rules = [
        None,
        Some(Rule::any().ttl(FOREVER)),
        Some(Rule::any().override_ttl(FOREVER)),
        Some(Rule::any().client_ttl(FOREVER)),
    ];
    for (n, policy) in policies.iter().enumerate() {
        for (m, rule) in rules.iter().enumerate() {
            let (builder, clock) = builder();
            let cache = builder.policy(policy.clone()).rules(rule.clone()).build().unwrap();
            let server = serve(1, move || {
                App::new()
                    .wrap(cache.clone())
                    .route("/plain", web::get().to(plain))
                    .route("/told", web::get().to(told))
            });
            let client = Client::new(server.addr, Protocol::Http1);
            for path in ["/plain", "/told"] {
                let case = format!("{path} under policy {n} and rule {m}");
                let miss = client.get(path).await;
                assert!(miss.is_stored() && miss.text() == "page", "{case}");
                assert!(client.get(path).await.is_hit(), "{case}");
                clock.advance(Duration::from_secs(10));
                assert!(client.get(path).await.is_hit(), "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn a_handler_that_panics_leaves_no_fill_open_and_the_worker_at_work() {
    for (protocol, workers) in SETUPS {
        let (store, runs) = (store(), Counter::default());
        let (cache, counter) = (Cache::new(store.clone()), runs.clone());
        let server = serve(workers, move || {
            let runs = counter.clone();
            App::new().wrap(cache.clone()).default_service(web::to(move || {
                let run = runs.count();
                async move {
                    if run == 1 {
                        // As a panic, but silent.
                        resume_unwind(Box::new("on purpose"));
                    }
                    format!("run {run}")
                }
            }))
        });
        let unlucky = Client::new(server.addr, protocol);
        assert!(unlucky.send_body(Method::GET, "/", &[], "").await.is_err(), "{protocol:?}");
        settled(store.coordinator()).await;
        let client = Client::new(server.addr, protocol);
        for hits in [false, true] {
            let answer = client.get("/").await;
            assert_eq!((answer.is_hit(), answer.text()), (hits, "run 2"), "{protocol:?}");
        }
    }
}

#[actix_web::test]
async fn an_error_of_a_middleware_further_in_passes_untouched() {
    for (protocol, workers) in SETUPS {
        let (store, runs) = (store(), Counter::default());
        let (cache, counter) = (Cache::new(store.clone()), runs.clone());
        let server = serve(workers, move || {
            let runs = counter.clone();
            let fails = move |_, _: actix_web::middleware::Next<_>| {
                runs.count();
                ready(Err::<ServiceResponse, _>(ErrorImATeapot("no coffee")))
            };
            App::new()
                .default_service(web::to(|| async { "page" }))
                .wrap(from_fn(fails))
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for method in [Method::GET, Method::GET, Method::POST] {
            let answer = client.send(method, "/", &[]).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (418, "no coffee"));
            assert_eq!(answer.field("cache-status"), None);
            assert_eq!(answer.field("cache-control"), None);
        }
        assert_eq!(runs.get(), 3);
        settled(store.coordinator()).await;
    }
}

#[actix_web::test]
async fn a_server_that_stops_leaves_no_fill_open() {
    for (protocol, workers) in SETUPS {
        // The same for both servers, where the client lets us choose.
        let host: &[_] = if protocol == Protocol::Http1 { &[("host", "t")] } else { &[] };
        for length in [None, Some(1000)] {
            let store = store();
            let cache = Cache::new(store.clone());
            let (handlers, mut feeds) = feeds();
            let server = serve(workers, move || {
                let feeds = handlers.clone();
                App::new()
                    .wrap(cache.clone())
                    .route("/fed", web::to(move || ready(feeds.response(length))))
                    .default_service(web::to(pending::<HttpResponse>))
            });
            let client = Client::new(server.addr, protocol);
            let start = client.start(Method::GET, "/fed", host, "");
            let (response, feed) = tokio::join!(start, feeds.recv());
            let (response, feed) = (response.unwrap(), feed.unwrap());
            assert!(feed.send("some").await);
            // Another one waits for its head.
            let other = Client::new(server.addr, protocol);
            let other =
                tokio::spawn(async move { other.start(Method::GET, "/", &[], "").await.is_err() });
            eventually("both are open", || store.coordinator().open_fills() == 2).await;
            drop(server);
            feed.closed().await;
            settled(store.coordinator()).await;
            assert!(other.await.unwrap(), "{protocol:?}");
            drop(response);
            // The next server finds nothing of it.
            let cache = Cache::new(store.clone());
            let server = serve(workers, move || {
                App::new().wrap(cache.clone()).default_service(web::to(|| async { "whole" }))
            });
            let next = Client::new(server.addr, protocol).get_with("/fed", host).await;
            assert_eq!((next.text(), next.is_stored()), ("whole", true), "{protocol:?}");
        }
    }
}
