//! Conditions and ranges of clients that have a response as it was coded while it was sent. No client
//! joins a range to other bytes.

use actix_web::HttpResponse;
use actix_web_cache::{Cache, Rule};
use hyper::Method;

use super::{ETAG, compressing, page, policy, streamed};
use crate::support::{HookedStore, SharedLines, TestApp, builder, secs, test_app, with_entity_tag};

const DATE: &str = "Tue, 14 Nov 2023 22:13:20 GMT";

/// An application with a page that has an entity tag and a date. It records the ranges for which the
/// handler is asked, and answers them.
fn dated_app(cache: &Cache) -> (TestApp, SharedLines) {
    let lines = SharedLines::default();
    let recorded = lines.clone();
    let app = test_app(cache, move |request, _| {
        let field = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap());
        recorded.add(field("range").unwrap_or("none").to_owned());
        let mut response = with_entity_tag(request, ETAG, page());
        for (name, value) in [("content-type", "text/html"), ("last-modified", DATE)] {
            response.headers_mut().insert(name.parse().unwrap(), value.parse().unwrap());
        }
        if field("range").is_some() {
            let mut part = HttpResponse::PartialContent();
            part.content_type("text/html").insert_header(("etag", ETAG));
            let range = format!("bytes 5-9/{}", page().len());
            return part.insert_header(("content-range", range)).body(page()[5..10].to_owned());
        }
        response
    });
    (app, lines)
}

/// A store without copies, so that hits are coded while they are sent.
fn cache() -> Cache {
    let builder = Cache::builder(HookedStore::new()).policy(policy());
    builder.rule(Rule::prefix("/bypass").bypass()).build().unwrap()
}

/// A 304 with the strong tag would let the client join a range of the page to the coded page.
#[actix_web::test]
async fn client_with_a_streamed_page_gets_304_with_a_weak_tag() {
    let (app, _) = dated_app(&cache());
    let weak = &*format!("W/{ETAG}");
    let both = &*format!("{weak}, {ETAG}");
    for path in ["/", "/", "/bypass", "/post"] {
        for (accepted, named, tag) in [
            ("gzip", weak, weak),
            ("gzip", both, ETAG),
            ("gzip", ETAG, ETAG),
            ("gzip, identity;q=0", weak, weak),
            ("", ETAG, ETAG),
        ] {
            let fields = [("accept-encoding", accepted), ("if-none-match", named)];
            let answer = app.client.get_with(path, &fields).await;
            let case = format!("{path}, {accepted:?} with {named}: {}", answer.cache_status());
            assert_eq!(
                (answer.status.as_u16(), answer.field("etag").as_deref()),
                (304, Some(tag)),
                "{case}"
            );
            for name in ["content-encoding", "content-length"] {
                assert_eq!(answer.field(name), None, "{name}: {case}");
            }
            assert!(answer.field("vary").unwrap().contains("accept-encoding"), "{case}");
        }
        let fields = [("accept-encoding", "gzip"), ("if-modified-since", DATE)];
        let answer = app.client.get_with(path, &fields).await;
        if answer.status == 304 {
            assert_eq!(answer.field("etag").as_deref(), Some(weak), "{path} by its date");
        }
    }
}

/// A stale page is validated for a client that has it as it was coded.
#[actix_web::test]
async fn revalidated_page_keeps_the_weak_tag_of_the_client() {
    let (builder, clock) = compressing();
    let (app, _) = dated_app(&builder.build().unwrap());
    let weak = format!("W/{ETAG}");
    let first = app.client.get_with("/", &[("accept-encoding", "gzip")]).await;
    assert_eq!(first.field("etag").as_deref(), Some(&*weak));
    clock.advance(secs(61));
    let fields = [("accept-encoding", "br"), ("if-none-match", &*weak)];
    let answer = app.client.get_with("/", &fields).await;
    assert!(answer.cache_status().contains("fwd-status=304"), "{}", answer.cache_status());
    assert_eq!((answer.status.as_u16(), answer.field("etag")), (304, Some(weak)));
    clock.advance(secs(61));
    let answer = app.client.get_with("/", &[("accept-encoding", "br")]).await;
    assert!(streamed(&answer, "br", "revalidated") == page().as_bytes());
}

#[actix_web::test]
async fn range_is_a_part_of_the_uncoded_page_and_has_its_strong_tag() {
    let (app, lines) = dated_app(&cache());
    app.client.get("/").await;
    let weak = &*format!("W/{ETAG}");
    for (path, if_range, status) in [
        ("/", None, 206),
        ("/", Some(ETAG), 206),
        ("/", Some(weak), 200),
        ("/", Some(DATE), 200),
        ("/bypass", None, 206),
        ("/bypass", Some(ETAG), 206),
        ("/bypass", Some(DATE), 200),
        ("/not-stored-yet", Some(DATE), 200),
    ] {
        let mut fields = vec![("accept-encoding", "gzip"), ("range", "bytes=5-9")];
        fields.extend(if_range.map(|value| ("if-range", value)));
        lines.take();
        let answer = app.client.get_with(path, &fields).await;
        let case = format!("{path} if {if_range:?}: {}", answer.cache_status());
        assert_eq!(answer.status.as_u16(), status, "{case}");
        if status == 206 {
            assert_eq!(
                (answer.text(), answer.field("content-encoding")),
                (&page()[5..10], None),
                "{case}"
            );
            assert_eq!(answer.field("etag").as_deref(), Some(ETAG), "{case}");
        } else {
            assert!(lines.take().iter().all(|range| range == "none"), "{case}");
        }
    }
    // A client that accepts no coding has the page as it is.
    let fields = [("range", "bytes=5-9"), ("if-range", DATE)];
    let answer = app.client.get_with("/bypass", &fields).await;
    assert_eq!(answer.status.as_u16(), 206);
}

/// A client that refuses the page as it is gets no range of it.
#[actix_web::test]
async fn client_that_refuses_the_uncoded_page_gets_the_coded_page_instead_of_a_range() {
    let (app, _) = dated_app(&cache());
    app.client.get("/").await;
    let fields = [("accept-encoding", "gzip, identity;q=0"), ("range", "bytes=5-9")];
    let answer = app.client.get_with("/", &fields).await;
    assert!(answer.is_hit() && streamed(&answer, "gzip", "range") == page().as_bytes());
}

/// HEAD without a body from the handler: the client cannot tell the strong tag from that of the coded
/// page.
#[actix_web::test]
async fn head_without_a_length_has_a_weak_tag() {
    let builder = builder().0.policy(policy()).rule(Rule::prefix("/").bypass());
    let app = test_app(&builder.build().unwrap(), |_, _| {
        HttpResponse::Ok().content_type("text/html").insert_header(("etag", ETAG)).finish()
    });
    let fields = [("accept-encoding", "gzip")];
    let head = app.client.send(Method::HEAD, "/", &fields).await;
    assert_eq!(head.field("etag"), Some(format!("W/{ETAG}")));
    assert_eq!(head.field("vary").as_deref(), Some("accept-encoding"));
    let plain = app.client.head("/").await;
    assert_eq!(plain.field("etag").as_deref(), Some(ETAG));
}
