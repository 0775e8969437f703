//! Revalidation of stored responses with the handler: by a 304, by a new response, and by HEAD (RFC
//! 9111 section 4.3).

use std::fs;

use actix_files::Files;
use actix_web::{App, HttpRequest, HttpResponse, dev::Service as _, web};
use actix_web_cache::{Cache, Policy};
use hyper::Method;

use crate::support::{
    Client, Counter, HoldPoint, Protocol, SETUPS, Server, SharedLines, builder, cache, conditions,
    recording_app, requested_response, secs, serve, test_app,
    validators::{EARLY, MINUTE, MODIFIED, TAG, UNCHANGED, VALIDATED, http_date},
};

#[actix_web::test]
async fn stale_entry_is_revalidated_with_exactly_its_own_validators() {
    let both = format!("if-none-match: \"a\"; if-modified-since: {EARLY}");
    let since = format!("if-modified-since: {EARLY}");
    // Some handlers compare the field byte by byte.
    const OLD_FORMAT: (&str, &str) = ("answer", "last-modified: Sunday, 06-Nov-94 08:49:37 GMT");
    let old_format = OLD_FORMAT.1.replace("last-modified", "if-modified-since");
    for (case, validators, want) in [
        ("ETag", &[TAG][..], "if-none-match: \"a\""),
        ("weak ETag", &[("answer", "etag: W/\"a\"")], "if-none-match: W/\"a\""),
        ("invalid ETag", &[("answer", "etag: a")], "if-none-match: a"),
        ("Last-Modified", &[MODIFIED], &since),
        ("both", &[TAG, MODIFIED], &both),
        ("Last-Modified in another format", &[OLD_FORMAT], &old_format),
        (
            "unreadable Last-Modified",
            &[TAG, ("answer", "last-modified: then")],
            "if-none-match: \"a\"",
        ),
    ] {
        for client_fields in [
            &[][..],
            &[("if-none-match", "\"client\"")],
            &[("if-modified-since", "Sat, 05 Nov 1994 08:49:37 GMT")],
            &[("range", "bytes=0-1"), ("if-range", "\"client\"")],
        ] {
            let (cache, clock) = cache();
            let (app, recorded) = recording_app(&cache);
            let response = [validators, &[MINUTE]].concat();
            assert!(app.client.get_with("/", &response).await.is_stored(), "{case}");
            clock.advance(secs(60));
            recorded.take();
            let answer =
                app.client.get_with("/", &[client_fields, &[UNCHANGED], validators].concat()).await;
            assert_eq!(recorded.take(), [want], "{case} {client_fields:?}");
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "{case}");
            assert_eq!(answer.cache_status(), VALIDATED, "{case}");
            assert_eq!(answer.field("age"), None, "{case}: just revalidated");
            assert_eq!(answer.field("date"), Some(http_date(60)), "{case}");
            clock.advance(secs(59));
            let hit = app.client.get("/").await;
            assert_eq!((hit.text(), &*hit.cache_status()), ("run 1", "hit; ttl=1"), "{case}");
            assert_eq!(hit.field("age").as_deref(), Some("59"), "{case}");
        }
    }
}

#[actix_web::test]
async fn stale_entry_without_validators_is_fetched_unconditionally() {
    for policy in [Policy::new().stale_if_error(secs(600)), Policy::rfc9111()] {
        let (builder, clock) = builder();
        let (app, recorded) = recording_app(&builder.policy(policy).build().unwrap());
        assert!(app.client.get_with("/", &[MINUTE]).await.is_stored());
        clock.advance(secs(60));
        recorded.take();
        let fields = [("if-none-match", "\"client\""), MINUTE];
        let answer = app.client.get_with("/", &fields).await;
        assert_eq!((answer.text(), &*answer.cache_status()), ("run 2", "fwd=stale; stored"));
        // A 304 to the client's condition would leave the cache without a response to store.
        assert_eq!(recorded.take(), [""], "the client's condition is not forwarded");
    }
}

#[actix_web::test]
async fn conditional_request_gets_304_after_a_revalidation() {
    let (cache, clock) = cache();
    let (app, _) = recording_app(&cache);
    app.client.get_with("/", &[TAG, MINUTE]).await;
    for (tag, status) in [("\"a\"", 304), ("\"b\"", 200)] {
        clock.advance(secs(60));
        let answer = app.client.get_with("/", &[UNCHANGED, TAG, ("if-none-match", tag)]).await;
        assert_eq!((answer.status.as_u16(), &*answer.cache_status()), (status, VALIDATED));
        assert_eq!(answer.body.is_empty(), status == 304);
    }
}

/// See RFC 9111 section 5.2.2.4.
#[actix_web::test]
async fn no_cache_response_is_revalidated_on_every_request() {
    for policy in [Policy::new(), Policy::rfc9111()] {
        let (builder, _) = builder();
        let (app, recorded) = recording_app(&builder.policy(policy).build().unwrap());
        let no_cache = ("answer", "cache-control: no-cache, max-age=600");
        assert!(app.client.get_with("/", &[TAG, no_cache]).await.is_stored());
        recorded.take();
        for _ in 0..3 {
            let answer = app.client.get_with("/", &[UNCHANGED, TAG]).await;
            assert_eq!((answer.text(), &*answer.cache_status()), ("run 1", VALIDATED));
        }
        assert_eq!(recorded.take(), ["if-none-match: \"a\""; 3]);
        let answer = app.client.get_with("/", &[TAG, no_cache]).await;
        assert_eq!((answer.text(), &*answer.cache_status()), ("run 5", "fwd=stale; stored"));
    }
}

/// The handler may select any stored variant by its ETag (RFC 9111 section 4.3.1).
#[actix_web::test]
async fn strong_etags_of_other_variants_are_sent_to_the_handler() {
    let (builder, clock) = builder();
    let (app, recorded) = recording_app(&builder.policy(Policy::rfc9111()).build().unwrap());
    let vary = ("answer", "vary: accept-language");
    for (language, tag) in [("en", "\"en\""), ("fr", "W/\"fr\""), ("de", "\"de\"")] {
        let tag = format!("etag: {tag}");
        let fields = [("accept-language", language), ("answer", &*tag), vary, MINUTE];
        assert!(app.client.get_with("/", &fields).await.is_stored(), "{language}");
    }
    recorded.take();
    let spanish = ("accept-language", "es");
    let english = ("answer", "etag: \"en\"");
    let answer = app.client.get_with("/", &[spanish, UNCHANGED, english]).await;
    assert_eq!(recorded.take(), ["if-none-match: \"de\", \"en\""]);
    assert_eq!(answer.text(), "run 1", "the handler selected the English variant");
    assert_eq!(answer.cache_status(), "fwd=vary-miss; fwd-status=304; stored");
    assert!(app.client.get_with("/", &[spanish]).await.is_hit());
    clock.advance(secs(60));
    let french = ("accept-language", "fr");
    let answer = app.client.get_with("/", &[french, UNCHANGED, ("answer", "etag: W/\"fr\"")]).await;
    assert_eq!(
        recorded.take(),
        ["if-none-match: W/\"fr\", \"en\", \"de\""],
        "the validator of the selected variant comes first"
    );
    assert_eq!((answer.text(), &*answer.cache_status()), ("run 2", VALIDATED));
}

/// See RFC 9111 section 3.2.
#[actix_web::test]
async fn not_modified_updates_all_fields_except_those_of_the_stored_body() {
    let (cache, clock) = cache();
    let (app, _) = recording_app(&cache);
    let stored = [
        TAG,
        ("answer", "cache-control: max-age=60"),
        ("answer", "content-encoding: x-own"),
        ("answer", "vary: accept-encoding"),
        ("answer", "content-type: text/plain"),
        ("answer", "link: <1>"),
        ("answer", "link: <2>"),
        ("answer", "x-kept: kept"),
        ("answer", "x-kept: twice"),
    ];
    assert!(app.client.get_with("/", &stored).await.is_stored());
    clock.advance(secs(60));
    let unchanged = [
        UNCHANGED,
        ("answer", "etag: W/\"a\""),
        ("answer", "cache-control: max-age=5"),
        ("answer", "cache-control: public"),
        ("answer", "content-encoding: gzip"),
        ("answer", "content-range: bytes 0-1/2"),
        ("answer", "content-length: 7777"),
        ("answer", "content-type: text/html"),
        ("answer", "content-security-policy: default-src 'self'"),
        ("answer", "link: <3>"),
        ("answer", "link: <4>"),
        ("answer", "connection: x-hop"),
        ("answer", "x-hop: 1"),
    ];
    let validated = app.client.get_with("/", &unchanged).await;
    assert_eq!(validated.cache_status(), VALIDATED);
    let hit = app.client.get("/").await;
    assert_eq!(hit.cache_status(), "hit; ttl=5");
    for (case, answer) in [("validated", validated), ("hit", hit)] {
        assert_eq!(answer.text(), "run 1", "{case}");
        for (field, want) in [
            ("etag", Some("\"a\"")),
            ("cache-control", Some("max-age=5, public")),
            ("content-encoding", Some("x-own")),
            ("content-range", None),
            ("content-length", Some("5")),
            ("content-type", Some("text/html")),
            ("content-security-policy", Some("default-src 'self'")),
            ("link", Some("<3>, <4>")),
            ("x-kept", Some("kept, twice")),
            ("vary", Some("accept-encoding")),
            ("x-hop", None),
        ] {
            assert_eq!(answer.field(field).as_deref(), want, "{field} of {case}");
        }
    }
}

/// The age is computed from the 304 (RFC 9111 section 4.2.3).
#[actix_web::test]
async fn not_modified_resets_the_age_of_the_entry() {
    let (cache, clock) = cache();
    let (app, _) = recording_app(&cache);
    app.client.get_with("/", &[TAG, MINUTE, ("answer", "age: 20")]).await;
    clock.advance(secs(40));
    let old = format!("date: {}", http_date(37));
    for (line, age_field, age) in [("age: 5", Some("5"), 5), (&*old, None, 68)] {
        let fields = [TAG, UNCHANGED, ("answer", line), ("answer", "cache-control: max-age=70")];
        let answer = app.client.get_with("/", &fields).await;
        assert_eq!(answer.cache_status(), VALIDATED, "{line}");
        assert_eq!(answer.field("age").as_deref(), age_field, "{line}");
        let hit = app.client.get("/").await;
        assert_eq!(hit.field("age"), Some(age.to_string()), "{line}");
        clock.advance(secs(65));
    }
}

#[actix_web::test]
async fn revalidation_ignores_fields_that_the_cache_itself_added() {
    let (cache, clock) = cache();
    let (app, _) = recording_app(&cache);
    let response = [TAG, ("answer", "cache-control: max-stale-own=1")];
    for round in 0..3 {
        let fields = if round == 0 { &response[..] } else { &[UNCHANGED, TAG] };
        let answer = app.client.get_with("/", fields).await;
        let want = if round == 0 { "fwd=uri-miss; stored" } else { VALIDATED };
        assert_eq!(answer.cache_status(), want, "round {round}");
        let hit = app.client.get("/").await;
        for answer in [answer, hit] {
            assert_eq!(answer.text(), "run 1", "round {round}");
            let cache_control = answer.field("cache-control").unwrap();
            assert_eq!(cache_control, "max-stale-own=1, max-age=60", "round {round}");
            assert_eq!(answer.field("expires"), Some(http_date(60 * (round + 1))), "round {round}");
            assert_eq!(answer.field("vary").as_deref(), Some("Cookie"), "round {round}");
        }
        // The cache added both the lifetime and `Vary: Cookie`. A response without explicit
        // freshness is only served to anonymous requests.
        let with_cookie = app.client.get_with("/", &[("cookie", "sid=1"), TAG]).await;
        assert_eq!(with_cookie.cache_status(), "fwd=request; detail=cookie", "round {round}");
        clock.advance(secs(60));
    }
}

/// Application data that names the level at which it was registered.
struct DataLevel(&'static str);

async fn item(
    request: HttpRequest,
    path: web::Path<(u32, String)>,
    level: web::Data<DataLevel>,
    recorded: web::Data<SharedLines>,
) -> HttpResponse {
    let conditions = conditions(&request);
    let (shop, name) = path.into_inner();
    recorded.add(format!("{shop} {name} {} {:?} {conditions}", level.0, request.match_pattern()));
    let mut answer =
        if conditions.is_empty() { HttpResponse::Ok() } else { HttpResponse::NotModified() };
    // The 304 has another ETag than the condition.
    answer.insert_header(("etag", if conditions.is_empty() { "\"a\"" } else { "\"b\"" }));
    if conditions.is_empty() { answer.body(format!("{shop} {name}")) } else { answer.finish() }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    App,
    Scope,
    Resource,
    Route,
}

fn serve_items(cache: &Cache, level: Level, recorded: &SharedLines) -> Server {
    use actix_web::middleware::{Condition, NormalizePath};
    let (cache, recorded) = (cache.clone(), recorded.clone());
    serve(1, move || {
        let cache_at = |place| Condition::new(level == place, cache.clone());
        let route = web::get().to(item).wrap(cache_at(Level::Route));
        let item = web::resource("/items/{name}")
            .app_data(web::Data::new(DataLevel("resource")))
            .wrap(cache_at(Level::Resource))
            .route(route);
        let shop = web::scope("/shops/{shop}")
            .app_data(web::Data::new(DataLevel("scope")))
            .wrap(cache_at(Level::Scope))
            .service(item);
        App::new()
            .app_data(web::Data::new(DataLevel("app")))
            .app_data(web::Data::new(recorded.clone()))
            .wrap(NormalizePath::trim())
            .wrap(cache_at(Level::App))
            .service(shop)
    })
}

/// Such a 304 selects no stored response (RFC 9111 section 4.3.4).
#[actix_web::test]
async fn not_modified_with_another_etag_is_discarded_and_the_handler_runs_again() {
    for level in [Level::App, Level::Scope, Level::Resource, Level::Route] {
        let targets = ["/shops/7/items/pen", "/shops/7//items/pen/"];
        // `NormalizePath` is inside the cache of the application, which then stores nothing.
        let is_rewritten = |target| level == Level::App && target == targets[1];
        for target in targets.into_iter().filter(|target| !is_rewritten(*target)) {
            let (cache, clock) = cache();
            let recorded = SharedLines::default();
            let server = serve_items(&cache, level, &recorded);
            let client = Client::new(server.addr, Protocol::Http1);
            assert!(client.get(target).await.is_stored(), "{level:?}");
            clock.advance(secs(60));
            let first = recorded.take().concat();
            let answer = client.get(target).await;
            let case = format!("{level:?} {target}");
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "7 pen"), "{case}");
            assert_eq!(answer.cache_status(), "fwd=stale; stored", "{case}");
            assert_eq!(recorded.take(), [format!("{first}if-none-match: \"a\""), first], "{case}");
            assert!(client.get(target).await.is_hit(), "{case}");
        }
    }
}

/// A cookie that became part of the entry would reach other clients (RFC 9111 section 7.3).
#[actix_web::test]
async fn set_cookie_of_a_not_modified_reaches_only_the_requesting_client() {
    let (cache, clock) = cache();
    let (app, _) = recording_app(&cache);
    app.client.get_with("/", &[TAG, MINUTE]).await;
    clock.advance(secs(60));
    let answer = app.client.get_with("/", &[UNCHANGED, TAG, ("answer", "set-cookie: sid=1")]).await;
    assert_eq!((answer.text(), answer.field("set-cookie").as_deref()), ("run 1", Some("sid=1")));
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=304; detail=set-cookie");
    let next = app.client.get_with("/", &[UNCHANGED, TAG]).await;
    assert_eq!((next.text(), next.field("set-cookie")), ("run 1", None));
    assert_eq!(next.cache_status(), VALIDATED);
    assert_eq!(app.client.get("/").await.field("set-cookie"), None);
}

/// A 304 answers a conditional request only (RFC 9110 section 15.4.5). Any other client would show a
/// blank page.
#[actix_web::test]
async fn not_modified_that_nobody_asked_for_is_asked_again() {
    for (case, stored, request) in [
        ("cold", None, &[][..]),
        ("stale without validators", Some(&[MINUTE][..]), &[]),
        ("conditions that the cache evaluates", None, &[("if-none-match", "\"a\"")]),
        ("range of a stale response", Some(&[MINUTE]), &[("range", "bytes=0-1")]),
    ] {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            let (cache, clock) = cache();
            let first = Counter::default();
            let first_run = first.clone();
            let app = test_app(&cache, move |request, run| {
                let wants_304 = request.headers().contains_key("unasked");
                if wants_304 && first_run.count() == 1 {
                    return HttpResponse::NotModified().insert_header(("etag", "\"z\"")).finish();
                }
                requested_response(request, run)
            });
            let client = Client::new(app.server.addr, protocol);
            if let Some(fields) = stored {
                assert!(client.get_with("/", fields).await.is_stored());
                clock.advance(secs(60));
            }
            let fields = [request, &[("unasked", "1"), MINUTE]].concat();
            let answer = client.get_with("/", &fields).await;
            let run = format!("run {}", app.runs.get());
            let want = if case.starts_with("range") { (206, "ru") } else { (200, run.as_str()) };
            assert_eq!((answer.status.as_u16(), answer.text()), want, "{case}");
            assert_eq!(first.get(), 2, "{case}: the handler ran again");
        }
    }
}

/// A client whose own conditions reach the handler gets the handler's 304.
#[actix_web::test]
async fn not_modified_to_forwarded_conditions_reaches_the_client() {
    let (builder, _) = builder();
    let (app, recorded) = recording_app(&builder.policy(Policy::rfc9111()).build().unwrap());
    let answer = app.client.get_with("/", &[UNCHANGED, TAG, ("if-none-match", "\"a\"")]).await;
    assert_eq!(answer.status, 304);
    assert_eq!(recorded.take(), ["if-none-match: \"a\""]);
}

#[actix_web::test]
async fn not_modified_with_no_store_or_private_freshens_nothing() {
    for (refusal, detail) in [("no-store", "no-store"), ("private", "private")] {
        let (cache, clock) = cache();
        let (app, _) = recording_app(&cache);
        app.client.get_with("/", &[TAG, MINUTE]).await;
        clock.advance(secs(60));
        let refusal = format!("cache-control: {refusal}");
        let answer = app.client.get_with("/", &[UNCHANGED, TAG, ("answer", &refusal)]).await;
        assert_eq!(answer.text(), "run 1");
        assert_eq!(answer.field("date"), Some(http_date(60)));
        assert_eq!(answer.cache_status(), format!("fwd=stale; fwd-status=304; detail={detail}"));
        assert_eq!(answer.field("cache-control").as_deref(), refusal.split(": ").nth(1));
        assert!(!app.client.get_with("/", &[TAG, MINUTE]).await.is_hit());
    }
}

#[actix_web::test]
async fn new_response_to_a_revalidation_replaces_the_entry() {
    let (cache, clock) = cache();
    let (app, _) = recording_app(&cache);
    let replacement = [("answer", "etag: \"b\""), MINUTE];
    for (etag, status) in [("\"a\"", 200), ("\"b\"", 304)] {
        app.client.get_with("/", &[TAG, MINUTE]).await;
        clock.advance(secs(60));
        let answer = app
            .client
            .get_with("/", &[&replacement[..], &[("if-none-match", etag)]].concat())
            .await;
        assert_eq!((answer.status.as_u16(), answer.is_stored()), (status, true), "{etag}");
        let hit = app.client.get("/").await;
        assert_eq!((hit.is_hit(), hit.field("etag").as_deref()), (true, Some("\"b\"")), "{etag}");
        clock.advance(secs(60));
    }
    assert_eq!(app.runs.get(), 4);
}

#[actix_web::test]
async fn revalidation_stores_nothing_when_purged_meanwhile() {
    for (protocol, workers) in SETUPS {
        let (cache, clock) = cache();
        let hold = HoldPoint::new();
        let shared = (cache.clone(), hold.clone());
        let server = serve(workers, move || {
            let (cache, hold) = shared.clone();
            App::new().wrap(cache).default_service(web::to(move |request: HttpRequest| {
                let hold = hold.clone();
                async move {
                    if conditions(&request).is_empty() {
                        return HttpResponse::Ok().insert_header(("etag", "\"a\"")).body("page");
                    }
                    hold.wait().await;
                    HttpResponse::NotModified().insert_header(("etag", "\"a\"")).finish()
                }
            }))
        });
        let client = Client::new(server.addr, protocol);
        assert!(client.get("/").await.is_stored(), "{protocol:?}");
        clock.advance(secs(60));
        let revalidating = client.clone();
        let validation = tokio::spawn(async move { revalidating.get("/").await });
        hold.reached().await;
        let url = format!("http://{}/", server.addr);
        cache.handle().purge_url(url).await.unwrap();
        hold.release();
        let answer = validation.await.unwrap();
        assert_eq!(answer.text(), "page", "{protocol:?}");
        assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=304; detail=overtaken");
        assert_eq!(client.get("/").await.cache_status(), "fwd=uri-miss; stored", "{protocol:?}");
    }
}

#[actix_web::test]
async fn stored_file_is_revalidated_by_the_file_service() {
    for (protocol, workers) in SETUPS {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("page.txt");
        fs::write(&path, "the page").unwrap();
        let (cache, clock) = cache();
        let (root, statuses) = (directory.path().to_owned(), SharedLines::default());
        let seen = statuses.clone();
        let server = serve(workers, move || {
            let seen = seen.clone();
            App::new()
                .wrap_fn(move |request, service| {
                    let (seen, answer) = (seen.clone(), service.call(request));
                    async move {
                        let answer = answer.await?;
                        seen.add(answer.status().as_str());
                        Ok(answer)
                    }
                })
                .wrap(cache.clone())
                .service(Files::new("/", &root))
        });
        let client = Client::new(server.addr, protocol);
        let miss = client.get("/page.txt").await;
        assert!(miss.is_stored() && miss.text() == "the page", "{protocol:?}");
        clock.advance(secs(60));
        let answer = client.get("/page.txt").await;
        assert_eq!((answer.text(), &*answer.cache_status()), ("the page", VALIDATED));
        for field in ["etag", "last-modified", "content-type", "content-length", "accept-ranges"] {
            assert_eq!(answer.field(field), miss.field(field), "{field} by {protocol:?}");
        }
        assert!(client.get("/page.txt").await.is_hit());
        fs::write(&path, "another page").unwrap();
        clock.advance(secs(60));
        let answer = client.get("/page.txt").await;
        assert_eq!((answer.text(), &*answer.cache_status()), ("another page", "fwd=stale; stored"));
        assert_eq!(statuses.take(), ["200", "304", "200"], "{protocol:?}");
    }
}

/// See RFC 9111 section 4.3.5.
#[actix_web::test]
async fn head_response_with_matching_validators_freshens_the_entry() {
    let (cache, clock) = cache();
    let (app, _) = recording_app(&cache);
    let response = [TAG, MODIFIED, MINUTE, ("answer", "x-own: old"), ("answer", "x-kept: kept")];
    app.client.get_with("/", &response).await;
    clock.advance(secs(60));
    let fields = [TAG, MODIFIED, ("answer", "cache-control: max-age=90"), ("answer", "x-own: new")];
    let head = app.client.send(Method::HEAD, "/", &fields).await;
    assert_eq!(head.cache_status(), "fwd=stale; detail=head");
    assert_eq!(head.field("x-kept").as_deref(), Some("kept"));
    let hit = app.client.get("/").await;
    assert_eq!((hit.text(), &*hit.cache_status()), ("run 1", "hit; ttl=90"));
    assert_eq!(hit.field("x-own").as_deref(), Some("new"));
    assert_eq!(hit.field("x-kept").as_deref(), Some("kept"));
}

/// The stored response is no longer current (RFC 9111 section 4.3.5).
#[actix_web::test]
async fn head_response_with_other_validators_removes_the_entry() {
    let later = ("answer", "last-modified: Mon, 07 Nov 1994 08:49:37 GMT");
    let tag = ("answer", "etag: \"b\"");
    for (case, fields, kept) in [
        ("equal validators", &[TAG, MODIFIED, MINUTE][..], true),
        ("another ETag", &[tag, MODIFIED, MINUTE], false),
        ("another Last-Modified", &[TAG, later, MINUTE], false),
        ("no validators", &[MINUTE], true),
        ("another status", &[tag, MINUTE, ("answer-status", "410")], true),
        ("an error", &[tag, MINUTE, ("answer-status", "500")], true),
    ] {
        let (cache, clock) = cache();
        let (app, recorded) = recording_app(&cache);
        app.client.get_with("/", &[TAG, MODIFIED, MINUTE]).await;
        clock.advance(secs(60));
        let head = app.client.send(Method::HEAD, "/", fields).await;
        assert_eq!(head.cache_status(), "fwd=stale; detail=head", "{case}");
        recorded.take();
        clock.advance(secs(60));
        let next = app.client.get_with("/", &[TAG, MODIFIED, UNCHANGED]).await;
        assert_eq!(next.status == 200, kept, "{case}");
        assert_eq!(
            !recorded.take().concat().is_empty(),
            kept,
            "{case}: the handler gets the stored validator"
        );
    }
}

#[actix_web::test]
async fn head_response_of_another_length_removes_the_entry() {
    for declared in [false, true] {
        let (cache, clock) = cache();
        let runs = Counter::default();
        let server = serve(1, move || {
            let runs = runs.clone();
            App::new().wrap(cache.clone()).default_service(web::to(move |request: HttpRequest| {
                // Last-Modified stays the same when a body changes twice within one second.
                let body = "x".repeat(runs.count());
                let mut answer = HttpResponse::Ok();
                answer.insert_header(("last-modified", EARLY));
                let answer = if declared && request.method() == actix_web::http::Method::HEAD {
                    answer.insert_header(("content-length", body.len())).finish()
                } else {
                    answer.body(body)
                };
                async move { answer }
            }))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        assert!(client.get("/").await.is_stored());
        clock.advance(secs(60));
        let head = client.head("/").await;
        assert_eq!(head.cache_status(), "fwd=stale; detail=head", "declared: {declared}");
        let next = client.get("/").await;
        let got = (next.text(), &*next.cache_status());
        assert_eq!(got, ("xxx", "fwd=uri-miss; stored"), "declared: {declared}");
    }
}

/// RFC 9111 section 3.2 replaces the stored `Expires`, so the response is stale again.
#[actix_web::test]
async fn not_modified_with_a_past_expires_leaves_the_entry_stale() {
    let (cache, clock) = cache();
    let (app, _) = recording_app(&cache);
    let expires = |second| format!("expires: {}", http_date(second));
    assert!(app.client.get_with("/", &[TAG, ("answer", &expires(60))]).await.is_stored());
    clock.advance(secs(60));
    for expires in [expires(30), "expires: 0".to_owned()] {
        let answer = app.client.get_with("/", &[UNCHANGED, TAG, ("answer", &expires)]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "run 1"), "{expires}");
        assert!(answer.cache_status().starts_with("fwd=stale; fwd-status=304"), "{expires}");
    }
}
