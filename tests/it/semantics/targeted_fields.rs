//! Targeted cache-control fields, such as `CDN-Cache-Control` (RFC 9213).

use std::time::UNIX_EPOCH;

use actix_web_cache::Policy;

use crate::support::{Answer, START, TestApp, builder, recording_app, secs};

type Fields<'a> = &'a [(&'a str, &'a str)];

fn app_with(policy: Policy) -> (TestApp, actix_web_cache::ManualClock) {
    let (builder, clock) = builder();
    (recording_app(&builder.policy(policy).build().unwrap()).0, clock)
}

fn cdn() -> Policy {
    Policy::new().targeted_fields(["Our-Cache-Control", "CDN-Cache-Control"])
}

/// The freshness lifetime of a response with these fields, or `None` if it is not stored.
async fn lifetime(policy: Policy, fields: Fields<'_>) -> Option<u64> {
    let (app, _) = app_with(policy);
    let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let fields_to_send: Vec<_> = lines.iter().map(|line| ("answer", line.as_str())).collect();
    let miss = app.client.get_with("/", &fields_to_send).await;
    let hit: Answer = app.client.get("/").await;
    assert_eq!(miss.is_stored(), hit.is_hit(), "{fields:?}: {}", miss.cache_status());
    let ttl = hit.cache_status().strip_prefix("hit; ttl=").map(|ttl| ttl.parse().unwrap());
    assert_eq!(ttl.is_some(), hit.is_hit());
    ttl
}

/// See RFC 9213 section 2.2. The policy lists the fields in order of precedence.
#[actix_web::test]
async fn first_valid_targeted_field_overrides_cache_control_and_expires() {
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
        // The targeted field has no lifetime, and the other fields are ignored: the default
        // applies.
        (&[(cc, "max-age=10"), ("expires", &expires), (cdn_cc, "public")], Some(60)),
        (&[(cc, "max-age=10"), (cdn_cc, "max-age=20"), (cdn_cc, "max-age=25")], Some(25)),
        (&[(cc, "max-age=10"), (cdn_cc, "public"), (cdn_cc, "max-age=25")], Some(25)),
        (&[(cc, "max-age=10"), (cdn_cc, "max-age=20;x=1, unknown=(1 2)")], Some(20)),
        // A field that is no dictionary of structured fields is ignored (RFC 9213 section 2.1).
        (&[(cc, "max-age=10"), (cdn_cc, "max-age=20,")], Some(10)),
        (&[(cc, "max-age=10"), (cdn_cc, "max-age =20")], Some(10)),
        (&[(cc, "max-age=10"), (cdn_cc, "Max-Age=20")], Some(10)),
        (&[(cc, "max-age=10"), (cdn_cc, "no-store=1")], Some(10)),
        (&[(cc, "no-store"), (cdn_cc, "max-age=20, &")], None),
        (&[(cc, "max-age=10"), ("surrogate-control", "max-age=20")], Some(10)),
        (&[(cc, "max-age=10"), ("their-cache-control", "no-store")], Some(10)),
    ] {
        assert_eq!(lifetime(cdn(), fields).await, want, "{fields:?}");
        let is_targeted = fields.iter().any(|(name, _)| [cdn_cc, ours].contains(name));
        if is_targeted && fields[0] == (cc, "max-age=10") {
            assert_eq!(
                lifetime(Policy::new(), fields).await,
                Some(10),
                "without targeted fields in the policy: {fields:?}"
            );
        }
    }
}

#[actix_web::test]
async fn targeted_fields_are_forwarded_unless_the_policy_removes_them() {
    for removed in [false, true] {
        let policy = if removed { cdn().remove_targeted_fields() } else { cdn() };
        let (app, clock) = app_with(policy);
        let fields = [
            ("answer", "cache-control: max-age=10"),
            ("answer", "our-cache-control: max-age=60"),
            ("answer", "cdn-cache-control: max-age=30"),
            ("answer", "their-cache-control: max-age=90"),
            ("answer", "etag: \"a\""),
        ];
        let unchanged = [&fields[..], &[("answer-status", "304")]].concat();
        let bypass = [&fields[..], &[("if-match", "\"a\"")]].concat();
        let mut answers = vec![("miss", app.client.get_with("/", &fields).await)];
        answers.push(("hit", app.client.get("/").await));
        answers.push(("304", app.client.get_with("/", &[("if-none-match", "\"a\"")]).await));
        answers.push(("range", app.client.get_with("/", &[("range", "bytes=0-1")]).await));
        answers.push(("head", app.client.head("/").await));
        answers.push(("pass", app.client.get_with("/", &bypass).await));
        answers.push(("method", app.client.send(hyper::Method::OPTIONS, "/", &fields).await));
        clock.advance(secs(60));
        answers.push(("validated", app.client.get_with("/", &unchanged).await));
        let no_store = [&fields[..], &[("cache-control", "no-store")]].concat();
        answers.push(("not stored", app.client.get_with("/other", &no_store).await));
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
async fn targeted_field_decides_the_stale_windows() {
    let (app, clock) = app_with(cdn());
    let fields = [
        ("answer", "cache-control: max-age=600, stale-while-revalidate=600"),
        ("answer", "cdn-cache-control: max-age=10, stale-if-error=20"),
        ("answer", "etag: \"a\""),
    ];
    app.client.get_with("/", &fields).await;
    clock.advance(secs(29));
    let answer = app.client.get_with("/", &[("answer-status", "503")]).await;
    assert_eq!(answer.cache_status(), "fwd=stale; fwd-status=503; detail=stale-if-error");
    clock.advance(secs(1));
    assert_eq!(app.client.get_with("/", &[("answer-status", "503")]).await.status, 503);
}
