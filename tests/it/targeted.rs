//! Fields that speak to this cache alone, and what is guessed or understood of the others.

use std::time::UNIX_EPOCH;

use actix_web_cache::Policy;

use crate::support::{Answer, START, Site, builder, noting, secs};

type Fields<'a> = &'a [(&'a str, &'a str)];

fn of(policy: Policy) -> (Site, actix_web_cache::ManualClock) {
    let (builder, clock) = builder();
    (noting(&builder.policy(policy).build().unwrap()).0, clock)
}

fn cdn() -> Policy {
    Policy::new().targeted_fields(["Our-Cache-Control", "CDN-Cache-Control"])
}

/// How long a response with these fields is fresh; nothing if it is not stored.
async fn lifetime(policy: Policy, fields: Fields<'_>) -> Option<u64> {
    let (site, _) = of(policy);
    let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let told: Vec<_> = lines.iter().map(|line| ("answer", line.as_str())).collect();
    let miss = site.client.get_with("/", &told).await;
    let hit: Answer = site.client.get("/").await;
    assert_eq!(miss.is_stored(), hit.is_hit(), "{fields:?}: {}", miss.cache_status());
    let ttl = hit.cache_status().strip_prefix("hit; ttl=").map(|ttl| ttl.parse().unwrap());
    assert_eq!(ttl.is_some(), hit.is_hit());
    ttl
}

#[actix_web::test]
async fn the_first_valid_field_that_speaks_to_this_cache_counts_alone() {
    let expires = httpdate::fmt_http_date(UNIX_EPOCH + secs(START + 40));
    let (cc, cdn_cc, ours) = ("cache-control", "cdn-cache-control", "our-cache-control");
    for (fields, want) in [
        (&[(cc, "max-age=10"), (cdn_cc, "max-age=20")][..], Some(20)),
        (&[(cc, "max-age=20"), (cdn_cc, "max-age=10")], Some(10)),
        (&[(cc, "s-maxage=30"), (cdn_cc, "max-age=20")], Some(20)),
        (&[(cc, "no-store"), (cdn_cc, "max-age=20")], Some(20)),
        (&[(cc, "private, no-cache"), (cdn_cc, "max-age=20")], Some(20)),
        (&[(cc, "max-age=10"), (cdn_cc, "no-store")], None),
        (&[(cc, "max-age=10"), (cdn_cc, "private")], None),
        (&[(cc, "max-age=10"), (cdn_cc, "max-age=0")], None),
        (&[(cdn_cc, "max-age=20"), (ours, "max-age=30")], Some(30)),
        (&[(cdn_cc, "max-age=20"), (ours, "no-store")], None),
        (&[(cdn_cc, "no-store"), (ours, "max-age=30")], Some(30)),
        (&[(cdn_cc, "max-age=20"), (ours, "")], Some(20)),
        (&[(cdn_cc, "max-age=20"), (ours, "max-age=\"30\"")], Some(20)),
        (&[("expires", &expires), (cdn_cc, "max-age=20")], Some(20)),
        // It states no lifetime; and those beside it do not count.
        (&[(cc, "max-age=10"), ("expires", &expires), (cdn_cc, "public")], Some(60)),
        (&[(cc, "max-age=10"), (cdn_cc, "max-age=20"), (cdn_cc, "max-age=25")], Some(25)),
        (&[(cc, "max-age=10"), (cdn_cc, "public"), (cdn_cc, "max-age=25")], Some(25)),
        (&[(cc, "max-age=10"), (cdn_cc, "max-age=20;x=1, unknown=(1 2)")], Some(20)),
        // What is no dictionary of structured fields is not there.
        (&[(cc, "max-age=10"), (cdn_cc, "max-age=20,")], Some(10)),
        (&[(cc, "max-age=10"), (cdn_cc, "max-age =20")], Some(10)),
        (&[(cc, "max-age=10"), (cdn_cc, "Max-Age=20")], Some(10)),
        (&[(cc, "max-age=10"), (cdn_cc, "no-store=1")], Some(10)),
        (&[(cc, "no-store"), (cdn_cc, "max-age=20, &")], None),
        (&[(cc, "max-age=10"), ("surrogate-control", "max-age=20")], Some(10)),
        (&[(cc, "max-age=10"), ("their-cache-control", "no-store")], Some(10)),
    ] {
        assert_eq!(lifetime(cdn(), fields).await, want, "{fields:?}");
        let mine = fields.iter().any(|(name, _)| [cdn_cc, ours].contains(name));
        if mine && fields[0] == (cc, "max-age=10") {
            assert_eq!(
                lifetime(Policy::new(), fields).await,
                Some(10),
                "not addressed: {fields:?}"
            );
        }
    }
}

#[actix_web::test]
async fn targeted_fields_reach_clients_unless_they_are_to_be_removed() {
    for removed in [false, true] {
        let policy = if removed { cdn().remove_targeted_fields() } else { cdn() };
        let (site, clock) = of(policy);
        let fields = [
            ("answer", "cache-control: max-age=10"),
            ("answer", "our-cache-control: max-age=60"),
            ("answer", "cdn-cache-control: max-age=30"),
            ("answer", "their-cache-control: max-age=90"),
            ("answer", "etag: \"a\""),
        ];
        let unchanged = [&fields[..], &[("answer-status", "304")]].concat();
        let bypass = [&fields[..], &[("if-match", "\"a\"")]].concat();
        let mut answers = vec![("miss", site.client.get_with("/", &fields).await)];
        answers.push(("hit", site.client.get("/").await));
        answers.push(("304", site.client.get_with("/", &[("if-none-match", "\"a\"")]).await));
        answers.push(("range", site.client.get_with("/", &[("range", "bytes=0-1")]).await));
        answers.push(("head", site.client.head("/").await));
        answers.push(("pass", site.client.get_with("/", &bypass).await));
        answers.push(("method", site.client.send(hyper::Method::OPTIONS, "/", &fields).await));
        clock.advance(secs(60));
        answers.push(("validated", site.client.get_with("/", &unchanged).await));
        let no_store = [&fields[..], &[("cache-control", "no-store")]].concat();
        answers.push(("not stored", site.client.get_with("/other", &no_store).await));
        for (case, answer) in answers {
            for name in ["our-cache-control", "cdn-cache-control"] {
                assert_eq!(answer.field(name).is_none(), removed, "{name} of {case}");
            }
            for name in ["their-cache-control", "cache-control"] {
                assert!(answer.field(name).is_some(), "{name} of {case}");
            }
        }
    }
}

#[actix_web::test]
async fn a_targeted_field_rules_what_is_stale_too() {
    let (site, clock) = of(cdn());
    let fields = [
        ("answer", "cache-control: max-age=600, stale-while-revalidate=600"),
        ("answer", "cdn-cache-control: max-age=10, stale-if-error=20"),
        ("answer", "etag: \"a\""),
    ];
    site.client.get_with("/", &fields).await;
    clock.advance(secs(29));
    let answer = site.client.get_with("/", &[("answer-status", "503")]).await;
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=503; detail=stale-if-error");
    clock.advance(secs(1));
    assert_eq!(site.client.get_with("/", &[("answer-status", "503")]).await.status, 503);
}

#[actix_web::test]
async fn a_lifetime_is_guessed_by_last_modified_where_that_is_allowed() {
    let modified = |ago: u64| httpdate::fmt_http_date(UNIX_EPOCH + secs(START) - secs(ago));
    let guessing = || Policy::new().explicit_only().heuristic_freshness();
    for (policy, status, ago, more, want) in [
        (guessing(), 200, 1000, None, Some(100)),
        (guessing(), 200, 0, None, None),
        (guessing(), 200, 20_000_000, None, Some(86_400)),
        (guessing(), 204, 1000, None, Some(100)),
        (guessing(), 300, 1000, None, Some(100)),
        (guessing(), 301, 1000, None, Some(100)),
        (guessing(), 308, 1000, None, Some(100)),
        (guessing(), 404, 1000, None, Some(100)),
        (guessing(), 410, 1000, None, Some(100)),
        (guessing(), 302, 1000, None, None),
        (guessing(), 307, 1000, None, None),
        (guessing(), 403, 1000, None, None),
        (guessing(), 500, 1000, None, None),
        (guessing(), 503, 1000, None, None),
        (guessing(), 302, 1000, Some("public"), Some(100)),
        (guessing(), 200, 1000, Some("max-age=7"), Some(7)),
        (guessing(), 200, 1000, Some("max-age=0"), None),
        (guessing(), 200, 1000, Some("no-store"), None),
        (Policy::rfc9111(), 404, 1000, None, Some(100)),
        (Policy::rfc9111(), 500, 1000, None, None),
        (Policy::rfc9111(), 200, 1000, Some("must-revalidate"), Some(100)),
        (Policy::new().explicit_only(), 200, 1000, None, None),
        (Policy::new(), 200, 1000, None, Some(60)),
        (Policy::new(), 404, 1000, None, None),
    ] {
        let (site, _) = of(policy);
        let status = status.to_string();
        let modified = format!("last-modified: {}", modified(ago));
        let more = more.map(|directive| format!("cache-control: {directive}"));
        let mut fields = vec![("answer-status", &*status), ("answer", &*modified)];
        fields.extend(more.iter().map(|line| ("answer", line.as_str())));
        site.client.get_with("/", &fields).await;
        // As if nobody had anything to say of it any more.
        let hit = site.client.get_with("/", &[("answer-status", &*status)]).await;
        let ttl = hit.cache_status().strip_prefix("hit; ttl=").map(|ttl| ttl.parse().unwrap());
        assert_eq!(ttl, want, "{status}, {ago} s ago, {more:?}");
    }
}

#[actix_web::test]
async fn qualified_directives_withhold_the_fields_they_name_or_everything() {
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
        let (site, _) = of(policy);
        let line = format!("cache-control: max-age=60, {directive}");
        let fields = [("answer", &*line), ("answer", "x-own: 1"), ("answer", "x-kept: 1")];
        let miss = site.client.get_with("/", &fields).await;
        assert_eq!(miss.field("x-own").as_deref(), Some("1"), "{directive}: for who asked");
        let next = site.client.get("/").await;
        assert_eq!((miss.is_stored(), next.is_hit()), (stored, stored), "{directive}");
        assert_eq!(next.field("x-own"), None, "{directive}");
        assert_eq!(next.field("x-kept").is_some(), stored, "{directive}");
    }
    let (site, _) = of(by_field());
    let cookie = [
        ("answer", "cache-control: max-age=60, no-cache=\"set-cookie\""),
        ("answer", "set-cookie: sid=1"),
    ];
    let miss = site.client.get_with("/", &cookie).await;
    assert_eq!((miss.is_stored(), miss.field("set-cookie").is_some()), (true, true));
    let hit = site.client.get("/").await;
    assert_eq!((hit.is_hit(), hit.field("set-cookie")), (true, None));
}

#[actix_web::test]
async fn directives_for_those_who_understand_and_for_browsers() {
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
        let (site, clock) = of(Policy::rfc9111());
        let line = format!("cache-control: {directives}");
        site.client.get_with("/", &[("answer-status", status), ("answer", &line)]).await;
        let hit = site.client.get_with("/", &[("answer-status", status)]).await;
        let ttl = hit.cache_status().strip_prefix("hit; ttl=").map(|ttl| ttl.parse().unwrap());
        assert_eq!(ttl, want, "{status} {directives}");
        clock.advance(secs(60));
        let later = site.client.get_with("/", &[("answer-status", status)]).await;
        assert!(!later.is_hit(), "{status} {directives}: no longer than it is fresh");
    }
}
