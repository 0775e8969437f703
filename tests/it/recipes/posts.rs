//! A recipe for `POST` requests that only read, such as those of a search API.

use actix_web::http::Method;
use actix_web_cache::Rule;

use super::policies::outcome;
use crate::support::{builder, requested_response, test_app};

#[actix_web::test]
async fn posts_with_equal_bodies_share_a_response_by_rule() {
    let rule = Rule::path("/search")
        .method(Method::POST)
        .with(|policy| policy.cache_posts_by_body(64 * 1024));
    let cache = builder().0.rule(rule).build().unwrap();
    let app = test_app(&cache, requested_response);
    for (path, body, want) in [
        ("/search", "q=a", "stored"),
        ("/search", "q=b", "stored"),
        ("/search", "q=a", "hit 60"),
        ("/other", "q=a", "fwd=method"),
    ] {
        let fields = [("content-type", "application/x-www-form-urlencoded")];
        let answer = app.client.send_body(hyper::Method::POST, path, &fields, body).await.unwrap();
        assert_eq!(outcome(&answer), want, "{path} {body}");
    }
}
