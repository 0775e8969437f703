//! Errors of middleware inside of the cache.

use std::future::ready;

use actix_web::{
    App, Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    error::{ErrorImATeapot, InternalError},
    http::StatusCode,
    middleware::{Next, from_fn},
    web,
};
use actix_web_cache::{Cache, Policy, store::Store as _};
use hyper::Method;

use crate::support::{Client, Counter, Protocol, SETUPS, builder, fills_ended, secs, serve, store};

#[actix_web::test]
async fn inner_middleware_error_passes_unchanged() {
    for (protocol, workers) in SETUPS {
        let (store, runs) = (store(), Counter::default());
        let (cache, counter) = (Cache::new(store.clone()), runs.clone());
        let server = serve(workers, move || {
            let runs = counter.clone();
            let fails = move |_, _: actix_web::middleware::Next<_>| {
                runs.count();
                ready(Err::<ServiceResponse, _>(ErrorImATeapot("no coffee")))
            };
            App::new()
                .default_service(web::to(|| async { "page" }))
                .wrap(from_fn(fails))
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for method in [Method::GET, Method::GET, Method::POST] {
            let answer = client.send(method, "/", &[]).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (418, "no coffee"));
            assert_eq!(answer.field("cache-status"), None);
            assert_eq!(answer.field("cache-control"), None);
        }
        assert_eq!(runs.get(), 3);
        fills_ended(store.coordinator()).await;
    }
}

/// Fails with the status in the request field `fail-with`, if there is one.
async fn fail_on_request(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let status =
        request.headers().get("fail-with").map(|line| line.to_str().unwrap().parse().unwrap());
    match status {
        Some(status) => {
            let status = StatusCode::from_u16(status).unwrap();
            Err(InternalError::new("failed", status).into())
        }
        None => next.call(request).await,
    }
}

#[actix_web::test]
async fn stale_if_error_replaces_only_server_failures_of_inner_middleware() {
    let (builder, clock) = builder();
    let cache = builder.policy(Policy::new().stale_if_error(secs(3600))).build().unwrap();
    let server = serve(1, move || {
        App::new()
            .wrap(from_fn(fail_on_request))
            .wrap(cache.clone())
            .default_service(web::to(|| async { "page" }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/").await.is_stored());
    clock.advance(secs(70));
    // These statuses are answers, not failures (RFC 5861 section 4).
    for status in ["400", "429", "501"] {
        let answer = client.get_with("/", &[("fail-with", status)]).await;
        assert_eq!(answer.status.as_str(), status);
    }
    for status in ["500", "502", "503", "504"] {
        let answer = client.get_with("/", &[("fail-with", status)]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "page"), "{status}");
    }
    // These answers withdraw the page, so that a later failure does not bring it back.
    for status in ["401", "403", "404", "410", "503"] {
        let answer = client.get_with("/", &[("fail-with", status)]).await;
        assert_eq!(answer.status.as_str(), status);
    }
}
