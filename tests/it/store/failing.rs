//! Stores that fail, hang or panic: handlers answer, and a purge that fails is reported to its caller.

use std::{future::pending, panic::resume_unwind, sync::Arc};

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{
    Cache, CacheHandle, MemoryStore, Policy, PurgeError,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse,
    },
};
use bytes::Bytes;
use futures_util::stream;
use hyper::Method;

use crate::support::{Client, Protocol, SETUPS, serve, settled, store};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Error,
    Hangs,
    Panics,
    PanicsAtOnce,
}

use Fault::{Error, Hangs, Panics, PanicsAtOnce};

impl Fault {
    /// Fails, hangs or panics; or returns at once if there is no fault.
    async fn inject(self) -> Result<(), StoreError> {
        match self {
            Self::None => Ok(()),
            Self::Error => Err(StoreError::new("injected fault")),
            Self::Hangs => pending().await,
            // A panic without its message on standard error.
            Self::Panics | Self::PanicsAtOnce => resume_unwind(Box::new("injected fault")),
        }
    }

    /// Panics when the operation is called, before it returns its future.
    fn panics_at_once(self) {
        if self == Self::PanicsAtOnce {
            resume_unwind(Box::new("injected fault"));
        }
    }
}

/// A memory store with a fault for each kind of operation.
#[derive(Clone)]
struct Faulty {
    inner: MemoryStore,
    lookup: Fault,
    lookup_now: Fault,
    put: Fault,
    purge: Fault,
}

impl Faulty {
    fn new() -> Self {
        let none = Fault::None;
        Self { inner: store(), lookup: none, lookup_now: none, put: none, purge: none }
    }
}

impl Store for Faulty {
    fn coordinator(&self) -> &Coordinator {
        self.inner.coordinator()
    }

    fn lookup_now(&self, _: &CacheKey, _: &Selector<'_>) -> Option<Result<Lookup, StoreError>> {
        match self.lookup_now {
            Error => Some(Err(StoreError::new("injected fault"))),
            fault => {
                fault.panics_at_once();
                None
            }
        }
    }

    fn lookup(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> impl Future<Output = Result<Lookup, StoreError>> + Send {
        self.lookup.panics_at_once();
        async move {
            self.lookup.inject().await?;
            self.inner.lookup(key, selector).await
        }
    }

    fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> impl Future<Output = Result<Put, StoreError>> + Send {
        self.put.panics_at_once();
        async move {
            self.put.inject().await?;
            self.inner.put(key, response, fill).await
        }
    }

    fn remove(&self, key: &CacheKey) -> impl Future<Output = Result<usize, StoreError>> + Send {
        self.purge.panics_at_once();
        async move {
            self.purge.inject().await?;
            self.inner.remove(key).await
        }
    }

    async fn invalidate(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        self.purge.inject().await?;
        self.inner.invalidate(invalidation).await
    }
}

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
        let faults =
            [Error, Hangs, Panics, PanicsAtOnce].map(|lookup| Faulty { lookup, ..Faulty::new() });
        let at_once =
            [Error, PanicsAtOnce].map(|lookup_now| Faulty { lookup_now, ..Faulty::new() });
        for store in faults.into_iter().chain(at_once) {
            let case = format!("{:?} {:?} by {protocol:?}", store.lookup, store.lookup_now);
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
            settled(store.coordinator()).await;
        }
    }
}

#[actix_web::test]
async fn responses_are_complete_when_put_fails() {
    for (protocol, workers) in SETUPS {
        for put in [Error, Hangs, Panics, PanicsAtOnce] {
            let case = format!("{put:?} by {protocol:?}");
            let store = Faulty { put, ..Faulty::new() };
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
            settled(store.coordinator()).await;
        }
    }
}

#[actix_web::test]
async fn failed_purge_is_reported_to_its_caller() {
    for purge in [Error, Hangs, Panics, PanicsAtOnce] {
        let store = Faulty { purge, ..Faulty::new() };
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
        // An unsafe request also purges (RFC 9111, section 4.4); its response does not report a failure.
        let post = client.send(Method::POST, "/sized", &[]).await;
        assert_eq!((post.status.as_u16(), post.text()), (200, "sized"), "{purge:?}");
    }
}

#[actix_web::test]
async fn failed_purge_of_a_url_with_key_header_is_reported() {
    for purge in [Error, Hangs, Panics] {
        let store = Faulty { purge, ..Faulty::new() };
        let policy = Policy::new().key_header("x-tenant");
        let cache = Cache::builder(store).policy(policy).build().unwrap();
        let error = cache.handle().purge_url("http://t/sized").await.unwrap_err();
        assert!(matches!(error, PurgeError::Store(_)), "{purge:?}: {error}");
    }
}
