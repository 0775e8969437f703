//! Messages on the wire: `Content-Length`, responses without a body, fields of one connection,
//! request bodies, and upgrades.

use std::{
    convert::Infallible,
    io::{self, Write as _},
    thread,
};

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, Policy};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{Method, body::Frame, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::support::{
    Client, Counter, HookedStore, Protocol, SETUPS, Server, StoreCall, StoreEvent, Wire, cache,
    raw, serve,
};

/// Numbers of workers that the raw connections are tested with.
const WORKERS: [usize; 2] = [1, 4];

/// A server with a default cache around one handler, for any path and method.
fn serve_one(
    workers: usize,
    handler: impl Fn(HttpRequest) -> HttpResponse + Clone + Send + 'static,
) -> Server {
    let (cache, _) = cache();
    serve(workers, move || {
        let handler = handler.clone();
        App::new().wrap(cache.clone()).default_service(web::to(move |request: HttpRequest| {
            std::future::ready(handler(request))
        }))
    })
}

fn chunked(chunks: &'static [&'static str]) -> HttpResponse {
    let chunks =
        chunks.iter().map(|chunk| Ok::<_, io::Error>(Bytes::from_static(chunk.as_bytes())));
    HttpResponse::Ok().streaming(stream::iter(chunks))
}

#[actix_web::test]
async fn get_and_head_have_the_same_content_length_on_miss_and_hit() {
    for (protocol, workers) in SETUPS {
        let server = serve_one(workers, |_| HttpResponse::Ok().body("five!"));
        // Each request has a connection of its own, so that several workers are used.
        let client = || Client::new(server.addr, protocol);
        for (method, status, body) in [
            (Method::HEAD, "fwd=uri-miss; detail=head", ""),
            (Method::GET, "fwd=uri-miss; stored", "five!"),
            (Method::HEAD, "hit; ttl=60", ""),
            (Method::GET, "hit; ttl=60", "five!"),
        ] {
            let answer = client().send(method.clone(), "/", &[]).await;
            let case = format!("{method} {status} by {protocol:?}");
            assert_eq!(answer.status, 200, "{case}");
            assert_eq!(answer.cache_status(), status, "{case}");
            assert_eq!(answer.field("content-length").as_deref(), Some("5"), "{case}");
            assert_eq!(answer.text(), body, "{case}");
        }
    }
}

#[actix_web::test]
async fn stored_get_response_answers_head_on_a_route_without_head() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new().wrap(cache.clone()).route("/", web::get().to(|| async { "five!" }))
        });
        let client = Client::new(server.addr, protocol);
        let before = client.head("/").await;
        assert_eq!((before.status, before.is_hit()), (hyper::StatusCode::NOT_FOUND, false));
        assert!(client.get("/").await.is_stored());
        let after = client.head("/").await;
        assert_eq!(after.status, 200, "{protocol:?}");
        assert!(after.is_hit() && after.body.is_empty(), "{protocol:?}");
        assert_eq!(after.field("content-length").as_deref(), Some("5"), "{protocol:?}");
    }
}

#[actix_web::test]
async fn response_without_body_ends_with_its_head() {
    for workers in WORKERS {
        let server = serve_one(workers, |request| match request.path() {
            "/204" => {
                HttpResponse::NoContent().insert_header(("cache-control", "max-age=60")).finish()
            }
            "/304" => HttpResponse::NotModified().insert_header(("etag", "\"a\"")).finish(),
            _ => HttpResponse::Ok().insert_header(("etag", "\"a\"")).body("five!"),
        });
        let mut wire = Wire::open(server.addr);
        assert!(!wire.get("/page", "").is_hit());
        // RFC 9112, section 6.3: the response to HEAD and a 304 have no body, whatever their fields
        // say.
        for (case, status, length) in [("head", 200, Some("5")), ("none-match", 304, None)] {
            for round in 0..2 {
                let message = match case {
                    "head" => wire.head("/page"),
                    _ => wire.get("/page", "If-None-Match: \"a\"\r\n"),
                };
                let case = format!("{case}, round {round}, {workers} workers");
                assert!(message.is_hit() && message.status == status, "{case}: {}", message.head);
                assert_eq!(message.line("content-length"), length, "{case}");
                assert_eq!(message.line("transfer-encoding"), None, "{case}");
                let next = wire.get("/page", "");
                assert!(next.is_hit() && next.text() == "five!", "after {case}: {}", next.head);
            }
        }
        for (path, hits) in [("/204", true), ("/304", false)] {
            for round in 0..2 {
                let message = wire.get(path, "");
                let case = format!("{path}, round {round}, {workers} workers");
                assert_eq!(message.status.to_string(), path[1..], "{case}");
                assert_eq!(message.is_hit(), hits && round == 1, "{case}");
                assert_eq!(message.line("content-length"), None, "{case}");
                assert_eq!(message.line("transfer-encoding"), None, "{case}");
                let next = wire.get("/page", "");
                assert!(next.is_hit() && next.text() == "five!", "after {case}: {}", next.head);
            }
        }
    }
}

#[actix_web::test]
async fn http2_responses_have_the_same_bodies_and_fields() {
    for workers in WORKERS {
        let server = serve_one(workers, |request| match request.path() {
            "/204" => {
                HttpResponse::NoContent().insert_header(("cache-control", "max-age=60")).finish()
            }
            "/304" => HttpResponse::NotModified().insert_header(("etag", "\"a\"")).finish(),
            "/empty" => HttpResponse::Ok().finish(),
            "/lines" => {
                let mut response = HttpResponse::Ok();
                for link in ["</c>", "</a>, </b>", "</c>"] {
                    response.append_header(("link", link));
                }
                response.insert_header(("date", "Tue, 14 Nov 2023 22:13:10 GMT")).finish()
            }
            "/chunks" => chunked(&["one ", "two ", "three"]),
            _ => HttpResponse::Ok().insert_header(("etag", "\"a\"")).body("five!"),
        });
        let client = Client::new(server.addr, Protocol::Http2);
        client.get("/page").await;
        for (path, fields, status, second) in [
            ("/page", &[("if-none-match", "\"a\"")][..], 304, "hit; ttl=60"),
            ("/204", &[], 204, "hit; ttl=60"),
            ("/304", &[], 304, "fwd=uri-miss; detail=status"),
            ("/empty", &[], 200, "hit; ttl=60"),
        ] {
            client.get_with(path, fields).await;
            let answer = client.get_with(path, fields).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0), "{path}");
            assert_eq!(answer.cache_status(), second, "{path}");
            // A response that is not stored is written by actix alone.
            if path != "/304" {
                let length = (path == "/empty").then(|| "0".to_owned());
                assert_eq!(answer.field("content-length"), length, "{path}");
            }
        }
        for hits in [false, true] {
            let chunks = client.get("/chunks").await;
            assert_eq!((chunks.is_hit(), chunks.text()), (hits, "one two three"));
            assert_eq!(chunks.field("content-length"), hits.then(|| "13".to_owned()));
            let lines = client.get("/lines").await;
            assert_eq!(lines.is_hit(), hits);
            let links: Vec<_> = lines.headers.get_all("link").iter().collect();
            assert_eq!(links, ["</c>", "</a>, </b>", "</c>"], "hit: {hits}");
            // The only date is the one of the handler.
            assert_eq!(lines.field("date").as_deref(), Some("Tue, 14 Nov 2023 22:13:10 GMT"));
        }
    }
}

#[actix_web::test]
async fn hit_has_content_length_also_for_streamed_and_empty_bodies() {
    for workers in WORKERS {
        let server = serve_one(workers, |request| match request.path() {
            "/chunks" => chunked(&["one ", "two ", "three"]),
            _ => HttpResponse::Ok().finish(),
        });
        let mut wire = Wire::open(server.addr);
        let miss = wire.get("/chunks", "");
        assert_eq!(miss.line("transfer-encoding"), Some("chunked"));
        assert_eq!(miss.line("content-length"), None);
        let hit = wire.get("/chunks", "");
        assert_eq!(hit.line("transfer-encoding"), None);
        assert_eq!(hit.line("content-length"), Some("13"));
        assert!(hit.is_hit() && hit.text() == miss.text() && hit.text() == "one two three");
        for hits in [false, true] {
            let empty = wire.get("/empty", "");
            assert_eq!((empty.is_hit(), empty.line("content-length")), (hits, Some("0")));
        }
    }
}

#[actix_web::test]
async fn connection_fields_are_not_in_hits() {
    // RFC 9111, section 3.1: these fields must not be stored.
    const CONNECTION_FIELDS: [(&str, &str); 12] = [
        ("content-length", "999"),
        ("transfer-encoding", "chunked"),
        ("connection", "x-hop, keep-alive"),
        ("connection", "x-other"),
        ("content-length", "7"),
        ("keep-alive", "timeout=99"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authenticate", "Basic"),
        ("te", "trailers"),
        ("trailer", "x-checksum"),
        ("x-hop", "1"),
        ("x-other", "2"),
    ];
    let handler = |_| {
        let mut response = HttpResponse::Ok();
        CONNECTION_FIELDS.iter().for_each(|field| {
            response.append_header(*field);
        });
        response.append_header(("x-kept", "3")).body("five!")
    };
    for workers in WORKERS {
        let server = serve_one(workers, handler);
        let mut wire = Wire::open(server.addr);
        let miss = wire.get("/", "");
        assert_eq!(
            (miss.is_hit(), miss.line("content-length"), miss.text()),
            (false, Some("5"), "five!")
        );
        let hit = wire.get("/", "");
        assert_eq!(
            (hit.is_hit(), hit.line("content-length"), hit.text()),
            (true, Some("5"), "five!")
        );
        let by_http2 = Client::new(server.addr, Protocol::Http2);
        // The host differs, so this is another entry.
        by_http2.get("/").await;
        let other = by_http2.get("/").await;
        assert!(other.is_hit() && other.text() == "five!");
        assert_eq!(other.field("content-length").as_deref(), Some("5"));
        for (name, _) in CONNECTION_FIELDS.iter().filter(|(name, _)| *name != "content-length") {
            assert_eq!(hit.lines(name), [""; 0], "{name} by HTTP/1.1, {workers} workers");
            assert_eq!(other.field(name), None, "{name} by HTTP/2, {workers} workers");
        }
        assert_eq!(hit.line("x-kept"), Some("3"));
        assert_eq!(other.field("x-kept").as_deref(), Some("3"));
    }
}

#[actix_web::test]
async fn response_has_one_date_and_keeps_the_handlers() {
    // Ten seconds before the time of the clock.
    const OWN: &str = "Tue, 14 Nov 2023 22:13:10 GMT";
    for workers in WORKERS {
        let server = serve_one(workers, |request| {
            let mut response = HttpResponse::Ok();
            if request.path() == "/own" {
                response.insert_header(("date", OWN));
            }
            response.body("five!")
        });
        let mut wire = Wire::open(server.addr);
        for (path, date, age) in
            [("/own", OWN, "10"), ("/none", "Tue, 14 Nov 2023 22:13:20 GMT", "0")]
        {
            for hits in [false, true] {
                let message = wire.get(path, "");
                assert_eq!((message.is_hit(), message.line("date")), (hits, Some(date)), "{path}");
                assert_eq!(message.line("age"), hits.then_some(age), "{path}");
            }
        }
    }
}

#[actix_web::test]
async fn lines_of_one_field_keep_their_order_in_hits() {
    for workers in WORKERS {
        let server = serve_one(workers, |_| {
            HttpResponse::Ok()
                .append_header(("link", "</c>"))
                .append_header(("x-other", "1"))
                .append_header(("link", "</a>, </b>"))
                .append_header(("link", "</c>"))
                .body("five!")
        });
        let mut wire = Wire::open(server.addr);
        for hits in [false, true, true] {
            let message = wire.get("/", "");
            assert_eq!(message.is_hit(), hits);
            assert_eq!(message.lines("link"), ["</c>", "</a>, </b>", "</c>"], "hit: {hits}");
        }
    }
}

#[actix_web::test]
async fn pipelined_requests_get_their_responses_in_order() {
    for workers in WORKERS {
        let server = serve_one(workers, |request| {
            HttpResponse::Ok().body(format!("page {}", request.path()).repeat(100))
        });
        let mut wire = Wire::open(server.addr);
        let paths = ["/a", "/bb", "/a", "/ccc", "/bb", "/a"];
        let requests: String =
            paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n")).collect();
        for round in 0..3 {
            wire.send(&requests);
            for (index, path) in paths.iter().enumerate() {
                let message = wire.receive();
                let case = format!("{path} at {index}, round {round}, {workers} workers");
                assert_eq!(message.text(), format!("page {path}").repeat(100), "{case}");
                assert!(message.is_hit() || round == 0, "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn get_with_body_bypasses_the_cache_and_its_body_is_no_request() {
    // The body is itself a request, as in a request smuggling attack.
    const INNER: &str = "GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n";
    for workers in WORKERS {
        let smuggled = Counter::default();
        let counter = smuggled.clone();
        let server = serve_one(workers, move |request| {
            if request.path() == "/smuggled" {
                counter.count();
            }
            HttpResponse::Ok().body("five!")
        });
        Wire::open(server.addr).get("/", "");
        let length = INNER.len();
        for (case, request) in [
            ("sized", format!("Content-Length: {length}\r\n\r\n{INNER}")),
            (
                "chunked",
                format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{INNER}\r\n0\r\n\r\n"),
            ),
        ] {
            let mut wire = Wire::open(server.addr);
            wire.send(format!("GET / HTTP/1.1\r\nHost: t\r\n{request}"));
            let bypassed = wire.receive();
            assert_eq!(
                bypassed.line("cache-status"),
                Some("actix-web-cache; fwd=bypass; detail=request-body"),
                "{case}"
            );
            assert_eq!(bypassed.text(), "five!", "{case}");
            // The server may close the connection, but must not answer the request in the body.
            wire.send_anyway("GET / HTTP/1.1\r\nHost: t\r\n\r\n");
            if let Some(next) = wire.receive_or_end() {
                assert!(next.is_hit() && next.text() == "five!", "{case}");
            }
            assert_eq!(smuggled.get(), 0, "{case}");
        }
    }
}

#[actix_web::test]
async fn get_with_body_after_100_continue_reaches_the_handler() {
    for workers in WORKERS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new().wrap(cache.clone()).default_service(web::to(|body: Bytes| async move {
                format!("received {}", String::from_utf8_lossy(&body))
            }))
        });
        let mut wire = Wire::open(server.addr);
        assert_eq!(wire.get("/", "").text(), "received ");
        assert!(wire.get("/", "").is_hit());
        for _ in 0..2 {
            wire.send(
                "GET / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
            );
            assert_eq!(wire.receive().status, 100);
            wire.send("evil");
            let bypassed = wire.receive();
            assert_eq!((bypassed.status, bypassed.text()), (200, "received evil"));
            let without_body = wire.get("/", "");
            assert!(
                without_body.is_hit() && without_body.text() == "received ",
                "{workers} workers"
            );
        }
    }
}

#[actix_web::test]
async fn response_to_http2_get_with_undeclared_body_is_not_stored() {
    for workers in WORKERS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new().wrap(cache.clone()).default_service(web::to(|body: Bytes| async move {
                format!("received {}", String::from_utf8_lossy(&body))
            }))
        });
        let io = TokioIo::new(tokio::net::TcpStream::connect(server.addr).await.unwrap());
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        let driver = tokio::spawn(connection);
        let chunks = [Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"evil")))];
        let request = hyper::Request::get(format!("http://{}/", server.addr))
            .body(StreamBody::new(stream::iter(chunks)))
            .unwrap();
        let bypassed = sender.send_request(request).await.unwrap();
        assert!(!bypassed.headers()["cache-status"].to_str().unwrap().contains("stored"));
        assert_eq!(bypassed.into_body().collect().await.unwrap().to_bytes(), "received evil");
        let without_body = Client::new(server.addr, Protocol::Http2).get("/").await;
        assert_eq!(
            (without_body.is_hit(), without_body.text()),
            (false, "received "),
            "{workers} workers"
        );
        driver.abort();
    }
}

#[actix_web::test]
async fn http10_client_gets_a_hit_with_content_length_and_a_closed_connection() {
    for workers in WORKERS {
        let server = serve_one(workers, |_| chunked(&["one ", "two"]));
        Wire::open(server.addr).get("/", "");
        let answer = raw(server.addr, b"GET / HTTP/1.0\r\nHost: t\r\n\r\n");
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("actix-web-cache; hit"), "{head}");
        assert!(head.contains("content-length: 7") && !head.contains("chunked"), "{head}");
        assert_eq!(body, "one two");
    }
}

#[actix_web::test]
async fn upgrade_and_its_protocol_bypass_the_cache() {
    let handler = |request: HttpRequest| async move {
        if !request.headers().contains_key("upgrade") {
            return HttpResponse::Ok().body("five!");
        }
        let chunks = ["not ", "framed"].map(|chunk| Ok::<_, io::Error>(Bytes::from(chunk)));
        HttpResponse::SwitchingProtocols().upgrade("echo").streaming(stream::iter(chunks))
    };
    let bare = serve(1, move || App::new().default_service(web::to(handler)));
    for workers in WORKERS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new().wrap(cache.clone()).default_service(web::to(handler))
        });
        for (case, fields) in [
            ("both fields", "Connection: Upgrade\r\nUpgrade: echo\r\n"),
            ("in a list", "Connection: keep-alive, upgrade\r\nUpgrade: echo\r\n"),
        ] {
            let mut uncached = Wire::open(bare.addr);
            let want = uncached.get("/", fields);
            let mut wire = Wire::open(server.addr);
            // A stored response must not answer the request for an upgrade.
            wire.get("/", "");
            assert!(wire.get("/", "").is_hit(), "{case}");
            let switched = wire.get("/", fields);
            assert_eq!((want.status, switched.status), (101, 101), "{case}: {}", switched.head);
            for name in ["upgrade", "connection", "content-length", "transfer-encoding"] {
                assert_eq!(switched.lines(name), want.lines(name), "{name}, {case}");
            }
            assert_eq!(wire.rest(), uncached.rest(), "{case}");
            assert_eq!(Wire::open(server.addr).get("/", "").text(), "five!", "{case}");
        }
    }
}

/// The handler leaves the body unread, and a purge gives the rest of the body time to arrive. The
/// connection must end, or continue behind the body.
#[actix_web::test]
async fn unread_request_body_is_not_taken_for_the_next_request() {
    const INNER: &str = "GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n";
    let body = INNER.repeat(5 * 1024 * 1024 / INNER.len());
    let length = body.len();
    let sized = format!("Content-Length: {length}\r\n\r\n{body}");
    let chunked = format!("Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
    let (store, smuggled, answered) = (HookedStore::slow(), Counter::default(), Counter::default());
    let policy = Policy::new().honor_request_directives();
    let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
    let counter = smuggled.clone();
    let server = serve(1, move || {
        let counter = counter.clone();
        let handler = move |request: HttpRequest| {
            let response = match (request.path(), request.method().as_str()) {
                ("/page", "GET") => HttpResponse::Ok().body("page"),
                ("/page", "DELETE") => HttpResponse::NoContent().finish(),
                ("/refused", _) => HttpResponse::PayloadTooLarge().body("too large"),
                _ => {
                    counter.count();
                    HttpResponse::Ok().body("smuggled")
                }
            };
            async move { response }
        };
        App::new().wrap(cache.clone()).default_service(web::to(handler))
    });
    for (request, status) in [
        ("DELETE /page HTTP/1.1", 204),
        ("PUT /refused HTTP/1.1", 413),
        ("GET /page HTTP/1.1\r\nCache-Control: only-if-cached", 200),
    ] {
        for (case, framing) in [("sized", &sized), ("chunked", &chunked)] {
            let purge =
                (status == 204).then(|| store.hold_next(StoreEvent::Begins(StoreCall::Remove)));
            let mut wire = Wire::open(server.addr);
            let mut writer = wire.writer();
            let upload = format!("{request}\r\nHost: t\r\n{framing}");
            // The server may close the connection instead of reading the body.
            let upload = thread::spawn(move || drop(writer.write_all(upload.as_bytes())));
            if let Some(purge) = purge {
                purge.reached().await;
                purge.release();
            }
            if let Some(answer) = wire.receive_or_end() {
                answered.count();
                assert_eq!(answer.status, status, "{case} {request}: {}", answer.head);
            }
            upload.join().unwrap();
            wire.send_anyway("GET /page HTTP/1.1\r\nHost: t\r\n\r\n");
            if let Some(next) = wire.receive_or_end() {
                assert_eq!(
                    (next.status, next.text()),
                    (200, "page"),
                    "{case} {request}: {}",
                    next.head
                );
            }
            assert_eq!(smuggled.get(), 0, "{case} {request}");
            let other = Wire::open(server.addr).get("/page", "");
            assert_eq!((other.status, other.text()), (200, "page"), "{case} {request}");
        }
    }
    assert!(answered.get() > 0);
}
