//! Freshness lifetimes: the one that this cache applies, and the one that it advertises to clients.

use std::time::UNIX_EPOCH;

use actix_web::{App, HttpRequest, web};
use actix_web_cache::{Policy, Rule, SetCacheControl};
use httpdate::fmt_http_date;

use super::fields::cache_fields;
use crate::support::{
    Client, Protocol, START, builder, cache, requested_response, secs, serve, test_app,
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
        &builder.rule(Rule::any().override_ttl(secs(120))).build().unwrap(),
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
