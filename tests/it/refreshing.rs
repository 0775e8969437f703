//! What is renewed in the background, when, and what answers meanwhile.

use std::{sync::Arc, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, ManualClock, MemoryStore, Policy, store::Store as _};
use futures_util::future::join_all;
use tokio::{sync::Semaphore, time::timeout};

use crate::support::{
    Answer, Client, Counter, Protocol, SETUPS, START, Server, eventually, secs, serve, settled,
    store,
};

/// A page whose handler can be held up and made to fail.
struct Stage {
    server: Server,
    clock: ManualClock,
    store: MemoryStore,
    runs: Counter,
    /// One permit lets one run end.
    gate: Arc<Semaphore>,
}

fn stage(workers: usize, policy: Policy) -> Stage {
    let (store, clock) = (store(), ManualClock::at(START));
    let cache = Cache::builder(store.clone()).policy(policy).clock(clock.clock()).build().unwrap();
    let (runs, gate) = (Counter::default(), Arc::new(Semaphore::new(0)));
    let shared = (runs.clone(), Arc::clone(&gate));
    let server = serve(workers, move || {
        let (runs, gate) = shared.clone();
        let handler = move |request: HttpRequest| {
            let (runs, gate) = (runs.clone(), Arc::clone(&gate));
            async move {
                let run = runs.count();
                gate.acquire().await.unwrap().forget();
                if request.headers().contains_key("fail") {
                    return HttpResponse::ServiceUnavailable().body("out of order");
                }
                HttpResponse::Ok()
                    .insert_header(("etag", format!("\"{run}\"")))
                    .body(run.to_string())
            }
        };
        App::new().wrap(cache.clone()).default_service(web::to(handler))
    });
    Stage { server, clock, store, runs, gate }
}

impl Stage {
    fn client(&self, protocol: Protocol) -> Client {
        Client::new(self.server.addr, protocol)
    }

    async fn get(&self, fields: &[(&str, &str)]) -> Answer {
        self.client(Protocol::Http1).get_with("/", fields).await
    }

    async fn store_and_wait(&self, seconds: u64) {
        self.gate.add_permits(1);
        assert!(self.get(&[]).await.is_stored());
        self.clock.advance(secs(seconds));
    }

    async fn ran(&self, runs: usize) {
        eventually("as many runs as are awaited", || self.runs.get() == runs).await;
    }

    async fn refreshed(&self) {
        eventually("no refresh goes on", || self.store.coordinator().open_refreshes() == 0).await;
    }
}

#[actix_web::test]
async fn a_hundred_who_find_it_stale_are_answered_at_once_and_one_run_renews_it() {
    let policy = Policy::new().stale_while_revalidate(secs(600));
    for (protocol, workers) in SETUPS {
        let stage = stage(workers, policy.clone());
        stage.store_and_wait(65).await;
        let mut runs = 1;
        // The first try fails; so does the one after the pause that follows.
        for (fails, pause) in [(true, 1), (true, 2), (false, 0)] {
            let fields: &[(&str, &str)] = if fails { &[("fail", "1")] } else { &[] };
            let clients: Vec<_> = (0..100).map(|_| stage.client(protocol)).collect();
            // No run can end meanwhile.
            let answers = join_all(clients.iter().map(|client| client.get_with("/", fields)));
            for answer in timeout(secs(20), answers).await.expect("nobody waits") {
                assert_eq!(answer.text(), "1");
                assert!(answer.cache_status().starts_with("hit; ttl=-"), "{protocol:?}");
            }
            runs += 1;
            stage.ran(runs).await;
            stage.gate.add_permits(1);
            stage.refreshed().await;
            if fails {
                for answer in
                    join_all(clients.iter().map(|client| client.get_with("/", fields))).await
                {
                    assert_eq!(answer.text(), "1", "it answers on");
                }
                assert_eq!(stage.runs.get(), runs, "not again before its time");
                stage.clock.advance(secs(pause));
            }
        }
        let renewed = stage.get(&[]).await;
        assert_eq!((renewed.text(), renewed.is_hit()), (&*runs.to_string(), true), "{protocol:?}");
        settled(stage.store.coordinator()).await;
    }
}

#[actix_web::test]
async fn what_is_asked_for_near_its_end_is_renewed_before_it() {
    let stage = stage(2, Policy::new().refresh_ahead(20));
    stage.store_and_wait(47).await;
    assert_eq!(stage.get(&[]).await.cache_status(), "hit; ttl=13");
    stage.clock.advance(secs(1));
    assert!(stage.client(Protocol::Http1).head("/").await.is_hit());
    assert_eq!(stage.store.coordinator().open_refreshes(), 0, "not for HEAD");
    for _ in 0..10 {
        assert_eq!(stage.get(&[]).await.cache_status(), "hit; ttl=12");
    }
    stage.ran(2).await;
    stage.gate.add_permits(1);
    stage.refreshed().await;
    let renewed = stage.get(&[]).await;
    assert_eq!((renewed.text(), &*renewed.cache_status()), ("2", "hit; ttl=60"));
    // Nobody asked in time: it is stale like anything else.
    stage.clock.advance(secs(61));
    stage.gate.add_permits(1);
    assert_eq!(stage.get(&[]).await.text(), "3");
}

#[actix_web::test]
async fn where_the_handler_takes_too_long_something_stale_answers_and_its_answer_is_kept() {
    let policy = Policy::new().stale_if_error(secs(600)).wait_limit(Duration::from_millis(50));
    for (protocol, workers) in SETUPS {
        let stage = stage(workers, policy.clone());
        stage.store_and_wait(65).await;
        // The first asks and the others wait for it: nobody gets an answer in time.
        let clients: Vec<_> = (0..5).map(|_| stage.client(protocol)).collect();
        let answers = join_all(clients.iter().map(|client| client.get("/")));
        for answer in timeout(secs(20), answers).await.expect("nobody waits for ever") {
            assert_eq!(answer.text(), "1", "{protocol:?}");
            assert_eq!(answer.cache_status(), "fwd=stale; detail=stale-if-error");
            assert_eq!(answer.field("age").as_deref(), Some("65"));
        }
        let by_head = stage.client(protocol).head("/").await;
        assert_eq!(by_head.cache_status(), "fwd=stale; detail=stale-if-error");
        let known = stage.client(protocol).get_with("/", &[("if-none-match", "\"1\"")]).await;
        assert_eq!(known.status, 304, "{protocol:?}");
        let runs = stage.runs.get();
        stage.gate.add_permits(runs);
        stage.refreshed().await;
        settled(stage.store.coordinator()).await;
        let hit = stage.get(&[]).await;
        assert!(hit.is_hit() && hit.text() != "1", "{}: {}", hit.cache_status(), hit.text());
    }
}

#[actix_web::test]
async fn without_a_window_a_slow_handler_is_waited_for() {
    let stage = stage(2, Policy::new().wait_limit(Duration::from_millis(50)));
    stage.store_and_wait(65).await;
    let (one, other) = (stage.client(Protocol::Http1), stage.client(Protocol::Http1));
    let both = async { tokio::join!(one.get("/"), other.get("/")) };
    let door = async {
        stage.ran(3).await;
        stage.gate.add_permits(2);
    };
    let ((one, other), ()) = tokio::join!(both, door);
    let mut texts = [one.text(), other.text()];
    texts.sort_unstable();
    assert_eq!(texts, ["2", "3"]);
}

#[actix_web::test]
async fn what_was_purged_meanwhile_does_not_stand_in_for_a_slow_handler() {
    let policy = Policy::new().stale_if_error(secs(600)).wait_limit(Duration::from_millis(200));
    let stage = stage(1, policy);
    stage.store_and_wait(65).await;
    let handle = Cache::new(stage.store.clone()).handle();
    let (one, other) = (stage.client(Protocol::Http1), stage.client(Protocol::Http1));
    let both = async { tokio::join!(one.get("/"), other.get("/")) };
    let door = async {
        stage.ran(2).await;
        handle.purge_url(format!("http://{}/", stage.server.addr)).await.unwrap();
        // The one that waited for the other asks for itself when its time is over.
        stage.ran(3).await;
        stage.gate.add_permits(2);
    };
    let ((one, other), ()) = tokio::join!(both, door);
    assert!(one.text() != "1" && other.text() != "1", "{} {}", one.text(), other.text());
}
