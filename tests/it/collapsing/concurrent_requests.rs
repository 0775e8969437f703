//! Concurrent requests for a response that is not stored: the leader runs the handler and followers
//! use its response, where they may share it.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    http::{StatusCode, header::IF_NONE_MATCH},
};
use actix_web_cache::{Cache, MemoryStore, Policy, store::Store as _};
use futures_util::future::join_all;
use tokio::{sync::Barrier, time::timeout};

use crate::support::{
    Answer, CLIENTS, Client, GatedApp, HookedStore, Protocol, SETUPS, StoreCall, StoreEvent,
    builder, secs, store, test_app, wait_until,
};

fn shared(cache: Cache) -> impl Fn() -> Cache + Clone + Send + 'static {
    move || cache.clone()
}

#[actix_web::test]
async fn concurrent_misses_run_the_handler_once() {
    for (protocol, workers) in SETUPS {
        let (app, store) = (GatedApp::new(), store());
        let coordinator = store.coordinator().clone();
        // Each worker has its own cache. Requests collapse through the shared store.
        let cache = move || Cache::new(store.clone());
        let server = app.serve(workers, cache, async |app, _| {
            HttpResponse::Ok().body(format!("run {}", app.pass_gate().await))
        });
        let answers = app.send_all_at_once(&server, protocol, &[&[]]).await;
        assert!(answers.iter().all(|answer| answer.text() == "run 1"), "{protocol:?}");
        assert_eq!(app.runs.get(), 1, "{protocol:?} by {workers}");
        let leaders = answers.iter().filter(|answer| answer.is_stored()).count();
        assert_eq!(leaders, 1);
        let is_follower = |answer: &&Answer| {
            let status = answer.cache_status();
            status == "fwd=uri-miss; collapsed" || status.starts_with("hit")
        };
        assert_eq!(answers.iter().filter(is_follower).count(), CLIENTS - 1);
        assert!(answers.iter().filter(is_follower).all(|answer| answer.field("age").is_some()));
        assert_eq!((coordinator.open_flights(), coordinator.open_fills()), (0, 0));
    }
}

/// In the first burst the followers learn that the response is not storable. In the second burst
/// the hit-for-miss hint keeps them from waiting.
#[actix_web::test]
async fn requests_for_unstorable_response_run_in_parallel() {
    let (app, (builder, _)) = (GatedApp::new(), builder());
    let barriers = Arc::new([Barrier::new(CLIENTS - 1), Barrier::new(CLIENTS)]);
    let server = app.serve(2, shared(builder.build().unwrap()), async move |app, _| {
        let run = app.runs.count();
        // Every run except the first waits until all runs of its burst have begun.
        if run > 1 {
            let burst = &barriers[usize::from(run > CLIENTS)];
            timeout(secs(20), burst.wait()).await.expect("all runs of a burst are parallel");
        }
        HttpResponse::Ok().insert_header(("cache-control", "no-store")).body(format!("run {run}"))
    });
    for burst in 1..=2 {
        let answers = app.send_all_at_once(&server, Protocol::Http1, &[&[]]).await;
        assert_eq!(app.runs.get(), burst * CLIENTS);
        let mut bodies: Vec<_> = answers.iter().map(Answer::text).collect();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), CLIENTS, "each request has its own response");
    }
}

#[actix_web::test]
async fn follower_becomes_leader_when_leader_fails() {
    let (app, (builder, _)) = (GatedApp::new(), builder());
    let server = app.serve(2, shared(builder.build().unwrap()), async |app, _| {
        let run = app.pass_gate().await;
        assert!(run > 1, "the first run panics and closes its connection");
        HttpResponse::Ok().body(format!("run {run}"))
    });
    let first = Client::new(server.addr, Protocol::Http1);
    let failing = async { first.send_body(hyper::Method::GET, "/", &[], "").await.is_err() };
    let followers = async {
        wait_until("the handler runs begin", || app.runs.get() == 1).await;
        let answers = app.send_all_at_once(&server, Protocol::Http1, &[&[]]);
        let second = async {
            wait_until("the handler runs begin", || app.runs.get() == 2).await;
            app.gate.add_permits(1);
        };
        futures_util::join!(answers, second).0
    };
    let (failed, answers) = futures_util::join!(failing, followers);
    assert!(failed);
    assert!(answers.iter().all(|answer| answer.text() == "run 2"));
    assert_eq!(app.runs.get(), 2);
}

/// A failure may concern one request only, so each follower runs the handler itself.
#[actix_web::test]
async fn error_response_is_not_collapsed_and_next_success_is() {
    let (app, (builder, _)) = (GatedApp::new(), builder());
    let server = app.serve(2, shared(builder.build().unwrap()), async |app, _| {
        let run = app.pass_gate().await;
        if run <= CLIENTS {
            return HttpResponse::InternalServerError().body(format!("run {run}"));
        }
        HttpResponse::Ok().body(format!("run {run}"))
    });
    let rest = async {
        wait_until("the handler runs begin", || app.runs.get() == CLIENTS).await;
        app.gate.add_permits(CLIENTS - 1);
    };
    let (answers, ()) =
        futures_util::join!(app.send_all_at_once(&server, Protocol::Http1, &[&[]]), rest);
    assert!(answers.iter().all(|answer| answer.status == 500));
    let answers = app.send_all_at_once(&server, Protocol::Http1, &[&[]]).await;
    let shared = format!("run {}", CLIENTS + 1);
    assert!(answers.iter().all(|answer| answer.text() == shared), "{}", app.runs.get());
}

#[actix_web::test]
async fn each_variant_is_collapsed_separately() {
    let (app, (builder, _)) = (GatedApp::new(), builder());
    let server = app.serve(4, shared(builder.build().unwrap()), async |app, request| {
        app.pass_gate().await;
        let language =
            request.headers().get("accept-language").unwrap().to_str().unwrap().to_owned();
        HttpResponse::Ok().insert_header(("vary", "accept-language")).body(language)
    });
    let (german, french) = ([("accept-language", "de")], [("accept-language", "fr")]);
    let second = async {
        wait_until("the handler runs begin", || app.runs.get() == 2).await;
        app.gate.add_permits(1);
    };
    let fields: [&[(&str, &str)]; 2] = [&german, &french];
    let send_all_at_once = app.send_all_at_once(&server, Protocol::Http1, &fields);
    let (answers, ()) = futures_util::join!(send_all_at_once, second);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.text(), ["de", "fr"][n % 2]);
    }
    assert_eq!(app.runs.get(), 2);
}

/// The first lookup finds nothing. Before the handler runs, a second lookup finds that the language
/// selects the response, and another request for French leads already.
#[actix_web::test]
async fn request_that_discovers_variants_follows_its_own_variant() {
    let (app, store) = (GatedApp::new(), HookedStore::slow());
    let cache = Cache::new(store.clone());
    let server = app.serve(2, shared(cache), async |app, request| {
        let language =
            request.headers().get("accept-language").unwrap().to_str().unwrap().to_owned();
        app.pass_gate().await;
        HttpResponse::Ok().insert_header(("vary", "accept-language")).body(language)
    });
    let clients = [(); 3].map(|()| Client::new(server.addr, Protocol::Http1));
    let [early, german, french] = &clients;
    let first_lookup = store.hold_next(StoreEvent::Ends(StoreCall::Lookup));
    let early = early.get_with("/", &[("accept-language", "fr")]);
    let rest = async {
        first_lookup.reached().await;
        app.gate.add_permits(1);
        assert_eq!(german.get_with("/", &[("accept-language", "de")]).await.text(), "de");
        store.put_completed().await;
        let again = async {
            wait_until("the handler runs begin", || app.runs.get() == 2).await;
            let second_lookup = store.hold_next(StoreEvent::Ends(StoreCall::Lookup));
            first_lookup.release();
            second_lookup.reached().await;
            second_lookup.release();
            app.gate.add_permits(2);
        };
        futures_util::join!(french.get_with("/", &[("accept-language", "fr")]), again).0
    };
    let (early, french) = futures_util::join!(early, rest);
    assert_eq!((early.text(), french.text()), ("fr", "fr"));
    assert_eq!(app.runs.get(), 2);
}

/// A request with a cookie may not use the response of the leader, so waiting would only delay it.
#[actix_web::test]
async fn personal_request_does_not_wait_for_leader() {
    let (app, (builder, _)) = (GatedApp::new(), builder());
    let server = app.serve(2, shared(builder.build().unwrap()), async |app, request| {
        let cookie =
            request.headers().get("cookie").map_or("none", |cookie| cookie.to_str().unwrap());
        let cookie = cookie.to_owned();
        app.pass_gate().await;
        HttpResponse::Ok().body(cookie)
    });
    let (anonymous, alice) =
        (Client::new(server.addr, Protocol::Http1), Client::new(server.addr, Protocol::Http1));
    let both = async {
        futures_util::join!(anonymous.get("/"), alice.get_with("/", &[("cookie", "alice")]))
    };
    let release = async {
        wait_until("the handler runs begin", || app.runs.get() == 2).await;
        app.gate.add_permits(2);
    };
    let ((anonymous, alice), ()) = futures_util::join!(both, release);
    assert_eq!((anonymous.text(), alice.text()), ("none", "alice"));
}

/// Without permission to share, requests with other tokens wait at most for the head of one
/// response, and each calls the handler. With permission, one response is for all of them.
#[actix_web::test]
async fn requests_with_different_tokens_share_a_response_only_if_it_permits_sharing() {
    let tokens: Vec<_> = (0..CLIENTS).map(|n| format!("Bearer {n}")).collect();
    let lines: Vec<_> = tokens.iter().map(|token| [("authorization", token.as_str())]).collect();
    let fields: Vec<&[(&str, &str)]> = lines.iter().map(|line| &line[..]).collect();
    for (cache_control, vary, runs) in [
        ("max-age=60", None, CLIENTS),
        ("max-age=60", Some("authorization"), CLIENTS),
        ("public, max-age=60", Some("authorization"), CLIENTS),
        ("public, max-age=60", None, 1),
    ] {
        let (app, (builder, _)) = (GatedApp::new(), builder());
        let server = app.serve(2, shared(builder.build().unwrap()), async move |app, request| {
            app.pass_gate().await;
            let token = request.headers().get("authorization").unwrap().to_str().unwrap();
            let mut response = HttpResponse::Ok();
            response.insert_header(("cache-control", cache_control));
            if let Some(vary) = vary {
                response.insert_header(("vary", vary));
            }
            response.body(token.to_owned())
        });
        let case = format!("{cache_control}, Vary: {vary:?}");
        let rest = async {
            wait_until("all handler calls have begun", || app.runs.get() == runs).await;
            app.gate.add_permits(runs - 1);
        };
        let requests = app.send_all_at_once(&server, Protocol::Http1, &fields);
        let (answers, ()) = futures_util::join!(requests, rest);
        let shared = answers[0].text();
        for (answer, token) in answers.iter().zip(&tokens) {
            assert_eq!(answer.text(), if runs == 1 { shared } else { token }, "{case}");
        }
        assert_eq!(app.runs.get(), runs, "{case}");
    }
}

/// A request with `no-store` shares no response in progress, and `only-if-cached` does not wait for
/// one. The other directives are about stored responses: they apply once the response is stored.
#[actix_web::test]
async fn request_directives_decide_whether_a_request_follows_a_leader() {
    let (ignored, honored) = (Policy::new(), Policy::new().honor_request_directives());
    let not_stored = "fwd=uri-miss; detail=request-no-store";
    let collapsed = "fwd=uri-miss; collapsed";
    for (policy, directive, waits, want, cache_status) in [
        (&ignored, "no-store", false, Some("run 2"), not_stored),
        (&honored, "no-store", false, Some("run 2"), not_stored),
        (&ignored, "only-if-cached", true, Some("run 1"), collapsed),
        (&honored, "only-if-cached", false, None, "detail=only-if-cached"),
        (&ignored, "no-cache", true, Some("run 1"), collapsed),
        (&honored, "no-cache", true, Some("run 2"), "fwd=request; stored"),
        (&honored, "max-age=0", true, Some("run 1"), collapsed),
        (&honored, "min-fresh=10", true, Some("run 1"), collapsed),
        (&honored, "min-fresh=99", true, Some("run 2"), "fwd=request; stored"),
    ] {
        let (app, (builder, _)) = (GatedApp::new(), builder());
        let cache = builder.policy(policy.clone()).build().unwrap();
        let server = app.serve(1, shared(cache), async |app, _| {
            HttpResponse::Ok().body(format!("run {}", app.pass_gate().await))
        });
        let (leader, other) =
            (Client::new(server.addr, Protocol::Http1), Client::new(server.addr, Protocol::Http1));
        let directed = async {
            wait_until("the leader has arrived", || app.arrived.get() == 1).await;
            let answer = async {
                let answer = other.get_with("/", &[("cache-control", directive)]).await;
                // The leader need not answer before.
                app.gate.add_permits(usize::from(want.is_none()));
                answer
            };
            let release = async {
                wait_until("both requests have arrived", || app.arrived.get() == 2).await;
                let in_parallel = !waits && want.is_some();
                assert_eq!(app.runs.get(), 1 + usize::from(in_parallel), "{directive}");
                app.gate.add_permits(if want.is_some() { 2 } else { 0 });
            };
            futures_util::join!(answer, release).0
        };
        let (first, answer) = futures_util::join!(leader.get("/"), directed);
        assert_eq!((first.text(), first.is_stored()), ("run 1", true), "{directive}");
        assert_eq!(answer.status == 504, want.is_none(), "{directive}");
        assert_eq!(answer.cache_status(), cache_status, "{directive}");
        assert!(want.is_none_or(|want| answer.text() == want), "{directive}: {answer:?}");
    }
}

/// Under `Policy::rfc9111`, cookies do not make a request personal. A private response to a request
/// with cookies still says nothing about requests without cookies.
#[actix_web::test]
async fn private_response_to_a_cookie_does_not_end_collapsing_for_others() {
    let (app, (builder, clock)) = (GatedApp::new(), builder());
    let cache = builder.policy(Policy::rfc9111()).build().unwrap();
    let server = app.serve(2, shared(cache), async |app, request| {
        let personal = request.headers().contains_key("cookie");
        let cache_control = if personal { "private" } else { "max-age=60" };
        let run = if personal { 0 } else { app.pass_gate().await };
        let mut response = HttpResponse::Ok();
        response.insert_header(("cache-control", cache_control)).body(format!("run {run}"))
    });
    let alice = Client::new(server.addr, Protocol::Http1);
    for burst in 1..=2 {
        let answer = alice.get_with("/", &[("cookie", "alice")]).await;
        assert!(answer.cache_status().contains("detail=private"), "{answer:?}");
        let arrived = app.arrived.get();
        let answers = app.send_all_at_once(&server, Protocol::Http1, &[&[]]).await;
        let want = format!("run {burst}");
        assert!(answers.iter().all(|answer| answer.text() == want), "burst {burst}");
        assert_eq!((app.runs.get(), app.arrived.get() - arrived), (burst, CLIENTS));
        clock.advance(secs(9));
        assert_eq!(alice.get_with("/", &[("cookie", "alice")]).await.text(), want, "a hit");
        clock.advance(secs(60));
        let answer = alice.get_with("/", &[("cookie", "alice")]).await;
        assert_eq!(answer.text(), "run 0");
    }
}

/// A 403 or a 400 is about one request. It must not end collapsing for all others.
#[actix_web::test]
async fn client_error_of_one_request_does_not_end_collapsing_for_others() {
    for status in [400, 401, 403, 406, 429] {
        let (app, (builder, _)) = (GatedApp::new(), builder());
        let server = app.serve(2, shared(builder.build().unwrap()), async move |app, request| {
            if request.headers().contains_key("bad") {
                return HttpResponse::build(StatusCode::from_u16(status).unwrap()).finish();
            }
            HttpResponse::Ok().body(format!("run {}", app.pass_gate().await))
        });
        let bad = Client::new(server.addr, Protocol::Http1).get_with("/", &[("bad", "1")]).await;
        assert_eq!(bad.status.as_u16(), status);
        let answers = app.send_all_at_once(&server, Protocol::Http1, &[&[]]).await;
        assert!(answers.iter().all(|answer| answer.text() == "run 1"), "{status}");
    }
}

#[actix_web::test]
async fn concurrent_requests_revalidate_stale_entry_once() {
    let (app, (builder, clock)) = (GatedApp::new(), builder());
    let server = app.serve(2, shared(builder.build().unwrap()), async |app, request| {
        app.pass_gate().await;
        let matches = request.headers().get(IF_NONE_MATCH).is_some_and(|tag| tag == "\"a\"");
        let mut answer = if matches { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        let answer = answer.insert_header(("etag", "\"a\""));
        if matches { answer.finish() } else { answer.body("page") }
    });
    let first = app.send_all_at_once(&server, Protocol::Http1, &[&[]]).await;
    assert!(first.iter().all(|answer| answer.text() == "page"));
    clock.advance(secs(61));
    let answers = app.send_all_at_once(&server, Protocol::Http1, &[&[]]).await;
    assert!(answers.iter().all(|answer| answer.text() == "page" && answer.status == 200));
    let validated = answers
        .iter()
        .filter(|answer| answer.cache_status() == "fwd=stale; fwd-status=304; stored");
    assert_eq!(validated.count(), 1);
    assert_eq!(app.runs.get(), 2);
}

#[actix_web::test]
async fn request_after_purge_does_not_follow_earlier_leader() {
    let app = GatedApp::new();
    let cache = Cache::builder(MemoryStore::new(1024 * 1024))
        .policy(Policy::new().default_ttl(Duration::from_secs(600)))
        .build()
        .unwrap();
    let handle = cache.handle();
    let server = app.serve(2, shared(cache), async |app, _| {
        HttpResponse::Ok().body(format!("run {}", app.pass_gate().await))
    });
    let client = || Client::new(server.addr, Protocol::Http1);
    let (before, after) = (client(), client());
    let second = async {
        wait_until("the handler runs begin", || app.runs.get() == 1).await;
        handle.purge_url(format!("http://{}/", server.addr)).await.unwrap();
        after.get("/").await
    };
    let release = async {
        wait_until("the handler runs begin", || app.runs.get() == 2).await;
        app.gate.add_permits(2);
    };
    let (one, two, ()) = futures_util::join!(before.get("/"), second, release);
    assert_eq!((one.text(), two.text()), ("run 1", "run 2"));
    assert_eq!(
        client().get("/").await.text(),
        "run 2",
        "the response that began before the purge is not stored"
    );
}

#[actix_web::test]
async fn follower_runs_handler_after_wait_limit() {
    let (app, (builder, _)) = (GatedApp::new(), builder());
    let policy = Policy::new().wait_limit(Duration::from_millis(100));
    let server = app.serve(2, shared(builder.policy(policy).build().unwrap()), async |app, _| {
        HttpResponse::Ok().body(format!("run {}", app.pass_gate().await))
    });
    let clients: Vec<_> = (0..4).map(|_| Client::new(server.addr, Protocol::Http1)).collect();
    let late = Client::new(server.addr, Protocol::Http1);
    let later = Client::new(server.addr, Protocol::Http1);
    let waiting = join_all(clients.iter().map(|client| client.get("/")));
    let rest = async {
        wait_until("all clients run the handler", || app.runs.get() == 4).await;
        // Of two new requests, one becomes the leader and the other follows it.
        let answers = async { futures_util::join!(late.get("/"), later.get("/")) };
        let release = async {
            wait_until("both requests arrived", || app.arrived.get() == 6).await;
            wait_until("one request leads", || app.runs.get() == 5).await;
            app.gate.add_permits(5);
        };
        futures_util::join!(answers, release).0
    };
    let (answers, (one, other)) = futures_util::join!(waiting, rest);
    let mut runs: Vec<_> = answers.iter().map(Answer::text).collect();
    runs.sort_unstable();
    assert_eq!(runs, ["run 1", "run 2", "run 3", "run 4"]);
    // The follower may get the response of the new leader or the entry of the store.
    assert!(app.runs.get() <= 6, "{} {}", one.text(), other.text());
}

/// The second cache stores only responses with explicit freshness, which the open fill does not
/// have.
#[actix_web::test]
async fn follower_with_stricter_policy_does_not_use_open_fill() {
    let (app, store) = (GatedApp::new(), store());
    let default = Cache::new(store.clone());
    let strict = default.with_policy(Policy::new().explicit_only());
    let handler =
        async |app: &GatedApp, _| HttpResponse::Ok().body(format!("run {}", app.pass_gate().await));
    let servers = [default, strict].map(|cache| app.serve(1, shared(cache), handler));
    let clients = servers.each_ref().map(|server| Client::new(server.addr, Protocol::Http1));
    let host = [("host", "t")];
    let both = async {
        let (one, other) = (&clients[0], &clients[1]);
        futures_util::join!(one.get_with("/", &host), async {
            wait_until("the leader runs the handler", || app.runs.get() == 1).await;
            other.get_with("/", &host).await
        })
    };
    let release = async {
        wait_until("both requests arrived", || app.arrived.get() == 2).await;
        app.gate.add_permits(2);
    };
    let ((one, other), ()) = futures_util::join!(both, release);
    assert_eq!((one.text(), one.is_stored()), ("run 1", true));
    assert_eq!(other.text(), "run 2");
    assert!(other.cache_status().ends_with("detail=no-lifetime"), "{}", other.cache_status());
}

/// Steady traffic must not keep a response alive beyond its lifetime, by joining the requests that
/// asked for it.
#[actix_web::test]
async fn negative_answer_to_a_revalidation_is_asked_for_again_after_its_lifetime() {
    let (builder, clock) = builder();
    let policy = Policy::new().status_ttl(404, secs(5));
    let app = test_app(&builder.policy(policy).build().unwrap(), |_, run| {
        if run > 1 {
            return HttpResponse::NotFound().body(format!("run {run}"));
        }
        HttpResponse::Ok().insert_header(("etag", "\"a\"")).body("page")
    });
    assert!(app.client.get("/").await.is_stored());
    clock.advance(secs(61));
    for second in 0..20 {
        let want = format!("run {}", 2 + second / 5);
        for answer in join_all((0..10).map(|_| app.client.get("/"))).await {
            assert_eq!((answer.status.as_u16(), answer.text()), (404, &*want), "after {second} s");
        }
        clock.advance(secs(1));
    }
    assert_eq!(app.runs.get(), 5);
}
