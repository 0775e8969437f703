//! Range requests on stored responses (RFC 9110 section 14).

use std::{fs, io};

use actix_files::Files;
use actix_web::{
    App, HttpRequest, HttpResponse,
    http::header::{ACCEPT_RANGES, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LAST_MODIFIED, RANGE},
    middleware::{Compress, Condition},
};
use actix_web_cache::{Cache, Policy};
use bytes::Bytes;
use futures_util::stream;
use hyper::Method;

use crate::support::{
    Answer, Client, Protocol, SETUPS, SharedLines, TestApp, Wire, builder, cache, conditions, secs,
    serve, test_app,
};

const LENGTH: usize = 10_000;
const EARLY: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A body in which no two ranges of one length are equal.
fn full_body() -> Bytes {
    let numbers = (0..LENGTH / 5).map(|n| format!("{n:04}\n"));
    numbers.collect::<String>().into()
}

fn respond(request: &HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.insert_header((LAST_MODIFIED, EARLY)).insert_header((CONTENT_TYPE, "text/x-own"));
    response.insert_header((ETAG, if request.path() == "/weak" { "W/\"a\"" } else { "\"a\"" }));
    if request.headers().contains_key(IF_NONE_MATCH) && !request.path().starts_with("/new") {
        return response.status(actix_web::http::StatusCode::NOT_MODIFIED).finish();
    }
    match request.path() {
        "/204" => HttpResponse::NoContent()
            .insert_header(("cache-control", "max-age=60"))
            .insert_header((ETAG, "\"a\""))
            .finish(),
        "/404" => HttpResponse::NotFound()
            .insert_header(("cache-control", "max-age=60"))
            .insert_header((ETAG, "\"a\""))
            .body(full_body()),
        "/empty" => response.body(""),
        "/accepting" => response.insert_header((ACCEPT_RANGES, "bytes")).body(full_body()),
        "/refusing" => response.insert_header((ACCEPT_RANGES, "none")).body(full_body()),
        "/stream" => {
            let pieces: Vec<_> =
                full_body().chunks(999).map(Bytes::copy_from_slice).map(Ok).collect();
            response.streaming(stream::iter(pieces.into_iter().map(|piece: io::Result<_>| piece)))
        }
        "/own" if request.headers().contains_key(RANGE) => handler_range(),
        "/part" => handler_range(),
        "/new" if request.headers().contains_key(IF_NONE_MATCH) => {
            response.insert_header((ETAG, "\"b\"")).body(full_body().slice(5..))
        }
        _ => response.body(full_body()),
    }
}

/// The handler's own `206`, independent of the requested range.
fn handler_range() -> HttpResponse {
    HttpResponse::PartialContent()
        .insert_header(("content-range", "bytes 0-4/10000"))
        .insert_header(("cache-control", "public, max-age=600, s-maxage=600"))
        .insert_header((ETAG, "\"a\""))
        .body("0000\n")
}

fn ranges_app(cache: &Cache) -> (TestApp, SharedLines) {
    let recorded = SharedLines::default();
    let handlers = recorded.clone();
    let app = test_app(cache, move |request, _| {
        handlers.add(conditions(request));
        respond(request)
    });
    (app, recorded)
}

async fn get_range(client: &Client, path: &str, range: &str) -> Answer {
    client.get_with(path, &[("range", range)]).await
}

/// The parts of a `multipart/byteranges` body: content type, range and content of each.
fn parts(kind: &str, body: &[u8]) -> Vec<(String, String, Vec<u8>)> {
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").expect("a boundary");
    let end = format!("\r\n--{boundary}--\r\n");
    let inner = body.strip_suffix(end.as_bytes()).expect("the last boundary");
    let inner = [b"\r\n", inner].concat();
    let text = String::from_utf8(inner).unwrap();
    let between = format!("\r\n--{boundary}\r\n");
    let mut all = text.split(&between);
    assert_eq!(all.next(), Some(""), "nothing before the first part");
    all.map(|part| {
        let (head, content) = part.split_once("\r\n\r\n").expect("a head");
        let [kind, range] = head.split("\r\n").collect::<Vec<_>>()[..] else { panic!("{head}") };
        let kind = kind.strip_prefix("Content-Type: ").expect("a type").to_owned();
        let range = range.strip_prefix("Content-Range: bytes ").expect("a range").to_owned();
        (kind, range, content.as_bytes().to_vec())
    })
    .collect()
}

#[actix_web::test]
async fn single_range_is_served_from_the_stored_response() {
    let (cache, clock) = cache();
    let (app, recorded) = ranges_app(&cache);
    for path in ["/page", "/stream", "/weak"] {
        assert!(app.client.get(path).await.is_stored(), "{path}");
    }
    recorded.take();
    clock.advance(secs(7));
    for (range, first, last) in [
        ("bytes=0-0", 0, 0),
        ("bytes=5-9", 5, 9),
        ("bytes=9999-9999", 9999, 9999),
        ("bytes=9990-", 9990, 9999),
        ("bytes=0-", 0, 9999),
        ("bytes=-1", 9999, 9999),
        ("bytes=-500", 9500, 9999),
        ("bytes=-20000", 0, 9999),
        ("bytes=9000-99999999999999999999999", 9000, 9999),
        ("BYTES=5-9", 5, 9),
        ("bytes= 5-9 ,", 5, 9),
        ("bytes=20000-,5-9", 5, 9),
    ] {
        for path in ["/page", "/stream", "/weak"] {
            for protocol in [Protocol::Http1, Protocol::Http2] {
                let client = Client::new(app.server.addr, protocol);
                let answer = get_range(&client, path, range).await;
                let case = format!("{range} of {path} by {protocol:?}");
                assert_eq!(answer.status, 206, "{case}");
                let content_range = format!("bytes {first}-{last}/{LENGTH}");
                assert_eq!(answer.field("content-range"), Some(content_range), "{case}");
                assert_eq!(answer.body, full_body()[first..=last], "{case}");
                let length = (last + 1 - first).to_string();
                assert_eq!(answer.field("content-length"), Some(length), "{case}");
                assert_eq!(answer.field("content-type").as_deref(), Some("text/x-own"), "{case}");
                assert_eq!(answer.field("age").as_deref(), Some("7"), "{case}");
                assert_eq!(answer.cache_status(), "hit; ttl=53", "{case}");
                for field in ["etag", "last-modified", "date", "cache-control", "expires", "vary"] {
                    assert!(answer.field(field).is_some(), "{case}: {field}");
                }
            }
        }
    }
    assert_eq!(recorded.take(), [""; 0]);
}

#[actix_web::test]
async fn several_ranges_are_served_as_exact_multipart_byteranges() {
    let (cache, _) = cache();
    let (app, _) = ranges_app(&cache);
    app.client.get("/page").await;
    let many: Vec<_> = (0..32).map(|n| (n * 300, n * 300 + 1)).collect();
    for ranges in [
        &[(0, 0), (9999, 9999)][..],
        &[(500, 599), (0, 99), (9000, 9999)],
        &[(0, 4), (5, 9)],
        &many,
    ] {
        let specs: Vec<_> = ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let range_field = format!("bytes={}", specs.join(", "));
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = Client::new(app.server.addr, protocol);
            let answer = get_range(&client, "/page", &range_field).await;
            let case = format!("{range_field} by {protocol:?}");
            assert_eq!((answer.status.as_u16(), answer.is_hit()), (206, true), "{case}");
            assert_eq!(answer.field("content-range"), None, "{case}");
            assert_eq!(answer.field("content-length"), Some(answer.body.len().to_string()));
            let kind = answer.field("content-type").unwrap();
            let want = ranges.iter().map(|&(first, last)| {
                let range = format!("{first}-{last}/{LENGTH}");
                ("text/x-own".to_owned(), range, full_body()[first..=last].to_vec())
            });
            assert_eq!(parts(&kind, &answer.body), want.collect::<Vec<_>>(), "{case}");
        }
    }
}

/// Such ranges are a denial-of-service risk (RFC 9110 section 17.15), so the cache coalesces or
/// ignores them (section 14.2).
#[actix_web::test]
async fn many_or_overlapping_ranges_never_exceed_the_full_body() {
    let (cache, _) = cache();
    let (app, _) = ranges_app(&cache);
    app.client.get("/page").await;
    let (full, tiny) = (vec!["0-"; 5000].join(","), vec!["0-0"; 20_000].join(","));
    let separate: Vec<_> = (0..33).map(|n| format!("{0}-{0}", n * 200)).collect();
    let all = vec!["0-"; 32].join(",");
    for (case, ranges, want) in [
        ("5000 times the full body", &*full, None),
        ("20000 times one byte", &tiny, None),
        ("33 ranges of one byte", &separate.join(","), None),
        ("two halves", "0-4999,5000-9999", None),
        ("two overlapping ranges", "0-9,5-14", Some("bytes 0-14/10000")),
        ("one range within another", "5-6,0-99", Some("bytes 0-99/10000")),
        ("32 times the full body", &all, Some("bytes 0-9999/10000")),
    ] {
        let answer = get_range(&app.client, "/page", &format!("bytes={ranges}")).await;
        assert_eq!(answer.field("content-range").as_deref(), want, "{case}");
        assert_eq!(answer.status == 200, want.is_none(), "{case}");
        assert!(answer.body.len() <= LENGTH && answer.is_hit(), "{case}");
    }
}

/// Section 15.5.17 rules unsatisfiable ranges. Section 14.2 permits ignoring an invalid `Range`, and
/// a `Range` of an empty page.
#[actix_web::test]
async fn unsatisfiable_range_gets_416_and_invalid_range_the_full_response() {
    let (cache, _) = cache();
    let (app, _) = ranges_app(&cache);
    for path in ["/page", "/empty", "/404", "/204"] {
        assert!(app.client.get(path).await.is_stored(), "{path}");
    }
    for (path, range, status) in [
        ("/page", "bytes=10000-", 416),
        ("/page", "bytes=10000-20000, 99999-", 416),
        ("/page", "bytes=-0", 416),
        ("/empty", "bytes=0-", 200),
        ("/empty", "bytes=-5", 200),
        ("/page", "bytes=5-4", 200),
        ("/page", "bytes=", 200),
        ("/page", "bytes=-", 200),
        ("/page", "bytes=a-b", 200),
        ("/page", "bytes=0-4,x", 200),
        ("/page", "bytes = 0-4", 200),
        ("/page", "items=0-4", 200),
        ("/page", "0-4", 200),
        ("/404", "bytes=0-4", 404),
        ("/204", "bytes=0-4", 204),
    ] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let client = Client::new(app.server.addr, protocol);
            let answer = get_range(&client, path, range).await;
            let case = format!("{range} of {path} by {protocol:?}");
            assert_eq!((answer.status.as_u16(), answer.is_hit()), (status, true), "{case}");
            let content_range = (status == 416).then(|| format!("bytes */{LENGTH}"));
            assert_eq!(answer.field("content-range"), content_range, "{case}");
            let has_body = matches!(status, 200 | 404) && path != "/empty";
            assert_eq!(answer.body, if has_body { full_body() } else { Bytes::new() }, "{case}");
            if status == 416 {
                assert_eq!(answer.field("content-length").as_deref(), Some("0"), "{case}");
                assert_eq!(answer.field("content-type"), None, "{case}");
            }
        }
    }
    let two = [("range", "bytes=0-4"), ("range", "bytes=5-9")];
    assert_eq!(app.client.get_with("/page", &two).await.status, 200);
}

/// A range of another version of the resource would corrupt the client's copy (RFC 9110 section
/// 13.1.5).
#[actix_web::test]
async fn if_range_serves_a_range_only_for_a_matching_strong_validator() {
    let (cache, _) = cache();
    let (app, _) = ranges_app(&cache);
    for path in ["/page", "/weak"] {
        app.client.get(path).await;
    }
    let range = ("range", "bytes=0-4");
    for (path, condition, status) in [
        ("/page", ("if-range", "\"a\""), 206),
        ("/page", ("if-range", "\"b\""), 200),
        ("/page", ("if-range", "W/\"a\""), 200),
        ("/page", ("if-range", "a"), 200),
        ("/page", ("if-range", EARLY), 206),
        ("/page", ("if-range", "Sunday, 06-Nov-94 08:49:37 GMT"), 206),
        ("/page", ("if-range", "Mon, 07 Nov 1994 08:49:37 GMT"), 200),
        ("/page", ("if-range", "Sat, 05 Nov 1994 08:49:37 GMT"), 200),
        ("/weak", ("if-range", "W/\"a\""), 200),
        ("/weak", ("if-range", "\"a\""), 200),
        ("/page", ("if-none-match", "\"a\""), 304),
        ("/page", ("if-none-match", "\"b\""), 206),
        ("/page", ("if-modified-since", EARLY), 304),
    ] {
        let answer = app.client.get_with(path, &[range, condition]).await;
        let case = format!("{condition:?} of {path}");
        assert_eq!((answer.status.as_u16(), answer.is_hit()), (status, true), "{case}");
        let length = [(200, LENGTH), (206, 5), (304, 0)].into_iter().find(|(s, _)| *s == status);
        assert_eq!(answer.body.len(), length.unwrap().1, "{case}");
    }
    let without_range = app.client.get_with("/page", &[("if-range", "\"a\"")]).await;
    assert_eq!((without_range.status.as_u16(), without_range.body.len()), (200, LENGTH));
}

/// `Range` is defined for `GET` only (RFC 9110 section 14.2).
#[actix_web::test]
async fn head_ignores_ranges_and_accept_ranges_is_the_handlers() {
    let (cache, _) = cache();
    let (app, _) = ranges_app(&cache);
    for (path, want) in
        [("/page", None), ("/accepting", Some("bytes")), ("/refusing", Some("none"))]
    {
        app.client.get(path).await;
        for method in [Method::GET, Method::HEAD] {
            for fields in [&[][..], &[("range", "bytes=0-4")]] {
                let answer = app.client.send(method.clone(), path, fields).await;
                let case = format!("{method} {path} {fields:?}");
                assert_eq!(answer.field("accept-ranges").as_deref(), want, "{case}");
                let is_range = method == Method::GET && !fields.is_empty();
                assert_eq!(answer.status, if is_range { 206 } else { 200 }, "{case}");
                let length = if is_range { 5 } else { LENGTH }.to_string();
                assert_eq!(answer.field("content-length"), Some(length), "{case}");
            }
        }
    }
}

#[actix_web::test]
async fn responses_of_all_kinds_are_framed_correctly_on_one_connection() {
    let (cache, _) = cache();
    let (app, _) = ranges_app(&cache);
    let mut wire = Wire::open(app.server.addr);
    assert_eq!(wire.get("/page", "").body, full_body());
    for _ in 0..3 {
        for (fields, status, length) in [
            ("Range: bytes=0-4\r\n", 206, Some(5)),
            ("Range: bytes=0-4,9990-9999\r\n", 206, None),
            ("Range: bytes=10000-\r\n", 416, Some(0)),
            ("Range: bytes=0-4\r\nIf-None-Match: \"a\"\r\n", 304, Some(0)),
            ("Range: bytes=-7\r\n", 206, Some(7)),
            ("", 200, Some(LENGTH)),
        ] {
            let message = wire.get("/page", fields);
            assert!(message.is_hit(), "{fields}: {}", message.head);
            assert_eq!(message.status, status, "{fields}");
            match length {
                Some(length) => assert_eq!(message.body.len(), length, "{fields}"),
                None => {
                    let kind = message.line("content-type").unwrap();
                    assert_eq!(parts(kind, &message.body).len(), 2);
                }
            }
        }
        assert_eq!(wire.head("/page").line("content-length"), Some("10000"));
    }
}

/// The handler gets the stored validators without the client's `Range` and `If-Range`, because the
/// cache needs the full response.
#[actix_web::test]
async fn stale_entry_is_revalidated_or_replaced_before_a_range_is_served() {
    let (cache, clock) = cache();
    let (app, recorded) = ranges_app(&cache);
    for path in ["/page", "/new"] {
        app.client.get(path).await;
    }
    recorded.take();
    let forwarded = format!("if-none-match: \"a\"; if-modified-since: {EARLY}");
    let (range, old) = (("range", "bytes=0-4"), ("if-range", "\"a\""));
    for (path, fields, status, body, cache_status) in [
        ("/page", &[range][..], 206, full_body().slice(..5), "fwd=stale; fwd-status=304; stored"),
        ("/page", &[range, old], 206, full_body().slice(..5), "fwd=stale; fwd-status=304; stored"),
        ("/new", &[range, old], 200, full_body().slice(5..), "fwd=stale; stored"),
    ] {
        clock.advance(secs(60));
        let answer = app.client.get_with(path, fields).await;
        assert_eq!((answer.status.as_u16(), &answer.body), (status, &body), "{path}");
        assert_eq!(answer.cache_status(), cache_status, "{path}");
        assert_eq!(
            recorded.take(),
            [&*forwarded],
            "{path}: the client's range and condition are not forwarded"
        );
        assert!(app.client.get(path).await.is_hit(), "{path}: the full response is stored");
    }
    let answer = get_range(&app.client, "/new", "bytes=0-4").await;
    let got = (answer.field("content-range"), answer.body, answer.headers["etag"].as_bytes());
    assert_eq!(got, (Some("bytes 0-4/9995".to_owned()), full_body().slice(5..10), &b"\"b\""[..]));
}

/// Fetching the full response for a range could be very expensive.
#[actix_web::test]
async fn range_request_on_a_miss_is_passed_through_and_not_stored() {
    for policy in [Policy::new(), Policy::rfc9111()] {
        let (builder, _) = builder();
        let (app, recorded) =
            ranges_app(&builder.policy(policy.heuristic_freshness()).build().unwrap());
        let fields = [("range", "bytes=0-4"), ("if-range", "\"a\"")];
        for (path, status, length) in [("/own", 206, 5), ("/page", 200, LENGTH)] {
            for _ in 0..2 {
                let answer = app.client.get_with(path, &fields).await;
                assert_eq!((answer.status.as_u16(), answer.body.len()), (status, length));
                assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=range", "{path}");
            }
            assert_eq!(recorded.take(), ["if-range: \"a\"; range: bytes=0-4"; 2], "{path}");
            let full = app.client.get(path).await;
            assert_eq!((full.body.len(), full.is_stored()), (LENGTH, true), "{path}");
            assert!(app.client.get_with(path, &fields).await.is_hit(), "{path}");
            recorded.take();
        }
        for _ in 0..2 {
            let answer = app.client.get("/part").await;
            assert_eq!(
                answer.cache_status(),
                "fwd=uri-miss; detail=status",
                "206 to a request without Range"
            );
            assert_eq!((answer.status.as_u16(), answer.body.len()), (206, 5));
        }
    }
}

#[actix_web::test]
async fn range_of_a_compressible_response_reaches_only_clients_that_accept_no_coding() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        let handler = |request: HttpRequest| async move { respond(&request) };
        let cache = cache.clone();
        App::new()
            .wrap(cache)
            .wrap(Compress::default())
            .default_service(actix_web::web::to(handler))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let gzip = ("accept-encoding", "gzip");
    let miss = client.get_with("/page", &[gzip]).await;
    assert_eq!(miss.field("content-encoding").as_deref(), Some("gzip"));
    // The client cannot tell the two representations apart, which have one entity tag.
    for range in ["bytes=5-9", "bytes=5-9,20-24"] {
        let answer = client.get_with("/page", &[gzip, ("range", range)]).await;
        assert_eq!((answer.status, &answer.body), (miss.status, &miss.body), "{range}");
    }
    let answer = client.get_with("/page", &[("range", "bytes=5-9")]).await;
    assert_eq!((answer.status.as_u16(), answer.body), (206, full_body().slice(5..10)));
    assert_eq!(answer.headers.get("content-encoding"), None);
    let several = client.get_with("/page", &[("range", "bytes=5-9,20-24")]).await;
    assert_eq!(several.headers.get("content-encoding"), None);
    assert_eq!(parts(&several.field("content-type").unwrap(), &several.body).len(), 2);
}

#[actix_web::test]
async fn range_of_a_stored_file_equals_that_of_the_file_service() {
    for (protocol, workers) in SETUPS {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("page.txt"), full_body()).unwrap();
        let (cache, _) = cache();
        let root = directory.path().to_owned();
        let start = |cached: bool| {
            let (cache, root) = (cache.clone(), root.clone());
            serve(workers, move || {
                let cache = Condition::new(cached, cache.clone());
                App::new().wrap(cache).service(Files::new("/", &root))
            })
        };
        let (without, with) = (start(false), start(true));
        let (plain, client) =
            (Client::new(without.addr, protocol), Client::new(with.addr, protocol));
        let cold = get_range(&client, "/page.txt", "bytes=5-9").await;
        assert_eq!((cold.status.as_u16(), cold.is_stored()), (206, false), "{protocol:?}");
        assert!(client.get("/page.txt").await.is_stored(), "{protocol:?}");
        for range in ["bytes=0-0", "bytes=5-9", "bytes=-7", "bytes=9990-", "bytes=10000-"] {
            let (direct, cached) = (
                get_range(&plain, "/page.txt", range).await,
                get_range(&client, "/page.txt", range).await,
            );
            assert!(cached.is_hit(), "{range}");
            assert_eq!((direct.status, direct.body), (cached.status, cached.body), "{range}");
            let mut fields = vec!["content-range", "content-length"];
            if cached.status == 206 {
                fields.extend(["content-type", "etag", "last-modified", "accept-ranges"]);
            }
            for field in fields {
                let of = |headers: &hyper::HeaderMap| headers.get(field).cloned();
                assert_eq!(of(&direct.headers), of(&cached.headers), "{field} of {range}");
            }
        }
    }
}

#[actix_web::test]
async fn partial_response_never_answers_a_request_for_the_full_response() {
    let (cache, _) = cache();
    let app = test_app(&cache, |request, _| {
        if request.headers().contains_key("range") {
            HttpResponse::PartialContent()
                .append_header(("content-range", "bytes 0-1/4"))
                .append_header(("cache-control", "max-age=60"))
                .body("pa")
        } else {
            HttpResponse::Ok().body("page")
        }
    });
    for _ in 0..2 {
        let partial = app.client.get_with("/", &[("range", "bytes=0-1")]).await;
        assert_eq!(
            (partial.status.as_u16(), partial.text(), partial.is_stored()),
            (206, "pa", false)
        );
    }
    let full = app.client.get("/").await;
    assert_eq!((full.status.as_u16(), full.text(), full.is_hit()), (200, "page", false));
    let hit = app.client.get("/").await;
    assert_eq!((hit.status.as_u16(), hit.text(), hit.is_hit()), (200, "page", true));
}

/// The conditions of the cache replace the client's `Range`, so the cache itself must cut the range
/// from the validated response.
#[actix_web::test]
async fn range_is_cut_from_a_fresh_response_that_the_client_wants_validated() {
    let forwarded = format!("if-none-match: \"a\"; if-modified-since: {EARLY}");
    let (range, validated) = (("range", "bytes=0-99"), "fwd=request; fwd-status=304; stored");
    let full = full_body();
    for policy in [Policy::new().honor_request_directives(), Policy::rfc9111()] {
        for directive in ["no-cache", "max-age=0"] {
            let (builder, clock) = builder();
            let (app, recorded) = ranges_app(&builder.policy(policy.clone()).build().unwrap());
            for (path, fields, status, body, cache_status) in [
                ("/page", &[range][..], 206, full.slice(..100), validated),
                ("/page", &[range, ("if-range", "\"a\"")], 206, full.slice(..100), validated),
                ("/page", &[range, ("if-range", "\"b\"")], 200, full.clone(), validated),
                ("/page", &[("range", "bytes=10000-")], 416, Bytes::new(), validated),
                ("/new/1", &[range], 206, full.slice(..100), "fwd=request; stored"),
                (
                    "/new",
                    &[range, ("if-range", "\"a\"")],
                    200,
                    full.slice(5..),
                    "fwd=request; stored",
                ),
            ] {
                let case = format!("{directive}, {path} {fields:?}");
                app.client.get(path).await;
                clock.advance(secs(1));
                recorded.take();
                let fields = [fields, &[("cache-control", directive)]].concat();
                let answer = app.client.get_with(path, &fields).await;
                assert_eq!(
                    (answer.status.as_u16(), answer.body.len()),
                    (status, body.len()),
                    "{case}"
                );
                assert!(answer.body == body, "{case}");
                assert_eq!(answer.cache_status(), cache_status, "{case}");
                assert_eq!(recorded.take(), [&*forwarded], "{case}");
            }
        }
    }
}
