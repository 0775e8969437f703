//! The requests of a background refresh: outer middlewares see the client's request, the handler
//! sees an equivalent one.

use actix_session::{SessionExt as _, SessionMiddleware, storage::CookieSessionStore};
use actix_web::{
    App, HttpMessage as _, HttpRequest, HttpResponse,
    cookie::Key,
    dev::Service as _,
    middleware::{Condition, DefaultHeaders, Logger},
    web,
};
use actix_web_cache::{Cache, ManualClock, MemoryStore, Policy, store::Store as _};

use crate::support::{
    Client, Counter, HoldPoint, Protocol, SETUPS, START, SharedLines, fills_ended,
    requested_response, secs, serve, store, wait_until,
};

const WINDOW: (&str, &str) = ("answer", "cache-control: max-age=60, stale-while-revalidate=30");
const HOLD: (&str, &str) = ("hold", "1");

fn cache_over(store: &MemoryStore, policy: Policy) -> (Cache, ManualClock) {
    let clock = ManualClock::at(START);
    let cache = Cache::builder(store.clone()).clock(clock.clock()).policy(policy).build().unwrap();
    (cache, clock)
}

/// A request extension that an outer middleware sets.
struct Claims(&'static str);

/// Everything that a middleware can read from the request of a response.
fn describe(request: &HttpRequest) -> String {
    let cookies: Vec<_> = request.cookies().unwrap().iter().map(ToString::to_string).collect();
    let claims = request.extensions().get::<Claims>().map(|claims| claims.0);
    let path = request.match_info().as_str().to_owned();
    format!(
        "{} {} {:?} {} {} {:?} {cookies:?} {claims:?} {path} {:?}",
        request.method(),
        request.uri(),
        request.version(),
        request.peer_addr().unwrap().ip(),
        request.connection_info().host(),
        request.headers().get("x-own"),
        request.query_string(),
    )
}

#[actix_web::test]
async fn outer_middleware_sees_the_clients_request_on_hits() {
    for (protocol, workers) in SETUPS {
        let store = store();
        let (cache, clock) = cache_over(&store, Policy::new().ignore_cookies(["*"]));
        let (hold, recorded) = (HoldPoint::new(), SharedLines::default());
        let shared = (hold.clone(), recorded.clone());
        let key = Key::generate();
        let server = serve(workers, move || {
            let (hold, recorded) = shared.clone();
            let handler = move |request: HttpRequest| {
                let hold = hold.clone();
                async move {
                    if request.headers().contains_key("hold") {
                        hold.wait().await;
                    }
                    requested_response(&request, 0)
                }
            };
            App::new()
                .wrap(cache.clone())
                .wrap_fn(move |request, service| {
                    let recorded = recorded.clone();
                    request.extensions_mut().insert(Claims("alice"));
                    // A response to a request with a session is not stored, so the miss has none.
                    if request.headers().contains_key("hold") {
                        request.get_session().insert("seen", 1).unwrap();
                    }
                    let answer = service.call(request);
                    async move {
                        let answer = answer.await?;
                        recorded.add(describe(answer.request()));
                        Ok(answer)
                    }
                })
                .wrap(SessionMiddleware::new(CookieSessionStore::default(), key.clone()))
                .wrap(DefaultHeaders::new().add(("x-default", "1")))
                .wrap(Logger::default())
                .default_service(web::to(handler))
        });
        let client = Client::new(server.addr, protocol);
        let fields = [WINDOW, HOLD, ("cookie", "a=1"), ("x-own", "1")];
        let path = "/p%20q/?x=y%2Fz";
        let miss = client.get_with(path, &[WINDOW, fields[2], fields[3]]).await;
        assert!(miss.is_stored(), "{protocol:?}");
        let fresh = client.get_with(path, &fields).await;
        clock.advance(secs(65));
        let stale = client.get_with(path, &fields).await;
        assert_eq!(
            (fresh.cache_status(), stale.cache_status()),
            ("hit; ttl=60".into(), "hit; ttl=-5".into())
        );
        let described = recorded.take();
        // The extensions move to the handler's request when a refresh starts; all else is equal.
        assert_eq!(described[1].replace("Some(\"alice\")", "None"), described[2], "{protocol:?}");
        for (case, answer, has_session) in [("fresh", fresh, true), ("stale", stale, false)] {
            assert_eq!(answer.field("x-default").as_deref(), Some("1"), "{case}");
            let cookie = answer.field("set-cookie");
            assert_eq!(
                cookie.is_some_and(|cookie| cookie.starts_with("id=")),
                has_session,
                "{case}"
            );
        }
        hold.reached().await;
        hold.release();
        fills_ended(store.coordinator()).await;
    }
}

/// Application data that names the level at which it was registered.
struct DataLevel(&'static str);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    App,
    Scope,
    Resource,
    Route,
}

async fn item(
    request: HttpRequest,
    path: web::Path<(u32, String)>,
    level: web::Data<DataLevel>,
    shared: web::Data<(HoldPoint, SharedLines, Counter)>,
) -> HttpResponse {
    let (shop, name) = path.into_inner();
    let url = request.url_for("item", ["8", "ink"]).unwrap();
    shared.1.add(format!("{shop} {name} {} {:?} {}", level.0, request.match_pattern(), url.path()));
    if request.headers().contains_key("hold") {
        shared.0.wait().await;
    }
    requested_response(&request, shared.2.count())
}

#[actix_web::test]
async fn handler_of_a_refresh_has_its_usual_route_data_and_path_parameters() {
    for level in [Level::App, Level::Scope, Level::Resource, Level::Route] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let store = store();
            let (cache, clock) = cache_over(&store, Policy::new());
            let shared = (HoldPoint::new(), SharedLines::default(), Counter::default());
            let data = web::Data::new(shared.clone());
            let server = serve(1, move || {
                let cache_at = |place| Condition::new(level == place, cache.clone());
                let item = web::resource("/items/{name}")
                    .name("item")
                    .wrap(cache_at(Level::Resource))
                    .route(web::get().to(item).wrap(cache_at(Level::Route)));
                let shop = web::scope("/shops/{shop}")
                    .app_data(web::Data::new(DataLevel("scope")))
                    .wrap(cache_at(Level::Scope))
                    .service(item);
                App::new()
                    .app_data(web::Data::new(DataLevel("app")))
                    .app_data(data.clone())
                    .wrap(cache_at(Level::App))
                    .service(shop)
            });
            let client = Client::new(server.addr, protocol);
            let (hold, recorded, _) = &shared;
            let path = "/shops/7/items/pen";
            assert!(client.get_with(path, &[WINDOW]).await.is_stored(), "{level:?}");
            clock.advance(secs(65));
            let stale = client.get_with(path, &[WINDOW, HOLD]).await;
            assert_eq!((stale.text(), &*stale.cache_status()), ("run 1", "hit; ttl=-5"));
            hold.reached().await;
            let context = "7 pen scope Some(\"/shops/{shop}/items/{name}\") /shops/8/items/ink";
            assert_eq!(recorded.take(), [context; 2], "{level:?} by {protocol:?}");
            hold.release();
            fills_ended(store.coordinator()).await;
            assert_eq!(client.get(path).await.text(), "run 2", "{level:?} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn personal_request_gets_a_stale_response_and_starts_no_refresh() {
    let (cookie, authorization) = (("cookie", "sid=1"), ("authorization", "Bearer 1"));
    let (key, by_cookie) = (("x-api-key", "1"), ("answer", "vary: cookie"));
    let keyed = || Policy::new().key_header("x-api-key");
    for (case, policy, credentials, vary, refreshes) in [
        ("anonymous", Policy::new(), None, None, true),
        ("a cookie", Policy::new(), Some(cookie), None, false),
        ("a token", Policy::new(), Some(authorization), None, false),
        ("another credential", Policy::new(), Some(key), None, false),
        ("a credential in the key", keyed(), Some(key), None, true),
        ("a cookie in the key", Policy::new().vary_cookie("sid"), Some(cookie), None, true),
        ("an ignored cookie", Policy::new().ignore_cookies(["sid"]), Some(cookie), None, true),
        ("Vary: Cookie", Policy::new(), Some(cookie), Some(by_cookie), false),
    ] {
        let store = store();
        let (cache, clock) = cache_over(&store, policy);
        let runs = Counter::default();
        let counter = runs.clone();
        let server = serve(1, move || {
            let counter = counter.clone();
            let handler = web::to(move |request: HttpRequest| {
                let answer = requested_response(&request, counter.count());
                async move { answer }
            });
            App::new().wrap(cache.clone()).default_service(handler)
        });
        let client = Client::new(server.addr, Protocol::Http1);
        let shared = ("answer", "cache-control: public, max-age=60, stale-while-revalidate=30");
        let fields: Vec<_> = [shared].into_iter().chain(vary).chain(credentials).collect();
        assert!(client.get_with("/", &fields).await.is_stored(), "{case}");
        clock.advance(secs(65));
        let stale = client.get_with("/", &fields).await;
        assert_eq!((stale.text(), &*stale.cache_status()), ("run 1", "hit; ttl=-5"), "{case}");
        if refreshes {
            wait_until(case, || runs.get() == 2).await;
            fills_ended(store.coordinator()).await;
            assert_eq!(client.get_with("/", &fields).await.text(), "run 2", "{case}");
        } else {
            assert_eq!(store.coordinator().open_fills(), 0, "{case}");
            clock.advance(secs(25));
            let answer = client.get_with("/", &fields).await;
            assert_eq!((answer.text(), runs.get()), ("run 2", 2), "{case}");
        }
    }
}

#[actix_web::test]
async fn refresh_starts_when_a_middleware_keeps_a_clone_of_the_request() {
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let store = store();
        let (cache, clock) = cache_over(&store, Policy::new().stale_while_revalidate(secs(30)));
        let (hold, runs) = (HoldPoint::new(), Counter::default());
        let shared = (hold.clone(), runs.clone());
        let server = serve(1, move || {
            let shared = shared.clone();
            let handler = move |request: HttpRequest| {
                let (hold, run) = (shared.0.clone(), shared.1.count());
                async move {
                    if request.headers().contains_key("hold") {
                        hold.wait().await;
                    }
                    requested_response(&request, run)
                }
            };
            // actix allows the clone around a resource, because routing is complete there.
            let resource = web::resource("/").wrap(cache.clone()).wrap_fn(|request, service| {
                let cloned = request.request().clone();
                let answer = service.call(request);
                async move {
                    let answer = answer.await;
                    drop(cloned);
                    answer
                }
            });
            App::new().service(resource.route(web::get().to(handler)))
        });
        let client = Client::new(server.addr, protocol);
        assert!(client.get("/").await.is_stored(), "{protocol:?}");
        clock.advance(secs(65));
        let stale = client.get_with("/", &[HOLD]).await;
        assert_eq!((stale.text(), &*stale.cache_status()), ("run 1", "hit; ttl=-5"));
        hold.reached().await;
        hold.release();
        fills_ended(store.coordinator()).await;
        assert_eq!(client.get("/").await.text(), "run 2", "{protocol:?}");
    }
}
