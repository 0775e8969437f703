//! `Policy::fetch_on_head`: the handler gets a GET request in place of a HEAD request.

use std::time::Duration;

use actix_web::{App, HttpResponse, middleware::from_fn, web};
use actix_web_cache::{Cache, ManualClock, Policy, Rule, store::Store as _};
use bytes::Bytes;
use futures_util::future::join;
use hyper::Method;

use super::fields::fields_without_report;
use crate::support::{
    Client, Counter, GatedApp, Protocol, SETUPS, START, Wire, builder, fills_ended, hold,
    manual_bodies, requested_response, secs, serve, store, test_app, wait_until, with_entity_tag,
};

fn policy() -> Policy {
    Policy::new().fetch_on_head()
}

#[actix_web::test]
async fn head_stores_the_complete_response_and_gets_its_fields() {
    for (protocol, workers) in SETUPS {
        let cache = builder().0.policy(policy()).build().unwrap();
        let server = serve(workers, move || {
            // The application has no route for HEAD.
            let page = || async { HttpResponse::Ok().insert_header(("x-a", "b")).body("page") };
            App::new()
                .route("/app", web::get().to(page))
                .service(web::scope("/scope").route("/x", web::get().to(page)))
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for path in ["/app", "/scope/x"] {
            let miss = client.head(path).await;
            assert_eq!(miss.cache_status(), "fwd=uri-miss; stored", "{path} {protocol:?}");
            assert_eq!(miss.field("content-length").as_deref(), Some("4"), "{path} {protocol:?}");
            assert!(miss.body.is_empty());
            let hit = client.get(path).await;
            assert_eq!((hit.text(), hit.is_hit()), ("page", true), "{path} {protocol:?}");
            let head = client.head(path).await;
            assert!(head.is_hit());
            let fields = fields_without_report(&head);
            assert_eq!(fields, fields_without_report(&miss), "{path} {protocol:?}");
        }
    }
}

/// The next request of the connection gets its own response.
#[actix_web::test]
async fn connection_is_used_again_after_a_head_response() {
    let cache = builder().0.policy(policy()).build().unwrap();
    let app = test_app(&cache, requested_response);
    let mut wire = Wire::open(app.server.addr);
    let head = wire.head("/");
    assert_eq!(head.line("content-length"), Some("5"), "{}", head.head);
    let message = wire.get("/", "");
    assert!(message.is_hit(), "{}", message.head);
}

#[actix_web::test]
async fn range_of_head_is_ignored_and_conditions_apply() {
    for (fields, status, detail) in [
        (&[("range", "bytes=0-1")][..], 200, "fwd=uri-miss; stored"),
        (&[("range", "bytes=0-1"), ("if-range", "\"1\"")], 200, "fwd=uri-miss; stored"),
        (&[("if-none-match", "\"1\"")], 304, "fwd=uri-miss; stored"),
        (&[("cache-control", "no-store")], 200, "fwd=uri-miss; detail=head"),
    ] {
        let cache = builder().0.policy(policy()).build().unwrap();
        let app = test_app(&cache, |request, _| {
            with_entity_tag(request, "\"1\"", request.method().to_string())
        });
        let head = app.client.send(Method::HEAD, "/", fields).await;
        assert_eq!((head.status.as_u16(), &*head.cache_status()), (status, detail), "{fields:?}");
        let is_stored = detail.ends_with("stored");
        let hit = app.client.get("/").await;
        assert_eq!((hit.is_hit(), hit.text()), (is_stored, "GET"), "{fields:?}");
    }
}

/// A stale response is validated by GET.
#[actix_web::test]
async fn head_validates_a_stale_response() {
    let (builder, clock) = builder();
    let app = test_app(&builder.policy(policy()).build().unwrap(), |request, run| {
        let mut response = with_entity_tag(request, "\"1\"", "page".to_owned());
        let method = format!("{} {run}", request.method());
        response.headers_mut().insert("x-run".parse().unwrap(), method.parse().unwrap());
        response
    });
    app.client.get("/").await;
    clock.advance(secs(70));
    let head = app.client.head("/").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.field("content-length").as_deref(), Some("4"));
    assert_eq!(head.field("x-run").as_deref(), Some("GET 2"));
    let hit = app.client.get("/").await;
    assert_eq!((hit.cache_status().as_str(), hit.text()), ("hit; ttl=60", "page"));
}

#[actix_web::test]
async fn streamed_body_is_stored_although_no_client_reads_it() {
    for length in [None, Some(4)] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let (bodies, mut senders) = manual_bodies();
            let (store, clock) = (store(), ManualClock::at(START));
            let builder = Cache::builder(store.clone()).clock(clock.clock());
            let cache = builder.policy(policy()).build().unwrap();
            let server = serve(1, move || {
                let bodies = bodies.clone();
                let page = move || {
                    let response = bodies.response(length);
                    async move { response }
                };
                App::new().route("/", web::get().to(page)).wrap(cache.clone())
            });
            let client = Client::new(server.addr, protocol);
            // The response to HEAD does not wait for the body.
            let head = client.head("/").await;
            assert!(head.is_stored() && head.body.is_empty(), "{length:?} {protocol:?}");
            let want = length.map(|length| length.to_string());
            if want.is_some() {
                assert_eq!(head.field("content-length"), want, "{protocol:?}");
            }
            let body = senders.recv().await.unwrap();
            assert!(body.send(Bytes::from_static(b"pa")).await);
            assert!(body.send(Bytes::from_static(b"ge")).await);
            drop(body);
            fills_ended(store.coordinator()).await;
            let hit = client.get("/").await;
            assert_eq!((hit.is_hit(), hit.text()), (true, "page"), "{length:?} {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn head_and_get_share_one_handler_call() {
    let app = GatedApp::new();
    let cache = builder().0.policy(policy()).build().unwrap();
    let server = app.serve(
        1,
        move || cache.clone(),
        async |app: &GatedApp, _| HttpResponse::Ok().body(format!("run {}", app.pass_gate().await)),
    );
    let clients: Vec<_> = (0..2).map(|_| Client::new(server.addr, Protocol::Http1)).collect();
    let release = async {
        wait_until("both requests have arrived", || app.arrived.get() == 2).await;
        app.gate.add_permits(1);
    };
    let requests = join(clients[0].head("/"), clients[1].get("/"));
    let ((head, get), ()) = join(requests, release).await;
    assert_eq!((app.runs.get(), get.text()), (1, "run 1"));
    assert!(head.body.is_empty());
    assert_eq!(head.field("content-length").as_deref(), Some("5"));
}

/// The cache cannot change the method of a request that a middleware keeps.
#[actix_web::test]
async fn held_request_reaches_the_handler_as_head() {
    let cache = builder().0.policy(policy()).build().unwrap();
    let methods = Counter::default();
    let counter = methods.clone();
    let server = serve(1, move || {
        let counter = counter.clone();
        let page = move |request: actix_web::HttpRequest| {
            if request.method() == actix_web::http::Method::HEAD {
                counter.count();
            }
            async { "page" }
        };
        let resource = web::resource("/").wrap(cache.clone()).wrap(from_fn(hold));
        App::new().service(resource.route(web::to(page)))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for _ in 0..2 {
        assert_eq!(client.head("/").await.cache_status(), "fwd=uri-miss; detail=head");
    }
    assert_eq!(methods.get(), 2);
    assert!(client.get("/").await.is_stored());
}

/// Responses that are not stored are sent without their bodies, too.
#[actix_web::test]
async fn head_gets_fields_of_responses_that_are_not_stored() {
    let rule = Rule::path("/bypass").bypass();
    let policy = policy().max_body_size(3).wait_limit(Duration::from_secs(60));
    let cache = builder().0.policy(policy).rule(rule).build().unwrap();
    let app = test_app(&cache, |request, run| {
        let mut response = requested_response(request, run);
        let method = request.method().to_string().parse().unwrap();
        response.headers_mut().insert("x-method".parse().unwrap(), method);
        response
    });
    for (path, fields, want, method) in [
        ("/large", &[][..], "detail=too-large", "GET"),
        ("/refused", &[("answer", "cache-control: no-store")], "detail=no-store", "GET"),
        ("/missing", &[("answer-status", "404")], "detail=no-lifetime", "GET"),
        ("/bypass", &[], "detail=rule", "HEAD"),
    ] {
        let head = app.client.send(Method::HEAD, path, fields).await;
        assert!(head.cache_status().ends_with(want), "{path}: {}", head.cache_status());
        assert!(head.body.is_empty());
        assert_eq!(head.field("content-length").as_deref(), Some("5"), "{path}");
        assert_eq!(head.field("x-method").as_deref(), Some(method), "{path}");
    }
}
