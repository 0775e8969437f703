//! Servers that stop during a response, bodies that panic, and draining a cache before shutdown.

use std::{sync::Arc, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{
    Cache, ManualClock, MemoryStore, Policy,
    store::{Coordinator, Store as _},
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

use crate::support::{
    Answer, Client, Counter, ManualBodies, Protocol, START, Server, fills_ended, manual_bodies,
    secs, serve, store, wait_until,
};

/// The store, the clock and the counters that several servers share, so that one server can stop
/// while another goes on.
struct Shared {
    store: MemoryStore,
    runs: Counter,
    gate: Arc<Semaphore>,
    clock: ManualClock,
}

impl Shared {
    fn new() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let clock = ManualClock::at(START);
        Self { store: store(), runs: Counter::default(), gate, clock }
    }

    fn cache(&self) -> Cache {
        let policy = Policy::new().stale_while_revalidate(secs(600));
        let builder = Cache::builder(self.store.clone()).policy(policy);
        builder.clock(self.clock.clock()).build().unwrap()
    }

    fn coordinator(&self) -> &Coordinator {
        self.store.coordinator()
    }

    fn open(&self, bodies: &ManualBodies) -> Server {
        let parts = (self.cache(), bodies.clone(), self.runs.clone(), Arc::clone(&self.gate));
        serve(1, move || {
            let (cache, bodies, runs, gate) = parts.clone();
            let handler = move |request: HttpRequest| {
                let (bodies, runs, gate) = (bodies.clone(), runs.clone(), Arc::clone(&gate));
                async move {
                    let run = runs.count();
                    gate.acquire().await.unwrap().forget();
                    match request.path() {
                        "/declared" => bodies.response(Some(4)),
                        "/undeclared" => bodies.response(None),
                        "/panics" => panicking(run),
                        _ => HttpResponse::Ok().body("body"),
                    }
                }
            };
            App::new().wrap(cache).default_service(web::to(handler))
        })
    }

    /// Waits until the handler has run this often.
    async fn ran(&self, runs: usize) {
        wait_until("the handler runs", || self.runs.get() == runs).await;
    }

    /// Waits until no fill, no collapsed request and no refresh is left.
    async fn idle(&self) {
        fills_ended(self.coordinator()).await;
        wait_until("no request and no refresh is left", || {
            let coordinator = self.coordinator();
            coordinator.open_flights() == 0 && coordinator.open_refreshes() == 0
        })
        .await;
    }
}

/// A body that panics when it is polled for its second chunk, except in the third run.
fn panicking(run: usize) -> HttpResponse {
    let chunks = futures_util::stream::iter(["pa", "nics"]).map(move |chunk| {
        assert!(chunk == "pa" || run > 2, "panic of the test's body");
        Ok::<_, actix_web::Error>(Bytes::from_static(chunk.as_bytes()))
    });
    HttpResponse::Ok().streaming(chunks)
}

/// Sends a request in a task; `None` if the connection or the body breaks.
fn get(server: &Server, path: &'static str) -> JoinHandle<Option<Answer>> {
    let client = Client::new(server.addr, Protocol::Http1);
    let fields = [("host", "t")];
    tokio::task::spawn_local(async move {
        let response = client.start(hyper::Method::GET, path, &fields, "").await.ok()?;
        let (head, body) = response.into_parts();
        let body = http_body_util::BodyExt::collect(body).await.ok()?.to_bytes();
        Some(Answer { status: head.status, headers: head.headers, body })
    })
}

async fn end(request: JoinHandle<Option<Answer>>) -> Option<Answer> {
    timeout(secs(20), request).await.expect("the request ends").unwrap()
}

#[actix_web::test]
async fn follower_becomes_leader_when_the_leaders_server_stops() {
    let shared = Shared::new();
    let (handlers, _feeds) = manual_bodies();
    let (one, other) = (shared.open(&handlers), shared.open(&handlers));
    let leader = get(&one, "/");
    shared.ran(1).await;
    let followers = [get(&other, "/"), get(&other, "/")];
    drop(one);
    shared.ran(2).await;
    shared.gate.add_permits(1);
    for follower in followers {
        assert_eq!(end(follower).await.unwrap().text(), "body");
    }
    assert!(end(leader).await.is_none());
    assert_eq!(shared.runs.get(), 2);
    shared.idle().await;
}

#[actix_web::test]
async fn follower_gets_an_error_when_the_server_of_a_sized_body_stops() {
    let shared = Shared::new();
    let (handlers, mut bodies) = manual_bodies();
    let (one, other) = (shared.open(&handlers), shared.open(&handlers));
    let leader = get(&one, "/declared");
    shared.ran(1).await;
    shared.gate.add_permits(1);
    let sender = bodies.recv().await.unwrap();
    let follower = Client::new(other.addr, Protocol::Http1);
    let response = follower.start(hyper::Method::GET, "/declared", &[("host", "t")], "");
    let response = response.await.unwrap();
    assert!(sender.send("bo").await);
    drop(one);
    sender.closed().await;
    let read = http_body_util::BodyExt::collect(response.into_body());
    assert!(timeout(secs(20), read).await.unwrap().is_err());
    drop(leader.await);
    shared.idle().await;
}

#[actix_web::test]
async fn follower_runs_the_handler_when_the_server_of_a_streamed_body_stops() {
    let shared = Shared::new();
    let (handlers, mut bodies) = manual_bodies();
    let (one, other) = (shared.open(&handlers), shared.open(&handlers));
    let leader = get(&one, "/undeclared");
    shared.ran(1).await;
    let follower = get(&other, "/undeclared");
    shared.gate.add_permits(1);
    let sender = bodies.recv().await.unwrap();
    assert!(sender.send("bo").await);
    drop(one);
    sender.closed().await;
    shared.ran(2).await;
    shared.gate.add_permits(1);
    assert!(bodies.recv().await.unwrap().send("body").await);
    assert_eq!(end(follower).await.unwrap().text(), "body");
    drop(leader.await);
    shared.idle().await;
}

#[actix_web::test]
async fn body_that_panics_releases_its_followers() {
    let shared = Shared::new();
    let (handlers, _feeds) = manual_bodies();
    let (one, other) = (shared.open(&handlers), shared.open(&handlers));
    let leader = get(&one, "/panics");
    shared.ran(1).await;
    let follower = get(&other, "/panics");
    shared.gate.add_permits(1);
    assert!(end(leader).await.is_none());
    // The follower has received nothing yet, and runs the handler itself.
    shared.ran(2).await;
    shared.gate.add_permits(1);
    assert!(end(follower).await.is_none());
    shared.idle().await;
    shared.gate.add_permits(1);
    let third = end(get(&one, "/panics")).await.unwrap();
    assert_eq!((third.text(), third.is_stored()), ("panics", true));
}

#[actix_web::test]
async fn drained_cache_completes_open_fills_and_begins_no_more() {
    let shared = Shared::new();
    let cache = shared.cache();
    let (handlers, mut bodies) = manual_bodies();
    let server = shared.open(&handlers);
    shared.gate.add_permits(1);
    assert!(end(get(&server, "/page")).await.unwrap().is_stored());
    shared.clock.advance(secs(61));
    let stale = get(&server, "/page");
    assert!(end(stale).await.unwrap().is_hit());
    shared.ran(2).await;
    let streamed = get(&server, "/declared");
    shared.ran(3).await;
    let pending = cache.drain(Duration::from_millis(10)).await.unwrap_err();
    assert_eq!((pending.fills, pending.refreshes), (2, 1));
    assert!(pending.to_string().contains("with 2 fills and 1 refresh pending"), "{pending}");

    let drained = tokio::task::spawn_local({
        let cache = cache.clone();
        async move { cache.drain(secs(20)).await }
    });
    shared.gate.add_permits(2);
    let sender = bodies.recv().await.unwrap();
    assert!(sender.send("body").await && !drained.is_finished());
    drop(sender);
    assert_eq!(drained.await.unwrap(), Ok(()));
    assert_eq!(end(streamed).await.unwrap().text(), "body");

    // Responses of open fills are stored; further requests bypass the cache.
    for path in ["/page", "/declared"] {
        assert!(end(get(&server, path)).await.unwrap().is_hit(), "{path}");
    }
    shared.gate.add_permits(3);
    for path in ["/other", "/other"] {
        let bypassed = end(get(&server, path)).await.unwrap();
        assert_eq!(bypassed.cache_status(), "fwd=bypass; detail=draining");
    }
    shared.clock.advance(secs(61));
    let runs = shared.runs.get();
    assert!(
        end(get(&server, "/page")).await.unwrap().is_hit(),
        "the stale response is served without a refresh"
    );
    assert_eq!(cache.drain(secs(20)).await, Ok(()));
    assert_eq!(shared.runs.get(), runs);
}
