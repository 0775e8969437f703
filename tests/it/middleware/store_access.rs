//! How often a request reads and writes the store, and how it is answered when the store fails.

use actix_web_cache::{Cache, Rule};
use hyper::Method;

use crate::{
    semantics::fields::cache_fields,
    support::{HookedStore, StoreCall, StoreFault, requested_response, test_app},
};

#[actix_web::test]
async fn hit_reads_the_store_once_and_miss_writes_it_once() {
    let store = HookedStore::new();
    let app = test_app(&Cache::new(store.clone()), requested_response);
    app.client.get("/").await;
    assert_eq!((store.calls(StoreCall::Lookup), store.calls(StoreCall::Put)), (1, 1));
    assert!(app.client.get("/").await.is_hit());
    assert!(app.client.head("/").await.is_hit());
    assert_eq!((store.calls(StoreCall::Lookup), store.calls(StoreCall::Put)), (3, 1));
}

#[actix_web::test]
async fn request_that_bypasses_the_cache_is_not_looked_up() {
    let store = HookedStore::new();
    let cache = Cache::builder(store.clone()).rule(Rule::path("/bypass").bypass()).build().unwrap();
    let app = test_app(&cache, requested_response);
    let answer = app.client.get_with("/bypass", &[("answer", "cache-control: max-age=9")]).await;
    assert_eq!(answer.cache_status(), "fwd=bypass; detail=rule");
    assert_eq!(cache_fields(&answer), ["cache-control: max-age=9"]);
    assert_eq!(
        (store.calls(StoreCall::Lookup), store.calls(StoreCall::Put), app.runs.get()),
        (0, 0, 1)
    );
}

#[actix_web::test]
async fn failing_store_costs_hits_but_no_responses() {
    let store = HookedStore::new();
    let app = test_app(&Cache::new(store.clone()), requested_response);
    app.client.get("/").await;
    assert!(app.client.get("/").await.is_hit());
    store.set_fault(&StoreCall::ALL, StoreFault::Error);
    for (method, path, status) in [
        (Method::GET, "/", "fwd=bypass; detail=store-error"),
        (Method::HEAD, "/", "fwd=bypass; detail=store-error"),
        (Method::GET, "/new", "fwd=bypass; detail=store-error"),
        (Method::POST, "/", "fwd=method"),
    ] {
        let answer = app.client.send(method, path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.cache_status().as_str()), (200, status));
    }
    store.recover();
    app.client.get("/late").await;
    assert!(app.client.get("/late").await.is_hit(), "the cache works again with the store");
}
