//! Large bodies take little memory, and are produced no faster than their client reads.

use std::{future::ready, io, net::SocketAddr};

use actix_web::{App, HttpRequest, HttpResponse, body::SizedStream, web};
use actix_web_cache::{Cache, store::Store as _};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt as _;
use hyper::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::support::{
    Client, Counter, Protocol, Server, Wire, fills_ended, peak_resident_bytes, runs_in_own_process,
    serve, store,
};

const MIB: usize = 1024 * 1024;
const PIECE: usize = 64 * 1024;
const LENGTH: usize = 100 * MIB;

/// Serves 100 MiB at `/declared` and `/undeclared`, 8 MiB at their `/warm`, and a small body
/// elsewhere.
fn serve_large(cache: Cache, produced: Counter) -> Server {
    serve(1, move || {
        let produced = produced.clone();
        App::new().wrap(cache.clone()).default_service(web::to(move |request: HttpRequest| {
            let length = if request.path().ends_with("/warm") { 8 * MIB } else { LENGTH };
            let produced = produced.clone();
            // Each piece has its own allocation, so that memory use grows if pieces are retained.
            let pieces = (0..length / PIECE).map(move |n| {
                produced.count();
                Ok::<_, io::Error>(Bytes::from(vec![u8::try_from(n % 251).unwrap(); PIECE]))
            });
            let pieces = stream::iter(pieces);
            ready(match request.path().split('/').nth(1).unwrap() {
                "declared" => HttpResponse::Ok().body(SizedStream::new(length as u64, pieces)),
                "undeclared" => HttpResponse::Ok().streaming(pieces),
                _ => HttpResponse::Ok().body("small"),
            })
        }))
    })
}

/// Reads a body to its end, and returns its length.
async fn length_of(client: &Client, path: &str) -> usize {
    let mut body = client.start(Method::GET, path, &[], "").await.unwrap().into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().unwrap().len();
    }
    length
}

#[actix_web::test]
async fn body_of_100_mib_takes_at_most_8_mib_of_memory() {
    if !runs_in_own_process("bodies::backpressure::body_of_100_mib_takes_at_most_8_mib_of_memory") {
        return;
    }
    let store = store();
    let server = serve_large(Cache::new(store.clone()), Counter::default());
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = Client::new(server.addr, protocol);
        for path in ["/declared", "/undeclared"] {
            assert_eq!(length_of(&client, &format!("{path}/warm")).await, 8 * MIB);
            let before = peak_resident_bytes();
            assert_eq!(length_of(&client, path).await, LENGTH, "{path} by {protocol:?}");
            let grown = peak_resident_bytes().saturating_sub(before);
            assert!(grown <= 8 * MIB, "{grown} bytes for {path} by {protocol:?}");
            assert!(!client.get("/small").await.text().is_empty());
        }
    }
    let mut slow = request(server.addr, "/undeclared").await;
    let (before, mut read, mut piece) = (peak_resident_bytes(), 0, vec![0; 16 * 1024]);
    while read < LENGTH {
        read += read_some(&mut slow, &mut piece).await;
    }
    let grown = peak_resident_bytes().saturating_sub(before);
    assert!(grown <= 8 * MIB, "{grown} bytes for a slow client");
    fills_ended(store.coordinator()).await;
}

/// Sends a request on a connection with a small receive buffer.
async fn request(addr: SocketAddr, path: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let mut stream = socket.connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[actix_web::test]
async fn handler_is_polled_no_faster_than_a_slow_client_reads() {
    // More than the operating system buffers: the server's send buffer, which is limited to 4 MiB
    // on most machines, and the client's receive buffer.
    const SOCKET_BUFFERS: usize = 12 * MIB;
    for path in ["/declared", "/undeclared"] {
        let (store, produced) = (store(), Counter::default());
        let server = serve_large(Cache::new(store.clone()), produced.clone());
        let mut slow = request(server.addr, path).await;
        let (mut read, mut piece) = (0, vec![0; 16 * 1024]);
        let mut other = Wire::open(server.addr);
        while read < 3 * MIB {
            read += read_some(&mut slow, &mut piece).await;
            // Other requests to the same worker must not drive the body forward.
            for _ in 0..10 {
                assert_eq!(other.get("/small", "").text(), "small");
            }
            let ahead = produced.get() * PIECE - read.min(produced.get() * PIECE);
            assert!(ahead <= SOCKET_BUFFERS, "{path}: {ahead} bytes ahead of {read}");
        }
        // The fill ended at the size limit, long before the end of the body.
        fills_ended(store.coordinator()).await;
        assert!(produced.get() * PIECE < LENGTH, "{path}");
        drop(slow);
    }
}

async fn read_some(stream: &mut TcpStream, piece: &mut [u8]) -> usize {
    let read = stream.read(piece).await.unwrap();
    assert!(read > 0, "the connection was closed");
    read
}
