//! Responses that are coded while they are sent, in nested caches and inside of actix's `Compress`.

use actix_web::{
    App, HttpResponse,
    middleware::{Compress, Condition},
    web,
};
use actix_web_cache::{Cache, Policy};

use super::{CODINGS, ETAG, compressing, decoded, page, policy, streamed};
use crate::support::{Client, SETUPS, builder, secs, serve};

async fn handler() -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("text/html").insert_header(("etag", ETAG));
    response.insert_header(("cache-control", "no-store")).body(page())
}

/// The innermost cache handles the request, so its policy decides.
#[actix_web::test]
async fn innermost_of_nested_caches_codes() {
    let coding = || compressing().0.build().unwrap();
    let plain = || builder().0.policy(Policy::new().default_ttl(secs(60))).build().unwrap();
    for (protocol, workers) in SETUPS {
        let (inner, outer, without) = (coding(), coding(), plain());
        let server = serve(workers, move || {
            let scope = |path: &str, cache: &Cache| {
                web::scope(path).wrap(cache.clone()).default_service(web::to(handler))
            };
            App::new()
                .service(scope("/coding", &inner))
                .service(scope("/plain", &without))
                .default_service(web::to(handler))
                .wrap(outer.clone())
        });
        let client = Client::new(server.addr, protocol);
        for round in 0..3 {
            for (path, is_coded) in [("/coding/a", true), ("/plain/a", false), ("/other", true)] {
                let answer = client.get_with(path, &[("accept-encoding", "gzip")]).await;
                let case = format!("{path}, round {round} by {protocol:?}");
                if is_coded {
                    assert!(streamed(&answer, "gzip", &case) == page().as_bytes(), "{case}");
                } else {
                    assert_eq!(answer.text(), page(), "{case}");
                }
            }
        }
    }
}

/// `Compress` outside of the cache changes nothing but the tag of a response that it might code.
#[actix_web::test]
async fn compress_outside_leaves_streamed_responses_as_they_are() {
    for (protocol, workers) in SETUPS {
        for has_compress in [false, true] {
            let outside = if has_compress { policy() } else { policy().no_compress_outside() };
            let cache = builder().0.policy(outside).build().unwrap();
            let server = serve(workers, move || {
                App::new()
                    .default_service(web::to(handler))
                    .wrap(cache.clone())
                    .wrap(Condition::new(has_compress, Compress::default()))
            });
            let client = Client::new(server.addr, protocol);
            for coding in CODINGS {
                let case = format!("{coding} by {protocol:?}, {has_compress}");
                let answer = client.get_with("/", &[("accept-encoding", coding)]).await;
                assert!(streamed(&answer, coding, &case) == page().as_bytes(), "{case}");
            }
            // A coding of `Compress`, but not of the cache.
            let deflate = client.get_with("/", &[("accept-encoding", "deflate")]).await;
            assert_eq!(deflate.field("content-encoding").is_some(), has_compress);
        }
    }
}

/// The cache does not code again what a handler or a middleware inside has coded.
#[actix_web::test]
async fn compress_inside_codes_once() {
    let cache = compressing().0.build().unwrap();
    let server = serve(1, move || {
        App::new().default_service(web::to(handler)).wrap(Compress::default()).wrap(cache.clone())
    });
    let client = Client::new(server.addr, crate::support::Protocol::Http1);
    for coding in CODINGS {
        let answer = client.get_with("/", &[("accept-encoding", coding)]).await;
        assert_eq!(answer.field("content-encoding").as_deref(), Some(coding));
        assert!(decoded(coding, &answer.body) == page().as_bytes(), "{coding}");
    }
}
