//! The cache key separates paths and queries, and treats as equal only the URLs that the policy or
//! an outer middleware normalizes.

use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    dev::{ServiceRequest, ServiceResponse},
    http::Uri,
    middleware::{Condition, Next, NormalizePath, TrailingSlash, from_fn},
    web,
};
use actix_web_cache::{Mode, Policy, QueryKey, Rule};
use hyper::Method;
use log::Level;

use super::echo_app::{body, echo_site, wire};
use crate::support::{
    CapturedLog, Client, Protocol, SETUPS, builder, cache, requested_response, serve, test_app,
};

#[actix_web::test]
async fn fragment_in_request_target_is_ignored() {
    let (cache, _) = cache();
    let (server, client) = echo_site(&cache);
    let with = wire(server.addr, "/a#/_payload.json", &["Host: good"], "");
    assert!(body(&with).starts_with("/a None "), "{with}");
    let without = client.get_with("/a", &[("host", "good")]).await;
    assert!(without.is_hit() && without.text() == body(&with));
}

/// Returns the values of a parameter as actix-web parses them.
fn callback(request: &HttpRequest, _: usize) -> HttpResponse {
    let parameters = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
    let values: Vec<_> = parameters
        .unwrap()
        .into_inner()
        .into_iter()
        .filter_map(|(name, value)| (name == "callback").then_some(value))
        .collect();
    HttpResponse::Ok().body(format!("callback: {values:?}"))
}

#[actix_web::test]
async fn ignored_parameters_do_not_hide_other_parameters() {
    let policy =
        Policy::new().query(QueryKey::ignoring(QueryKey::tracking_parameters()).then_sorted());
    let cache = builder().0.policy(policy).build().unwrap();
    let cached = test_app(&cache, callback);
    let off = builder().0.mode(Mode::Off).build().unwrap();
    let uncached = test_app(&off, callback);
    let queries = [
        "",
        "?utm_content=x;callback=evil",
        "?callback=ok&utm_content=x",
        "?callback=ok",
        "?callback=ok;utm_content=x",
        "?utm_content=x%26callback=evil",
        "?utm_content=x&callback=evil",
        "?utm%5Fcontent=x&callback=evil",
        "?%63allback=encoded",
        "?callback%00=evil",
        "?callback=a&callback=b",
        "?callback=b&callback=a",
        "?callback=b&x=1&callback=a",
        "?&callback=ok&",
        "?utm_content&callback",
        "?callback=a+b",
        "?callback=a%2Bb",
    ];
    for _ in 0..2 {
        for query in queries {
            let path = format!("/{query}");
            let answer = cached.client.get(&path).await;
            assert_eq!(answer.text(), uncached.client.get(&path).await.text(), "{query}");
        }
    }
    for (query, equivalent) in [
        ("?utm_content=x;callback=evil", ""),
        ("?utm_source=1&callback=ok", "?callback=ok"),
        ("?gclid=1&b=2&a=1", "?a=1&b=2"),
    ] {
        cached.client.get(&format!("/s{equivalent}")).await;
        assert!(cached.client.get(&format!("/s{query}")).await.is_hit(), "{query}");
    }
}

#[actix_web::test]
async fn sorted_query_ignores_parameter_order() {
    let policy = Policy::new().query(QueryKey::sorted());
    let cache = builder().0.policy(policy).build().unwrap();
    let app = test_app(&cache, requested_response);
    for (query, hit) in [
        ("?a=1&b=2", false),
        ("?b=2&a=1", true),
        ("?a=1&a=2", false),
        ("?a=2&a=1", false),
        ("?a=12", false),
        ("?a=1&b=2&", false),
    ] {
        assert_eq!(app.client.get(&format!("/{query}")).await.is_hit(), hit, "{query}");
    }
}

#[actix_web::test]
async fn percent_encoded_spellings_of_one_route_are_one_page() {
    let (cache, _) = cache();
    let wrapped = cache.clone();
    let server = serve(1, move || {
        App::new()
            .wrap(wrapped.clone())
            .route("/a/b", web::get().to(async |request: HttpRequest| request.path().to_owned()))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let spellings = ["/a/b", "/%61/b", "/a/%62"];
    for path in spellings {
        assert!(client.get("/a/b").await.is_stored(), "{path}");
        let answer = client.get(path).await;
        assert_eq!((answer.text(), answer.is_hit()), ("/a/b", true), "{path}");
        let url = format!("http://{}{path}", server.addr);
        assert_eq!(cache.handle().purge_url(url).await.unwrap().responses, Some(1), "{path}");
    }
}

#[actix_web::test]
async fn normalize_path_changes_key_only_outside_cache() {
    for outside in [true, false] {
        let (cache, _) = cache();
        let server = serve(1, move || {
            let page = web::get().to(async |request: HttpRequest| request.path().to_owned());
            let normalize = || NormalizePath::new(TrailingSlash::Trim);
            App::new()
                .route("/a/b", page)
                .wrap(Condition::new(!outside, normalize()))
                .wrap(cache.clone())
                .wrap(Condition::new(outside, normalize()))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        for (path, hit) in [("/a/b", false), ("/a//b", outside), ("/a/b/", outside), ("/a/b", true)]
        {
            let answer = client.get(path).await;
            assert_eq!((answer.text(), answer.is_hit()), ("/a/b", hit), "{path} {outside}");
        }
    }
}

/// Removes the query from a request.
async fn without_query<B>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    if !request.query_string().is_empty() {
        request.head_mut().uri = Uri::try_from(request.path()).unwrap();
    }
    next.call(request).await
}

#[actix_web::test]
async fn response_to_a_rewritten_path_is_not_stored() {
    for (protocol, workers) in SETUPS {
        let log = CapturedLog::default();
        let cache = builder().0.rule(Rule::prefix("/private").bypass()).build().unwrap();
        let in_worker = log.clone();
        let server = serve(workers, move || {
            in_worker.capture();
            App::new()
                .default_service(web::to(async |request: HttpRequest| request.uri().to_string()))
                .wrap(NormalizePath::new(TrailingSlash::Trim))
                .wrap(from_fn(without_query))
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for path in ["//private", "/private//", "//private/x", "/a?q=1", "/a/"] {
            for _ in 0..2 {
                let answer = client.get(path).await;
                let bypass = "fwd=bypass; detail=rule";
                let rewritten = "fwd=uri-miss; detail=path-rewritten";
                let want = if path == "/private//" { bypass } else { rewritten };
                assert_eq!(answer.cache_status(), want, "{path} {protocol:?}");
            }
        }
        assert!(client.get("/a").await.is_stored() && client.get("/a").await.is_hit());
        let warnings = log.take(Level::Warn);
        let about_paths = warnings.iter().filter(|line| line.contains("NormalizePath"));
        assert_eq!(about_paths.count(), 1, "{warnings:?}");
    }
}

#[actix_web::test]
async fn get_with_body_is_bypassed() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            let echo = async |body: web::Bytes| HttpResponse::Ok().body(body);
            App::new().wrap(cache.clone()).default_service(web::to(echo))
        });
        let client = Client::new(server.addr, protocol);
        for stored in [false, true] {
            let with_body = client.send_body(Method::GET, "/", &[], "lang=evil").await.unwrap();
            assert_eq!(with_body.text(), "lang=evil", "{protocol:?}");
            assert!(
                !with_body.is_hit() && !with_body.is_stored(),
                "{protocol:?}: {}",
                with_body.cache_status()
            );
            let without_body = client.get("/").await;
            assert_eq!((without_body.text(), without_body.is_hit()), ("", stored), "{protocol:?}");
        }
        let chunked = ["Host: a", "Transfer-Encoding: chunked"];
        let answer = wire(server.addr, "/", &chunked, "4\r\nevil\r\n0\r\n\r\n");
        assert!(answer.contains("fwd=bypass; detail=request-body"), "{answer}");
    }
}
