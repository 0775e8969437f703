//! Responses to POST: with explicit freshness and a `Content-Location` of the target they may
//! answer later GETs (RFC 9110 section 9.3.3). The default policy does not store them,
//! `Policy::rfc9111` does.

use actix_web::{App, HttpRequest, web};
use actix_web_cache::{Cache, Policy};
use hyper::Method;

use super::app::serve_requested_responses;
use crate::support::{
    Client, Counter, HoldPoint, Protocol, SETUPS, builder, requested_response, serve,
};

const MINUTE: (&str, &str) = ("answer", "cache-control: max-age=60");

#[actix_web::test]
async fn post_response_with_own_content_location_answers_get() {
    let own = ("answer", "content-location: /form?x=1");
    let with_status = |code| ("answer-status", code);
    for (case, fields, stored) in [
        ("own Content-Location and max-age", &[own, MINUTE][..], true),
        ("201", &[own, MINUTE, with_status("201")], true),
        ("relative URL", &[("answer", "content-location: ?x=1"), MINUTE], true),
        ("Expires", &[own, ("answer", "expires: Wed, 01 Jan 2031 00:00:00 GMT")], true),
        ("no lifetime", &[own], false),
        (
            "Last-Modified only",
            &[own, ("answer", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT")],
            false,
        ),
        ("no Content-Location", &[MINUTE], false),
        ("other URL", &[("answer", "content-location: /form"), MINUTE], false),
        ("other host", &[("answer", "content-location: http://h/form?x=1"), MINUTE], false),
        ("two fields", &[own, own, MINUTE], false),
        ("Location only", &[("answer", "location: /form?x=1"), MINUTE], false),
        ("no-store", &[own, ("answer", "cache-control: max-age=60, no-store")], false),
        ("private", &[own, ("answer", "cache-control: max-age=60, private")], false),
        ("404", &[own, MINUTE, with_status("404")], false),
        ("500", &[own, MINUTE, with_status("500")], false),
        ("no-store in the request", &[own, MINUTE, ("cache-control", "no-store")], false),
        ("Authorization", &[own, MINUTE, ("authorization", "Bearer 1")], false),
    ] {
        for (preset, policy) in [("rfc9111", Policy::rfc9111()), ("default", Policy::new())] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let site = serve_requested_responses(policy.clone());
                let client = Client::new(site.server.addr, protocol);
                let answer = client.send_body(Method::POST, "/form?x=1", fields, "x=1&y=2").await;
                let answer = answer.unwrap();
                let stored = stored && preset == "rfc9111";
                let status = if stored { "fwd=method; stored" } else { "fwd=method" };
                let case = format!("{case}, {preset} by {protocol:?}");
                assert_eq!(answer.cache_status(), status, "{case}");
                assert!(answer.text().starts_with("run 1"), "{case}");
                let next = client.get("/form?x=1").await;
                assert_eq!(next.is_hit(), stored, "{case}");
                assert_eq!(next.text() == "run 1", stored, "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn post_response_with_set_cookie_is_stored_when_policy_allows() {
    let fields = [
        ("answer", "content-location: /"),
        MINUTE,
        ("answer", "set-cookie: sid=1"),
        ("content-type", "text/plain"),
        ("answer", "vary: accept-language"),
        ("accept-language", "de"),
    ];
    let site = serve_requested_responses(Policy::rfc9111());
    let answer = site.client.send(Method::POST, "/", &fields).await;
    assert_eq!(answer.cache_status(), "fwd=method; stored", "this policy stores Set-Cookie");
    let other = site.client.send(Method::POST, "/", &fields[..3]).await;
    assert_eq!(
        other.cache_status(),
        "fwd=method; stored",
        "the new response replaces the stored one"
    );
    assert_eq!(site.client.get("/").await.text(), "run 2");
    let by_type = [fields[0], MINUTE, fields[3], ("answer", "vary: content-type")];
    let other = site.client.send(Method::POST, "/", &by_type).await;
    assert_eq!(other.cache_status(), "fwd=method", "a GET has no Content-Type to select by");
}

/// Serves a handler that builds the response that the request describes. It waits first if the
/// request has the field `hold`.
fn serve_held(cache: &Cache, workers: usize, hold: &HoldPoint) -> crate::support::Server {
    let shared = (cache.clone(), hold.clone(), Counter::default());
    serve(workers, move || {
        let (cache, hold, runs) = shared.clone();
        App::new().wrap(cache).default_service(web::to(
            move |request: HttpRequest, _: web::Bytes| {
                let (hold, run) = (hold.clone(), runs.count());
                async move {
                    if request.headers().contains_key("hold") {
                        hold.wait().await;
                    }
                    requested_response(&request, run)
                }
            },
        ))
    })
}

#[actix_web::test]
async fn post_response_overtaken_by_unsafe_method_is_not_stored() {
    for (protocol, workers) in SETUPS {
        let (builder, _) = builder();
        let cache = builder.policy(Policy::rfc9111()).build().unwrap();
        let hold = HoldPoint::new();
        let server = serve_held(&cache, workers, &hold);
        let client = Client::new(server.addr, protocol);
        for (changes, stored) in [(true, false), (false, true)] {
            let posting = client.clone();
            let post = tokio::spawn(async move {
                let fields = [("hold", "1"), ("answer", "content-location: /"), MINUTE];
                posting.send_body(Method::POST, "/", &fields, "x=1").await.unwrap()
            });
            hold.reached().await;
            if changes {
                assert_eq!(client.send(Method::PUT, "/", &[]).await.status, 200);
            }
            hold.release();
            let status = if stored { "fwd=method; stored" } else { "fwd=method" };
            assert_eq!(post.await.unwrap().cache_status(), status, "{protocol:?}");
            let next = client.get("/").await;
            assert_eq!(next.is_hit(), stored, "{protocol:?}, with a PUT: {changes}");
        }
    }
}

#[actix_web::test]
async fn stored_post_response_overtakes_running_get() {
    let (builder, _) = builder();
    let cache = builder.policy(Policy::rfc9111()).build().unwrap();
    let hold = HoldPoint::new();
    let server = serve_held(&cache, 1, &hold);
    let client = Client::new(server.addr, Protocol::Http1);
    let getting = client.clone();
    let get = tokio::spawn(async move { getting.get_with("/", &[("hold", "1"), MINUTE]).await });
    hold.reached().await;
    let fields = [("answer", "content-location: /"), MINUTE];
    assert!(client.send(Method::POST, "/", &fields).await.is_stored());
    hold.release();
    assert_eq!(get.await.unwrap().cache_status(), "fwd=uri-miss; detail=overtaken");
    let next = client.get("/").await;
    assert_eq!((next.text(), next.is_hit()), ("run 2", true), "the response to POST");
}
