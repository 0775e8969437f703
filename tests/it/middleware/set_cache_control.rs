//! `SetCacheControl` and `NeverCache`, the middlewares that only write fields.

use std::time::Duration;

use actix_web::{
    App, Error, HttpRequest, HttpResponse, Route,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::ErrorUnauthorized,
    http::StatusCode,
    middleware::{Next, from_fn},
    web,
};
use actix_web_cache::{Cache, NeverCache, Policy, Rule, SetCacheControl};
use hyper::Method;

use crate::support::{
    Client, Counter, HookedStore, Protocol, SETUPS, StoreCall, cache, requested_response, secs,
    serve,
};

const NEVER: &str = "max-age=0, no-cache, no-store, must-revalidate, private";

fn requested_response_route() -> Route {
    web::to(|request: HttpRequest| async move { requested_response(&request, 1) })
}

/// A case name, the middleware, the handler's `Cache-Control` lines, and the field that clients
/// get.
type Case = (&'static str, SetCacheControl, &'static [&'static str], Option<&'static str>);

fn cases() -> Vec<Case> {
    let set = SetCacheControl::new;
    vec![
        ("no directives", set(), &[], None),
        ("only the handler's directives", set(), &["max-age=60, x"], Some("max-age=60, x")),
        ("added without a field", set().s_maxage(secs(30)), &[], Some("s-maxage=30")),
        (
            "appended to the handler's directives",
            set().must_revalidate(),
            &["max-stale=60"],
            Some("max-stale=60, must-revalidate"),
        ),
        (
            "replaced in its place",
            set().stale_if_error(secs(60)),
            &["stale-if-error=30, public"],
            Some("stale-if-error=60, public"),
        ),
        (
            "removed as the only directive",
            set().remove("must-revalidate"),
            &["must-revalidate"],
            None,
        ),
        ("removed although absent", set().remove("must-revalidate"), &[], None),
        ("an argument removed", set().no_cache(), &["no-cache=\"x-a\""], Some("no-cache")),
        (
            "several, each in its place",
            set().remove("max-stale").no_transform().stale_if_error(secs(60)),
            &["must-revalidate, max-stale=5, only-if-cached", "stale-if-error=1"],
            Some("must-revalidate, only-if-cached, stale-if-error=60, no-transform"),
        ),
        (
            "the handler's smaller max-age",
            set().max_age(secs(60)),
            &["max-age=30"],
            Some("max-age=30"),
        ),
        (
            "the middleware's smaller max-age",
            set().max_age(secs(60)),
            &["max-age=90"],
            Some("max-age=60"),
        ),
        (
            "an invalid max-age counts as 0",
            set().max_age(secs(60)),
            &["max-age=x"],
            Some("max-age=0"),
        ),
        ("case-insensitive names", set().max_age(secs(60)), &["Max-Age=90"], Some("max-age=60")),
        (
            "a repeated name keeps its first place",
            set().stale_if_error(secs(9)),
            &["stale-if-error=1, a, Stale-If-Error=2"],
            Some("stale-if-error=9, a"),
        ),
        (
            "the smaller s-maxage",
            set().s_maxage(secs(9)),
            &["s-maxage=5, max-age=1"],
            Some("s-maxage=5, max-age=1"),
        ),
        (
            "text in quotes is no directive",
            set().remove("b"),
            &["a=\"b, b=1\", b"],
            Some("a=\"b, b=1\""),
        ),
        (
            "private removes public",
            set().private(),
            &["public, max-age=9"],
            Some("max-age=9, private"),
        ),
        (
            "private of the handler stays",
            set().public().max_age(secs(9)),
            &["private"],
            Some("private, max-age=9"),
        ),
        ("qualified private stays", set().public(), &["private=\"x-a\""], Some("private=\"x-a\"")),
        ("no-store stays", set().public(), &["no-store, max-age=9"], Some("no-store, max-age=9")),
        ("no-cache stays", set().public(), &["no-cache"], Some("no-cache")),
        (
            "private in a list that lacks a comma stays",
            set().public(),
            &["private; max-age=9"],
            Some("private; max-age=9"),
        ),
        ("the last of public and private", set().private().public(), &[], Some("public")),
        (
            "extension directives",
            set()
                .directive("ext", Some("\"a, b\""))
                .directive("flag", None)
                .directive("n", Some("1")),
            &["flag=1"],
            Some("flag, ext=\"a, b\", n=1"),
        ),
        (
            "all directives",
            set()
                .no_cache()
                .no_store()
                .no_transform()
                .must_revalidate()
                .proxy_revalidate()
                .must_understand()
                .immutable()
                .s_maxage(secs(1))
                .stale_while_revalidate(secs(2))
                .stale_if_error(secs(3))
                .max_age(Duration::from_millis(4900)),
            &[],
            Some(
                "no-cache, no-store, no-transform, must-revalidate, proxy-revalidate, \
                 must-understand, immutable, s-maxage=1, stale-while-revalidate=2, \
                 stale-if-error=3, max-age=4",
            ),
        ),
    ]
}

#[actix_web::test]
async fn directives_are_merged_into_the_handlers_cache_control() {
    let server = serve(1, || {
        cases().into_iter().enumerate().fold(App::new(), |app, (index, case)| {
            let scope = web::scope(&format!("/{index}"));
            app.service(scope.wrap(case.1).default_service(requested_response_route()))
        })
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (index, (case, _, sent, want)) in cases().into_iter().enumerate() {
        let lines: Vec<_> = sent.iter().map(|line| format!("cache-control: {line}")).collect();
        let fields: Vec<_> = lines.iter().map(|line| ("answer", line.as_str())).collect();
        let answer = client.get_with(&format!("/{index}/"), &fields).await;
        assert_eq!(answer.field("cache-control").as_deref(), want, "{case}");
        assert!(answer.headers.get_all("cache-control").iter().count() < 2, "{case}");
    }
}

#[actix_web::test]
async fn middlewares_write_fields_for_each_method_and_store_nothing() {
    for (protocol, workers) in SETUPS {
        let runs = Counter::default();
        let counter = runs.clone();
        let server = serve(workers, move || {
            let runs = counter.clone();
            let handler = move |request: HttpRequest| {
                let run = runs.count();
                async move { requested_response(&request, run) }
            };
            App::new()
                .wrap(SetCacheControl::new().public().max_age(secs(300)))
                .service(
                    web::scope("/never").wrap(NeverCache).default_service(web::to(handler.clone())),
                )
                .default_service(web::to(handler))
        });
        let client = Client::new(server.addr, protocol);
        let mut sent = 0;
        for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE] {
            for status in ["200", "204", "301", "404", "500"] {
                let fields = [("answer-status", status)];
                let plain = client.send(method.clone(), "/", &fields).await;
                let want = (status < "400").then_some("public, max-age=300");
                assert_eq!(plain.field("cache-control").as_deref(), want, "{status}");
                assert_eq!(plain.field("cache-status"), None);
                let never = client.send(method.clone(), "/never/", &fields).await;
                let cache_control = never.field("cache-control").unwrap();
                assert!(cache_control.contains("no-store"), "{cache_control}");
                assert!(cache_control.contains("max-age=0"), "{cache_control}");
                sent += 2;
                assert_eq!(runs.get(), sent, "{method} {status} by {protocol:?}");
            }
        }
    }
}

#[actix_web::test]
async fn never_cache_replaces_cache_control_and_sets_a_past_expires() {
    let server =
        serve(1, || App::new().wrap(NeverCache).default_service(requested_response_route()));
    let client = Client::new(server.addr, Protocol::Http1);
    for sent in
        ["x-a: b", "cache-control: public, max-age=60", "expires: Fri, 31 Dec 2100 00:00:00 GMT"]
    {
        let answer = client.get_with("/", &[("answer", sent)]).await;
        assert_eq!(answer.field("cache-control").as_deref(), Some(NEVER), "{sent}");
        // Both are the current time. The server updates its cached Date only now and then.
        let seconds = |name| httpdate::parse_http_date(&answer.field(name).unwrap()).unwrap();
        assert!(seconds("expires") < seconds("date") + secs(3600), "{sent}");
    }
}

#[actix_web::test]
async fn outer_cache_never_stores_responses_of_never_cache_or_private() {
    let store = HookedStore::new();
    let cache = Cache::builder(store.clone())
        .policy(Policy::new().default_ttl(secs(60)))
        .rule(Rule::any().with(|policy| policy.override_ttl(secs(60))))
        .build()
        .unwrap();
    let server = serve(1, move || {
        App::new()
            .service(
                web::scope("/never").wrap(NeverCache).default_service(requested_response_route()),
            )
            .service(
                web::scope("/private")
                    .wrap(SetCacheControl::new().private())
                    .default_service(requested_response_route()),
            )
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for (path, want, detail) in
        [("/never/", NEVER, "no-store"), ("/private/", "private", "private")]
    {
        for line in ["x-a: b", "cache-control: public"] {
            let answer = client.get_with(path, &[("answer", line)]).await;
            assert_eq!(answer.field("cache-control").as_deref(), Some(want), "{path} {line}");
            assert_eq!(answer.cache_status(), format!("fwd=uri-miss; detail={detail}"), "{path}");
        }
    }
    assert_eq!(store.calls(StoreCall::Put), 0);
}

#[actix_web::test]
async fn permissions_are_added_by_status_code_and_restrictions_always() {
    let server = serve(1, || {
        let permissions = SetCacheControl::new()
            .public()
            .max_age(secs(9))
            .s_maxage(secs(8))
            .stale_while_revalidate(secs(7))
            .immutable();
        let scopes = [
            ("/usual", permissions.clone()),
            ("/missing", permissions.also_for_status(StatusCode::NOT_FOUND)),
            ("/restricted", SetCacheControl::new().must_revalidate().directive("x", None)),
        ];
        scopes.into_iter().fold(App::new(), |app, (path, set)| {
            app.service(web::scope(path).wrap(set).default_service(requested_response_route()))
        })
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let all = "public, max-age=9, s-maxage=8, stale-while-revalidate=7, immutable";
    for (statuses, usual, missing) in [
        (&["200", "201", "204", "206", "301", "308"][..], Some(all), Some(all)),
        (&["404"], None, Some(all)),
        (&["302", "303", "307", "400", "401", "403", "410", "412", "416", "429"], None, None),
        (&["500", "503"], None, None),
    ] {
        for status in statuses {
            let fields = [("answer-status", *status)];
            for (path, want) in [
                ("/usual/", usual),
                ("/missing/", missing),
                ("/restricted/", Some("must-revalidate, x")),
            ] {
                let answer = client.get_with(path, &fields).await;
                assert_eq!(answer.field("cache-control").as_deref(), want, "{path} {status}");
            }
        }
    }
    let validated =
        [("answer-status", "304"), ("if-none-match", "\"a\""), ("answer", "etag: \"a\"")];
    let answer = client.get_with("/usual/", &validated).await;
    assert_eq!(answer.field("cache-control").as_deref(), Some(all), "304");
    // A smaller lifetime restricts the one that the handler stated.
    let stated = [("answer-status", "404"), ("answer", "cache-control: max-age=99, s-maxage=3")];
    let answer = client.get_with("/usual/", &stated).await;
    assert_eq!(answer.field("cache-control").as_deref(), Some("max-age=9, s-maxage=3"));
}

/// Errors that a middleware or an extractor returns become responses only outside of these
/// middlewares.
#[actix_web::test]
async fn errors_of_inner_middlewares_get_restrictions_and_no_permissions() {
    let server = serve(1, || {
        let never = web::scope("/never")
            .wrap(from_fn(refuse))
            .wrap(NeverCache)
            .default_service(requested_response_route());
        let set = web::scope("/set")
            .wrap(from_fn(refuse))
            .wrap(SetCacheControl::new().private().max_age(secs(60)))
            .default_service(requested_response_route());
        let extractor = web::scope("/extractor")
            .wrap(NeverCache)
            .route("/{number}", web::get().to(|_: web::Path<u8>| async { "a number" }));
        App::new().service(never).service(set).service(extractor)
    });
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let client = Client::new(server.addr, protocol);
        for (path, status, want) in [
            ("/never/", 401, Some(NEVER)),
            ("/set/", 401, Some("private")),
            ("/extractor/x", 404, Some(NEVER)),
            ("/extractor/1/none", 404, Some(NEVER)),
        ] {
            let answer = client.get(path).await;
            assert_eq!(answer.status.as_u16(), status, "{path}");
            assert_eq!(answer.field("cache-control").as_deref(), want, "{path}");
            assert_eq!(answer.field("expires").is_some(), want == Some(NEVER), "{path}");
        }
        let method = client.send(Method::POST, "/extractor/1", &[]).await;
        assert_eq!(method.field("cache-control").as_deref(), Some(NEVER), "405");
    }
}

async fn refuse(
    _: ServiceRequest,
    _: Next<impl MessageBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    Err(ErrorUnauthorized("log in first"))
}

/// The middleware does not know which handlers of its scope make a page for one person.
#[actix_web::test]
async fn public_of_a_middleware_does_not_share_pages_of_people() {
    for (protocol, workers) in SETUPS {
        let (cache, _) = cache();
        let server = serve(workers, move || {
            let set = SetCacheControl::new().public().max_age(secs(300));
            let private = |request: HttpRequest| async move {
                HttpResponse::Ok()
                    .insert_header(("cache-control", "private"))
                    .body(person(&request))
            };
            let silent = |request: HttpRequest| async move { person(&request) };
            let public = |request: HttpRequest| async move {
                HttpResponse::Ok().insert_header(("cache-control", "public")).body(person(&request))
            };
            App::new().wrap(cache.clone()).service(
                web::scope("/api")
                    .wrap(set)
                    .route("/private", web::get().to(private))
                    .route("/silent", web::get().to(silent))
                    .route("/public", web::get().to(public)),
            )
        });
        let client = Client::new(server.addr, protocol);
        let anonymous: &[(&str, &str)] = &[];
        for credentials in
            [("authorization", "Bearer alice"), ("cookie", "user=alice"), ("x-api-key", "alice")]
        {
            let alice = [credentials];
            for path in ["/api/private", "/api/silent"] {
                for fields in [&alice[..], anonymous, &alice, anonymous] {
                    let answer = client.get_with(path, fields).await;
                    let want = if fields.is_empty() { "nobody" } else { "alice" };
                    assert!(answer.text().contains(want), "{path} {credentials:?}");
                    let personal = path == "/api/private" || !fields.is_empty();
                    assert!(!personal || !answer.is_hit(), "{path} {credentials:?} is shared");
                }
            }
        }
        assert!(client.get("/api/silent").await.is_hit(), "anonymous requests share");
        // The handler's own word counts.
        let alice = [("authorization", "Bearer alice")];
        assert!(client.get_with("/api/public", &alice).await.is_stored());
        assert!(client.get("/api/public").await.is_hit());
    }
}

fn person(request: &HttpRequest) -> String {
    let credentials = ["authorization", "cookie", "x-api-key"]
        .map(|name| request.headers().get(name).map_or("", |value| value.to_str().unwrap()))
        .concat();
    if credentials.is_empty() { "nobody".to_owned() } else { credentials }
}

/// An outer cache must not keep an error as long as the page.
#[actix_web::test]
async fn outer_cache_does_not_keep_errors_for_the_lifetime_of_a_middleware() {
    let (cache, _) = cache();
    let server = serve(1, move || {
        App::new()
            .wrap(SetCacheControl::new().public().max_age(secs(365 * 24 * 3600)).immutable())
            .wrap(cache.clone())
            .default_service(requested_response_route())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    for status in ["302", "404", "410", "412", "416", "429", "500", "503"] {
        let path = format!("/{status}");
        for _ in 0..2 {
            let answer = client.get_with(&path, &[("answer-status", status)]).await;
            assert!(!answer.is_hit() && !answer.is_stored(), "{status}");
        }
    }
}

#[test]
fn directive_with_its_own_method_and_removed_refusals_panic_with_advice() {
    for name in ["max-age", "S-MaxAge", "public", "Private", "immutable", "stale-if-error"] {
        let result = std::panic::catch_unwind(|| SetCacheControl::new().directive(name, None));
        let advice = *result.expect_err(name).downcast::<String>().unwrap();
        assert!(advice.contains("use the method"), "{advice}");
    }
    for name in ["private", "No-Store", "no-cache"] {
        let result = std::panic::catch_unwind(|| SetCacheControl::new().remove(name));
        let advice = *result.expect_err(name).downcast::<String>().unwrap();
        assert!(advice.contains("change the handler"), "{advice}");
    }
}

#[test]
fn invalid_directive_panics_with_advice() {
    for (name, value) in [
        ("max age", None),
        ("", None),
        ("a=b", None),
        ("ext", Some("")),
        ("ext", Some("a, b")),
        ("ext", Some("\"a")),
        ("ext", Some("\"")),
        ("ext", Some("\"a\", no-store, \"b\"")),
        ("ext", Some("\"a\\\"")),
        ("ext", Some("\"a\nb\"")),
    ] {
        let result = std::panic::catch_unwind(|| SetCacheControl::new().directive(name, value));
        let advice = *result.expect_err("the directive is invalid").downcast::<String>().unwrap();
        assert!(advice.contains("quote a value with commas or spaces"), "{name:?} {value:?}");
    }
}
