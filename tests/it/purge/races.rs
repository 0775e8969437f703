//! Purges while responses are produced: a response that began before a purge is never served after
//! it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpResponseBuilder, web};
use actix_web_cache::{
    Cache, CacheHandle, ManualClock, Policy, PurgeTarget, ResponseOptions, store::Store as _,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use hyper::Method;

use crate::support::{
    Answer, Client, Counter, HoldPoint, HookedStore, Protocol, SETUPS, START, Server, StoreCall,
    StoreEvent, builder, fills_ended, secs, serve, store,
};

/// A handler that reads a state and then waits, and a handler that changes the state.
#[derive(Clone)]
struct Site {
    state: Arc<AtomicUsize>,
    /// Handlers wait here once they have read the state.
    hold: HoldPoint,
    /// The number of runs that wait; later ones do not.
    slow_runs: Arc<AtomicUsize>,
}

impl Site {
    fn new(slow_runs: usize) -> Self {
        let slow_runs = Arc::new(AtomicUsize::new(slow_runs));
        Self { state: Arc::default(), hold: HoldPoint::new(), slow_runs }
    }

    fn read(&self) -> String {
        format!("state {}", self.state.load(Ordering::SeqCst))
    }

    async fn wait(&self) {
        let decrement = |left: usize| left.checked_sub(1);
        if self.slow_runs.fetch_update(Ordering::SeqCst, Ordering::SeqCst, decrement).is_ok() {
            self.hold.wait().await;
        }
    }

    fn serve(&self, workers: usize, cache: &Cache) -> Server {
        let (site, cache) = (self.clone(), cache.clone());
        serve(workers, move || {
            let (site, streaming, changing) = (site.clone(), site.clone(), site.clone());
            let page = move |request: HttpRequest| {
                let site = site.clone();
                async move {
                    let text = site.read();
                    site.wait().await;
                    let tag = format!("\"{text}\"");
                    let condition = request.headers().get("if-none-match");
                    if condition.is_some_and(|condition| *condition == *tag) {
                        return HttpResponse::NotModified().finish();
                    }
                    let mut page = HttpResponse::Ok();
                    page.insert_header(("cache-control", "max-age=60"));
                    add_tag_and_group(page.insert_header(("etag", tag))).body(text)
                }
            };
            let stream = move || {
                let site = streaming.clone();
                let text = site.read();
                let first = stream::iter([Ok::<_, actix_web::Error>(Bytes::from(text))]);
                let rest = stream::once(async move {
                    site.wait().await;
                    Ok(Bytes::from_static(b"."))
                });
                let body = first.chain(rest);
                async move { add_tag_and_group(&mut HttpResponse::Ok()).streaming(body) }
            };
            let change = move || {
                changing.state.fetch_add(1, Ordering::SeqCst);
                async { HttpResponse::NoContent().finish() }
            };
            App::new()
                .wrap(cache.clone())
                .service(web::resource("/page").get(page).put(change))
                .route("/stream", web::get().to(stream))
        })
    }
}

/// Adds a tag and a cache group that are known only once the response exists.
fn add_tag_and_group(page: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    page.extensions_mut().insert(ResponseOptions::new().tag("from-response"));
    page.insert_header(("cache-groups", r#""pages""#))
}

/// Kinds of purges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PurgeKind {
    Url,
    All,
    /// A successful PUT.
    UnsafeMethod,
    /// A tag that the policy adds.
    PolicyTag,
    /// A tag that the response adds.
    ResponseTag,
    Group,
    Prefix,
}

impl PurgeKind {
    const ALL: [Self; 7] = [
        Self::Url,
        Self::All,
        Self::UnsafeMethod,
        Self::PolicyTag,
        Self::ResponseTag,
        Self::Group,
        Self::Prefix,
    ];

    /// Changes the state of the site and purges `path`.
    async fn purge(
        self,
        site: &Site,
        handle: &CacheHandle,
        server: &Server,
        client: &Client,
        path: &str,
    ) {
        if self != Self::UnsafeMethod {
            site.state.fetch_add(1, Ordering::SeqCst);
        }
        let host = server.addr.to_string();
        let target = match self {
            Self::UnsafeMethod => {
                assert_eq!(client.send(Method::PUT, path, &[]).await.status, 204);
                return;
            }
            Self::Url => PurgeTarget::url(path).on_host(host),
            Self::All => PurgeTarget::all(),
            Self::PolicyTag => PurgeTarget::tag("from-policy"),
            Self::ResponseTag => PurgeTarget::tag("from-response"),
            Self::Group => PurgeTarget::group("pages").on_host(host),
            Self::Prefix => PurgeTarget::prefix("/").on_host(host),
        };
        handle.purge(target).await.unwrap();
    }
}

/// With a plain key a URL purge removes the entry; with a key of several parts it invalidates the
/// tag of the URL.
fn policies() -> [(&'static str, Policy); 2] {
    let plain = Policy::new().tag("from-policy");
    [("plain key", plain.clone()), ("key with parts", plain.key_header("x-tenant"))]
}

/// Sends a request in a task of its own.
fn spawn_get(client: &Client, path: &'static str) -> tokio::task::JoinHandle<Answer> {
    let client = client.clone();
    tokio::spawn(async move { client.get(path).await })
}

#[actix_web::test]
async fn response_started_before_purge_is_not_stored() {
    for (protocol, workers) in SETUPS {
        for (case, policy) in policies() {
            for kind in PurgeKind::ALL {
                let case = format!("{kind:?}, {case}, {protocol:?}, {workers} workers");
                let cache = builder().0.policy(policy.clone()).build().unwrap();
                let site = Site::new(1);
                let server = site.serve(workers, &cache);
                let client = Client::new(server.addr, protocol);
                let old = spawn_get(&client, "/page");
                site.hold.reached().await;
                kind.purge(&site, &cache.handle(), &server, &client, "/page").await;
                // A response that began after the purge is stored, although the older one is still
                // open.
                let new = client.get("/page").await;
                assert_eq!((new.text(), new.is_stored()), ("state 1", true), "{case}");
                site.hold.release();
                let old = old.await.unwrap();
                assert_eq!(old.text(), "state 0", "the request began before the purge: {case}");
                let hit = client.get("/page").await;
                assert_eq!((hit.text(), hit.is_hit()), ("state 1", true), "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn parallel_responses_started_before_purge_are_not_stored() {
    for (case, policy) in policies() {
        for kind in PurgeKind::ALL {
            // The requests must not wait for each other.
            let policy = policy.clone().wait_limit(Duration::from_millis(1));
            let cache = builder().0.policy(policy).build().unwrap();
            let site = Site::new(3);
            let server = site.serve(2, &cache);
            let client = Client::new(server.addr, Protocol::Http1);
            let old: Vec<_> = (0..3).map(|_| spawn_get(&client, "/page")).collect();
            for _ in 0..3 {
                site.hold.reached().await;
            }
            kind.purge(&site, &cache.handle(), &server, &client, "/page").await;
            for _ in 0..3 {
                site.hold.release();
            }
            for old in old {
                assert_eq!(old.await.unwrap().text(), "state 0");
            }
            let new = client.get("/page").await;
            assert_eq!((new.text(), new.is_hit()), ("state 1", false), "{case}, {kind:?}");
        }
    }
}

#[actix_web::test]
async fn purge_reaches_response_whose_head_was_sent() {
    for (protocol, workers) in SETUPS {
        for (case, policy) in policies() {
            for kind in PurgeKind::ALL.into_iter().filter(|kind| *kind != PurgeKind::UnsafeMethod) {
                let cache = builder().0.policy(policy.clone()).build().unwrap();
                let site = Site::new(1);
                let server = site.serve(workers, &cache);
                let client = Client::new(server.addr, protocol);
                let old = spawn_get(&client, "/stream");
                site.hold.reached().await;
                kind.purge(&site, &cache.handle(), &server, &client, "/stream").await;
                site.hold.release();
                assert_eq!(old.await.unwrap().text(), "state 0.", "{case}");
                let new = client.get("/stream").await;
                assert_eq!((new.text(), new.is_hit()), ("state 1.", false), "{case} {kind:?}");
                assert!(client.get("/stream").await.is_hit(), "{case} {kind:?}");
            }
        }
    }
}

#[actix_web::test]
async fn purge_reaches_response_during_store_write() {
    for (case, policy) in policies() {
        for kind in PurgeKind::ALL {
            let store = HookedStore::slow();
            let cache = Cache::builder(store.clone()).policy(policy.clone()).build().unwrap();
            let site = Site::new(0);
            let server = site.serve(1, &cache);
            let client = Client::new(server.addr, Protocol::Http1);
            let putting = store.hold_next(StoreEvent::Begins(StoreCall::Put));
            assert_eq!(client.get("/page").await.text(), "state 0");
            putting.reached().await;
            kind.purge(&site, &cache.handle(), &server, &client, "/page").await;
            putting.release();
            store.put_completed().await;
            let new = client.get("/page").await;
            assert_eq!((new.text(), new.is_hit()), ("state 1", false), "{case} {kind:?}");
        }
    }
}

/// The request overlaps the purge, so it may get either state. Later requests must get the new one.
#[actix_web::test]
async fn purge_between_lookup_and_handler_leaves_no_old_entry() {
    for (case, policy) in policies() {
        for kind in PurgeKind::ALL {
            for filled in [false, true] {
                let case = format!("{case}, {kind:?}, filled before: {filled}");
                let store = HookedStore::slow();
                let cache = Cache::builder(store.clone()).policy(policy.clone()).build().unwrap();
                let site = Site::new(0);
                let server = site.serve(2, &cache);
                let client = Client::new(server.addr, Protocol::Http1);
                if filled {
                    client.get("/page").await;
                    store.put_completed().await;
                }
                let looked_up = store.hold_next(StoreEvent::Ends(StoreCall::Lookup));
                let during = spawn_get(&client, "/page");
                looked_up.reached().await;
                kind.purge(&site, &cache.handle(), &server, &client, "/page").await;
                looked_up.release();
                during.await.unwrap();
                for _ in 0..2 {
                    assert_eq!(client.get("/page").await.text(), "state 1", "{case}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn old_response_is_never_served_after_repeated_purges() {
    for kind in PurgeKind::ALL {
        for (case, policy) in policies() {
            let cache = builder().0.policy(policy).build().unwrap();
            let site = Site::new(0);
            let server = site.serve(4, &cache);
            let done = Arc::new(AtomicUsize::new(0));
            let (hits, reads) = (Counter::default(), Counter::default());
            let readers: Vec<_> = (0..6)
                .map(|_| {
                    let (site, done) = (site.clone(), Arc::clone(&done));
                    let (hits, reads) = (hits.clone(), reads.clone());
                    let client = Client::new(server.addr, Protocol::Http1);
                    tokio::spawn(async move {
                        while done.load(Ordering::SeqCst) != usize::MAX {
                            let minimum =
                                done.load(Ordering::SeqCst).min(site.state.load(Ordering::SeqCst));
                            let answer = client.get("/page").await;
                            let seen: usize =
                                answer.text().strip_prefix("state ").unwrap().parse().unwrap();
                            assert!(
                                seen >= minimum,
                                "state {seen} was served after the purge of {minimum}"
                            );
                            reads.count();
                            if answer.is_hit() {
                                hits.count();
                            }
                        }
                    })
                })
                .collect();
            let client = Client::new(server.addr, Protocol::Http1);
            for n in 1..=30 {
                kind.purge(&site, &cache.handle(), &server, &client, "/page").await;
                done.store(n, Ordering::SeqCst);
                // These requests store an entry for the next purge.
                for _ in 0..2 {
                    assert_eq!(
                        client.get("/page").await.text(),
                        format!("state {n}"),
                        "{case} {kind:?}"
                    );
                }
            }
            done.store(usize::MAX, Ordering::SeqCst);
            for reader in readers {
                reader.await.unwrap();
            }
            assert!(hits.get() > 0 && reads.get() > 0, "{case} {kind:?}");
        }
    }
}

/// A stale entry may answer during its refresh or revalidation, but not after a purge.
#[actix_web::test]
async fn purge_reaches_refresh_and_revalidation_started_before_it() {
    for (case, policy) in policies() {
        for kind in PurgeKind::ALL {
            for window in [0, 600] {
                let case = format!("{kind:?}, {case}, stale for {window} s");
                let policy = policy.clone().stale_while_revalidate(Duration::from_secs(window));
                let (store, clock) = (store(), ManualClock::at(START));
                let builder = Cache::builder(store.clone()).clock(clock.clock());
                let cache = builder.policy(policy).build().unwrap();
                let site = Site::new(0);
                let server = site.serve(2, &cache);
                let client = Client::new(server.addr, Protocol::Http1);
                assert!(client.get("/page").await.is_stored());
                clock.advance(Duration::from_secs(61));
                site.slow_runs.store(1, Ordering::SeqCst);
                let during = spawn_get(&client, "/page");
                site.hold.reached().await;
                kind.purge(&site, &cache.handle(), &server, &client, "/page").await;
                // A request after the purge does not wait for the earlier one.
                let new = client.get("/page").await;
                assert_eq!((new.text(), new.is_stored()), ("state 1", true), "{case}");
                site.hold.release();
                assert_eq!(
                    during.await.unwrap().text(),
                    "state 0",
                    "the request began before the purge: {case}"
                );
                fills_ended(store.coordinator()).await;
                let hit = client.get("/page").await;
                assert_eq!((hit.text(), hit.is_hit()), ("state 1", true), "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn followers_after_purge_wait_for_new_leader() {
    for (case, policy) in policies() {
        for kind in PurgeKind::ALL {
            let case = format!("{kind:?}, {case}");
            let cache = builder().0.policy(policy.clone()).build().unwrap();
            let site = Site::new(2);
            let server = site.serve(2, &cache);
            let client = Client::new(server.addr, Protocol::Http1);
            let old = spawn_get(&client, "/page");
            site.hold.reached().await;
            kind.purge(&site, &cache.handle(), &server, &client, "/page").await;
            let new: Vec<_> = (0..5).map(|_| spawn_get(&client, "/page")).collect();
            site.hold.reached().await;
            site.hold.release();
            site.hold.release();
            assert_eq!(old.await.unwrap().text(), "state 0", "{case}");
            for new in new {
                assert_eq!(new.await.unwrap().text(), "state 1", "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn entry_purged_while_handler_fails_does_not_replace_error() {
    for keyed in [false, true] {
        let (builder, clock) = builder();
        let policy = Policy::new().stale_if_error(secs(3600));
        let policy = if keyed { policy.key_header("x-tenant") } else { policy };
        let cache = builder.policy(policy).build().unwrap();
        let (hold, fails) = (HoldPoint::new(), Arc::new(AtomicBool::new(false)));
        let shared = (cache.clone(), hold.clone(), Arc::clone(&fails));
        let server = serve(1, move || {
            let (cache, hold, fails) = shared.clone();
            App::new().wrap(cache).default_service(web::to(move || {
                let (hold, fails) = (hold.clone(), fails.load(Ordering::SeqCst));
                async move {
                    if !fails {
                        return HttpResponse::Ok().body("withdrawn");
                    }
                    hold.wait().await;
                    HttpResponse::ServiceUnavailable().finish()
                }
            }))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/").await.is_stored());
        clock.advance(secs(70));
        fails.store(true, Ordering::SeqCst);
        let failing = tokio::task::spawn({
            let client = client.clone();
            async move { client.get("/").await }
        });
        hold.reached().await;
        cache.handle().purge_url(format!("http://{}/", server.addr)).await.unwrap();
        hold.release();
        let answer = failing.await.unwrap();
        assert_eq!(answer.status, 503, "key with parts: {keyed}");
    }
}
