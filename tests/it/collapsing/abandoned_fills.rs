//! Fills that a panic, a shutdown or a time limit ends early.

use std::{
    future::{pending, ready},
    iter,
    panic::resume_unwind,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use actix_web::{
    App, HttpRequest, HttpResponse,
    dev::Service as _,
    error::ErrorGatewayTimeout,
    test::{TestRequest, call_service, init_service, read_body},
    web,
};
use actix_web_cache::{Cache, Policy, store::Store as _};
use futures_util::future::{Either, join_all, select};
use hyper::Method;
use tokio::sync::Semaphore;

use crate::support::{
    Client, Counter, Protocol, SETUPS, Server, fills_ended, manual_bodies, secs, serve, store,
    wait_until,
};

#[actix_web::test]
async fn handler_panic_closes_fill_and_worker_serves_on() {
    for (protocol, workers) in SETUPS {
        let (store, runs) = (store(), Counter::default());
        let (cache, counter) = (Cache::new(store.clone()), runs.clone());
        let server = serve(workers, move || {
            let runs = counter.clone();
            App::new().wrap(cache.clone()).default_service(web::to(move || {
                let run = runs.count();
                async move {
                    if run == 1 {
                        // This is a panic without a message on stderr.
                        resume_unwind(Box::new("on purpose"));
                    }
                    format!("run {run}")
                }
            }))
        });
        let failing = Client::new(server.addr, protocol);
        assert!(failing.send_body(Method::GET, "/", &[], "").await.is_err(), "{protocol:?}");
        fills_ended(store.coordinator()).await;
        let client = Client::new(server.addr, protocol);
        for is_hit in [false, true] {
            let answer = client.get("/").await;
            assert_eq!((answer.is_hit(), answer.text()), (is_hit, "run 2"), "{protocol:?}");
        }
    }
}

/// An open fill without its server would make later requests wait.
#[actix_web::test]
async fn server_shutdown_closes_open_fills() {
    for (protocol, workers) in SETUPS {
        // Both servers need one cache key. The HTTP/1.1 client can set the host; with HTTP/2 the
        // key differs.
        let host: &[_] = if protocol == Protocol::Http1 { &[("host", "t")] } else { &[] };
        for length in [None, Some(1000)] {
            let store = store();
            let cache = Cache::new(store.clone());
            let (handlers, mut bodies) = manual_bodies();
            let server = serve(workers, move || {
                let bodies = handlers.clone();
                App::new()
                    .wrap(cache.clone())
                    .route("/fed", web::to(move || ready(bodies.response(length))))
                    .default_service(web::to(pending::<HttpResponse>))
            });
            let client = Client::new(server.addr, protocol);
            let start = client.start(Method::GET, "/fed", host, "");
            let (response, sender) = tokio::join!(start, bodies.recv());
            let (response, sender) = (response.unwrap(), sender.unwrap());
            assert!(sender.send("partial").await);
            // The handler of another request never responds.
            let other = Client::new(server.addr, protocol);
            let other =
                tokio::spawn(async move { other.start(Method::GET, "/", &[], "").await.is_err() });
            wait_until("both fills are open", || store.coordinator().open_fills() == 2).await;
            drop(server);
            sender.closed().await;
            fills_ended(store.coordinator()).await;
            assert!(other.await.unwrap(), "{protocol:?}");
            drop(response);
            // The next server finds no partial entry.
            let cache = Cache::new(store.clone());
            let server = serve(workers, move || {
                App::new().wrap(cache.clone()).default_service(web::to(|| async { "complete" }))
            });
            let next = Client::new(server.addr, protocol).get_with("/fed", host).await;
            assert_eq!((next.text(), next.is_stored()), ("complete", true), "{protocol:?}");
        }
    }
}

/// actix does not drop a handler whose client disconnects. A middleware outside of the cache, such as
/// one with a time limit, can drop all requests.
#[actix_web::test]
async fn canceled_requests_to_a_hanging_handler_leave_nothing_behind() {
    for (protocol, distinct, equal) in [(Protocol::Http1, 100, 50), (Protocol::Http2, 1000, 200)] {
        let (app, store) = (HangingApp::default(), store());
        let policy = Policy::new().wait_limit(secs(600));
        let server = app.serve(Cache::builder(store.clone()).policy(policy).build().unwrap());
        let client = Client::new(server.addr, protocol);
        let paths = (0..distinct).map(|n| format!("/hang/{n}"));
        let paths: Vec<_> = paths.chain(iter::repeat_n("/hang/same".to_owned(), equal)).collect();
        let requests = join_all(paths.iter().map(|path| client.get(path)));
        let others = async {
            let arrived = || app.arrived.get() == distinct + equal;
            wait_until("all requests have arrived", arrived).await;
            assert_eq!(store.coordinator().open_flights(), distinct + 1, "{protocol:?}");
            assert_eq!(app.runs.get(), distinct + 1, "{protocol:?}");
            let other = Client::new(server.addr, protocol);
            for is_hit in [false, true] {
                let answer = other.get("/page").await;
                assert_eq!((answer.text(), answer.is_hit()), ("page", is_hit), "{protocol:?}");
            }
            app.time_limit.close();
        };
        let (answers, ()) = futures_util::join!(requests, others);
        assert!(answers.iter().all(|answer| answer.status == 504), "{protocol:?}");
        fills_ended(store.coordinator()).await;
        assert_eq!(store.coordinator().open_flights(), 0, "{protocol:?}");
    }
}

/// A middleware outside of the cache may call it, and then drop the future or poll it later.
#[actix_web::test]
async fn request_that_is_never_polled_leaves_nothing_behind() {
    let (store, runs) = (store(), Counter::default());
    let (cache, counter) = (Cache::new(store.clone()), runs.clone());
    let page = web::to(move || {
        let run = counter.count();
        async move { format!("run {run}") }
    });
    let app = init_service(App::new().wrap(cache).route("/", page)).await;
    let request = || TestRequest::with_uri("/").insert_header(("host", "a")).to_request();
    let first = app.call(request());
    assert_eq!(store.coordinator().open_flights(), 1);
    drop(first);
    assert_eq!((store.coordinator().open_flights(), runs.get()), (0, 0));
    let response = call_service(&app, request()).await;
    assert_eq!(read_body(response).await, "run 1");
}

/// The wait of a follower is bounded, so the number of followers is bounded by the number of
/// requests in this time.
#[actix_web::test]
async fn followers_of_a_hanging_handler_leave_after_the_wait_limit() {
    const REQUESTS: usize = 50;
    let (app, store) = (HangingApp::default(), store());
    let policy = Policy::new().wait_limit(Duration::from_millis(50));
    let server = app.serve(Cache::builder(store.clone()).policy(policy).build().unwrap());
    let client = Client::new(server.addr, Protocol::Http2);
    let requests = join_all((0..REQUESTS).map(|_| client.get("/hang/same")));
    let others = async {
        wait_until("each request calls the handler", || app.runs.get() == REQUESTS).await;
        app.time_limit.close();
    };
    let (answers, ()) = futures_util::join!(requests, others);
    assert!(answers.iter().all(|answer| answer.status == 504));
    fills_ended(store.coordinator()).await;
    assert_eq!(store.coordinator().open_flights(), 0);
}

/// An application whose handler never answers requests below `/hang`.
#[derive(Clone)]
struct HangingApp {
    /// The number of requests that call the handler, or wait.
    arrived: Counter,
    /// The number of handler calls below `/hang`.
    runs: Counter,
    /// Once it is closed, all requests end with status 504.
    time_limit: Arc<Semaphore>,
}

impl Default for HangingApp {
    fn default() -> Self {
        let time_limit = Arc::new(Semaphore::new(0));
        Self { arrived: Counter::default(), runs: Counter::default(), time_limit }
    }
}

impl HangingApp {
    fn serve(&self, cache: Cache) -> Server {
        let app = self.clone();
        serve(1, move || {
            let (limited, handlers) = (app.clone(), app.runs.clone());
            let page = move |request: HttpRequest| {
                let runs = handlers.clone();
                async move {
                    if request.path().starts_with("/hang") {
                        runs.count();
                        pending::<()>().await;
                    }
                    "page"
                }
            };
            App::new().default_service(web::to(page)).wrap(cache.clone()).wrap_fn(
                move |request, inner| {
                    let (answer, app) = (inner.call(request), limited.clone());
                    async move {
                        // `select` polls the request before this future.
                        let limit = pin!(async {
                            app.arrived.count();
                            app.time_limit.acquire().await.map(drop)
                        });
                        match select(pin!(answer), limit).await {
                            Either::Left((answer, _)) => answer,
                            Either::Right(_) => Err(ErrorGatewayTimeout("took too long")),
                        }
                    }
                },
            )
        })
    }
}
