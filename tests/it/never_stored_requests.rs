//! What requests say, or are, that keeps their answers from being stored; and what handlers say
//! of answers beside the fields.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use actix_web::{App, HttpResponse, web};
use actix_web_cache::{
    CacheOptions, CachePolicy, NeverCache, Outcome, ResponseOptions,
    outcome::{NotStored, Stored},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{Method, Request, body::Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{
    Client, Counter, Protocol, Reply, SETUPS, Server, builder, cache, raw, secs, serve,
    serve_replies,
};

const SHARED: &[(&str, &str)] = &[("cache-control", "public, max-age=60")];

#[actix_web::test]
async fn the_answer_to_a_request_that_says_no_store_is_not_stored() {
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
            let asked_again = client.get_with(&path, fields).await;
            assert!(asked_again.is_hit(), "what is stored may answer: {fields:?}");
        }
    }
}

/// A page that depends on the request's body, as no page should.
fn serve_fat(workers: usize) -> (Server, Counter) {
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

#[actix_web::test]
async fn a_get_with_a_body_is_neither_stored_nor_answered_from_the_store() {
    for (protocol, workers) in SETUPS {
        let (server, _) = serve_fat(workers);
        let client = Client::new(server.addr, protocol);
        let fat = || client.send_body(Method::GET, "/read", &[], "lang=evil");
        let answer = fat().await.unwrap();
        assert_eq!(answer.cache_status(), "fwd=bypass; detail=request-body", "{protocol:?}");
        assert_eq!(answer.text(), "1: lang=evil");
        let plain = client.get("/read").await;
        assert_eq!((plain.cache_status().as_str(), plain.text()), ("fwd=uri-miss; stored", "2: "));
        assert_eq!(fat().await.unwrap().text(), "3: lang=evil", "{protocol:?}");
        let hit = client.get("/read").await;
        assert!(hit.is_hit() && hit.text() == "2: ", "{protocol:?}");
    }
}

#[actix_web::test]
async fn a_get_with_a_chunked_body_is_neither_stored_nor_answered_from_the_store() {
    let (server, _) = serve_fat(1);
    let fat =
        b"GET /read HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
        4\r\nevil\r\n0\r\n\r\n";
    let empty = b"GET /read HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    for (request, body, status) in [
        (&fat[..], "1: evil", "fwd=bypass; detail=request-body"),
        (empty, "2: ", "fwd=uri-miss; stored"),
        (fat, "3: evil", "fwd=bypass; detail=request-body"),
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

/// A GET with a body whose length is not announced.
async fn unannounced(server: &Server, chunk: &'static str) -> String {
    let stream = tokio::net::TcpStream::connect(server.addr).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let chunks = [Ok::<_, Infallible>(Frame::data(Bytes::from_static(chunk.as_bytes())))];
    let body = StreamBody::new(futures_util::stream::iter(chunks));
    let request = Request::get(format!("http://{}/read", server.addr)).body(body).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    connection.abort();
    String::from_utf8(body.to_vec()).unwrap()
}

#[actix_web::test]
async fn what_a_handler_made_of_a_body_nobody_announced_is_not_stored() {
    let (server, runs) = serve_fat(2);
    assert_eq!(unannounced(&server, "evil").await, "1: evil");
    let plain = Client::new(server.addr, Protocol::Http2).get("/read").await;
    assert_eq!((plain.cache_status().as_str(), plain.text()), ("fwd=uri-miss; stored", "2: "));
    assert_eq!(runs.get(), 2);
}

#[actix_web::test]
async fn no_method_but_get_is_stored_or_answered_from_the_store() {
    let methods = [
        ("OPTIONS", true),
        ("TRACE", true),
        ("PROPFIND", true),
        ("REPORT", true),
        ("SEARCH", true),
        ("QUERY", true),
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

#[actix_web::test]
async fn a_head_stores_nothing_and_a_stored_get_answers_it() {
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

#[actix_web::test]
async fn the_answer_to_a_request_for_a_part_is_not_stored() {
    let (cache, _) = cache();
    let (server, _) = serve_replies(1, &cache, &[Reply::new(200, SHARED)]);
    let client = Client::new(server.addr, Protocol::Http1);
    let part = client.get_with("/0", &[("range", "bytes=0-1")]).await;
    assert_eq!(part.cache_status(), "fwd=uri-miss; detail=range");
    assert!(client.get("/0").await.is_stored());
}

/// Paths whose handlers refuse in different ways, and some that do not; and the reasons that the
/// application's observer is told.
fn serve_refusals(workers: usize) -> (Server, Arc<Mutex<Vec<&'static str>>>) {
    let reasons = Arc::<Mutex<Vec<&'static str>>>::default();
    let told = Arc::clone(&reasons);
    let (builder, _) = builder();
    let cache = builder.observer(move |_, outcome| {
        if let Outcome::Forward { stored: Stored::No(NotStored::Handler(reason)), .. } = outcome {
            told.lock().unwrap().push(reason);
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
                "/argument-taken-back",
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
async fn what_a_handler_or_a_route_refuses_is_not_stored() {
    for (protocol, workers) in SETUPS {
        let (server, reasons) = serve_refusals(workers);
        let client = Client::new(server.addr, protocol);
        for (path, want) in [
            ("/argument", "fwd=uri-miss; detail=handler"),
            ("/argument-taken-back", "fwd=uri-miss; detail=handler"),
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
                    "the reason is not the client's: {path}"
                );
            }
        }
        assert_eq!(*reasons.lock().unwrap(), ["personal"; 8], "{protocol:?}");
        // On the same connection: what was said of one response does not stick to the next.
        for path in ["/plain", "/lifetime"] {
            assert!(client.get(path).await.is_stored(), "{path} by {protocol:?}");
            assert!(client.get(path).await.is_hit(), "{path} by {protocol:?}");
        }
    }
}
