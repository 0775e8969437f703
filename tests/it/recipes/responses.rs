//! Recipes that decide by the response, or by what the client has already.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_cache::{Cache, Policy, ResponseOptions, StorableResponse, StoreDecision};
use hyper::Method;

use super::policies::{MINUTE, outcome};
use crate::support::{TestApp, cache, requested_response, secs, store, test_app, with_entity_tag};

/// Refuses to store responses that are marked as incomplete.
fn store_complete(response: &StorableResponse<'_>) -> StoreDecision {
    match response.headers().contains_key("x-incomplete") {
        true => StoreDecision::DoNotStore("incomplete"),
        false => StoreDecision::Store,
    }
}

fn app(change: impl Fn(Policy) -> Policy) -> TestApp {
    let cache = Cache::builder(store()).policy(change(Policy::new())).build().unwrap();
    test_app(&cache, requested_response)
}

#[actix_web::test]
async fn function_of_the_response_decides_whether_it_is_stored() {
    let app = app(|policy| policy.store_if(|_, response| store_complete(response)));
    let answer = app.client.get_with("/", &[("answer", "x-incomplete: 1")]).await;
    assert_eq!(outcome(&answer), "incomplete");
    assert_eq!(outcome(&app.client.get("/").await), "stored");
}

#[actix_web::test]
async fn default_policy_stores_by_status_and_fields() {
    let app = app(|policy| policy);
    for (status, field, want) in [
        ("200", "x-any: 1", "stored"),
        ("301", "location: /", "stored"),
        ("302", "location: /", "no-lifetime"),
        ("500", "x-any: 1", "status"),
        ("200", "set-cookie: a=b", "set-cookie"),
        ("200", "cache-control: private", "private"),
    ] {
        let path = format!("/{status}/{}", field.len());
        let fields = [("answer-status", status), ("answer", field)];
        let answer = app.client.get_with(&path, &fields).await;
        assert_eq!(outcome(&answer), want, "{status} {field}");
    }
}

#[actix_web::test]
async fn handler_sets_the_lifetime_of_its_response() {
    let handler = |_: &HttpRequest, _: usize| {
        let mut response = HttpResponse::NotFound().finish();
        response.extensions_mut().insert(ResponseOptions::new().ttl(MINUTE));
        response
    };
    let app = test_app(&cache().0, handler);
    assert_eq!(outcome(&app.client.get("/").await), "stored");
    assert_eq!(outcome(&app.client.get("/").await), "hit 60");
}

/// The handler of the first path knows the time of its page, that of the second one knows nothing.
#[actix_web::test]
async fn stored_responses_answer_conditions_of_clients() {
    let date = "Mon, 01 Jan 2024 00:00:00 GMT";
    let app = test_app(&Cache::new(store()), move |request, _| {
        let mut response = HttpResponse::Ok();
        if request.path() == "/dated" {
            response.insert_header(("last-modified", date));
        }
        response.body("page")
    });
    app.client.get("/dated").await;
    let answer = app.client.get_with("/dated", &[("if-modified-since", date)]).await;
    assert_eq!(answer.status, 304);

    app.client.get("/plain").await;
    let tag = app.client.get("/plain").await.field("etag").unwrap();
    let answer = app.client.get_with("/plain", &[("if-none-match", &tag)]).await;
    assert_eq!((answer.status.as_u16(), app.runs.get()), (304, 2));
}

#[actix_web::test]
async fn handler_validates_the_stored_response() {
    let (cache, clock) = cache();
    let app =
        test_app(&cache, |request, run| with_entity_tag(request, "\"1\"", format!("run {run}")));
    app.client.get("/").await;
    clock.advance(MINUTE + secs(1));
    let answer = app.client.get("/").await;
    assert_eq!((answer.text(), app.runs.get()), ("run 1", 2));
}

/// A `PUT` with a condition reaches the handler with this condition.
#[actix_web::test]
async fn handler_answers_the_conditions_of_unsafe_requests() {
    let app = test_app(&Cache::new(store()), |request, _| {
        match request.headers().contains_key("if-match") {
            true => HttpResponse::PreconditionFailed().finish(),
            false => HttpResponse::Ok().body("page"),
        }
    });
    app.client.get("/").await;
    let answer = app.client.send(Method::PUT, "/", &[("if-match", "\"old\"")]).await;
    assert_eq!(answer.status, 412);
    assert!(app.client.get("/").await.is_hit(), "a refused request purges nothing");
}
