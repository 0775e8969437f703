//! Response fields that list the tags of responses for a CDN: `Policy::emit_tags`.

use actix_web::{App, HttpResponse, web};
use actix_web_cache::{Cache, Mode, Policy, Rule, no_store, tag};
use hyper::Method;

use crate::support::{
    Client, Protocol, builder, cache, requested_response, secs, serve, test_app, with_entity_tag,
};

const CDN: &str = "surrogate-key";

#[actix_web::test]
async fn misses_and_hits_list_tags_of_all_sources_once() {
    let policy =
        Policy::new().tag("site").tag_fields(["Cache-Tag", "X-Tags"]).emit_tags("Cache-Tag");
    let rules = [
        Rule::prefix("/two").with(|policy| policy.emit_tags(CDN)),
        Rule::prefix("/removed").with(|policy| policy.remove_tag_fields()),
    ];
    let cache = builder().0.policy(policy).rules(rules).build().unwrap();
    let app = test_app(&cache, |request, run| {
        tag("data");
        tag("a b");
        requested_response(request, run)
    });
    let fields = [
        ("answer", "cache-tag: site, own"),
        ("answer", "x-tags: other"),
        ("answer", "cache-groups: \"group\""),
    ];
    for (path, cdn, others) in [
        ("/", None, Some("other")),
        ("/two", Some("site data a%20b own other"), Some("other")),
        ("/removed", None, None),
    ] {
        for is_hit in [false, true] {
            let answer = app.client.get_with(path, &fields).await;
            assert_eq!(answer.is_hit(), is_hit, "{path}");
            let want = "site,own,data,a%20b,other";
            assert_eq!(answer.field("cache-tag").as_deref(), Some(want), "{path} {is_hit}");
            assert_eq!(answer.field(CDN).as_deref(), cdn, "{path} {is_hit}");
            assert_eq!(answer.field("x-tags").as_deref(), others, "{path} {is_hit}");
        }
    }
    // The encoded form in the field is no tag.
    cache.handle().purge_tag("a%20b").await.unwrap();
    assert!(app.client.get("/").await.is_hit());
    cache.handle().purge_tag("a b").await.unwrap();
    assert!(!app.client.get("/").await.is_hit());
}

/// A 304 and a response to HEAD need not list the tags again. Repeated validations do not change the
/// list.
#[actix_web::test]
async fn validated_response_lists_its_tags_and_the_new_ones() {
    for emitted in [CDN, "cache-tag"] {
        let (builder, clock) = builder();
        let policy = Policy::new().tag("a b").tag_fields(["cache-tag"]).emit_tags(emitted);
        let cache = builder.policy(policy).build().unwrap();
        let app = test_app(&cache, |request, run| {
            let mut response = with_entity_tag(request, "\"1\"", "page".to_owned());
            if run < 4 {
                let value = format!("run:{run}").parse().unwrap();
                response.headers_mut().insert("cache-tag".parse().unwrap(), value);
            }
            response
        });
        let separator = if emitted == CDN { " " } else { "," };
        let listed = async |method: Method| {
            let answer = app.client.send(method, "/", &[]).await;
            let field = answer.field(emitted).unwrap_or_default();
            let mut tags: Vec<_> = field.split(separator).map(str::to_owned).collect();
            tags.sort_unstable();
            tags.join(" ")
        };
        assert_eq!(listed(Method::GET).await, "a%20b run:1", "{emitted}");
        for (method, want) in [
            (Method::GET, "a%20b run:1 run:2"),
            (Method::HEAD, "a%20b run:1 run:2 run:3"),
            (Method::GET, "a%20b run:1 run:2 run:3"),
            (Method::GET, "a%20b run:1 run:2 run:3"),
        ] {
            clock.advance(secs(70));
            assert_eq!(listed(method.clone()).await, want, "{emitted} {method}");
        }
        assert_eq!(listed(Method::GET).await, "a%20b run:1 run:2 run:3", "{emitted}: a hit");
        cache.handle().purge_tag("run:1").await.unwrap();
        assert!(!app.client.get("/").await.is_hit());
    }
}

/// A CDN may store responses that this cache does not store.
#[actix_web::test]
async fn responses_that_are_not_stored_list_their_tags() {
    let policy = Policy::new().tag("site").emit_tags(CDN).max_body_size(5);
    let cache = builder().0.policy(policy).rule(Rule::path("/rule").bypass()).build().unwrap();
    let app = test_app(&cache, |request, run| {
        tag("data");
        if request.path() == "/refused" {
            no_store("test");
        }
        requested_response(request, run)
    });
    let none: &[(&str, &str)] = &[];
    for (method, path, fields, detail) in [
        ("GET", "/refused", none, "detail=handler"),
        ("GET", "/rule", none, "detail=rule"),
        ("GET", "/range", &[("range", "bytes=0-1")], "detail=range"),
        ("GET", "/status", &[("answer-status", "500")], "detail=status"),
        ("GET", "/condition", &[("if-match", "\"x\"")], "detail=condition"),
        ("HEAD", "/head", none, "detail=head"),
    ] {
        let answer = app.client.send(method.parse().unwrap(), path, fields).await;
        assert!(answer.cache_status().ends_with(detail), "{path}: {}", answer.cache_status());
        assert_eq!(answer.field(CDN).as_deref(), Some("site data"), "{path}");
    }
    let answer = app.client.send(Method::POST, "/", &[]).await;
    assert_eq!(answer.field(CDN), None, "no cache stores it");
    for (mode, want) in [(Mode::Bypass, Some("site data")), (Mode::Off, None)] {
        cache.handle().set_mode(mode);
        assert_eq!(app.client.get("/mode").await.field(CDN).as_deref(), want, "{mode:?}");
    }
}

/// A CDN must not keep a response that its purges would miss.
#[actix_web::test]
async fn cdn_may_not_store_a_response_whose_tags_are_too_long() {
    let cache = builder().0.policy(Policy::new().emit_tags(CDN)).build().unwrap();
    let app = test_app(&cache, |request, _| {
        let (count, length) = if request.path() == "/long" { (64, 256) } else { (70, 9) };
        (0..count).for_each(|n| tag(format!("{n:0length$}")));
        HttpResponse::Ok()
            .insert_header(("cache-control", "public, max-age=60"))
            .insert_header(("cdn-cache-control", "max-age=600"))
            .body("page")
    });
    for (path, cache_control, cdn, tags) in [
        ("/long", "max-age=60, private", "no-store", 0),
        // Too many tags for this cache, but not for the CDN.
        ("/many", "public, max-age=60", "max-age=600", 70),
    ] {
        let answer = app.client.get(path).await;
        assert!(answer.cache_status().ends_with("detail=tags"), "{}", answer.cache_status());
        assert_eq!(answer.field("cache-control").unwrap(), cache_control, "{path}");
        assert_eq!(answer.field("cdn-cache-control").unwrap(), cdn, "{path}");
        let listed = answer.field(CDN).unwrap_or_default();
        assert_eq!(listed.split_whitespace().count(), tags, "{path}");
    }
}

#[actix_web::test]
async fn innermost_cache_lists_its_tags() {
    let (outer, _) = cache();
    let emitting = |name: &str| Policy::new().tag(name.to_owned()).emit_tags(CDN);
    let outer = outer.with_policy(emitting("outer"));
    let inner: Cache = outer.with_policy(emitting("inner"));
    let server = serve(1, move || {
        let page = || async { "page" };
        App::new()
            .service(web::scope("/scope").route("/x", web::get().to(page)).wrap(inner.clone()))
            .route("/x", web::get().to(page))
            .wrap(outer.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, want) in [("/scope/x", "inner"), ("/x", "outer")] {
        for _ in 0..3 {
            assert_eq!(client.get(path).await.field(CDN).as_deref(), Some(want), "{path}");
        }
    }
}

#[test]
fn field_without_a_list_of_tags_is_refused() {
    for name in [
        "Cache-Groups",
        "Cache-Control",
        "CDN-Cache-Control",
        "Content-Type",
        "ETag",
        "Age",
        "Trailer",
        "a b",
    ] {
        let built = builder().0.policy(Policy::new().emit_tags(name)).build();
        let message = built.map(|_| ()).unwrap_err().to_string();
        assert!(message.contains(&name.to_ascii_lowercase()), "{message}");
    }
}
