//! Entity tags that the cache makes from the content of responses.

use std::sync::{Arc, Mutex};

use actix_web::{
    App, HttpRequest, HttpResponse, body::BodyStream, http::header, middleware::Compress, web,
};
use actix_web_cache::{
    Cache, ManualClock, MemoryStore, Policy,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Store, StoreError,
        StoredResponse, UrlKey,
    },
};
use bytes::Bytes;
use futures_util::stream;

use crate::support::{
    Client, Protocol, START, SharedLines, TestApp, builder, cache, conditions, secs, serve, store,
    test_app,
};

/// The tag of the text `page` without a `Content-Type`.
const PAGE_TAG: &str = "W/\"fb7443f4c6573b93167f3d5fd2276278\"";

fn page(_: &HttpRequest, _: usize) -> HttpResponse {
    HttpResponse::Ok().body("page")
}

fn stream_of(body: &'static str) -> HttpResponse {
    let chunks = body.as_bytes().chunks(3).map(|chunk| Ok::<_, std::io::Error>(chunk.into()));
    HttpResponse::Ok().body(BodyStream::new(stream::iter(chunks.collect::<Vec<_>>())))
}

async fn tag_of(app: &TestApp, path: &str) -> String {
    app.client.get(path).await.field("etag").unwrap()
}

#[actix_web::test]
async fn client_gets_304_from_the_store_and_after_a_miss() {
    let (cache, clock) = cache();
    let app = test_app(&cache, page);
    let first = app.client.get("/").await;
    assert!(first.is_stored());
    assert_eq!(first.field("etag").as_deref(), Some(PAGE_TAG));
    let hit = app.client.get("/").await;
    assert_eq!((hit.is_hit(), hit.field("etag").as_deref()), (true, Some(PAGE_TAG)));
    let fields = [("if-none-match", PAGE_TAG)];
    for (seconds, hit) in [(0, true), (61, false)] {
        clock.advance(secs(seconds));
        let unchanged = app.client.get_with("/", &fields).await;
        assert_eq!((unchanged.status.as_u16(), unchanged.is_hit()), (304, hit));
        assert_eq!(unchanged.field("etag").as_deref(), Some(PAGE_TAG));
        assert!(unchanged.body.is_empty());
    }
    let other = app.client.get_with("/", &[("if-none-match", "W/\"other\"")]).await;
    assert_eq!((other.status.as_u16(), other.text()), (200, "page"));
}

#[actix_web::test]
async fn changed_content_is_sent_with_another_tag() {
    let (cache, clock) = cache();
    let app = test_app(&cache, |_, run| HttpResponse::Ok().body(format!("run {}", run / 2)));
    let first = tag_of(&app, "/").await;
    clock.advance(secs(61));
    let changed = app.client.get_with("/", &[("if-none-match", &first)]).await;
    assert_eq!((changed.status.as_u16(), changed.text()), (200, "run 1"));
    let second = changed.field("etag").unwrap();
    assert_ne!(first, second);
    clock.advance(secs(61));
    let unchanged = app.client.get_with("/", &[("if-none-match", &second)]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.is_stored()), (304, true));
}

/// The head of a stream is sent before its content is known.
#[actix_web::test]
async fn hits_of_a_streamed_response_have_the_tag() {
    let (cache, _) = cache();
    let app = test_app(&cache, |_, _| stream_of("page"));
    let first = app.client.get("/").await;
    assert_eq!((first.text(), first.field("etag")), ("page", None));
    assert_eq!(tag_of(&app, "/").await, PAGE_TAG);
    let unchanged = app.client.get_with("/", &[("if-none-match", PAGE_TAG)]).await;
    assert_eq!((unchanged.status.as_u16(), unchanged.is_hit()), (304, true));
}

#[actix_web::test]
async fn head_answers_from_the_store_with_the_tag() {
    let (cache, _) = cache();
    let app = test_app(&cache, page);
    app.client.get("/").await;
    let head = app.client.head("/").await;
    assert_eq!((head.is_hit(), head.field("etag").as_deref()), (true, Some(PAGE_TAG)));
    let fields = [("if-none-match", PAGE_TAG)];
    let unchanged = app.client.send(hyper::Method::HEAD, "/", &fields).await;
    assert_eq!(unchanged.status, 304);
}

/// A weak tag does not say that two bodies have equal bytes (RFC 9110 section 13.1.5).
#[actix_web::test]
async fn weak_tag_selects_no_range() {
    let policy = Policy::new().no_compress_outside();
    let app = test_app(&builder().0.policy(policy).build().unwrap(), page);
    app.client.get("/").await;
    let range = ("range", "bytes=0-1");
    let whole = app.client.get_with("/", &[range, ("if-range", PAGE_TAG)]).await;
    assert_eq!((whole.status.as_u16(), whole.text()), (200, "page"));
    let part = app.client.get_with("/", &[range]).await;
    assert_eq!((part.status.as_u16(), part.text()), (206, "pa"));
}

/// The handler does not know the tag, so it could only be confused by it.
#[actix_web::test]
async fn handler_never_gets_the_tag() {
    for policy in [Policy::new(), Policy::new().stale_while_revalidate(secs(1000))] {
        let (builder, clock) = builder();
        let recorded = SharedLines::default();
        let handlers = recorded.clone();
        let cache = builder.policy(policy.keep_stale(secs(1000))).build().unwrap();
        let app = test_app(&cache, move |request, run| {
            handlers.add(conditions(request));
            page(request, run)
        });
        let fields = [("if-none-match", PAGE_TAG)];
        for _ in 0..2 {
            app.client.get_with("/", &fields).await;
            app.client.head("/").await;
            clock.advance(secs(61));
        }
        app.client.get_with("/", &fields).await;
        cache.idle().await;
        let seen = recorded.take();
        assert!(seen.len() >= 3, "{seen:?}");
        assert!(seen.iter().all(String::is_empty), "{seen:?}");
    }
}

/// A 304 of the handler can only be about a tag of the handler.
#[actix_web::test]
async fn handlers_304_does_not_match_the_tag() {
    let (cache, clock) = cache();
    let app = test_app(&cache, |request, run| match run {
        2 => HttpResponse::NotModified().insert_header(("etag", PAGE_TAG)).finish(),
        _ => page(request, run),
    });
    app.client.get("/").await;
    clock.advance(secs(61));
    let answer = app.client.get("/").await;
    assert_eq!((answer.status.as_u16(), answer.text(), app.runs.get()), (200, "page", 3));
}

#[actix_web::test]
async fn tag_does_not_count_as_a_validator_of_the_handler() {
    let (cache, _) = cache();
    let app = test_app(&cache, |request, _| match request.path() {
        "/no-cache" => HttpResponse::Ok().insert_header(("cache-control", "no-cache")).body("page"),
        _ => HttpResponse::Ok().body("page"),
    });
    let answer = app.client.get("/no-cache").await;
    assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=no-cache");
    assert_eq!(answer.field("etag"), None, "a response that is not stored has no tag");
}

#[actix_web::test]
async fn only_complete_responses_without_a_validator_have_the_tag() {
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (policy, status, field, want) in [
        (Policy::new(), 200, ("x-a", "1"), Some(PAGE_TAG)),
        (Policy::new(), 200, ("etag", "\"own\""), Some("\"own\"")),
        (Policy::new(), 200, ("last-modified", DATE), None),
        (Policy::new().status_ttl(404, secs(60)), 404, ("x-a", "1"), None),
        (Policy::new().no_content_tags(), 200, ("x-a", "1"), None),
        (Policy::rfc9111(), 200, ("cache-control", "max-age=60"), None),
    ] {
        let app = test_app(&builder().0.policy(policy).build().unwrap(), move |_, _| {
            let status = actix_web::http::StatusCode::from_u16(status).unwrap();
            HttpResponse::build(status).insert_header(field).body("page")
        });
        for _ in 0..2 {
            let answer = app.client.get("/").await;
            assert_eq!(answer.field("etag").as_deref(), want, "{status} {field:?}");
        }
        assert_eq!(app.runs.get(), 1, "{status} {field:?}");
    }
}

#[actix_web::test]
async fn head_of_the_handler_updates_a_response_with_the_tag() {
    let (cache, clock) = cache();
    let app = test_app(&cache, |_, run| {
        HttpResponse::Ok()
            .insert_header(("cache-control", "max-age=60, stale-if-error=1000"))
            .insert_header(("x-run", run))
            .body("page")
    });
    app.client.get("/").await;
    clock.advance(secs(61));
    let head = app.client.head("/").await;
    assert_eq!(head.cache_status(), "fwd=stale; detail=head");
    let hit = app.client.get("/").await;
    assert_eq!((hit.is_hit(), hit.field("x-run").as_deref()), (true, Some("2")));
    assert_eq!(hit.field("etag").as_deref(), Some(PAGE_TAG));
}

/// One weak tag is right for all codings (RFC 9110 section 8.8.3.3).
#[actix_web::test]
async fn tag_stays_right_with_compress_outside() {
    let text = "a page ".repeat(200);
    let (cache, _): (Cache, _) = cache();
    let server = serve(1, move || {
        let text = text.clone();
        let page = move || {
            let response = HttpResponse::Ok()
                .insert_header((header::CONTENT_TYPE, "text/plain"))
                .body(text.clone());
            async { response }
        };
        App::new().wrap(cache.clone()).wrap(Compress::default()).default_service(web::to(page))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let (gzip, plain) = (("accept-encoding", "gzip"), ("accept-encoding", "identity"));
    let mut tags = Vec::new();
    for accept in [gzip, plain, gzip] {
        let answer = client.get_with("/", &[accept]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.field("content-encoding").is_some(), accept == gzip);
        tags.push(answer.field("etag").unwrap());
    }
    assert!(tags.iter().all(|tag| *tag == tags[0] && tag.starts_with("W/")), "{tags:?}");
    for accept in [gzip, plain] {
        let unchanged = client.get_with("/", &[accept, ("if-none-match", &tags[0])]).await;
        assert_eq!((unchanged.status.as_u16(), unchanged.body.len()), (304, 0));
        let range = [accept, ("range", "bytes=0-9"), ("if-range", &tags[0])];
        assert_eq!(client.get_with("/", &range).await.status, 200);
    }
}

/// A store that keeps all bodies that were written to it.
#[derive(Debug, Clone)]
struct BodyRecorder {
    store: MemoryStore,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Store for BodyRecorder {
    fn coordinator(&self) -> &Coordinator {
        self.store.coordinator()
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        self.store.lookup(key, selector).await
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        self.bodies.lock().unwrap().push(response.body().clone());
        self.store.put(key, response, fill).await
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        self.store.remove(key).await
    }

    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        self.store.remove_url(url).await
    }

    async fn invalidate(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        self.store.invalidate(invalidation).await
    }

    fn max_body_size(&self) -> usize {
        self.store.max_body_size()
    }
}

/// An unchanged refresh of a large response takes no further memory.
#[actix_web::test]
async fn unchanged_response_shares_the_stored_body() {
    let bodies = Arc::<Mutex<Vec<Bytes>>>::default();
    let store = BodyRecorder { store: store(), bodies: Arc::clone(&bodies) };
    let clock = ManualClock::at(START);
    let policy = Policy::new().stale_while_revalidate(secs(1000));
    let cache = Cache::builder(store).clock(clock.clock()).policy(policy).build().unwrap();
    let app = test_app(&cache, |request, run| {
        let body = if run % 3 == 0 { "changed" } else { "unchanged" };
        if request.path() == "/stream" { stream_of(body) } else { HttpResponse::Ok().body(body) }
    });
    for path in ["/whole", "/stream"] {
        for _ in 0..3 {
            app.client.get(path).await;
            cache.idle().await;
            clock.advance(secs(61));
        }
        let bodies = std::mem::take(&mut *bodies.lock().unwrap());
        let texts: Vec<_> = bodies.iter().map(|body| &body[..]).collect();
        assert_eq!(texts, [&b"unchanged"[..], b"unchanged", b"changed"], "{path}");
        assert_eq!(bodies[0].as_ptr(), bodies[1].as_ptr(), "{path}");
    }
}
