//! HEAD responses update or invalidate a stored GET response only by matching it (RFC 9111 section
//! 4.3.5).

use actix_web::{
    HttpResponse,
    http::{Method, StatusCode},
};
use actix_web_cache::{Cache, Policy};

use crate::support::{HookedStore, START, StoreCall, StoreEvent, builder, secs, test_app};

#[actix_web::test]
async fn head_without_matching_validator_does_not_freshen_entry() {
    for (case, status, etag, policy) in [
        ("with an entity tag", 200, Some("\"1\""), Policy::new()),
        ("without an entity tag", 200, None, Policy::new().stale_if_error(secs(3600))),
        ("not found", 404, Some("\"1\""), Policy::new().status_ttl(404, secs(60))),
    ] {
        let (builder, clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let app = test_app(&cache, move |request, run| {
            if request.method() == Method::HEAD {
                return HttpResponse::Ok().finish();
            }
            let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
            if let Some(etag) = etag {
                response.insert_header(("etag", etag));
            }
            response.body(format!("run {run}"))
        });
        assert!(app.client.get("/").await.is_stored(), "{case}");
        clock.advance(secs(70));
        app.client.head("/").await;
        let next = app.client.get("/").await;
        assert_eq!((next.is_hit(), next.text()), (false, "run 3"), "{case}");
    }
}

#[actix_web::test]
async fn head_is_answered_while_store_removal_hangs() {
    let store = HookedStore::slow();
    let clock = actix_web_cache::ManualClock::at(START);
    let cache = Cache::builder(store.clone()).clock(clock.clock()).build().unwrap();
    let app = test_app(&cache, |request, run| {
        let tag = if request.method() == Method::HEAD { "\"2\"" } else { "\"1\"" };
        HttpResponse::Ok().insert_header(("etag", tag)).body(format!("run {run}"))
    });
    assert!(app.client.get("/").await.is_stored());
    store.put_completed().await;
    clock.advance(secs(70));
    let stop = store.hold_next(StoreEvent::Begins(StoreCall::Remove));
    let answer = tokio::time::timeout(secs(20), app.client.head("/")).await;
    assert_eq!(answer.expect("a response within 20 s").status, 200);
    stop.reached().await;
}
