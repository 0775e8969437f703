//! Serving stale responses: `stale-while-revalidate` and `stale-if-error` (RFC 5861).

use std::time::Duration;

use actix_web::{
    App, HttpRequest,
    dev::{Service as _, ServiceRequest},
    error::InternalError,
    http::StatusCode,
    web,
};
use actix_web_cache::{Cache, ManualClock, MemoryStore, Policy, store::Store as _};
use hyper::Method;

use crate::support::{
    Answer, Client, Counter, HoldPoint, Protocol, SETUPS, START, Server, SharedLines, conditions,
    fills_ended, manual_bodies, requested_response, secs, serve, store, wait_until,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

const TAG: (&str, &str) = ("answer", "etag: \"a\"");
const MINUTE: (&str, &str) = ("answer", "cache-control: max-age=60");
/// A minute of freshness, followed by a stale-while-revalidate window of half a minute.
const WINDOW: (&str, &str) = ("answer", "cache-control: max-age=60, stale-while-revalidate=30");
/// A window of half a minute for caches only, as frameworks send it.
const SHARED_WINDOW: (&str, &str) =
    ("answer", "cache-control: max-age=0, s-maxage=60, stale-while-revalidate=30");
const HOLD: (&str, &str) = ("hold", "1");

/// An application whose requests choose the response, can hold up the handler (`hold`) or make it
/// panic (`panic`), and can make a middleware inside the cache return an error with a status code
/// (`break`).
struct Fixture {
    client: Client,
    clock: ManualClock,
    store: MemoryStore,
    /// Handler runs whose request has the field `hold` wait here.
    hold: HoldPoint,
    runs: Counter,
    recorded: SharedLines,
    _server: Server,
}

fn fixture(workers: usize, protocol: Protocol, policy: Policy) -> Fixture {
    let (store, clock) = (store(), ManualClock::at(START));
    let cache = Cache::builder(store.clone()).clock(clock.clock()).policy(policy).build().unwrap();
    let (hold, runs, recorded) = (HoldPoint::new(), Counter::default(), SharedLines::default());
    let shared = (hold.clone(), runs.clone(), recorded.clone());
    let server = serve(workers, move || {
        let (hold, runs, recorded) = shared.clone();
        let handler = move |request: HttpRequest| {
            let (hold, runs, recorded) = (hold.clone(), runs.clone(), recorded.clone());
            async move {
                let run = runs.count();
                recorded.add(format!("{}{}", request.path(), conditions(&request)));
                if request.headers().contains_key("hold") {
                    hold.wait().await;
                }
                assert!(!request.headers().contains_key("panic"), "requested by the test");
                requested_response(&request, run)
            }
        };
        App::new()
            .wrap_fn(|request: ServiceRequest, service| {
                let status =
                    request.headers().get("break").map(|status| status.as_bytes().to_vec());
                let answer = service.call(request);
                async move {
                    let answer = answer.await?;
                    let Some(status) = status else { return Ok(answer) };
                    let status = StatusCode::from_bytes(&status).unwrap();
                    Err(InternalError::new("requested by the test", status).into())
                }
            })
            .wrap(cache.clone())
            .default_service(web::to(handler))
    });
    let client = Client::new(server.addr, protocol);
    Fixture { client, clock, store, hold, runs, recorded, _server: server }
}

fn http1_fixture(policy: Policy) -> Fixture {
    fixture(1, Protocol::Http1, policy)
}

impl Fixture {
    async fn get(&self, fields: Fields<'_>) -> Answer {
        self.client.get_with("/", fields).await
    }

    /// Stores a response with these fields, and lets time pass.
    async fn store_and_wait(&self, fields: Fields<'_>, seconds: u64) {
        let answer = self.get(fields).await;
        assert!(answer.is_stored(), "{fields:?}: {}", answer.cache_status());
        self.clock.advance(secs(seconds));
        self.recorded.take();
    }

    async fn fills_ended(&self) {
        fills_ended(self.store.coordinator()).await;
    }
}

/// See RFC 5861 section 3.
#[actix_web::test]
async fn stale_response_is_served_while_one_refresh_runs() {
    let windowed = || Policy::new().stale_while_revalidate(secs(30));
    for (protocol, workers) in SETUPS {
        for (case, policy, cache_control) in [
            ("of the response", Policy::new(), WINDOW),
            ("of the policy", windowed(), MINUTE),
            ("of a response for shared caches", Policy::new(), SHARED_WINDOW),
        ] {
            let fixture = fixture(workers, protocol, policy);
            fixture.store_and_wait(&[cache_control], 65).await;
            let stale = fixture.get(&[HOLD, cache_control]).await;
            assert_eq!((stale.text(), &*stale.cache_status()), ("run 1", "hit; ttl=-5"), "{case}");
            assert_eq!(stale.field("age").as_deref(), Some("65"), "{case}");
            fixture.hold.reached().await;
            // The handler is held up, and every client still gets a response.
            let hits = (0..50).map(|_| {
                let client = fixture.client.clone();
                tokio::spawn(async move { client.get_with("/", &[HOLD]).await })
            });
            for hit in hits.collect::<Vec<_>>() {
                let hit = hit.await.unwrap();
                assert_eq!((hit.text(), &*hit.cache_status()), ("run 1", "hit; ttl=-5"), "{case}");
            }
            assert_eq!(fixture.runs.get(), 2, "{case} by {protocol:?}");
            fixture.hold.release();
            fixture.fills_ended().await;
            let fresh = fixture.get(&[]).await;
            assert_eq!((fresh.text(), &*fresh.cache_status()), ("run 2", "hit; ttl=60"), "{case}");
            assert_eq!(fixture.runs.get(), 2, "{case} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn refresh_sends_the_stored_validators_and_a_304_freshens_the_entry() {
    let fixture = http1_fixture(Policy::new());
    fixture.store_and_wait(&[TAG, WINDOW], 65).await;
    let fields = [HOLD, TAG, ("answer-status", "304"), ("if-none-match", "\"client\"")];
    assert_eq!(fixture.get(&fields).await.cache_status(), "hit; ttl=-5");
    fixture.hold.reached().await;
    assert_eq!(fixture.recorded.take(), ["/if-none-match: \"a\""]);
    fixture.hold.release();
    fixture.fills_ended().await;
    let fresh = fixture.get(&[]).await;
    assert_eq!((fresh.text(), &*fresh.cache_status()), ("run 1", "hit; ttl=60"));
}

#[actix_web::test]
async fn stale_hit_honors_conditions_and_its_refresh_fetches_the_full_response() {
    let fixture = http1_fixture(Policy::new());
    let condition = ("if-none-match", "\"a\"");
    for (field, status) in [(condition, 304), (("range", "bytes=0-1"), 206)] {
        fixture.store_and_wait(&[TAG, WINDOW], 65).await;
        let answer = fixture.get(&[field, HOLD, ("answer", "etag: \"b\""), WINDOW]).await;
        assert_eq!((answer.status.as_u16(), &*answer.cache_status()), (status, "hit; ttl=-5"));
        fixture.hold.reached().await;
        fixture.hold.release();
        fixture.fills_ended().await;
        let fresh = fixture.get(&[]).await;
        assert_eq!((fresh.is_hit(), fresh.field("etag").as_deref()), (true, Some("\"b\"")));
        assert!(fresh.text().starts_with("run "), "{status}");
        fixture.clock.advance(secs(600));
    }
}

#[actix_web::test]
async fn failed_refresh_keeps_the_stale_entry_and_delays_the_next_refresh() {
    for failure in [("answer-status", "500"), ("break", "502"), ("panic", "1")] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let fixture = fixture(1, protocol, Policy::new());
            fixture.store_and_wait(&[WINDOW], 65).await;
            let coordinator = fixture.store.coordinator();
            for (attempt, pause) in [(2, 1), (3, 2)] {
                let cache_status = fixture.get(&[failure, HOLD]).await.cache_status();
                fixture.hold.reached().await;
                for _ in 0..10 {
                    let answer = fixture.get(&[failure, HOLD]).await;
                    assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"));
                    assert_eq!(answer.cache_status(), cache_status);
                }
                fixture.hold.release();
                wait_until("the refresh ended", || coordinator.open_refreshes() == 0).await;
                fixture.clock.advance(secs(pause) - Duration::from_millis(1));
                for _ in 0..10 {
                    assert_eq!(fixture.get(&[failure, HOLD]).await.text(), "run 1");
                }
                assert_eq!(fixture.runs.get(), attempt, "{failure:?}: no refresh during the pause");
                fixture.clock.advance(Duration::from_millis(1));
            }
            assert_eq!(fixture.get(&[WINDOW]).await.text(), "run 1");
            wait_until("the refresh ended", || coordinator.open_refreshes() == 0).await;
            assert_eq!(fixture.get(&[]).await.text(), "run 4", "{failure:?}");
        }
    }
}

#[actix_web::test]
async fn refresh_stores_nothing_when_purged_meanwhile() {
    let fixture = http1_fixture(Policy::new());
    fixture.store_and_wait(&[WINDOW], 65).await;
    assert!(fixture.get(&[HOLD, WINDOW]).await.is_hit());
    fixture.hold.reached().await;
    assert_eq!(fixture.client.send(Method::PUT, "/", &[]).await.status, 200);
    fixture.hold.release();
    fixture.fills_ended().await;
    assert_eq!(fixture.get(&[]).await.cache_status(), "fwd=uri-miss; stored");
}

#[actix_web::test]
async fn request_that_may_store_nothing_starts_no_refresh() {
    let fixture = http1_fixture(Policy::new());
    fixture.store_and_wait(&[WINDOW], 65).await;
    let no_store = fixture.get(&[("cache-control", "no-store")]).await;
    assert_eq!((no_store.text(), &*no_store.cache_status()), ("run 1", "hit; ttl=-5"));
    let head = fixture.client.send(Method::HEAD, "/", &[]).await;
    assert_eq!(head.cache_status(), "hit; ttl=-5");
    fixture.get(&[HOLD]).await;
    fixture.hold.reached().await;
    assert_eq!(fixture.runs.get(), 2, "only the last request started a refresh");
    fixture.hold.release();
}

/// `must-revalidate`, `proxy-revalidate` and `no-cache` forbid stale responses (RFC 9111 section
/// 4.2.4). `s-maxage` does so too, unless the response has a window of its own.
#[actix_web::test]
async fn stale_while_revalidate_window_is_the_responses_or_the_policys() {
    let windowed = "max-age=60, stale-while-revalidate=30";
    for (cache_control, of_policy, second, want) in [
        (windowed, 0, 60, "hit; ttl=-0"),
        (windowed, 0, 89, "hit; ttl=-29"),
        (windowed, 0, 90, "fwd=stale"),
        ("max-age=60", 0, 60, "fwd=stale"),
        ("max-age=60", 20, 79, "hit; ttl=-19"),
        ("max-age=60", 20, 80, "fwd=stale"),
        (windowed, 20, 89, "hit; ttl=-29"),
        ("max-age=60, stale-while-revalidate=5", 20, 65, "fwd=stale"),
        ("max-age=60, stale-while-revalidate=0", 20, 60, "fwd=stale"),
        ("max-age=60, stale-while-revalidate=x", 20, 79, "hit; ttl=-19"),
        ("max-age=60, stale-while-revalidate", 20, 79, "hit; ttl=-19"),
        ("s-maxage=60, stale-while-revalidate", 20, 60, "fwd=stale"),
        ("max-age=0, s-maxage=60, stale-while-revalidate=30", 0, 89, "hit; ttl=-29"),
        ("max-age=60, stale-while-revalidate=30, stale-while-revalidate=90", 0, 89, "hit; ttl=-29"),
        ("max-age=60, stale-while-revalidate=30, stale-while-revalidate=90", 0, 90, "fwd=stale"),
        ("max-age=60, stale-while-revalidate=\"30\"", 0, 89, "hit; ttl=-29"),
        ("max-age=60, stale-while-revalidate=31536000", 0, 31_536_059, "hit; ttl=-31535999"),
        ("s-maxage=60", 20, 60, "fwd=stale"),
        ("s-maxage=60, stale-while-revalidate=30", 0, 89, "hit; ttl=-29"),
        ("max-age=60, must-revalidate", 20, 60, "fwd=stale"),
        ("max-age=60, must-revalidate, stale-while-revalidate=30", 0, 60, "fwd=stale"),
        ("max-age=60, proxy-revalidate, stale-while-revalidate=30", 20, 60, "fwd=stale"),
        ("max-age=60, no-cache, stale-while-revalidate=30", 20, 1, "fwd=stale"),
        ("max-age=60, stale-if-error=30", 0, 61, "fwd=stale"),
    ] {
        let fixture = http1_fixture(Policy::new().stale_while_revalidate(secs(of_policy)));
        let line = format!("cache-control: {cache_control}");
        fixture.store_and_wait(&[TAG, ("answer", &line)], second).await;
        let cache_status = fixture.get(&[]).await.cache_status();
        let case = format!("{cache_control}, {of_policy} s by the policy, after {second} s");
        let matches = cache_status == want || cache_status.starts_with(&format!("{want};"));
        assert!(matches, "{case}: {cache_status}");
    }
}

/// RFC 5861 section 4 defines the status codes that count as errors.
#[actix_web::test]
async fn stale_response_replaces_an_error_within_the_stale_if_error_window() {
    let windowed = "max-age=60, stale-if-error=30";
    let status = |code| ("answer-status", code);
    let broken = ("break", "502");
    let replaced = |code| format!("fwd=stale; fwd-status={code}; detail=stale-if-error");
    for (cache_control, of_policy, failure, second, want) in [
        (windowed, 0, status("500"), 89, Ok(replaced(500))),
        (windowed, 0, status("502"), 60, Ok(replaced(502))),
        (windowed, 0, status("503"), 60, Ok(replaced(503))),
        (windowed, 0, status("504"), 60, Ok(replaced(504))),
        (windowed, 0, broken, 89, Ok("fwd=stale; detail=stale-if-error".to_owned())),
        (windowed, 0, status("404"), 60, Err(404)),
        (windowed, 0, status("429"), 60, Err(429)),
        (windowed, 0, status("501"), 60, Err(501)),
        (windowed, 0, status("507"), 60, Err(507)),
        (windowed, 0, status("503"), 90, Err(503)),
        (windowed, 0, broken, 90, Err(502)),
        ("max-age=60", 0, status("503"), 60, Err(503)),
        ("max-age=60", 0, broken, 60, Err(502)),
        ("max-age=60", 20, status("503"), 79, Ok(replaced(503))),
        ("max-age=60", 20, status("503"), 80, Err(503)),
        ("max-age=60, stale-if-error=5", 20, status("503"), 65, Err(503)),
        ("s-maxage=60", 20, status("503"), 60, Err(503)),
        ("s-maxage=60, stale-if-error=30", 0, status("503"), 89, Ok(replaced(503))),
        ("max-age=60, must-revalidate, stale-if-error=30", 20, status("503"), 60, Err(503)),
        ("max-age=60, proxy-revalidate, stale-if-error=30", 20, broken, 60, Err(502)),
        ("max-age=60, no-cache, stale-if-error=30", 20, status("503"), 1, Err(503)),
        ("max-age=60, stale-while-revalidate=30", 0, status("503"), 95, Err(503)),
    ] {
        let fixture = http1_fixture(Policy::new().stale_if_error(secs(of_policy)));
        let line = format!("cache-control: {cache_control}");
        let case =
            format!("{cache_control}, {of_policy} s by the policy, {failure:?} after {second} s");
        fixture.store_and_wait(&[TAG, ("answer", &line)], second).await;
        let answer = fixture.get(&[failure]).await;
        let status = answer.status.as_u16();
        match want {
            Ok(cache_status) => {
                assert_eq!((status, answer.text()), (200, "run 1"), "{case}");
                assert_eq!(answer.cache_status(), cache_status, "{case}");
                assert_eq!(answer.field("age"), Some(second.to_string()), "{case}");
            }
            Err(failed) => {
                assert_eq!(status, failed, "{case}");
                assert_eq!(answer.field("age"), None, "{case}");
            }
        }
        // In every case the entry is kept, and a handler that has recovered can revalidate it.
        let next = fixture.get(&[TAG, ("answer-status", "304")]).await;
        assert_eq!((next.status.as_u16(), next.text()), (200, "run 1"), "{case}");
    }
}

#[actix_web::test]
async fn error_response_with_explicit_freshness_is_stored_instead_of_replaced() {
    let fixture = http1_fixture(Policy::rfc9111());
    fixture.store_and_wait(&[TAG, MINUTE], 60).await;
    let answer = fixture.get(&[("answer-status", "503")]).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text()),
        (200, "run 1"),
        "an error without a lifetime"
    );
    let explicit = [("answer-status", "503"), ("answer", "cache-control: max-age=10")];
    let answer = fixture.get(&explicit).await;
    assert_eq!((answer.status.as_u16(), &*answer.cache_status()), (503, "fwd=stale; stored"));
    let answer = fixture.get(&[]).await;
    assert_eq!((answer.status.as_u16(), answer.is_hit()), (503, true));
}

/// By default, the lifetime that an error states does not count.
#[actix_web::test]
async fn error_response_with_explicit_freshness_is_replaced_under_the_default_policy() {
    for status in ["500", "503"] {
        let fixture = http1_fixture(Policy::new().stale_if_error(secs(30)));
        fixture.store_and_wait(&[MINUTE], 65).await;
        let failure = [("answer-status", status), MINUTE];
        for _ in 0..2 {
            let answer = fixture.get(&failure).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "{status}");
            assert!(answer.cache_status().ends_with("detail=stale-if-error"), "{status}");
        }
        let recovered = fixture.get(&[MINUTE]).await;
        assert_eq!((recovered.text(), recovered.is_stored()), ("run 4", true), "{status}");
        assert_eq!(fixture.get(&failure).await.text(), "run 4", "{status}: a hit");
    }
}

#[actix_web::test]
async fn stale_response_for_an_error_honors_conditions_and_ranges() {
    let fixture = http1_fixture(Policy::new().stale_if_error(secs(30)));
    fixture.store_and_wait(&[TAG, MINUTE], 65).await;
    for failure in [("answer-status", "503"), ("break", "502")] {
        for (field, status, body) in [
            (("if-none-match", "\"a\""), 304, ""),
            (("if-none-match", "\"b\""), 200, "run 1"),
            (("range", "bytes=0-2"), 206, "run"),
        ] {
            let answer = fixture.get(&[failure, field]).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (status, body), "{field:?}");
            assert!(answer.cache_status().ends_with("detail=stale-if-error"), "{field:?}");
        }
    }
}

#[actix_web::test]
async fn stale_response_replaces_an_error_for_head_requests() {
    let fixture = http1_fixture(Policy::new().stale_if_error(secs(30)));
    fixture.store_and_wait(&[TAG, MINUTE], 65).await;
    for (failure, want) in [
        (("answer-status", "503"), "fwd=stale; fwd-status=503; detail=stale-if-error"),
        (("break", "502"), "fwd=stale; detail=stale-if-error"),
    ] {
        let fields = [failure, ("range", "bytes=0-2")];
        let answer = fixture.client.send(Method::HEAD, "/", &fields).await;
        assert_eq!((answer.status.as_u16(), &*answer.cache_status()), (200, want));
        assert_eq!(answer.field("content-length").as_deref(), Some("5"), "{failure:?}");
        let answer = fixture.client.send(Method::HEAD, "/cold", &[failure]).await;
        assert_ne!(answer.status, 200, "{failure:?}: no stored response");
    }
    let answer = fixture.client.send(Method::HEAD, "/", &[("answer-status", "404")]).await;
    assert_eq!(answer.status, 404);
    fixture.clock.advance(secs(25));
    let answer = fixture.client.send(Method::HEAD, "/", &[("answer-status", "503")]).await;
    assert_eq!(answer.status, 503);
}

#[actix_web::test]
async fn refresh_reads_a_streamed_body_to_its_end() {
    for (protocol, workers) in SETUPS {
        for length in [Some(5), None] {
            let (store, clock) = (store(), ManualClock::at(START));
            let builder = Cache::builder(store.clone()).clock(clock.clock());
            let policy = Policy::new().stale_while_revalidate(secs(30));
            let cache = builder.policy(policy).build().unwrap();
            let (bodies, mut made) = manual_bodies();
            let server = serve(workers, move || {
                let bodies = bodies.clone();
                let handler = move || {
                    let response = bodies.response(length);
                    async move { response }
                };
                App::new().wrap(cache.clone()).default_service(web::to(handler))
            });
            let client = Client::new(server.addr, protocol);
            for body in ["first", "other"] {
                let requesting = client.clone();
                let get = tokio::spawn(async move { requesting.get("/").await });
                let sender = made.recv().await.unwrap();
                assert!(sender.send(body).await, "{length:?} by {protocol:?}");
                drop(sender);
                assert_eq!(get.await.unwrap().text(), "first");
                fills_ended(store.coordinator()).await;
                let hit = client.get("/").await;
                assert_eq!((hit.text(), &*hit.cache_status()), (body, "hit; ttl=60"));
                clock.advance(secs(65));
            }
        }
    }
}

/// An answer such as 404 or 403 withdraws the page. The page must not come back because the handler
/// fails later.
#[actix_web::test]
async fn withdrawing_status_ends_stale_use_and_other_client_errors_do_not() {
    let policy = || Policy::new().stale_if_error(secs(600));
    for (status, withdraws) in [
        ("401", true),
        ("403", true),
        ("404", true),
        ("410", true),
        ("451", true),
        ("400", false),
        ("406", false),
        ("429", false),
    ] {
        for way in ["answer-status", "break"] {
            let fixture = http1_fixture(policy());
            fixture.store_and_wait(&[TAG, MINUTE], 65).await;
            let answer = fixture.get(&[(way, status)]).await;
            assert_eq!(answer.status.as_str(), status, "{way}");
            for failure in [("answer-status", "503"), ("break", "502")] {
                let later = fixture.get(&[failure]).await;
                let want = if withdraws { failure.1 } else { "200" };
                assert_eq!(later.status.as_str(), want, "{way} {status}, then {failure:?}");
            }
            // The handler may still confirm the page.
            let next = fixture.get(&[TAG, MINUTE, ("answer-status", "304")]).await;
            assert_eq!((next.status.as_u16(), next.text()), (200, "run 1"), "{way} {status}");
            fixture.clock.advance(secs(65));
            let later = fixture.get(&[("answer-status", "503")]).await;
            assert_eq!((later.status.as_u16(), later.text()), (200, "run 1"), "confirmed");
        }
    }
}

#[actix_web::test]
async fn refresh_with_a_withdrawing_status_ends_stale_use() {
    for way in ["answer-status", "break"] {
        let fixture = http1_fixture(
            Policy::new().stale_if_error(secs(600)).stale_while_revalidate(secs(600)),
        );
        fixture.store_and_wait(&[TAG, MINUTE], 65).await;
        assert_eq!(fixture.get(&[(way, "404")]).await.cache_status(), "hit; ttl=-5");
        let coordinator = fixture.store.coordinator();
        wait_until("the refresh ended", || coordinator.open_refreshes() == 0).await;
        assert_eq!(fixture.get(&[("answer-status", "503")]).await.status, 503, "{way}");
        assert_eq!(fixture.get(&[("answer-status", "404")]).await.status, 404, "{way}");
    }
}

/// A client that forces a validation must not take a fresh page from others.
#[actix_web::test]
async fn withdrawing_status_leaves_a_fresh_response_fresh() {
    let fixture = http1_fixture(Policy::new().honor_request_directives());
    fixture.store_and_wait(&[TAG, MINUTE], 5).await;
    let forced = fixture.get(&[("cache-control", "no-cache"), ("answer-status", "403")]).await;
    assert_eq!(forced.status, 403);
    let hit = fixture.get(&[]).await;
    assert_eq!((hit.text(), &*hit.cache_status()), ("run 1", "hit; ttl=55"));
}

/// The end of stale use is written as a copy of the stored response, which must not undo a purge.
#[actix_web::test]
async fn withdrawing_status_does_not_restore_a_purged_response() {
    for way in ["answer-status", "break"] {
        let fixture = http1_fixture(Policy::new().honor_request_directives());
        fixture.store_and_wait(&[TAG, MINUTE], 5).await;
        let client = fixture.client.clone();
        let forced = tokio::spawn(async move {
            client.get_with("/", &[("cache-control", "no-cache"), (way, "403"), HOLD]).await
        });
        fixture.hold.reached().await;
        assert_eq!(fixture.client.send(Method::PUT, "/", &[]).await.status, 200);
        fixture.hold.release();
        assert_eq!(forced.await.unwrap().status, 403);
        fixture.fills_ended().await;
        assert_eq!(fixture.get(&[]).await.cache_status(), "fwd=uri-miss; stored", "{way}");
    }
}

/// The newest answer of the handler counts, whatever its status is.
#[actix_web::test]
async fn page_that_has_moved_does_not_come_back_when_the_handler_fails() {
    let fixture = http1_fixture(Policy::new().stale_if_error(secs(600)));
    fixture.store_and_wait(&[TAG, MINUTE], 65).await;
    let moved = [("answer-status", "301"), ("answer", "location: /new")];
    fixture.store_and_wait(&moved, 65).await;
    for failure in [("answer-status", "503"), ("break", "502")] {
        let answer = fixture.get(&[failure]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (301, "run 2"), "{failure:?}");
    }
}

/// A handler that notices its own failure refuses to store an answer. Then the page of before is
/// better than none.
#[actix_web::test]
async fn refresh_with_an_unstorable_response_keeps_the_stale_entry() {
    for refusal in
        ["cache-control: no-store", "cache-control: private", "set-cookie: sid=1", "vary: *"]
    {
        let fixture = http1_fixture(Policy::new());
        fixture.store_and_wait(&[WINDOW], 65).await;
        let coordinator = fixture.store.coordinator();
        for runs in [2, 3] {
            assert_eq!(fixture.get(&[("answer", refusal)]).await.text(), "run 1", "{refusal}");
            wait_until("the refresh ended", || coordinator.open_refreshes() == 0).await;
            assert_eq!(fixture.runs.get(), runs, "{refusal}");
            // The next refresh begins after a pause.
            assert_eq!(fixture.get(&[("answer", refusal)]).await.text(), "run 1", "{refusal}");
            assert_eq!(fixture.runs.get(), runs, "{refusal}");
            fixture.clock.advance(secs(2));
        }
        fixture.clock.advance(secs(30));
        assert_eq!(fixture.get(&[("answer", refusal)]).await.text(), "run 4", "{refusal}");
    }
}
