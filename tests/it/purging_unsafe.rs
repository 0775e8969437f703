//! Unsafe methods: what succeeds forgets its target before anybody learns of the success; and
//! nothing else that a client sends forgets anything.

use std::{future::poll_fn, pin::pin, time::Duration};

use actix_web::{
    App, HttpRequest, HttpResponse,
    dev::Service as _,
    error::{ErrorBadRequest, InternalError},
    http::StatusCode,
    test::{TestRequest, init_service},
    web,
};
use actix_web_cache::{Cache, ManualClock, Policy, QueryKey, Rule};
use hyper::Method;

use crate::support::{
    Client, Counter, Protocol, SETUPS, START, Server, Watched, builder, cache, raw, serve, store,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

const SHOP: (&str, &str) = ("host", "shop.example");

/// Pages everywhere; other methods are answered with the status in `X-Status`, or 200.
async fn answer(request: HttpRequest) -> HttpResponse {
    if *request.method() == actix_web::http::Method::GET {
        return HttpResponse::Ok().insert_header(("vary", "x-lang")).body("page");
    }
    let status = request.headers().get("x-status").map(|status| status.to_str().unwrap());
    let status = status.map_or(StatusCode::OK, |status| status.parse().unwrap());
    HttpResponse::build(status).finish()
}

fn serve_site(workers: usize, cache: &Cache) -> (Server, Client) {
    let cache = cache.clone();
    let server =
        serve(workers, move || App::new().wrap(cache.clone()).default_service(web::to(answer)));
    let client = Client::new(server.addr, Protocol::Http1);
    (server, client)
}

/// Whether a page that is stored stays so when `method` is answered with `status`.
async fn survives(client: &Client, method: &str, status: u16, fields: Fields<'_>) -> bool {
    client.get("/page").await;
    assert!(client.get("/page").await.is_hit());
    let status = status.to_string();
    let fields = [&[("x-status", status.as_str())], fields].concat();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let answer = client.send(method, "/page", &fields).await;
    assert_eq!(answer.status.as_str(), status);
    client.get("/page").await.is_hit()
}

#[actix_web::test]
async fn what_succeeds_forgets_its_target_and_what_fails_does_not() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (server, _) = serve_site(workers, &cache);
        let client = Client::new(server.addr, protocol);
        for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE", "BREW", "LOCK", "M-SEARCH"] {
            for (status, kept) in [
                (200, false),
                (201, false),
                (202, false),
                (204, false),
                (299, false),
                (301, false),
                (303, false),
                (307, false),
                (399, false),
                (400, true),
                (401, true),
                (403, true),
                (404, true),
                (405, true),
                (409, true),
                (412, true),
                (500, true),
                (503, true),
            ] {
                let got = survives(&client, method, status, &[]).await;
                assert_eq!(got, kept, "{method} {status} {protocol:?}");
            }
        }
    }
}

#[actix_web::test]
async fn safe_methods_forget_nothing() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (server, _) = serve_site(workers, &cache);
        let client = Client::new(server.addr, protocol);
        for method in ["OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
            for status in [200, 204, 303] {
                assert!(survives(&client, method, status, &[]).await, "{method} {status}");
            }
        }
    }
}

#[actix_web::test]
async fn no_field_of_a_client_purges_or_passes_by_the_store() {
    let (cache, _) = cache();
    let (_server, client) = serve_site(2, &cache);
    for field in [
        ("x-purge", "1"),
        ("x-invalidate-cache", "/page"),
        ("x-cache-bypass", "1"),
        ("x-apicache-bypass", "true"),
        ("x-apicache-force-fetch", "true"),
        ("x-http-method-override", "PURGE"),
        ("x-http-method", "DELETE"),
        ("cache-tag", "page"),
        ("surrogate-key", "page"),
        ("surrogate-control", "no-store"),
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
        ("x-original-url", "/other"),
        ("x-rewrite-url", "/other"),
        ("x-requested-with", "XMLHttpRequest"),
    ] {
        client.get("/page").await;
        assert!(client.get_with("/page", &[field]).await.is_hit(), "{field:?}");
        assert!(client.send(Method::HEAD, "/page", &[field]).await.is_hit(), "{field:?}");
        client.send(Method::OPTIONS, "/page", &[field]).await;
        assert!(client.get("/page").await.is_hit(), "{field:?}");
        let elsewhere = client.send(Method::POST, "/other", &[field]).await;
        assert_eq!(elsewhere.status, 200);
        assert!(client.get("/page").await.is_hit(), "{field:?} with POST to another page");
    }
}

#[actix_web::test]
async fn the_method_purge_is_nothing_special() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        App::new().wrap(cache.clone()).service(web::resource("/page").get(|| async { "page" }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/page").await.is_stored());
    for method in ["PURGE", "BAN", "DELETE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for path in ["/page", "/*", "/.*", "/"] {
            let answer = client.send(method.clone(), path, &[]).await;
            assert!(answer.status == 405 || answer.status == 404, "{method} {path}");
        }
        assert!(client.get("/page").await.is_hit(), "{method}");
    }
}

#[actix_web::test]
async fn the_target_is_forgotten_whatever_rules_and_policies_say_of_it() {
    let caches: [(&str, Cache); 6] = [
        (
            "no rule",
            builder().0.rules_only().rule(Rule::path("/page").when(is_get)).build().unwrap(),
        ),
        (
            "a rule that refuses",
            builder().0.rule(Rule::any().when(is_not_get).bypass()).build().unwrap(),
        ),
        (
            "a lifetime of nothing",
            builder()
                .0
                .rule(Rule::any().when(is_not_get).override_ttl(Duration::ZERO))
                .build()
                .unwrap(),
        ),
        ("a status", builder().0.rule(Rule::any().status([204]).bypass()).build().unwrap()),
        (
            "a query",
            builder()
                .0
                .rule(Rule::any().when(is_not_get).query(QueryKey::only(["q"])))
                .build()
                .unwrap(),
        ),
        (
            "clients are heard",
            builder().0.policy(Policy::new().honor_request_directives()).build().unwrap(),
        ),
    ];
    for (case, cache) in caches {
        let (server, _) = serve_site(1, &cache);
        for (protocol, fields) in [
            (Protocol::Http1, &[][..]),
            (Protocol::Http1, &[("range", "bytes=0-1")]),
            (Protocol::Http1, &[("cache-control", "no-store, only-if-cached")]),
            (Protocol::Http2, &[("authorization", "Bearer a"), ("cookie", "sid=a")]),
        ] {
            let client = Client::new(server.addr, protocol);
            assert!(!survives(&client, "POST", 204, fields).await, "{case} {fields:?}");
        }
    }
}

fn is_get(request: &actix_web::dev::ServiceRequest) -> bool {
    *request.method() == actix_web::http::Method::GET
}

fn is_not_get(request: &actix_web::dev::ServiceRequest) -> bool {
    !is_get(request)
}

#[actix_web::test]
async fn all_that_is_stored_of_the_target_is_forgotten_and_nothing_else() {
    let plain = builder().0.build().unwrap();
    let keyed = Policy::new().key_header("x-tenant").vary_cookie("theme");
    let keyed = builder().0.policy(keyed).build().unwrap();
    for (case, cache) in [("a plain key", plain), ("a key with parts", keyed)] {
        let (_server, client) = serve_site(2, &cache);
        let same: [(&str, Fields<'_>); 4] = [
            ("/page?a=1", &[]),
            ("/page?a=1", &[("x-lang", "de")]),
            ("/page?a=1", &[("x-tenant", "acme"), ("x-lang", "de")]),
            ("/page?a=1", &[("x-forwarded-host", "other.example")]),
        ];
        let others: [(&str, Fields<'_>); 6] = [
            ("/page", &[]),
            ("/page?a=2", &[]),
            ("/page?a=1&b=1", &[]),
            ("/page/", &[]),
            ("/p%61ge?a=1", &[]),
            ("/page?a=1", &[("host", "other.example")]),
        ];
        for (path, fields) in same.into_iter().chain(others) {
            client.get_with(path, fields).await;
            assert!(client.get_with(path, fields).await.is_hit(), "{case} {path} {fields:?}");
        }
        client.send(Method::DELETE, "/page?a=1", &[("x-tenant", "evil")]).await;
        for (path, fields) in others {
            assert!(client.get_with(path, fields).await.is_hit(), "{case} {path} {fields:?}");
        }
        for (path, fields) in same {
            let answer = client.get_with(path, fields).await;
            let again = path == "/page?a=1" && case == "a plain key" && answer.is_hit();
            // Without a tenant in the key the same variant was made anew a moment ago.
            assert!(
                !answer.is_hit() || (again && fields.contains(&("x-tenant", "acme"))),
                "{case} {fields:?}"
            );
        }
    }
}

#[actix_web::test]
async fn the_target_is_forgotten_before_the_client_learns_of_the_success() {
    let store = Watched::new();
    let noted = store.clone();
    let cache = Cache::builder(store.clone()).build().unwrap();
    let server = serve(1, move || {
        let store = noted.clone();
        let change = move || {
            store.note("changed");
            async { HttpResponse::NoContent().finish() }
        };
        App::new()
            .wrap(cache.clone())
            .service(web::resource("/page").get(|| async { "page" }).put(change))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    client.get("/page").await;
    store.stored().await;
    store.events();
    let removing = store.stop_at("removing");
    let change = {
        let (client, store) = (client.clone(), store.clone());
        tokio::spawn(async move {
            let answer = client.send(Method::PUT, "/page", &[]).await;
            store.note("answered");
            answer
        })
    };
    removing.reached().await;
    removing.release();
    assert_eq!(change.await.unwrap().status, 204);
    let events = store.events();
    let place = |event| events.iter().position(|found| *found == event).unwrap();
    assert!(place("changed") < place("removing"), "{events:?}");
    assert!(place("removed") < place("answered"), "{events:?}");
    let removals = |event| events.iter().filter(|found| **found == event).count();
    assert_eq!(removals("removed"), removals("removing"), "all is done by then: {events:?}");
}

#[actix_web::test]
async fn a_purge_that_began_is_done_though_nobody_waits_for_the_answer() {
    let store = Watched::new();
    let cache = Cache::builder(store.clone()).build().unwrap();
    let page = web::resource("/page").get(|| async { "page" }).put(|| async { "changed" });
    let app = init_service(App::new().wrap(cache).service(page)).await;
    let request = |method| {
        TestRequest::with_uri("/page").method(method).insert_header(("host", "a")).to_request()
    };
    let removing = store.stop_at("removing");
    {
        let mut change = pin!(app.call(request(actix_web::http::Method::PUT)));
        // Until the purge waits for the store; then the client goes away.
        let mut arrived = pin!(removing.reached());
        poll_fn(|cx| {
            assert!(change.as_mut().poll(cx).is_pending());
            arrived.as_mut().poll(cx)
        })
        .await;
    }
    removing.release();
    for _ in 0..1000 {
        if store.events().contains(&"removed") {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the purge was given up");
}

#[actix_web::test]
async fn a_store_that_fails_to_forget_keeps_no_answer_back() {
    let store = Watched::new();
    let cache = Cache::builder(store.clone()).build().unwrap();
    let (_server, client) = serve_site(1, &cache);
    store.fail(true);
    let answer = client.send(Method::PUT, "/page", &[("x-status", "204")]).await;
    assert_eq!((answer.status.as_u16(), answer.cache_status().as_str()), (204, "fwd=method"));
}

/// Errors of handlers and middlewares are answers too.
#[actix_web::test]
async fn an_error_forgets_the_target_if_its_answer_is_a_success() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let fail = || async { Err::<&str, _>(ErrorBadRequest("no")) };
        let moved =
            || async { Err::<&str, _>(InternalError::new("over there", StatusCode::SEE_OTHER)) };
        App::new()
            .wrap_fn(|request, service| {
                let by_middleware = request.headers().get("x-fail").map(|status| {
                    let status: u16 = status.to_str().unwrap().parse().unwrap();
                    InternalError::new("middleware", StatusCode::from_u16(status).unwrap())
                });
                let answer = service.call(request);
                async move {
                    let answer = answer.await?;
                    by_middleware.map_or(Ok(answer), |error| Err(error.into()))
                }
            })
            .wrap(cache.clone())
            .service(web::resource("/fail").get(|| async { "page" }).put(fail))
            .service(web::resource("/moved").get(|| async { "page" }).put(moved))
            .service(web::resource("/fine").get(|| async { "page" }).put(|| async { "done" }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, fields, status, kept) in [
        ("/fail", &[][..], 400, true),
        ("/moved", &[], 303, false),
        ("/fine", &[], 200, false),
        ("/fine", &[("x-fail", "500")], 500, true),
        ("/fine", &[("x-fail", "303")], 303, false),
        ("/fine", &[("x-fail", "200")], 200, false),
    ] {
        client.get(path).await;
        assert!(client.get(path).await.is_hit(), "{path} {fields:?}");
        let answer = client.send(Method::PUT, path, fields).await;
        assert_eq!(answer.status, status, "{path} {fields:?}");
        assert_eq!(client.get(path).await.is_hit(), kept, "{path} {fields:?}");
    }
}

#[actix_web::test]
async fn a_target_that_names_two_hosts_is_forgotten_on_both() {
    let (cache, _) = cache();
    let (server, client) = serve_site(1, &cache);
    for host in ["shop.example", "other.example", "third.example"] {
        assert!(client.get_with("/page", &[("host", host)]).await.is_stored());
    }
    let put = "PUT http://other.example/page HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\
        Content-Length: 0\r\n\r\n";
    assert!(raw(server.addr, put.as_bytes()).starts_with(b"HTTP/1.1 200"));
    for (host, kept) in [("shop.example", false), ("other.example", false), ("third.example", true)]
    {
        assert_eq!(client.get_with("/page", &[("host", host)]).await.is_hit(), kept, "{host}");
    }
}

#[actix_web::test]
async fn nested_caches_forget_the_target_whichever_stores_they_have() {
    for same in [true, false] {
        let clock = ManualClock::at(START);
        let first = store();
        let second = if same { first.clone() } else { store() };
        let build = |store| Cache::builder(store).clock(clock.clock()).build().unwrap();
        let (outer, inner) = (build(first), build(second));
        let runs = Counter::default();
        let counter = runs.clone();
        let server = serve(1, move || {
            let runs = counter.clone();
            let page = move || {
                runs.count();
                async { "page" }
            };
            // Reading goes by the outer cache alone, writing through both.
            let inside = |context: &actix_web::guard::GuardContext<'_>| {
                context.head().method != actix_web::http::Method::GET
            };
            App::new()
                .wrap(outer.clone())
                .service(
                    web::resource("/page")
                        .guard(actix_web::guard::fn_guard(inside))
                        .wrap(inner.clone())
                        .put(|| async { "changed" }),
                )
                .route("/page", web::get().to(page))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get_with("/page", &[SHOP]).await.is_stored());
        assert!(client.get_with("/page", &[SHOP]).await.is_hit());
        assert_eq!(client.send(Method::PUT, "/page", &[SHOP]).await.text(), "changed");
        assert!(!client.get_with("/page", &[SHOP]).await.is_hit(), "one store: {same}");
        assert_eq!(runs.get(), 2);
    }
}

#[actix_web::test]
async fn another_namespace_keeps_what_it_has() {
    let (store, clock) = (store(), ManualClock::at(START));
    let build = |namespace: &str| {
        let cache = Cache::builder(store.clone()).clock(clock.clock()).namespace(namespace);
        serve_site(1, &cache.build().unwrap())
    };
    let ((_one, one), (_other, other)) = (build("one"), build("other"));
    for client in [&one, &other] {
        assert!(client.get_with("/page", &[SHOP]).await.is_stored());
    }
    one.send(Method::PUT, "/page", &[SHOP]).await;
    assert!(!one.get_with("/page", &[SHOP]).await.is_hit());
    assert!(other.get_with("/page", &[SHOP]).await.is_hit());
}
