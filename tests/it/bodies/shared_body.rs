//! A body that several clients read while it is produced: each client gets every chunk at its own
//! speed, and no client depends on another.

use std::net::SocketAddr;

use actix_web_cache::{MemoryStore, Policy};
use futures_util::future::{join_all, try_join_all};
use http_body_util::BodyExt as _;
use hyper::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    bodies::fill_server::{FillServer, fill_server, fill_server_over, next_chunk},
    support::{Protocol, SETUPS, secs, wait_until},
};

#[actix_web::test]
async fn each_chunk_reaches_all_clients_before_the_next_is_produced() {
    for (protocol, workers) in SETUPS {
        for length in [12, 4_000_000] {
            let mut server =
                fill_server(workers, Some(length), Policy::new().max_body_size(4_000_000));
            let clients: Vec<_> = (0..20).map(|_| server.client(protocol)).collect();
            let start = clients.iter().map(|client| client.start(Method::GET, "/", &[], ""));
            let begin = async {
                wait_until("all requests have arrived", || server.arrived.get() == 20).await;
                server.sender().await
            };
            let (responses, sender) = tokio::join!(try_join_all(start), begin);
            let mut bodies: Vec<_> =
                responses.unwrap().into_iter().map(hyper::Response::into_body).collect();
            // Each part is sent when all clients have the one before.
            let part = vec![b'x'; usize::try_from(length).unwrap() / 4];
            for _ in 0..3 {
                assert!(sender.send(part.clone()).await);
                let read = bodies.iter_mut().map(|body| async {
                    let mut read = 0;
                    while read < part.len() {
                        read += next_chunk(body).await.len();
                    }
                });
                join_all(read).await;
            }
            // A client that comes later gets all previous chunks at once.
            let late = server.client(protocol);
            let mut late = late.start(Method::GET, "/", &[], "").await.unwrap().into_body();
            let mut previous = Vec::new();
            while previous.len() < 3 * part.len() {
                previous.extend_from_slice(&next_chunk(&mut late).await);
            }
            bodies.push(late);
            // The end comes with the last chunk. Then the body is stored before the chunk leaves,
            // so that the next request is a hit.
            assert!(sender.finish(part.clone()).await);
            for body in bodies {
                assert_eq!(body.collect().await.unwrap().to_bytes(), part, "{protocol:?}");
            }
            assert_eq!(server.runs.get(), 1, "{protocol:?} by {workers}");
            let hit = server.client(protocol).get("/").await;
            assert!(hit.is_hit() && hit.body.len() as u64 == length);
            server.fills_ended().await;
        }
    }
}

#[actix_web::test]
async fn follower_of_an_open_body_gets_the_same_fields_as_a_hit() {
    let mut server = fill_server(2, Some(4), Policy::new());
    let fields = [("want-etag", "\"a\""), ("want-x-own", "1")];
    let (leader, follower) = (server.client(Protocol::Http1), server.client(Protocol::Http1));
    let (leader, sender) = server.begin(&leader, "/", &fields).await;
    let not_modified = follower.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((not_modified.status.as_u16(), not_modified.body.len()), (304, 0));
    let collapsed = follower.start(Method::GET, "/", &[], "").await.unwrap();
    assert!(sender.finish("body").await);
    let hit = {
        leader.into_body().collect().await.unwrap();
        let client = server.client(Protocol::Http1);
        client.start(Method::GET, "/", &[], "").await.unwrap()
    };
    for name in ["etag", "x-own", "content-length", "cache-control", "expires", "date", "age"] {
        assert_eq!(collapsed.headers().get(name), hit.headers().get(name), "{name}");
        assert!(hit.headers().contains_key(name), "{name}");
    }
    for (response, want) in [(collapsed, "fwd=uri-miss; collapsed"), (hit, "hit; ttl=")] {
        let cache_status = response.headers().get("cache-status").unwrap().to_str().unwrap();
        assert!(cache_status.contains(want), "{cache_status}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
    }
}

/// Sends a request on a connection with a small receive buffer.
async fn raw_request(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let mut stream = socket.connect(addr).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[actix_web::test]
async fn client_that_does_not_read_delays_no_other_client() {
    // More than the operating system buffers for a client that does not read.
    const LENGTH: usize = 8 * 1024 * 1024;
    const PIECE: usize = 64 * 1024;
    for length in [Some(LENGTH as u64), None] {
        let store = MemoryStore::new(16 * LENGTH);
        let mut server = fill_server_over(&store, 4, length, Policy::new().max_body_size(LENGTH));
        let mut stalled = raw_request(server.server.addr).await;
        server.ran(1).await;
        let followers = server.followers(Protocol::Http1, 50).await;
        let sender = server.sender().await;
        for n in 0..LENGTH / PIECE {
            let piece = vec![n.to_le_bytes()[0]; PIECE];
            assert!(
                timeout(secs(20), sender.send(piece)).await.expect("the server reads on"),
                "{length:?}"
            );
        }
        drop(sender);
        let want: Vec<_> = (0..LENGTH).map(|at| (at / PIECE).to_le_bytes()[0]).collect();
        for answer in followers {
            assert!(answer.await.unwrap().body == want, "{length:?}");
        }
        wait_until("the fill has ended", || server.coordinator.open_fills() == 0).await;
        assert_eq!(server.runs.get(), 1, "{length:?}");
        // The stalled client gets the complete response when it reads.
        let mut message = Vec::new();
        timeout(secs(20), stalled.read_to_end(&mut message)).await.unwrap().unwrap();
        let body = message.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        match length {
            Some(_) => assert!(message[body..] == want),
            None => assert!(message.len() > LENGTH && message.ends_with(b"0\r\n\r\n")),
        }
        server.fills_ended().await;
    }
}

/// The ways in which a client can disconnect.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Disconnect {
    Close,
    Reset,
    /// Resets a stream of HTTP/2.
    ResetStream,
}

/// A client that is going to disconnect.
enum DisconnectingClient {
    Connection(TcpStream),
    Stream(JoinHandle<()>),
}

impl DisconnectingClient {
    /// Sends a request.
    async fn start(server: &FillServer, how: Disconnect) -> Self {
        if how == Disconnect::ResetStream {
            let client = server.client(Protocol::Http2);
            return Self::Stream(tokio::task::spawn_local(async move {
                // The task is aborted before the end of the body.
                let mut body = client.start(Method::GET, "/", &[], "").await.unwrap().into_body();
                while body.frame().await.is_some() {}
            }));
        }
        let stream = raw_request(server.server.addr).await;
        if how == Disconnect::Reset {
            stream.set_zero_linger().unwrap();
        }
        Self::Connection(stream)
    }

    async fn disconnect(self) {
        match self {
            Self::Connection(stream) => drop(stream),
            Self::Stream(task) => {
                task.abort();
                drop(task.await);
            }
        }
    }
}

#[actix_web::test]
async fn followers_get_the_complete_body_when_the_leader_disconnects_at_any_time() {
    const CHUNKS: usize = 5;
    let body = "chunk".repeat(CHUNKS);
    for how in [Disconnect::Close, Disconnect::Reset, Disconnect::ResetStream] {
        for length in [Some(body.len() as u64), None] {
            // Step 0 is before the head, step 1 after it, and the others are after a chunk each.
            for step in 0..CHUNKS + 2 {
                let case = format!("{how:?}, {length:?} bytes, step {step}");
                let mut server = fill_server(2, length, Policy::new());
                let mut leader = Some(DisconnectingClient::start(&server, how).await);
                server.ran(1).await;
                let followers = server.followers(Protocol::Http1, 5).await;
                if step == 0 {
                    leader.take().unwrap().disconnect().await;
                    if how == Disconnect::Reset {
                        // actix drops the handler's future then, so a follower becomes the leader.
                        wait_until("the first run is dropped", || server.dropped.get() == 1).await;
                        server.ran(2).await;
                    }
                }
                let sender = server.sender().await;
                for sent in 0..=CHUNKS {
                    if sent + 1 == step {
                        leader.take().unwrap().disconnect().await;
                    }
                    if sent < CHUNKS {
                        assert!(sender.send("chunk").await, "{case}");
                    }
                }
                drop(sender);
                for answer in followers {
                    let answer = timeout(secs(20), answer).await.unwrap().unwrap();
                    assert_eq!(answer.text(), body, "{case}");
                }
                server.fills_ended().await;
                let hit = server.client(Protocol::Http1).get("/").await;
                assert_eq!((hit.is_hit(), hit.text()), (true, &*body), "{case}");
                assert!(server.runs.get() <= 2, "{case}: {}", server.runs.get());
            }
        }
    }
}

#[actix_web::test]
async fn truncated_sized_body_is_an_error_for_all_clients() {
    for (protocol, workers) in SETUPS {
        for fails in [true, false] {
            let case = format!("fails: {fails}, {protocol:?}");
            let mut server = fill_server(workers, Some(10), Policy::new());
            let clients: Vec<_> = (0..3).map(|_| server.client(protocol)).collect();
            let start = clients.iter().map(|client| client.start(Method::GET, "/", &[], ""));
            let (responses, sender) = tokio::join!(try_join_all(start), server.sender());
            let responses = responses.unwrap();
            assert!(sender.send("half").await);
            if fails {
                sender.fail().await;
            } else {
                drop(sender);
            }
            for response in responses {
                let end = timeout(secs(20), response.into_body().collect()).await.unwrap();
                assert!(end.is_err(), "{case}");
            }
            server.fills_ended().await;
            let next = server.client(protocol);
            let next = tokio::task::spawn_local(async move { next.get("/").await });
            let sender = server.sender().await;
            assert!(sender.send("0123456789").await);
            drop(sender);
            let next = next.await.unwrap();
            assert_eq!((next.text(), next.is_stored()), ("0123456789", true), "{case}");
        }
    }
}

#[actix_web::test]
async fn followers_run_the_handler_when_a_streamed_body_fails() {
    for (protocol, workers) in SETUPS {
        let mut server = fill_server(workers, None, Policy::new());
        let leader = server.client(protocol);
        let leader = tokio::task::spawn_local(async move {
            leader.send_body(Method::GET, "/", &[], "").await.map_err(drop)
        });
        server.ran(1).await;
        let followers = server.followers(protocol, 2).await;
        let sender = server.sender().await;
        assert!(sender.send("half").await);
        sender.fail().await;
        assert!(leader.await.unwrap().is_err(), "{protocol:?}");
        server.gate.add_permits(2);
        for _ in 0..2 {
            let sender = server.next_feed().await;
            assert!(sender.send("complete").await);
        }
        for follower in followers {
            assert_eq!(follower.await.unwrap().text(), "complete", "{protocol:?}");
        }
        server.fills_ended().await;
    }
}
