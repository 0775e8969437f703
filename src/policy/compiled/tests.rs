use actix_web::http::header::{CONTENT_TYPE, HeaderValue};

use super::*;
use crate::entry::fixtures::stored;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn key() -> CacheKey {
    CacheKey::new("t", "http", "h", "/", None)
}

fn compile(policy: Policy) -> CompiledPolicy {
    CompiledPolicy::new(policy, None, "t").unwrap()
}

/// Returns two lifetimes of a response in seconds: the lifetime that applies if the response states
/// none, and the lifetime that overrides the stated one. `None` if the response is not stored.
fn lifetimes(policy: &CompiledPolicy, status: u16) -> Option<(Option<u64>, Option<u64>)> {
    let terms = policy.terms(&key(), StatusCode::from_u16(status).unwrap(), None).ok()?;
    let first = terms.first.map(|(ttl, _)| ttl.as_secs());
    Some((terms.fallback.map(|ttl| ttl.as_secs()), first))
}

#[test]
fn lifetimes_of_a_status_precede_the_general_ones() {
    let new = Policy::new;
    let overriding = || new().override_ttl(secs(3)).override_status_ttl(404, secs(4));
    for (policy, status, want) in [
        (new(), 200, Some((Some(60), None))),
        (new(), 404, Some((None, None))),
        (new().default_ttl(secs(5)), 301, Some((Some(5), None))),
        (new().default_ttl(secs(5)), 302, Some((None, None))),
        (new().default_ttl(secs(0)), 200, Some((Some(0), None))),
        (new().explicit_only(), 200, Some((None, None))),
        (new().status_ttl(404, secs(7)), 404, Some((Some(7), None))),
        (new().status_ttl(404, secs(7)).status_ttl(404, secs(8)), 404, Some((Some(8), None))),
        (new().status_ttl(200, secs(7)), 200, Some((Some(7), None))),
        (new().status_ttl(404, secs(7)), 200, Some((Some(60), None))),
        (overriding(), 200, Some((Some(60), Some(3)))),
        (overriding(), 404, Some((None, Some(4)))),
        (overriding(), 500, Some((None, None))),
        (overriding().override_status_ttl(200, secs(0)), 200, Some((Some(60), Some(0)))),
        (new().never_store_status([200, 404]), 404, None),
        (new().never_store_status([200]).never_store_status([404]), 200, None),
        (new().never_store_status([404]), 200, Some((Some(60), None))),
        (overriding().never_store_status([404]), 404, None),
    ] {
        assert_eq!(lifetimes(&compile(policy.clone()), status), want, "{policy:?} {status}");
    }
}

#[test]
fn response_of_another_policy_gets_the_lifetime_of_this_policy() {
    let plain = compile(Policy::new());
    let long = compile(Policy::new().override_ttl(secs(90)));
    let never = compile(Policy::new().never_store_status([200, 404]));
    for (policy, status, source, stated, want) in [
        (&plain, 200, LifetimeSource::Policy, None, Some(60)),
        (&plain, 200, LifetimeSource::Policy, Some(5), Some(5)),
        (&plain, 200, LifetimeSource::Explicit, Some(500), Some(500)),
        (&plain, 200, LifetimeSource::Handler, Some(5), Some(60)),
        (&plain, 404, LifetimeSource::Policy, None, None),
        (&plain, 404, LifetimeSource::Explicit, Some(5), Some(5)),
        (&plain, 503, LifetimeSource::Explicit, Some(5), None),
        (&long, 200, LifetimeSource::Explicit, Some(5), Some(90)),
        (&long, 503, LifetimeSource::Handler, None, Some(60)),
        (&long, 301, LifetimeSource::Handler, None, Some(90)),
        (&never, 200, LifetimeSource::Explicit, Some(5), None),
        (&never, 404, LifetimeSource::Handler, None, None),
    ] {
        let mut response = stored(0, &[]);
        response.status = StatusCode::from_u16(status).unwrap();
        response.lifetime.source = source;
        response.stated = stated.map(secs);
        let got = policy.lifetime_under_policy(&key(), &response).map(|ttl| ttl.as_secs());
        assert_eq!(got, want, "{status} {source:?} {stated:?}");
    }
}

/// Another program wrote such a response into a store that processes share.
#[test]
fn stored_response_is_used_only_by_a_policy_that_stores_all_of_its_fields() {
    for (field, by_default, replaying_cookies, rfc9111) in [
        ("set-cookie", false, true, true),
        ("set-cookie2", false, true, true),
        ("ratelimit", false, false, true),
        ("x-ratelimit-remaining", false, false, true),
        ("x-request-id", false, false, true),
        ("ratelimit-policy", true, true, true),
        ("x-set-cookie", true, true, true),
        ("etag", true, true, true),
    ] {
        let mut response = stored(0, &[]);
        let line = (HeaderName::from_static(field), HeaderValue::from_static("1"));
        response.fields =
            [(CONTENT_TYPE, HeaderValue::from_static("text/html")), line].into_iter().collect();
        for (policy, used) in [
            (Policy::new(), by_default),
            (Policy::new().replay_set_cookie(), replaying_cookies),
            (Policy::rfc9111(), rfc9111),
        ] {
            assert_eq!(compile(policy).refuses_stored(&response), !used, "{field}");
        }
    }
    assert!(!compile(Policy::new()).refuses_stored(&stored(0, &[])));
    let mut own = stored(0, &[]);
    own.fields =
        [(HeaderName::from_static("x-own"), HeaderValue::from_static("1"))].into_iter().collect();
    assert!(!compile(Policy::new()).refuses_stored(&own));
    assert!(compile(Policy::new().leave_out(["X-O*"])).refuses_stored(&own));
}

#[test]
fn fields_that_stored_responses_need_are_not_left_out() {
    let targeted = || Policy::new().targeted_fields(["CDN-Cache-Control"]);
    for (policy, name, is_refused) in [
        (Policy::new(), "Content-Type", true),
        (Policy::new(), "content-language", true),
        (Policy::new(), "Content-*", true),
        (Policy::new(), "c*", true),
        (Policy::new(), "*", true),
        (Policy::new(), "Vary", true),
        (Policy::new(), "E*", true),
        (Policy::new(), "Set-Cookie", true),
        (Policy::new().replay_set_cookie(), "Set-Cookie", false),
        (targeted(), "cdn-*", true),
        (Policy::new(), "cdn-*", false),
        (Policy::new(), "X-Debug-*", false),
        (Policy::new(), "Retry-After", false),
    ] {
        let policy = policy.leave_out([name]);
        let essential = ConfigError::EssentialField(name.to_ascii_lowercase());
        let want = is_refused.then_some(essential);
        assert_eq!(CompiledPolicy::new(policy, None, "t").err(), want, "{name}");
    }
    for name in ["", "x a", "x-*-a", "x**"] {
        let error = CompiledPolicy::new(Policy::new().leave_out([name]), None, "t").err();
        assert_eq!(error, Some(ConfigError::InvalidFieldName(name.to_owned())));
    }
}

#[test]
fn scope_contains_namespace_and_fingerprint() {
    let scope = |policy: Policy, namespace: &str| {
        CompiledPolicy::new(policy, None, namespace).unwrap().scope
    };
    assert_eq!(scope(Policy::new(), "t"), KeyScope::new("t", ""));
    let loose = || Policy::new().replay_set_cookie();
    let fingerprint = fingerprint(&loose(), None);
    assert_eq!(scope(loose(), "t"), KeyScope::new("t", &fingerprint));
    assert_ne!(scope(loose(), "t"), scope(Policy::new(), &format!("t,{fingerprint}")));
}

#[test]
fn invalid_policy_is_refused_with_advice() {
    for (policy, message) in [
        (Policy::new().max_body_size(0), "max_body_size is 0"),
        (Policy::new().wait_limit(Duration::ZERO), "wait_limit is 0"),
        (Policy::new().background_limit(Duration::ZERO), "background_limit is 0"),
        (Policy::new().drain_limit(Duration::ZERO), "drain_limit is 0"),
        (Policy::new().refresh_ahead(0), "refresh_ahead is 0 percent"),
        (Policy::new().refresh_ahead(100), "refresh_ahead is 100 percent"),
        (Policy::new().jitter(0), "jitter is 0 percent"),
        (Policy::new().jitter(51), "jitter is 51 percent"),
        (Policy::new().key_header("not a name"), "\"not a name\" is not a header field name"),
        (Policy::new().credentials(["x y"]), "not a header field name"),
        (Policy::new().targeted_fields(["x y"]), "not a header field name"),
        (Policy::new().vary_cookie(""), "empty cookie name"),
        (Policy::new().key_with("", |_| None), "key_with has an empty name"),
        (Policy::new().status_ttl(304, secs(1)), "status 304"),
        (Policy::new().override_status_ttl(99, secs(1)), "status 99"),
        (Policy::new().never_store_status([200, 600]), "status 600"),
        (Policy::new().override_ttl(Duration::ZERO), "override_ttl is 0"),
        (Policy::new().tag("post:{id}"), "the tag \"post:{id}\" has braces"),
    ] {
        let error = CompiledPolicy::new(policy, None, "t").expect_err("refused");
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn handler_ttl_precedes_all_but_override_ttl() {
    let (plain, long) = (compile(Policy::new()), compile(Policy::new().override_ttl(secs(90))));
    for (policy, own, want) in [
        (&plain, None, None),
        (&plain, Some(7), Some((7, LifetimeSource::Handler))),
        (&long, None, Some((90, LifetimeSource::Policy))),
        (&long, Some(7), Some((90, LifetimeSource::Policy))),
    ] {
        let terms = policy.terms(&key(), StatusCode::OK, own.map(secs)).unwrap();
        let first = terms.first.map(|(ttl, source)| (ttl.as_secs(), source));
        assert_eq!(first, want, "{own:?}");
    }
}

#[test]
fn heuristic_lifetime_and_unusual_status_count_only_under_policies_that_use_them() {
    let (plain, rfc9111) = (compile(Policy::new()), compile(Policy::rfc9111()));
    for (policy, status, source, stated, want) in [
        (&plain, 404, LifetimeSource::Heuristic, None, None),
        (&plain, 200, LifetimeSource::Heuristic, None, Some(60)),
        (&rfc9111, 404, LifetimeSource::Heuristic, None, Some(50)),
        (&rfc9111, 404, LifetimeSource::Heuristic, Some(5), Some(5)),
        (&rfc9111, 200, LifetimeSource::Policy, None, None),
        (&rfc9111, 200, LifetimeSource::Explicit, None, None),
        (&rfc9111, 200, LifetimeSource::Handler, None, Some(50)),
        (&plain, 503, LifetimeSource::Explicit, Some(5), None),
        (&rfc9111, 503, LifetimeSource::Explicit, Some(5), Some(5)),
    ] {
        let mut response = stored(0, &[]);
        response.status = StatusCode::from_u16(status).unwrap();
        response.lifetime.source = source;
        response.lifetime.freshness = secs(50);
        response.stated = stated.map(secs);
        let got = policy.lifetime_under_policy(&key(), &response);
        assert_eq!(got, want.map(secs), "{status} {source:?} {stated:?}");
    }
}

#[test]
fn keyed_fields_are_key_headers_and_cookie() {
    let of = |policy: Policy| {
        let policy = compile(policy);
        policy.keyed_fields().map(HeaderName::to_string).collect::<Vec<_>>()
    };
    assert!(of(Policy::new()).is_empty());
    assert_eq!(of(Policy::new().key_header("X-Tenant")), ["x-tenant"]);
    assert_eq!(of(Policy::new().vary_cookie("lang")), ["cookie"]);
    assert_eq!(
        of(Policy::new().vary_cookie("a").vary_cookie("b").key_header("x-t")),
        ["x-t", "cookie"]
    );
}

#[test]
fn targeted_fields_reach_clients_unless_removed() {
    let kept = compile(Policy::new().targeted_fields(["x-cc"]));
    assert!(kept.removed_downstream().is_empty());
    let policy = Policy::new().targeted_fields(["x-cc"]).remove_targeted_fields();
    assert_eq!(compile(policy).removed_downstream(), ["x-cc"]);
}

#[test]
fn compiled_policy_returns_the_settings() {
    let plain = compile(Policy::new().max_body_size(7));
    assert!(
        !plain.honors_request_directives() && !plain.forwards_conditions() && !plain.stores_posts()
    );
    assert_eq!((plain.max_body_size(), plain.windows()), (7, Windows::default()));
    assert_eq!(plain.wait_limit(), secs(5));
    assert_eq!((plain.background_limit(), plain.drain_limit()), (secs(30), secs(30)));
    let limits = compile(Policy::new().background_limit(secs(1)).drain_limit(secs(2)));
    assert_eq!((limits.background_limit(), limits.drain_limit()), (secs(1), secs(2)));
    assert!(!plain.trusts_origin_validators());
    assert_eq!(plain.vary_cookie, VaryCookie::Added);
    let proxy = compile(Policy::rfc9111());
    assert!(
        proxy.honors_request_directives() && proxy.forwards_conditions() && proxy.stores_posts()
    );
    assert!(proxy.trusts_origin_validators());
    assert_eq!(proxy.windows().if_error, secs(24 * 60 * 60));
    assert_eq!(proxy.vary_cookie, VaryCookie::NotNeeded);
    let ignoring = compile(Policy::new().ignore_cookies(["*"]));
    assert_eq!(ignoring.vary_cookie, VaryCookie::NotNeeded);
    let some = compile(Policy::new().ignore_cookies(["_*"]));
    assert_eq!(some.vary_cookie, VaryCookie::Added);
}

#[test]
fn response_is_refreshed_ahead_in_the_last_percent_of_its_lifetime() {
    let ahead = compile(Policy::new().refresh_ahead(20));
    let (due, not_due) = (BackgroundRefresh::Due, BackgroundRefresh::NotDue);
    for (freshness, left, want) in
        [(100, 100, not_due), (100, 21, not_due), (100, 20, due), (u64::MAX, 0, due)]
    {
        assert_eq!(ahead.refresh_ahead(secs(freshness), secs(left)), want, "{left}");
    }
    let never = compile(Policy::new());
    assert_eq!(never.refresh_ahead(secs(100), Duration::ZERO), not_due);
}

/// All parts of the cache must agree on the lifetime of a response.
#[test]
fn jitter_shortens_all_lifetimes_that_the_response_does_not_state() {
    let plain = Policy::new().default_ttl(secs(600)).status_ttl(404, secs(600));
    let plain = plain.override_status_ttl(301, secs(600));
    let (jittered, plain) = (compile(plain.clone().jitter(50)), compile(plain));
    let want = jittered.jittered(secs(600), &key());
    assert!(want < secs(600) && want >= secs(300), "{want:?}");
    assert_eq!(plain.jittered(secs(600), &key()), secs(600));
    for (policy, want) in [(&plain, secs(600)), (&jittered, want)] {
        for status in [200, 404, 301] {
            let status = StatusCode::from_u16(status).unwrap();
            let terms = policy.terms(&key(), status, None).unwrap();
            let own = terms.first.map(|(ttl, _)| ttl).or(terms.fallback);
            assert_eq!(own, Some(want), "{status}");
            let mut response = stored(0, &[]);
            response.status = status;
            response.lifetime.source = LifetimeSource::Policy;
            let got = policy.lifetime_under_policy(&key(), &response);
            assert_eq!(got, Some(want), "{status}");
        }
    }
    // The lifetime of a handler was shortened when the response was stored.
    for source in [LifetimeSource::Handler, LifetimeSource::Explicit] {
        let mut response = stored(0, &[]);
        response.lifetime.source = source;
        response.lifetime.freshness = secs(600);
        response.stated = (source == LifetimeSource::Explicit).then(|| secs(600));
        assert_eq!(jittered.lifetime_under_policy(&key(), &response), Some(secs(600)));
    }
}
