//! Incomplete bodies are never stored: bodies of the wrong length, with errors or panics, and those
//! whose client disconnects.

use std::{
    future::ready,
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    panic::resume_unwind,
};

use actix_web::{
    App, HttpRequest, HttpResponse,
    body::{BodyStream, SizedStream},
    middleware::Compress,
    web,
};
use actix_web_cache::{Cache, store::Store as _};
use bytes::Bytes;
use futures_util::stream;
use hyper::Method;

use crate::support::{
    Answer, Client, Counter, Protocol, SETUPS, fills_ended, manual_bodies, serve, store,
};

/// One chunk of a body, or a failure in its place.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Chunk(&'static str),
    Error,
    Panic,
}

use Piece::{Chunk, Error, Panic};

/// How the length of a body is declared.
#[derive(Debug, Clone, Copy)]
enum Length {
    Undeclared,
    ByBody(u64),
    /// By the `Content-Length` field, as proxying handlers do.
    ByHead(u64),
}

use Length::{ByBody, ByHead, Undeclared};

/// Case name, declared length, and chunks.
type Incomplete = (&'static str, Length, &'static [Piece]);

const INCOMPLETE: [Incomplete; 15] = [
    ("short", ByBody(10), &[Chunk("hello")]),
    ("empty", ByBody(10), &[]),
    ("long in one chunk", ByBody(5), &[Chunk("hello world")]),
    ("long in two chunks", ByBody(5), &[Chunk("hello"), Chunk(" world")]),
    ("long, with an error at the end", ByBody(5), &[Chunk("hello"), Chunk(" "), Error]),
    ("an error", Undeclared, &[Chunk("hello"), Error]),
    ("an error at once", Undeclared, &[Error]),
    ("an error within the declared length", ByBody(10), &[Chunk("hello"), Error]),
    ("an error at the declared end", ByBody(5), &[Chunk("hello"), Error]),
    ("a panic", Undeclared, &[Chunk("hello"), Panic]),
    ("a panic within the declared length", ByBody(10), &[Chunk("hello"), Panic]),
    ("a panic at the declared end", ByBody(5), &[Chunk("hello"), Panic]),
    ("shorter than Content-Length", ByHead(10), &[Chunk("hello")]),
    ("longer than Content-Length in two chunks", ByHead(5), &[Chunk("hello"), Chunk(" world")]),
    ("longer than Content-Length in one chunk", ByHead(5), &[Chunk("hello world")]),
];

fn respond(&(_, length, pieces): &Incomplete) -> HttpResponse {
    let pieces = pieces.iter().map(|piece| match piece {
        Chunk(text) => Ok(Bytes::from_static(text.as_bytes())),
        Error => Err(io::Error::other("on purpose")),
        // A panic without a message on stderr.
        Panic => resume_unwind(Box::new("on purpose")),
    });
    let pieces = stream::iter(pieces);
    match length {
        ByBody(length) => HttpResponse::Ok().body(SizedStream::new(length, pieces)),
        ByHead(length) => HttpResponse::Ok().no_chunking(length).body(BodyStream::new(pieces)),
        Undeclared => HttpResponse::Ok().streaming(pieces),
    }
}

/// A cache must not serve an incomplete response as complete (RFC 9111 section 3.3).
#[actix_web::test]
async fn incomplete_or_failed_body_is_never_stored() {
    for (protocol, workers) in SETUPS {
        for (index, incomplete) in INCOMPLETE.iter().enumerate() {
            let store = store();
            let cache = Cache::new(store.clone());
            let runs = Counter::default();
            let server = serve(workers, move || {
                let runs = runs.clone();
                App::new().wrap(cache.clone()).default_service(web::to(move || {
                    ready(match runs.count() {
                        1 => respond(&INCOMPLETE[index]),
                        run => HttpResponse::Ok().body(format!("complete, run {run}")),
                    })
                }))
            });
            let case = format!("{} by {protocol:?} with {workers} workers", incomplete.0);
            // The first client's result does not matter. `close` keeps it from waiting for missing
            // bytes.
            let close: &[_] = match protocol {
                Protocol::Http1 => &[("connection", "close")],
                Protocol::Http2 => &[],
            };
            let client = Client::new(server.addr, protocol);
            drop(client.send_body(Method::GET, "/", close, "").await);
            fills_ended(store.coordinator()).await;
            let client = Client::new(server.addr, protocol);
            let next = client.get("/").await;
            assert_eq!((next.text(), next.is_stored()), ("complete, run 2", true), "{case}");
            let hit = client.get("/").await;
            assert_eq!((hit.text(), hit.is_hit()), ("complete, run 2", true), "{case}");
        }
    }
}

/// How a client disconnects while the body is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disconnect {
    /// It reads all received bytes and closes its connection.
    Closes,
    /// It closes its connection with unread bytes, which resets the connection.
    Resets,
    /// It cancels the stream and keeps the connection.
    Cancels,
}

const GZIP: [(&str, &str); 1] = [("accept-encoding", "gzip")];

/// Returns whether a body is this text, encoded if `gzip` is set.
fn is_text(answer: &Answer, text: &str, gzip: bool) -> bool {
    if !gzip {
        return answer.text() == text;
    }
    // The last four bytes are the decoded length (RFC 1952 section 2.3.1).
    let length = u32::try_from(text.len()).unwrap().to_le_bytes();
    answer.field("content-encoding").as_deref() == Some("gzip")
        && answer.body.starts_with(&[0x1f, 0x8b])
        && answer.body.ends_with(&length)
}

/// Requests `/`, waits until the first chunk is sent, and disconnects.
async fn disconnect(
    addr: SocketAddr,
    protocol: Protocol,
    how: Disconnect,
    first_chunk: impl Future,
) {
    if how == Disconnect::Resets {
        let mut stream = TcpStream::connect(addr).unwrap();
        let host = addr.to_string();
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nAccept-Encoding: gzip\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        first_chunk.await;
        // Peeking waits for the bytes without reading them.
        stream.peek(&mut [0]).unwrap();
        return;
    }
    let client = Client::new(addr, protocol);
    let (response, _) = tokio::join!(client.start(Method::GET, "/", &GZIP, ""), first_chunk);
    let mut body = response.unwrap().into_body();
    http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
    drop(body);
    if how == Disconnect::Cancels {
        assert_eq!(client.get("/other").await.text(), "complete");
    }
}

#[actix_web::test]
async fn body_left_incomplete_after_a_disconnect_is_not_stored() {
    let disconnects = [
        (Protocol::Http1, Disconnect::Closes),
        (Protocol::Http1, Disconnect::Resets),
        (Protocol::Http2, Disconnect::Closes),
        (Protocol::Http2, Disconnect::Cancels),
    ];
    for (protocol, how) in disconnects {
        for (workers, length) in [(1, None), (1, Some(1 << 20)), (4, None), (4, Some(1 << 20))] {
            let case = format!("{protocol:?} {how:?}, {length:?} bytes, {workers} workers");
            let store = store();
            let cache = Cache::new(store.clone());
            let runs = Counter::default();
            let (handlers, mut bodies) = manual_bodies();
            let server = serve(workers, move || {
                let (bodies, runs) = (handlers.clone(), runs.clone());
                App::new().wrap(cache.clone()).default_service(web::to(
                    move |request: HttpRequest| {
                        let from_feed = request.path() == "/" && runs.count() == 1;
                        ready(if from_feed {
                            bodies.response(length)
                        } else {
                            HttpResponse::Ok().body("complete")
                        })
                    },
                ))
            });
            let mut sender = None;
            let first_chunk = async {
                let opened = bodies.recv().await.unwrap();
                assert!(opened.send("some").await, "{case}");
                sender = Some(opened);
            };
            disconnect(server.addr, protocol, how, first_chunk).await;
            let sender = sender.unwrap();
            if length.is_none() {
                // The server notices the disconnect at once, or with one of the next writes.
                while sender.send(".").await {}
                sender.closed().await;
            } else {
                // The cache reads on, and the body ends before its declared length.
                assert!(sender.send(".").await, "{case}");
                drop(sender);
            }
            fills_ended(store.coordinator()).await;
            let client = Client::new(server.addr, protocol);
            let next = client.get("/").await;
            assert_eq!((next.text(), next.is_stored()), ("complete", true), "{case}");
            assert!(client.get("/").await.is_hit(), "{case}");
        }
    }
}

/// `Compress` inside of the cache hides the length of the body, so that only its end says whether it
/// is complete.
#[actix_web::test]
async fn encoded_body_left_incomplete_after_a_disconnect_is_not_stored() {
    for (protocol, how) in [
        (Protocol::Http1, Disconnect::Closes),
        (Protocol::Http1, Disconnect::Resets),
        (Protocol::Http2, Disconnect::Closes),
        (Protocol::Http2, Disconnect::Cancels),
    ] {
        for (length, chunks) in [(None, 1), (Some(1 << 20), 1), (None, 3), (Some(1 << 20), 3)] {
            let case = format!("{protocol:?} {how:?}, {length:?} bytes, after {chunks} chunks");
            let (store, runs) = (store(), Counter::default());
            let cache = Cache::new(store.clone());
            let (handlers, mut bodies) = manual_bodies();
            let server = serve(1, move || {
                let (bodies, runs) = (handlers.clone(), runs.clone());
                let handler = move |request: HttpRequest| {
                    let is_manual = request.path() == "/" && runs.count() == 1;
                    ready(if is_manual {
                        bodies.response(length)
                    } else {
                        HttpResponse::Ok().body("complete")
                    })
                };
                App::new()
                    .wrap(Compress::default())
                    .wrap(cache.clone())
                    .default_service(web::to(handler))
            });
            let mut sender = None;
            let sent = async {
                let opened = bodies.recv().await.unwrap();
                for _ in 0..chunks {
                    assert!(opened.send("some text").await, "{case}");
                }
                sender = Some(opened);
            };
            disconnect(server.addr, protocol, how, sent).await;
            let sender = sender.unwrap();
            while sender.send(".").await {}
            sender.closed().await;
            fills_ended(store.coordinator()).await;
            for gzip in [true, false] {
                let fields = if gzip { &GZIP[..] } else { &[] };
                let client = Client::new(server.addr, protocol);
                for is_hit in [false, true] {
                    let next = client.get_with("/", fields).await;
                    assert!(is_text(&next, "complete", gzip), "{case}: {next:?}");
                    assert_eq!(next.is_hit(), is_hit, "{case}");
                }
            }
        }
    }
}

/// The encoder passes on the error of the handler's body.
#[actix_web::test]
async fn encoded_body_that_fails_is_never_stored() {
    let fails = |(_, _, pieces): &Incomplete| pieces.iter().any(|piece| !matches!(piece, Chunk(_)));
    for (protocol, workers) in SETUPS {
        for (index, incomplete) in INCOMPLETE.iter().enumerate().filter(|(_, case)| fails(case)) {
            let (store, runs) = (store(), Counter::default());
            let cache = Cache::new(store.clone());
            let server = serve(workers, move || {
                let runs = runs.clone();
                let handler = move || {
                    ready(match runs.count() {
                        1 => respond(&INCOMPLETE[index]),
                        _ => HttpResponse::Ok().body("complete"),
                    })
                };
                App::new()
                    .wrap(Compress::default())
                    .wrap(cache.clone())
                    .default_service(web::to(handler))
            });
            let case = format!("{} by {protocol:?}", incomplete.0);
            let client = Client::new(server.addr, protocol);
            let first = client.send_body(Method::GET, "/", &GZIP, "").await;
            assert!(first.is_err(), "{case}: {first:?}");
            fills_ended(store.coordinator()).await;
            let client = Client::new(server.addr, protocol);
            for is_hit in [false, true] {
                let next = client.get_with("/", &GZIP).await;
                assert!(is_text(&next, "complete", true), "{case}: {next:?}");
                assert_eq!(next.is_hit(), is_hit, "{case}");
            }
        }
    }
}
