//! Rules in scopes: relative rules name the path below the scope, and other rules the whole path.

use actix_web::{App, HttpResponse, Scope, web};
use actix_web_cache::{Cache, CacheBuilder, Policy, QueryKey, Rule};
use hyper::Method;
use log::Level;

use crate::support::{CapturedLog, Client, Protocol, Server, builder, secs, serve};

/// A page for all methods and paths.
fn page() -> actix_web::Route {
    web::to(|| async { HttpResponse::Ok().body("page") })
}

fn pages(path: &str) -> Scope {
    web::scope(path).default_service(page())
}

fn ttl(seconds: u64) -> impl Fn(Policy) -> Policy + Clone {
    move |policy| policy.default_ttl(secs(seconds))
}

fn client_of(server: &Server) -> Client {
    Client::new(server.addr, Protocol::Http1)
}

/// Builds a cache with relative rules.
fn cache(builder: CacheBuilder) -> Cache {
    builder
        .policy(Policy::new().default_ttl(secs(1)))
        .rules(
            [
                Rule::path("").with(ttl(2)),
                Rule::path("/").with(ttl(3)),
                Rule::path("/posts").with(ttl(4)),
                Rule::pattern("/posts/{id}").with(ttl(5)),
                Rule::prefix("/private").bypass(),
            ]
            .map(Rule::relative),
        )
        .rule(Rule::path("/blog/whole").with(ttl(6)))
        .build()
        .unwrap()
}

#[actix_web::test]
async fn relative_rule_matches_the_path_below_the_innermost_scope_around_its_cache() {
    let cache = cache(builder().0);
    let server = serve(1, move || {
        let cache = || cache.clone();
        App::new()
            .service(pages("/blog").wrap(cache()))
            .service(web::scope("/outer").service(pages("/inner").wrap(cache())))
            .service(web::scope("/around").service(pages("/inner")).wrap(cache()))
            .service(web::resource("/resource/posts").route(page()).wrap(cache()))
            .service(web::resource("/route/posts").route(page().wrap(cache())))
            .service(pages("/with").wrap(cache().with(|policy| policy.client_ttl(secs(60)))))
            .service(pages("/for/{tenant}").wrap(cache()))
            .service(web::scope("").service(pages("/unscoped")).wrap(cache()))
    });
    let client = client_of(&server);
    for (path, want) in [
        ("/blog", "hit; ttl=2"),
        ("/blog/", "hit; ttl=3"),
        ("/blog/posts", "hit; ttl=4"),
        ("/blog/posts/7", "hit; ttl=5"),
        ("/blog/p%6Fsts/8", "hit; ttl=5"),
        ("/blog/posts/7/edit", "hit; ttl=1"),
        ("/blog/private/x", "fwd=bypass; detail=rule"),
        ("/blog/privateer", "hit; ttl=1"),
        ("/blog/whole", "hit; ttl=6"),
        ("/outer/inner", "hit; ttl=2"),
        ("/outer/inner/posts", "hit; ttl=4"),
        ("/around/inner/posts", "hit; ttl=1"),
        ("/around/posts", ""),
        // Nothing is left below a resource or a route.
        ("/resource/posts", "hit; ttl=2"),
        ("/route/posts", "hit; ttl=2"),
        ("/with/posts", "hit; ttl=4"),
        ("/for/a/posts", "hit; ttl=4"),
        ("/for/%C3%A4/posts", "hit; ttl=4"),
        ("/unscoped/posts", "hit; ttl=1"),
    ] {
        client.get(path).await;
        let answer = client.get(path).await;
        if !want.is_empty() {
            assert_eq!(answer.cache_status(), want, "{path}");
        }
    }
}

#[actix_web::test]
async fn relative_rule_of_an_application_names_the_whole_path() {
    let cache = cache(builder().0);
    let server = serve(1, move || App::new().default_service(page()).wrap(cache.clone()));
    let client = client_of(&server);
    for (path, want) in [
        ("/", "hit; ttl=3"),
        ("/posts", "hit; ttl=4"),
        ("/posts/1", "hit; ttl=5"),
        ("/blog/posts", "hit; ttl=1"),
    ] {
        client.get(path).await;
        assert_eq!(client.get(path).await.cache_status(), want, "{path}");
    }
}

/// The purge does not know the scope of the URL, so all relative rules may apply.
#[actix_web::test]
async fn purge_of_a_url_reaches_responses_under_relative_rules() {
    let rules = [
        Rule::path("/search").relative().with(|policy| policy.query(QueryKey::only(["q"]))),
        Rule::path("/theme").relative().with(|policy| policy.query(QueryKey::sorted())),
        Rule::pattern("/posts/{id}").relative().with(|policy| policy.tag("post:{id}")),
    ];
    let cache = builder().0.rules(rules).build().unwrap();
    let handle = cache.handle();
    let server = serve(1, move || App::new().service(pages("/blog").wrap(cache.clone())));
    let client = client_of(&server);
    let hit = async |path: &str| client.get_with(path, &[("host", "a")]).await.is_hit();
    for (path, same, url) in [
        ("/blog/search?q=1&x", "/blog/search?q=1&y", "/blog/search?q=1&z"),
        ("/blog/theme?b=1&a=2", "/blog/theme?a=2&b=1", "/blog/theme?a=2&b=1"),
        ("/blog/posts/1", "/blog/posts/1", "/blog/posts/1"),
    ] {
        hit(path).await;
        assert!(hit(same).await, "{same}");
        handle.purge_url(&format!("http://a{url}")).await.unwrap();
        assert!(!hit(same).await, "{url} is purged");
        assert!(hit(path).await, "{path}");
        client.send(Method::POST, url, &[("host", "a")]).await;
        assert!(!hit(path).await, "{url} is purged by an unsafe request");
    }
    hit("/blog/posts/1").await;
    hit("/blog/posts/2").await;
    handle.purge_tag("post:1").await.unwrap();
    assert!(!hit("/blog/posts/1").await && hit("/blog/posts/2").await);
}

#[actix_web::test]
async fn rule_that_names_a_path_below_the_scope_is_reported_once() {
    let lines = CapturedLog::default();
    let here = lines.clone();
    let build = |rule: Rule| builder().0.rule(rule).build().unwrap();
    let bypass = build(Rule::path("/private").bypass());
    let only = builder().0.rule(Rule::path("/private")).rules_only().build().unwrap();
    let right = build(Rule::path("/right/private").bypass());
    let relative = build(Rule::path("/private").relative().bypass());
    let server = serve(1, move || {
        here.capture();
        App::new()
            .service(pages("/bypass").wrap(bypass.clone()))
            .service(pages("/only").wrap(only.clone()))
            .service(pages("/right").wrap(right.clone()))
            .service(pages("/relative").wrap(relative.clone()))
    });
    let client = client_of(&server);
    for (scope, count) in [("bypass", 1), ("only", 1), ("right", 0), ("relative", 0)] {
        client.get(&format!("/{scope}/other")).await;
        assert_eq!(lines.take(Level::Warn).len(), 0, "{scope}");
        for _ in 0..2 {
            client.get(&format!("/{scope}/private")).await;
        }
        let warnings = lines.take(Level::Warn);
        assert_eq!(warnings.len(), count, "{scope}: {warnings:?}");
        let names_the_fix = |line: &String| {
            line.contains("the path \"/private\"") && line.contains("use Rule::relative")
        };
        assert!(warnings.iter().all(names_the_fix), "{warnings:?}");
    }
}
