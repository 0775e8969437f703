//! Cache keys and variants: a stored response is shared by requests of one host, one path and equal
//! selecting fields (RFC 9111 section 4.1).

use actix_web::HttpResponse;

use crate::support::{cache, raw, requested_response, secs, test_app};

#[actix_web::test]
async fn vary_of_one_resource_does_not_affect_another() {
    let (cache, clock) = cache();
    let app = test_app(&cache, requested_response);
    let plain = ["/?a=1", "/other"];
    for path in plain {
        app.client.get_with(path, &[("host", "one")]).await;
    }
    app.client.get_with("/", &[("host", "two")]).await;
    let varied = [
        ("host", "one"),
        ("x-a", "1"),
        ("answer", "vary: x-a"),
        ("answer", "cache-control: max-age=5"),
    ];
    assert!(app.client.get_with("/?v=1", &varied).await.is_stored());
    assert!(app.client.get_with("/", &varied).await.is_stored());
    clock.advance(secs(30));
    for (path, host) in [("/?a=1", "one"), ("/other", "one"), ("/", "two")] {
        let answer = app.client.get_with(path, &[("host", host), ("x-a", "2")]).await;
        assert!(answer.is_hit(), "{host}{path}");
        assert_eq!(answer.field("vary").as_deref(), Some("Cookie"), "{host}{path}");
    }
}

#[actix_web::test]
async fn variant_stays_reachable_after_the_first_variant_expires() {
    let (cache, clock) = cache();
    let app = test_app(&cache, requested_response);
    for (value, lifetime) in [("1", "max-age=5"), ("2", "max-age=500")] {
        let lifetime = format!("cache-control: {lifetime}");
        let fields = [("x-a", value), ("answer", "vary: x-a"), ("answer", &*lifetime)];
        assert!(app.client.get_with("/", &fields).await.is_stored());
    }
    clock.advance(secs(400));
    let answer = app.client.get_with("/", &[("x-a", "2")]).await;
    assert_eq!((answer.text(), answer.cache_status().as_str()), ("run 2", "hit; ttl=100"));
}

#[actix_web::test]
async fn each_content_coding_selects_its_own_variant() {
    let (cache, _) = cache();
    let app = test_app(&cache, |request, run| {
        let coding = request.headers().get("accept-encoding").map_or("-", |c| c.to_str().unwrap());
        HttpResponse::Ok()
            .append_header(("vary", "Accept-Encoding"))
            .body(format!("{coding} {run}"))
    });
    for (coding, status, body) in [
        ("gzip", "fwd=uri-miss; stored", "gzip 1"),
        ("br", "fwd=vary-miss; stored", "br 2"),
        ("gzip", "hit; ttl=60", "gzip 1"),
        ("br", "hit; ttl=60", "br 2"),
        ("", "fwd=vary-miss; stored", " 3"),
    ] {
        let answer = app.client.get_with("/", &[("accept-encoding", coding)]).await;
        assert_eq!((answer.cache_status().as_str(), answer.text()), (status, body), "{coding}");
    }
    let answer = app.client.get("/").await;
    assert_eq!(
        (answer.text(), answer.is_hit()),
        ("- 4", false),
        "an absent field differs from an empty one"
    );
}

#[actix_web::test]
async fn variants_with_and_without_vary_keep_their_own_vary_field() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    let french = &[("accept-language", "fr"), ("answer", "vary: accept-language")];
    let german = &[("accept-language", "de")];
    assert_eq!(app.client.get_with("/", french).await.text(), "run 1");
    assert_eq!(app.client.get_with("/", german).await.text(), "run 2");
    for (fields, body, vary) in
        [(&french[..1], "run 1", "accept-language, Cookie"), (german, "run 2", "Cookie")]
    {
        let answer = app.client.get_with("/", fields).await;
        assert!(answer.is_hit(), "{body}");
        assert_eq!((answer.text(), answer.field("vary").as_deref()), (body, Some(vary)));
    }
}

#[actix_web::test]
async fn percent_encoded_path_is_cached_and_raw_non_ascii_path_is_rejected() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    for path in ["/caf%C3%A9", "/%FF%00%0A", "/?q=%E2%82%AC"] {
        assert!(app.client.get(path).await.is_stored(), "{path}");
        assert!(app.client.get(path).await.is_hit(), "{path}");
    }
    let request = "GET /caf\u{e9} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(raw(app.server.addr, request.as_bytes()).starts_with(b"HTTP/1.1 400"));
    assert!(app.client.get("/caf%C3%A9").await.is_hit());
}
