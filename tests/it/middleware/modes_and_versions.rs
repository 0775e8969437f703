//! The mode of a cache, which changes at run time, and the version of an application.

use actix_web::{App, web};
use actix_web_cache::{Cache, Mode, PurgeTarget};

use crate::support::{
    Client, HookedStore, Protocol, StoreCall, builder, requested_response, secs, serve, store,
    test_app,
};

#[actix_web::test]
async fn mode_changes_at_run_time() {
    let cache = builder().0.build().unwrap();
    let (handle, app) = (cache.handle(), test_app(&cache, requested_response));
    assert_eq!(handle.mode(), Mode::On);
    for path in ["/kept", "/changed", "/off"] {
        app.client.get(path).await;
        assert!(app.client.get(path).await.is_hit());
    }

    handle.set_mode(Mode::Bypass);
    for _ in 0..2 {
        let answer = app.client.get("/kept").await;
        assert_eq!(answer.cache_status(), "fwd=bypass; detail=mode");
    }
    app.client.send("POST".parse().unwrap(), "/changed", &[]).await;

    handle.set_mode(Mode::Off);
    assert_eq!(handle.mode(), Mode::Off);
    let runs = app.runs.get();
    assert_eq!(app.client.get("/kept").await.field("cache-status"), None);
    let changed = app.client.send("POST".parse().unwrap(), "/off", &[]).await;
    assert_eq!((changed.field("cache-status"), app.runs.get()), (None, runs + 2));

    handle.set_mode(Mode::On);
    for (path, is_hit) in [("/kept", true), ("/changed", false), ("/off", true)] {
        assert_eq!(app.client.get(path).await.is_hit(), is_hit, "{path}");
    }
}

#[actix_web::test]
async fn bypassed_requests_do_not_reach_the_store() {
    let store = HookedStore::new();
    let cache = Cache::builder(store.clone()).mode(Mode::Bypass).build().unwrap();
    let app = test_app(&cache, requested_response);
    for method in ["GET", "HEAD", "GET"] {
        app.client.send(method.parse().unwrap(), "/", &[]).await;
    }
    assert_eq!((store.calls(StoreCall::Lookup), store.calls(StoreCall::Put)), (0, 0));
}

#[actix_web::test]
async fn caches_of_scopes_have_the_mode_of_their_cache() {
    let cache = builder().0.build().unwrap();
    let handle = cache.handle();
    let server = serve(2, move || {
        let scope = web::scope("/scope").default_service(web::to(|| async { "page" }));
        App::new()
            .service(scope.wrap(cache.with(|policy| policy.default_ttl(secs(9)))))
            .default_service(web::to(|| async { "page" }))
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (mode, want) in [(Mode::Bypass, "fwd=bypass; detail=mode"), (Mode::On, "hit; ttl=9")] {
        handle.set_mode(mode);
        client.get("/scope/page").await;
        assert_eq!(client.get("/scope/page").await.cache_status(), want);
    }
}

#[actix_web::test]
async fn versions_share_purges_but_no_responses() {
    let targets = [
        PurgeTarget::url("http://a/page?q"),
        PurgeTarget::url("/page?q").on_any_host(),
        PurgeTarget::prefix("/page").on_host("a"),
        PurgeTarget::tag("tag"),
        PurgeTarget::all(),
    ];
    for target in targets {
        let name = format!("{target:?}");
        let store = store();
        let apps = ["", "1", "2", "12"].map(|version| {
            let tagged = actix_web_cache::Policy::new().tag("tag");
            let cache = Cache::builder(store.clone()).policy(tagged).version(version);
            test_app(&cache.build().unwrap(), requested_response)
        });
        let host = [("host", "a")];
        for app in &apps {
            assert!(app.client.get_with("/page?q", &host).await.is_stored(), "{name}");
        }
        for app in &apps {
            assert!(app.client.get_with("/page?q", &host).await.is_hit(), "{name}");
        }
        let last = Cache::builder(store.clone()).version("2").build().unwrap();
        last.handle().purge(target).await.unwrap();
        for app in &apps {
            assert!(!app.client.get_with("/page?q", &host).await.is_hit(), "{name}");
        }
    }
}

#[actix_web::test]
async fn purge_of_a_variant_reaches_the_version_of_its_cache() {
    let store = store();
    let [old, new] =
        ["1", "2"].map(|version| Cache::builder(store.clone()).version(version).build().unwrap());
    let apps = [&old, &new].map(|cache| test_app(cache, requested_response));
    let host = [("host", "a")];
    for app in &apps {
        app.client.get_with("/", &host).await;
    }
    drop(old);
    let target = PurgeTarget::url("http://a/").variant([("accept", "text/html")]);
    new.handle().purge(target).await.unwrap();
    assert!(!apps[1].client.get_with("/", &host).await.is_hit());
}
