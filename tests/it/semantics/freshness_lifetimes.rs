//! Freshness lifetimes: the one that this cache applies, and the one that it advertises to clients.

use std::time::{Duration, UNIX_EPOCH};

use actix_web::{App, HttpRequest, HttpResponse, http::StatusCode, web};
use actix_web_cache::{Cache, CacheOptions, ManualClock, Policy, Rule, SetCacheControl};
use httpdate::fmt_http_date;

use super::fields::cache_fields;
use crate::support::{
    Client, Protocol, START, builder, cache, requested_response, secs, serve, store, test_app,
    validators::VALIDATED,
};

/// The HTTP date some seconds after the clock's start.
fn date(second: u64) -> String {
    fmt_http_date(UNIX_EPOCH + secs(START + second))
}

/// Otherwise each cache on the way to the client would add a lifetime of its own.
#[actix_web::test]
async fn advertised_lifetime_shrinks_by_the_age_of_the_entry() {
    for (line, client_ttl) in [("", None), ("cache-control: max-age=60", None), ("", Some(40))] {
        let (builder, clock) = builder();
        let policy = match client_ttl {
            Some(ttl) => Policy::new().client_ttl(secs(ttl)),
            None => Policy::new(),
        };
        let app = test_app(&builder.policy(policy).build().unwrap(), requested_response);
        let fields: Vec<_> = [("answer", line)].into_iter().filter(|_| !line.is_empty()).collect();
        for age in [0, 25, 59] {
            let answer = app.client.get_with("/", &fields).await;
            let number = |text: &str| text.rsplit('=').next().unwrap().parse::<u64>().unwrap();
            let max_age = number(&answer.field("cache-control").unwrap());
            let age_field = answer.field("age").map_or(0, |age| number(&age));
            assert_eq!(age_field, age);
            let want = (60 - age).min(client_ttl.unwrap_or(60));
            assert_eq!(max_age - age_field, want, "{line} {client_ttl:?} at {age} s");
            if let Some(expires) = answer.field("expires") {
                let end = fmt_http_date(UNIX_EPOCH + secs(START + age + want));
                assert_eq!(expires, end, "{client_ttl:?} at {age} s");
            }
            clock.advance(secs(if age == 0 { 25 } else { 34 }));
        }
        assert_eq!(app.runs.get(), 1);
    }
}

#[actix_web::test]
async fn lifetime_of_a_response_or_an_inner_middleware_limits_freshness() {
    let (cache, clock) = cache();
    let server = serve(1, move || {
        let handler =
            || web::to(|request: HttpRequest| async move { requested_response(&request, 1) });
        let short = SetCacheControl::new().max_age(secs(1));
        App::new()
            .service(web::scope("/wrapped").wrap(short).default_service(handler()))
            .default_service(handler())
            .wrap(cache.clone())
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let expires = format!("expires: {}", fmt_http_date(UNIX_EPOCH + secs(START + 5)));
    for (path, line) in [
        ("/max-age", "cache-control: max-age=5"),
        ("/expires", expires.as_str()),
        ("/wrapped/none", "x-a: b"),
        ("/wrapped/longer", "cache-control: max-age=300"),
    ] {
        assert!(client.get_with(path, &[("answer", line)]).await.is_stored(), "{path}");
    }
    for (step, fresh) in [(0, 4), (1, 2), (4, 0)] {
        clock.advance(secs(step));
        let mut hits = 0;
        for path in ["/max-age", "/expires", "/wrapped/none", "/wrapped/longer"] {
            let no_store = [("answer", "cache-control: no-store")];
            hits += usize::from(client.get_with(path, &no_store).await.is_hit());
        }
        assert_eq!(hits, fresh, "another {step} s later");
    }
}

#[actix_web::test]
async fn policy_lifetime_is_advertised_and_an_explicit_one_is_forwarded_unchanged() {
    let (builder, _) = builder();
    let policy = Policy::new().default_ttl(secs(120));
    let app = test_app(&builder.policy(policy).build().unwrap(), requested_response);
    let (past, later) = (date(0), date(40));
    let (past, later) = (format!("expires: {past}"), format!("expires: {later}"));
    for (case, lines, want) in [
        (
            "no fields",
            &[][..],
            vec!["cache-control: max-age=120".to_owned(), format!("expires: {}", date(120))],
        ),
        (
            "directives without a lifetime keep their order",
            &["cache-control: public, must-revalidate"],
            vec![
                "cache-control: public, must-revalidate, max-age=120".to_owned(),
                format!("expires: {}", date(120)),
            ],
        ),
        (
            "max-age",
            &["cache-control: max-age=30, must-revalidate"],
            vec!["cache-control: max-age=30, must-revalidate".to_owned()],
        ),
        (
            "s-maxage",
            &["cache-control: s-maxage=30"],
            vec!["cache-control: s-maxage=30".to_owned()],
        ),
        ("Expires", &[later.as_str()], vec![later.clone()]),
        ("an Expires in the past", &[past.as_str()], vec![past.clone()]),
        ("no-store", &["cache-control: no-store"], vec!["cache-control: no-store".to_owned()]),
        ("private", &["cache-control: private"], vec!["cache-control: private".to_owned()]),
        ("no-cache", &["cache-control: no-cache"], vec!["cache-control: no-cache".to_owned()]),
    ] {
        let fields: Vec<_> = lines.iter().map(|line| ("answer", *line)).collect();
        let answer = app.client.get_with(&format!("/{}", case.replace(' ', "-")), &fields).await;
        assert_eq!(cache_fields(&answer), want, "{case}");
    }
}

#[actix_web::test]
async fn shorter_of_two_lifetimes_is_advertised() {
    let (builder, _) = builder();
    let app = test_app(
        &builder.rule(Rule::any().with(|policy| policy.override_ttl(secs(120)))).build().unwrap(),
        requested_response,
    );
    for (directives, want) in [
        ("max-age=30, must-revalidate", "max-age=30, must-revalidate"),
        ("must-revalidate, max-age=300", "must-revalidate, max-age=120"),
        ("max-age=120", "max-age=120"),
        ("immutable", "immutable, max-age=120"),
    ] {
        let line = format!("cache-control: {directives}");
        let path = format!("/{}", directives.replace([' ', ','], ""));
        let miss = app.client.get_with(&path, &[("answer", &line)]).await;
        let hit = app.client.get_with(&path, &[("answer", &line)]).await;
        assert_eq!(miss.field("cache-control").as_deref(), Some(want), "{directives}");
        assert_eq!(hit.field("cache-control").as_deref(), Some(want), "{directives}");
        assert_eq!(hit.cache_status(), "hit; ttl=120", "{directives}");
    }
}

/// See RFC 9111 section 4.2: a response is fresh while its lifetime is greater than its age.
#[actix_web::test]
async fn response_is_stale_once_its_age_equals_its_lifetime() {
    let (cache, clock) = cache();
    let app = test_app(&cache, requested_response);
    let second = ("answer", "cache-control: max-age=1");
    let times = [0, 1, 999, 1000, 1001];
    for millis in times {
        assert!(app.client.get_with(&format!("/{millis}"), &[second]).await.is_stored());
    }
    let mut now = 0;
    for millis in times {
        clock.advance(Duration::from_millis(millis - now));
        now = millis;
        let answer = app.client.get(&format!("/{millis}")).await;
        assert_eq!(answer.is_hit(), millis < 1000, "after {millis} ms");
        if answer.is_hit() {
            assert_eq!(
                answer.field("age").as_deref(),
                Some("0"),
                "after {millis} ms: rounded down"
            );
        }
    }
}

/// A response without `Date` and `Age` was made in this process, when the handler ended. The age of
/// any other response includes the time of its request (RFC 9111 section 4.2.3), so a slow origin
/// with a short lifetime is never cached.
#[actix_web::test]
async fn time_of_the_handler_is_part_of_the_age_of_a_dated_response() {
    let dated = format!("date: {}", date(0));
    let (stored, stale) = ("fwd=uri-miss; stored", "fwd=uri-miss; detail=stale");
    for (case, lines, want, fresh_for) in [
        ("by a handler", &["cache-control: max-age=2"][..], stored, 2000),
        ("by an origin", &["cache-control: max-age=2", &dated], stale, 0),
        ("by a cache", &["cache-control: max-age=2", "age: 0"], stale, 0),
        ("by an origin, longer", &["cache-control: max-age=3", &dated], stored, 500),
    ] {
        let (cache, clock) = cache();
        let handler_clock = clock.clone();
        let app = test_app(&cache, move |request, run| {
            handler_clock.advance(Duration::from_millis(2500));
            requested_response(request, run)
        });
        let fields: Vec<_> = lines.iter().map(|line| ("answer", *line)).collect();
        assert_eq!(app.client.get_with("/", &fields).await.cache_status(), want, "{case}");
        if fresh_for > 0 {
            clock.advance(Duration::from_millis(fresh_for - 1));
            assert!(app.client.get("/").await.is_hit(), "{case}");
            clock.advance(Duration::from_millis(1));
        }
        assert!(!app.client.get("/").await.is_hit(), "{case}");
    }
}

/// A cache that rounds the age up would send a response that is stale for the next cache.
#[actix_web::test]
async fn fresh_response_of_one_cache_is_fresh_in_the_next_one() {
    let clock = ManualClock::at(START);
    let build = || Cache::builder(store()).clock(clock.clock()).build().unwrap();
    let inner = test_app(&build(), |_, run| {
        let mut response = HttpResponse::Ok();
        response.insert_header(("cache-control", "max-age=2")).body(format!("run {run}"))
    });
    let (outer, to_inner) = (build(), inner.client.clone());
    let server = serve(1, move || {
        let to_inner = to_inner.clone();
        let forward = move || {
            let to_inner = to_inner.clone();
            async move {
                let answer = to_inner.get("/").await;
                let mut response = HttpResponse::Ok();
                for name in ["cache-control", "date", "age"] {
                    response.insert_header((name, answer.field(name).unwrap_or_default()));
                }
                response.body(answer.body)
            }
        };
        App::new().wrap(outer.clone()).default_service(web::to(forward))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert_eq!(inner.client.get("/").await.text(), "run 1");
    let mut now = 0;
    for millis in [1, 999, 1000, 1001, 1999] {
        clock.advance(Duration::from_millis(millis - now));
        now = millis;
        let path = format!("/{millis}");
        let miss = client.get(&path).await;
        assert_eq!((miss.text(), miss.is_stored()), ("run 1", true), "after {millis} ms");
        let age: u64 = miss.field("age").unwrap().parse().unwrap();
        assert!(age < 2, "after {millis} ms: {age}");
        assert!(client.get(&path).await.is_hit(), "after {millis} ms");
    }
    clock.advance(Duration::from_millis(1));
    assert_eq!(client.get("/last").await.text(), "run 2");
}

/// The handler sets a lifetime only for complete responses. Its fields state another one.
#[actix_web::test]
async fn lifetime_that_the_handler_set_remains_after_a_not_modified() {
    for stated in ["max-age=600", "max-age=0"] {
        check_remaining_lifetime(stated).await;
    }
}

async fn check_remaining_lifetime(stated: &'static str) {
    let (cache, clock) = cache();
    let server = serve(2, move || {
        let handler = move |request: HttpRequest, options: CacheOptions| async move {
            let is_validated = request.headers().contains_key("if-none-match");
            let status = if is_validated { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
            if !is_validated {
                options.ttl(secs(10));
            }
            let mut response = HttpResponse::build(status);
            response.insert_header(("etag", "\"1\"")).insert_header(("cache-control", stated));
            response.body("page")
        };
        App::new().wrap(cache.clone()).default_service(web::to(handler))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/").await.is_stored());
    for round in 0..3 {
        clock.advance(secs(9));
        assert!(client.get("/").await.is_hit(), "round {round}, {stated}");
        // The lifetime is not one that the response states, so it permits no sharing with persons.
        let personal = client.get_with("/", &[("x-api-key", "1")]).await;
        assert!(personal.cache_status().starts_with("fwd=request;"), "round {round}");
        clock.advance(secs(1));
        let answer = client.get("/").await;
        assert_eq!(answer.cache_status(), VALIDATED, "round {round}");
    }
}

#[actix_web::test]
async fn not_modified_with_a_new_lifetime_shortens_the_one_that_the_handler_set() {
    let (cache, clock) = cache();
    let server = serve(2, move || {
        let handler = async |request: HttpRequest, options: CacheOptions| {
            let is_validated = request.headers().contains_key("if-none-match");
            let (status, stated) = match is_validated {
                true => (StatusCode::NOT_MODIFIED, "max-age=3"),
                false => (StatusCode::OK, "max-age=600"),
            };
            if !is_validated {
                options.ttl(secs(10));
            }
            let mut response = HttpResponse::build(status);
            response.insert_header(("etag", "\"1\"")).insert_header(("cache-control", stated));
            response.body("page")
        };
        App::new().wrap(cache.clone()).default_service(web::to(handler))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    assert!(client.get("/").await.is_stored());
    clock.advance(secs(10));
    for round in 0..2 {
        assert_eq!(client.get("/").await.cache_status(), VALIDATED, "round {round}");
        clock.advance(secs(2));
        assert!(client.get("/").await.is_hit(), "round {round}");
        clock.advance(secs(1));
    }
}
