//! The cache inside and outside of `actix-cors`.

use actix_cors::Cors;
use actix_web::{App, HttpResponse, web};
use hyper::Method;

use crate::support::{Client, SETUPS, cache, serve};

fn cors() -> Cors {
    Cors::default().allowed_origin("http://a").allowed_origin("http://b").allowed_methods(["GET"])
}

/// A response with a `Vary` of its own, which the middleware must keep.
async fn page() -> HttpResponse {
    HttpResponse::Ok().insert_header(("vary", "Accept-Language")).body("page")
}

const ORIGINS: [Option<&str>; 3] = [Some("http://a"), Some("http://b"), None];

#[actix_web::test]
async fn cors_outside_cache_serves_all_origins_from_one_entry() {
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
async fn cors_inside_cache_keeps_origins_separate() {
    for (protocol, workers) in SETUPS {
        for offset in 0..3 {
            let (cache, _) = cache();
            let server = serve(workers, move || {
                App::new().route("/", web::get().to(page)).wrap(cors()).wrap(cache.clone())
            });
            let client = Client::new(server.addr, protocol);
            for round in 0..3 {
                for place in 0..3 {
                    let origin = ORIGINS[(place + offset) % 3];
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
