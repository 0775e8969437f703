//! Fills that a panic or a shutdown ends early.

use std::{
    future::{pending, ready},
    panic::resume_unwind,
};

use actix_web::{App, HttpResponse, web};
use actix_web_cache::{Cache, store::Store as _};
use hyper::Method;

use crate::support::{
    Client, Counter, Protocol, SETUPS, fills_ended, manual_bodies, serve, store, wait_until,
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
