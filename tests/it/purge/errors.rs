//! Errors of `CacheHandle`: invalid URLs, a failing store, and a handler without a cache.

use std::error::Error as _;

use actix_web::{App, ResponseError as _, http::StatusCode, web};
use actix_web_cache::{Cache, CacheHandle, CacheNotConfigured, Policy, PurgeError};
use hyper::Method;

use super::app::{purge, serve_purging};
use crate::support::{Client, HookedStore, Protocol, StoreCall, StoreFault, cache, serve};

#[actix_web::test]
async fn invalid_purge_url_is_reported_with_advice() {
    let (cache, _) = cache();
    let (server, _) = serve_purging(1, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    let handle = cache.handle();
    for url in [
        "",
        "page",
        "?a=1",
        "/a b",
        "/\u{fc}",
        "http://",
        "http:///page",
        "http://a b/page",
        "shop.example",
        "shop.example:80",
        "shop.example/page",
        "ftp://shop.example/page",
        "mailto:a@shop.example",
        "*",
    ] {
        let error = handle.purge_url(url).await.unwrap_err();
        assert!(matches!(error, PurgeError::Url(_)), "{url}: {error}");
        assert!(error.to_string().contains("https://host/path"), "{error}");
        assert_eq!(error.status_code(), StatusCode::INTERNAL_SERVER_ERROR);
        if url.is_ascii() {
            let answer = client.send(Method::POST, "/purge", &[("x-url", url)]).await;
            assert_eq!(answer.status, 500, "{url}");
        }
    }
    let error = handle.purge_url("/page").await.unwrap_err();
    assert!(matches!(error, PurgeError::MissingHost), "{error}");
    assert!(error.to_string().contains("https://host/path"), "{error}");
    let too_long = format!("/{}", "a".repeat(70_000));
    assert!(handle.purge_url(too_long).await.is_err());
}

#[actix_web::test]
async fn purge_reports_failing_store_and_works_after_recovery() {
    let plain = Policy::new;
    for (case, policy) in
        [("plain key", plain()), ("key with parts", plain().key_header("x-tenant"))]
    {
        let store = HookedStore::slow();
        let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
        let (server, _) = serve_purging(1, &cache);
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/page").await.is_stored());
        store.put_completed().await;
        let url = format!("http://{}/page", server.addr);
        store.set_fault(&[StoreCall::Remove, StoreCall::Invalidate], StoreFault::Error);
        for error in [
            cache.handle().purge_url(&url).await.unwrap_err(),
            cache.handle().purge_all().await.unwrap_err(),
        ] {
            assert!(matches!(error, PurgeError::Store(_)), "{case}: {error}");
            let text = "purge not confirmed: the store failed, so repeat it";
            assert_eq!(error.to_string(), text, "{case}");
            let cause = error.source().and_then(|store_error| store_error.source()).unwrap();
            assert_eq!(cause.to_string(), "injected fault", "{case}");
            assert_eq!(error.status_code(), StatusCode::SERVICE_UNAVAILABLE);
        }
        let answer = client.send(Method::POST, "/purge", &[("x-url", "/page")]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (503, ""), "{case}");
        assert!(client.get("/page").await.is_hit(), "{case}: a failed purge removes nothing");
        store.recover();
        cache.handle().purge_url(&url).await.unwrap();
        assert!(!client.get("/page").await.is_hit(), "{case}");
    }
}

#[actix_web::test]
async fn missing_cache_is_explained_to_handler() {
    let server = serve(1, || {
        let optional = |cache: Option<CacheHandle>| async move { cache.is_some().to_string() };
        let typed = |cache: Result<CacheHandle, CacheNotConfigured>| async move {
            cache.err().map_or_else(String::new, |error| error.to_string())
        };
        App::new()
            .route("/purge", web::post().to(purge))
            .route("/optional", web::get().to(optional))
            .route("/typed", web::get().to(typed))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let answer = client.send(Method::POST, "/purge", &[]).await;
    assert_eq!(answer.status, 500);
    assert!(answer.text().contains("Cache::new(store)"), "{}", answer.text());
    assert_eq!(client.get("/optional").await.text(), "false");
    assert!(client.get("/typed").await.text().contains("without a cache around it"));
}
