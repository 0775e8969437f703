//! Web cache deception: neither the end of a path nor an invented path makes a response storable,
//! and a response without explicit freshness gets no heuristic lifetime (RFC 9111 section 4.2.2).

use actix_web::{App, web};
use actix_web_cache::Policy;

use crate::support::{Client, Protocol, builder, cache, requested_response, secs, serve, test_app};

#[actix_web::test]
async fn path_suffix_does_not_make_response_storable() {
    let explicit_only = builder().0.policy(Policy::new().explicit_only()).build().unwrap();
    for (cache, cookie) in [(explicit_only, None), (cache().0, Some(("cookie", "sid=1")))] {
        let server = serve(1, move || {
            App::new()
                .wrap(cache.clone())
                .route("/account{tail:.*}", web::get().to(async || "personal"))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        for tail in
            ["", "/x.css", "%2fx.css", ";x.css", "%0ax.css", "/..%2fx.css", "%3Fx.js", "?x.png"]
        {
            for _ in 0..2 {
                let fields: Vec<_> = cookie.into_iter().collect();
                let answer = client.get_with(&format!("/account{tail}"), &fields).await;
                assert_eq!((answer.text(), answer.is_hit()), ("personal", false), "{tail}");
                assert!(!answer.is_stored(), "{tail}");
            }
        }
    }
}

#[actix_web::test]
async fn last_modified_gives_no_lifetime() {
    let last_modified = [("answer", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT")];
    let explicit_only = builder().0.policy(Policy::new().explicit_only()).build().unwrap();
    for (cache, want) in
        [(explicit_only, "fwd=uri-miss; detail=no-lifetime"), (cache().0, "hit; ttl=60")]
    {
        let app = test_app(&cache, requested_response);
        app.client.get_with("/", &last_modified).await;
        assert_eq!(app.client.get_with("/", &last_modified).await.cache_status(), want);
    }
}

/// Storing every 404 would let requests for invented paths fill the store.
#[actix_web::test]
async fn not_found_response_is_stored_only_with_status_ttl() {
    let storing_404 = builder().0.policy(Policy::new().status_ttl(404, secs(5))).build().unwrap();
    for (cache, stored) in [(cache().0, false), (storing_404, true)] {
        let server =
            serve(1, move || App::new().wrap(cache.clone()).route("/", web::get().to(async || "")));
        let client = Client::new(server.addr, Protocol::Http1);
        for n in 0..20 {
            let path = format!("/random-{n}");
            let answer = client.get(&path).await;
            assert_eq!((answer.status.as_u16(), answer.is_stored()), (404, stored));
            assert_eq!(client.get(&path).await.is_hit(), stored);
        }
    }
}
