//! Stores that fail, hang or panic: handlers answer, and a purge that fails is reported to its
//! caller.

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, CacheHandle, Policy, PurgeError, store::Store as _};
use bytes::Bytes;
use futures_util::stream;
use hyper::Method;

use crate::support::{
    Client, HookedStore, Protocol, SETUPS, StoreCall,
    StoreFault::{self, Error, Hangs, Panics, PanicsAtOnce},
    fills_ended, serve,
};

/// A memory store with a fault of some calls.
fn faulty(calls: &[StoreCall], fault: StoreFault) -> HookedStore {
    let store = HookedStore::new();
    store.set_fault(calls, fault);
    store
}

/// The calls of purges.
const PURGE: [StoreCall; 2] = [StoreCall::Remove, StoreCall::Invalidate];

/// Handlers for a sized body, a streamed body, and purges.
fn pages(config: &mut web::ServiceConfig) {
    let sized = || async { HttpResponse::Ok().body("sized") };
    let streamed = || async {
        let chunks = ["stre", "amed"].map(|chunk| Ok::<_, std::io::Error>(Bytes::from(chunk)));
        HttpResponse::Ok().streaming(stream::iter(chunks))
    };
    let purge = |cache: CacheHandle, request: HttpRequest| async move {
        let purged = match request.path() {
            "/purge-all" => cache.purge_all().await,
            _ => cache.purge_url("/sized").await,
        };
        purged.map(|_| HttpResponse::Ok().body("purged"))
    };
    config
        .route("/sized", web::to(sized))
        .route("/streamed", web::to(streamed))
        .default_service(web::to(purge));
}

#[actix_web::test]
async fn handlers_answer_when_lookup_fails() {
    for (protocol, workers) in SETUPS {
        for (call, fault) in [
            (StoreCall::Lookup, Error),
            (StoreCall::Lookup, Hangs),
            (StoreCall::Lookup, Panics),
            (StoreCall::Lookup, PanicsAtOnce),
            (StoreCall::LookupNow, Error),
            (StoreCall::LookupNow, PanicsAtOnce),
        ] {
            let store = faulty(&[call], fault);
            let case = format!("{call:?} {fault:?} by {protocol:?}");
            let cache = Cache::new(store.clone());
            let server = serve(workers, move || App::new().configure(pages).wrap(cache.clone()));
            let client = Client::new(server.addr, protocol);
            for (method, path, body) in [
                (Method::GET, "/sized", "sized"),
                (Method::GET, "/sized", "sized"),
                (Method::GET, "/streamed", "streamed"),
                (Method::HEAD, "/sized", ""),
            ] {
                let answer = client.send(method.clone(), path, &[]).await;
                assert_eq!((answer.status.as_u16(), answer.text()), (200, body), "{case} {path}");
                assert_eq!(answer.cache_status(), "fwd=bypass; detail=store-error", "{case}");
            }
            assert_eq!(client.send(Method::POST, "/sized", &[]).await.status, 200, "{case}");
            fills_ended(store.coordinator()).await;
        }
    }
}

#[actix_web::test]
async fn responses_are_complete_when_put_fails() {
    for (protocol, workers) in SETUPS {
        for put in [Error, Hangs, Panics, PanicsAtOnce] {
            let case = format!("{put:?} by {protocol:?}");
            let store = faulty(&[StoreCall::Put], put);
            let cache = Cache::new(store.clone());
            let server = serve(workers, move || App::new().configure(pages).wrap(cache.clone()));
            let client = Client::new(server.addr, protocol);
            for (path, body) in [("/sized", "sized"), ("/streamed", "streamed")] {
                for round in 0..2 {
                    let answer = client.get(path).await;
                    assert_eq!((answer.status.as_u16(), answer.text()), (200, body), "{case}");
                    assert_eq!(answer.cache_status(), "fwd=uri-miss; stored", "{case} {round}");
                }
            }
            fills_ended(store.coordinator()).await;
        }
    }
}

#[actix_web::test]
async fn failed_purge_is_reported_to_its_caller() {
    for purge in [Error, Hangs, Panics, PanicsAtOnce] {
        let store = faulty(&PURGE, purge);
        let cache = Cache::new(store.clone());
        let handle = cache.handle();
        let server = serve(1, move || App::new().configure(pages).wrap(cache.clone()));
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/sized").await.is_stored(), "{purge:?}");
        for path in ["/purge-url", "/purge-all"] {
            assert_eq!(client.get(path).await.status, 503, "{purge:?} {path}");
        }
        let url = format!("http://{}/sized", server.addr);
        let error = handle.purge_url(&url).await.unwrap_err();
        assert!(matches!(error, PurgeError::Store(_)), "{purge:?}: {error}");
        assert!(matches!(handle.purge_all().await, Err(PurgeError::Store(_))), "{purge:?}");
        // An unsafe request also purges (RFC 9111, section 4.4); its response does not report a
        // failure.
        let post = client.send(Method::POST, "/sized", &[]).await;
        assert_eq!((post.status.as_u16(), post.text()), (200, "sized"), "{purge:?}");
    }
}

#[actix_web::test]
async fn failed_purge_of_a_url_with_key_header_is_reported() {
    for purge in [Error, Hangs, Panics] {
        let store = faulty(&PURGE, purge);
        let policy = Policy::new().key_header("x-tenant");
        let cache = Cache::builder(store).policy(policy).build().unwrap();
        let error = cache.handle().purge_url("http://t/sized").await.unwrap_err();
        assert!(matches!(error, PurgeError::Store(_)), "{purge:?}: {error}");
    }
}
