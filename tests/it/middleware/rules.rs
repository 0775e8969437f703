//! Policies, rules, and options of handlers and routes: which one decides, and in which order.

use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, get, web};
use actix_web_cache::{
    CacheBuilder, CacheOptions, CachePolicy, Policy, QueryKey, ResponseOptions, Rule,
};

use crate::semantics::fields::cache_fields;
use crate::support::{Client, Protocol, builder, cache, requested_response, secs, serve, test_app};

/// A path, the request fields, and the expected `Cache-Status` of the second response.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

/// Sends each request twice, and checks the second response.
async fn check_second(builder: CacheBuilder, requests: &[Case<'_>]) {
    let app = test_app(&builder.build().unwrap(), requested_response);
    for (path, fields, want) in requests {
        app.client.get_with(path, fields).await;
        let answer = app.client.get_with(path, fields).await;
        assert_eq!(answer.cache_status(), *want, "{path} {fields:?}");
    }
}

#[actix_web::test]
async fn default_lifetime_comes_from_the_policy_by_status_code() {
    let statuses = |status| [("answer-status", status)];
    let policy =
        Policy::new().default_ttl(secs(30)).status_ttl(404, secs(5)).status_ttl(200, secs(40));
    check_second(
        builder().0.policy(policy),
        &[
            ("/200", &[], "hit; ttl=40"),
            ("/203", &statuses("203"), "hit; ttl=30"),
            ("/301", &statuses("301"), "hit; ttl=30"),
            ("/404", &statuses("404"), "hit; ttl=5"),
            ("/410", &statuses("410"), "fwd=uri-miss; detail=no-lifetime"),
            ("/500", &statuses("500"), "fwd=uri-miss; detail=status"),
            ("/max-age", &[("answer", "cache-control: max-age=7")], "hit; ttl=7"),
        ],
    )
    .await;
    for policy in [Policy::new().explicit_only(), Policy::new().default_ttl(Duration::ZERO)] {
        check_second(
            builder().0.policy(policy),
            &[
                ("/", &[], "fwd=uri-miss; detail=no-lifetime"),
                ("/max-age", &[("answer", "cache-control: max-age=7")], "hit; ttl=7"),
            ],
        )
        .await;
    }
}

#[actix_web::test]
async fn first_matching_rule_decides() {
    let rules = [
        Rule::path("/posts/new").bypass(),
        Rule::path("/posts/1").with(|policy| policy.default_ttl(secs(1))),
        Rule::pattern("/posts/{id:[0-9]+}").with(|policy| policy.default_ttl(secs(2))),
        Rule::pattern("/posts/{id}").with(|policy| policy.default_ttl(secs(3))),
        Rule::regex("/v[0-9]+/.*").with(|policy| policy.default_ttl(secs(4))),
        Rule::prefix("/api")
            .when(|request| request.headers().contains_key("x-mobile"))
            .with(|policy| policy.default_ttl(secs(5))),
        Rule::prefix("/api").with(|policy| {
            policy.default_ttl(secs(7)).status_ttl(404, secs(6)).never_store_status([405])
        }),
        Rule::any().with(|policy| policy.default_ttl(secs(9)).status_ttl(410, secs(8))),
        Rule::any().bypass(),
    ];
    let gone = [("answer-status", "410")];
    let missing = [("answer-status", "404")];
    let not_allowed = [("answer-status", "405"), ("answer", "cache-control: max-age=60")];
    check_second(
        builder().0.rules(rules),
        &[
            ("/posts/new", &[], "fwd=bypass; detail=rule"),
            ("/posts/new?draft", &[], "fwd=bypass; detail=rule"),
            ("/posts/1", &[], "hit; ttl=1"),
            ("/posts/%31", &[], "hit; ttl=1"),
            ("/posts/12", &[], "hit; ttl=2"),
            ("/posts/one", &[], "hit; ttl=3"),
            ("/posts/one/two", &[], "hit; ttl=9"),
            ("/posts", &[], "hit; ttl=9"),
            ("/v1/x", &[], "hit; ttl=4"),
            ("/v1", &[], "hit; ttl=9"),
            ("/old/v1/x", &[], "hit; ttl=9"),
            ("/api/mobile", &[("x-mobile", "1")], "hit; ttl=5"),
            ("/api", &[], "hit; ttl=7"),
            ("/api/x", &[], "hit; ttl=7"),
            ("/api/missing", &missing, "hit; ttl=6"),
            ("/api/not-allowed", &not_allowed, "fwd=uri-miss; detail=status"),
            ("/api/gone", &gone, "fwd=uri-miss; detail=no-lifetime"),
            ("/apix", &[], "hit; ttl=9"),
            ("/not-allowed", &not_allowed, "hit; ttl=60"),
            ("/gone", &gone, "hit; ttl=8"),
            ("/missing", &missing, "fwd=uri-miss; detail=no-lifetime"),
        ],
    )
    .await;
}

/// RFC 9111 section 3.5 permits that a stored response answers a request with `Authorization`.
#[actix_web::test]
async fn rule_with_a_predicate_bypasses_requests_with_authorization() {
    let has_token =
        |request: &actix_web::dev::ServiceRequest| request.headers().contains_key("authorization");
    let cache = builder().0.rule(Rule::any().when(has_token).bypass()).build().unwrap();
    let app = test_app(&cache, requested_response);
    let page = ("answer", "cache-control: public, max-age=60");
    let token = ("authorization", "Bearer a");
    for (fields, text, status) in [
        (&[page][..], "run 1", "fwd=uri-miss; stored"),
        (&[page, token], "run 2", "fwd=bypass; detail=rule"),
        (&[page], "run 1", "hit; ttl=60"),
        (&[page, token], "run 3", "fwd=bypass; detail=rule"),
        (&[page], "run 1", "hit; ttl=60"),
    ] {
        let answer = app.client.get_with("/", fields).await;
        assert_eq!((answer.text(), &*answer.cache_status()), (text, status), "{fields:?}");
    }
}

#[actix_web::test]
async fn unmatched_request_bypasses_the_cache_with_rules_only() {
    check_second(
        builder()
            .0
            .rule(Rule::prefix("/a"))
            .rule(Rule::prefix("/b").with(|policy| policy.status_ttl(404, secs(5))))
            .rules_only(),
        &[
            ("/a", &[], "hit; ttl=60"),
            ("/a/missing", &[("answer-status", "404")], "fwd=uri-miss; detail=no-lifetime"),
            ("/b/missing", &[("answer-status", "404")], "hit; ttl=5"),
            ("/c", &[], "fwd=bypass; detail=rule"),
        ],
    )
    .await;
}

#[actix_web::test]
async fn query_is_normalized_by_the_rule_or_the_policy() {
    let rule = Rule::prefix("/search").with(|policy| policy.query(QueryKey::only(["q"])));
    let policy = Policy::new().query(QueryKey::ignoring(["utm_*"]));
    let app = test_app(&builder().0.policy(policy).rule(rule).build().unwrap(), requested_response);
    for (path, hit) in [
        ("/search?q=1&page=2", false),
        ("/search?utm_source=x&q=1", true),
        ("/search?q=2", false),
        ("/page?a=1", false),
        ("/page?utm_source=x&a=1&utm_medium=y", true),
        ("/page?a=2", false),
    ] {
        assert_eq!(app.client.get(path).await.is_hit(), hit, "{path}");
    }
}

/// A handler whose options come from the query: `cc` sets `Cache-Control`, `options` uses the
/// extractor, and `response` sets the response's extensions.
async fn handler_with_options(request: HttpRequest, options: CacheOptions) -> HttpResponse {
    let parameter = |name: &str| {
        let pairs = request.query_string().split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
    };
    let seconds = |name| parameter(name).map(|value| secs(value.parse().unwrap()));
    let mut response = HttpResponse::Ok();
    if let Some(status) = parameter("status") {
        response.status(status.parse::<u16>().unwrap().try_into().unwrap());
    }
    if let Some(max_age) = parameter("cc") {
        response.insert_header(("cache-control", format!("max-age={max_age}")));
    }
    if let Some(ttl) = seconds("options") {
        options.ttl(ttl);
    }
    if parameter("refuse").is_some() {
        options.no_store("refused");
    }
    let mut response = response.body("page");
    if let Some(ttl) = seconds("response") {
        response.extensions_mut().insert(ResponseOptions::new().ttl(ttl));
    }
    if parameter("no").is_some() {
        response.extensions_mut().insert(ResponseOptions::new().no_store("refused"));
    }
    response
}

#[actix_web::test]
async fn freshness_lifetimes_have_the_documented_precedence() {
    let (builder, _) = builder();
    let cache = builder
        .policy(Policy::new().default_ttl(secs(60)))
        .rule(Rule::prefix("/override").with(|policy| policy.override_ttl(secs(10))))
        .rule(Rule::prefix("/rule").with(|policy| policy.default_ttl(secs(50))))
        .build()
        .unwrap();
    let server = serve(1, move || {
        let declared = CachePolicy::ttl(secs(35));
        App::new()
            .service(web::resource("/{rule}/declared").wrap(declared).to(handler_with_options))
            .default_service(web::to(handler_with_options))
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, want) in [
        ("/", "hit; ttl=60"),
        ("/rule/", "hit; ttl=50"),
        ("/rule/?cc=40", "hit; ttl=40"),
        ("/rule/declared", "hit; ttl=35"),
        ("/rule/declared?cc=40", "hit; ttl=35"),
        ("/rule/declared?cc=40&options=30", "hit; ttl=30"),
        ("/rule/declared?cc=40&options=30&response=20", "hit; ttl=20"),
        ("/rule/?response=20&options=30", "hit; ttl=20"),
        ("/rule/?cc=0&options=30", "hit; ttl=30"),
        ("/override/declared?cc=40&options=30&response=20", "hit; ttl=10"),
        ("/override/?cc=0", "hit; ttl=10"),
        ("/rule/?options=0&cc=40", "fwd=uri-miss; detail=no-lifetime"),
        ("/rule/?response=0&cc=40", "fwd=uri-miss; detail=no-lifetime"),
        ("/rule/?refuse=1&cc=40", "fwd=uri-miss; detail=handler"),
        ("/rule/?no=1&options=40", "fwd=uri-miss; detail=handler"),
        ("/rule/declared?no=1", "fwd=uri-miss; detail=handler"),
        ("/override/?refuse=1", "fwd=uri-miss; detail=handler"),
        // Options set before the handler returns do not apply to an error response.
        ("/rule/?status=500&options=30", "fwd=uri-miss; detail=status"),
        ("/rule/declared?status=404", "fwd=uri-miss; detail=no-lifetime"),
        ("/rule/?status=500&response=20", "hit; ttl=20"),
        ("/rule/?status=404&response=20", "hit; ttl=20"),
    ] {
        client.get(path).await;
        assert_eq!(client.get(path).await.cache_status(), want, "{path}");
    }
}

#[actix_web::test]
async fn explicit_lifetime_of_the_application_never_overrides_a_refusal() {
    let refusals: &[(&[(&str, &str)], &str)] = &[
        (&[("answer", "cache-control: no-store")], "no-store"),
        (&[("answer", "cache-control: private")], "private"),
        (&[("answer", "cache-control: no-cache")], "no-cache"),
        (&[("answer", "set-cookie: a=b")], "set-cookie"),
        (&[("answer", "vary: *")], "vary"),
        (&[("answer-status", "206")], "status"),
        (&[("authorization", "a")], "authorization"),
        (&[("cookie", "a=b")], "cookie"),
        (&[("x-api-key", "a")], "credentials"),
        (&[("cache-control", "no-store")], "request-no-store"),
    ];
    let cache_with_override =
        builder().0.rule(Rule::any().with(|policy| policy.override_ttl(secs(60)))).build().unwrap();
    let by_rule = test_app(&cache_with_override, requested_response);
    let by_response = test_app(&cache().0, |request, run| {
        let mut response = requested_response(request, run);
        response.extensions_mut().insert(ResponseOptions::new().ttl(secs(60)));
        response
    });
    for (fields, detail) in refusals {
        for app in [&by_rule, &by_response] {
            let want = format!("fwd=uri-miss; detail={detail}");
            assert_eq!(app.client.get_with("/", fields).await.cache_status(), want, "{fields:?}");
        }
    }
}

#[get("/quick", wrap = "CachePolicy::ttl(Duration::from_secs(5))")]
async fn quick() -> &'static str {
    "page"
}

#[get("/live", wrap = "CachePolicy::no_store(\"it is live\")")]
async fn live() -> &'static str {
    "page"
}

#[get("/inner", wrap = "CachePolicy::ttl(Duration::from_secs(5))")]
async fn inner() -> &'static str {
    "page"
}

#[actix_web::test]
async fn route_attribute_declares_how_its_responses_are_cached() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        App::new()
            .service(web::scope("/scope").wrap(CachePolicy::ttl(secs(9))).service(inner))
            .service((quick, live))
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, want) in [
        ("/quick", "hit; ttl=5"),
        ("/live", "fwd=uri-miss; detail=handler"),
        ("/scope/inner", "hit; ttl=5"),
        ("/scope/absent", "fwd=uri-miss; detail=no-lifetime"),
    ] {
        client.get(path).await;
        assert_eq!(client.get(path).await.cache_status(), want, "{path}");
    }
    let uncached = serve(1, || App::new().service((quick, live)));
    let client = Client::new(uncached.addr, Protocol::Http1);
    for path in ["/quick", "/live"] {
        let answer = client.get(path).await;
        assert_eq!(
            (answer.text(), answer.field("cache-status")),
            ("page", None),
            "without a cache"
        );
    }
}

#[actix_web::test]
async fn client_ttl_advertises_a_shorter_lifetime_than_the_stored_one() {
    let policy = Policy::new().client_ttl(secs(10));
    let (builder, clock) = builder();
    let rule = Rule::path("/rule").with(|policy| policy.client_ttl(secs(3)).default_ttl(secs(30)));
    let app = test_app(&builder.policy(policy).rule(rule).build().unwrap(), requested_response);
    for (path, line, miss, hit) in [
        ("/", "x-a: b", "max-age=10", "max-age=30"),
        ("/rule", "x-a: b", "max-age=3", "max-age=23"),
        ("/explicit", "cache-control: max-age=50", "max-age=50", "max-age=50"),
        ("/public", "cache-control: public", "public, max-age=10", "public, max-age=30"),
    ] {
        let fields = [("answer", line)];
        let first = app.client.get_with(path, &fields).await;
        assert_eq!(first.field("cache-control").as_deref(), Some(miss), "{path}");
        clock.advance(secs(20));
        let second = app.client.get_with(path, &fields).await;
        // Clients subtract the Age of 20 s.
        assert_eq!(second.field("cache-control").as_deref(), Some(hit), "{path}");
        assert!(second.is_hit());
    }
}

#[actix_web::test]
async fn rule_for_redirects_stores_them() {
    let rule = Rule::path("/old")
        .with(|policy| policy.status_ttl(302, secs(30)).status_ttl(303, secs(30)));
    let app = test_app(&builder().0.rule(rule).build().unwrap(), requested_response);
    for status in ["302", "303"] {
        let fields = [("answer-status", status), ("answer", "location: /new")];
        let path = format!("/old?{status}");
        app.client.get_with(&path, &fields).await;
        let hit = app.client.get_with(&path, &fields).await;
        assert_eq!(hit.cache_status(), "hit; ttl=30", "{status}");
        assert_eq!(hit.field("location").as_deref(), Some("/new"));
    }
}

#[actix_web::test]
async fn unmatched_request_gets_no_cache_fields_with_rules_only() {
    let (builder, _) = builder();
    let cache = builder.rules([Rule::path("/a")]).rules_only().x_cache().build().unwrap();
    let app = test_app(&cache, requested_response);
    assert!(app.client.get("/a").await.is_stored());
    assert!(app.client.get("/a").await.is_hit());
    for _ in 0..2 {
        let answer = app.client.get("/b").await;
        assert_eq!(answer.cache_status(), "fwd=bypass; detail=rule");
        assert_eq!(cache_fields(&answer), [""; 0]);
    }
    assert_eq!(app.runs.get(), 3);
}

#[actix_web::test]
async fn zero_ttl_of_a_rule_stores_nothing_and_adds_no_fields() {
    let (builder, _) = builder();
    let rule = Rule::path("/zero").with(|policy| policy.default_ttl(Duration::ZERO));
    let cache = builder.rule(rule).x_cache().build().unwrap();
    let app = test_app(&cache, requested_response);
    for _ in 0..2 {
        let answer = app.client.get("/zero").await;
        assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=no-lifetime");
        assert_eq!(cache_fields(&answer), [""; 0]);
    }
}
