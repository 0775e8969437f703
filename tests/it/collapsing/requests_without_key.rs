//! Requests that have no cache key, or an unusual one: they share no response with requests that
//! are not equal.

use std::panic::resume_unwind;

use actix_web::HttpResponse;
use actix_web_cache::{Cache, Policy, store::Store as _};
use futures_util::future::join_all;
use hyper::Method;
use tokio::task::spawn_blocking;

use crate::support::{
    Client, GatedApp, Protocol, SimulatedProcesses, fills_ended, raw, store, wait_until,
};

/// The number of equal requests of each kind.
const EQUAL: usize = 5;

/// Requests that bypass the cache, each for another reason.
const BYPASSING: [&str; 6] = [
    "GET http://evil/ HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
    "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nIf-Match: \"a\"\r\n\r\n",
    "GET / HTTP/1.1\r\nHost: t\r\nConnection: close, upgrade\r\nUpgrade: echo\r\n\r\n",
    "OPTIONS / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
];

/// Sends each request `EQUAL` times at once, and returns the bodies once the handler has run this
/// often.
async fn bodies(
    app: &GatedApp,
    addr: std::net::SocketAddr,
    requests: &[&str],
    runs: usize,
) -> Vec<String> {
    let all: Vec<_> =
        requests.iter().flat_map(|request| [*request; EQUAL]).map(str::to_owned).collect();
    let (arrived, sent) = (app.arrived.get(), all.len());
    let answers =
        all.into_iter().map(|request| spawn_blocking(move || raw(addr, request.as_bytes())));
    let answers = join_all(answers);
    let release = async {
        wait_until("all requests have arrived", || app.arrived.get() == arrived + sent).await;
        wait_until("the expected handler calls run at once", || app.runs.get() == runs).await;
        app.gate.add_permits(runs);
    };
    let (answers, ()) = futures_util::join!(answers, release);
    assert_eq!(app.runs.get(), runs);
    let body = |answer: Result<Vec<u8>, _>| {
        let answer = String::from_utf8(answer.unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    answers.into_iter().map(body).collect()
}

/// All such requests would have one key in common if a missing key were a key.
#[actix_web::test]
async fn requests_that_bypass_the_cache_run_the_handler_each_and_take_no_lease() {
    let (app, processes) = (GatedApp::new(), SimulatedProcesses::default());
    let cache = Cache::new(processes.store());
    let server = app.serve(
        2,
        move || cache.clone(),
        async |app, _| HttpResponse::Ok().body(format!("run {}", app.pass_gate().await)),
    );
    let runs = BYPASSING.len() * EQUAL;
    let mut all = bodies(&app, server.addr, &BYPASSING, runs).await;
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), runs, "each request has a response of its own: {all:?}");
    assert_eq!(processes.lease_requests(), 0);
    // A request with a key is collapsed.
    let plain = "GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let mut shared = bodies(&app, server.addr, &[plain], runs + 1).await;
    shared.dedup();
    assert_eq!((shared.len(), processes.lease_requests()), (1, 1), "{shared:?}");
}

/// The key must not be cut off.
#[actix_web::test]
async fn requests_with_large_key_parts_are_collapsed_only_with_equal_ones() {
    let app = GatedApp::new();
    let part = |request: &actix_web::dev::ServiceRequest| {
        let value = request.headers().get("x-part")?.to_str().ok()?;
        Some("x".repeat(1024 * 1024) + value)
    };
    let policy = Policy::new().key_with("part", part);
    let cache = Cache::builder(store()).policy(policy).build().unwrap();
    let server = app.serve(
        2,
        move || cache.clone(),
        async |app, request| {
            app.pass_gate().await;
            let part = request.headers().get("x-part").map_or("", |part| part.to_str().unwrap());
            HttpResponse::Ok()
                .body(format!("{part} {}", &request.path()[request.path().len() - 1..]))
        },
    );
    let by_part = ["a", "b"].map(|part| {
        format!("GET /p HTTP/1.1\r\nHost: t\r\nX-Part: {part}\r\nConnection: close\r\n\r\n")
    });
    let long = "x".repeat(30_000);
    let by_path = ["c", "d"]
        .map(|end| format!("GET /{long}{end} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"));
    let all: Vec<_> = by_part.iter().chain(&by_path).map(String::as_str).collect();
    let bodies = bodies(&app, server.addr, &all, 4).await;
    let want = ["a p", "b p", " c", " d"].iter().flat_map(|body| [*body; EQUAL]);
    assert_eq!(bodies, want.collect::<Vec<_>>());
}

#[actix_web::test]
async fn panic_in_a_key_part_fails_only_its_own_request() {
    let (app, store) = (GatedApp::new(), store());
    let part = |request: &actix_web::dev::ServiceRequest| {
        if request.headers().contains_key("x-panic") {
            // This is a panic without a message on stderr.
            resume_unwind(Box::new("on purpose"));
        }
        None
    };
    let policy = Policy::new().key_with("part", part);
    let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
    let server = app.serve(
        1,
        move || cache.clone(),
        async |app, _| HttpResponse::Ok().body(format!("run {}", app.runs.count())),
    );
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let panicking: Vec<_> = (0..EQUAL).map(|_| Client::new(server.addr, protocol)).collect();
        let requests = panicking
            .iter()
            .map(|client| client.send_body(Method::GET, "/", &[("x-panic", "1")], ""));
        assert!(join_all(requests).await.iter().all(Result::is_err), "{protocol:?}");
    }
    let client = Client::new(server.addr, Protocol::Http1);
    for is_hit in [false, true] {
        let answer = client.get("/").await;
        assert_eq!((answer.text(), answer.is_hit()), ("run 1", is_hit));
    }
    fills_ended(store.coordinator()).await;
    assert_eq!(store.coordinator().open_flights(), 0);
}
