//! `CacheHandle` in handlers and on other threads.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    thread,
};

use actix_web::{App, web};
use actix_web_cache::{Cache, CacheHandle, Mode, Rule};
use hyper::Method;

use super::app::serve_purging;
use crate::support::{Client, Protocol, builder, cache, serve};

#[actix_web::test]
async fn handle_is_available_when_cache_is_on_off_or_bypassed() {
    let has = |cache: Option<CacheHandle>| async move { cache.is_some().to_string() };
    let policies: [(&str, Cache); 4] = [
        ("on", cache().0),
        ("off", builder().0.mode(Mode::Off).build().unwrap()),
        ("bypassed", builder().0.rule(Rule::any().bypass()).build().unwrap()),
        ("no rule", builder().0.rule(Rule::path("/other")).rules_only().build().unwrap()),
    ];
    for (case, cache) in policies {
        let server = serve(1, move || App::new().wrap(cache.clone()).default_service(web::to(has)));
        let client = Client::new(server.addr, Protocol::Http1);
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            assert_eq!(client.send(method, "/", &[]).await.text(), "true", "{case}");
        }
    }
}

#[actix_web::test]
async fn response_is_not_stored_when_its_handler_purges_it() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let page = |cache: CacheHandle| async move {
            cache.purge_url("/").await.unwrap();
            "page"
        };
        App::new().wrap(cache.clone()).route("/", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http2);
    for _ in 0..2 {
        assert_eq!(client.get("/").await.cache_status(), "fwd=uri-miss; detail=overtaken");
    }
}

#[actix_web::test]
async fn handle_purges_from_many_threads_at_once() {
    let (cache, _) = cache();
    let (server, _) = serve_purging(2, &cache);
    let client = Client::new(server.addr, Protocol::Http1);
    for n in 0..64 {
        assert!(client.get(&format!("/{n}")).await.is_stored());
    }
    let purged = Arc::new(Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            let (handle, purged, addr) = (cache.handle(), Arc::clone(&purged), server.addr);
            scope.spawn(move || {
                for n in 0..64 {
                    let url = format!("http://{addr}/{n}");
                    // There is no runtime on this thread: a memory store completes at the first
                    // poll.
                    let done = poll_once(handle.purge_url(url)).unwrap();
                    *purged.lock().unwrap() += done.responses.unwrap();
                }
                poll_once(handle.purge_all()).unwrap();
            });
        }
    });
    assert_eq!(*purged.lock().unwrap(), 64, "each entry is purged once");
    for n in 0..64 {
        assert!(!client.get(&format!("/{n}")).await.is_hit());
    }
}

/// Polls a future once and returns its result.
fn poll_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("the future is pending"),
    }
}
