//! A cookie or a token of one client never reaches another client.

use actix_web::HttpResponse;

use crate::support::{cache, requested_response, test_app};

#[actix_web::test]
async fn set_cookie_of_one_client_never_reaches_another() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    let set = ("answer", "set-cookie: sid=secret");
    let public = ("answer", "cache-control: public, max-age=60");
    for fields in [
        &[set][..],
        &[set, public],
        &[set, ("cookie", "theme=dark")],
        &[set, public, ("cookie", "sid=old")],
        &[set, ("answer", "set-cookie: other=1")],
    ] {
        let first = app.client.get_with("/", fields).await;
        assert!(first.field("set-cookie").is_some() && !first.is_stored(), "{fields:?}");
        let other_client = app.client.get_with("/", &[("answer", "cache-control: no-store")]).await;
        assert_eq!(
            (other_client.field("set-cookie"), other_client.is_hit()),
            (None, false),
            "{fields:?}"
        );
    }
}

#[actix_web::test]
async fn response_to_one_token_is_never_served_to_another() {
    let (cache, _) = cache();
    let app = test_app(&cache, |request, _| {
        let token = request.headers().get("authorization").map_or("-", |t| t.to_str().unwrap());
        HttpResponse::Ok().append_header(("cache-control", "max-age=60")).body(token.to_owned())
    });
    for token in ["Bearer A", "Bearer B", "Bearer A"] {
        let answer = app.client.get_with("/", &[("authorization", token)]).await;
        assert_eq!((answer.text(), answer.is_stored()), (token, false));
    }
    assert_eq!(app.client.get("/").await.text(), "-", "nor to an anonymous client");
}
