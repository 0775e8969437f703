//! Unsafe methods: a successful response purges the target before the client gets it (RFC 9111
//! section 4.4).

use std::{future::poll_fn, pin::pin};

use actix_web::{
    App, Error, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::{Service as _, ServiceRequest, ServiceResponse},
    error::{ErrorBadRequest, InternalError},
    http::StatusCode,
    middleware::{Next, from_fn},
    test::{TestRequest, init_service},
    web,
};
use actix_web_cache::{Cache, ManualClock, Policy, QueryKey, Rule};
use hyper::Method;

use super::app::{SHOP, serve_page, serve_requested_responses};
use crate::support::{
    Client, Counter, HookedStore, Protocol, SETUPS, START, StoreCall, StoreEvent, StoreFault,
    builder, cache, raw, serve, store,
};

type Fields<'a> = &'a [(&'a str, &'a str)];

/// Returns whether a stored entry remains when `method` is answered with `status`.
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
async fn unsafe_method_purges_target_only_when_successful() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let (server, _) = serve_page(workers, &cache);
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
async fn safe_method_purges_nothing() {
    for (protocol, workers) in SETUPS {
        let cache = builder().0.policy(Policy::new().pass_queries()).build().unwrap();
        let (server, _) = serve_page(workers, &cache);
        let client = Client::new(server.addr, protocol);
        for method in ["OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY"] {
            for status in [200, 204, 303] {
                assert!(survives(&client, method, status, &[]).await, "{method} {status}");
            }
        }
    }
}

#[actix_web::test]
async fn unsafe_method_purges_target_regardless_of_rules_and_policies() {
    let caches: [(&str, Cache); 5] = [
        (
            "no rule matches",
            builder().0.rules_only().rule(Rule::path("/page").when(is_get)).build().unwrap(),
        ),
        (
            "a rule bypasses",
            builder().0.rule(Rule::any().when(is_not_get).bypass()).build().unwrap(),
        ),
        (
            "the status is never stored",
            builder().0.policy(Policy::new().never_store_status([204])).build().unwrap(),
        ),
        (
            "a rule selects parameters",
            builder()
                .0
                .rule(
                    Rule::any().when(is_not_get).with(|policy| policy.query(QueryKey::only(["q"]))),
                )
                .build()
                .unwrap(),
        ),
        (
            "request directives are honored",
            builder().0.policy(Policy::new().honor_request_directives()).build().unwrap(),
        ),
    ];
    for (case, cache) in caches {
        let (server, _) = serve_page(1, &cache);
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
async fn unsafe_method_purges_all_variants_and_nothing_else() {
    let plain = builder().0.build().unwrap();
    let keyed = Policy::new().key_header("x-tenant").vary_cookie("theme");
    let keyed = builder().0.policy(keyed).build().unwrap();
    for (case, cache) in [("plain key", plain), ("key with parts", keyed)] {
        let (_server, client) = serve_page(2, &cache);
        let variants: [(&str, Fields<'_>); 4] = [
            ("/page?a=1", &[]),
            ("/page?a=1", &[("x-lang", "de")]),
            ("/page?a=1", &[("x-tenant", "acme"), ("x-lang", "de")]),
            ("/page?a=1", &[("x-forwarded-host", "other.example")]),
        ];
        let others: [(&str, Fields<'_>); 5] = [
            ("/page", &[]),
            ("/page?a=2", &[]),
            ("/page?a=1&b=1", &[]),
            ("/page/", &[]),
            ("/page?a=1", &[("host", "other.example")]),
        ];
        for (path, fields) in variants.into_iter().chain(others) {
            client.get_with(path, fields).await;
            assert!(client.get_with(path, fields).await.is_hit(), "{case} {path} {fields:?}");
        }
        client.send(Method::DELETE, "/page?a=1", &[("x-tenant", "evil")]).await;
        for (path, fields) in others {
            assert!(client.get_with(path, fields).await.is_hit(), "{case} {path} {fields:?}");
        }
        for (path, fields) in variants {
            let answer = client.get_with(path, fields).await;
            let refilled = path == "/page?a=1" && case == "plain key" && answer.is_hit();
            // Without a tenant in the key, the request before this one stored the variant again.
            assert!(
                !answer.is_hit() || (refilled && fields.contains(&("x-tenant", "acme"))),
                "{case} {fields:?}"
            );
        }
    }
}

#[actix_web::test]
async fn unsafe_method_purges_target_before_response_is_sent() {
    let store = HookedStore::slow();
    let handler_store = store.clone();
    let cache = Cache::builder(store.clone()).build().unwrap();
    let server = serve(1, move || {
        let store = handler_store.clone();
        let change = move || {
            store.record("changed");
            async { HttpResponse::NoContent().finish() }
        };
        App::new()
            .wrap(cache.clone())
            .service(web::resource("/page").get(|| async { "page" }).put(change))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    client.get("/page").await;
    store.put_completed().await;
    store.events();
    let removing = store.hold_next(StoreEvent::Begins(StoreCall::Remove));
    let change = {
        let (client, store) = (client.clone(), store.clone());
        tokio::spawn(async move {
            let answer = client.send(Method::PUT, "/page", &[]).await;
            store.record("answered");
            answer
        })
    };
    removing.reached().await;
    removing.release();
    assert_eq!(change.await.unwrap().status, 204);
    let events = store.events();
    let begins = StoreEvent::Begins(StoreCall::Remove);
    let ends = StoreEvent::Ends(StoreCall::Remove);
    let position = |event| events.iter().position(|recorded| *recorded == event).unwrap();
    assert!(position(StoreEvent::Test("changed")) < position(begins), "{events:?}");
    assert!(position(ends) < position(StoreEvent::Test("answered")), "{events:?}");
    let count = |event| events.iter().filter(|recorded| **recorded == event).count();
    assert_eq!(count(ends), count(begins), "every started removal is complete: {events:?}");
}

/// The change took effect, so the entry is outdated even if the client never reads the response.
#[actix_web::test]
async fn started_purge_completes_after_client_disconnects() {
    let store = HookedStore::slow();
    let cache = Cache::builder(store.clone()).build().unwrap();
    let page = web::resource("/page").get(|| async { "page" }).put(|| async { "changed" });
    let app = init_service(App::new().wrap(cache).service(page)).await;
    let request = |method| {
        TestRequest::with_uri("/page").method(method).insert_header(("host", "a")).to_request()
    };
    let removing = store.hold_next(StoreEvent::Begins(StoreCall::Remove));
    {
        let mut change = pin!(app.call(request(actix_web::http::Method::PUT)));
        // Polls until the purge waits for the store. Dropping the request then is a disconnect.
        let mut arrived = pin!(removing.reached());
        poll_fn(|cx| {
            assert!(change.as_mut().poll(cx).is_pending());
            arrived.as_mut().poll(cx)
        })
        .await;
    }
    removing.release();
    for _ in 0..1000 {
        if store.events().contains(&StoreEvent::Ends(StoreCall::Remove)) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the purge was abandoned");
}

/// The change took effect, so the client must learn of it.
#[actix_web::test]
async fn unsafe_method_is_answered_when_purge_fails() {
    let store = HookedStore::slow();
    let cache = Cache::builder(store.clone()).build().unwrap();
    let (_server, client) = serve_page(1, &cache);
    store.set_fault(&[StoreCall::Remove, StoreCall::Invalidate], StoreFault::Error);
    let answer = client.send(Method::PUT, "/page", &[("x-status", "204")]).await;
    assert_eq!((answer.status.as_u16(), answer.cache_status().as_str()), (204, "fwd=method"));
}

/// Errors of handlers and middleware become responses, so their status counts.
#[actix_web::test]
async fn error_purges_target_only_when_status_is_successful() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let fail = || async { Err::<&str, _>(ErrorBadRequest("no")) };
        let moved = || async { Err::<&str, _>(InternalError::new("moved", StatusCode::SEE_OTHER)) };
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
    for (path, fields, status, is_kept) in [
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
        assert_eq!(client.get(path).await.is_hit(), is_kept, "{path} {fields:?}");
    }
}

/// The application may act on either host, so the entries of both may be outdated.
#[actix_web::test]
async fn host_in_the_target_of_an_unsafe_request_is_not_purged() {
    let (cache, _) = cache();
    let (server, client) = serve_page(1, &cache);
    for host in ["shop.example", "other.example", "third.example"] {
        assert!(client.get_with("/page", &[("host", host)]).await.is_stored());
    }
    let put = "PUT http://other.example/page HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\
        Content-Length: 0\r\n\r\n";
    assert!(raw(server.addr, put.as_bytes()).starts_with(b"HTTP/1.1 200"));
    for (host, kept) in [("shop.example", false), ("other.example", true), ("third.example", true)]
    {
        assert_eq!(client.get_with("/page", &[("host", host)]).await.is_hit(), kept, "{host}");
    }
}

#[actix_web::test]
async fn nested_caches_both_purge_the_target() {
    for one_store in [true, false] {
        let clock = ManualClock::at(START);
        let first = store();
        let second = if one_store { first.clone() } else { store() };
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
            // GET passes the outer cache only, other methods pass both.
            let is_unsafe = |context: &actix_web::guard::GuardContext<'_>| {
                context.head().method != actix_web::http::Method::GET
            };
            App::new()
                .wrap(outer.clone())
                .service(
                    web::resource("/page")
                        .guard(actix_web::guard::fn_guard(is_unsafe))
                        .wrap(inner.clone())
                        .put(|| async { "changed" }),
                )
                .route("/page", web::get().to(page))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get_with("/page", &[SHOP]).await.is_stored());
        assert!(client.get_with("/page", &[SHOP]).await.is_hit());
        assert_eq!(client.send(Method::PUT, "/page", &[SHOP]).await.text(), "changed");
        assert!(!client.get_with("/page", &[SHOP]).await.is_hit(), "one store: {one_store}");
        assert_eq!(runs.get(), 2);
    }
}

#[actix_web::test]
async fn unsafe_method_keeps_entries_of_other_namespace() {
    let (store, clock) = (store(), ManualClock::at(START));
    let build = |namespace: &str| {
        let cache = Cache::builder(store.clone()).clock(clock.clock()).namespace(namespace);
        serve_page(1, &cache.build().unwrap())
    };
    let ((_one, one), (_other, other)) = (build("one"), build("other"));
    for client in [&one, &other] {
        assert!(client.get_with("/page", &[SHOP]).await.is_stored());
    }
    one.send(Method::PUT, "/page", &[SHOP]).await;
    assert!(!one.get_with("/page", &[SHOP]).await.is_hit());
    assert!(other.get_with("/page", &[SHOP]).await.is_hit());
}

const MINUTE: (&str, &str) = ("answer", "cache-control: max-age=60");

#[actix_web::test]
async fn unsafe_method_purges_location_urls_on_same_host() {
    let methods = ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "UNKNOWN"];
    for policy in [Policy::new(), Policy::rfc9111()] {
        let site = serve_requested_responses(policy);
        let port = site.server.addr.port();
        let (http, https) =
            (format!("http://127.0.0.1:{port}"), format!("https://127.0.0.1:{port}"));
        for (reference, is_purged) in [
            ("/dir/page?x=1", true),
            ("page?x=1", true),
            ("./page?x=1", true),
            ("../dir/sub/../page?x=1", true),
            ("?x=1", false),
            (&format!("{http}/dir/page?x=1#part"), true),
            (&format!("{https}/dir/page?x=1"), true),
            (&format!("//127.0.0.1:{port}/dir/page?x=1"), true),
            ("/dir/page", false),
            ("/dir/page?x=2", false),
            ("http://127.0.0.1/dir/page?x=1", false),
            (&format!("http://127.0.0.1:{}/dir/page?x=1", port ^ 1), false),
            (&format!("http://example.com:{port}/dir/page?x=1"), false),
            (&format!("ftp://127.0.0.1:{port}/dir/page?x=1"), false),
            ("http://[", false),
        ] {
            for field in ["location", "content-location"] {
                for (method, status) in methods.map(|method| (method, "201")).into_iter().chain([
                    ("PUT", "303"),
                    ("PUT", "404"),
                    ("PUT", "500"),
                ]) {
                    let languages = ["de", "fr"].map(|language| ("accept-language", language));
                    let vary = ("answer", "vary: accept-language");
                    for language in languages {
                        site.client.get_with("/dir/page?x=1", &[language, vary, MINUTE]).await;
                    }
                    let line = format!("{field}: {reference}");
                    let method: Method = method.parse().unwrap();
                    let fields = [("answer-status", status), ("answer", &*line)];
                    let changed = site.client.send(method.clone(), "/dir/items", &fields).await;
                    let case = format!("{method} {status} {line}");
                    assert_eq!(changed.cache_status(), "fwd=method", "{case}");
                    let expected = is_purged && status < "400";
                    for language in languages {
                        let next = site.client.get_with("/dir/page?x=1", &[language, vary]).await;
                        assert_eq!(!next.is_hit(), expected, "{case}");
                    }
                    site.client.send(Method::DELETE, "/dir/page?x=1", &[]).await;
                }
            }
        }
    }
}

/// A login that redirects to the home page would otherwise purge the home page, and a client that
/// chooses `Location` could purge any page.
#[actix_web::test]
async fn policy_limits_purges_by_redirects_and_by_location() {
    let no_redirects = || Policy::new().no_purge_by_redirects();
    let no_location = || Policy::new().no_purge_by_location();
    for (policy, status, purges_own, purges_location) in [
        (Policy::new(), "303", true, true),
        (no_redirects(), "303", false, false),
        (no_redirects(), "308", false, false),
        (no_redirects(), "201", true, true),
        (no_location(), "303", true, false),
        (no_location(), "201", true, false),
        (no_location().no_purge_by_redirects(), "303", false, false),
    ] {
        let site = serve_requested_responses(policy);
        for path in ["/login", "/"] {
            assert!(site.client.get_with(path, &[MINUTE]).await.is_stored());
        }
        let fields = [("answer-status", status), ("answer", "location: /")];
        site.client.send(Method::POST, "/login", &fields).await;
        for (path, is_purged) in [("/login", purges_own), ("/", purges_location)] {
            let answer = site.client.get_with(path, &[MINUTE]).await;
            assert_eq!(answer.is_hit(), !is_purged, "{path} after {status}");
        }
    }
}

/// Redirects all requests but GET, by a response or by an error.
async fn redirect_changes(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if is_get(&request) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    if request.headers().contains_key("x-fail") {
        return Err(InternalError::new("moved", StatusCode::PERMANENT_REDIRECT).into());
    }
    let response = HttpResponse::PermanentRedirect().insert_header(("location", "/page")).finish();
    Ok(request.into_response(response))
}

/// The redirection comes from a middleware inside of the cache, so that no handler ran.
#[actix_web::test]
async fn policy_excludes_redirects_of_a_middleware_from_purges() {
    for (policy, kept) in [(Policy::new(), false), (Policy::new().no_purge_by_redirects(), true)] {
        let cache = builder().0.policy(policy).build().unwrap();
        let server = serve(1, move || {
            App::new()
                .wrap(from_fn(redirect_changes))
                .wrap(cache.clone())
                .default_service(web::to(|| async { "page" }))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        for fields in [&[][..], &[("x-fail", "1")]] {
            client.get("/page").await;
            assert!(client.get("/page").await.is_hit());
            let answer = client.send(Method::POST, "/page", fields).await;
            assert_eq!(answer.status.as_u16(), 308, "{fields:?}");
            assert_eq!(client.get("/page").await.is_hit(), kept, "{fields:?}");
        }
    }
}
