//! The cache beside sessions, CORS and files.

use std::fs;

use actix_cors::Cors;
use actix_files::{Files, NamedFile};
use actix_session::{Session, SessionExt as _, SessionMiddleware, storage::CookieSessionStore};
use actix_web::{
    App, HttpResponse,
    cookie::Key,
    dev::ServiceRequest,
    middleware::{Next, from_fn},
    web,
};
use actix_web_cache::Cache;
use hyper::Method;

use crate::support::{Client, Counter, SETUPS, Wire, cache, serve, store, stored_alone};

fn sessions() -> SessionMiddleware<CookieSessionStore> {
    SessionMiddleware::builder(CookieSessionStore::default(), Key::from(&[7; 64]))
        .cookie_secure(false)
        .build()
}

#[actix_web::test]
async fn a_session_outside_sets_each_visitors_own_cookie_and_none_is_stored() {
    let store = store();
    let visits = Counter::default();
    let cache = Cache::new(store.clone());
    let server = serve(1, move || {
        let visits = visits.clone();
        // Between session and cache, so that it runs on hits as well.
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
    for hits in [false, true, true] {
        let message = Wire::open(server.addr).get("/", "");
        assert_eq!((message.is_hit(), message.text()), (hits, "page"));
        cookies.push(message.line("set-cookie").unwrap().to_owned());
    }
    cookies.sort_unstable();
    cookies.dedup();
    assert_eq!(cookies.len(), 3);
    let stored = stored_alone(store);
    assert_eq!(stored.line("set-cookie"), None);
    assert_eq!(stored.line("vary"), Some("Cookie"));
}

#[actix_web::test]
async fn a_session_inside_keeps_its_answers_out_of_the_store() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let visits = Counter::default();
        let server = serve(workers, move || {
            let visits = visits.clone();
            let handler = move |session: Session| {
                let known = session.get::<usize>("visitor").unwrap();
                let visitor = known.unwrap_or_else(|| visits.count());
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

fn cors() -> Cors {
    Cors::default().allowed_origin("http://a").allowed_origin("http://b").allowed_methods(["GET"])
}

/// A page that is selected by language, and so has a Vary of its own.
async fn page() -> HttpResponse {
    HttpResponse::Ok().insert_header(("vary", "Accept-Language")).body("page")
}

const ORIGINS: [Option<&str>; 3] = [Some("http://a"), Some("http://b"), None];

#[actix_web::test]
async fn cors_outside_answers_each_origin_from_one_stored_page() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new().route("/", web::get().to(page)).wrap(cache.clone()).wrap(cors())
        });
        let client = Client::new(server.addr, protocol);
        for (round, origin) in ORIGINS.iter().chain(&ORIGINS).enumerate() {
            let fields: Vec<_> = origin.iter().map(|origin| ("origin", *origin)).collect();
            let answer = client.get_with("/", &fields).await;
            assert_eq!((answer.is_hit(), answer.text()), (round > 0, "page"), "{origin:?}");
            assert_eq!(answer.field("access-control-allow-origin").as_deref(), *origin);
            let vary = answer.field("vary").unwrap().to_ascii_lowercase();
            for name in ["accept-language", "cookie", "origin"] {
                assert!(vary.contains(name), "{vary}, round {round} by {protocol:?}");
            }
        }
        let preflight = [("origin", "http://a"), ("access-control-request-method", "GET")];
        let preflight = client.send(Method::OPTIONS, "/", &preflight).await;
        assert_eq!((preflight.status.as_u16(), preflight.field("cache-status")), (200, None));
    }
}

#[actix_web::test]
async fn cors_inside_never_gives_one_origin_what_is_for_another() {
    for (protocol, workers) in SETUPS {
        for turn in 0..3 {
            let (cache, _) = cache();
            let server = serve(workers, move || {
                App::new().route("/", web::get().to(page)).wrap(cors()).wrap(cache.clone())
            });
            let client = Client::new(server.addr, protocol);
            for round in 0..3 {
                for place in 0..3 {
                    let origin = ORIGINS[(place + turn) % 3];
                    let fields: Vec<_> = origin.iter().map(|origin| ("origin", *origin)).collect();
                    let answer = client.get_with("/", &fields).await;
                    let case = format!("{origin:?} in round {round} by {protocol:?}");
                    assert_eq!(
                        answer.field("access-control-allow-origin").as_deref(),
                        origin,
                        "{case}"
                    );
                    assert_eq!((answer.is_hit(), answer.text()), (round > 0, "page"), "{case}");
                }
            }
        }
    }
}

#[actix_web::test]
async fn files_are_stored_whole_and_answered_from_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let large = "0123456789".repeat(20_000);
    for (name, text) in [("page.txt", "a page"), ("large.txt", &large), ("empty.txt", "")] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let path = directory.path().to_owned();
        let server = serve(workers, move || {
            let file = path.join("page.txt");
            let open = move || NamedFile::open_async(file.clone());
            App::new()
                .route("/named", web::get().to(open))
                .service(Files::new("/files", &path))
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for (path, text) in [
            ("/named", "a page"),
            ("/files/page.txt", "a page"),
            ("/files/large.txt", &*large),
            ("/files/empty.txt", ""),
        ] {
            let case = format!("{path} by {protocol:?}");
            // A client that has the file asks first: it is told so, and the file stored.
            let tag = client.get(&format!("{path}?tag")).await.field("etag").unwrap();
            let has = [("if-none-match", &*tag)];
            let condition = client.get_with(&format!("{path}?has"), &has).await;
            assert_eq!(condition.status, 304, "{case}");
            assert_eq!(condition.cache_status(), "fwd=uri-miss; stored", "{case}");

            let miss = client.get(path).await;
            assert_eq!((miss.text(), miss.is_stored()), (text, true), "{case}");
            let hit = client.get(path).await;
            assert_eq!((hit.text(), hit.is_hit()), (text, true), "{case}");
            for field in
                ["etag", "last-modified", "content-type", "content-length", "accept-ranges"]
            {
                assert_eq!(hit.field(field), miss.field(field), "{field} of {case}");
            }
            let condition = client.get_with(path, &has).await;
            assert_eq!((condition.status.as_u16(), condition.is_hit()), (304, true), "{case}");
            assert_eq!(condition.body.len(), 0, "{case}");
            let modified = miss.field("last-modified").unwrap();
            let condition = client.get_with(path, &[("if-modified-since", &modified)]).await;
            assert_eq!((condition.status.as_u16(), condition.is_hit()), (304, true), "{case}");
        }
        let part = client.get_with("/files/large.txt", &[("range", "bytes=10-14")]).await;
        assert_eq!((part.status.as_u16(), part.text()), (206, "01234"), "{protocol:?}");
        assert_eq!(part.cache_status(), "hit; ttl=60", "{protocol:?}");
        let part = client.get_with("/files/large.txt?cold", &[("range", "bytes=10-14")]).await;
        assert_eq!((part.status.as_u16(), part.text()), (206, "01234"), "{protocol:?}");
        assert_eq!(part.cache_status(), "fwd=uri-miss; detail=range", "{protocol:?}");
        assert_eq!(client.get("/files/large.txt").await.text(), large, "{protocol:?}");
        assert_eq!(client.get("/files/none.txt").await.status, 404, "{protocol:?}");
    }
}
