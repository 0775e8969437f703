//! Leases, by which one process of several runs the handler: every reply of the store to a request
//! for a lease, and every way in which a lease ends.
//!
//! The store here is a test double; `collapsing` tests leases on Redis.

use std::{future::pending, io, time::Duration};

use actix_web::{HttpRequest, HttpResponse, body::SizedStream};
use actix_web_cache::{
    Cache, CacheBuilder, ManualClock, Policy,
    store::{LeaseEnd, Store as _},
};
use bytes::Bytes;
use futures_util::{future::join_all, join, stream};

use crate::support::{
    Answer, CLIENTS, Client, GatedApp, LeaseAnswer, Protocol, START, Server, SimulatedProcesses,
    manual_bodies, secs, wait_until,
};

/// The servers have different addresses; this field gives their pages the same cache key.
const HOST: (&str, &str) = ("host", "shop");

/// A cache of one more process.
fn builder(processes: &SimulatedProcesses, policy: Policy) -> CacheBuilder {
    Cache::builder(processes.store()).policy(policy)
}

fn open(
    handlers: &GatedApp,
    cache: CacheBuilder,
    handler: impl AsyncFn(&GatedApp, HttpRequest) -> HttpResponse + Clone + Send + 'static,
) -> Server {
    let cache = cache.build().unwrap();
    handlers.serve(2, move || cache.clone(), handler)
}

async fn get(server: &Server, path: &str) -> Answer {
    Client::new(server.addr, Protocol::Http1).get_with(path, &[HOST]).await
}

/// A body that fails after its first chunk.
fn failing_body() -> impl futures_util::Stream<Item = Result<Bytes, io::Error>> {
    stream::iter([Ok(Bytes::from_static(b"page")), Err(io::Error::other("failed by the test"))])
}

/// A response of each kind that ends a lease, by path.
async fn respond(request: &HttpRequest) -> HttpResponse {
    let chunks = || stream::iter([Ok::<_, io::Error>(Bytes::from_static(b"page"))]);
    let mut ok = HttpResponse::Ok();
    match request.path() {
        "/sized" => ok.body("page"),
        "/declared" => ok.body(SizedStream::new(4, chunks())),
        "/undeclared" => ok.streaming(chunks()),
        "/private" => ok.insert_header(("cache-control", "private")).body("page"),
        "/events" => ok.content_type("text/event-stream").streaming(chunks()),
        "/large" => ok.body("x".repeat(2000)),
        "/undeclared-large" => ok.streaming(stream::iter(
            ["x"; 40].map(|x| Ok::<_, io::Error>(Bytes::from(x.repeat(100)))),
        )),
        "/fails" => HttpResponse::ServiceUnavailable().body("page"),
        "/fails-midway" => ok.body(SizedStream::new(8, failing_body())),
        "/panics" => panic!("panic of the test's handler"),
        _ => HttpResponse::NotFound().finish(),
    }
}

#[actix_web::test]
async fn lease_ends_with_the_outcome_of_the_fill() {
    use LeaseEnd::{Abandoned, Stored, Unstorable};
    let (handlers, processes) = (GatedApp::new(), SimulatedProcesses::default());
    let cache = builder(&processes, Policy::new().max_body_size(1000));
    let server = open(&handlers, cache, async |_, request| respond(&request).await);
    for (path, want) in [
        ("/sized", Stored),
        ("/declared", Stored),
        ("/undeclared", Stored),
        ("/private", Unstorable),
        ("/events", Unstorable),
        ("/large", Unstorable),
        ("/undeclared-large", Unstorable),
        ("/fails", Abandoned),
        ("/fails-midway", Abandoned),
        ("/panics", Abandoned),
    ] {
        let client = Client::new(server.addr, Protocol::Http1);
        let answer = client.send_body(hyper::Method::GET, path, &[HOST], "").await;
        assert_eq!(answer.is_ok(), !["/fails-midway", "/panics"].contains(&path), "{path}");
        wait_until(path, || processes.ends() > 0).await;
        assert_eq!((processes.take_ends(), processes.held_leases()), (vec![want], 0), "{path}");
    }
}

#[actix_web::test]
async fn lease_is_abandoned_when_the_page_is_purged_during_the_fill() {
    let (handlers, processes) = (GatedApp::new(), SimulatedProcesses::default());
    let cache = builder(&processes, Policy::new()).build().unwrap();
    let handle = cache.handle();
    let server = handlers.serve(
        1,
        move || cache.clone(),
        async |handlers, _| {
            handlers.pass_gate().await;
            HttpResponse::Ok().body("page")
        },
    );
    let purge = async {
        wait_until("the handler runs", || handlers.runs.get() == 1).await;
        handle.purge_url("http://shop/").await.unwrap();
        handlers.gate.add_permits(1);
    };
    join!(get(&server, "/"), purge);
    wait_until("the lease ends", || processes.ends() > 0).await;
    assert_eq!(processes.take_ends(), [LeaseEnd::Abandoned]);
}

#[actix_web::test]
async fn handler_runs_at_once_when_the_store_grants_no_lease() {
    for answer in
        [LeaseAnswer::Unneeded, LeaseAnswer::Fails, LeaseAnswer::Panics, LeaseAnswer::Hangs]
    {
        let (handlers, processes) = (GatedApp::new(), SimulatedProcesses::default());
        let server = open(&handlers, builder(&processes, Policy::new()), async |handlers, _| {
            handlers.pass_gate().await;
            HttpResponse::Ok().body("page")
        });
        processes.answer_next(answer);
        let answers = handlers.send_all_at_once_to(&[&server], Protocol::Http1, &[&[HOST]]).await;
        assert!(answers.iter().all(|answer| answer.text() == "page"), "{answer:?}");
        assert_eq!((handlers.runs.get(), processes.lease_requests()), (1, 0), "{answer:?}");
        assert_eq!(processes.take_ends(), [], "{answer:?}");
    }
}

#[actix_web::test]
async fn store_without_leases_is_not_asked_for_one() {
    let (handlers, processes) = (GatedApp::new(), SimulatedProcesses::default());
    let server =
        open(&handlers, Cache::builder(processes.store().without_leases()), async |_, _| {
            HttpResponse::Ok().body("page")
        });
    assert!(get(&server, "/").await.is_stored());
    assert_eq!(processes.lease_requests(), 0);
}

#[actix_web::test]
async fn process_granted_the_lease_finds_the_response_stored_meanwhile() {
    let (handlers, processes) = (GatedApp::new(), SimulatedProcesses::default());
    let handler = async |handlers: &GatedApp, _| {
        handlers.pass_gate().await;
        HttpResponse::Ok().body("page")
    };
    let first = open(&handlers, Cache::builder(processes.store().without_leases()), handler);
    let second = open(&handlers, builder(&processes, Policy::new()), handler);
    // The second process has a miss, and waits for the lease while the first process stores.
    for _ in 0..3 {
        processes.answer_next(LeaseAnswer::Taken);
    }
    let store = async {
        wait_until("the second process waits", || processes.refused_lease_requests() > 0).await;
        handlers.gate.add_permits(1);
        get(&first, "/").await
    };
    let (second, stored) = join!(get(&second, "/"), store);
    assert!(stored.is_stored());
    assert_eq!(second.cache_status(), "fwd=uri-miss; collapsed");
    assert_eq!(handlers.runs.get(), 1);
}

#[actix_web::test]
async fn another_process_runs_the_handler_when_the_holder_dies_or_its_lease_expires() {
    for dies in [true, false] {
        let (handlers, processes) = (GatedApp::new(), SimulatedProcesses::default());
        let handler = async move |handlers: &GatedApp, _| {
            let run = handlers.runs.count();
            if run > 1 {
                return HttpResponse::Ok().body("page");
            }
            wait_until("all requests have arrived", || handlers.arrived.get() == CLIENTS + 1).await;
            assert!(!dies, "the first run panics, which closes its connection");
            pending().await
        };
        let servers =
            [0, 1, 2].map(|_| open(&handlers, builder(&processes, Policy::new()), handler));
        let [first, second, third] = &servers;
        let first = Client::new(first.addr, Protocol::Http1);
        let first = actix_web::rt::spawn(async move {
            first.send_body(hyper::Method::GET, "/", &[HOST], "").await.is_err()
        });
        wait_until("the first process runs the handler", || handlers.runs.get() == 1).await;
        let both = [second, third];
        let end = async {
            wait_until("both processes wait", || processes.refused_lease_requests() >= 2).await;
            if !dies {
                processes.expire_leases();
            }
        };
        let answers =
            join!(handlers.send_all_at_once_to(&both, Protocol::Http1, &[&[HOST]]), end).0;
        assert!(answers.iter().all(|answer| answer.text() == "page"));
        assert_eq!(handlers.runs.get(), 2, "dies: {dies}");
        if dies {
            assert!(first.await.unwrap());
        } else {
            first.abort();
        }
    }
}

#[actix_web::test]
async fn waiting_process_runs_the_handler_after_its_wait_limit() {
    let (handlers, processes) = (GatedApp::new(), SimulatedProcesses::default());
    let policy = || Policy::new().wait_limit(secs(2));
    let handler = async |handlers: &GatedApp, _| {
        if handlers.runs.count() == 1 {
            return pending().await;
        }
        HttpResponse::Ok().body("page")
    };
    let [first, second] = [0, 1].map(|_| open(&handlers, builder(&processes, policy()), handler));
    let hangs = actix_web::rt::spawn(async move { get(&first, "/").await });
    wait_until("the first process runs the handler", || handlers.runs.get() == 1).await;
    let answers = handlers.send_all_at_once_to(&[&second], Protocol::Http1, &[&[HOST]]).await;
    assert!(answers.iter().all(|answer| answer.text() == "page"));
    assert_eq!(handlers.runs.get(), 2, "one run for all clients of the second process");
    assert_eq!(processes.held_leases(), 1);
    hangs.abort();
}

#[actix_web::test]
async fn streamed_response_is_shared_with_other_processes_once_stored() {
    for length in [None, Some(11)] {
        let (handlers, processes, (feeds, mut feed)) =
            (GatedApp::new(), SimulatedProcesses::default(), manual_bodies());
        let handler = async move |handlers: &GatedApp, _| {
            handlers.runs.count();
            feeds.response(length)
        };
        let [first, second] =
            [0, 1].map(|_| open(&handlers, builder(&processes, Policy::new()), handler.clone()));
        let both = [&first, &second];
        let body = async {
            let feed = feed.recv().await.unwrap();
            wait_until("all requests have arrived", || handlers.arrived.get() == CLIENTS).await;
            wait_until("the other process waits", || processes.refused_lease_requests() > 0).await;
            assert!(feed.send("first, ").await && feed.send("last").await);
        };
        let (answers, ()) =
            join!(handlers.send_all_at_once_to(&both, Protocol::Http1, &[&[HOST]]), body);
        assert!(answers.iter().all(|answer| answer.text() == "first, last"), "{length:?}");
        assert_eq!(handlers.runs.get(), 1, "{length:?}");
        // The page is stored before the lease ends, so all responses may come before that.
        wait_until("a lease ends", || processes.ends() > 0).await;
        // The second process may be granted the lease as well before it finds the page.
        let ends = processes.take_ends();
        assert!([1, 2].contains(&ends.len()), "more leases than processes: {ends:?}");
        assert!(ends.iter().all(|end| *end == LeaseEnd::Stored), "{ends:?}");
    }
}

#[actix_web::test]
async fn stale_response_is_served_when_another_process_exceeds_the_wait_limit() {
    let (handlers, processes, clock) =
        (GatedApp::new(), SimulatedProcesses::default(), ManualClock::at(START));
    let policy = Policy::new().stale_if_error(secs(600)).wait_limit(Duration::from_millis(200));
    let handler = async |handlers: &GatedApp, _| {
        if handlers.runs.count() > 1 {
            return pending().await;
        }
        HttpResponse::Ok().body("page")
    };
    let cache = || builder(&processes, policy.clone()).clock(clock.clock());
    let [first, second] = [0, 1].map(|_| open(&handlers, cache(), handler));
    assert!(get(&first, "/").await.is_stored());
    clock.advance(secs(65));
    let hangs = actix_web::rt::spawn(async move { get(&first, "/").await });
    wait_until("the first process runs the handler", || handlers.runs.get() == 2).await;
    let answers = join_all((0..10).map(|_| get(&second, "/"))).await;
    for answer in answers {
        assert_eq!(answer.text(), "page");
        assert_eq!(answer.cache_status(), "fwd=stale; detail=stale-if-error");
    }
    assert_eq!(handlers.runs.get(), 2);
    hangs.abort();
}

#[actix_web::test]
async fn refresh_does_not_run_the_handler_when_the_store_fails() {
    let (handlers, processes, clock) =
        (GatedApp::new(), SimulatedProcesses::default(), ManualClock::at(START));
    let policy = Policy::new().stale_while_revalidate(secs(600));
    let store = processes.store();
    let cache = Cache::builder(store.clone()).policy(policy).clock(clock.clock());
    let server = open(&handlers, cache, async |handlers, _| {
        handlers.runs.count();
        HttpResponse::Ok().body("page")
    });
    assert!(get(&server, "/").await.is_stored());
    wait_until("the lease ends", || processes.ends() > 0).await;
    clock.advance(secs(65));
    processes.answer_next(LeaseAnswer::Breaks);
    assert_eq!(get(&server, "/").await.cache_status(), "hit; ttl=-5");
    wait_until("the refresh asks for a lease", || processes.all_answers_used()).await;
    wait_until("the refresh ends", || store.coordinator().open_refreshes() == 0).await;
    assert_eq!(handlers.runs.get(), 1);
}

/// One process holds the lease, and the requests of the other process wait. Once they know that the
/// page is never fresh, they wait for no further validation.
#[actix_web::test]
async fn page_that_is_never_fresh_makes_requests_wait_for_one_process_only() {
    const CLIENTS: usize = 10;
    for (cache_control, first) in
        [("max-age=0", &[1][..]), ("no-cache", &[1, 2 * CLIENTS - 1]), ("s-maxage=0", &[1, 19])]
    {
        let (handlers, processes) = (GatedApp::new(), SimulatedProcesses::default());
        let servers = [(); 2].map(|()| {
            open(&handlers, builder(&processes, Policy::new()), async move |app, request| {
                app.pass_gate().await;
                let known = request.headers().contains_key("if-none-match");
                let mut response =
                    if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
                response.insert_header(("cache-control", cache_control));
                response.insert_header(("etag", "\"a\""));
                if known { response.finish() } else { response.body("page") }
            })
        });
        let client = |n: usize| Client::new(servers[n % 2].addr, Protocol::Http1);
        let clients: Vec<_> = (0..2 * CLIENTS).map(client).collect();
        for generations in [first, &[2 * CLIENTS], &[2 * CLIENTS]] {
            let answers =
                handlers.send_in_generations(cache_control, &clients, &[HOST], generations).await;
            assert!(answers.iter().all(|answer| answer.text() == "page"), "{cache_control}");
        }
    }
}
