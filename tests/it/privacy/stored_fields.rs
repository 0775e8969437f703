//! Response fields that must not be stored, because they are for one connection or one requester
//! (RFC 9111 section 3.1, RFC 9110 sections 7.6.1 and 11.6.3).

use hyper::Method;

use crate::support::{Client, Protocol, Reply, cache, serve_replies};

#[actix_web::test]
async fn hop_by_hop_and_authentication_fields_are_not_replayed() {
    let kept = [("link", "</a>"), ("x-page", "1"), ("www-authenticate", "Basic realm=\"a\"")];
    let dropped = [
        ("connection", "x-first, X-Second"),
        ("x-first", "1"),
        ("x-second", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("te", "trailers"),
        ("trailer", "x-sum"),
        ("proxy-authenticate", "Basic realm=\"proxy\""),
        ("proxy-authentication-info", "nextnonce=\"a\""),
        ("authentication-info", "nextnonce=\"a\""),
        ("Authentication-Info", "rspauth=\"b\""),
    ];
    for lifetime in ["", "public, max-age=60"] {
        let fields = [&kept[..], &dropped, &[("cache-control", lifetime)]].concat();
        let (cache, _) = cache();
        let (server, _) = serve_replies(1, &cache, &[Reply::new(200, &fields)]);
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/0").await.is_stored());
        for method in [Method::GET, Method::HEAD] {
            let hit = client.send(method, "/0", &[]).await;
            assert!(hit.is_hit());
            for (name, _) in dropped {
                assert_eq!(hit.field(name), None, "{name}");
            }
            for (name, value) in kept {
                assert_eq!(hit.field(name).as_deref(), Some(value), "{name}");
            }
        }
    }
}
