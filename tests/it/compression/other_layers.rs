//! Coded copies behind actix's `Compress`, which stays outside of the cache for responses that are not
//! stored.

use actix_web::{App, HttpRequest, HttpResponse, middleware::Compress, web};
use actix_web_cache::{Cache, Compression, Policy};
use hyper::Method;

use super::{ETAG, decoded, get_coded, page, until};
use crate::support::{Answer, Client, Protocol, SETUPS, Server, builder, secs, serve};

const GZIP: &[(&str, &str)] = &[("accept-encoding", "gzip")];

fn cache() -> Cache {
    let policy = Policy::new().default_ttl(secs(60)).compress(Compression::new());
    builder().0.policy(policy).build().unwrap()
}

async fn handler(request: HttpRequest) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    response.content_type("text/html").insert_header(("etag", ETAG));
    match request.path() {
        "/empty" => response.body(""),
        "/no-content" => HttpResponse::NoContent().finish(),
        "/not-stored" => response.insert_header(("cache-control", "no-store")).body(page()),
        _ => response.body(page()),
    }
}

/// The order that the guide recommends: `Compress` outside.
fn serve_inside(workers: usize) -> Server {
    let cache = cache();
    serve(workers, move || {
        App::new().default_service(web::to(handler)).wrap(cache.clone()).wrap(Compress::default())
    })
}

fn is_page_in(answer: &Answer, coding: Option<&str>) -> bool {
    answer.field("content-encoding").as_deref() == coding
        && match coding {
            Some(coding) => decoded(coding, &answer.body) == page().as_bytes(),
            None => answer.body == page().as_bytes(),
        }
}

/// Returns the copy that the cache made. `Compress` codes the page as well while there is none, but
/// with a weak tag.
async fn copy(client: &Client, coding: &str) -> Answer {
    let request = async || get_coded(client, "/", coding).await;
    until(request, |answer| answer.field("etag").unwrap().starts_with('"')).await
}

#[actix_web::test]
async fn compress_outside_leaves_copies_as_they_are() {
    for (protocol, workers) in SETUPS {
        let server = serve_inside(workers);
        let client = Client::new(server.addr, protocol);
        for coding in super::CODINGS {
            let hit = copy(&client, coding).await;
            let case = format!("{coding} by {protocol:?}");
            assert!(hit.is_hit() && is_page_in(&hit, Some(coding)), "{case}");
            let tag = hit.field("etag").unwrap();
            assert!(tag.contains(&format!("~{coding}-")), "{case}: {tag}");
            let accept = ("accept-encoding", coding);
            let head = client.send(Method::HEAD, "/", &[accept]).await;
            for name in ["etag", "content-encoding", "content-length"] {
                assert_eq!(head.field(name), hit.field(name), "{name} of HEAD, {case}");
            }
            let resumed = [accept, ("range", "bytes=5-9"), ("if-range", &*tag)];
            let part = client.get_with("/", &resumed).await;
            assert_eq!((part.status.as_u16(), &part.body[..]), (206, &hit.body[5..10]), "{case}");
            assert_eq!(part.field("content-encoding").as_deref(), Some(coding), "{case}");
            let known = client.get_with("/", &[accept, ("if-none-match", &tag)]).await;
            assert_eq!((known.status.as_u16(), known.field("etag")), (304, Some(tag)), "{case}");
            assert!(known.body.is_empty() && known.field("content-encoding").is_none(), "{case}");
            let beyond = client.get_with("/", &[accept, ("range", "bytes=90000-")]).await;
            assert_eq!(beyond.status.as_u16(), 416, "{case}");
            assert!(beyond.field("content-encoding").is_none(), "{case}");
        }
    }
}

/// A response that leaves the cache uncoded, and that `Compress` may code, has a weak tag and no ranges.
#[actix_web::test]
async fn uncoded_page_for_a_client_with_codings_has_a_weak_tag_and_no_ranges() {
    let server = serve_inside(1);
    let client = Client::new(server.addr, Protocol::Http1);
    let weak = format!("W/{ETAG}");
    let miss = client.get_with("/", GZIP).await;
    assert!(is_page_in(&miss, Some("gzip")), "coded by Compress");
    assert_eq!(miss.field("etag"), Some(weak.clone()));
    // deflate is a coding of Compress, but not of the cache.
    let deflate = ("accept-encoding", "deflate");
    let hit = client.get_with("/", &[deflate, ("range", "bytes=5-9")]).await;
    assert_eq!((hit.status.as_u16(), hit.field("etag")), (200, Some(weak)));
    assert_eq!(hit.field("content-encoding").as_deref(), Some("deflate"));
    let known = client.get_with("/", &[deflate, ("if-none-match", ETAG)]).await;
    assert_eq!(known.status.as_u16(), 304);
    let resumed = [deflate, ("range", "bytes=5-9"), ("if-range", ETAG)];
    assert_eq!(client.get_with("/", &resumed).await.status.as_u16(), 200);
    let plain = client.get_with("/", &[("range", "bytes=5-9"), ("if-range", ETAG)]).await;
    assert_eq!((plain.status.as_u16(), plain.text()), (206, &page()[5..10]));
}

#[actix_web::test]
async fn responses_without_content_and_those_not_stored_are_as_without_copies() {
    for (protocol, workers) in SETUPS {
        let server = serve_inside(workers);
        let client = Client::new(server.addr, protocol);
        for round in 0..3 {
            let case = format!("round {round} by {protocol:?}");
            let empty = client.get_with("/empty", GZIP).await;
            assert!(empty.status == 200 && empty.body.is_empty(), "{case}");
            assert_eq!(empty.field("content-encoding"), None, "{case}");
            let none = client.get_with("/no-content", GZIP).await;
            assert!(none.status == 204 && none.field("content-encoding").is_none(), "{case}");
            let passed = client.get_with("/not-stored", GZIP).await;
            assert!(is_page_in(&passed, Some("gzip")) && !passed.is_hit(), "{case}");
        }
    }
}

/// The wrong order: the cache stores what `Compress` makes of the page for each coding.
#[actix_web::test]
async fn compress_inside_codes_and_the_cache_stores_what_it_gets() {
    for (protocol, workers) in SETUPS {
        let cache = cache();
        let server = serve(workers, move || {
            App::new()
                .default_service(web::to(handler))
                .wrap(Compress::default())
                .wrap(cache.clone())
        });
        let client = Client::new(server.addr, protocol);
        for coding in super::CODINGS.into_iter().chain(["gzip"]) {
            let accept = [("accept-encoding", coding)];
            let miss = client.get_with("/", &accept).await;
            assert!(is_page_in(&miss, Some(coding)), "{coding} by {protocol:?}");
            let hit = client.get_with("/", &accept).await;
            assert!(hit.is_hit() && is_page_in(&hit, Some(coding)), "{coding} by {protocol:?}");
        }
        let plain = client.get("/").await;
        assert!(is_page_in(&plain, None), "by {protocol:?}");
    }
}
