//! Clients cannot purge or bypass: no request field and no method has that meaning by default.

use std::future::ready;

use actix_web::{App, web};
use hyper::Method;

use super::app::serve_page;
use crate::support::{Client, Counter, Protocol, SETUPS, cache, serve};

#[actix_web::test]
async fn request_field_does_not_purge_or_bypass() {
    let (cache, _) = cache();
    let (_server, client) = serve_page(2, &cache);
    for field in [
        ("x-purge", "1"),
        ("x-invalidate-cache", "/page"),
        ("x-cache-bypass", "1"),
        ("x-apicache-bypass", "true"),
        ("x-apicache-force-fetch", "true"),
        ("x-http-method-override", "PURGE"),
        ("x-http-method", "DELETE"),
        ("cache-tag", "page"),
        ("surrogate-key", "page"),
        ("surrogate-control", "no-store"),
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "no-store"),
        ("pragma", "no-cache"),
        ("x-original-url", "/other"),
        ("x-rewrite-url", "/other"),
        ("x-requested-with", "XMLHttpRequest"),
    ] {
        client.get("/page").await;
        assert!(client.get_with("/page", &[field]).await.is_hit(), "{field:?}");
        assert!(client.send(Method::HEAD, "/page", &[field]).await.is_hit(), "{field:?}");
        client.send(Method::OPTIONS, "/page", &[field]).await;
        assert!(client.get("/page").await.is_hit(), "{field:?}");
        let other = client.send(Method::POST, "/other", &[field]).await;
        assert_eq!(other.status, 200);
        assert!(client.get("/page").await.is_hit(), "{field:?} with POST to another URL");
    }
}

#[actix_web::test]
async fn purge_method_has_no_special_meaning() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        App::new().wrap(cache.clone()).service(web::resource("/page").get(|| async { "page" }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/page").await.is_stored());
    for method in ["PURGE", "BAN", "DELETE"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for path in ["/page", "/*", "/.*", "/"] {
            let answer = client.send(method.clone(), path, &[]).await;
            assert!(answer.status == 405 || answer.status == 404, "{method} {path}");
        }
        assert!(client.get("/page").await.is_hit(), "{method}");
    }
}

#[actix_web::test]
async fn request_field_or_method_does_not_change_entry() {
    for (protocol, workers) in SETUPS {
        let (cache, runs) = (cache().0, Counter::default());
        let counter = runs.clone();
        let server = serve(workers, move || {
            let runs = counter.clone();
            let handler = move || ready(format!("run {}", runs.count()));
            App::new().route("/", web::get().to(handler)).wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        assert!(client.get("/").await.is_stored());
        for (name, value) in [
            ("cache-control", "no-cache"),
            ("cache-control", "max-age=0"),
            ("cache-control", "no-store"),
            ("pragma", "no-cache"),
            ("x-purge", "1"),
            ("x-cache-bypass", "1"),
            ("x-invalidate-cache", "1"),
            ("cache-tag", "a"),
            ("surrogate-key", "a"),
            ("cache-status", "actix-web-cache; hit"),
            ("x-http-method-override", "DELETE"),
            ("age", "1000000"),
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ] {
            for method in [Method::GET, Method::HEAD] {
                let answer = client.send(method, "/", &[(name, value)]).await;
                assert!(answer.is_hit(), "{name}: {value} by {protocol:?}");
                assert_eq!(answer.field("age").as_deref(), Some("0"), "{name}: {value}");
            }
        }
        // The route rejects these methods, so they must not invalidate the entry (RFC 9111 section
        // 4.4).
        for method in ["PURGE", "BAN", "REFRESH", "POST", "DELETE", "OPTIONS", "TRACE"] {
            let method: Method = method.parse().unwrap();
            let answer = client.send(method.clone(), "/", &[("x-purge", "1")]).await;
            assert_eq!(answer.status, 404, "{method} by {protocol:?}");
            assert!(client.get("/").await.is_hit(), "after {method} by {protocol:?}");
        }
        assert_eq!(runs.get(), 1, "{protocol:?}");
    }
}
