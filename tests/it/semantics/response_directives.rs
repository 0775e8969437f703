//! Response directives and heuristic freshness (RFC 9111 sections 4.2.2 and 5.2.2).

use std::time::UNIX_EPOCH;

use actix_web_cache::Policy;

use crate::support::{
    START, TestApp, builder, cache, recording_app, requested_response, secs, test_app,
};

fn app_with(policy: Policy) -> (TestApp, actix_web_cache::ManualClock) {
    let (builder, clock) = builder();
    (recording_app(&builder.policy(policy).build().unwrap()).0, clock)
}

/// See RFC 9111 section 4.2.2. The lifetime is at most a day.
#[actix_web::test]
async fn heuristic_lifetime_is_a_tenth_of_the_age_of_last_modified() {
    let modified = |ago: u64| httpdate::fmt_http_date(UNIX_EPOCH + secs(START) - secs(ago));
    let heuristic = || Policy::new().explicit_only().heuristic_freshness();
    for (policy, status, ago, directive, want) in [
        (heuristic(), 200, 1000, None, Some(100)),
        (heuristic(), 200, 0, None, None),
        (heuristic(), 200, 20_000_000, None, Some(86_400)),
        (heuristic(), 204, 1000, None, Some(100)),
        (heuristic(), 300, 1000, None, Some(100)),
        (heuristic(), 301, 1000, None, Some(100)),
        (heuristic(), 308, 1000, None, Some(100)),
        (heuristic(), 404, 1000, None, Some(100)),
        (heuristic(), 410, 1000, None, Some(100)),
        (heuristic(), 302, 1000, None, None),
        (heuristic(), 307, 1000, None, None),
        (heuristic(), 403, 1000, None, None),
        (heuristic(), 500, 1000, None, None),
        (heuristic(), 503, 1000, None, None),
        (heuristic(), 302, 1000, Some("public"), Some(100)),
        (heuristic(), 200, 1000, Some("max-age=7"), Some(7)),
        (heuristic(), 200, 1000, Some("max-age=0"), None),
        (heuristic(), 200, 1000, Some("no-store"), None),
        (Policy::rfc9111(), 404, 1000, None, Some(100)),
        (Policy::rfc9111(), 500, 1000, None, None),
        (Policy::rfc9111(), 200, 1000, Some("must-revalidate"), Some(100)),
        (Policy::new().explicit_only(), 200, 1000, None, None),
        (Policy::new(), 200, 1000, None, Some(60)),
        (Policy::new(), 404, 1000, None, None),
    ] {
        let (app, _) = app_with(policy);
        let status = status.to_string();
        let modified = format!("last-modified: {}", modified(ago));
        let line = directive.map(|directive| format!("cache-control: {directive}"));
        let mut fields = vec![("answer-status", &*status), ("answer", &*modified)];
        fields.extend(line.iter().map(|line| ("answer", line.as_str())));
        app.client.get_with("/", &fields).await;
        // This request asks for no response fields, so only the stored ones count.
        let hit = app.client.get_with("/", &[("answer-status", &*status)]).await;
        let ttl = hit.cache_status().strip_prefix("hit; ttl=").map(|ttl| ttl.parse().unwrap());
        assert_eq!(ttl, want, "{status}, {ago} s ago, {directive:?}");
    }
}

/// RFC 9111 sections 5.2.2.4 and 5.2.2.7 define the qualified forms. Without the policy's consent
/// they count as unqualified ones.
#[actix_web::test]
async fn qualified_private_and_no_cache_withhold_fields_or_the_whole_response() {
    let by_field = || Policy::new().honor_qualified_directives();
    for (directive, policy, stored) in [
        ("private=\"x-own\"", Policy::new(), false),
        ("no-cache=\"x-own\"", Policy::new(), false),
        ("private=\"x-own, x-other\"", by_field(), true),
        ("no-cache=\"x-own, x-other\"", by_field(), true),
        ("no-cache=\"X-Own\", private=\"x-other\"", by_field(), true),
        ("private=x-own", by_field(), true),
        ("private=\"\"", by_field(), false),
        ("private, private=\"x-own\"", by_field(), false),
    ] {
        let (app, _) = app_with(policy);
        let line = format!("cache-control: max-age=60, {directive}");
        let fields = [("answer", &*line), ("answer", "x-own: 1"), ("answer", "x-kept: 1")];
        let miss = app.client.get_with("/", &fields).await;
        assert_eq!(
            miss.field("x-own").as_deref(),
            Some("1"),
            "{directive}: the requesting client gets the field"
        );
        let next = app.client.get("/").await;
        assert_eq!((miss.is_stored(), next.is_hit()), (stored, stored), "{directive}");
        assert_eq!(next.field("x-own"), None, "{directive}");
        assert_eq!(next.field("x-kept").is_some(), stored, "{directive}");
    }
    let (app, _) = app_with(by_field());
    let cookie = [
        ("answer", "cache-control: max-age=60, no-cache=\"set-cookie\""),
        ("answer", "set-cookie: sid=1"),
    ];
    let miss = app.client.get_with("/", &cookie).await;
    assert_eq!((miss.is_stored(), miss.field("set-cookie").is_some()), (true, true));
    let hit = app.client.get("/").await;
    assert_eq!((hit.is_hit(), hit.field("set-cookie")), (true, None));
}

/// See RFC 9111 section 5.2.2.3 and RFC 8246 section 2.
#[actix_web::test]
async fn must_understand_and_immutable_follow_their_definitions() {
    for (status, directives, want) in [
        ("200", "max-age=60, no-store, must-understand", Some(60)),
        ("404", "max-age=60, must-understand", Some(60)),
        ("299", "max-age=60, must-understand", None),
        ("299", "max-age=60, no-store, must-understand", None),
        ("299", "max-age=60", Some(60)),
        ("200", "max-age=60, immutable", Some(60)),
        ("200", "immutable", None),
        ("200", "max-age=60, unheard-of=\"of, no-store\"", Some(60)),
    ] {
        let (app, clock) = app_with(Policy::rfc9111());
        let line = format!("cache-control: {directives}");
        app.client.get_with("/", &[("answer-status", status), ("answer", &line)]).await;
        let hit = app.client.get_with("/", &[("answer-status", status)]).await;
        let ttl = hit.cache_status().strip_prefix("hit; ttl=").map(|ttl| ttl.parse().unwrap());
        assert_eq!(ttl, want, "{status} {directives}");
        clock.advance(secs(60));
        let later = app.client.get_with("/", &[("answer-status", status)]).await;
        assert!(!later.is_hit(), "{status} {directives}: not stored or stale");
    }
}

#[actix_web::test]
async fn refusing_directive_prevents_storing_and_is_forwarded_unchanged() {
    let (cache, _) = cache();
    let app = test_app(&cache, requested_response);
    for (line, detail) in [
        ("cache-control: no-store", "no-store"),
        ("cache-control: No-Store, max-age=60", "no-store"),
        ("cache-control: private", "private"),
        ("cache-control: private=\"x-a\", max-age=60", "private"),
        ("cache-control: no-cache", "no-cache"),
        ("cache-control: max-age=0", "no-lifetime"),
        ("cache-control: s-maxage=0, max-age=60", "no-lifetime"),
        ("cache-control: max-age=abc", "no-lifetime"),
        ("cache-control: max-age=-1", "no-lifetime"),
        ("cache-control: max-age=1.5", "no-lifetime"),
        ("expires: 0", "no-lifetime"),
        ("expires: Thu, 01 Jan 1970 00:00:00 GMT", "no-lifetime"),
        ("vary: *", "vary"),
        ("vary: accept, *", "vary"),
        ("vary:  * ", "vary"),
    ] {
        let (name, value) = line.split_once(':').unwrap();
        for _ in 0..2 {
            let answer = app.client.get_with("/", &[("answer", line)]).await;
            assert_eq!(answer.cache_status(), format!("fwd=uri-miss; detail={detail}"), "{line}");
            assert_eq!(answer.field(name).as_deref(), Some(value.trim()), "{line}");
        }
    }
    // A directive name inside a quoted string is no directive, and names are case-insensitive (RFC
    // 9111 section 5.2).
    for (path, line, ttl) in [
        ("/quoted", "cache-control: ext=\"no-store\", max-age=20", 20),
        ("/case", "cache-control: Max-Age=10", 10),
        ("/sign", "cache-control: ext=\"a=b, private\", max-age=20", 20),
    ] {
        let fields = [("answer", line)];
        let miss = app.client.get_with(path, &fields).await;
        let hit = app.client.get_with(path, &fields).await;
        assert_eq!(hit.cache_status(), format!("hit; ttl={ttl}"), "{line}");
        let value = line.split_once(": ").unwrap().1;
        for answer in [miss, hit] {
            assert_eq!(answer.field("cache-control").as_deref(), Some(value), "forwarded as sent");
        }
    }
}

/// The lines of `Cache-Control` beside `max-age=60`, and whether the response is stored without the
/// field `X-Own`.
const QUALIFIED: &[(&[&str], bool)] = &[
    (&["private=\"x-own\""], true),
    (&["private=x-own"], true),
    (&["private=\"x-own\", private=\"x-other\""], true),
    (&["private="], false),
    (&["private=\"\""], false),
    (&["private=\" \""], false),
    (&["private=\"x-own"], false),
    (&["private=\"x own\""], false),
    (&["private =\"x-own\""], false),
    (&["private= \"x-own\""], false),
    (&["private=\"x-own\" x"], false),
    (&["private, private=\"x-own\""], false),
    (&["private=\"x-own\", private"], false),
    (&["private=\"x-own\"", "private"], false),
    (&["private", "private=\"x-own\""], false),
    (&["private=\"x-own\"", "public, private=\"\""], false),
    (&["no-cache="], false),
    (&["no-cache=\"\""], false),
    (&["no-cache =\"x-own\""], false),
    (&["no-cache=\"x-own\"", "no-cache"], false),
];

/// A directive that cannot be read as a list of field names applies to the whole response.
#[actix_web::test]
async fn malformed_qualified_directive_counts_as_unqualified() {
    for policy in [Policy::new().honor_qualified_directives(), Policy::rfc9111()] {
        let (app, _) = app_with(policy.clone());
        for (index, (lines, stored)) in QUALIFIED.iter().enumerate() {
            let path = format!("/{index}");
            let lines: Vec<_> = lines.iter().map(|line| format!("cache-control: {line}")).collect();
            let mut fields: Vec<_> = lines.iter().map(|line| ("answer", line.as_str())).collect();
            fields.extend([("answer", "cache-control: max-age=60"), ("answer", "x-own: 1")]);
            let first = app.client.get_with(&path, &fields).await;
            assert_eq!(
                (first.is_stored(), first.field("x-own").as_deref()),
                (*stored, Some("1")),
                "{lines:?}"
            );
            let next = app.client.get(&path).await;
            assert_eq!((next.is_hit(), next.field("x-own")), (*stored, None), "{lines:?}");
        }
    }
    // The cookie is not among the fields that are withheld.
    let (app, _) = app_with(Policy::new().honor_qualified_directives());
    let fields = [
        ("answer", "cache-control: max-age=60, private=\"x-unknown\""),
        ("answer", "set-cookie: sid=1"),
    ];
    let answer = app.client.get_with("/cookie", &fields).await;
    assert_eq!(answer.cache_status(), "fwd=uri-miss; detail=set-cookie");
}
