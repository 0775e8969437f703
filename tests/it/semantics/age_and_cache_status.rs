//! `Age` and `Cache-Status` of responses that no handler made alone: a 304 with an age of its own,
//! and a 504 for `only-if-cached`.

use actix_web::{HttpResponse, http::StatusCode};
use actix_web_cache::Policy;

use crate::support::{builder, cache, secs, test_app, with_entity_tag};

/// The request was neither a hit nor forwarded, so the member has neither `hit` nor `fwd` (RFC 9211
/// section 2).
#[actix_web::test]
async fn cache_status_of_only_if_cached_miss_is_valid_list() {
    let (builder, _clock) = builder();
    let cache = builder.policy(Policy::new().honor_request_directives()).build().unwrap();
    let app = test_app(&cache, |_, _| HttpResponse::Ok().body("page"));
    let answer = app.client.get_with("/", &[("cache-control", "only-if-cached")]).await;
    assert_eq!(answer.status, 504);
    let status = answer.field("cache-status");
    assert_eq!(status.as_deref(), Some("actix-web-cache; detail=only-if-cached"));
}

/// A 304 from another cache has an age of its own, which counts for the freshened response (RFC
/// 9111 section 4.2.3).
#[actix_web::test]
async fn age_of_304_is_added_to_freshened_response() {
    let (cache, clock) = cache();
    let app = test_app(&cache, |request, _| {
        let mut response = with_entity_tag(request, "\"1\"", "page".to_owned());
        response
            .headers_mut()
            .insert("cache-control".parse().unwrap(), "max-age=60".parse().unwrap());
        if response.status() == StatusCode::NOT_MODIFIED {
            response.headers_mut().insert("age".parse().unwrap(), "50".parse().unwrap());
        }
        response
    });
    app.client.get("/").await;
    clock.advance(secs(70));
    for (status, age) in [("fwd=stale; fwd-status=304; stored", "50"), ("hit; ttl=10", "50")] {
        let answer = app.client.get("/").await;
        assert_eq!(answer.cache_status(), status);
        assert_eq!(answer.field("age").as_deref(), Some(age), "{status}");
    }
}
