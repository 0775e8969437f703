//! Each client gets the page in its coding, byte for byte.

use std::fs;

use actix_files::Files;
use actix_web::App;
use hyper::Method;
use tempfile::TempDir;

use super::{CODINGS, ETAG, Site, compressing, decoded, get_coded, page};
use crate::support::{Client, Protocol, SETUPS, secs, serve};

#[actix_web::test]
async fn page_of_one_handler_call_is_served_in_each_coding() {
    for (protocol, workers) in SETUPS {
        let (builder, _) = compressing();
        let site = Site::with(&builder.build().unwrap(), workers, protocol);
        let mut tags = vec![ETAG.to_owned()];
        for coding in CODINGS {
            let coded = site.get_coded("/", coding).await;
            assert!(coded.is_hit() && coded.status == 200, "{coding} by {protocol:?}");
            assert!(coded.body.len() < page().len() / 4, "{coding}: {} bytes", coded.body.len());
            assert!(decoded(coding, &coded.body) == page().as_bytes(), "{coding} by {protocol:?}");
            assert_eq!(coded.field("vary").as_deref(), Some("Cookie, accept-encoding"));
            assert_eq!(coded.field("content-length"), Some(coded.body.len().to_string()));
            assert_eq!(coded.field("content-type").as_deref(), Some("text/html; charset=utf-8"));
            tags.push(coded.field("etag").unwrap());
            let fields = [("accept-encoding", coding)];
            let head = site.client.send(Method::HEAD, "/", &fields).await;
            for name in ["etag", "content-encoding", "content-length", "vary"] {
                assert_eq!(head.field(name), coded.field(name), "{name} of HEAD, {coding}");
            }
        }
        let plain = site.client.get("/").await;
        assert_eq!((plain.text(), plain.field("content-encoding")), (&*page(), None));
        assert_eq!(plain.field("vary").as_deref(), Some("Cookie, accept-encoding"));
        assert_eq!(plain.field("etag").as_deref(), Some(ETAG));
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), 4, "each representation has its tag: {tags:?}");
        assert!(tags.iter().all(|tag| tag.starts_with('"')), "the tags are strong: {tags:?}");
        assert_eq!(site.runs.get(), 1, "{protocol:?}");
    }
}

/// A client that accepts no coding learns that others get one.
#[actix_web::test]
async fn miss_without_a_coding_has_vary_and_the_page_as_the_handler_sent_it() {
    let (builder, _) = compressing();
    let site = Site::new(&builder.build().unwrap());
    let miss = site.get("/", "").await;
    assert_eq!((miss.text(), miss.field("content-encoding")), (&*page(), None));
    assert_eq!(miss.field("vary").as_deref(), Some("Cookie, accept-encoding"));
    assert_eq!(miss.field("etag").as_deref(), Some(ETAG));
}

/// A refresh that brings the same page keeps the copies. Another page gets new ones.
#[actix_web::test]
async fn refreshed_page_keeps_its_copies() {
    let (builder, clock) = compressing();
    let site = Site::new(&builder.build().unwrap());
    let before = site.get_coded("/", "gzip").await;
    clock.advance(secs(61));
    let refreshed = site.get("/", "br").await;
    assert!(!refreshed.is_hit() && site.runs.get() == 2);
    let after = site.get("/", "gzip").await;
    assert_eq!(after.field("content-encoding").as_deref(), Some("gzip"), "without a wait");
    assert_eq!((&after.body, after.field("etag")), (&before.body, before.field("etag")));
}

#[actix_web::test]
async fn preferred_copy_is_made_after_the_first_request_already() {
    let (builder, _) = compressing();
    let site = Site::with(&builder.build().unwrap(), 2, Protocol::Http2);
    site.get("/", "zstd, gzip;q=0.5").await;
    let coded = site.get_coded("/", "zstd").await;
    assert!(decoded("zstd", &coded.body) == page().as_bytes());
}

/// `Files` answers the validation of the cache with 304, and the copy stays.
#[actix_web::test]
async fn validated_file_keeps_its_copies() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("page.html"), page()).unwrap();
    let (builder, clock) = compressing();
    let (cache, path) = (builder.build().unwrap(), folder.path().to_owned());
    let server = serve(1, move || App::new().service(Files::new("/", &path)).wrap(cache.clone()));
    let client = Client::new(server.addr, Protocol::Http1);
    let before = get_coded(&client, "/page.html", "gzip").await;
    clock.advance(secs(61));
    for is_hit in [false, true] {
        let after = client.get_with("/page.html", &[("accept-encoding", "gzip")]).await;
        assert_eq!(after.is_hit(), is_hit);
        let status = after.cache_status();
        assert!(is_hit || status.contains("fwd-status=304"), "{status}");
        assert_eq!((&after.body, after.field("etag")), (&before.body, before.field("etag")));
    }
}
