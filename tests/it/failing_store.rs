//! Stores that fail, hang or panic: the handler answers, and whoever purges learns of it.

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
    /// What the fault does instead of, or before, an operation.
    async fn happen(self) -> Result<(), StoreError> {
        match self {
            Self::None => Ok(()),
            Self::Error => Err(StoreError::new("on purpose")),
            Self::Hangs => pending().await,
            // As a panic, but silent.
            Self::Panics | Self::PanicsAtOnce => resume_unwind(Box::new("on purpose")),
        }
    }

    fn panics_at_once(self) {
        if self == Self::PanicsAtOnce {
            resume_unwind(Box::new("on purpose"));
        }
    }
}

/// A memory store that has to be waited for, with faults.
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
            Error => Some(Err(StoreError::new("on purpose"))),
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
            self.lookup.happen().await?;
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
            self.put.happen().await?;
            self.inner.put(key, response, fill).await
        }
    }

    fn remove(&self, key: &CacheKey) -> impl Future<Output = Result<usize, StoreError>> + Send {
        self.purge.panics_at_once();
        async move {
            self.purge.happen().await?;
            self.inner.remove(key).await
        }
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        self.purge.happen().await?;
        self.inner.invalidate(what).await
    }
}

/// What handlers answer: at once, in pieces, and after a purge.
fn pages(config: &mut web::ServiceConfig) {
    let whole = || async { HttpResponse::Ok().body("whole") };
    let pieces = || async {
        let pieces = ["pie", "ces"].map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece)));
        HttpResponse::Ok().streaming(stream::iter(pieces))
    };
    let purge = |cache: CacheHandle, request: HttpRequest| async move {
        let purged = match request.path() {
            "/purge-all" => cache.purge_all().await,
            _ => cache.purge_url("/whole").await,
        };
        purged.map(|_| HttpResponse::Ok().body("purged"))
    };
    config
        .route("/whole", web::to(whole))
        .route("/pieces", web::to(pieces))
        .default_service(web::to(purge));
}

#[actix_web::test]
async fn a_store_that_cannot_be_asked_leaves_requests_to_their_handlers() {
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
                (Method::GET, "/whole", "whole"),
                (Method::GET, "/whole", "whole"),
                (Method::GET, "/pieces", "pieces"),
                (Method::HEAD, "/whole", ""),
            ] {
                let answer = client.send(method.clone(), path, &[]).await;
                assert_eq!((answer.status.as_u16(), answer.text()), (200, body), "{case} {path}");
                assert_eq!(answer.cache_status(), "fwd=bypass; detail=store-error", "{case}");
            }
            assert_eq!(client.send(Method::POST, "/whole", &[]).await.status, 200, "{case}");
            settled(store.coordinator()).await;
        }
    }
}

#[actix_web::test]
async fn a_store_that_does_not_keep_anything_delays_nobody() {
    for (protocol, workers) in SETUPS {
        for put in [Error, Hangs, Panics, PanicsAtOnce] {
            let case = format!("{put:?} by {protocol:?}");
            let store = Faulty { put, ..Faulty::new() };
            let cache = Cache::new(store.clone());
            let server = serve(workers, move || App::new().configure(pages).wrap(cache.clone()));
            let client = Client::new(server.addr, protocol);
            for (path, body) in [("/whole", "whole"), ("/pieces", "pieces")] {
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
async fn a_store_that_cannot_purge_says_so_to_who_asked_for_it() {
    for purge in [Error, Hangs, Panics, PanicsAtOnce] {
        let store = Faulty { purge, ..Faulty::new() };
        let cache = Cache::new(store.clone());
        let handle = cache.handle();
        let server = serve(1, move || App::new().configure(pages).wrap(cache.clone()));
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/whole").await.is_stored(), "{purge:?}");
        for path in ["/purge-url", "/purge-all"] {
            assert_eq!(client.get(path).await.status, 503, "{purge:?} {path}");
        }
        let url = format!("http://{}/whole", server.addr);
        let error = handle.purge_url(&url).await.unwrap_err();
        assert!(matches!(error, PurgeError::Store(_)), "{purge:?}: {error}");
        assert!(matches!(handle.purge_all().await, Err(PurgeError::Store(_))), "{purge:?}");
        // Of the purge that comes with an unsafe method nobody asked to learn.
        let post = client.send(Method::POST, "/whole", &[]).await;
        assert_eq!((post.status.as_u16(), post.text()), (200, "whole"), "{purge:?}");
    }
}

#[actix_web::test]
async fn a_purge_by_tag_that_fails_is_reported_too() {
    for purge in [Error, Hangs, Panics] {
        let store = Faulty { purge, ..Faulty::new() };
        let policy = Policy::new().key_header("x-tenant");
        let cache = Cache::builder(store).policy(policy).build().unwrap();
        let error = cache.handle().purge_url("http://t/whole").await.unwrap_err();
        assert!(matches!(error, PurgeError::Store(_)), "{purge:?}: {error}");
    }
}
