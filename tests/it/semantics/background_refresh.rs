//! Background refreshes: when one starts, and which response clients get meanwhile.

use std::{sync::Arc, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, ManualClock, MemoryStore, Policy, store::Store as _};
use futures_util::future::join_all;
use tokio::{sync::Semaphore, time::timeout};

use crate::support::{
    Answer, Client, Counter, Protocol, SETUPS, START, Server, fills_ended, requested_response,
    secs, serve, store, test_app, wait_until,
};

/// A server whose handler waits for permits and can be made to fail.
struct Fixture {
    server: Server,
    clock: ManualClock,
    store: MemoryStore,
    runs: Counter,
    /// One permit lets one handler run end.
    gate: Arc<Semaphore>,
}

fn fixture(workers: usize, policy: Policy) -> Fixture {
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
                    return HttpResponse::ServiceUnavailable().body("unavailable");
                }
                HttpResponse::Ok()
                    .insert_header(("etag", format!("\"{run}\"")))
                    .body(run.to_string())
            }
        };
        App::new().wrap(cache.clone()).default_service(web::to(handler))
    });
    Fixture { server, clock, store, runs, gate }
}

impl Fixture {
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

    async fn handler_ran(&self, runs: usize) {
        wait_until("the handler runs as often as expected", || self.runs.get() == runs).await;
    }

    async fn refreshed(&self) {
        wait_until("all refreshes ended", || self.store.coordinator().open_refreshes() == 0).await;
    }
}

#[actix_web::test]
async fn stale_entry_is_served_to_all_clients_while_one_run_refreshes_it() {
    let policy = Policy::new().stale_while_revalidate(secs(600));
    for (protocol, workers) in SETUPS {
        let fixture = fixture(workers, policy.clone());
        fixture.store_and_wait(65).await;
        let mut runs = 1;
        // Two refreshes fail, and the pause before the next one grows.
        for (fails, pause) in [(true, 1), (true, 2), (false, 0)] {
            let fields: &[(&str, &str)] = if fails { &[("fail", "1")] } else { &[] };
            let clients: Vec<_> = (0..100).map(|_| fixture.client(protocol)).collect();
            // No handler run can end before the responses arrive.
            let answers = join_all(clients.iter().map(|client| client.get_with("/", fields)));
            for answer in timeout(secs(20), answers).await.expect("no client waits for the handler")
            {
                assert_eq!(answer.text(), "1");
                assert!(answer.cache_status().starts_with("hit; ttl=-"), "{protocol:?}");
            }
            runs += 1;
            fixture.handler_ran(runs).await;
            fixture.gate.add_permits(1);
            fixture.refreshed().await;
            if fails {
                for answer in
                    join_all(clients.iter().map(|client| client.get_with("/", fields))).await
                {
                    assert_eq!(answer.text(), "1", "the stale response is still served");
                }
                assert_eq!(fixture.runs.get(), runs, "no refresh during the pause");
                fixture.clock.advance(secs(pause));
            }
        }
        let refreshed = fixture.get(&[]).await;
        assert_eq!(
            (refreshed.text(), refreshed.is_hit()),
            (&*runs.to_string(), true),
            "{protocol:?}"
        );
        fills_ended(fixture.store.coordinator()).await;
    }
}

#[actix_web::test]
async fn entry_is_refreshed_ahead_when_requested_near_its_expiry() {
    let fixture = fixture(2, Policy::new().refresh_ahead(20));
    fixture.store_and_wait(47).await;
    assert_eq!(fixture.get(&[]).await.cache_status(), "hit; ttl=13");
    fixture.clock.advance(secs(1));
    assert!(fixture.client(Protocol::Http1).head("/").await.is_hit());
    assert_eq!(fixture.store.coordinator().open_refreshes(), 0, "a HEAD request starts no refresh");
    for _ in 0..10 {
        assert_eq!(fixture.get(&[]).await.cache_status(), "hit; ttl=12");
    }
    fixture.handler_ran(2).await;
    fixture.gate.add_permits(1);
    fixture.refreshed().await;
    let refreshed = fixture.get(&[]).await;
    assert_eq!((refreshed.text(), &*refreshed.cache_status()), ("2", "hit; ttl=60"));
    // No request arrived in the refresh-ahead period, so the entry is stale.
    fixture.clock.advance(secs(61));
    fixture.gate.add_permits(1);
    assert_eq!(fixture.get(&[]).await.text(), "3");
}

#[actix_web::test]
async fn stale_response_replaces_a_slow_handler_whose_late_response_is_stored() {
    let policy = Policy::new().stale_if_error(secs(600)).wait_limit(Duration::from_millis(50));
    for (protocol, workers) in SETUPS {
        let fixture = fixture(workers, policy.clone());
        fixture.store_and_wait(65).await;
        // The leader waits for the handler and the followers for the leader, all beyond the limit.
        let clients: Vec<_> = (0..5).map(|_| fixture.client(protocol)).collect();
        let answers = join_all(clients.iter().map(|client| client.get("/")));
        for answer in timeout(secs(20), answers).await.expect("no client waits for the handler") {
            assert_eq!(answer.text(), "1", "{protocol:?}");
            assert_eq!(answer.cache_status(), "fwd=stale; detail=stale-if-error");
            assert_eq!(answer.field("age").as_deref(), Some("65"));
        }
        let head = fixture.client(protocol).head("/").await;
        assert_eq!(head.cache_status(), "fwd=stale; detail=stale-if-error");
        let conditional =
            fixture.client(protocol).get_with("/", &[("if-none-match", "\"1\"")]).await;
        assert_eq!(conditional.status, 304, "{protocol:?}");
        let runs = fixture.runs.get();
        fixture.gate.add_permits(runs);
        fixture.refreshed().await;
        fills_ended(fixture.store.coordinator()).await;
        let hit = fixture.get(&[]).await;
        assert!(hit.is_hit() && hit.text() != "1", "{}: {}", hit.cache_status(), hit.text());
    }
}

#[actix_web::test]
async fn slow_handler_is_awaited_without_a_stale_if_error_window() {
    let fixture = fixture(2, Policy::new().wait_limit(Duration::from_millis(50)));
    fixture.store_and_wait(65).await;
    let (one, other) = (fixture.client(Protocol::Http1), fixture.client(Protocol::Http1));
    let both = async { tokio::join!(one.get("/"), other.get("/")) };
    let releasing = async {
        fixture.handler_ran(3).await;
        fixture.gate.add_permits(2);
    };
    let ((one, other), ()) = tokio::join!(both, releasing);
    let mut texts = [one.text(), other.text()];
    texts.sort_unstable();
    assert_eq!(texts, ["2", "3"]);
}

#[actix_web::test]
async fn entry_purged_during_the_wait_does_not_replace_a_slow_handler() {
    let policy = Policy::new().stale_if_error(secs(600)).wait_limit(Duration::from_millis(200));
    let fixture = fixture(1, policy);
    fixture.store_and_wait(65).await;
    let handle = Cache::new(fixture.store.clone()).handle();
    let (one, other) = (fixture.client(Protocol::Http1), fixture.client(Protocol::Http1));
    let both = async { tokio::join!(one.get("/"), other.get("/")) };
    let releasing = async {
        fixture.handler_ran(2).await;
        handle.purge_url(format!("http://{}/", fixture.server.addr)).await.unwrap();
        // The follower calls the handler itself when its wait limit is over.
        fixture.handler_ran(3).await;
        fixture.gate.add_permits(2);
    };
    let ((one, other), ()) = tokio::join!(both, releasing);
    assert!(one.text() != "1" && other.text() != "1", "{} {}", one.text(), other.text());
}

/// A handler that fails in an unusual way may send a response without content. Such a response
/// replaces the stored page only if it states a lifetime.
#[actix_web::test]
async fn empty_response_without_a_lifetime_does_not_replace_a_stored_page() {
    let window = ("answer", "cache-control: max-age=60, stale-while-revalidate=600");
    let (stale, ahead) = (Policy::new(), Policy::new().refresh_ahead(30));
    for (status, policy, seconds) in [
        ("204", stale.clone(), 65),
        ("205", stale, 65),
        ("204", ahead.clone(), 48),
        ("205", ahead, 48),
    ] {
        let (store, clock) = (store(), ManualClock::at(START));
        let cache = Cache::builder(store.clone()).policy(policy).clock(clock.clock());
        let app = test_app(&cache.build().unwrap(), requested_response);
        let refreshes_ended = async || {
            wait_until("no refresh runs", || store.coordinator().open_refreshes() == 0).await
        };
        assert!(app.client.get_with("/", &[window]).await.is_stored());
        clock.advance(secs(seconds));
        for runs in [2, 3] {
            let answer = app.client.get_with("/", &[("answer-status", status)]).await;
            assert_eq!((answer.text(), answer.is_hit()), ("run 1", true), "{status} {seconds}");
            refreshes_ended().await;
            assert_eq!(app.runs.get(), runs, "{status} {seconds}");
            // The next refresh begins after a pause.
            clock.advance(secs(2));
        }
        let lifetime = ("answer", "cache-control: max-age=60");
        let answer = app.client.get_with("/", &[("answer-status", status), lifetime]).await;
        assert_eq!(answer.text(), "run 1", "{status} {seconds}");
        refreshes_ended().await;
        fills_ended(store.coordinator()).await;
        let answer = app.client.get("/").await;
        // A 205 states no lifetime that counts, so it never replaces the page.
        let want = if status == "204" { "204" } else { "200" };
        assert_eq!((answer.status.as_str(), answer.is_hit()), (want, true), "{seconds}");
        // A request that waits for its handler gets the response of the handler.
        clock.advance(secs(3600));
        let answer = app.client.get_with("/", &[("answer-status", status)]).await;
        assert_eq!((answer.status.as_str(), answer.is_stored()), (status, false));
    }
}
