//! Conditional requests: the cache evaluates the client's conditions against the stored response
//! (RFC 9110 section 13, RFC 9111 section 4.3.2).

use actix_web::http::header::{ETAG, HeaderValue};
use actix_web_cache::{Cache, Policy, store::Store as _};
use hyper::Method;

use crate::support::{
    Client, Protocol, SETUPS, builder, cache, fills_ended, manual_bodies, recording_app,
    requested_response, secs, store, test_app,
    validators::{EARLY, MINUTE, MODIFIED, TAG, UNCHANGED, VALIDATED, http_date},
};

const LATE: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

const TYPE: (&str, &str) = ("answer", "content-type: text/plain");

#[actix_web::test]
async fn matching_condition_gets_304_from_the_stored_response() {
    let (cache, clock) = cache();
    let (app, recorded) = recording_app(&cache);
    let metadata =
        [("answer", "content-location: /there"), ("answer", "vary: accept"), TYPE, MINUTE];
    let strong = [&[TAG, MODIFIED, ("answer", "content-language: en")][..], &metadata].concat();
    let weak = [&[("answer", "etag: W/\"a\"")][..], &metadata].concat();
    for (path, fields) in [("/strong", &strong), ("/weak", &weak)] {
        assert!(app.client.get_with(path, fields).await.is_stored(), "{path}");
    }
    recorded.take();
    clock.advance(secs(5));
    let (stored, before) = (http_date(0), "Sat, 05 Nov 1994 08:49:37 GMT");
    let none_match = |value| ("if-none-match", value);
    let since = |value| ("if-modified-since", value);
    for (path, conditions, status) in [
        ("/strong", &[none_match("\"a\"")][..], 304),
        ("/strong", &[none_match("W/\"a\"")], 304),
        ("/strong", &[none_match("\"b\"")], 200),
        ("/strong", &[none_match("a")], 200),
        ("/strong", &[none_match("\"A\"")], 200),
        ("/strong", &[none_match("\"x, y\" , W/\"b\",,\"a\"")], 304),
        ("/strong", &[none_match("\"b\""), none_match("\"a\"")], 304),
        ("/strong", &[none_match("*")], 304),
        ("/weak", &[none_match("\"a\"")], 304),
        ("/weak", &[none_match("W/\"a\"")], 304),
        ("/weak", &[none_match("W/\"b\"")], 200),
        ("/strong", &[since(EARLY)], 304),
        ("/strong", &[since("Sunday, 06-Nov-94 08:49:37 GMT")], 304),
        ("/strong", &[since("Sun Nov  6 08:49:37 1994")], 304),
        ("/strong", &[since(LATE)], 304),
        ("/strong", &[since(before)], 200),
        ("/strong", &[since("yesterday")], 200),
        ("/strong", &[since(EARLY), since(EARLY)], 200),
        ("/strong", &[none_match("\"b\""), since(LATE)], 200),
        ("/strong", &[none_match("\"a\""), since(before)], 304),
        // Without Last-Modified, the condition is compared with Date (RFC 9111 section 4.3.2).
        ("/weak", &[since(LATE)], 200),
        ("/weak", &[since(&stored)], 304),
    ] {
        for method in [Method::GET, Method::HEAD] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let client = Client::new(app.server.addr, protocol);
                let answer = client.send(method.clone(), path, conditions).await;
                let case = format!("{method} {path} {conditions:?} by {protocol:?}");
                assert_eq!(answer.status, status, "{case}");
                assert_eq!(answer.cache_status(), "hit; ttl=55", "{case}");
                assert_eq!(answer.field("age").as_deref(), Some("5"), "{case}");
                for field in ["etag", "cache-control", "content-location", "vary", "date"] {
                    assert!(answer.field(field).is_some(), "{case}: {field}");
                }
                for field in ["content-type", "content-length"] {
                    assert_eq!(answer.field(field).is_some(), status == 200, "{case}: {field}");
                }
                let language = answer.field("content-language");
                assert_eq!(language.is_some(), status == 200 && path == "/strong", "{case}");
                let empty = status == 304 || method == Method::HEAD;
                assert_eq!(answer.body.is_empty(), empty, "{case}");
            }
        }
    }
    assert_eq!(recorded.take(), [""; 0], "the handler did not run");
}

/// A 304 replaces a 200 only (RFC 9110 section 13.2.1).
#[actix_web::test]
async fn condition_is_ignored_unless_the_response_would_be_200() {
    let (cache, _) = cache();
    let (app, _) = recording_app(&cache);
    for status in ["204", "301", "404", "410"] {
        let path = format!("/{status}");
        let fields = [("answer-status", status), TAG, MODIFIED, MINUTE];
        let conditional = [&fields[..], &[("if-none-match", "\"a\"")]].concat();
        // First from the handler, then from the store.
        for hit in [false, true] {
            let answer = app.client.get_with(&path, &conditional).await;
            assert_eq!((answer.status.as_str(), answer.is_hit()), (status, hit));
        }
    }
}

/// A 304 from the handler could not be stored, so the cache removes the condition and evaluates it
/// itself.
#[actix_web::test]
async fn conditional_miss_fetches_and_stores_the_full_response() {
    let (cache, _) = cache();
    let (app, recorded) = recording_app(&cache);
    let response = [TAG, MODIFIED, TYPE, MINUTE];
    for (path, condition, status) in [
        ("/tag", ("if-none-match", "W/\"a\""), 304),
        ("/any", ("if-none-match", "*"), 304),
        ("/date", ("if-modified-since", EARLY), 304),
        ("/other", ("if-none-match", "\"b\""), 200),
        ("/older", ("if-modified-since", "Sat, 05 Nov 1994 08:49:37 GMT"), 200),
    ] {
        let answer = app.client.get_with(path, &[&response[..], &[condition]].concat()).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.cache_status(), "fwd=uri-miss; stored", "{path}");
        assert_eq!(answer.body.is_empty(), status == 304, "{path}");
        assert_eq!(answer.field("etag").as_deref(), Some("\"a\""), "{path}");
        assert_eq!(answer.field("content-type").is_some(), status == 200, "{path}");
        assert_eq!(recorded.take(), [""], "{path}: the handler gets no conditions");
        let hit = app.client.get(path).await;
        assert!(hit.is_hit() && hit.text().starts_with("run "), "{path}");
    }
}

#[actix_web::test]
async fn streamed_body_is_stored_when_the_client_gets_304() {
    for (protocol, _) in SETUPS {
        for length in [Some(10), None] {
            let store = store();
            let (bodies, mut made) = manual_bodies();
            let app = test_app(&Cache::new(store.clone()), move |_, _| {
                let mut response = bodies.response(length);
                response.headers_mut().insert(ETAG, HeaderValue::from_static("\"a\""));
                response
            });
            let client = Client::new(app.server.addr, protocol);
            let case = format!("{length:?} by {protocol:?}");
            let answer = client.get_with("/", &[("if-none-match", "\"a\"")]).await;
            assert_eq!(answer.status, 304, "{case}: before the body arrives");
            assert_eq!(answer.cache_status(), "fwd=uri-miss; stored", "{case}");
            drop(client);
            let sender = made.recv().await.unwrap();
            for chunk in ["first", "last."] {
                assert!(sender.send(chunk).await, "{case}: the body is read to its end");
            }
            drop(sender);
            fills_ended(store.coordinator()).await;
            let client = Client::new(app.server.addr, protocol);
            let hit = client.get("/").await;
            assert!(hit.is_hit() && hit.text() == "firstlast.", "{case}");
        }
    }
}

#[actix_web::test]
async fn rfc9111_policy_forwards_client_conditions_on_a_miss() {
    let (builder, clock) = builder();
    let cache = builder.policy(Policy::rfc9111()).build().unwrap();
    let (app, recorded) = recording_app(&cache);
    let condition = ("if-none-match", "\"a\"");
    let answer = app.client.get_with("/", &[condition, UNCHANGED, TAG, MINUTE]).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0));
    assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=status");
    let answer = app.client.get_with("/", &[condition, TAG, MINUTE]).await;
    assert_eq!(
        (answer.text(), answer.is_stored()),
        ("run 2", true),
        "the handler evaluated the condition"
    );
    assert_eq!(recorded.take(), ["if-none-match: \"a\""; 2]);
    assert_eq!(app.client.get_with("/", &[condition]).await.status, 304);
    assert_eq!(recorded.take(), [""; 0]);
    clock.advance(secs(60));
    let answer = app.client.get_with("/", &[("if-none-match", "\"c\""), UNCHANGED, TAG]).await;
    assert_eq!((answer.text(), &*answer.cache_status()), ("run 2", VALIDATED));
    assert_eq!(
        recorded.take(),
        ["if-none-match: \"a\""],
        "the stored validator replaces the client's condition"
    );
}

/// Its response is not stored, so the handler evaluates the conditions.
#[actix_web::test]
async fn personal_request_keeps_its_conditions() {
    let (cache, _) = cache();
    let (app, recorded) = recording_app(&cache);
    let condition = ("if-none-match", "\"a\"");
    for (path, credentials) in [
        ("/cookie", ("cookie", "sid=1")),
        ("/authorized", ("authorization", "Bearer 1")),
        ("/credentials", ("x-api-key", "1")),
    ] {
        // First without a stored anonymous response, then with one.
        for stored in [false, true] {
            let answer = app.client.get_with(path, &[condition, credentials, TAG]).await;
            assert_eq!((answer.status.as_u16(), answer.is_stored()), (200, false), "{path}");
            assert_eq!(recorded.take(), ["if-none-match: \"a\""], "{path}, stored: {stored}");
            let answer = app.client.get_with(path, &[condition, credentials, TAG, UNCHANGED]).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0), "{path}");
            app.client.get_with(path, &[TAG]).await;
            recorded.take();
        }
    }
}

/// `If-Match` and `If-Unmodified-Since` are for the origin server, not for a cache (RFC 9111
/// section 4.3.2).
#[actix_web::test]
async fn precondition_on_the_handlers_state_bypasses_the_cache() {
    let (cache, _) = cache();
    let (app, recorded) = recording_app(&cache);
    assert!(app.client.get_with("/", &[TAG, MODIFIED, MINUTE]).await.is_stored());
    recorded.take();
    for (field, value) in [("if-match", "\"a\""), ("if-unmodified-since", LATE)] {
        for status in ["200", "412"] {
            for method in [Method::GET, Method::HEAD] {
                let fields =
                    [(field, value), ("if-none-match", "\"z\""), ("answer-status", status)];
                let answer = app.client.send(method.clone(), "/", &fields).await;
                let case = format!("{method} {field} {status}");
                assert_eq!(answer.status.as_str(), status, "{case}");
                assert_eq!(answer.cache_status(), "fwd=bypass; detail=condition", "{case}");
                let forwarded = recorded.take().concat();
                assert!(forwarded.contains(&format!("{field}: {value}")), "{case}: {forwarded}");
                assert!(forwarded.contains("if-none-match: \"z\""), "{case}: {forwarded}");
                assert_eq!(
                    app.client.get("/").await.text(),
                    "run 1",
                    "{case}: the stored response is unchanged"
                );
            }
        }
    }
}

#[actix_web::test]
async fn matching_condition_gets_304_without_a_handler_run() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    let validators =
        [("answer", "etag: \"v1\""), ("answer", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT")];
    app.client.get_with("/", &validators).await;
    for (name, value, status) in [
        ("if-none-match", "\"v1\"", 304),
        ("if-none-match", "\"v0\"", 200),
        ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT", 304),
        ("if-modified-since", "Sat, 05 Nov 1994 08:49:37 GMT", 200),
    ] {
        let answer = app.client.get_with("/", &[(name, value)]).await;
        assert_eq!((answer.status.as_u16(), answer.is_hit()), (status, true), "{name}: {value}");
        assert_eq!(answer.body.is_empty(), status == 304);
    }
    assert_eq!(app.runs.get(), 1);
}

/// `*` matches any current response, so it must not replace the validator of a stored one (RFC 9110
/// section 13.1.2).
#[actix_web::test]
async fn any_tag_condition_is_evaluated_after_the_revalidation_of_a_stale_response() {
    let any = ("if-none-match", "*");
    let new = [("answer", "etag: \"b\""), MINUTE];
    let missing = [("answer-status", "404")];
    for (case, stored, answer, forwarded, status, cache_status) in [
        (
            "validated",
            &[TAG, MINUTE][..],
            &[UNCHANGED, TAG][..],
            "if-none-match: \"a\"",
            304,
            VALIDATED,
        ),
        ("replaced", &[TAG, MINUTE], &new, "if-none-match: \"a\"", 304, "fwd=stale; stored"),
        ("without validators", &[MINUTE], &new, "", 304, "fwd=stale; stored"),
        (
            "removed",
            &[TAG, MINUTE],
            &missing,
            "if-none-match: \"a\"",
            404,
            "fwd=stale; detail=no-lifetime",
        ),
    ] {
        let (cache, clock) = cache();
        let (app, recorded) = recording_app(&cache);
        assert!(app.client.get_with("/", stored).await.is_stored(), "{case}");
        clock.advance(secs(60));
        recorded.take();
        let got = app.client.get_with("/", &[&[any], answer].concat()).await;
        assert_eq!((got.status.as_u16(), &*got.cache_status()), (status, cache_status), "{case}");
        assert_eq!(got.body.is_empty(), status == 304, "{case}");
        assert_eq!(recorded.take(), [forwarded], "{case}");
    }
}

/// The handler knows whether the client's page exists.
#[actix_web::test]
async fn any_tag_condition_of_a_personal_request_reaches_the_handler() {
    let (cache, _) = cache();
    let (app, recorded) = recording_app(&cache);
    assert!(app.client.get_with("/", &[TAG]).await.is_stored());
    recorded.take();
    let fields = [("cookie", "sid=1"), ("if-none-match", "*"), TAG];
    for (answer, status) in [(None, 200), (Some(UNCHANGED), 304)] {
        let fields: Vec<_> = fields.into_iter().chain(answer).collect();
        assert_eq!(app.client.get_with("/", &fields).await.status.as_u16(), status);
        assert_eq!(recorded.take(), ["if-none-match: *"], "{status}");
    }
}
