//! A cache whose policy, rules and named options are in a file.

use actix_web::{App, get, web};
use actix_web_cache::{CacheFile, CachePolicy, Policy, Rule};

use crate::support::{Client, Protocol, builder, secs, serve};

const FILE: &str = r#"{
    "policy": { "default_ttl": "5m", "query": { "only": ["q"] } },
    "rules": [
        { "path": "/health", "bypass": true },
        { "prefix": "/account", "policy": { "default_ttl": "1m" } },
        { "path": "/posts", "relative": true, "policy": { "default_ttl": "2m", "tag": "posts" } }
    ],
    "options": { "seconds": { "ttl": "7s" } }
}"#;

#[get("/news", wrap = "CachePolicy::named(\"seconds\")")]
async fn news() -> &'static str {
    "page"
}

#[actix_web::test]
async fn cache_follows_the_settings_of_its_file() {
    let file: CacheFile = serde_json::from_str(FILE).unwrap();
    let cache = builder()
        .0
        .policy(Policy::new().key_header("x-tenant"))
        .rule(Rule::prefix("/account").bypass())
        .file(file)
        .build()
        .unwrap();
    let handle = cache.handle();
    let server = serve(1, move || {
        let page = || web::to(|| async { "page" });
        App::new()
            .service(web::scope("/blog").default_service(page()).wrap(cache.clone()))
            .service(news)
            .default_service(page())
            .wrap(cache.with(|policy| policy.client_ttl(secs(5))))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, again, fields, want) in [
        ("/", "/", &[][..], "hit; ttl=300"),
        ("/a?q=1&x=2", "/a?q=1&y=3", &[], "hit; ttl=300"),
        ("/", "/", &[("x-tenant", "a")], "hit; ttl=300"),
        ("/health", "/health", &[], "fwd=bypass; detail=rule"),
        // The rules of the application come first.
        ("/account", "/account", &[], "fwd=bypass; detail=rule"),
        ("/blog/posts", "/blog/posts", &[], "hit; ttl=120"),
        ("/news", "/news", &[], "hit; ttl=7"),
    ] {
        client.get_with(path, fields).await;
        assert_eq!(client.get_with(again, fields).await.cache_status(), want, "{path}");
    }
    handle.purge_tag("posts").await.unwrap();
    assert!(!client.get("/blog/posts").await.is_hit());
}

#[test]
fn file_can_let_unmatched_requests_bypass_the_cache() {
    let file: CacheFile = serde_json::from_str(r#"{"rules_only": true}"#).unwrap();
    let error = builder().0.file(file).build().unwrap_err().to_string();
    assert!(error.contains("remove rules_only()"), "{error}");
}
