//! Sessions, cookies and tenants of middleware around the cache or inside of it.
//!
//! Middleware outside of the cache runs on hits as well, so its response fields are never stored.

use actix_session::{Session, SessionExt as _, SessionMiddleware, storage::CookieSessionStore};
use actix_web::{
    App, Error, HttpMessage as _, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    cookie::Key,
    dev::{Service, ServiceRequest, ServiceResponse},
    error::ErrorForbidden,
    http::header::{HeaderName, HeaderValue, SET_COOKIE},
    middleware::{Next, from_fn},
    test::{TestRequest, init_service, read_body, try_call_service},
    web,
};
use actix_web_cache::{Cache, ManualClock, Policy};

use crate::support::{Client, Counter, Protocol, SETUPS, START, Server, Wire, cache, serve, store};

/// Serves a handler inside of a cache, with middleware outside of it that sets a new cookie on each
/// response.
fn serve_outer_cookies(workers: usize) -> Server {
    let (cache, _) = cache();
    let visitors = Counter::default();
    serve(workers, move || {
        let visitors = visitors.clone();
        App::new()
            .wrap(cache.clone())
            .wrap_fn(move |request, service| {
                let sid = format!("sid={}", visitors.count());
                let answer = service.call(request);
                async move {
                    let mut answer = answer.await?;
                    answer.headers_mut().append(SET_COOKIE, HeaderValue::from_str(&sid).unwrap());
                    Ok(answer)
                }
            })
            .route("/", web::get().to(|| async { "page" }))
    })
}

#[actix_web::test]
async fn cookie_set_outside_cache_is_not_stored() {
    for (protocol, workers) in SETUPS {
        let server = serve_outer_cookies(workers);
        let client = Client::new(server.addr, protocol);
        for n in 1..4 {
            let answer = client.get("/").await;
            assert_eq!(answer.is_hit(), n > 1);
            assert_eq!(answer.field("set-cookie"), Some(format!("sid={n}")), "{protocol:?}");
        }
    }
}

#[actix_web::test]
async fn session_outside_cache_stays_private() {
    let (cache, _) = cache();
    let server = serve(2, move || {
        let visit = |session: Session| async move {
            let visits = session.get::<u32>("visits").unwrap().unwrap_or(0) + 1;
            session.insert("visits", visits).unwrap();
            HttpResponse::Ok().insert_header(("cache-control", "private")).body(visits.to_string())
        };
        let page = |session: Session| async move {
            format!("visits {}", session.get::<u32>("visits").unwrap().unwrap_or(0))
        };
        App::new()
            .wrap(cache.clone())
            .wrap(sessions())
            .route("/visit", web::get().to(visit))
            .route("/page", web::get().to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(client.get("/page").await.text(), "visits 0");
    let first = client.get("/visit").await;
    let cookie = first.field("set-cookie").unwrap();
    let cookie = ("cookie", cookie.split(';').next().unwrap());
    // The entry was stored for a request without a session and has no explicit lifetime, so it does
    // not answer a request with one.
    for fields in [&[cookie][..], &[cookie]] {
        let personal = client.get_with("/page", fields).await;
        assert_eq!(
            (personal.text(), personal.cache_status().as_str()),
            ("visits 1", "fwd=request; detail=cookie")
        );
    }
    let other = client.get("/page").await;
    assert!(other.is_hit() && other.text() == "visits 0");
    let second = client.get("/visit").await;
    assert_eq!((second.text(), second.is_hit()), ("1", false));
    assert_ne!(second.field("set-cookie"), first.field("set-cookie"));
}

fn sessions() -> SessionMiddleware<CookieSessionStore> {
    SessionMiddleware::builder(CookieSessionStore::default(), Key::from(&[7; 64]))
        .cookie_secure(false)
        .build()
}

#[actix_web::test]
async fn session_that_begins_outside_of_the_cache_prevents_storing() {
    let visits = Counter::default();
    let (cache, _) = cache();
    let server = serve(1, move || {
        let visits = visits.clone();
        // This middleware is between session and cache, so it runs before each lookup.
        let visit = move |request: ServiceRequest, next: Next<_>| {
            request.get_session().insert("visitor", visits.count()).unwrap();
            next.call(request)
        };
        App::new()
            .route("/", web::get().to(|| async { "page" }))
            .wrap(cache.clone())
            .wrap(from_fn(visit))
            .wrap(sessions())
    });
    let mut cookies: Vec<String> = Vec::new();
    for _ in 0..3 {
        let message = Wire::open(server.addr).get("/", "");
        let status = message.line("cache-status").unwrap();
        assert_eq!(status, "actix-web-cache; fwd=uri-miss; detail=session");
        cookies.push(message.line("set-cookie").unwrap().to_owned());
    }
    cookies.sort_unstable();
    cookies.dedup();
    assert_eq!(cookies.len(), 3);
}

#[actix_web::test]
async fn session_inside_cache_prevents_storing() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let visits = Counter::default();
        let server = serve(workers, move || {
            let visits = visits.clone();
            let handler = move |session: Session| {
                let stored = session.get::<usize>("visitor").unwrap();
                let visitor = stored.unwrap_or_else(|| visits.count());
                session.insert("visitor", visitor).unwrap();
                async move { format!("visitor {visitor}") }
            };
            App::new().route("/", web::get().to(handler)).wrap(sessions()).wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for visitor in ["visitor 1", "visitor 2"] {
            let first = client.get("/").await;
            assert_eq!(first.text(), visitor, "{protocol:?}");
            assert_eq!(first.cache_status(), "fwd=uri-miss; detail=set-cookie");
            let cookie = first.field("set-cookie").unwrap();
            let cookie = cookie.split(';').next().unwrap();
            let again = client.get_with("/", &[("cookie", cookie)]).await;
            assert_eq!((again.text(), again.is_hit()), (visitor, false), "{protocol:?}");
        }
    }
}

/// The tenant of a request, as outer middleware found it.
struct Tenant(String);

#[actix_web::test]
async fn outer_tenant_in_key_separates_entries() {
    for (protocol, workers) in SETUPS {
        let tenant = |request: &actix_web::dev::ServiceRequest| {
            request.extensions().get::<Tenant>().map(|Tenant(name)| name.clone())
        };
        let policy = Policy::new().key_with("tenant", tenant);
        let (store, clock) = (store(), ManualClock::at(START));
        let cache = Cache::builder(store).clock(clock.clock()).policy(policy).build().unwrap();
        let server = serve(workers, move || {
            let page = |request: HttpRequest| async move {
                let extensions = request.extensions();
                extensions
                    .get::<Tenant>()
                    .map_or_else(|| "no tenant".to_owned(), |Tenant(name)| name.clone())
            };
            App::new()
                .wrap(cache.clone())
                .wrap_fn(|request, service| {
                    // Stands for a tenant that a real application would read from a verified token.
                    let name = HeaderName::from_static("x-subject");
                    let subject =
                        request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
                    if let Some(subject) = subject {
                        request.extensions_mut().insert(Tenant(subject));
                    }
                    service.call(request)
                })
                .route("/", web::get().to(page))
        });
        let client = Client::new(server.addr, protocol);
        let tenants: [(Fields<'_>, &str); 4] = [
            (&[("x-subject", "acme")], "acme"),
            (&[("x-subject", "acmeb")], "acmeb"),
            (&[("x-subject", "")], ""),
            (&[], "no tenant"),
        ];
        for hit in [false, true] {
            for (fields, tenant) in tenants {
                let answer = client.get_with("/", fields).await;
                assert_eq!((answer.text(), answer.is_hit()), (tenant, hit), "{protocol:?}");
            }
        }
    }
}

type Fields<'a> = &'a [(&'a str, &'a str)];

/// A request from this address.
fn request_from(address: &str) -> actix_http::Request {
    TestRequest::get().peer_addr(format!("{address}:1024").parse().unwrap()).to_request()
}

/// The text of the response to a request from this address, or the error of a middleware.
async fn get_from<B: MessageBody + Unpin>(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    cache: &Cache,
    address: &str,
) -> String
where
    B::Error: Into<Box<dyn std::error::Error>> + std::fmt::Debug,
{
    let text = match try_call_service(app, request_from(address)).await {
        Ok(response) => String::from_utf8(read_body(response).await.to_vec()).unwrap(),
        Err(error) => error.to_string(),
    };
    cache.idle().await;
    text
}

/// A handler can read the address of its client, which no header field contains.
#[actix_web::test]
async fn peer_address_in_the_key_separates_entries() {
    let peer = |request: &ServiceRequest| Some(request.peer_addr()?.ip().to_string());
    let cache = Cache::builder(store()).policy(Policy::new().key_with("peer", peer));
    let (cache, runs) = (cache.build().unwrap(), Counter::default());
    let counter = runs.clone();
    let page = move |request: HttpRequest| {
        counter.count();
        async move { request.peer_addr().unwrap().ip().to_string() }
    };
    let app = App::new().wrap(cache.clone()).route("/", web::get().to(page));
    let app = init_service(app).await;
    for _ in 0..2 {
        for address in ["127.0.0.1", "127.0.0.2"] {
            assert_eq!(get_from(&app, &cache, address).await, address);
        }
    }
    assert_eq!(runs.get(), 2);
}

/// Refuses all clients but those of one address.
async fn only_the_first_address(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if request.peer_addr().unwrap().ip().to_string() != "127.0.0.1" {
        return Err(ErrorForbidden("forbidden"));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// On a hit, no middleware inside of the cache runs.
#[actix_web::test]
async fn access_check_refuses_hits_only_outside_the_cache() {
    let (cache, _) = cache();
    let page = || web::get().to(|| async { "page" });
    let app = App::new().route("/", page()).wrap(cache.clone());
    let app = init_service(app.wrap(from_fn(only_the_first_address))).await;
    for (address, want) in [
        ("127.0.0.2", "forbidden"),
        ("127.0.0.1", "page"),
        ("127.0.0.1", "page"),
        ("127.0.0.2", "forbidden"),
    ] {
        assert_eq!(get_from(&app, &cache, address).await, want, "{address}, outside");
    }
    let cache = Cache::new(store());
    let app = App::new().route("/", page()).wrap(from_fn(only_the_first_address));
    let app = init_service(app.wrap(cache.clone())).await;
    for (address, want) in
        [("127.0.0.2", "forbidden"), ("127.0.0.1", "page"), ("127.0.0.2", "page")]
    {
        assert_eq!(get_from(&app, &cache, address).await, want, "{address}, inside");
    }
}
