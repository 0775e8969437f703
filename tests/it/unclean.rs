//! Bodies that do not end well: whoever was served one had bad luck, but nobody is served one
//! after that.

use std::{
    future::ready,
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    panic::resume_unwind,
};

use actix_web::{
    App, HttpRequest, HttpResponse,
    body::{BodyStream, SizedStream},
    web,
};
use actix_web_cache::{Cache, store::Store as _};
use bytes::Bytes;
use futures_util::stream;
use hyper::Method;

use crate::support::{Client, Counter, Protocol, SETUPS, feeds, serve, settled, store};

/// One piece of a body, or what comes instead of it.
#[derive(Debug, Clone, Copy)]
enum Piece {
    Chunk(&'static str),
    Error,
    Panic,
}

use Piece::{Chunk, Error, Panic};

/// Where the length of a body is declared.
#[derive(Debug, Clone, Copy)]
enum Length {
    Nowhere,
    ByBody(u64),
    /// As handlers do that pass on what another server sends.
    ByHead(u64),
}

use Length::{ByBody, ByHead, Nowhere};

/// Name, declared length, and what comes.
type Unclean = (&'static str, Length, &'static [Piece]);

const ENDS: [Unclean; 15] = [
    ("short", ByBody(10), &[Chunk("hello")]),
    ("nothing", ByBody(10), &[]),
    ("long in one chunk", ByBody(5), &[Chunk("hello world")]),
    ("long in two chunks", ByBody(5), &[Chunk("hello"), Chunk(" world")]),
    ("long, and ends by an error", ByBody(5), &[Chunk("hello"), Chunk(" "), Error]),
    ("an error", Nowhere, &[Chunk("hello"), Error]),
    ("an error at once", Nowhere, &[Error]),
    ("an error within the declared length", ByBody(10), &[Chunk("hello"), Error]),
    ("an error at the declared end", ByBody(5), &[Chunk("hello"), Error]),
    ("a panic", Nowhere, &[Chunk("hello"), Panic]),
    ("a panic within the declared length", ByBody(10), &[Chunk("hello"), Panic]),
    ("a panic at the declared end", ByBody(5), &[Chunk("hello"), Panic]),
    ("short of what the head says", ByHead(10), &[Chunk("hello")]),
    ("longer than the head says", ByHead(5), &[Chunk("hello"), Chunk(" world")]),
    ("longer by one chunk than the head says", ByHead(5), &[Chunk("hello world")]),
];

fn unclean(&(_, length, pieces): &Unclean) -> HttpResponse {
    let pieces = pieces.iter().map(|piece| match piece {
        Chunk(text) => Ok(Bytes::from_static(text.as_bytes())),
        Error => Err(io::Error::other("on purpose")),
        // As a panic, but silent.
        Panic => resume_unwind(Box::new("on purpose")),
    });
    let pieces = stream::iter(pieces);
    match length {
        ByBody(length) => HttpResponse::Ok().body(SizedStream::new(length, pieces)),
        ByHead(length) => HttpResponse::Ok().no_chunking(length).body(BodyStream::new(pieces)),
        Nowhere => HttpResponse::Ok().streaming(pieces),
    }
}

#[actix_web::test]
async fn a_body_that_does_not_end_where_it_should_is_never_stored() {
    for (protocol, workers) in SETUPS {
        for (index, end) in ENDS.iter().enumerate() {
            let store = store();
            let cache = Cache::new(store.clone());
            let runs = Counter::default();
            let server = serve(workers, move || {
                let runs = runs.clone();
                App::new().wrap(cache.clone()).default_service(web::to(move || {
                    ready(match runs.count() {
                        1 => unclean(&ENDS[index]),
                        run => HttpResponse::Ok().body(format!("whole, run {run}")),
                    })
                }))
            });
            let case = format!("{} by {protocol:?} with {workers} workers", end.0);
            // Whatever this client makes of it; it would wait for what is missing.
            let close: &[_] = match protocol {
                Protocol::Http1 => &[("connection", "close")],
                Protocol::Http2 => &[],
            };
            let client = Client::new(server.addr, protocol);
            drop(client.send_body(Method::GET, "/", close, "").await);
            settled(store.coordinator()).await;
            let client = Client::new(server.addr, protocol);
            let next = client.get("/").await;
            assert_eq!((next.text(), next.is_stored()), ("whole, run 2", true), "{case}");
            let hit = client.get("/").await;
            assert_eq!((hit.text(), hit.is_hit()), ("whole, run 2", true), "{case}");
        }
    }
}

/// How a client leaves while its body is on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaves {
    /// It closes its connection, having read what there was.
    Closes,
    /// It closes with something unread, which resets the connection.
    Resets,
    /// It wants no more of this body, and keeps the connection.
    Cancels,
}

/// Asks for `/`, sees the first chunk sent and leaves.
async fn leave(addr: SocketAddr, protocol: Protocol, how: Leaves, first_chunk: impl Future) {
    if how == Leaves::Resets {
        let mut stream = TcpStream::connect(addr).unwrap();
        let host = addr.to_string();
        stream.write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        first_chunk.await;
        // Readable, but not read.
        stream.peek(&mut [0]).unwrap();
        return;
    }
    let client = Client::new(addr, protocol);
    let (response, _) = tokio::join!(client.start(Method::GET, "/", &[], ""), first_chunk);
    let mut body = response.unwrap().into_body();
    http_body_util::BodyExt::frame(&mut body).await.unwrap().unwrap();
    drop(body);
    if how == Leaves::Cancels {
        assert_eq!(client.get("/other").await.text(), "whole");
    }
}

#[actix_web::test]
async fn a_body_whose_client_leaves_and_that_does_not_end_is_not_stored() {
    let ways = [
        (Protocol::Http1, Leaves::Closes),
        (Protocol::Http1, Leaves::Resets),
        (Protocol::Http2, Leaves::Closes),
        (Protocol::Http2, Leaves::Cancels),
    ];
    for (protocol, how) in ways {
        for (workers, length) in [(1, None), (1, Some(1 << 20)), (4, None), (4, Some(1 << 20))] {
            let case = format!("{protocol:?} {how:?}, {length:?} bytes, {workers} workers");
            let store = store();
            let cache = Cache::new(store.clone());
            let runs = Counter::default();
            let (handlers, mut feeds) = feeds();
            let server = serve(workers, move || {
                let (feeds, runs) = (handlers.clone(), runs.clone());
                App::new().wrap(cache.clone()).default_service(web::to(
                    move |request: HttpRequest| {
                        let fed = request.path() == "/" && runs.count() == 1;
                        ready(if fed {
                            feeds.response(length)
                        } else {
                            HttpResponse::Ok().body("whole")
                        })
                    },
                ))
            });
            let mut feed = None;
            let first_chunk = async {
                let opened = feeds.recv().await.unwrap();
                assert!(opened.send("some").await, "{case}");
                feed = Some(opened);
            };
            leave(server.addr, protocol, how, first_chunk).await;
            let feed = feed.unwrap();
            if length.is_none() {
                // The server notices at once, or by one of the next writes.
                while feed.send(".").await {}
                feed.closed().await;
            } else {
                // It is read on, and ends before its time.
                assert!(feed.send(".").await, "{case}");
                drop(feed);
            }
            settled(store.coordinator()).await;
            let client = Client::new(server.addr, protocol);
            let next = client.get("/").await;
            assert_eq!((next.text(), next.is_stored()), ("whole", true), "{case}");
            assert!(client.get("/").await.is_hit(), "{case}");
        }
    }
}
