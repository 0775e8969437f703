//! What is no longer fresh and answers all the same: while the next is made, or where none can be.

use std::time::Duration;

use actix_web::{
    App, HttpRequest,
    dev::{Service as _, ServiceRequest},
    error::ErrorBadGateway,
    web,
};
use actix_web_cache::{Cache, ManualClock, MemoryStore, Policy, store::Store as _};
use hyper::Method;

use crate::support::{
    Answer, Client, Counter, Notes, Protocol, SETUPS, START, Server, Stop, conditions, eventually,
    feeds, obey, secs, serve, settled, store,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

const TAG: (&str, &str) = ("answer", "etag: \"a\"");
const MINUTE: (&str, &str) = ("answer", "cache-control: max-age=60");
/// Fresh for a minute, and of use for half of one more.
const WINDOW: (&str, &str) = ("answer", "cache-control: max-age=60, stale-while-revalidate=30");
const HOLD: (&str, &str) = ("hold", "1");

/// An obedient application whose handler can be held up, panic, or be failed by a middleware.
struct Stage {
    client: Client,
    clock: ManualClock,
    store: MemoryStore,
    /// Where requests with `hold` wait.
    stop: Stop,
    runs: Counter,
    notes: Notes,
    _server: Server,
}

fn stage(workers: usize, protocol: Protocol, policy: Policy) -> Stage {
    let (store, clock) = (store(), ManualClock::at(START));
    let cache = Cache::builder(store.clone()).clock(clock.clock()).policy(policy).build().unwrap();
    let (stop, runs, notes) = (Stop::new(), Counter::default(), Notes::default());
    let shared = (stop.clone(), runs.clone(), notes.clone());
    let server = serve(workers, move || {
        let (stop, runs, notes) = shared.clone();
        let handler = move |request: HttpRequest| {
            let (stop, runs, notes) = (stop.clone(), runs.clone(), notes.clone());
            async move {
                let run = runs.count();
                notes.add(format!("{}{}", request.path(), conditions(&request)));
                if request.headers().contains_key("hold") {
                    stop.wait().await;
                }
                assert!(!request.headers().contains_key("panic"), "as it was told");
                obey(&request, run)
            }
        };
        App::new()
            .wrap_fn(|request: ServiceRequest, service| {
                let breaks = request.headers().contains_key("break");
                let answer = service.call(request);
                async move {
                    let answer = answer.await?;
                    if breaks { Err(ErrorBadGateway("as it was told")) } else { Ok(answer) }
                }
            })
            .wrap(cache.clone())
            .default_service(web::to(handler))
    });
    let client = Client::new(server.addr, protocol);
    Stage { client, clock, store, stop, runs, notes, _server: server }
}

fn plain(policy: Policy) -> Stage {
    stage(1, Protocol::Http1, policy)
}

impl Stage {
    async fn get(&self, fields: Fields<'_>) -> Answer {
        self.client.get_with("/", fields).await
    }

    /// Stores what is told, and lets time pass.
    async fn store_and_wait(&self, fields: Fields<'_>, seconds: u64) {
        let answer = self.get(fields).await;
        assert!(answer.is_stored(), "{fields:?}: {}", answer.cache_status());
        self.clock.advance(secs(seconds));
        self.notes.take();
    }

    async fn settled(&self) {
        settled(self.store.coordinator()).await;
    }
}

#[actix_web::test]
async fn a_stale_answer_is_there_while_the_next_is_made_once() {
    let policy = || Policy::new().stale_while_revalidate(secs(30));
    for (protocol, workers) in SETUPS {
        for (case, policy, page) in
            [("stated", Policy::new(), WINDOW), ("of the policy", policy(), MINUTE)]
        {
            let stage = stage(workers, protocol, policy);
            stage.store_and_wait(&[page], 65).await;
            let stale = stage.get(&[HOLD, page]).await;
            assert_eq!((stale.text(), &*stale.cache_status()), ("run 1", "hit; ttl=-5"), "{case}");
            assert_eq!(stale.field("age").as_deref(), Some("65"), "{case}");
            stage.stop.reached().await;
            // Now the handler waits for us, and everybody has an answer.
            let hits = (0..50).map(|_| {
                let client = stage.client.clone();
                tokio::spawn(async move { client.get_with("/", &[HOLD]).await })
            });
            for hit in hits.collect::<Vec<_>>() {
                let hit = hit.await.unwrap();
                assert_eq!((hit.text(), &*hit.cache_status()), ("run 1", "hit; ttl=-5"), "{case}");
            }
            assert_eq!(stage.runs.get(), 2, "{case} by {protocol:?}");
            stage.stop.release();
            stage.settled().await;
            let fresh = stage.get(&[]).await;
            assert_eq!((fresh.text(), &*fresh.cache_status()), ("run 2", "hit; ttl=60"), "{case}");
            assert_eq!(stage.runs.get(), 2, "{case} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn a_refresh_asks_by_the_stored_validators_and_a_304_keeps_the_page() {
    let stage = plain(Policy::new());
    stage.store_and_wait(&[TAG, WINDOW], 65).await;
    let asked = [HOLD, TAG, ("answer-status", "304"), ("if-none-match", "\"client\"")];
    assert_eq!(stage.get(&asked).await.cache_status(), "hit; ttl=-5");
    stage.stop.reached().await;
    assert_eq!(stage.notes.take(), ["/if-none-match: \"a\""]);
    stage.stop.release();
    stage.settled().await;
    let fresh = stage.get(&[]).await;
    assert_eq!((fresh.text(), &*fresh.cache_status()), ("run 1", "hit; ttl=60"));
}

#[actix_web::test]
async fn a_stale_answer_suits_conditions_and_ranges_and_a_whole_page_is_fetched() {
    let stage = plain(Policy::new());
    let condition = ("if-none-match", "\"a\"");
    for (asked, status) in [(condition, 304), (("range", "bytes=0-1"), 206)] {
        stage.store_and_wait(&[TAG, WINDOW], 65).await;
        let answer = stage.get(&[asked, HOLD, ("answer", "etag: \"b\""), WINDOW]).await;
        assert_eq!((answer.status.as_u16(), &*answer.cache_status()), (status, "hit; ttl=-5"));
        stage.stop.reached().await;
        stage.stop.release();
        stage.settled().await;
        let fresh = stage.get(&[]).await;
        assert_eq!((fresh.is_hit(), fresh.field("etag").as_deref()), (true, Some("\"b\"")));
        assert!(fresh.text().starts_with("run "), "{status}");
        stage.clock.advance(secs(600));
    }
}

#[actix_web::test]
async fn a_refresh_that_fails_keeps_the_stale_page_and_the_next_waits_for_a_while() {
    for failure in [("answer-status", "500"), ("break", "1"), ("panic", "1")] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let stage = stage(1, protocol, Policy::new());
            stage.store_and_wait(&[WINDOW], 65).await;
            let coordinator = stage.store.coordinator();
            for (attempt, pause) in [(2, 1), (3, 2)] {
                let over = stage.get(&[failure, HOLD]).await.cache_status();
                stage.stop.reached().await;
                for _ in 0..10 {
                    let answer = stage.get(&[failure, HOLD]).await;
                    assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"));
                    assert_eq!(answer.cache_status(), over);
                }
                stage.stop.release();
                eventually("the end of the refresh", || coordinator.open_refreshes() == 0).await;
                stage.clock.advance(secs(pause) - Duration::from_millis(1));
                for _ in 0..10 {
                    assert_eq!(stage.get(&[failure, HOLD]).await.text(), "run 1");
                }
                assert_eq!(stage.runs.get(), attempt, "{failure:?}: it waits for its time");
                stage.clock.advance(Duration::from_millis(1));
            }
            assert_eq!(stage.get(&[WINDOW]).await.text(), "run 1");
            eventually("the end of the refresh", || coordinator.open_refreshes() == 0).await;
            assert_eq!(stage.get(&[]).await.text(), "run 4", "{failure:?}");
        }
    }
}

#[actix_web::test]
async fn a_refresh_that_a_purge_overtakes_stores_nothing() {
    let stage = plain(Policy::new());
    stage.store_and_wait(&[WINDOW], 65).await;
    assert!(stage.get(&[HOLD, WINDOW]).await.is_hit());
    stage.stop.reached().await;
    assert_eq!(stage.client.send(Method::PUT, "/", &[]).await.status, 200);
    stage.stop.release();
    stage.settled().await;
    assert_eq!(stage.get(&[]).await.cache_status(), "fwd=uri-miss; stored");
}

#[actix_web::test]
async fn requests_that_may_store_nothing_start_no_refresh() {
    let stage = plain(Policy::new());
    stage.store_and_wait(&[WINDOW], 65).await;
    let none = stage.get(&[("cache-control", "no-store")]).await;
    assert_eq!((none.text(), &*none.cache_status()), ("run 1", "hit; ttl=-5"));
    let none = stage.client.send(Method::HEAD, "/", &[]).await;
    assert_eq!(none.cache_status(), "hit; ttl=-5");
    stage.get(&[HOLD]).await;
    stage.stop.reached().await;
    assert_eq!(stage.runs.get(), 2, "the last began the only one");
    stage.stop.release();
}

#[actix_web::test]
async fn windows_are_the_responses_own_or_the_policys_and_some_words_close_them() {
    let own = "max-age=60, stale-while-revalidate=30";
    for (cache_control, of_policy, second, want) in [
        (own, 0, 60, "hit; ttl=-0"),
        (own, 0, 89, "hit; ttl=-29"),
        (own, 0, 90, "fwd=stale"),
        ("max-age=60", 0, 60, "fwd=stale"),
        ("max-age=60", 20, 79, "hit; ttl=-19"),
        ("max-age=60", 20, 80, "fwd=stale"),
        (own, 20, 89, "hit; ttl=-29"),
        ("max-age=60, stale-while-revalidate=5", 20, 65, "fwd=stale"),
        ("max-age=60, stale-while-revalidate=0", 20, 60, "fwd=stale"),
        ("max-age=60, stale-while-revalidate=x", 20, 79, "hit; ttl=-19"),
        ("s-maxage=60", 20, 60, "fwd=stale"),
        ("s-maxage=60, stale-while-revalidate=30", 0, 89, "hit; ttl=-29"),
        ("max-age=60, must-revalidate", 20, 60, "fwd=stale"),
        ("max-age=60, must-revalidate, stale-while-revalidate=30", 0, 60, "fwd=stale"),
        ("max-age=60, proxy-revalidate, stale-while-revalidate=30", 20, 60, "fwd=stale"),
        ("max-age=60, no-cache, stale-while-revalidate=30", 20, 1, "fwd=stale"),
        ("max-age=60, stale-if-error=30", 0, 61, "fwd=stale"),
    ] {
        let stage = plain(Policy::new().stale_while_revalidate(secs(of_policy)));
        let page = format!("cache-control: {cache_control}");
        stage.store_and_wait(&[TAG, ("answer", &page)], second).await;
        let said = stage.get(&[]).await.cache_status();
        let case = format!("{cache_control}, {of_policy} s of the policy, at {second}");
        assert!(said == want || said.starts_with(&format!("{want};")), "{case}: {said}");
    }
}

#[actix_web::test]
async fn where_the_handler_fails_what_is_stored_answers_within_its_window() {
    let own = "max-age=60, stale-if-error=30";
    let status = |code| ("answer-status", code);
    let broken = ("break", "1");
    let rescued = |code| format!("fwd=stale; fwd-status={code}; detail=stale-if-error");
    for (cache_control, of_policy, failure, second, want) in [
        (own, 0, status("500"), 89, Ok(rescued(500))),
        (own, 0, status("502"), 60, Ok(rescued(502))),
        (own, 0, status("503"), 60, Ok(rescued(503))),
        (own, 0, status("504"), 60, Ok(rescued(504))),
        (own, 0, broken, 89, Ok("fwd=stale; detail=stale-if-error".to_owned())),
        (own, 0, status("404"), 60, Err(404)),
        (own, 0, status("429"), 60, Err(429)),
        (own, 0, status("501"), 60, Err(501)),
        (own, 0, status("503"), 90, Err(503)),
        (own, 0, broken, 90, Err(502)),
        ("max-age=60", 0, status("503"), 60, Err(503)),
        ("max-age=60", 0, broken, 60, Err(502)),
        ("max-age=60", 20, status("503"), 79, Ok(rescued(503))),
        ("max-age=60", 20, status("503"), 80, Err(503)),
        ("max-age=60, stale-if-error=5", 20, status("503"), 65, Err(503)),
        ("s-maxage=60", 20, status("503"), 60, Err(503)),
        ("s-maxage=60, stale-if-error=30", 0, status("503"), 89, Ok(rescued(503))),
        ("max-age=60, must-revalidate, stale-if-error=30", 20, status("503"), 60, Err(503)),
        ("max-age=60, proxy-revalidate, stale-if-error=30", 20, broken, 60, Err(502)),
        ("max-age=60, no-cache, stale-if-error=30", 20, status("503"), 1, Err(503)),
        ("max-age=60, stale-while-revalidate=30", 0, status("503"), 95, Err(503)),
    ] {
        let stage = plain(Policy::new().stale_if_error(secs(of_policy)));
        let page = format!("cache-control: {cache_control}");
        let case = format!("{cache_control}, {of_policy} s of the policy, {failure:?} at {second}");
        stage.store_and_wait(&[TAG, ("answer", &page)], second).await;
        let answer = stage.get(&[failure]).await;
        let status = answer.status.as_u16();
        match want {
            Ok(said) => {
                assert_eq!((status, answer.text()), (200, "run 1"), "{case}");
                assert_eq!(answer.cache_status(), said, "{case}");
                assert_eq!(answer.field("age"), Some(second.to_string()), "{case}");
            }
            Err(failed) => {
                assert_eq!(status, failed, "{case}");
                assert_eq!(answer.field("age"), None, "{case}");
            }
        }
        // Whatever was answered, the page is still there for a handler that has recovered.
        let next = stage.get(&[TAG, ("answer-status", "304")]).await;
        assert_eq!((next.status.as_u16(), next.text()), (200, "run 1"), "{case}");
    }
}

#[actix_web::test]
async fn a_failure_that_is_meant_to_be_stored_is_an_answer() {
    let stage = plain(Policy::rfc9111());
    stage.store_and_wait(&[TAG, MINUTE], 60).await;
    let answer = stage.get(&[("answer-status", "503")]).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "a failure");
    let closed = [("answer-status", "503"), ("answer", "cache-control: max-age=10")];
    let answer = stage.get(&closed).await;
    assert_eq!((answer.status.as_u16(), &*answer.cache_status()), (503, "fwd=stale; stored"));
    let answer = stage.get(&[]).await;
    assert_eq!((answer.status.as_u16(), answer.is_hit()), (503, true));
}

#[actix_web::test]
async fn a_stale_answer_for_a_failure_suits_conditions_and_ranges() {
    let stage = plain(Policy::new().stale_if_error(secs(30)));
    stage.store_and_wait(&[TAG, MINUTE], 65).await;
    for failure in [("answer-status", "503"), ("break", "1")] {
        for (asked, status, body) in [
            (("if-none-match", "\"a\""), 304, ""),
            (("if-none-match", "\"b\""), 200, "run 1"),
            (("range", "bytes=0-2"), 206, "run"),
        ] {
            let answer = stage.get(&[failure, asked]).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (status, body), "{asked:?}");
            assert!(answer.cache_status().ends_with("detail=stale-if-error"), "{asked:?}");
        }
    }
}

#[actix_web::test]
async fn by_head_too_what_is_stored_answers_where_the_handler_fails() {
    let stage = plain(Policy::new().stale_if_error(secs(30)));
    stage.store_and_wait(&[TAG, MINUTE], 65).await;
    for (failure, want) in [
        (("answer-status", "503"), "fwd=stale; fwd-status=503; detail=stale-if-error"),
        (("break", "1"), "fwd=stale; detail=stale-if-error"),
    ] {
        let fields = [failure, ("range", "bytes=0-2")];
        let answer = stage.client.send(Method::HEAD, "/", &fields).await;
        assert_eq!((answer.status.as_u16(), &*answer.cache_status()), (200, want));
        assert_eq!(answer.field("content-length").as_deref(), Some("5"), "{failure:?}");
        let answer = stage.client.send(Method::HEAD, "/cold", &[failure]).await;
        assert_ne!(answer.status, 200, "{failure:?}: there is nothing to answer with");
    }
    let answer = stage.client.send(Method::HEAD, "/", &[("answer-status", "404")]).await;
    assert_eq!(answer.status, 404);
    stage.clock.advance(secs(25));
    let answer = stage.client.send(Method::HEAD, "/", &[("answer-status", "503")]).await;
    assert_eq!(answer.status, 503);
}

#[actix_web::test]
async fn a_refresh_reads_a_stream_to_its_end() {
    for (protocol, workers) in SETUPS {
        for length in [Some(5), None] {
            let (store, clock) = (store(), ManualClock::at(START));
            let builder = Cache::builder(store.clone()).clock(clock.clock());
            let policy = Policy::new().stale_while_revalidate(secs(30));
            let cache = builder.policy(policy).build().unwrap();
            let (feeds, mut made) = feeds();
            let server = serve(workers, move || {
                let feeds = feeds.clone();
                let handler = move || {
                    let response = feeds.response(length);
                    async move { response }
                };
                App::new().wrap(cache.clone()).default_service(web::to(handler))
            });
            let client = Client::new(server.addr, protocol);
            for body in ["first", "other"] {
                let getting = client.clone();
                let get = tokio::spawn(async move { getting.get("/").await });
                let feed = made.recv().await.unwrap();
                assert!(feed.send(body).await, "{length:?} by {protocol:?}");
                drop(feed);
                assert_eq!(get.await.unwrap().text(), "first");
                settled(store.coordinator()).await;
                let hit = client.get("/").await;
                assert_eq!((hit.text(), &*hit.cache_status()), (body, "hit; ttl=60"));
                clock.advance(secs(65));
            }
        }
    }
}
