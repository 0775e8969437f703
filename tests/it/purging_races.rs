//! Purges while pages are being made: what began before a purge is never served after it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
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
    Answer, Client, Counter, Protocol, SETUPS, START, Server, Stop, Watched, builder, serve,
    settled, store,
};

/// A page that reads its state, then waits; and what changes the state.
#[derive(Clone)]
struct Site {
    state: Arc<AtomicUsize>,
    /// Where pages wait once they have read the state.
    stop: Stop,
    /// How many wait; those after them do not.
    slow: Arc<AtomicUsize>,
}

impl Site {
    fn new(slow: usize) -> Self {
        let slow = Arc::new(AtomicUsize::new(slow));
        Self { state: Arc::default(), stop: Stop::new(), slow }
    }

    fn read(&self) -> String {
        format!("state {}", self.state.load(Ordering::SeqCst))
    }

    async fn wait(&self) {
        let slow = |left: usize| left.checked_sub(1);
        if self.slow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, slow).is_ok() {
            self.stop.wait().await;
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
                    let has_it = request.headers().get("if-none-match");
                    if has_it.is_some_and(|known| *known == *tag) {
                        return HttpResponse::NotModified().finish();
                    }
                    let mut page = HttpResponse::Ok();
                    page.insert_header(("cache-control", "max-age=60"));
                    named(page.insert_header(("etag", tag))).body(text)
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
                async move { named(&mut HttpResponse::Ok()).streaming(body) }
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

/// With names that nobody knows before it is made.
fn named(page: &mut HttpResponseBuilder) -> &mut HttpResponseBuilder {
    page.extensions_mut().insert(ResponseOptions::new().tag("learnt"));
    page.insert_header(("cache-groups", r#""pages""#))
}

/// Ways to purge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Url,
    All,
    /// By a successful PUT.
    Unsafe,
    /// By a tag that the policy gives.
    Known,
    /// By a tag that the answer brings.
    Learnt,
    Group,
    Prefix,
}

impl Way {
    const ALL: [Self; 7] =
        [Self::Url, Self::All, Self::Unsafe, Self::Known, Self::Learnt, Self::Group, Self::Prefix];

    /// Changes the site's state and purges the page.
    async fn purge(
        self,
        site: &Site,
        handle: &CacheHandle,
        server: &Server,
        client: &Client,
        path: &str,
    ) {
        if self != Self::Unsafe {
            site.state.fetch_add(1, Ordering::SeqCst);
        }
        let host = server.addr.to_string();
        let pages = match self {
            Self::Unsafe => {
                assert_eq!(client.send(Method::PUT, path, &[]).await.status, 204);
                return;
            }
            Self::Url => PurgeTarget::url(path).on_host(host),
            Self::All => PurgeTarget::all(),
            Self::Known => PurgeTarget::tag("known"),
            Self::Learnt => PurgeTarget::tag("learnt"),
            Self::Group => PurgeTarget::group("pages").on_host(host),
            Self::Prefix => PurgeTarget::prefix("/").on_host(host),
        };
        handle.purge(pages).await.unwrap();
    }
}

/// Policies under which purges work in different ways: by removal, and by the URL's tag.
fn policies() -> [(&'static str, Policy); 2] {
    let plain = Policy::new().tag("known");
    [("a plain key", plain.clone()), ("a key with parts", plain.key_header("x-tenant"))]
}

fn later(client: &Client, path: &'static str) -> tokio::task::JoinHandle<Answer> {
    let client = client.clone();
    tokio::spawn(async move { client.get(path).await })
}

#[actix_web::test]
async fn a_page_that_was_being_made_during_a_purge_is_not_stored() {
    for (protocol, workers) in SETUPS {
        for (case, policy) in policies() {
            for way in Way::ALL {
                let case = format!("{way:?}, {case}, {protocol:?}, {workers} workers");
                let cache = builder().0.policy(policy.clone()).build().unwrap();
                let site = Site::new(1);
                let server = site.serve(workers, &cache);
                let client = Client::new(server.addr, protocol);
                let old = later(&client, "/page");
                site.stop.reached().await;
                way.purge(&site, &cache.handle(), &server, &client, "/page").await;
                // What begins after the purge is stored, although the older one is still open.
                let new = client.get("/page").await;
                assert_eq!((new.text(), new.is_stored()), ("state 1", true), "{case}");
                site.stop.release();
                let old = old.await.unwrap();
                assert_eq!(old.text(), "state 0", "its client asked before: {case}");
                let hit = client.get("/page").await;
                assert_eq!((hit.text(), hit.is_hit()), ("state 1", true), "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn no_page_of_several_that_were_being_made_is_stored() {
    for (case, policy) in policies() {
        for way in Way::ALL {
            // So that they do not wait for each other.
            let policy = policy.clone().wait_limit(Duration::from_millis(1));
            let cache = builder().0.policy(policy).build().unwrap();
            let site = Site::new(3);
            let server = site.serve(2, &cache);
            let client = Client::new(server.addr, Protocol::Http1);
            let old: Vec<_> = (0..3).map(|_| later(&client, "/page")).collect();
            for _ in 0..3 {
                site.stop.reached().await;
            }
            way.purge(&site, &cache.handle(), &server, &client, "/page").await;
            for _ in 0..3 {
                site.stop.release();
            }
            for old in old {
                assert_eq!(old.await.unwrap().text(), "state 0");
            }
            let new = client.get("/page").await;
            assert_eq!((new.text(), new.is_hit()), ("state 1", false), "{case}, {way:?}");
        }
    }
}

#[actix_web::test]
async fn a_purge_reaches_a_page_whose_head_is_sent_already() {
    for (protocol, workers) in SETUPS {
        for (case, policy) in policies() {
            for way in Way::ALL.into_iter().filter(|way| *way != Way::Unsafe) {
                let cache = builder().0.policy(policy.clone()).build().unwrap();
                let site = Site::new(1);
                let server = site.serve(workers, &cache);
                let client = Client::new(server.addr, protocol);
                let old = later(&client, "/stream");
                site.stop.reached().await;
                way.purge(&site, &cache.handle(), &server, &client, "/stream").await;
                site.stop.release();
                assert_eq!(old.await.unwrap().text(), "state 0.", "{case}");
                let new = client.get("/stream").await;
                assert_eq!((new.text(), new.is_hit()), ("state 1.", false), "{case} {way:?}");
                assert!(client.get("/stream").await.is_hit(), "{case} {way:?}");
            }
        }
    }
}

#[actix_web::test]
async fn a_purge_reaches_a_page_that_is_on_its_way_into_the_store() {
    for (case, policy) in policies() {
        for way in Way::ALL {
            let store = Watched::new();
            let cache = Cache::builder(store.clone()).policy(policy.clone()).build().unwrap();
            let site = Site::new(0);
            let server = site.serve(1, &cache);
            let client = Client::new(server.addr, Protocol::Http1);
            let putting = store.stop_at("putting");
            assert_eq!(client.get("/page").await.text(), "state 0");
            putting.reached().await;
            way.purge(&site, &cache.handle(), &server, &client, "/page").await;
            putting.release();
            store.stored().await;
            let new = client.get("/page").await;
            assert_eq!((new.text(), new.is_hit()), ("state 1", false), "{case} {way:?}");
        }
    }
}

/// The request overlaps the purge, so that either state may be its answer; no later one's.
#[actix_web::test]
async fn a_purge_between_look_up_and_handler_leaves_nothing_old_behind() {
    for (case, policy) in policies() {
        for way in Way::ALL {
            for filled in [false, true] {
                let case = format!("{case}, {way:?}, filled before: {filled}");
                let store = Watched::new();
                let cache = Cache::builder(store.clone()).policy(policy.clone()).build().unwrap();
                let site = Site::new(0);
                let server = site.serve(2, &cache);
                let client = Client::new(server.addr, Protocol::Http1);
                if filled {
                    client.get("/page").await;
                    store.stored().await;
                }
                let looked_up = store.stop_at("looked up");
                let during = later(&client, "/page");
                looked_up.reached().await;
                way.purge(&site, &cache.handle(), &server, &client, "/page").await;
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
async fn after_each_of_many_purges_nobody_sees_what_was_before() {
    for way in Way::ALL {
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
                            let least =
                                done.load(Ordering::SeqCst).min(site.state.load(Ordering::SeqCst));
                            let answer = client.get("/page").await;
                            let seen: usize =
                                answer.text().strip_prefix("state ").unwrap().parse().unwrap();
                            assert!(seen >= least, "{seen} was seen after the purge of {least}");
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
                way.purge(&site, &cache.handle(), &server, &client, "/page").await;
                done.store(n, Ordering::SeqCst);
                // Something is there to be purged.
                for _ in 0..2 {
                    assert_eq!(
                        client.get("/page").await.text(),
                        format!("state {n}"),
                        "{case} {way:?}"
                    );
                }
            }
            done.store(usize::MAX, Ordering::SeqCst);
            for reader in readers {
                reader.await.unwrap();
            }
            assert!(hits.get() > 0 && reads.get() > 0, "{case} {way:?}");
        }
    }
}

/// What is old answers while it is refreshed or asked about, but not once it was purged.
#[actix_web::test]
async fn a_purge_reaches_a_refresh_and_a_validation_that_began_before_it() {
    for (case, policy) in policies() {
        for way in Way::ALL {
            for window in [0, 600] {
                let case = format!("{way:?}, {case}, stale for {window} s");
                let policy = policy.clone().stale_while_revalidate(Duration::from_secs(window));
                let (store, clock) = (store(), ManualClock::at(START));
                let builder = Cache::builder(store.clone()).clock(clock.clock());
                let cache = builder.policy(policy).build().unwrap();
                let site = Site::new(0);
                let server = site.serve(2, &cache);
                let client = Client::new(server.addr, Protocol::Http1);
                assert!(client.get("/page").await.is_stored());
                clock.advance(Duration::from_secs(61));
                site.slow.store(1, Ordering::SeqCst);
                let during = later(&client, "/page");
                site.stop.reached().await;
                way.purge(&site, &cache.handle(), &server, &client, "/page").await;
                // What comes now does not wait for what was asked before.
                let new = client.get("/page").await;
                assert_eq!((new.text(), new.is_stored()), ("state 1", true), "{case}");
                site.stop.release();
                assert_eq!(during.await.unwrap().text(), "state 0", "it overlaps: {case}");
                settled(store.coordinator()).await;
                let hit = client.get("/page").await;
                assert_eq!((hit.text(), hit.is_hit()), ("state 1", true), "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn those_who_wait_since_after_a_purge_wait_for_a_new_answer() {
    for (case, policy) in policies() {
        for way in Way::ALL {
            let case = format!("{way:?}, {case}");
            let cache = builder().0.policy(policy.clone()).build().unwrap();
            let site = Site::new(2);
            let server = site.serve(2, &cache);
            let client = Client::new(server.addr, Protocol::Http1);
            let old = later(&client, "/page");
            site.stop.reached().await;
            way.purge(&site, &cache.handle(), &server, &client, "/page").await;
            let new: Vec<_> = (0..5).map(|_| later(&client, "/page")).collect();
            site.stop.reached().await;
            site.stop.release();
            site.stop.release();
            assert_eq!(old.await.unwrap().text(), "state 0", "{case}");
            for new in new {
                assert_eq!(new.await.unwrap().text(), "state 1", "{case}");
            }
        }
    }
}
