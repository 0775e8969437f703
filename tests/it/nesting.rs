//! Caches within caches: the innermost around a handler is responsible, the others step aside.

use std::sync::Arc;

use actix_web::{
    App, HttpResponse, Responder,
    dev::ServiceRequest,
    error::ErrorForbidden,
    guard,
    middleware::{Next, from_fn},
    web,
};
use actix_web_cache::{
    Cache, CacheHandle, ManualClock, MemoryStore, Mode, Policy,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse,
    },
};
use hyper::Method;

use crate::support::{Answer, Client, Counter, SETUPS, START, cache, secs, serve, store};

/// What a cache said, if it was one, and said it once.
fn only_status(answer: &Answer) -> Option<String> {
    let lines = answer.headers.get_all("cache-status").iter().count();
    let field = answer.field("cache-status");
    let caches = field.as_deref().unwrap_or_default().matches("actix-web-cache").count();
    assert!(lines <= 1 && caches == lines, "{field:?}");
    field.map(|_| answer.cache_status())
}

fn ttl(seconds: u64) -> Policy {
    Policy::new().default_ttl(secs(seconds))
}

async fn page() -> impl Responder {
    "page"
}

#[actix_web::test]
async fn the_innermost_cache_owns_what_its_handlers_answer() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            let inner = |seconds| cache.with_policy(ttl(seconds));
            App::new()
                .route("/app", web::to(page))
                .service(web::scope("/scope").route("/x", web::to(page)).wrap(inner(1)))
                .service(web::resource("/resource").route(web::to(page)).wrap(inner(2)))
                .route("/route", web::to(page).wrap(inner(3)))
                .service(
                    web::scope("/all")
                        .service(
                            web::resource("/x").route(web::to(page).wrap(inner(6))).wrap(inner(5)),
                        )
                        .wrap(inner(4)),
                )
                .wrap(cache.clone())
        });
        // With and without having learnt it before.
        let client = Client::new(server.addr, protocol);
        for (path, seconds) in
            [("/app", 60), ("/scope/x", 1), ("/resource", 2), ("/route", 3), ("/all/x", 6)]
        {
            let case = format!("{path} by {protocol:?}");
            let miss = client.get(path).await;
            assert_eq!(only_status(&miss).as_deref(), Some("fwd=uri-miss; stored"), "{case}");
            assert_eq!(miss.field("cache-control"), Some(format!("max-age={seconds}")), "{case}");
            for _ in 0..2 {
                let hit = client.get(path).await;
                assert_eq!(only_status(&hit), Some(format!("hit; ttl={seconds}")), "{case}");
                assert_eq!((hit.text(), &hit.body), ("page", &miss.body), "{case}");
            }
            let head = client.head(path).await;
            assert_eq!(only_status(&head), Some(format!("hit; ttl={seconds}")), "{case}");
        }
    }
}

#[actix_web::test]
async fn a_cache_that_is_not_responsible_touches_no_field_of_any_answer() {
    for (protocol, workers) in SETUPS {
        let store = store();
        let loud = Cache::builder(store.clone()).x_cache().policy(ttl(60).client_ttl(secs(5)));
        let outer = loud.build().unwrap();
        let silent = Cache::builder(store).policy(Policy::rfc9111()).without_cache_status();
        let inner = silent.build().unwrap();
        let server = serve(workers, move || {
            App::new()
                .service(
                    web::resource("/x")
                        .route(web::to(|| async {
                            HttpResponse::Ok()
                                .insert_header(("cache-control", "max-age=60"))
                                .body("page")
                        }))
                        .wrap(inner.clone()),
                )
                .wrap(outer.clone())
        });
        let client = Client::new(server.addr, protocol);
        let none: &[(&str, &str)] = &[];
        for round in 0..2 {
            for (method, path, fields) in [
                (Method::HEAD, "/x", none),
                (Method::GET, "/x", none),
                (Method::GET, "/x", none),
                (Method::GET, "/x?other", &[("range", "bytes=0-1")]),
                (Method::GET, "/x?other", &[("cache-control", "no-store")]),
                (Method::GET, "/x?other", &[("cookie", "sid=1")]),
                (Method::GET, "/x?none", &[("cache-control", "only-if-cached")]),
                (Method::OPTIONS, "/x", none),
                (Method::POST, "/x", none),
            ] {
                let answer = client.send(method.clone(), path, fields).await;
                let case = format!("{method} {path} {fields:?}, round {round}, by {protocol:?}");
                for field in ["cache-status", "x-cache", "expires"] {
                    assert_eq!(answer.field(field), None, "{field} of {case}");
                }
            }
        }
    }
}

/// A memory store that counts how often it is asked.
#[derive(Clone)]
struct Counting {
    inner: MemoryStore,
    lookups: Counter,
}

impl Store for Counting {
    fn coordinator(&self) -> &Coordinator {
        self.inner.coordinator()
    }

    fn lookup_now(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
    ) -> Option<Result<Lookup, StoreError>> {
        self.lookups.count();
        self.inner.lookup_now(key, selector)
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        self.inner.lookup(key, selector).await
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        self.inner.put(key, response, fill).await
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        self.inner.remove(key).await
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        self.inner.invalidate(what).await
    }
}

#[actix_web::test]
async fn the_outer_caches_learn_to_step_aside_before_they_look_up() {
    for (protocol, workers) in SETUPS {
        for (first, method) in [("get", Method::GET), ("head", Method::HEAD)] {
            let (lookups, clock) = (Counter::default(), ManualClock::at(START));
            let store = Counting { inner: store(), lookups: lookups.clone() };
            let cache = Cache::builder(store).clock(clock.clock()).build().unwrap();
            let server = serve(workers, move || {
                App::new()
                    .service(
                        web::scope("/s")
                            .service(
                                web::resource("/x")
                                    .route(web::to(page))
                                    .wrap(cache.with_policy(ttl(600))),
                            )
                            .wrap(cache.with_policy(ttl(30))),
                    )
                    .wrap(cache.clone())
            });
            let client = Client::new(server.addr, protocol);
            let case = format!("{first} first, by {protocol:?}");
            let mut before = 0;
            let mut asked = || lookups.get() - std::mem::replace(&mut before, lookups.get());
            client.send(method, "/s/x", &[]).await;
            assert_eq!(asked(), 3, "{case}");
            for _ in 0..3 {
                client.get("/s/x").await;
                assert_eq!(asked(), 1, "{case}");
            }
            // Another URL is another matter, and what was learnt is asked again some day.
            client.get("/s/x?other").await;
            assert_eq!(asked(), 3, "{case}");
            clock.advance(secs(60));
            assert!(client.get("/s/x").await.is_hit(), "{case}");
            assert_eq!(asked(), 3, "{case}");
        }
    }
}

#[actix_web::test]
async fn what_caches_at_different_depths_store_for_one_url_does_not_mix() {
    for (protocol, workers) in SETUPS {
        let (cache, clock) = cache();
        let server = serve(workers, move || {
            let say = |text: &'static str| {
                web::get().to(move || async move {
                    HttpResponse::Ok().insert_header(("vary", "x-deep")).body(text)
                })
            };
            let deep = guard::fn_guard(|context| context.head().headers().contains_key("x-deep"));
            App::new()
                .service(
                    web::resource("/x")
                        .route(say("deep").guard(deep).wrap(cache.with_policy(ttl(600))))
                        .route(say("shallow")),
                )
                .wrap(cache.with_policy(ttl(600)))
        });
        let client = Client::new(server.addr, protocol);
        let ask = async |deep: bool| {
            let fields: &[_] = if deep { &[("x-deep", "1")] } else { &[] };
            let answer = client.get_with("/x", fields).await;
            assert_eq!(answer.text(), if deep { "deep" } else { "shallow" }, "{protocol:?}");
            only_status(&answer)
        };
        assert_eq!(ask(true).await.as_deref(), Some("fwd=uri-miss; stored"));
        assert_eq!(ask(true).await.as_deref(), Some("hit; ttl=600"));
        // The outer one takes the URL for the inner one's, for a little while.
        assert_eq!(ask(false).await, None);
        clock.advance(secs(10));
        assert_eq!(ask(false).await.as_deref(), Some("fwd=vary-miss; stored"));
        for _ in 0..2 {
            assert_eq!(ask(true).await.as_deref(), Some("hit; ttl=590"));
        }
        clock.advance(secs(10));
        assert_eq!(ask(false).await.as_deref(), Some("hit; ttl=590"));
        assert_eq!(ask(true).await.as_deref(), Some("hit; ttl=580"));
    }
}

#[actix_web::test]
async fn what_an_inner_cache_stored_does_not_get_round_what_stands_in_front_of_it() {
    for (protocol, workers) in SETUPS {
        let (cache, clock) = cache();
        let server = serve(workers, move || {
            let gate = |request: ServiceRequest, next: Next<_>| async move {
                if request.headers().contains_key("x-pass") {
                    return next.call(request).await;
                }
                Err(ErrorForbidden("no pass"))
            };
            App::new()
                .service(
                    web::scope("/s")
                        .route("/x", web::get().to(page))
                        .wrap(cache.with_policy(ttl(600)))
                        .wrap(from_fn(gate)),
                )
                .wrap(cache.with_policy(ttl(600)))
        });
        let client = Client::new(server.addr, protocol);
        for round in 0..3 {
            let passed = client.get_with("/s/x", &[("x-pass", "1")]).await;
            assert_eq!((passed.text(), passed.is_hit()), ("page", round > 0), "{protocol:?}");
            // Once while the outer one knows that the page is none of its own, once after.
            for _ in 0..2 {
                let refused = client.get("/s/x").await;
                assert_eq!((refused.status.as_u16(), refused.text()), (403, "no pass"));
                clock.advance(secs(10));
            }
        }
    }
}

#[actix_web::test]
async fn whoever_purges_reaches_what_the_caches_at_all_depths_stored() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let handle = cache.handle();
        let server = serve(workers, move || {
            let purge = |cache: CacheHandle| async move {
                let mut responses = 0;
                for path in ["/app", "/scope/x", "/scope/parted/x"] {
                    responses += cache.purge_url(path).await.unwrap().responses;
                }
                responses.to_string()
            };
            let parted = ttl(60).key_header("x-tenant");
            App::new()
                .route("/app", web::to(page))
                .route("/purge", web::post().to(purge))
                .service(
                    web::scope("/scope")
                        .route("/x", web::to(page))
                        .route("/purge", web::post().to(purge))
                        .service(
                            web::scope("/parted")
                                .route("/x", web::to(page))
                                .route("/purge", web::post().to(purge))
                                .wrap(cache.with_policy(parted)),
                        )
                        .wrap(cache.with_policy(ttl(30))),
                )
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        let paths = ["/app", "/scope/x", "/scope/parted/x"];
        for way in ["/purge", "/scope/purge", "/scope/parted/purge", "handle", "unsafe"] {
            for path in paths {
                let case = format!("{path} after {way} by {protocol:?}");
                assert!(client.get(path).await.is_stored(), "{case}");
                assert!(client.get(path).await.is_hit(), "{case}");
            }
            match way {
                "handle" => {
                    for path in paths {
                        handle.purge_url(format!("http://{}{path}", server.addr)).await.unwrap();
                    }
                }
                "unsafe" => {
                    for path in paths {
                        assert_eq!(client.send(Method::PUT, path, &[]).await.status, 200);
                    }
                }
                path => {
                    // What has parts is made invalid without being counted.
                    let purged = client.send(Method::POST, path, &[]).await;
                    assert_eq!(purged.text(), "2", "{way} by {protocol:?}");
                }
            }
        }
        for path in paths {
            assert!(client.get(path).await.is_stored(), "{path} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn a_cache_that_is_off_is_as_if_it_were_not_there() {
    for (protocol, workers) in SETUPS {
        for (outer, inner, owner) in [
            (Mode::On, Mode::Off, Some(60)),
            (Mode::Off, Mode::On, Some(30)),
            (Mode::Off, Mode::Off, None),
            (Mode::On, Mode::On, Some(30)),
        ] {
            let store = store();
            let cache = |mode, seconds| {
                Cache::builder(store.clone()).mode(mode).policy(ttl(seconds)).build().unwrap()
            };
            let (outside, inside) = (cache(outer, 60), cache(inner, 30));
            let server = serve(workers, move || {
                let purge = |cache: CacheHandle| async move {
                    cache.purge_url("/s/x").await.unwrap();
                    "purged"
                };
                App::new()
                    .service(
                        web::scope("/s")
                            .route("/x", web::get().to(page))
                            .route("/purge", web::post().to(purge))
                            .wrap(inside.clone()),
                    )
                    .wrap(outside.clone())
            });
            let client = Client::new(server.addr, protocol);
            let case = format!("{outer:?} around {inner:?} by {protocol:?}");
            for _ in 0..2 {
                let miss = client.get("/s/x").await;
                let stored = owner.map(|_| "fwd=uri-miss; stored".to_owned());
                assert_eq!(only_status(&miss), stored, "{case}");
                let max_age = owner.map(|seconds| format!("max-age={seconds}"));
                assert_eq!(miss.field("cache-control"), max_age, "{case}");
                let hit = client.get("/s/x").await;
                assert_eq!(hit.is_hit(), owner.is_some(), "{case}");
                assert_eq!((hit.text(), only_status(&hit).is_some()), ("page", owner.is_some()));
                // Handlers that purge work in development as well.
                let purged = client.send(Method::POST, "/s/purge", &[]).await;
                assert_eq!(purged.text(), "purged", "{case}");
            }
        }
    }
}
