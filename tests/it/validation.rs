//! Validation: of what clients have by what is stored, and of what is stored by the handler.

use std::time::UNIX_EPOCH;

use actix_web::http::header::{ETAG, HeaderValue};
use actix_web_cache::{Cache, Policy, store::Store as _};
use hyper::Method;

use crate::support::{
    Client, Protocol, SETUPS, START, builder, cache, feeds, noting, secs, settled, site, store,
};

const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATE: &str = "Mon, 07 Nov 1994 08:49:37 GMT";

const TAG: (&str, &str) = ("answer", "etag: \"a\"");
const MODIFIED: (&str, &str) = ("answer", "last-modified: Sun, 06 Nov 1994 08:49:37 GMT");
const TYPE: (&str, &str) = ("answer", "content-type: text/plain");
const MINUTE: (&str, &str) = ("answer", "cache-control: max-age=60");
const UNCHANGED: (&str, &str) = ("answer-status", "304");
const VALIDATED: &str = "fwd=stale; fwd-status=304; stored";

fn date(second: u64) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + secs(START + second))
}

#[actix_web::test]
async fn the_client_that_has_what_is_stored_is_told_so_by_the_store() {
    let (cache, clock) = cache();
    let (site, notes) = noting(&cache);
    let about = [("answer", "content-location: /there"), ("answer", "vary: accept"), TYPE, MINUTE];
    let strong = [&[TAG, MODIFIED, ("answer", "content-language: en")][..], &about].concat();
    let weak = [&[("answer", "etag: W/\"a\"")][..], &about].concat();
    for (path, fields) in [("/strong", &strong), ("/weak", &weak)] {
        assert!(site.client.get_with(path, fields).await.is_stored(), "{path}");
    }
    notes.take();
    clock.advance(secs(5));
    let (stored, before) = (date(0), "Sat, 05 Nov 1994 08:49:37 GMT");
    let none_match = |value| ("if-none-match", value);
    let since = |value| ("if-modified-since", value);
    for (path, asked, status) in [
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
        // What has no Last-Modified is as old as its Date.
        ("/weak", &[since(LATE)], 200),
        ("/weak", &[since(&stored)], 304),
    ] {
        for method in [Method::GET, Method::HEAD] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let client = Client::new(site.server.addr, protocol);
                let answer = client.send(method.clone(), path, asked).await;
                let case = format!("{method} {path} {asked:?} by {protocol:?}");
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
    assert_eq!(notes.take(), [""; 0], "nobody asked the handler");
}

#[actix_web::test]
async fn conditions_count_only_where_the_answer_would_be_200() {
    let (cache, _) = cache();
    let (site, _) = noting(&cache);
    for status in ["204", "301", "404", "410"] {
        let path = format!("/{status}");
        let fields = [("answer-status", status), TAG, MODIFIED, MINUTE];
        let known = [&fields[..], &[("if-none-match", "\"a\"")]].concat();
        // As the answer of the handler, and as what is stored.
        for hit in [false, true] {
            let answer = site.client.get_with(&path, &known).await;
            assert_eq!((answer.status.as_str(), answer.is_hit()), (status, hit));
        }
    }
}

#[actix_web::test]
async fn what_is_not_stored_yet_is_fetched_whole_for_a_client_that_has_it() {
    let (cache, _) = cache();
    let (site, notes) = noting(&cache);
    let page = [TAG, MODIFIED, TYPE, MINUTE];
    for (path, condition, status) in [
        ("/tag", ("if-none-match", "W/\"a\""), 304),
        ("/any", ("if-none-match", "*"), 304),
        ("/date", ("if-modified-since", EARLY), 304),
        ("/other", ("if-none-match", "\"b\""), 200),
        ("/older", ("if-modified-since", "Sat, 05 Nov 1994 08:49:37 GMT"), 200),
    ] {
        let answer = site.client.get_with(path, &[&page[..], &[condition]].concat()).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.cache_status(), "fwd=uri-miss; stored", "{path}");
        assert_eq!(answer.body.is_empty(), status == 304, "{path}");
        assert_eq!(answer.field("etag").as_deref(), Some("\"a\""), "{path}");
        assert_eq!(answer.field("content-type").is_some(), status == 200, "{path}");
        assert_eq!(notes.take(), [""], "{path}: the handler was asked without conditions");
        let hit = site.client.get(path).await;
        assert!(hit.is_hit() && hit.text().starts_with("run "), "{path}");
    }
}

#[actix_web::test]
async fn a_stream_is_stored_although_the_client_has_it_and_reads_nothing() {
    for (protocol, _) in SETUPS {
        for length in [Some(10), None] {
            let store = store();
            let (feeds, mut made) = feeds();
            let site = site(&Cache::new(store.clone()), move |_, _| {
                let mut response = feeds.response(length);
                response.headers_mut().insert(ETAG, HeaderValue::from_static("\"a\""));
                response
            });
            let client = Client::new(site.server.addr, protocol);
            let case = format!("{length:?} by {protocol:?}");
            let answer = client.get_with("/", &[("if-none-match", "\"a\"")]).await;
            assert_eq!(answer.status, 304, "{case}: before the body is there");
            assert_eq!(answer.cache_status(), "fwd=uri-miss; stored", "{case}");
            drop(client);
            let feed = made.recv().await.unwrap();
            for chunk in ["first", "last."] {
                assert!(feed.send(chunk).await, "{case}: the body is read on");
            }
            drop(feed);
            settled(store.coordinator()).await;
            let client = Client::new(site.server.addr, protocol);
            let hit = client.get("/").await;
            assert!(hit.is_hit() && hit.text() == "firstlast.", "{case}");
        }
    }
}

#[actix_web::test]
async fn a_proxy_forwards_the_conditions_of_clients_where_nothing_is_stored() {
    let (builder, clock) = builder();
    let cache = builder.policy(Policy::rfc9111()).build().unwrap();
    let (site, notes) = noting(&cache);
    let known = ("if-none-match", "\"a\"");
    let answer = site.client.get_with("/", &[known, UNCHANGED, TAG, MINUTE]).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0));
    assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=status");
    let answer = site.client.get_with("/", &[known, TAG, MINUTE]).await;
    assert_eq!((answer.text(), answer.is_stored()), ("run 2", true), "the handler has judged");
    assert_eq!(notes.take(), ["if-none-match: \"a\""; 2]);
    assert_eq!(site.client.get_with("/", &[known]).await.status, 304);
    assert_eq!(notes.take(), [""; 0]);
    clock.advance(secs(60));
    let answer = site.client.get_with("/", &[("if-none-match", "\"c\""), UNCHANGED, TAG]).await;
    assert_eq!((answer.text(), &*answer.cache_status()), ("run 2", VALIDATED));
    assert_eq!(notes.take(), ["if-none-match: \"a\""], "its own, once it has any");
}

#[actix_web::test]
async fn somebodys_own_request_keeps_its_conditions() {
    let (cache, _) = cache();
    let (site, notes) = noting(&cache);
    let known = ("if-none-match", "\"a\"");
    for (path, whose) in [
        ("/cookie", ("cookie", "sid=1")),
        ("/authorised", ("authorization", "Bearer 1")),
        ("/credentials", ("x-api-key", "1")),
    ] {
        // Whether everybody's page is stored or none.
        for stored in [false, true] {
            let answer = site.client.get_with(path, &[known, whose, TAG]).await;
            assert_eq!((answer.status.as_u16(), answer.is_stored()), (200, false), "{path}");
            assert_eq!(notes.take(), ["if-none-match: \"a\""], "{path}, stored: {stored}");
            let answer = site.client.get_with(path, &[known, whose, TAG, UNCHANGED]).await;
            assert_eq!((answer.status.as_u16(), answer.body.len()), (304, 0), "{path}");
            site.client.get_with(path, &[TAG]).await;
            notes.take();
        }
    }
}

#[actix_web::test]
async fn what_protects_the_handlers_state_goes_to_the_handler() {
    let (cache, _) = cache();
    let (site, notes) = noting(&cache);
    assert!(site.client.get_with("/", &[TAG, MODIFIED, MINUTE]).await.is_stored());
    notes.take();
    for (field, value) in [("if-match", "\"a\""), ("if-unmodified-since", LATE)] {
        for status in ["200", "412"] {
            for method in [Method::GET, Method::HEAD] {
                let asked = [(field, value), ("if-none-match", "\"z\""), ("answer-status", status)];
                let answer = site.client.send(method.clone(), "/", &asked).await;
                let case = format!("{method} {field} {status}");
                assert_eq!(answer.status.as_str(), status, "{case}");
                assert_eq!(answer.cache_status(), "fwd=bypass; detail=condition", "{case}");
                let seen = notes.take().concat();
                assert!(seen.contains(&format!("{field}: {value}")), "{case}: {seen}");
                assert!(seen.contains("if-none-match: \"z\""), "{case}: {seen}");
                assert_eq!(site.client.get("/").await.text(), "run 1", "{case}: as before");
            }
        }
    }
}
