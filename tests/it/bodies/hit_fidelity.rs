//! A hit repeats the stored response: its status, every line of every field, and its body.

use actix_web::{
    HttpResponse,
    http::header::{ContentType, LINK},
};

use crate::{
    semantics::fields::fields_without_report,
    support::{cache, requested_response, secs, test_app},
};

#[actix_web::test]
async fn every_line_of_a_repeated_field_is_stored() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    let lines = ["link: </a>", "link: </b>", "vary: accept", "vary: accept-language"];
    let challenges = ["www-authenticate: Basic", "www-authenticate: Digest"];
    let fields: Vec<_> = lines.into_iter().chain(challenges).map(|line| ("answer", line)).collect();
    let miss = app.client.get_with("/", &fields).await;
    let hit = app.client.get_with("/", &fields).await;
    assert!(hit.is_hit());
    // The cache joins the lines of Vary when it adds Cookie.
    assert_eq!(hit.field("vary").as_deref(), Some("accept, accept-language, Cookie"));
    for (name, count) in [("link", 2), ("www-authenticate", 2), ("vary", 1)] {
        assert_eq!(hit.headers.get_all(name).iter().count(), count, "{name}");
        assert_eq!(hit.field(name), miss.field(name), "{name}");
    }
}

#[actix_web::test]
async fn empty_body_is_stored() {
    let (cache, _) = cache();
    let app = test_app(&cache, |_, _| HttpResponse::Ok().finish());
    for want in ["fwd=uri-miss; stored", "hit; ttl=60"] {
        let answer = app.client.get("/").await;
        assert_eq!(answer.cache_status(), want);
        assert_eq!(
            (answer.status.as_u16(), answer.field("content-length").as_deref()),
            (200, Some("0"))
        );
    }
}

#[actix_web::test]
async fn hit_equals_the_miss_except_age_and_cache_status() {
    let every_byte: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let (cache, clock) = cache();
    let body = every_byte.clone();
    let app = test_app(&cache, move |_, _| {
        HttpResponse::NotFound()
            .content_type(ContentType::octet_stream())
            .append_header((LINK, "</b>; rel=preload"))
            .append_header((LINK, "</a>; rel=preload"))
            .append_header(("x-twice", "2"))
            .append_header(("x-twice", "1, 3"))
            .append_header(("x-empty", ""))
            .append_header(("cache-control", "public"))
            .append_header(("cache-control", "max-age=60"))
            .append_header(("etag", "\"v1\""))
            .body(body.clone())
    });
    let miss = app.client.get("/").await;
    clock.advance(secs(5));
    let hit = app.client.get("/").await;
    assert!(miss.is_stored() && hit.is_hit());
    assert_eq!(miss.body, every_byte);
    assert_eq!((hit.status, &hit.body), (miss.status, &miss.body));
    assert_eq!(fields_without_report(&hit), fields_without_report(&miss));
    assert_eq!(hit.field("age").as_deref(), Some("5"));
    assert_eq!(hit.field("link").as_deref(), Some("</b>; rel=preload, </a>; rel=preload"));
}
