//! When things end before their time: handlers that panic, servers that stop, applications that are
//! about to.

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
    Answer, Client, Counter, Feeds, Protocol, START, Server, eventually, feeds, secs, serve,
    settled, store,
};

/// Servers of their own over one store, so that one can be stopped and the other goes on.
struct Stage {
    store: MemoryStore,
    runs: Counter,
    gate: Arc<Semaphore>,
    clock: ManualClock,
}

impl Stage {
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

    fn open(&self, feeds: &Feeds) -> Server {
        let shared = (self.cache(), feeds.clone(), self.runs.clone(), Arc::clone(&self.gate));
        serve(1, move || {
            let (cache, feeds, runs, gate) = shared.clone();
            let handler = move |request: HttpRequest| {
                let (feeds, runs, gate) = (feeds.clone(), runs.clone(), Arc::clone(&gate));
                async move {
                    let run = runs.count();
                    gate.acquire().await.unwrap().forget();
                    match request.path() {
                        "/declared" => feeds.response(Some(4)),
                        "/undeclared" => feeds.response(None),
                        "/panics" => panicking(run),
                        _ => HttpResponse::Ok().body("body"),
                    }
                }
            };
            App::new().wrap(cache).default_service(web::to(handler))
        })
    }

    async fn ran(&self, runs: usize) {
        eventually("as many runs as are awaited", || self.runs.get() == runs).await;
    }

    async fn clean(&self) {
        settled(self.coordinator()).await;
        eventually("nothing is left", || {
            let coordinator = self.coordinator();
            coordinator.open_flights() == 0 && coordinator.open_refreshes() == 0
        })
        .await;
    }
}

/// A body that panics when its second chunk is asked for; the third run's does not.
fn panicking(run: usize) -> HttpResponse {
    let chunks = futures_util::stream::iter(["pa", "nics"]).map(move |chunk| {
        assert!(chunk == "pa" || run > 2, "as it was told");
        Ok::<_, actix_web::Error>(Bytes::from_static(chunk.as_bytes()))
    });
    HttpResponse::Ok().streaming(chunks)
}

fn ask(server: &Server, path: &'static str) -> JoinHandle<Option<Answer>> {
    let client = Client::new(server.addr, Protocol::Http1);
    let fields = [("host", "t")];
    tokio::task::spawn_local(async move {
        let response = client.start(hyper::Method::GET, path, &fields, "").await.ok()?;
        let (head, body) = response.into_parts();
        let body = http_body_util::BodyExt::collect(body).await.ok()?.to_bytes();
        Some(Answer { status: head.status, headers: head.headers, body })
    })
}

async fn end(asked: JoinHandle<Option<Answer>>) -> Option<Answer> {
    timeout(secs(20), asked).await.expect("it ends").unwrap()
}

#[actix_web::test]
async fn where_the_server_of_who_asks_stops_another_asks() {
    let stage = Stage::new();
    let (handlers, _feeds) = feeds();
    let (one, other) = (stage.open(&handlers), stage.open(&handlers));
    let leader = ask(&one, "/");
    stage.ran(1).await;
    let followers = [ask(&other, "/"), ask(&other, "/")];
    drop(one);
    stage.ran(2).await;
    stage.gate.add_permits(1);
    for follower in followers {
        assert_eq!(end(follower).await.unwrap().text(), "body");
    }
    assert!(end(leader).await.is_none());
    assert_eq!(stage.runs.get(), 2);
    stage.clean().await;
}

#[actix_web::test]
async fn where_the_server_of_a_body_stops_who_reads_it_learns_that_it_broke_off() {
    let stage = Stage::new();
    let (handlers, mut feeds) = feeds();
    let (one, other) = (stage.open(&handlers), stage.open(&handlers));
    let leader = ask(&one, "/declared");
    stage.ran(1).await;
    stage.gate.add_permits(1);
    let feed = feeds.recv().await.unwrap();
    let follower = Client::new(other.addr, Protocol::Http1);
    let along = follower.start(hyper::Method::GET, "/declared", &[("host", "t")], "");
    let along = along.await.unwrap();
    assert!(feed.send("bo").await);
    drop(one);
    feed.closed().await;
    let read = http_body_util::BodyExt::collect(along.into_body());
    assert!(timeout(secs(20), read).await.unwrap().is_err());
    drop(leader.await);
    stage.clean().await;
}

#[actix_web::test]
async fn where_the_server_of_a_body_stops_who_waits_for_its_end_has_another_made() {
    let stage = Stage::new();
    let (handlers, mut feeds) = feeds();
    let (one, other) = (stage.open(&handlers), stage.open(&handlers));
    let leader = ask(&one, "/undeclared");
    stage.ran(1).await;
    let follower = ask(&other, "/undeclared");
    stage.gate.add_permits(1);
    let feed = feeds.recv().await.unwrap();
    assert!(feed.send("bo").await);
    drop(one);
    feed.closed().await;
    stage.ran(2).await;
    stage.gate.add_permits(1);
    assert!(feeds.recv().await.unwrap().send("body").await);
    assert_eq!(end(follower).await.unwrap().text(), "body");
    drop(leader.await);
    stage.clean().await;
}

#[actix_web::test]
async fn a_body_that_panics_releases_all_and_leaves_nothing_behind() {
    let stage = Stage::new();
    let (handlers, _feeds) = feeds();
    let (one, other) = (stage.open(&handlers), stage.open(&handlers));
    let leader = ask(&one, "/panics");
    stage.ran(1).await;
    let follower = ask(&other, "/panics");
    stage.gate.add_permits(1);
    assert!(end(leader).await.is_none());
    // The follower has had nothing yet, and asks anew.
    stage.ran(2).await;
    stage.gate.add_permits(1);
    assert!(end(follower).await.is_none());
    stage.clean().await;
    stage.gate.add_permits(1);
    let third = end(ask(&one, "/panics")).await.unwrap();
    assert_eq!((third.text(), third.is_stored()), ("panics", true));
}

#[actix_web::test]
async fn a_cache_is_drained_of_what_was_begun_and_begins_nothing_more() {
    let stage = Stage::new();
    let cache = stage.cache();
    let (handlers, mut feeds) = feeds();
    let server = stage.open(&handlers);
    stage.gate.add_permits(1);
    assert!(end(ask(&server, "/page")).await.unwrap().is_stored());
    stage.clock.advance(secs(61));
    let stale = ask(&server, "/page");
    assert!(end(stale).await.unwrap().is_hit());
    stage.ran(2).await;
    let streamed = ask(&server, "/declared");
    stage.ran(3).await;
    let left = cache.drain(Duration::from_millis(10)).await.unwrap_err();
    assert_eq!((left.fills, left.refreshes), (2, 1));
    assert!(left.to_string().contains("2 fills and 1 refreshes go on"), "{left}");

    let drained = tokio::task::spawn_local({
        let cache = cache.clone();
        async move { cache.drain(secs(20)).await }
    });
    stage.gate.add_permits(2);
    let feed = feeds.recv().await.unwrap();
    assert!(feed.send("body").await && !drained.is_finished());
    drop(feed);
    assert_eq!(drained.await.unwrap(), Ok(()));
    assert_eq!(end(streamed).await.unwrap().text(), "body");

    // What was begun is stored; what comes now passes.
    for path in ["/page", "/declared"] {
        assert!(end(ask(&server, path)).await.unwrap().is_hit(), "{path}");
    }
    stage.gate.add_permits(3);
    for path in ["/other", "/other"] {
        let passed = end(ask(&server, path)).await.unwrap();
        assert_eq!(passed.cache_status(), "fwd=bypass; detail=draining");
    }
    stage.clock.advance(secs(61));
    let runs = stage.runs.get();
    assert!(end(ask(&server, "/page")).await.unwrap().is_hit(), "stale, and not refreshed");
    assert_eq!(cache.drain(secs(20)).await, Ok(()));
    assert_eq!(stage.runs.get(), runs);
}
