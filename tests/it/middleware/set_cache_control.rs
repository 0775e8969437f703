//! `SetCacheControl` and `NeverCache`, the middlewares that only write fields.

use std::time::Duration;

use actix_web::{App, HttpRequest, Route, web};
use actix_web_cache::{Cache, NeverCache, Policy, Rule, SetCacheControl};
use hyper::Method;

use crate::support::{
    Client, Counter, HookedStore, Protocol, SETUPS, StoreCall, requested_response, secs, serve,
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
            set().s_maxage(secs(9)),
            &["s-maxage=1, a, S-MaxAge=2"],
            Some("s-maxage=9, a"),
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
        ("public removes private", set().public(), &["private=\"x-a\""], Some("public")),
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
async fn fields_are_written_on_every_response_and_nothing_is_stored() {
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
                assert_eq!(plain.field("cache-control").as_deref(), Some("public, max-age=300"));
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
        .rule(Rule::any().override_ttl(secs(60)))
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
