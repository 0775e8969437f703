//! Entity tags are compared only with the entry that may answer the requester (RFC 9110 section
//! 8.8.3): a tag that another requester's response shares must not select that response.

use actix_web_cache::Policy;

use crate::support::{
    Client, Protocol, Reply, builder, cache, secs, serve_replies, test_app, with_entity_tag,
};

#[actix_web::test]
async fn condition_is_evaluated_only_against_own_entry() {
    let (cache, _) = cache();
    let etag = ("etag", "\"a\"");
    let replies = [
        Reply::new(200, &[etag]),
        Reply::new(200, &[etag, ("vary", "accept-language")]),
        Reply::new(200, &[etag, ("cache-control", "max-age=60")]),
    ];
    let (server, _) = serve_replies(1, &cache, &replies);
    let client = Client::new(server.addr, Protocol::Http1);
    for path in ["/0", "/1", "/2"] {
        assert!(client.get(path).await.is_stored());
    }
    let tag = ("if-none-match", "\"a\"");
    let any = ("if-none-match", "*");
    let since = ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT");
    let (cookie, german) = (("cookie", "sid=alice"), ("accept-language", "de"));
    for (path, fields, status, outcome) in [
        ("/0", [tag, ("x-unused", "")], 304, "hit"),
        ("/0", [tag, cookie], 200, "fwd=request"),
        ("/0", [any, cookie], 200, "fwd=request"),
        ("/0", [since, cookie], 200, "fwd=request"),
        ("/0", [tag, ("authorization", "Bearer alice")], 200, "fwd=request"),
        ("/1", [any, ("x-unused", "")], 304, "hit"),
        ("/1", [("if-none-match", "\"b\""), german], 200, "fwd=vary-miss"),
        ("/1", [any, ("accept-language", "fr")], 304, "fwd=vary-miss"),
        ("/2", [since, cookie], 304, "hit"),
    ] {
        let answer = client.get_with(path, &fields).await;
        assert_eq!(answer.status, status, "{path} {fields:?}");
        assert!(answer.cache_status().starts_with(outcome), "{path} {fields:?}");
    }
}

#[actix_web::test]
async fn equal_etags_do_not_mix_variants() {
    for (field, one, other, directives, policy) in [
        ("cookie", "sid=a", "sid=b", "max-age=60", Policy::new()),
        ("cookie", "sid=a", "sid=b", "max-age=60", Policy::rfc9111()),
        ("authorization", "Bearer a", "Bearer b", "public, max-age=60", Policy::new()),
        ("authorization", "Bearer a", "Bearer b", "public, max-age=60", Policy::rfc9111()),
        ("x-api-key", "a", "b", "max-age=60", Policy::new()),
        ("x-api-key", "a", "b", "max-age=60", Policy::rfc9111()),
        ("accept-language", "de", "fr", "max-age=60", Policy::new()),
    ] {
        let (builder, clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let app = test_app(&cache, move |request, _| {
            let requester = request.headers().get(field).map_or("", |line| line.to_str().unwrap());
            let mut response = with_entity_tag(request, "\"1\"", format!("for {requester}"));
            response.headers_mut().insert("vary".parse().unwrap(), field.parse().unwrap());
            response
                .headers_mut()
                .insert("cache-control".parse().unwrap(), directives.parse().unwrap());
            response
        });
        let get = |value: &'static str| {
            let client = app.client.clone();
            async move { client.get_with("/", &[(field, value)]).await }
        };
        assert!(get(one).await.is_stored(), "{field}");
        assert_eq!(get(other).await.text(), format!("for {other}"), "{field}");
        clock.advance(secs(70));
        assert_eq!(get(other).await.text(), format!("for {other}"), "{field}, stale");
        assert_eq!(get(one).await.text(), format!("for {one}"), "{field}, stale");
    }
}
