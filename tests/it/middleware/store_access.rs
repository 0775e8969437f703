//! How often a request reads and writes the store, and how it is answered when the store fails.

use std::time::Duration;

use actix_web_cache::{Cache, Rule};
use hyper::Method;

use crate::{
    semantics::fields::cache_fields,
    support::{Spy, obey, site},
};

#[actix_web::test]
async fn hit_reads_the_store_once_and_miss_writes_it_once() {
    let spy = Spy::new();
    let site = site(&Cache::new(spy.clone()), obey);
    site.client.get("/").await;
    assert_eq!((spy.lookups.get(), spy.puts.get()), (1, 1));
    assert!(site.client.get("/").await.is_hit());
    assert!(site.client.head("/").await.is_hit());
    assert_eq!((spy.lookups.get(), spy.puts.get()), (3, 1));
}

#[actix_web::test]
async fn request_that_can_never_be_stored_is_not_looked_up() {
    let spy = Spy::new();
    let cache = Cache::builder(spy.clone())
        .rule(Rule::path("/bypass").bypass())
        .rule(Rule::path("/zero").override_ttl(Duration::ZERO))
        .build()
        .unwrap();
    let site = site(&cache, obey);
    for path in ["/bypass", "/zero"] {
        let answer = site.client.get_with(path, &[("answer", "cache-control: max-age=9")]).await;
        assert_eq!(answer.cache_status(), "fwd=bypass; detail=rule", "{path}");
        assert_eq!(cache_fields(&answer), ["cache-control: max-age=9"], "{path}");
    }
    assert_eq!((spy.lookups.get(), spy.puts.get(), site.runs.get()), (0, 0, 2));
}

#[actix_web::test]
async fn failing_store_costs_hits_but_no_responses() {
    let spy = Spy::new();
    let site = site(&Cache::new(spy.clone()), obey);
    site.client.get("/").await;
    assert!(site.client.get("/").await.is_hit());
    spy.set_broken(true);
    for (method, path, status) in [
        (Method::GET, "/", "fwd=bypass; detail=store-error"),
        (Method::HEAD, "/", "fwd=bypass; detail=store-error"),
        (Method::GET, "/new", "fwd=bypass; detail=store-error"),
        (Method::POST, "/", "fwd=method"),
    ] {
        let answer = site.client.send(method, path, &[]).await;
        assert_eq!((answer.status.as_u16(), answer.cache_status().as_str()), (200, status));
    }
    spy.set_broken(false);
    site.client.get("/late").await;
    assert!(site.client.get("/late").await.is_hit(), "the cache works again with the store");
}
