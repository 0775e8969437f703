//! Responses without a copy, which the cache codes while it sends them: which responses are coded,
//! and their fields.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use actix_web_cache::{Cache, CacheBuilder, Mode, Policy, Rule};
use hyper::Method;

use super::{CODINGS, ETAG, compressing, page, policy, streamed};
use crate::support::{Answer, Client, HookedStore, SETUPS, TestApp, builder, test_app};

/// A response by the path of its request: `/STATUS/FIELD/VALUE`.
fn requested(request: &HttpRequest, _: usize) -> HttpResponse {
    let mut parts = request.path().splitn(4, '/').skip(1);
    let status = parts.next().and_then(|status| status.parse().ok()).unwrap_or(200);
    let status = StatusCode::from_u16(status).unwrap();
    let mut response = HttpResponse::build(status);
    response.content_type("text/html; charset=utf-8").insert_header(("etag", ETAG));
    response.insert_header(("accept-ranges", "bytes"));
    match (parts.next(), parts.next()) {
        (Some("small"), _) => return response.body("a".repeat(1023)),
        (Some("empty"), _) => return response.body(""),
        (Some(name), Some(value)) => {
            response.insert_header((name, value));
        }
        _ => {}
    }
    if [204, 304].contains(&status.as_u16()) { response.finish() } else { response.body(page()) }
}

fn app(builder: CacheBuilder) -> TestApp {
    let rules = [Rule::prefix("/200/x-rule").bypass()];
    let secret = Rule::prefix("/200/x-secret").with(Policy::no_compression);
    let builder = rules.into_iter().fold(builder, CacheBuilder::rule).rule(secret);
    test_app(&builder.build().unwrap(), requested)
}

/// The fields that responses to GET and to HEAD have alike.
fn described(answer: &Answer) -> Vec<Option<String>> {
    let names = ["content-encoding", "content-length", "vary", "etag", "accept-ranges"];
    names.map(|name| answer.field(name)).to_vec()
}

#[actix_web::test]
async fn each_kind_of_response_without_a_copy_is_coded() {
    // This store has no copies, so that each hit is coded, too.
    let app = app(Cache::builder(HookedStore::new()).policy(policy()));
    let none = &[][..];
    for (protocol, _) in SETUPS {
        let client = Client::new(app.server.addr, protocol);
        for coding in CODINGS {
            let purged = client.send(Method::POST, "/200", &[("accept-encoding", coding)]).await;
            assert_eq!(purged.cache_status(), "fwd=method");
            for (method, path, fields, status) in [
                (Method::GET, "/200", none, "fwd=uri-miss; stored"),
                (Method::GET, "/200", none, "hit; ttl=60"),
                (
                    Method::GET,
                    "/200",
                    &[("range", "bytes=0-9"), ("if-range", "\"old\"")],
                    "hit; ttl=60",
                ),
                (Method::GET, "/200/cache-control/no-store", none, "fwd=uri-miss; detail=no-store"),
                (Method::GET, "/200/x-rule/a", none, "fwd=bypass; detail=rule"),
                (Method::GET, "/200/vary/*", none, "fwd=uri-miss; detail=vary"),
                (Method::GET, "/404/cache-control/no-store", none, "fwd=uri-miss; detail=no-store"),
                (Method::GET, "/500", none, "fwd=uri-miss; detail=status"),
                (Method::GET, "/416", none, "fwd=uri-miss; detail=status"),
                (Method::POST, "/200/a/b", none, "fwd=method"),
                (Method::DELETE, "/200/a/b", none, "fwd=method"),
                (Method::GET, "/200/x", &[("if-match", ETAG)], "fwd=bypass; detail=condition"),
            ] {
                let case = format!("{method} {path} in {coding} by {protocol:?}");
                let fields = [&[("accept-encoding", coding)], fields].concat();
                let answer = client.send(method.clone(), path, &fields).await;
                assert_eq!(
                    answer.cache_status().split("; ttl").next(),
                    status.split("; ttl").next(),
                    "{case}"
                );
                if path.ends_with('*') {
                    assert_eq!(answer.field("vary").as_deref(), Some("*"));
                } else if fields.len() == 3 {
                    // A range is cut from the body as it is, and so is the whole body in its place.
                    assert_eq!((answer.status.as_u16(), answer.text()), (200, &*page()), "{case}");
                } else {
                    assert!(streamed(&answer, coding, &case) == page().as_bytes(), "{case}");
                    assert_eq!(answer.field("etag"), Some(format!("W/{ETAG}")), "{case}");
                }
                if method == Method::GET {
                    let head = client.send(Method::HEAD, path, &fields).await;
                    assert!(head.body.is_empty(), "{case}");
                    assert_eq!(
                        (head.status, described(&head)),
                        (answer.status, described(&answer)),
                        "{case}"
                    );
                }
                let plain = client.send(method, path, &fields[1..]).await;
                assert_eq!(plain.field("content-encoding"), None, "{case}");
                assert_eq!(plain.field("etag").as_deref(), Some(ETAG), "{case}");
                let vary = plain.field("vary").unwrap();
                assert!(path.ends_with('*') || vary.contains("accept-encoding"), "{vary}: {case}");
            }
        }
    }
}

#[actix_web::test]
async fn responses_that_must_not_be_coded_are_sent_as_they_are() {
    let builder = builder().0.policy(policy());
    let app = app(builder.rule(Rule::prefix("/").bypass()));
    for (protocol, _) in SETUPS {
        let client = Client::new(app.server.addr, protocol);
        for path in [
            "/204",
            "/206",
            "/206/content-range/bytes 0-1/2",
            "/416/content-range/bytes */9",
            "/200/empty",
            "/200/small",
            "/200/cache-control/no-transform",
            "/200/content-type/image/png",
            "/200/content-type/text/event-stream",
            "/200/content-encoding/identity",
            "/200/content-encoding/own",
            "/200/content-digest/sha-256=:AAAA:",
            "/200/vary/Accept-Encoding",
        ] {
            let path = path.replace(' ', "%20");
            for method in [Method::GET, Method::HEAD, Method::POST] {
                if method == Method::HEAD && path == "/200/empty" {
                    // The response to GET may have content.
                    continue;
                }
                let fields = [("accept-encoding", "gzip")];
                let coded = client.send(method.clone(), &path, &fields).await;
                let plain = client.send(method.clone(), &path, &[]).await;
                let case = format!("{method} {path} by {protocol:?}");
                assert!(coded.body == plain.body, "{case}");
                assert_eq!(described(&coded), described(&plain), "{case}");
                assert_eq!(coded.field("etag").as_deref(), Some(ETAG), "{case}");
            }
        }
        for fields in [
            &[("accept-encoding", "gzip"), ("cache-control", "no-transform")][..],
            &[("accept-encoding", "gzip;q=0")],
            &[("accept-encoding", "deflate, own")],
            &[("accept-encoding", "gzip;q=0.5, identity")],
            &[("accept-encoding", "*;q=0")],
            &[],
        ] {
            let answer = client.get_with("/200", fields).await;
            assert_eq!((answer.text(), answer.field("content-encoding")), (&*page(), None));
            assert_eq!(answer.field("content-length"), Some(page().len().to_string()));
        }
    }
}

#[actix_web::test]
async fn rule_without_compression_is_obeyed_by_responses_that_are_not_stored() {
    let app = app(compressing().0);
    for method in [Method::GET, Method::GET, Method::POST] {
        for path in ["/200/x-secret/a", "/200/x-secret/no-store"] {
            let fields = [("accept-encoding", "gzip"), ("if-match", "*")];
            for fields in [&fields[..], &fields[..1]] {
                let answer = app.client.send(method.clone(), path, fields).await;
                assert_eq!((answer.text(), answer.field("content-encoding")), (&*page(), None));
                assert_eq!(answer.field("etag").as_deref(), Some(ETAG));
            }
        }
    }
}

/// Requests outside of every rule, and those of a rule that lets them bypass the cache, have the
/// policy of the cache.
#[actix_web::test]
async fn policy_of_the_cache_codes_responses_outside_of_every_rule() {
    let builder = builder().0.policy(policy()).rules_only().rule(Rule::prefix("/404"));
    let app = test_app(&builder.build().unwrap(), requested);
    let answer = app.client.get_with("/200", &[("accept-encoding", "gzip")]).await;
    assert_eq!(answer.cache_status(), "fwd=bypass; detail=rule");
    assert!(streamed(&answer, "gzip", "outside of every rule") == page().as_bytes());
}

/// In the mode `Off`, responses are as without a cache. In the mode `Bypass`, they are coded.
#[actix_web::test]
async fn cache_that_is_off_does_not_code() {
    let cache = compressing().0.build().unwrap();
    let app = test_app(&cache, requested);
    for (mode, is_coded) in [(Mode::Bypass, true), (Mode::Off, false), (Mode::On, true)] {
        cache.handle().set_mode(mode);
        let answer = app.client.get_with("/200", &[("accept-encoding", "gzip")]).await;
        assert_eq!(answer.field("content-encoding").is_some(), is_coded, "{mode:?}");
        assert_eq!(answer.field("vary").is_some(), is_coded, "{mode:?}");
    }
}
