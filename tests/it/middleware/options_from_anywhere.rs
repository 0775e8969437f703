//! Caching options that code without a request sets by `actix_web_cache::{tag, ttl, no_store}`.

use std::sync::Arc;

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{
    Cache, CacheOptions, ManualClock, Mode, Policy, ResponseOptions, Rule, no_store,
    store::Store as _, tag, ttl,
};
use futures_util::{future::join, stream};
use tokio::sync::Semaphore;

use crate::support::{
    Client, Counter, Protocol, SETUPS, START, builder, cache, fills_ended, manual_bodies,
    requested_response, secs, serve, store, test_app, wait_until, with_entity_tag,
};

/// Data access code: it knows no request.
fn load(record: &str) -> String {
    tag(format!("record:{record}"));
    ttl(secs(20));
    record.to_owned()
}

async fn page(path: web::Path<String>) -> HttpResponse {
    HttpResponse::Ok().body(load(&path))
}

#[actix_web::test]
async fn functions_set_the_options_of_a_stored_response() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let inner = cache.clone();
        let server = serve(workers, move || {
            App::new().route("/{record}", web::get().to(page)).wrap(inner.clone())
        });
        let client = Client::new(server.addr, protocol);
        for path in ["/a", "/b"] {
            assert!(client.get(path).await.is_stored());
            assert_eq!(client.get(path).await.cache_status(), "hit; ttl=20");
        }
        cache.handle().purge_tag("record:a").await.unwrap();
        assert!(!client.get("/a").await.is_hit(), "{protocol:?}");
        assert!(client.get("/b").await.is_hit(), "{protocol:?}");
    }
}

/// The lifetimes of one response, and the one that applies.
#[actix_web::test]
async fn options_of_functions_and_extractor_combine() {
    let (cache, _) = cache();
    let inner = cache.clone();
    let server = serve(1, move || {
        let extractor_last = |options: CacheOptions| async move {
            load("a");
            options.tag("extracted");
            options.ttl(secs(7));
            "page"
        };
        let function_last = |options: CacheOptions| async move {
            options.ttl(secs(7));
            load("a");
            "page"
        };
        let attached = || async {
            load("a");
            let mut response = HttpResponse::Ok().finish();
            response.extensions_mut().insert(ResponseOptions::new().ttl(secs(9)));
            response
        };
        let refused = || async {
            no_store("draft");
            load("a")
        };
        let not_found = || async { HttpResponse::NotFound().body(load("a")) };
        App::new()
            .route("/extractor", web::to(extractor_last))
            .route("/function", web::to(function_last))
            .route("/attached", web::to(attached))
            .route("/refused", web::to(refused))
            .route("/missing", web::to(not_found))
            .wrap(inner.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, want) in [
        ("/extractor", "hit; ttl=7"),
        ("/function", "hit; ttl=20"),
        ("/attached", "hit; ttl=9"),
        ("/refused", "fwd=uri-miss; detail=handler"),
        ("/missing", "fwd=uri-miss; detail=no-lifetime"),
    ] {
        client.get(path).await;
        assert_eq!(client.get(path).await.cache_status(), want, "{path}");
    }
    cache.handle().purge_tag("extracted").await.unwrap();
    assert!(client.get("/function").await.is_hit() && !client.get("/extractor").await.is_hit());
}

/// A refreshed response has only the tags of the refresh. A validated response has the tags of the
/// validation, too.
#[actix_web::test]
async fn refresh_and_revalidation_set_options() {
    for (case, policy) in [
        ("refresh", Policy::new().stale_while_revalidate(secs(3600))),
        ("validation", Policy::new()),
    ] {
        let (store, clock) = (store(), ManualClock::at(START));
        let builder = Cache::builder(store.clone()).clock(clock.clock());
        let cache = builder.policy(policy.default_ttl(secs(30))).build().unwrap();
        let app = test_app(&cache, move |request, run| {
            tag(format!("run:{run}"));
            if case == "validation" {
                return with_entity_tag(request, "\"1\"", "page".to_owned());
            }
            HttpResponse::Ok().body("page")
        });
        app.client.get("/").await;
        clock.advance(secs(40));
        assert_eq!(app.client.get("/").await.text(), "page", "{case}");
        wait_until("the handler was called again", || app.runs.get() == 2).await;
        fills_ended(store.coordinator()).await;
        assert_eq!(app.client.get("/").await.cache_status(), "hit; ttl=30", "{case}");
        let stays = if case == "refresh" { &[3, 1][..] } else { &[3] };
        for (run, is_hit) in stays.iter().map(|run| (*run, true)).chain([(2, false)]) {
            cache.handle().purge_tag(format!("run:{run}")).await.unwrap();
            assert_eq!(app.client.get("/").await.is_hit(), is_hit, "{case} {run}");
        }
    }
}

#[actix_web::test]
async fn response_to_head_updates_options() {
    let (builder, clock) = builder();
    let cache = builder.policy(Policy::new().default_ttl(secs(30))).build().unwrap();
    let app = test_app(&cache, |request, run| {
        tag(format!("run:{run}"));
        with_entity_tag(request, "\"1\"", "page".to_owned())
    });
    app.client.get("/").await;
    clock.advance(secs(40));
    app.client.head("/").await;
    assert!(app.client.get("/").await.is_hit(), "freshened by HEAD");
    cache.handle().purge_tag("run:2").await.unwrap();
    assert!(!app.client.get("/").await.is_hit());
}

#[actix_web::test]
async fn stored_response_to_post_has_options() {
    let cache = builder().0.policy(Policy::rfc9111()).build().unwrap();
    let app = test_app(&cache, |request, run| {
        tag("record:a");
        requested_response(request, run)
    });
    let fields = [("answer", "content-location: /"), ("answer", "cache-control: max-age=60")];
    app.client.send(hyper::Method::POST, "/", &fields).await;
    assert!(app.client.get("/").await.is_hit());
    cache.handle().purge_tag("record:a").await.unwrap();
    assert!(!app.client.get("/").await.is_hit());
}

/// The options of a streamed response are complete when its head is there.
#[actix_web::test]
async fn body_in_progress_sets_no_options() {
    let (bodies, mut senders) = manual_bodies();
    let (cache, _) = cache();
    let app = test_app(&cache, move |_, _| {
        load("head");
        bodies.response(None).map_body(|_, body| {
            let chunks = stream::once(async {
                tag("body");
                Ok::<_, actix_web::Error>(bytes::Bytes::from_static(b"chunk"))
            });
            drop(body);
            actix_web::body::MessageBody::boxed(actix_web::body::BodyStream::new(chunks))
        })
    });
    assert_eq!(app.client.get("/").await.text(), "chunk");
    drop(senders.recv().await);
    assert_eq!(app.client.get("/").await.cache_status(), "hit; ttl=20");
    cache.handle().purge_tag("body").await.unwrap();
    assert!(app.client.get("/").await.is_hit(), "the body sets no tag");
    cache.handle().purge_tag("record:head").await.unwrap();
    assert!(!app.client.get("/").await.is_hit());
}

/// Two handlers on one thread set options before and after each of them has waited for the other.
#[actix_web::test]
async fn interleaved_handlers_do_not_mix_their_options() {
    let (cache, _) = cache();
    let (gate, arrived) = (Arc::new(Semaphore::new(0)), Counter::default());
    let (inner, shared) = (cache.clone(), (Arc::clone(&gate), arrived.clone()));
    let server = serve(1, move || {
        let shared = shared.clone();
        let page = move |request: HttpRequest| {
            let (gate, arrived) = shared.clone();
            // The part of the handler that is not in its future.
            tag(format!("call:{}", request.path()));
            async move {
                tag(format!("before:{}", request.path()));
                arrived.count();
                gate.acquire().await.unwrap().forget();
                tag(format!("after:{}", request.path()));
                "page"
            }
        };
        App::new().default_service(web::to(page)).wrap(inner.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for part in ["call", "before", "after"] {
        cache.handle().purge_all().await.unwrap();
        let before = arrived.get();
        let release = async {
            wait_until("both handlers wait", || arrived.get() == before + 2).await;
            gate.add_permits(2);
        };
        let requests = join(client.get("/a"), client.get("/b"));
        join(requests, release).await;
        cache.handle().purge_tag(format!("{part}:/a")).await.unwrap();
        assert!(client.get("/b").await.is_hit(), "{part}");
        gate.add_permits(1);
        assert!(!client.get("/a").await.is_hit(), "{part}");
    }
}

#[actix_web::test]
async fn innermost_cache_gets_the_options() {
    for (inner_is_off, path, want) in [
        (false, "/scope/page", "hit; ttl=20"),
        (false, "/bypassed/page", "fwd=bypass; detail=rule"),
        (false, "/page", "hit; ttl=20"),
        // A cache that is off is none.
        (true, "/scope/page", "hit; ttl=20"),
    ] {
        let store = store();
        let [outer, inner] = ["outer", "inner"].map(|namespace| {
            let bypass = Rule::prefix("/bypassed").bypass();
            let clock = ManualClock::at(START);
            let builder = Cache::builder(store.clone()).clock(clock.clock()).namespace(namespace);
            if namespace == "inner" { builder.rule(bypass) } else { builder }.build().unwrap()
        });
        if inner_is_off {
            inner.handle().set_mode(Mode::Off);
        }
        let caches = (outer.clone(), inner.clone());
        let server = serve(1, move || {
            let (outer, inner) = caches.clone();
            let scope = |path: &str| {
                web::scope(path).route("/{record}", web::get().to(page)).wrap(inner.clone())
            };
            App::new()
                .service(scope("/scope"))
                .service(scope("/bypassed"))
                .route("/{record}", web::get().to(page))
                .wrap(outer)
        });
        let client = Client::new(server.addr, Protocol::Http1);
        client.get(path).await;
        assert_eq!(client.get(path).await.cache_status(), want, "{path} {inner_is_off}");
        if want.starts_with("hit") {
            let is_inner = path.starts_with("/scope") && !inner_is_off;
            let (other, own) = if is_inner { (outer, inner) } else { (inner, outer) };
            other.handle().purge_tag("record:page").await.unwrap();
            assert!(client.get(path).await.is_hit(), "{path}");
            own.handle().purge_tag("record:page").await.unwrap();
            assert!(!client.get(path).await.is_hit(), "{path}");
        }
    }
}

#[actix_web::test]
async fn functions_have_no_effect_without_a_cache_or_in_other_tasks() {
    let (cache, _) = cache();
    let inner = cache.clone();
    let server = serve(1, move || {
        let other_tasks = || async {
            actix_web::rt::spawn(async { tag("other") }).await.unwrap();
            web::block(|| tag("other")).await.unwrap();
            tag("own");
            "page"
        };
        App::new()
            .route("/plain/{record}", web::get().to(page))
            .service(web::resource("/cached").route(web::get().to(other_tasks)).wrap(inner.clone()))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(client.get("/plain/a").await.text(), "a");
    client.get("/cached").await;
    cache.handle().purge_tag("other").await.unwrap();
    assert!(client.get("/cached").await.is_hit());
    cache.handle().purge_tag("own").await.unwrap();
    assert!(!client.get("/cached").await.is_hit());
}
