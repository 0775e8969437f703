//! Responses that their handlers code themselves, and those that must not be coded.

use actix_web::{HttpRequest, HttpResponse, http::header};
use actix_web_cache::{Policy, Rule};

use super::{compressing, page, policy, until};
use crate::support::{Answer, TestApp, builder, secs, test_app, wait_until};

async fn get(app: &TestApp, path: &str, accepted: Option<&str>) -> Answer {
    let fields: Vec<_> = accepted.map(|value| ("accept-encoding", value)).into_iter().collect();
    app.client.get_with(path, &fields).await
}

/// A handler that sends `Content-Encoding` without `Vary`.
fn precompressed(_: &HttpRequest, run: usize) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html")
        .insert_header((header::CONTENT_ENCODING, "compress"))
        .body(format!("coded {run}"))
}

#[actix_web::test]
async fn coded_response_without_vary_answers_only_clients_that_accept_its_coding() {
    for policy in
        [Policy::new().default_ttl(secs(60)), policy(), Policy::rfc9111().default_ttl(secs(60))]
    {
        let app = test_app(&builder().0.policy(policy).build().unwrap(), precompressed);
        let first = get(&app, "/", Some("gzip, compress")).await;
        assert!(first.is_stored() && first.text() == "coded 1");
        assert!(first.field("vary").unwrap().contains("accept-encoding"));
        for accepted in ["compress", "COMPRESS;q=0.5", "*", "br, *;q=0.1"] {
            let answer = get(&app, "/", Some(accepted)).await;
            assert!(answer.is_hit() && answer.text() == "coded 1", "{accepted}");
            assert_eq!(answer.field("content-encoding").as_deref(), Some("compress"));
        }
        for (run, accepted) in
            [None, Some(""), Some("gzip"), Some("compress;q=0"), Some("*;q=0")].iter().enumerate()
        {
            let answer = get(&app, "/", *accepted).await;
            assert!(!answer.is_hit(), "{accepted:?} accepts no such coding");
            assert_eq!(answer.text(), format!("coded {}", run + 2));
        }
    }
}

/// The response itself says that it must stay as it is.
#[actix_web::test]
async fn responses_that_must_not_be_coded_stay_as_they_are() {
    let app = test_app(&compressing().0.build().unwrap(), |request, _| {
        let (name, value) = match request.path() {
            "/no-transform" => ("cache-control", "max-age=60, no-transform"),
            "/digest" => ("content-digest", "sha-256=:AAAA:"),
            "/varies" => ("vary", "accept-encoding"),
            "/image" => ("content-type", "image/png"),
            "/small" => return HttpResponse::Ok().content_type("text/html").body("a".repeat(1023)),
            "/coded" => ("content-type", "text/html"),
            path => panic!("{path}"),
        };
        let mut response = HttpResponse::Ok();
        response.content_type("text/html").insert_header((name, value));
        response.body(page())
    });
    for path in ["/no-transform", "/digest", "/varies", "/image", "/small"] {
        for round in 0..3 {
            let answer = get(&app, path, Some("gzip")).await;
            assert_eq!(answer.is_hit(), round > 0, "{path}");
            assert_eq!(answer.field("content-encoding"), None, "{path}");
        }
    }
    // Another copy is made after those would have been.
    super::get_coded(&app.client, "/coded", "gzip").await;
    for path in ["/no-transform", "/digest", "/varies", "/image", "/small"] {
        assert_eq!(get(&app, path, Some("gzip")).await.field("content-encoding"), None, "{path}");
    }
    let fields = [("accept-encoding", "gzip"), ("cache-control", "no-transform")];
    let answer = app.client.get_with("/coded", &fields).await;
    assert!(answer.is_hit() && answer.field("content-encoding").is_none(), "of the request");
}

/// A rule can turn copies on or off for what it matches.
#[actix_web::test]
async fn rule_changes_which_responses_are_coded() {
    let builder = compressing().0.rule(Rule::prefix("/secret").with(Policy::no_compression));
    let app = test_app(&builder.build().unwrap(), |_, _| {
        HttpResponse::Ok().content_type("text/html").body(page())
    });
    let secret = get(&app, "/secret", Some("gzip")).await;
    assert!(secret.field("vary").is_none_or(|vary| !vary.contains("accept-encoding")));
    super::get_coded(&app.client, "/", "gzip").await;
    let secret = get(&app, "/secret", Some("gzip")).await;
    assert!(secret.is_hit() && secret.field("content-encoding").is_none());
}

/// A body that becomes no smaller is tried once.
#[actix_web::test]
async fn body_that_does_not_become_smaller_is_not_coded_again() {
    let store = super::CountingStore::default();
    let builder = actix_web_cache::Cache::builder(store.clone()).policy(policy());
    let noise = super::noise(5000);
    let app = test_app(&builder.build().unwrap(), move |_, _| {
        HttpResponse::Ok().content_type("text/html").body(noise.clone())
    });
    get(&app, "/", Some("gzip")).await;
    // While it is not known that the coding is of no use, the body is coded while it is sent.
    let is_plain = |answer: &Answer| answer.field("content-encoding").is_none();
    until(async || get(&app, "/", Some("gzip")).await, is_plain).await;
    for _ in 0..5 {
        let answer = get(&app, "/", Some("gzip")).await;
        assert!(answer.is_hit() && is_plain(&answer));
    }
    assert_eq!(store.copies.get(), 1);
    get(&app, "/", Some("br")).await;
    wait_until("the other coding was tried", || store.copies.get() == 2).await;
    assert!(get(&app, "/", Some("gzip")).await.is_hit());
    assert_eq!(store.copies.get(), 2);
}

/// The handler knows only its own tags.
#[actix_web::test]
async fn handler_finds_its_own_tag_in_the_conditions_of_writes() {
    let app = test_app(&compressing().0.build().unwrap(), |request, _| {
        let lines = |name: &str| {
            let lines = request.headers().get_all(name).map(|line| line.to_str().unwrap());
            lines.collect::<Vec<_>>().join(", ")
        };
        let matches = |name: &str| lines(name).split(", ").any(|tag| tag == super::ETAG);
        let mut response = match request.method().as_str() {
            "PUT" if lines("if-match").is_empty() && matches("if-none-match") => {
                HttpResponse::PreconditionFailed()
            }
            "PUT" | "GET" if !lines("if-match").is_empty() && !matches("if-match") => {
                HttpResponse::PreconditionFailed()
            }
            _ => HttpResponse::Ok(),
        };
        response.content_type("text/html").insert_header(("etag", super::ETAG)).body(page())
    });
    let tag = super::get_coded(&app.client, "/", "gzip").await.field("etag").unwrap();
    let other = tag.replace("page-1", "page-2");
    // The tags of pages that were coded while they were sent.
    let (weak, other_weak) = (format!("W/{}", super::ETAG), "W/\"page-2\"".to_owned());
    for (method, name, value, status) in [
        ("PUT", "if-match", &*tag, 200),
        ("PUT", "if-match", &other, 412),
        ("GET", "if-match", &tag, 200),
        ("GET", "if-match", &other, 412),
        ("PUT", "if-match", &weak, 200),
        ("PUT", "if-match", &other_weak, 412),
        ("PUT", "if-none-match", &weak, 412),
        ("PUT", "if-none-match", &tag, 412),
        ("PUT", "if-none-match", &other, 200),
    ] {
        let method = hyper::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = app.client.send(method.clone(), "/", &[(name, value)]).await;
        assert_eq!(answer.status, status, "{method} {name}: {value}");
    }
}
