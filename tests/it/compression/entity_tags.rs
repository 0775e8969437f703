//! Conditional requests for a page with copies in content codings.

use super::{CODINGS, ETAG, Site, compressing, page};
use crate::support::secs;

/// Sends a request with `If-None-Match`, and returns the status and the entity tag of the response.
async fn validate(site: &Site, accepted: &str, tags: &str) -> (u16, String) {
    let fields = [("accept-encoding", accepted), ("if-none-match", tags)];
    let answer = site.client.get_with("/", &fields).await;
    let names = ["content-encoding", "content-length", "content-type"];
    if answer.status == 304 {
        assert!(answer.body.is_empty() && names.iter().all(|name| answer.field(name).is_none()));
        assert_eq!(answer.field("vary").as_deref(), Some("Cookie, accept-encoding"));
    }
    (answer.status.as_u16(), answer.field("etag").unwrap())
}

#[actix_web::test]
async fn client_with_a_copy_gets_304_with_the_tag_of_this_copy() {
    let (builder, _) = compressing();
    let site = Site::new(&builder.build().unwrap());
    let mut tags = Vec::new();
    for coding in CODINGS {
        tags.push(site.get_coded("/", coding).await.field("etag").unwrap());
    }
    let [br, zstd, gzip] = &tags[..] else { panic!("{tags:?}") };
    let both = &format!("{gzip}, {br}");
    let weak = &format!("W/{gzip}");
    for (accepted, sent, status, tag) in [
        ("gzip", &**gzip, 304, &**gzip),
        ("gzip", weak, 304, gzip),
        ("gzip, br", br, 304, br),
        // The client prefers br, but has gzip.
        ("gzip, br", gzip, 304, gzip),
        ("gzip, br", both, 304, br),
        ("gzip", both, 304, gzip),
        ("zstd", both, 200, zstd),
        ("gzip", br, 200, gzip),
        ("", br, 200, ETAG),
        ("", gzip, 200, ETAG),
        ("", ETAG, 304, ETAG),
        ("gzip", ETAG, 304, ETAG),
        ("gzip, identity;q=0", ETAG, 200, gzip),
        ("br", "*", 304, br),
        ("", "*", 304, ETAG),
        ("br", "\"other\"", 200, br),
    ] {
        let got = validate(&site, accepted, sent).await;
        assert_eq!((got.0, &*got.1), (status, tag), "{accepted:?} with {sent}");
    }
    assert_eq!(site.runs.get(), 1);
}

/// A copy that the cache does not have (any more) is still the page, as long as the page has the
/// same entity tag.
#[actix_web::test]
async fn copy_that_only_the_client_has_is_still_valid() {
    let (builder, clock) = compressing();
    let cache = builder.build().unwrap();
    let site = Site::new(&cache);
    let of_client = "\"page-1~gzip-0123456789abcdef\"";
    let other_page = "\"page-2~gzip-0123456789abcdef\"";
    for round in ["miss", "hit", "refreshed"] {
        assert_eq!(
            validate(&site, "gzip", of_client).await,
            (304, of_client.to_owned()),
            "{round}"
        );
        assert_eq!(validate(&site, "br", of_client).await.0, 200, "{round}");
        assert_eq!(validate(&site, "gzip", other_page).await.0, 200, "{round}");
        if round == "hit" {
            clock.advance(secs(61));
        }
    }
    assert_eq!(site.runs.get(), 2);
}

/// The tag of a copy depends on its bytes, so no client joins parts of different copies.
#[actix_web::test]
async fn range_is_cut_from_the_copy_whose_tag_the_request_names() {
    let (builder, _) = compressing();
    let site = Site::new(&builder.build().unwrap());
    let gzip = site.get_coded("/", "gzip").await;
    let br = site.get_coded("/", "br").await;
    let (gzip_tag, br_tag) = (gzip.field("etag").unwrap(), br.field("etag").unwrap());
    let page = page();
    let wrong_digest = gzip_tag.replacen("gzip-", "gzip-0", 1).replace("0\"", "\"");
    let date = "Tue, 14 Nov 2023 22:13:20 GMT";
    for (accepted, if_range, coding, whole, is_part) in [
        ("gzip", Some(&*gzip_tag), Some("gzip"), &gzip.body[..], true),
        ("gzip, br", Some(&gzip_tag), Some("gzip"), &gzip.body, true),
        ("gzip, br", Some(&br_tag), Some("br"), &br.body, true),
        ("gzip, br", None, Some("br"), &br.body, true),
        // The download began before there was a copy.
        ("gzip, br", Some(ETAG), None, page.as_bytes(), true),
        ("", Some(ETAG), None, page.as_bytes(), true),
        ("", None, None, page.as_bytes(), true),
        ("gzip", Some(&br_tag), Some("gzip"), &gzip.body, false),
        ("", Some(&gzip_tag), None, page.as_bytes(), false),
        ("gzip", Some(&wrong_digest), Some("gzip"), &gzip.body, false),
        ("gzip", Some("W/\"page-1\""), Some("gzip"), &gzip.body, false),
        ("gzip", Some(date), Some("gzip"), &gzip.body, false),
    ] {
        let mut fields = vec![("accept-encoding", accepted), ("range", "bytes=100-199")];
        fields.extend(if_range.map(|tag| ("if-range", tag)));
        let answer = site.client.get_with("/", &fields).await;
        let case = format!("{accepted:?} with {if_range:?}");
        assert_eq!(answer.field("content-encoding").as_deref(), coding, "{case}");
        if is_part {
            assert_eq!(answer.status, 206, "{case}");
            assert!(answer.body == whole[100..200], "{case}");
            let range = format!("bytes 100-199/{}", whole.len());
            assert_eq!(answer.field("content-range"), Some(range), "{case}");
        } else {
            assert!(answer.status == 200 && answer.body == whole, "{case}: {}", answer.status);
        }
    }
    let far = [("accept-encoding", "gzip"), ("range", "bytes=40000-")];
    let answer = site.client.get_with("/", &far).await;
    let length = Some(format!("bytes */{}", gzip.body.len()));
    assert_eq!((answer.status.as_u16(), answer.field("content-range")), (416, length));
}
