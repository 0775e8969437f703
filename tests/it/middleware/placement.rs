//! Caches around an application, a scope or a resource, and other middlewares inside the cache.

use actix_web::{
    App, HttpResponse, guard,
    middleware::{Compress, DefaultHeaders, Next, from_fn},
    web,
};
use actix_web_cache::{Cache, Policy};

use crate::support::{Client, Counter, Protocol, START, builder, cache, secs, serve, store};

#[actix_web::test]
async fn responses_are_cached_behind_other_middlewares() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        App::new()
            .route("/", web::to(|| async { HttpResponse::Ok().body("page ".repeat(1000)) }))
            .wrap(DefaultHeaders::new().add(("x-between", "1")))
            .wrap(from_fn(|request, next: Next<_>| next.call(request)))
            .wrap(Compress::default())
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for coding in ["gzip", "identity"] {
        let fields = [("accept-encoding", coding)];
        let miss = client.get_with("/", &fields).await;
        let hit = client.get_with("/", &fields).await;
        assert!(miss.is_stored() && hit.is_hit(), "{coding}");
        assert_eq!((&hit.body, hit.field("x-between")), (&miss.body, Some("1".to_owned())));
        assert_eq!(hit.body.len() == 5000, coding == "identity");
    }
}

#[actix_web::test]
async fn caches_of_scopes_and_resources_leave_other_routes_uncached() {
    let runs = Counter::default();
    let counter = runs.clone();
    let store = store();
    let clock = actix_web_cache::ManualClock::at(START);
    let server = serve(1, move || {
        let cache_with_ttl = |seconds| {
            let policy = Policy::new().default_ttl(secs(seconds));
            Cache::builder(store.clone()).clock(clock.clock()).policy(policy).build().unwrap()
        };
        let runs = counter.clone();
        let number = move || {
            let run = runs.count();
            async move { HttpResponse::Ok().body(run.to_string()) }
        };
        App::new()
            .service(web::resource("/pi").wrap(cache_with_ttl(30)).to(number.clone()))
            .service(
                web::scope("/sub").wrap(cache_with_ttl(90)).route("/page", web::to(number.clone())),
            )
            .route("/", web::to(number))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, status) in [("/pi", "hit; ttl=30"), ("/sub/page", "hit; ttl=90"), ("/", "")] {
        client.get(path).await;
        assert_eq!(client.get(path).await.cache_status(), status, "{path}");
    }
    let absent = client.get("/sub/absent").await;
    assert_eq!((absent.status.as_u16(), absent.is_stored()), (404, false));
    assert_eq!(runs.get(), 4);
}

/// The cache is outside of the routes, so it does not see which guard a request passes.
#[actix_web::test]
async fn routes_chosen_by_guards_keep_their_own_entries_behind_one_cache() {
    for by_key in [true, false] {
        let policy = if by_key { Policy::new().key_header("x-kind") } else { Policy::new() };
        let cache = builder().0.policy(policy).build().unwrap();
        let runs = Counter::default();
        let counter = runs.clone();
        let server = serve(1, move || {
            let page = |text: &'static str| {
                let runs = counter.clone();
                move || {
                    runs.count();
                    let mut response = HttpResponse::Ok();
                    if !by_key {
                        response.insert_header(("vary", "x-kind"));
                    }
                    async move { response.body(text) }
                }
            };
            let resource = web::resource("/g/{a}")
                .route(web::route().guard(guard::Header("x-kind", "b")).to(page("guarded")))
                .route(web::to(page("open")));
            App::new().wrap(cache.clone()).service(resource)
        });
        let client = Client::new(server.addr, Protocol::Http1);
        for is_hit in [false, true] {
            for (fields, text) in
                [(&[][..], "open"), (&[("x-kind", "b")], "guarded"), (&[("x-kind", "c")], "open")]
            {
                let answer = client.get_with("/g/1", fields).await;
                assert_eq!((answer.text(), answer.is_hit()), (text, is_hit), "{fields:?} {by_key}");
                let vary = answer.field("vary").unwrap_or_default();
                assert!(vary.split(", ").any(|name| name == "x-kind"), "{vary}");
            }
        }
        assert_eq!(runs.get(), 3, "{by_key}");
    }
}
