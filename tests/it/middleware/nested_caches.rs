//! Nested caches: the innermost cache around a handler handles the request, and the outer caches
//! pass it through.

use actix_web::{
    App, HttpResponse, Responder,
    dev::ServiceRequest,
    error::ErrorForbidden,
    guard,
    middleware::{Next, from_fn},
    web,
};
use actix_web_cache::{Cache, CacheHandle, ManualClock, Mode, Policy};
use hyper::Method;

use crate::support::{
    Answer, Client, HookedStore, Protocol, SETUPS, START, StoreCall, cache, secs, serve, store,
};

/// The `Cache-Status` of a response, if present. At most one cache may have written it.
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
async fn innermost_cache_handles_the_request() {
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
        // The first request of a path records in the outer caches that an inner cache handles it. The
        // following requests use that record.
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
async fn outer_cache_changes_no_fields_of_responses_of_an_inner_cache() {
    for (protocol, workers) in SETUPS {
        let store = store();
        let reporting = Cache::builder(store.clone()).x_cache().policy(ttl(60).client_ttl(secs(5)));
        let outer = reporting.build().unwrap();
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
        let no_fields: &[(&str, &str)] = &[];
        for round in 0..2 {
            for (method, path, fields) in [
                (Method::HEAD, "/x", no_fields),
                (Method::GET, "/x", no_fields),
                (Method::GET, "/x", no_fields),
                (Method::GET, "/x?other", &[("range", "bytes=0-1")]),
                (Method::GET, "/x?other", &[("cache-control", "no-store")]),
                (Method::GET, "/x?other", &[("cookie", "sid=1")]),
                (Method::GET, "/x?none", &[("cache-control", "only-if-cached")]),
                (Method::OPTIONS, "/x", no_fields),
                (Method::POST, "/x", no_fields),
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

#[actix_web::test]
async fn outer_caches_skip_their_lookup_after_the_first_request() {
    for (protocol, workers) in SETUPS {
        for (first, method) in [("get", Method::GET), ("head", Method::HEAD)] {
            let (store, clock) = (HookedStore::with_lookup_now(), ManualClock::at(START));
            let cache = Cache::builder(store.clone()).clock(clock.clock()).build().unwrap();
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
            let mut new_lookups = || {
                let lookups = store.calls(StoreCall::LookupNow);
                lookups - std::mem::replace(&mut before, lookups)
            };
            client.send(method, "/s/x", &[]).await;
            assert_eq!(new_lookups(), 3, "{case}");
            for _ in 0..3 {
                client.get("/s/x").await;
                assert_eq!(new_lookups(), 1, "{case}");
            }
            // The outer caches record the inner cache per URL, and the record expires.
            client.get("/s/x?other").await;
            assert_eq!(new_lookups(), 3, "{case}");
            clock.advance(secs(60));
            assert!(client.get("/s/x").await.is_hit(), "{case}");
            assert_eq!(new_lookups(), 3, "{case}");
        }
    }
}

#[actix_web::test]
async fn caches_at_different_depths_keep_separate_entries_for_one_url() {
    for (protocol, workers) in SETUPS {
        let (cache, clock) = cache();
        let server = serve(workers, move || {
            let respond = |text: &'static str| {
                web::get().to(move || async move {
                    HttpResponse::Ok().insert_header(("vary", "x-deep")).body(text)
                })
            };
            let deep = guard::fn_guard(|context| context.head().headers().contains_key("x-deep"));
            App::new()
                .service(
                    web::resource("/x")
                        .route(respond("deep").guard(deep).wrap(cache.with_policy(ttl(600))))
                        .route(respond("shallow")),
                )
                .wrap(cache.with_policy(ttl(600)))
        });
        let client = Client::new(server.addr, protocol);
        let status_for = async |deep: bool| {
            let fields: &[_] = if deep { &[("x-deep", "1")] } else { &[] };
            let answer = client.get_with("/x", fields).await;
            assert_eq!(answer.text(), if deep { "deep" } else { "shallow" }, "{protocol:?}");
            only_status(&answer)
        };
        assert_eq!(status_for(true).await.as_deref(), Some("fwd=uri-miss; stored"));
        assert_eq!(status_for(true).await.as_deref(), Some("hit; ttl=600"));
        // The outer cache assumes that the inner cache handles this URL, until another route of the
        // URL answers.
        assert_eq!(status_for(false).await.as_deref(), Some("fwd=bypass; detail=no-inner-cache"));
        assert_eq!(status_for(false).await.as_deref(), Some("fwd=vary-miss; stored"));
        for seconds in [600, 590, 580] {
            let hit = format!("hit; ttl={seconds}");
            for _ in 0..5 {
                assert_eq!(status_for(true).await.as_ref(), Some(&hit));
                assert_eq!(status_for(false).await.as_ref(), Some(&hit));
            }
            clock.advance(secs(10));
        }
    }
}

#[actix_web::test]
async fn entry_of_an_inner_cache_never_bypasses_a_middleware_in_front_of_it() {
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
            let allowed = client.get_with("/s/x", &[("x-pass", "1")]).await;
            assert_eq!((allowed.text(), allowed.is_hit()), ("page", round > 0), "{protocol:?}");
            // The first request arrives while the outer cache passes the URL through, the second one
            // after that.
            for _ in 0..2 {
                let refused = client.get("/s/x").await;
                assert_eq!((refused.status.as_u16(), refused.text()), (403, "no pass"));
                clock.advance(secs(10));
            }
        }
    }
}

#[actix_web::test]
async fn purge_reaches_the_entries_of_caches_at_all_depths() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let handle = cache.handle();
        let server = serve(workers, move || {
            let purge = |cache: CacheHandle| async move {
                let mut purged = Vec::new();
                for path in ["/app", "/scope/x", "/scope/keyed/x"] {
                    purged.push(cache.purge_url(path).await.unwrap().to_string());
                }
                purged.join(", ")
            };
            let keyed = ttl(60).key_header("x-tenant");
            App::new()
                .route("/app", web::to(page))
                .route("/purge", web::post().to(purge))
                .service(
                    web::scope("/scope")
                        .route("/x", web::to(page))
                        .route("/purge", web::post().to(purge))
                        .service(
                            web::scope("/keyed")
                                .route("/x", web::to(page))
                                .route("/purge", web::post().to(purge))
                                .wrap(cache.with_policy(keyed)),
                        )
                        .wrap(cache.with_policy(ttl(30))),
                )
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        let paths = ["/app", "/scope/x", "/scope/keyed/x"];
        for purge_by in ["/purge", "/scope/purge", "/scope/keyed/purge", "handle", "unsafe"] {
            for path in paths {
                let case = format!("{path}, purged by {purge_by}, over {protocol:?}");
                assert!(client.get(path).await.is_stored(), "{case}");
                assert!(client.get(path).await.is_hit(), "{case}");
            }
            match purge_by {
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
                    let purged = client.send(Method::POST, path, &[]).await;
                    let want = ["1 stored response"; 3].join(", ");
                    assert_eq!(purged.text(), want, "{purge_by} by {protocol:?}");
                }
            }
        }
        for path in paths {
            assert!(client.get(path).await.is_stored(), "{path} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn disabled_cache_does_not_count_as_a_nested_cache() {
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
                // A handler can purge in every mode.
                let purged = client.send(Method::POST, "/s/purge", &[]).await;
                assert_eq!(purged.text(), "purged", "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn nested_cache_of_a_resource_uses_its_own_policy() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let inner = cache.with_policy(Policy::new().default_ttl(secs(7)));
        App::new()
            .service(web::resource("/").wrap(inner).to(|| async { "page" }))
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for want in ["fwd=uri-miss; stored", "hit; ttl=7", "hit; ttl=7"] {
        let answer = client.get("/").await;
        assert_eq!((answer.status.as_u16(), answer.cache_status().as_str()), (200, want));
    }
}
