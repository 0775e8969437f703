//! Clients that do not read, or leave at once, take neither the memory for fills nor the cache from
//! other clients.

use std::time::Duration;

use actix_web::{App, HttpResponse, body::SizedStream, web};
use actix_web_cache::{
    Cache, ManualClock, MemoryStore, Policy,
    store::{Coordinator, Store as _},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream};

use super::{
    fill_server::{fill_server, fill_server_with},
    idle_client::IdleClient,
};
use crate::support::{
    Client, Counter, Protocol, START, Server, fills_ended, secs, serve, store, wait_until,
};

const MIB: usize = 1024 * 1024;

/// The largest number of bytes in fills.
const FILL_BUDGET: usize = 64 * MIB;

/// The largest number of bytes in fills that no client has read.
const UNREAD_BUDGET: usize = 32 * MIB;

/// The length of the bodies that clients do not read. It is more than the operating system buffers
/// for such a client.
const LARGE: usize = 8 * MIB;

/// The number of clients that do not read.
const IDLE: usize = 16;

/// The bytes of the body at a path. Each body differs from all others.
fn body_of(path: &str) -> Vec<u8> {
    let length = if path.ends_with("large") { LARGE } else { MIB / 2 };
    path.bytes().cycle().take(length).collect()
}

struct BodyServer {
    server: Server,
    runs: Counter,
    coordinator: Coordinator,
}

/// A server whose handler streams the body of each path, with a declared length below `/known`.
fn body_server() -> BodyServer {
    let store = MemoryStore::new(10 * LARGE);
    let coordinator = store.coordinator().clone();
    let policy = Policy::new().default_ttl(secs(600)).max_body_size(LARGE);
    let cache = Cache::builder(store).policy(policy).build().unwrap();
    let runs = Counter::default();
    let counted = runs.clone();
    let server = serve(2, move || {
        let runs = counted.clone();
        let handler = move |path: web::Path<String>| {
            runs.count();
            let body = Bytes::from(body_of(&format!("/{path}")));
            let length = body.len();
            let starts = stream::iter((0..length).step_by(16 * 1024));
            let chunks =
                starts.map(move |at| Ok::<_, actix_web::Error>(body.slice(at..at + 16 * 1024)));
            async move {
                if path.starts_with("known") {
                    HttpResponse::Ok().body(SizedStream::new(length as u64, chunks))
                } else {
                    HttpResponse::Ok().streaming(chunks)
                }
            }
        };
        App::new().wrap(cache.clone()).route("/{path:.*}", web::get().to(handler))
    });
    BodyServer { server, runs, coordinator }
}

#[actix_web::test]
async fn idle_readers_do_not_keep_other_responses_from_being_stored() {
    for kind in ["known", "unknown"] {
        let BodyServer { server, runs, coordinator } = body_server();
        let large = |n| format!("/{kind}/{n}/large");
        let idle = (0..IDLE).map(async |n| IdleClient::get(server.addr, &large(n)).await);
        let idle = join_all(idle).await;
        wait_until("the unread bytes use up their half of the budget", || {
            runs.get() == IDLE && coordinator.bytes_in_fills() >= UNREAD_BUDGET
        })
        .await;
        let bytes = coordinator.bytes_in_fills();
        assert!(bytes <= FILL_BUDGET, "{kind}: {bytes} bytes");

        let client = Client::new(server.addr, Protocol::Http1);
        for n in 0..4 {
            let path = |n| format!("/{kind}/{n}");
            let before = runs.get();
            let miss = client.get(&path(n)).await;
            assert!(miss.is_stored() && miss.body == body_of(&path(n)), "{}", miss.cache_status());
            let hit = client.get(&path(n)).await;
            assert!(hit.is_hit() && hit.body == body_of(&path(n)), "{}", hit.cache_status());
            assert_eq!(runs.get(), before + 1, "{kind}");
        }

        let bodies = join_all(idle.into_iter().map(IdleClient::read_body)).await;
        for (n, body) in bodies.into_iter().enumerate() {
            assert!(body == body_of(&large(n)), "{kind} {n}: {} bytes", body.len());
        }
        fills_ended(&coordinator).await;
    }
}

#[actix_web::test]
async fn requests_that_leave_at_once_do_not_keep_other_responses_from_being_stored() {
    let mut server =
        fill_server(2, Some(LENGTH as u64), Policy::new().drain_limit(Duration::from_secs(600)));
    let mut abandoned = Vec::new();
    // The declared lengths are more than the budget.
    for n in 0..40 {
        let client = server.client(Protocol::Http1);
        let (response, sender) = server.begin(&client, &format!("/{n}"), &[]).await;
        drop((response, client));
        abandoned.push(sender);
    }
    let client = server.client(Protocol::Http1);
    let (response, sender) = server.begin(&client, "/page", &[]).await;
    let status = response.headers().get("cache-status").cloned().unwrap();
    assert!(status.to_str().unwrap().ends_with("; stored"), "{status:?}");
    drop((sender, abandoned));
}

/// The length of the bodies of clients that leave.
const LENGTH: usize = 2 * MIB;

/// Bodies of known length that no client reads are received to their end, so that they can be stored.
/// They are dropped first if the memory is short.
#[actix_web::test]
async fn bodies_without_readers_are_dropped_first() {
    let mut server =
        fill_server(2, Some(LENGTH as u64), Policy::new().drain_limit(Duration::from_secs(600)));
    let coordinator = server.coordinator.clone();
    let mut unread = Vec::new();
    for n in 0..40 {
        let client = server.client(Protocol::Http1);
        let (response, sender) = server.begin(&client, &format!("/{n}"), &[]).await;
        drop((response, client));
        for _ in 0..15 {
            // The last bodies are dropped while they arrive.
            sender.send(vec![b'x'; 128 * 1024]).await;
        }
        assert!(coordinator.bytes_in_fills() <= FILL_BUDGET, "body {n}");
        unread.push(sender);
    }
    // The half of the budget for unread bytes is full, so a body that is read displaces the others.
    let client = server.client(Protocol::Http1);
    let (response, sender) = server.begin(&client, "/page", &[]).await;
    let reading = tokio::task::spawn_local(async move {
        http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes()
    });
    for _ in 0..LENGTH / MIB - 1 {
        assert!(sender.send(vec![b'x'; MIB]).await);
    }
    assert!(sender.finish(vec![b'x'; MIB]).await);
    assert_eq!(reading.await.unwrap().len(), LENGTH);
    assert!(server.client(Protocol::Http1).get("/page").await.is_hit());
    drop(unread);
}

/// Each body is read to its end for later requests, although its client got a 304 already. These
/// bodies and the refreshes of stale pages do not take places from each other.
#[actix_web::test]
async fn conditional_requests_to_slow_bodies_do_not_prevent_refreshes() {
    let (store, clock) = (store(), ManualClock::at(START));
    let policy = Policy::new().default_ttl(secs(1)).stale_while_revalidate(secs(600));
    let cache = Cache::builder(store.clone()).policy(policy).clock(clock.clock()).build().unwrap();
    let mut server = fill_server_with(&cache, store.coordinator(), 2, Some(3));
    let client = server.client(Protocol::Http1);
    server.gate.add_permits(1);
    let page = async { client.get("/page").await.is_stored() };
    let (is_stored, sender) = tokio::join!(page, async {
        let sender = server.bodies.recv().await.unwrap();
        sender.finish("one").await
    });
    assert!(is_stored && sender);

    let fields = [("if-none-match", "\"a\""), ("want-etag", "\"a\"")];
    let mut open = Vec::new();
    for n in 0..100 {
        server.gate.add_permits(1);
        let path = format!("/slow/{n}");
        let answer = client.get_with(&path, &fields).await;
        assert_eq!(answer.status, 304);
        // No more than 64 bodies continue for one client.
        assert_eq!(answer.is_stored(), n < 64, "{n}: {}", answer.cache_status());
        open.push(server.bodies.recv().await);
    }

    clock.advance(secs(2));
    let before = server.runs.get();
    assert!(client.get("/page").await.is_hit(), "a stale page");
    server.ran(before + 1).await;
    drop(open);
}
