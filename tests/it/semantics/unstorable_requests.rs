//! Requests whose responses are never stored, and responses that a handler or a route forbids to
//! store.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use actix_web::{App, HttpResponse, dev::Service as _, web};
use actix_web_cache::{
    CacheOptions, CachePolicy, NeverCache, Outcome, ResponseOptions,
    outcome::{NotStored, Stored},
};
use bytes::Bytes;
use http_body_util::StreamBody;
use hyper::{Method, Request, body::Frame};

use super::fields::cache_fields;
use crate::support::{
    Client, Counter, Protocol, Reply, SETUPS, Server, body_over_http2, builder, cache, raw,
    requested_response, secs, serve, serve_replies, test_app, wait_until,
};

const SHARED: &[(&str, &str)] = &[("cache-control", "public, max-age=60")];

#[actix_web::test]
async fn response_to_a_no_store_request_is_not_stored() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let replies = vec![Reply::new(200, SHARED); 6];
        let (server, _) = serve_replies(workers, &cache, &replies);
        let client = Client::new(server.addr, protocol);
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[("cache-control", "no-store")], false),
            (&[("cache-control", "max-age=9, No-Store")], false),
            (&[("cache-control", "max-age=9"), ("cache-control", "no-store")], false),
            (&[("cache-control", "ext=\"no-store\"")], true),
            (&[("cache-control", "no-cache")], true),
            (&[("pragma", "no-cache")], true),
        ];
        for (index, (fields, stored)) in cases.iter().enumerate() {
            let path = format!("/{index}");
            let first = client.get_with(&path, fields).await;
            assert_eq!(first.is_stored(), *stored, "{fields:?} by {protocol:?}");
            assert_eq!(client.get(&path).await.is_hit(), *stored, "{fields:?} by {protocol:?}");
            let repeated = client.get_with(&path, fields).await;
            assert!(repeated.is_hit(), "no-store does not forbid a hit: {fields:?}");
        }
    }
}

/// Serves a `GET` handler that repeats the request body in its response.
fn serve_echo(workers: usize) -> (Server, Counter) {
    let (cache, _) = cache();
    let runs = Counter::default();
    let counter = runs.clone();
    let server = serve(workers, move || {
        let runs = counter.clone();
        let read = move |body: Bytes| {
            let run = runs.count();
            async move { HttpResponse::Ok().body(format!("{run}: {}", body.escape_ascii())) }
        };
        App::new().wrap(cache.clone()).route("/read", web::get().to(read))
    });
    (server, runs)
}

/// Content of a `GET` has no defined meaning (RFC 9110 section 9.3.1) and is not in the cache key,
/// so a handler that reads it would poison the cache.
#[actix_web::test]
async fn get_with_a_body_bypasses_the_cache() {
    for (protocol, workers) in SETUPS {
        let (server, _) = serve_echo(workers);
        let client = Client::new(server.addr, protocol);
        let get_with_body = || client.send_body(Method::GET, "/read", &[], "lang=evil");
        let answer = get_with_body().await.unwrap();
        assert_eq!(answer.cache_status(), "fwd=bypass; detail=request-body", "{protocol:?}");
        assert_eq!(answer.text(), "1: lang=evil");
        let bodiless = client.get("/read").await;
        assert_eq!(
            (bodiless.cache_status().as_str(), bodiless.text()),
            ("fwd=uri-miss; stored", "2: ")
        );
        assert_eq!(get_with_body().await.unwrap().text(), "3: lang=evil", "{protocol:?}");
        let hit = client.get("/read").await;
        assert!(hit.is_hit() && hit.text() == "2: ", "{protocol:?}");
    }
}

#[actix_web::test]
async fn get_with_a_chunked_body_bypasses_the_cache() {
    let (server, _) = serve_echo(1);
    let chunked =
        b"GET /read HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
        4\r\nevil\r\n0\r\n\r\n";
    let empty = b"GET /read HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for (request, body, status) in [
        (&chunked[..], "1: evil", "fwd=bypass; detail=request-body"),
        (empty, "2: ", "fwd=uri-miss; stored"),
        (chunked, "3: evil", "fwd=bypass; detail=request-body"),
        (empty, "2: ", "hit; ttl=60"),
    ] {
        let answer = String::from_utf8(raw(server.addr, request)).unwrap();
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
        assert!(
            answer.contains(&format!("cache-status: actix-web-cache; {status}\r\n")),
            "{answer}"
        );
    }
}

/// Sends a `GET` with a body but without `Content-Length`, which HTTP/2 permits.
async fn get_with_undeclared_body(server: &Server, chunk: &'static str) -> String {
    let chunks = [Ok::<_, Infallible>(Frame::data(Bytes::from_static(chunk.as_bytes())))];
    let body = StreamBody::new(futures_util::stream::iter(chunks));
    let request = Request::get(format!("http://{}/read", server.addr)).body(body).unwrap();
    body_over_http2(server, request).await
}

#[actix_web::test]
async fn response_to_a_get_with_an_undeclared_body_is_not_stored() {
    let (server, runs) = serve_echo(2);
    assert_eq!(get_with_undeclared_body(&server, "evil").await, "1: evil");
    let bodiless = Client::new(server.addr, Protocol::Http2).get("/read").await;
    assert_eq!(
        (bodiless.cache_status().as_str(), bodiless.text()),
        ("fwd=uri-miss; stored", "2: ")
    );
    assert_eq!(runs.get(), 2);
}

/// A handler that reads the body waits for such a client, so others must not wait for its response.
#[actix_web::test]
async fn request_that_never_ends_leads_no_other_request() {
    let (cache, _) = cache();
    let arrived = Counter::default();
    let counter = arrived.clone();
    let server = serve(2, move || {
        let arrived = counter.clone();
        App::new()
            .wrap(cache.clone())
            .wrap_fn(move |request, inner| {
                arrived.count();
                inner.call(request)
            })
            .route("/read", web::get().to(async |body: Bytes| format!("{} bytes", body.len())))
    });
    for n in [0, 2] {
        let chunks = futures_util::stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let body = StreamBody::new(chunks);
        let request = Request::get(format!("http://{}/read", server.addr)).body(body).unwrap();
        let endless = body_over_http2(&server, request);
        let others = async {
            wait_until("the endless request has arrived", || arrived.get() == n + 1).await;
            Client::new(server.addr, Protocol::Http2).get("/read").await
        };
        let answer = tokio::select! {
            answer = others => answer,
            _ = endless => panic!("the request has not ended"),
        };
        assert_eq!((answer.text(), answer.is_hit()), ("0 bytes", n == 2));
        // A follower would have waited for the endless request, and would not say `stored`.
        assert!(answer.is_hit() || answer.is_stored(), "{}", answer.cache_status());
    }
}

#[actix_web::test]
async fn methods_without_stored_responses_always_reach_the_handler() {
    let methods = [
        ("OPTIONS", true),
        ("TRACE", true),
        ("PROPFIND", true),
        ("REPORT", true),
        ("SEARCH", true),
        ("POST", false),
        ("PUT", false),
        ("PATCH", false),
        ("DELETE", false),
        ("PURGE", false),
        ("BREW", false),
        ("get", false),
    ];
    for (protocol, workers) in [(Protocol::Http1, 1), (Protocol::Http2, 2)] {
        let (cache, _) = cache();
        let (server, runs) = serve_replies(workers, &cache, &[Reply::new(200, SHARED)]);
        let client = Client::new(server.addr, protocol);
        for (name, safe) in methods {
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            assert!(client.get("/0").await.status.is_success());
            let before = runs.get();
            for _ in 0..2 {
                let answer = client.send(method.clone(), "/0", &[]).await;
                assert_eq!(answer.cache_status(), "fwd=method", "{name} by {protocol:?}");
                assert_eq!(answer.field("age"), None, "{name}");
            }
            assert_eq!(runs.get() - before, 2, "{name} by {protocol:?}");
            let get = client.get("/0").await;
            assert_eq!(get.is_hit(), safe, "GET after {name}: {}", get.cache_status());
        }
    }
}

/// See RFC 9110 section 9.3.2.
#[actix_web::test]
async fn head_stores_nothing_and_is_answered_by_a_stored_get() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (server, runs) = serve_replies(workers, &cache, &[Reply::new(200, SHARED)]);
        let client = Client::new(server.addr, protocol);
        for run in 1..3 {
            assert_eq!(client.head("/0").await.cache_status(), "fwd=uri-miss; detail=head");
            assert_eq!(runs.get(), run);
        }
        let get = client.get("/0").await;
        assert!(get.is_stored() && get.text().starts_with("run 3"), "{protocol:?}");
        let head = client.head("/0").await;
        assert!(head.is_hit() && head.body.is_empty(), "{protocol:?}");
        assert_eq!(head.field("content-length"), get.field("content-length"));
    }
}

/// The cache cannot know in advance that the handler ignores the range.
#[actix_web::test]
async fn full_response_to_a_range_request_is_not_stored() {
    let (cache, _) = cache();
    let (server, _) = serve_replies(1, &cache, &[Reply::new(200, SHARED)]);
    let client = Client::new(server.addr, Protocol::Http1);
    let answer = client.get_with("/0", &[("range", "bytes=0-1")]).await;
    assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=range");
    assert!(client.get("/0").await.is_stored());
}

/// Serves paths whose handlers or routes refuse to store in different ways, and some that do not.
/// Returns the reasons that the observer receives.
fn serve_refusals(workers: usize) -> (Server, Arc<Mutex<Vec<&'static str>>>) {
    let reasons = Arc::<Mutex<Vec<&'static str>>>::default();
    let observed = Arc::clone(&reasons);
    let (builder, _) = builder();
    let cache = builder.observer(move |_, outcome| {
        if let Outcome::Forward { stored: Stored::No(NotStored::Handler(reason)), .. } = outcome {
            observed.lock().unwrap().push(reason);
        }
    });
    let cache = cache.build().unwrap();
    let page = || async { HttpResponse::Ok().body("page") };
    let server = serve(workers, move || {
        App::new()
            .wrap(cache.clone())
            .route("/plain", web::get().to(page))
            .route(
                "/argument",
                web::get().to(|cache: CacheOptions| async move {
                    cache.ttl(secs(60));
                    cache.no_store("personal");
                    HttpResponse::Ok().insert_header(SHARED[0]).body("page")
                }),
            )
            .route(
                "/argument-then-ttl",
                web::get().to(|cache: CacheOptions, other: CacheOptions| async move {
                    cache.no_store("personal");
                    other.ttl(secs(60));
                    HttpResponse::Ok().body("page")
                }),
            )
            .route(
                "/zero",
                web::get().to(|cache: CacheOptions| async move {
                    cache.ttl(secs(0));
                    HttpResponse::Ok().insert_header(SHARED[0]).body("page")
                }),
            )
            .route(
                "/extension",
                web::get().to(|| async {
                    let mut response = HttpResponse::Ok().insert_header(SHARED[0]).body("page");
                    let overrides = ResponseOptions::new().ttl(secs(60)).no_store("personal");
                    response.extensions_mut().insert(overrides);
                    response
                }),
            )
            .service(
                web::resource("/route")
                    .wrap(CachePolicy::no_store("personal"))
                    .route(web::get().to(page)),
            )
            .service(web::resource("/never").wrap(NeverCache).route(web::get().to(page)))
            .service(
                web::resource("/lifetime")
                    .wrap(CachePolicy::ttl(secs(60)))
                    .route(web::get().to(page)),
            )
    });
    (server, reasons)
}

#[actix_web::test]
async fn response_refused_by_a_handler_or_a_route_is_not_stored() {
    for (protocol, workers) in SETUPS {
        let (server, reasons) = serve_refusals(workers);
        let client = Client::new(server.addr, protocol);
        for (path, want) in [
            ("/argument", "fwd=uri-miss; detail=handler"),
            ("/argument-then-ttl", "fwd=uri-miss; detail=handler"),
            ("/zero", "fwd=uri-miss; detail=no-lifetime"),
            ("/extension", "fwd=uri-miss; detail=handler"),
            ("/route", "fwd=uri-miss; detail=handler"),
            ("/never", "fwd=uri-miss; detail=no-store"),
        ] {
            for _ in 0..2 {
                let answer = client.get(path).await;
                assert_eq!(answer.cache_status(), want, "{path} by {protocol:?}");
                assert!(
                    !format!("{:?}", answer.headers).contains("personal"),
                    "the reason is not sent to the client: {path}"
                );
            }
        }
        assert_eq!(*reasons.lock().unwrap(), ["personal"; 8], "{protocol:?}");
        // On the same connection, because options of one response must not apply to the next.
        for path in ["/plain", "/lifetime"] {
            assert!(client.get(path).await.is_stored(), "{path} by {protocol:?}");
            assert!(client.get(path).await.is_hit(), "{path} by {protocol:?}");
        }
    }
}

fn method_of(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap()
}

#[actix_web::test]
async fn other_methods_add_no_fields_and_store_nothing() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    assert!(app.client.get("/").await.is_stored());
    assert!(app.client.head("/").await.is_hit());
    let safe = ["OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH"];
    let not_safe = ["POST", "PUT", "PATCH", "DELETE", "LINK", "BREW"];
    for name in safe.into_iter().chain(not_safe) {
        // An error, so that an unsafe method invalidates nothing.
        let before = app.runs.get();
        let answer = app.client.send(method_of(name), "/", &[("answer-status", "400")]).await;
        assert_eq!(answer.cache_status(), "fwd=method", "{name}");
        assert_eq!(app.runs.get(), before + 1, "{name}");
        assert_eq!(cache_fields(&answer), [""; 0], "{name}");
        assert!(app.client.get("/").await.is_hit(), "{name} stored nothing of its own");
    }
}

#[actix_web::test]
async fn upgrade_request_bypasses_the_cache_and_stores_nothing() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    for fields in
        [&[("upgrade", "websocket")][..], &[("upgrade", "websocket"), ("connection", "upgrade")]]
    {
        for run in [1, 2] {
            let answer = app.client.get_with("/", fields).await;
            assert_eq!(answer.cache_status(), "fwd=bypass; detail=upgrade", "{fields:?} {run}");
            assert_eq!(cache_fields(&answer), [""; 0]);
        }
    }
    assert_eq!(app.runs.get(), 4);
}
