//! The cache inside and outside of `Compress`, and responses that a handler encoded itself.

use std::sync::Mutex;

use actix_web::{
    App, HttpRequest, HttpResponse,
    http::{StatusCode, header},
    middleware::{Compress, Condition},
    web,
};
use actix_web_cache::Policy;
use hyper::Method;

use crate::semantics::fields::fields_without_report;
use crate::support::{
    Answer, Client, Protocol, SETUPS, Server, Wire, builder, cache, runs_in_own_process, secs,
    serve, with_entity_tag,
};

/// A body long enough to be compressed.
async fn page() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("a page ".repeat(200))
}

const GZIP: &[(&str, &str)] = &[("accept-encoding", "gzip")];
const PLAIN: &[(&str, &str)] = &[];

/// Returns whether the response is complete, and compressed exactly if `gzip` is set.
fn is_page(answer: &Answer, gzip: bool) -> bool {
    let length = 7 * 200_u32;
    match answer.field("content-encoding").as_deref() {
        // The last four bytes are the decoded length (RFC 1952 section 2.3.1).
        Some("gzip") => {
            gzip && answer.body.starts_with(&[0x1f, 0x8b])
                && answer.body.ends_with(&length.to_le_bytes())
        }
        None => !gzip && answer.text() == "a page ".repeat(200),
        Some(_) => false,
    }
}

#[actix_web::test]
async fn cache_inside_compress_stores_one_entry_for_all_codings() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            App::new().route("/", web::get().to(page)).wrap(cache.clone()).wrap(Compress::default())
        });
        let client = Client::new(server.addr, protocol);
        for (round, fields) in [GZIP, PLAIN, GZIP, PLAIN].into_iter().enumerate() {
            let answer = client.get_with("/", fields).await;
            assert_eq!(answer.is_hit(), round > 0, "{round} by {protocol:?}");
            assert!(is_page(&answer, fields == GZIP), "{round} by {protocol:?}");
            let varies = answer.field("vary").is_some_and(|vary| vary.contains("accept-encoding"));
            assert_eq!(varies, fields == GZIP, "{round} by {protocol:?}");
        }
    }
}

#[actix_web::test]
async fn cache_outside_compress_stores_one_variant_per_coding() {
    for (protocol, workers) in SETUPS {
        let (cache, clock) = cache();
        let server = serve(workers, move || {
            App::new().route("/", web::get().to(page)).wrap(Compress::default()).wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for (round, (fields, status)) in [
            (GZIP, "fwd=uri-miss; stored"),
            (PLAIN, "fwd=vary-miss; stored"),
            (GZIP, "hit; ttl=60"),
            (PLAIN, "hit; ttl=60"),
        ]
        .into_iter()
        .enumerate()
        {
            let answer = client.get_with("/", fields).await;
            assert_eq!(answer.cache_status(), status, "{round} by {protocol:?}");
            assert!(is_page(&answer, fields == GZIP), "{round} by {protocol:?}");
        }
        clock.advance(secs(61));
        for (fields, hit) in [(PLAIN, false), (GZIP, false), (PLAIN, true), (GZIP, true)] {
            let answer = client.get_with("/", fields).await;
            assert_eq!(answer.is_hit(), hit, "{fields:?} by {protocol:?}");
            assert!(is_page(&answer, fields == GZIP), "{fields:?} by {protocol:?}");
        }
    }
}

/// `Compress` states no `Vary` in a response that it does not encode.
#[actix_web::test]
async fn first_client_without_codings_does_not_keep_the_page_uncompressed() {
    const REFUSED: &[(&str, &str)] = &[("accept-encoding", "gzip;q=0, identity")];
    for (protocol, workers) in SETUPS {
        let (cache, clock) = cache();
        let server = serve(workers, move || {
            App::new()
                .route("/", web::get().to(page))
                .route("/small", web::get().to(|| async { "never compressed" }))
                .wrap(Condition::new(true, Compress::default()))
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for fields in [PLAIN, REFUSED] {
            let first = client.get_with("/", fields).await;
            assert!(first.is_stored() && is_page(&first, false), "{fields:?} by {protocol:?}");
            assert!(client.get_with("/", fields).await.is_hit(), "{fields:?} by {protocol:?}");
            let compressed = client.get_with("/", GZIP).await;
            assert!(compressed.is_stored() && is_page(&compressed, true), "{protocol:?}");
            assert!(is_page(&client.get_with("/", fields).await, false), "{protocol:?}");
            assert!(is_page(&client.get_with("/", GZIP).await, true), "{protocol:?}");
            clock.advance(secs(61));
        }
    }
}

/// Once a client that accepts a coding has received the page without one, the page answers everyone,
/// also after a client without codings has refreshed it.
#[actix_web::test]
async fn page_that_is_never_encoded_answers_all_clients_after_one_that_accepts_a_coding() {
    for (protocol, workers) in SETUPS {
        let (cache, clock) = cache();
        let server =
            serve(workers, move || App::new().route("/", web::get().to(page)).wrap(cache.clone()));
        let client = Client::new(server.addr, protocol);
        for (fields, hit) in
            [(PLAIN, false), (PLAIN, true), (GZIP, false), (GZIP, true), (PLAIN, true)]
        {
            let answer = client.get_with("/", fields).await;
            assert_eq!(answer.is_hit(), hit, "{fields:?} by {protocol:?}");
            assert!(is_page(&answer, false));
        }
        clock.advance(secs(61));
        for (fields, hit) in [(PLAIN, false), (GZIP, true), (PLAIN, true)] {
            let answer = client.get_with("/", fields).await;
            assert_eq!(answer.is_hit(), hit, "{fields:?} by {protocol:?}, refreshed");
        }
    }
}

#[actix_web::test]
async fn image_answers_all_clients_whatever_codings_they_accept() {
    let (cache, _) = cache();
    let image = || async { HttpResponse::Ok().content_type("image/png").body("png") };
    let server = serve(1, move || App::new().route("/", web::get().to(image)).wrap(cache.clone()));
    let client = Client::new(server.addr, Protocol::Http1);
    for (fields, hit) in [(PLAIN, false), (GZIP, true), (PLAIN, true)] {
        assert_eq!(client.get_with("/", fields).await.is_hit(), hit, "{fields:?}");
    }
}

#[actix_web::test]
async fn uncoded_response_without_vary_answers_all_clients_under_rfc9111() {
    let (builder, _) = builder();
    let cache = builder.policy(Policy::rfc9111().default_ttl(secs(60))).build().unwrap();
    let server = serve(1, move || App::new().route("/", web::get().to(page)).wrap(cache.clone()));
    let client = Client::new(server.addr, Protocol::Http1);
    for (fields, hit) in [(PLAIN, false), (GZIP, true)] {
        assert_eq!(client.get_with("/", fields).await.is_hit(), hit, "{fields:?}");
    }
}

#[actix_web::test]
async fn codings_select_always_if_the_policy_names_them() {
    let (builder, _) = builder();
    let cache = builder.policy(Policy::new().vary_codings(["br", "gzip"])).build().unwrap();
    let server = serve(1, move || App::new().route("/", web::get().to(page)).wrap(cache.clone()));
    let client = Client::new(server.addr, Protocol::Http1);
    let brotli: &[(&str, &str)] = &[("accept-encoding", "br;q=0.5")];
    let unknown: &[(&str, &str)] = &[("accept-encoding", "zstd")];
    for (fields, hit) in [
        (PLAIN, false),
        (GZIP, false),
        (brotli, false),
        (unknown, false),
        (PLAIN, true),
        (GZIP, true),
        (brotli, true),
        (unknown, true),
    ] {
        let answer = client.get_with("/", fields).await;
        assert_eq!(answer.is_hit(), hit, "{fields:?}");
        let vary = answer.field("vary").unwrap_or_default();
        assert!(vary.contains("accept-encoding"), "{fields:?}: {vary}");
    }
}

/// The compressed and the plain variant share the entity tag of the handler.
#[actix_web::test]
async fn compressed_variant_with_equal_etag_needs_accept_encoding() {
    for policy in [Policy::new(), Policy::rfc9111()] {
        let (builder, _clock) = builder();
        let cache = builder.policy(policy).build().unwrap();
        let server = serve(1, move || {
            let page = |request: HttpRequest| async move {
                let mut response = with_entity_tag(&request, "\"1\"", "page ".repeat(1000));
                response
                    .headers_mut()
                    .insert("cache-control".parse().unwrap(), "max-age=60".parse().unwrap());
                response
            };
            App::new().wrap(Compress::default()).wrap(cache.clone()).default_service(web::to(page))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        let compressed = client.get_with("/", &[("accept-encoding", "gzip")]).await;
        assert_eq!(compressed.field("content-encoding").as_deref(), Some("gzip"));
        let plain = client.get("/").await;
        assert_eq!(plain.field("content-encoding"), None);
        assert!(plain.text().starts_with("page "));
    }
}

/// Collects the warnings of this crate. The test that installs it runs in a process of its own.
struct Warnings(Mutex<Vec<String>>);

impl log::Log for Warnings {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() == log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) && record.target().starts_with("actix_web_cache") {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

#[actix_web::test]
async fn encoded_response_without_vary_is_logged_once() {
    static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));
    if !runs_in_own_process("middleware::compress::encoded_response_without_vary_is_logged_once") {
        return;
    }
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let (cache, _) = cache();
    let server = serve(1, move || {
        let encoded = || {
            let mut response = HttpResponse::Ok();
            response.insert_header((header::CONTENT_ENCODING, "br"));
            response
        };
        App::new()
            .route("/silent", web::get().to(move || async move { encoded().body("br") }))
            .route(
                "/varies",
                web::get().to(move || async move {
                    encoded().insert_header((header::VARY, "Accept-Encoding")).body("br")
                }),
            )
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, warned) in [("/varies", 0), ("/silent", 1), ("/silent?2", 1)] {
        assert!(client.get(path).await.is_stored(), "{path}");
        let warnings = WARNINGS.0.lock().unwrap();
        assert_eq!(warnings.len(), warned, "{path}: {warnings:?}");
        assert!(
            warnings.iter().all(|text| text.contains("Content-Encoding") && text.contains("Vary"))
        );
    }
}

/// `Compress` leaves the entity tag as it is. A range of the stored body would continue the download
/// of the encoded body with other bytes.
#[actix_web::test]
async fn interrupted_download_of_a_compressed_page_is_resumed_from_the_start() {
    let range = |length: &'static str| [("range", length), ("if-range", "\"v1\"")];
    for (case, policy, content_type, accepted, want) in [
        ("accepts gzip", Policy::new(), "text/html", Some("gzip"), 200),
        ("PDF", Policy::new(), "application/pdf", Some("br;q=0, gzip;q=0.5"), 200),
        ("accepts no coding", Policy::new(), "text/html", None, 206),
        ("refuses codings", Policy::new(), "text/html", Some("identity;q=1, *;q=0"), 206),
        ("video", Policy::new(), "video/mp4", Some("gzip"), 206),
        ("image", Policy::new(), "image/png", Some("gzip"), 206),
        ("no Compress", Policy::new().no_compress_outside(), "text/html", Some("gzip"), 206),
        ("reverse proxy", Policy::rfc9111(), "text/html", Some("gzip"), 206),
    ] {
        for (protocol, workers) in SETUPS {
            let cache = builder().0.policy(policy.clone()).build().unwrap();
            let has_compress = !case.starts_with("no Compress") && !case.starts_with("reverse");
            let server = serve(workers, move || {
                let page = move || async move {
                    HttpResponse::Ok()
                        .content_type(content_type)
                        .insert_header((header::ETAG, "\"v1\""))
                        .insert_header((header::CACHE_CONTROL, "max-age=60"))
                        .body("a page ".repeat(200))
                };
                let compress = Condition::new(has_compress, Compress::default());
                App::new().route("/", web::get().to(page)).wrap(cache.clone()).wrap(compress)
            });
            let client = Client::new(server.addr, protocol);
            let coding: Vec<_> =
                accepted.map(|value| ("accept-encoding", value)).into_iter().collect();
            assert!(client.get_with("/", &coding).await.is_stored(), "{case}");
            let fields = [&coding[..], &range("bytes=700-")].concat();
            let answer = client.get_with("/", &fields).await;
            assert_eq!((answer.status.as_u16(), answer.is_hit()), (want, true), "{case}");
            if want == 200 {
                assert!(is_page(&answer, true), "{case}: the whole encoded page");
            } else {
                assert_eq!(answer.text(), "a page ".repeat(100), "{case}");
                assert_eq!(answer.field("content-encoding"), None, "{case}");
            }
            // A range that cannot be satisfied is answered from the same representation.
            let fields = [&coding[..], &[("range", "bytes=99999-")]].concat();
            let beyond = client.get_with("/", &fields).await;
            assert_eq!(beyond.status.as_u16(), if want == 200 { 200 } else { 416 }, "{case}");
        }
    }
}

/// Serves responses with and without content, with `Compress` outside of the cache.
fn serve_kinds(workers: usize) -> Server {
    let policy = Policy::new().honor_request_directives();
    let cache = builder().0.policy(policy).build().unwrap();
    serve(workers, move || {
        let kind = |request: HttpRequest| async move {
            let mut response = HttpResponse::Ok();
            response.insert_header((header::CACHE_CONTROL, "max-age=60"));
            response.insert_header((header::ETAG, "\"a\"")).content_type("text/plain");
            match request.path() {
                "/204" => response.status(StatusCode::NO_CONTENT).finish(),
                "/empty" => response.body(""),
                "/video" => response.content_type("video/mp4").body("a page ".repeat(200)),
                _ => response.body("a page ".repeat(200)),
            }
        };
        App::new().default_service(web::to(kind)).wrap(cache.clone()).wrap(Compress::default())
    })
}

/// `Compress` must not make content for a response that has none.
#[actix_web::test]
async fn hit_without_content_is_not_encoded() {
    for (protocol, workers) in SETUPS {
        let server = serve_kinds(workers);
        let client = Client::new(server.addr, protocol);
        for coding in ["gzip", "deflate", "br, zstd, gzip"] {
            for (path, field, status, length) in [
                ("/page", Some(("if-none-match", "\"a\"")), 304, None),
                ("/204", None, 204, None),
                ("/empty", None, 200, Some("0")),
                ("/video", Some(("range", "bytes=99999-")), 416, Some("0")),
                ("/cold", Some(("cache-control", "only-if-cached")), 504, Some("0")),
            ] {
                let case = format!("{status} of {path} for {coding} by {protocol:?}");
                if status != 504 {
                    client.get_with(path, GZIP).await;
                }
                let fields: Vec<_> =
                    [("accept-encoding", coding)].into_iter().chain(field).collect();
                let answer = client.get_with(path, &fields).await;
                assert_eq!((answer.status.as_u16(), answer.body.len()), (status, 0), "{case}");
                assert_eq!(answer.is_hit(), status != 504, "{case}");
                assert_eq!(answer.field("content-encoding"), None, "{case}");
                assert_eq!(answer.field("content-length").as_deref(), length, "{case}");
                let vary: Vec<_> = answer.headers.get_all("vary").iter().collect();
                assert!(vary.len() <= 1, "{case}: {vary:?}");
            }
        }
    }
}

/// A byte of content behind such a response would become the beginning of the next one.
#[actix_web::test]
async fn connection_continues_after_hits_without_content_behind_compress() {
    let server = serve_kinds(1);
    let mut wire = Wire::open(server.addr);
    for path in ["/page", "/204", "/empty", "/video"] {
        wire.get(path, "");
    }
    let gzip = "Accept-Encoding: gzip\r\n";
    for (path, field, status) in [
        ("/page", "If-None-Match: \"a\"\r\n", 304),
        ("/204", "", 204),
        ("/empty", "", 200),
        ("/video", "Range: bytes=99999-\r\n", 416),
        ("/cold", "Cache-Control: only-if-cached\r\n", 504),
    ] {
        let message = wire.get(path, &format!("{gzip}{field}"));
        assert_eq!((message.status, message.body.len()), (status, 0), "{path}");
        assert_eq!(message.line("transfer-encoding"), None, "{path}");
        let head = wire.head("/page");
        assert_eq!((head.status, head.is_hit()), (200, true), "after {path}");
        let next = wire.get("/page", "");
        assert_eq!((next.is_hit(), next.text()), (true, &*"a page ".repeat(200)), "after {path}");
    }
}

#[actix_web::test]
async fn head_of_an_encoded_hit_has_the_fields_of_get() {
    for (protocol, workers) in SETUPS {
        let server = serve_kinds(workers);
        let client = Client::new(server.addr, protocol);
        client.get_with("/page", GZIP).await;
        for fields in [GZIP, PLAIN] {
            let get = client.get_with("/page", fields).await;
            let head = client.send(Method::HEAD, "/page", fields).await;
            assert!(get.is_hit() && head.is_hit() && head.body.is_empty(), "{protocol:?}");
            assert_eq!(fields_without_report(&head), fields_without_report(&get), "{protocol:?}");
            assert_eq!(get.field("content-encoding").is_some(), fields == GZIP, "{protocol:?}");
        }
    }
}
