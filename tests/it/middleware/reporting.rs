//! How a cache reports its decisions: `Cache-Status`, `X-Cache` and the observer.

use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, web};
use actix_web_cache::{
    Outcome, Policy, Rule,
    outcome::{Bypass, Forward, NotStored, Stored},
};
use hyper::Method;

use crate::support::{Client, Protocol, builder, cache, requested_response, secs, serve, test_app};

#[actix_web::test]
async fn observer_receives_the_outcome_of_each_request_once() {
    let observed: Arc<Mutex<Vec<(String, Outcome)>>> = Arc::default();
    let sink = Arc::clone(&observed);
    let (builder, clock) = builder();
    let cache = builder
        .rule(Rule::path("/bypass").bypass())
        .observer(move |request, outcome| {
            let request = format!("{} {}", request.method, request.uri);
            sink.lock().unwrap().push((request, *outcome));
        })
        .build()
        .unwrap();
    let server = serve(1, move || {
        let handler = || web::to(async |request: HttpRequest| requested_response(&request, 1));
        let inner = cache.with_policy(Policy::new().default_ttl(secs(5)));
        App::new()
            .service(web::scope("/inner").wrap(inner).default_service(handler()))
            .default_service(handler())
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let forward = |reason, stored| Outcome::forward(reason, stored);
    let stored = |reason| forward(reason, Stored::Yes);
    let not_attempted = |reason| forward(reason, Stored::No(NotStored::NotAttempted));
    let hit = |age, ttl| Outcome::hit(secs(age), secs(ttl));
    for (step, method, path, fields, want) in [
        (0, Method::GET, "/?a", &[][..], stored(Forward::UriMiss)),
        (7, Method::GET, "/?a", &[], hit(7, 53)),
        (0, Method::HEAD, "/?a", &[], hit(7, 53)),
        (
            0,
            Method::GET,
            "/?a",
            &[("cookie", "a=b")],
            forward(Forward::Request, Stored::No(NotStored::Cookie)),
        ),
        (60, Method::GET, "/?a", &[], stored(Forward::Stale)),
        (0, Method::HEAD, "/b", &[], forward(Forward::UriMiss, Stored::No(NotStored::Head))),
        (0, Method::GET, "/bypass", &[], not_attempted(Forward::Bypass(Bypass::Rule))),
        (
            0,
            Method::GET,
            "/?a",
            &[("if-match", "*")],
            not_attempted(Forward::Bypass(Bypass::Condition)),
        ),
        (0, Method::POST, "/?a", &[], not_attempted(Forward::Method)),
        (0, Method::OPTIONS, "/", &[], not_attempted(Forward::Method)),
        (0, Method::GET, "/inner/x", &[], stored(Forward::UriMiss)),
        (2, Method::GET, "/inner/x", &[], hit(2, 3)),
        (0, Method::POST, "/inner/x", &[], not_attempted(Forward::Method)),
    ] {
        clock.advance(secs(step));
        client.send(method.clone(), path, fields).await;
        let outcomes = std::mem::take(&mut *observed.lock().unwrap());
        assert_eq!(outcomes, [(format!("{method} {path}"), want)], "{fields:?}");
    }
}

#[actix_web::test]
async fn cache_status_and_x_cache_can_be_turned_on_and_off() {
    let builder = || builder().0;
    for (builder, status, x_cache) in [
        (builder(), true, false),
        (builder().without_cache_status(), false, false),
        (builder().x_cache(), true, true),
        (builder().without_cache_status().x_cache(), false, true),
    ] {
        let app = test_app(&builder.build().unwrap(), requested_response);
        for result in ["miss", "hit"] {
            let answer = app.client.get("/").await;
            assert_eq!(answer.field("cache-status").is_some(), status, "{result}");
            assert_eq!(answer.field("x-cache").as_deref(), x_cache.then_some(result));
        }
    }
}

#[actix_web::test]
async fn cache_status_is_appended_to_that_of_inner_caches() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    let fields = [("answer", "cache-status: origin; hit")];
    for want in ["fwd=uri-miss; stored", "hit; ttl=60"] {
        let answer = app.client.get_with("/", &fields).await;
        let status = answer.field("cache-status").unwrap();
        assert_eq!(status, format!("origin; hit, actix-web-cache; {want}"));
    }
}

#[actix_web::test]
async fn x_cache_of_the_handler_is_forwarded_by_default() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    for _ in 0..2 {
        let answer = app.client.get_with("/", &[("answer", "x-cache: from upstream")]).await;
        assert_eq!(answer.field("x-cache").as_deref(), Some("from upstream"));
    }
    assert_eq!(app.runs.get(), 1);
}

#[actix_web::test]
async fn x_cache_is_miss_then_hit_and_absent_when_not_stored() {
    let (builder, clock) = builder();
    let app = test_app(&builder.x_cache().build().unwrap(), requested_response);
    let x_cache = async |fields: &[(&str, &str)]| {
        let answer = app.client.get_with("/", fields).await;
        answer.field("x-cache").unwrap_or_default()
    };
    assert_eq!(x_cache(&[]).await, "miss");
    assert_eq!(x_cache(&[]).await, "hit");
    assert_eq!(x_cache(&[]).await, "hit", "X-Cache itself is not stored");
    clock.advance(secs(60));
    assert_eq!(x_cache(&[("answer", "cache-control: private")]).await, "");
    assert_eq!(
        x_cache(&[("answer", "x-cache: hit")]).await,
        "miss",
        "the handler's field is replaced"
    );
    assert_eq!(x_cache(&[]).await, "hit");
    let post = app.client.send(Method::POST, "/", &[]).await;
    assert_eq!(post.field("x-cache"), None);
}
