//! Rules that change the policy, and scopes that inherit policies and rules.

use actix_web::{App, http::Method, web};
use actix_web_cache::{Cache, Policy, PurgeTarget, QueryKey, Rule};
use log::Level;

use crate::support::{
    CapturedLog, Client, Protocol, builder, requested_response, secs, serve, test_app,
};

#[actix_web::test]
async fn rule_changes_any_setting_of_the_policy() {
    let (builder, clock) = builder();
    let policy = Policy::new().max_body_size(100).key_header("x-tenant");
    let rules = [
        Rule::prefix("/stale")
            .with(|policy| policy.default_ttl(secs(5)).stale_while_revalidate(secs(50))),
        Rule::prefix("/small").with(|policy| policy.max_body_size(1)),
        Rule::prefix("/shared").with(|policy| policy.share_despite_cookies()),
        Rule::prefix("/search").with(|policy| policy.query(QueryKey::only(["q"]))),
        Rule::prefix("/theme").with(|policy| policy.vary_cookie("theme")),
        Rule::prefix("/anew").with(|_| Policy::new()),
        Rule::prefix("/client").with(|policy| policy.client_ttl(secs(3))),
    ];
    let app = test_app(&builder.policy(policy).rules(rules).build().unwrap(), requested_response);
    let (session, dark) = (("cookie", "session=1"), ("cookie", "theme=dark"));
    let tenant = ("x-tenant", "a");
    for (path, fields, second, second_fields, want) in [
        ("/", &[][..], "/", &[][..], "hit; ttl=60"),
        ("/", &[session], "/", &[], "hit; ttl=60"),
        ("/t", &[], "/t", &[tenant], "fwd=uri-miss; stored"),
        ("/anew", &[], "/anew", &[tenant], "hit; ttl=60"),
        ("/small", &[], "/small", &[], "fwd=uri-miss; detail=too-large"),
        ("/shared", &[session], "/shared", &[], "hit; ttl=60"),
        ("/shared", &[session], "/shared", &[tenant], "fwd=uri-miss; stored"),
        ("/search?q=1&x", &[], "/search?q=1&y", &[], "hit; ttl=60"),
        ("/other?q=1&x", &[], "/other?q=1&y", &[], "fwd=uri-miss; stored"),
        ("/theme", &[dark], "/theme", &[dark], "hit; ttl=60"),
        ("/theme", &[dark], "/theme", &[], "fwd=uri-miss; stored"),
        ("/other", &[dark], "/other", &[dark], "fwd=uri-miss; detail=cookie"),
    ] {
        app.client.get_with(path, fields).await;
        let answer = app.client.get_with(second, second_fields).await;
        assert_eq!(answer.cache_status(), want, "{path} {fields:?} {second} {second_fields:?}");
    }
    app.client.get("/client").await;
    assert_eq!(app.client.get("/client").await.field("cache-control").unwrap(), "max-age=3");
    for (path, want) in [("/stale", "hit; ttl=-5"), ("/fresh", "hit; ttl=50")] {
        app.client.get(path).await;
        clock.advance(secs(10));
        assert_eq!(app.client.get(path).await.cache_status(), want, "{path}");
    }
}

#[actix_web::test]
async fn rule_applies_to_its_methods_and_hosts() {
    let rules = [
        Rule::any().host("api.example.com").bypass(),
        Rule::any().host("*.example.com").with(|policy| policy.default_ttl(secs(5))),
        Rule::prefix("/keep").method(Method::POST).with(|policy| policy.no_purge_by_requests()),
    ];
    let app = test_app(&builder().0.rules(rules).build().unwrap(), requested_response);
    for (host, want) in [
        ("api.example.com", "fwd=bypass; detail=rule"),
        ("API.example.com:8080", "fwd=bypass; detail=rule"),
        ("www.example.com", "hit; ttl=5"),
        ("example.com", "hit; ttl=60"),
    ] {
        let host_field = [("host", host)];
        app.client.get_with("/", &host_field).await;
        assert_eq!(app.client.get_with("/", &host_field).await.cache_status(), want, "{host}");
    }
    for (method, path, is_hit) in
        [("POST", "/keep/a", true), ("PUT", "/keep/b", false), ("POST", "/other", false)]
    {
        app.client.get(path).await;
        app.client.send(method.parse().unwrap(), path, &[]).await;
        assert_eq!(app.client.get(path).await.is_hit(), is_hit, "{method} {path}");
    }
}

/// Responses that are stored under the policy of a rule are found by all kinds of purges.
#[actix_web::test]
async fn purges_reach_responses_under_the_policies_of_rules() {
    for target in [
        PurgeTarget::url("http://a/search?q=1&x=2"),
        PurgeTarget::url("/search?q=1&x=2").on_any_host(),
        PurgeTarget::url("http://a:80/search?q=1&x=2"),
        PurgeTarget::url("http://a/search?q=1").variant([("cookie", "theme=dark")]),
        PurgeTarget::prefix("/search").on_host("a"),
        PurgeTarget::tag("search:1"),
        PurgeTarget::all(),
    ] {
        let name = format!("{target:?}");
        let tagged = |policy: Policy| {
            let query = |text: &str| text.split(['=', '&']).nth(1).map(str::to_owned);
            policy
                .query(QueryKey::only(["q"]))
                .vary_cookie("theme")
                .tag_with(move |request| Some(format!("search:{}", query(request.query_string())?)))
        };
        let rule = Rule::prefix("/search").host("a:80").when(|_| true).with(tagged);
        let cache = builder().0.rule(rule).build().unwrap();
        let app = test_app(&cache, requested_response);
        let fields = [("host", "a"), ("cookie", "theme=dark")];
        app.client.get_with("/search?q=1&y", &fields).await;
        assert!(app.client.get_with("/search?q=1", &fields).await.is_hit(), "{name}");
        cache.handle().purge(target).await.unwrap();
        assert!(!app.client.get_with("/search?q=1", &fields).await.is_hit(), "{name}");
    }
}

#[actix_web::test]
async fn scope_changes_the_policy_and_keeps_the_rules() {
    let cache = builder()
        .0
        .policy(Policy::new().default_ttl(secs(10)).key_header("x-tenant"))
        .rule(Rule::path("/scope/private").bypass())
        .rule(Rule::path("/scope/rule").with(|policy| policy.default_ttl(secs(20))))
        .rule(Rule::path("/scope/size").with(|policy| policy.max_body_size(1)))
        .build()
        .unwrap();
    let server = serve(1, move || {
        let scope = |path: &str, cache: Cache| {
            web::scope(path).default_service(web::to(|| async { "page" })).wrap(cache)
        };
        App::new()
            .service(scope("/scope", cache.with(|policy| policy.client_ttl(secs(7)))))
            .service(scope("/longer", cache.with(|policy| policy.default_ttl(secs(30)))))
            .service(scope("/anew", cache.with_policy(Policy::new())))
            .default_service(web::to(|| async { "page" }))
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, want, for_clients) in [
        ("/page", "hit; ttl=10", "max-age=10"),
        ("/scope/page", "hit; ttl=10", "max-age=7"),
        ("/scope/rule", "hit; ttl=20", "max-age=7"),
        ("/scope/private", "fwd=bypass; detail=rule", ""),
        ("/scope/size", "fwd=uri-miss; detail=too-large", ""),
        ("/longer/page", "hit; ttl=30", "max-age=30"),
        ("/anew/page", "hit; ttl=60", "max-age=60"),
    ] {
        client.get(path).await;
        let answer = client.get(path).await;
        assert_eq!(answer.cache_status(), want, "{path}");
        assert_eq!(answer.field("cache-control").unwrap_or_default(), for_clients, "{path}");
    }
    // The scopes keep the key of the policy, and a new policy does not.
    for (path, is_hit) in [("/scope/page", false), ("/longer/page", false), ("/anew/page", true)] {
        let answer = client.get_with(path, &[("x-tenant", "a")]).await;
        assert_eq!(answer.is_hit(), is_hit, "{path}");
    }
}

#[actix_web::test]
async fn rule_that_never_applies_is_reported_at_start_up() {
    let lines = CapturedLog::default();
    lines.capture();
    let rules = [
        Rule::prefix("/blog"),
        Rule::path("/blog/new").bypass(),
        Rule::prefix("/blog").when(|_| true),
        Rule::path("/news"),
    ];
    let cache = builder().0.rules(rules).build().unwrap();
    let warnings = lines.take(Level::Warn);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let want = "the rule for the path \"/blog/new\" never applies, because the rule for the prefix \
                \"/blog\" before it matches all of its requests: add it earlier, or remove it";
    assert_eq!(warnings[0], want);
    // A scope's cache has the same rules.
    let _scope = cache.with(|policy| policy.default_ttl(secs(1)));
    assert!(lines.take(Level::Warn).is_empty());
}

/// The rule's policy decides which fields clients receive, also if the cache passes their requests
/// on.
#[actix_web::test]
async fn fields_that_a_rule_removes_reach_no_client() {
    let rule = Rule::any().with(|policy| policy.tag_fields(["Cache-Tag"]).remove_tag_fields());
    let app = test_app(&builder().0.rule(rule).build().unwrap(), requested_response);
    let tagged = ("answer", "cache-tag: internal");
    for (method, fields) in [
        ("GET", &[tagged][..]),
        ("GET", &[tagged]),
        ("GET", &[tagged, ("if-match", "\"x\"")]),
        ("GET", &[tagged, ("upgrade", "websocket"), ("connection", "upgrade")]),
        ("POST", &[tagged]),
        ("OPTIONS", &[tagged]),
        ("QUERY", &[tagged]),
    ] {
        let answer = app.client.send(method.parse().unwrap(), "/", fields).await;
        assert_eq!(answer.field("cache-tag"), None, "{method} {fields:?}");
    }
}
