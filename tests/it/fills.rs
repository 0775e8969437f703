//! One body, many readers: each has it as it comes, at its own pace, and none depends on another.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{App, dev::Service as _, web};
use actix_web_cache::{
    Cache, MemoryStore, Policy,
    store::{Coordinator, Store as _},
};
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use http_body_util::BodyExt as _;
use hyper::{Method, body::Incoming};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    sync::{Semaphore, mpsc::UnboundedReceiver},
    task::JoinHandle,
    time::timeout,
};

use crate::support::{
    Answer, Client, Counter, Feed, Protocol, SETUPS, Server, eventually, feeds, secs, serve,
    settled, store,
};

/// A handler that answers at once, or when it is let, with bodies that the test sends.
struct Stage {
    server: Server,
    feeds: UnboundedReceiver<Feed>,
    /// Requests that have come to the cache.
    arrived: Counter,
    runs: Counter,
    /// Runs that were dropped before they answered.
    dropped: Counter,
    /// One permit lets one run answer.
    gate: Arc<Semaphore>,
    coordinator: Coordinator,
}

/// Notes that it was dropped before its time.
struct Unless(Option<Counter>);

impl Unless {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Unless {
    fn drop(&mut self) {
        if let Some(counter) = &self.0 {
            counter.count();
        }
    }
}

fn stage(workers: usize, length: Option<u64>, policy: Policy) -> Stage {
    stage_over(&store(), workers, length, policy)
}

fn stage_over(store: &MemoryStore, workers: usize, length: Option<u64>, policy: Policy) -> Stage {
    let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
    let (handlers, feeds) = feeds();
    let (arrived, runs, dropped) = (Counter::default(), Counter::default(), Counter::default());
    let gate = Arc::new(Semaphore::new(0));
    let shared = (handlers, arrived.clone(), runs.clone(), dropped.clone(), Arc::clone(&gate));
    let server = serve(workers, move || {
        let (handlers, arrived, runs, dropped, gate) = shared.clone();
        let handler = move |request: actix_web::HttpRequest| {
            let (handlers, gate) = (handlers.clone(), Arc::clone(&gate));
            let unless = Unless(Some(dropped.clone()));
            runs.count();
            async move {
                gate.acquire().await.unwrap().forget();
                unless.answered();
                let mut response = handlers.response(length);
                for (name, value) in request.headers() {
                    if let Some(name) = name.as_str().strip_prefix("want-") {
                        let name: actix_web::http::header::HeaderName = name.parse().unwrap();
                        response.headers_mut().insert(name, value.clone());
                    }
                }
                response
            }
        };
        App::new().default_service(web::to(handler)).wrap(cache.clone()).wrap_fn(
            move |request, inner| {
                arrived.count();
                inner.call(request)
            },
        )
    });
    let coordinator = store.coordinator().clone();
    Stage { server, feeds, arrived, runs, dropped, gate, coordinator }
}

impl Stage {
    fn client(&self, protocol: Protocol) -> Client {
        Client::new(self.server.addr, protocol)
    }

    /// Asks by so many clients, and waits until they have come to the cache.
    async fn followers(&self, protocol: Protocol, count: usize) -> Vec<JoinHandle<Answer>> {
        let before = self.arrived.get();
        let asked: Vec<_> = (0..count)
            .map(|_| {
                let client = self.client(protocol);
                tokio::task::spawn_local(async move { client.get("/").await })
            })
            .collect();
        eventually("all have come", || self.arrived.get() == before + count).await;
        asked
    }

    /// Lets one run answer, and takes its body.
    async fn feed(&mut self) -> Feed {
        self.gate.add_permits(1);
        timeout(secs(20), self.feeds.recv()).await.expect("a run answers").unwrap()
    }

    async fn ran(&self, runs: usize) {
        eventually("as many runs as are awaited", || self.runs.get() == runs).await;
    }

    async fn settled(&self) {
        settled(&self.coordinator).await;
        eventually("nobody waits", || self.coordinator.open_flights() == 0).await;
    }
}

async fn chunk(body: &mut Incoming) -> Bytes {
    let frame = timeout(secs(20), body.frame()).await.expect("a chunk comes");
    frame.expect("the body goes on").unwrap().into_data().unwrap()
}

#[actix_web::test]
async fn each_chunk_reaches_all_before_the_next_is_made() {
    for (protocol, workers) in SETUPS {
        for length in [12, 4_000_000] {
            let mut stage = stage(workers, Some(length), Policy::new().max_body_size(4_000_000));
            let clients: Vec<_> = (0..20).map(|_| stage.client(protocol)).collect();
            let start = clients.iter().map(|client| client.start(Method::GET, "/", &[], ""));
            let begin = async {
                eventually("all have come", || stage.arrived.get() == 20).await;
                stage.feed().await
            };
            let (answers, feed) = tokio::join!(try_join_all(start), begin);
            let mut bodies: Vec<_> =
                answers.unwrap().into_iter().map(hyper::Response::into_body).collect();
            // Small ones and large ones; the last is made when all have the one before.
            let part = vec![b'x'; usize::try_from(length).unwrap() / 4];
            for _ in 0..3 {
                assert!(feed.send(part.clone()).await);
                let read = bodies.iter_mut().map(|body| async {
                    let mut read = 0;
                    while read < part.len() {
                        read += chunk(body).await.len();
                    }
                });
                join_all(read).await;
            }
            // Who comes now has all there is at once.
            let late = stage.client(protocol);
            let mut late = late.start(Method::GET, "/", &[], "").await.unwrap().into_body();
            let mut first = Vec::new();
            while first.len() < 3 * part.len() {
                first.extend_from_slice(&chunk(&mut late).await);
            }
            bodies.push(late);
            assert!(feed.send(part.clone()).await);
            drop(feed);
            for body in bodies {
                assert_eq!(body.collect().await.unwrap().to_bytes(), part, "{protocol:?}");
            }
            assert_eq!(stage.runs.get(), 1, "{protocol:?} by {workers}");
            let hit = stage.client(protocol).get("/").await;
            assert!(hit.is_hit() && hit.body.len() as u64 == length);
            stage.settled().await;
        }
    }
}

#[actix_web::test]
async fn who_reads_along_is_told_what_a_hit_is_told() {
    let mut stage = stage(2, Some(4), Policy::new());
    let fields = [("want-etag", "\"a\""), ("want-x-own", "1")];
    let (leader, follower) = (stage.client(Protocol::Http1), stage.client(Protocol::Http1));
    stage.gate.add_permits(1);
    let leader = leader.start(Method::GET, "/", &fields, "");
    let (leader, feed) = tokio::join!(leader, stage.feeds.recv());
    let (leader, feed) = (leader.unwrap(), feed.unwrap());
    let has_it = follower.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((has_it.status.as_u16(), has_it.body.len()), (304, 0));
    let along = follower.start(Method::GET, "/", &[], "").await.unwrap();
    assert!(feed.send("body").await);
    drop(feed);
    let hit = {
        leader.into_body().collect().await.unwrap();
        let client = stage.client(Protocol::Http1);
        client.start(Method::GET, "/", &[], "").await.unwrap()
    };
    for name in ["etag", "x-own", "content-length", "cache-control", "expires", "date", "age"] {
        assert_eq!(along.headers().get(name), hit.headers().get(name), "{name}");
        assert!(hit.headers().contains_key(name), "{name}");
    }
    for (response, status) in [(along, "fwd=uri-miss; collapsed"), (hit, "hit; ttl=")] {
        let told = response.headers().get("cache-status").unwrap().to_str().unwrap();
        assert!(told.contains(status), "{told}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "body");
    }
}

/// Asks by a connection for which the system buffers little on the client's side.
async fn ask_by_hand(addr: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 * 1024).unwrap();
    let mut stream = socket.connect(addr).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[actix_web::test]
async fn a_client_that_reads_nothing_holds_nobody_up() {
    // More than the system takes on its way to a client that does not read.
    const LENGTH: usize = 8 * 1024 * 1024;
    const PIECE: usize = 64 * 1024;
    for length in [Some(LENGTH as u64), None] {
        let store = MemoryStore::new(16 * LENGTH);
        let mut stage = stage_over(&store, 4, length, Policy::new().max_body_size(LENGTH));
        let mut stalled = ask_by_hand(stage.server.addr).await;
        stage.ran(1).await;
        let followers = stage.followers(Protocol::Http1, 50).await;
        let feed = stage.feed().await;
        for n in 0..LENGTH / PIECE {
            let piece = vec![n.to_le_bytes()[0]; PIECE];
            assert!(timeout(secs(20), feed.send(piece)).await.expect("it is read"), "{length:?}");
        }
        drop(feed);
        let want: Vec<_> = (0..LENGTH).map(|at| (at / PIECE).to_le_bytes()[0]).collect();
        for answer in followers {
            assert!(answer.await.unwrap().body == want, "{length:?}");
        }
        stage.settled().await;
        assert_eq!(stage.runs.get(), 1, "{length:?}");
        // It has its own when it reads at last.
        let mut all = Vec::new();
        timeout(secs(20), stalled.read_to_end(&mut all)).await.unwrap().unwrap();
        let whole = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        match length {
            Some(_) => assert!(all[whole..] == want),
            None => assert!(all.len() > LENGTH && all.ends_with(b"0\r\n\r\n")),
        }
    }
}

/// How a client can leave.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaves {
    Closes,
    Resets,
    ResetsStream,
}

/// A client that is going to leave.
enum Leaver {
    Wire(TcpStream),
    Stream(JoinHandle<()>),
}

impl Leaver {
    async fn ask(stage: &Stage, how: Leaves) -> Self {
        if how == Leaves::ResetsStream {
            let client = stage.client(Protocol::Http2);
            return Self::Stream(tokio::task::spawn_local(async move {
                // Reads, but never to the end: it is aborted before.
                let mut body = client.start(Method::GET, "/", &[], "").await.unwrap().into_body();
                while body.frame().await.is_some() {}
            }));
        }
        let stream = ask_by_hand(stage.server.addr).await;
        if how == Leaves::Resets {
            stream.set_zero_linger().unwrap();
        }
        Self::Wire(stream)
    }

    async fn leave(self) {
        match self {
            Self::Wire(stream) => drop(stream),
            Self::Stream(task) => {
                task.abort();
                drop(task.await);
            }
        }
    }
}

#[actix_web::test]
async fn a_client_that_leaves_takes_nobody_with_it_at_any_moment() {
    const CHUNKS: usize = 5;
    let body = "chunk".repeat(CHUNKS);
    for how in [Leaves::Closes, Leaves::Resets, Leaves::ResetsStream] {
        for length in [Some(body.len() as u64), None] {
            // Before the head, after it, and after each chunk.
            for moment in 0..CHUNKS + 2 {
                let case = format!("{how:?}, {length:?} bytes, moment {moment}");
                let mut stage = stage(2, length, Policy::new());
                let mut leader = Some(Leaver::ask(&stage, how).await);
                stage.ran(1).await;
                let followers = stage.followers(Protocol::Http1, 5).await;
                if moment == 0 {
                    leader.take().unwrap().leave().await;
                    if how == Leaves::Resets {
                        // actix drops the handler then: another is asked.
                        eventually("the run is dropped", || stage.dropped.get() == 1).await;
                        stage.ran(2).await;
                    }
                }
                let feed = stage.feed().await;
                for sent in 0..=CHUNKS {
                    if sent + 1 == moment {
                        leader.take().unwrap().leave().await;
                    }
                    if sent < CHUNKS {
                        assert!(feed.send("chunk").await, "{case}");
                    }
                }
                drop(feed);
                for answer in followers {
                    let answer = timeout(secs(20), answer).await.unwrap().unwrap();
                    assert_eq!(answer.text(), body, "{case}");
                }
                stage.settled().await;
                let hit = stage.client(Protocol::Http1).get("/").await;
                assert_eq!((hit.is_hit(), hit.text()), (true, &*body), "{case}");
                assert!(stage.runs.get() <= 2, "{case}: {}", stage.runs.get());
            }
        }
    }
}

#[actix_web::test]
async fn a_declared_body_that_breaks_off_is_whole_for_nobody() {
    for (protocol, workers) in SETUPS {
        for fails in [true, false] {
            let case = format!("fails: {fails}, {protocol:?}");
            let mut stage = stage(workers, Some(10), Policy::new());
            let clients: Vec<_> = (0..3).map(|_| stage.client(protocol)).collect();
            let start = clients.iter().map(|client| client.start(Method::GET, "/", &[], ""));
            let (answers, feed) = tokio::join!(try_join_all(start), stage.feed());
            let (answers, feed) = (answers.unwrap(), feed);
            assert!(feed.send("half").await);
            if fails {
                feed.fail().await;
            } else {
                drop(feed);
            }
            for answer in answers {
                let end = timeout(secs(20), answer.into_body().collect()).await.unwrap();
                assert!(end.is_err(), "{case}");
            }
            stage.settled().await;
            let anew = stage.client(protocol);
            let anew = tokio::task::spawn_local(async move { anew.get("/").await });
            let feed = stage.feed().await;
            assert!(feed.send("0123456789").await);
            drop(feed);
            let anew = anew.await.unwrap();
            assert_eq!((anew.text(), anew.is_stored()), ("0123456789", true), "{case}");
        }
    }
}

#[actix_web::test]
async fn who_waits_for_the_end_of_a_body_that_breaks_off_asks_for_itself() {
    for (protocol, workers) in SETUPS {
        let mut stage = stage(workers, None, Policy::new());
        let leader = stage.client(protocol);
        let leader = tokio::task::spawn_local(async move {
            leader.send_body(Method::GET, "/", &[], "").await.map_err(drop)
        });
        stage.ran(1).await;
        let followers = stage.followers(protocol, 2).await;
        let feed = stage.feed().await;
        assert!(feed.send("half").await);
        feed.fail().await;
        assert!(leader.await.unwrap().is_err(), "{protocol:?}");
        stage.gate.add_permits(2);
        for _ in 0..2 {
            let feed = timeout(secs(20), stage.feeds.recv()).await.unwrap().unwrap();
            assert!(feed.send("whole").await);
        }
        for follower in followers {
            assert_eq!(follower.await.unwrap().text(), "whole", "{protocol:?}");
        }
        stage.settled().await;
    }
}

#[actix_web::test]
async fn a_body_that_outgrows_the_limit_is_its_clients_alone() {
    const PIECE: usize = 256 * 1024;
    let policy = || Policy::new().max_body_size(2 * PIECE);
    for (protocol, workers) in SETUPS {
        let mut stage = stage(workers, None, policy());
        let leader = stage.client(protocol);
        stage.gate.add_permits(1);
        let leader = leader.start(Method::GET, "/", &[], "");
        let (leader, feed) = tokio::join!(leader, stage.feeds.recv());
        let (mut body, feed) = (leader.unwrap().into_body(), feed.unwrap());
        let followers = stage.followers(protocol, 3).await;
        for _ in 0..3 {
            assert!(feed.send(vec![b'x'; PIECE]).await, "{protocol:?}");
        }
        // The others are told at once, and nobody waits for that again.
        stage.ran(4).await;
        let fifth = stage.followers(protocol, 1).await;
        stage.ran(5).await;
        stage.gate.add_permits(4);
        for _ in 0..4 {
            let feed = timeout(secs(20), stage.feeds.recv()).await.unwrap().unwrap();
            assert!(feed.send("small").await);
        }
        for answer in followers.into_iter().chain(fifth) {
            assert_eq!(answer.await.unwrap().text(), "small", "{protocol:?}");
        }
        // Its own client reads on, no faster than it likes.
        let mut read = 0;
        while read < 3 * PIECE {
            read += chunk(&mut body).await.len();
        }
        eventually("nothing of it is kept", || stage.coordinator.bytes_in_fills() == 0).await;
        assert!(feed.send("end").await);
        drop(feed);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "end", "{protocol:?}");
    }
}

#[actix_web::test]
async fn a_stream_that_never_ends_is_never_held_and_ends_with_its_client() {
    for (protocol, workers) in SETUPS {
        for fields in [&[("want-content-type", "text/event-stream; charset=utf-8")][..], &[]] {
            let mut stage =
                stage(workers, None, Policy::new().wait_limit(Duration::from_millis(50)));
            let mut open = Vec::new();
            for client in 1..=2 {
                let asks = stage.client(protocol);
                stage.gate.add_permits(1);
                let asked = asks.start(Method::GET, "/", fields, "");
                let (answer, feed) = tokio::join!(asked, stage.feeds.recv());
                let (answer, feed) = (answer.unwrap(), feed.unwrap());
                let told = answer.headers().get("cache-status").unwrap().to_str().unwrap();
                assert_eq!(told.ends_with("detail=endless"), !fields.is_empty(), "{told}");
                let mut body = answer.into_body();
                for event in ["one", "two"] {
                    assert!(feed.send(event).await);
                    assert_eq!(chunk(&mut body).await, event, "{protocol:?}");
                }
                assert_eq!(stage.runs.get(), client);
                open.push((asks, body, feed));
            }
            for (client, body, feed) in open {
                drop((body, client));
                // actix notices by its writes that a client has gone.
                let writes = async { while feed.send("three").await {} };
                timeout(secs(20), writes).await.expect("the body is dropped");
            }
            stage.settled().await;
        }
    }
}

#[actix_web::test]
async fn another_variant_is_not_handed_out_while_it_is_on_its_way() {
    for (protocol, workers) in SETUPS {
        let mut stage = stage(workers, Some(2), Policy::new());
        let addr = stage.server.addr;
        let ask = |language: &'static str| {
            let client = Client::new(addr, protocol);
            tokio::task::spawn_local(async move {
                let fields = [("accept-language", language), ("want-vary", "accept-language")];
                client.get_with("/", &fields).await
            })
        };
        let german = ask("de");
        stage.ran(1).await;
        let (french, german_too) = (ask("fr"), ask("de"));
        eventually("all have come", || stage.arrived.get() == 3).await;
        let first = stage.feed().await;
        assert!(first.send("d").await);
        // What the first was selected by is known by now, although it is not whole.
        stage.ran(2).await;
        let french_too = ask("fr");
        eventually("all have come", || stage.arrived.get() == 4).await;
        let second = stage.feed().await;
        for (feed, rest) in [(first, "e"), (second, "fr")] {
            assert!(feed.send(rest).await);
        }
        for (asked, want) in
            [(german, "de"), (german_too, "de"), (french, "fr"), (french_too, "fr")]
        {
            assert_eq!(
                timeout(secs(20), asked).await.unwrap().unwrap().text(),
                want,
                "{protocol:?}"
            );
        }
        assert_eq!(stage.runs.get(), 2, "{protocol:?}");
        stage.settled().await;
    }
}

#[actix_web::test]
async fn what_is_one_persons_is_not_handed_out_while_it_is_on_its_way() {
    for want in [
        ("want-cache-control", "private"),
        ("want-cache-control", "no-store"),
        ("want-set-cookie", "a=1"),
        ("authorization", "Basic YTpi"),
        ("cookie", "sid=1"),
    ] {
        let mut stage = stage(2, Some(3), Policy::new());
        let owner = stage.client(Protocol::Http1);
        let owner = tokio::task::spawn_local(async move { owner.get_with("/", &[want]).await });
        stage.ran(1).await;
        let other = stage.followers(Protocol::Http1, 1).await.remove(0);
        let hers = stage.feed().await;
        assert!(hers.send("he").await);
        stage.ran(2).await;
        let his = stage.feed().await;
        assert!(his.send("his").await);
        drop(his);
        assert_eq!(other.await.unwrap().text(), "his", "{want:?}");
        assert!(hers.send("r").await);
        drop(hers);
        assert_eq!(owner.await.unwrap().text(), "her", "{want:?}");
    }
}

#[actix_web::test]
async fn a_purge_leaves_those_who_read_and_keeps_the_next_from_it() {
    let store = store();
    let handle = Cache::new(store.clone()).handle();
    let mut stage = stage_over(&store, 2, Some(3), Policy::new());
    let client = stage.client(Protocol::Http1);
    stage.gate.add_permits(1);
    let asked = client.start(Method::GET, "/", &[], "");
    let (answer, old) = tokio::join!(asked, stage.feeds.recv());
    let (answer, old) = (answer.unwrap(), old.unwrap());
    assert!(old.send("ol").await);
    handle.purge_url(format!("http://{}/", stage.server.addr)).await.unwrap();
    let next = stage.followers(Protocol::Http1, 2).await;
    stage.ran(2).await;
    let new = stage.feed().await;
    for (feed, rest) in [(old, "d"), (new, "new")] {
        assert!(feed.send(rest).await);
    }
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "old");
    for answer in next {
        assert_eq!(answer.await.unwrap().text(), "new");
    }
    stage.settled().await;
    assert_eq!(stage.client(Protocol::Http1).get("/").await.text(), "new");
}

#[actix_web::test]
async fn what_does_not_fit_into_the_budget_passes() {
    const LENGTH: u64 = 8 * 1024 * 1024;
    let mut stage = stage(2, Some(LENGTH), Policy::new().max_body_size(LENGTH as usize));
    let mut open = Vec::new();
    // Eight of these are all of it.
    for n in 0..9 {
        let client = stage.client(Protocol::Http1);
        let path = format!("/{n}");
        stage.gate.add_permits(1);
        let asked = client.start(Method::GET, &path, &[], "");
        let (answer, feed) = tokio::join!(asked, stage.feeds.recv());
        let answer = answer.unwrap();
        let told = answer.headers().get("cache-status").unwrap().to_str().unwrap();
        assert_eq!(told.ends_with("detail=busy"), n == 8, "{n}: {told}");
        open.push((answer.into_body(), feed.unwrap()));
    }
    assert_eq!(stage.coordinator.bytes_in_fills() as u64, 8 * LENGTH);
    let (mut body, feed) = open.pop().unwrap();
    assert!(feed.send("piece").await);
    assert_eq!(chunk(&mut body).await, "piece");
    open.clear();
    drop((body, feed));
    stage.settled().await;
}
