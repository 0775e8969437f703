use actix_web::{
    http::header::{CONTENT_TYPE, HeaderValue},
    test::TestRequest,
};

use super::*;
use crate::entry::fixtures::stored;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn compile(policy: Policy, rules: Vec<Rule>) -> CompiledPolicy {
    CompiledPolicy::new(policy, rules, Unmatched::Policy, "t").unwrap()
}

/// Returns two lifetimes of a response in seconds: the lifetime that applies if the response states
/// none, and the lifetime that overrides the stated one. `None` if the response is not stored.
fn lifetimes(
    policy: &CompiledPolicy,
    path: &str,
    status: u16,
) -> Option<(Option<u64>, Option<u64>)> {
    let matched = policy.match_rules(&TestRequest::with_uri(path).to_srv_request())?;
    let terms = policy.terms(&matched, StatusCode::from_u16(status).unwrap(), None).ok()?;
    let first = terms.first.map(|(ttl, _)| ttl.as_secs());
    Some((terms.fallback.map(|ttl| ttl.as_secs()), first))
}

#[test]
fn first_rule_that_matches_path_and_status_decides() {
    let policy = compile(
        Policy::new().status_ttl(404, secs(7)),
        vec![
            Rule::path("/health").bypass(),
            Rule::prefix("/a").status([404, 500]).ttl(secs(1)),
            Rule::prefix("/a").status([200]).bypass(),
            Rule::prefix("/a").ttl(secs(2)),
            Rule::path("/bb").status([500]).override_ttl(secs(3)),
            Rule::prefix("/b").override_ttl(secs(3)),
            Rule::prefix("/c").override_ttl(secs(0)),
            Rule::prefix("/d").ttl(secs(0)),
            Rule::any().status([410]).ttl(secs(4)),
        ],
    );
    for (path, status, want) in [
        ("/health", 200, None),
        ("/a", 404, Some((Some(1), None))),
        ("/a", 500, Some((Some(1), None))),
        ("/a", 200, None),
        ("/a", 301, Some((Some(2), None))),
        ("/a", 503, Some((None, None))),
        ("/b", 200, Some((Some(60), Some(3)))),
        ("/b", 404, Some((Some(7), None))),
        ("/b", 500, Some((None, None))),
        ("/bb", 500, Some((None, Some(3)))),
        ("/bb", 200, Some((Some(60), None))),
        ("/c", 200, None),
        ("/d", 200, Some((Some(0), None))),
        ("/a", 302, Some((None, None))),
        ("/d", 404, Some((Some(7), None))),
        ("/other", 200, Some((Some(60), None))),
        ("/other", 404, Some((Some(7), None))),
        ("/other", 410, Some((Some(4), None))),
        ("/other", 302, Some((None, None))),
    ] {
        assert_eq!(lifetimes(&policy, path, status), want, "{path} {status}");
    }
}

#[test]
fn response_of_another_policy_gets_the_lifetime_of_this_policy() {
    let policy = compile(
        Policy::new(),
        vec![
            Rule::path("/long").override_ttl(secs(90)),
            Rule::path("/no").status([200, 404]).bypass(),
        ],
    );
    for (path, status, source, stated, want) in [
        ("/", 200, LifetimeSource::Policy, None, Some(60)),
        ("/", 200, LifetimeSource::Policy, Some(5), Some(5)),
        ("/", 200, LifetimeSource::Explicit, Some(500), Some(500)),
        ("/", 200, LifetimeSource::Handler, Some(5), Some(60)),
        ("/", 404, LifetimeSource::Policy, None, None),
        ("/", 404, LifetimeSource::Explicit, Some(5), Some(5)),
        ("/", 503, LifetimeSource::Explicit, Some(5), None),
        ("/long", 200, LifetimeSource::Explicit, Some(5), Some(90)),
        ("/long", 503, LifetimeSource::Handler, None, Some(60)),
        ("/long", 301, LifetimeSource::Handler, None, Some(90)),
        ("/no", 200, LifetimeSource::Explicit, Some(5), None),
        ("/no", 404, LifetimeSource::Handler, None, None),
    ] {
        let mut response = stored(0, &[]);
        response.status = StatusCode::from_u16(status).unwrap();
        response.lifetime.source = source;
        response.stated = stated.map(secs);
        let matched = policy.match_rules(&TestRequest::with_uri(path).to_srv_request()).unwrap();
        let got = policy.lifetime_under_policy(&matched, &response).map(|ttl| ttl.as_secs());
        assert_eq!(got, want, "{path} {status} {source:?} {stated:?}");
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
        ("ratelimit-policy", true, true, true),
        ("x-set-cookie", true, true, true),
        ("etag", true, true, true),
    ] {
        let mut response = stored(0, &[]);
        let line = (HeaderName::from_static(field), HeaderValue::from_static("1"));
        response.fields = [(CONTENT_TYPE, HeaderValue::from_static("text/html")), line].into();
        for (policy, used) in [
            (Policy::new(), by_default),
            (Policy::new().replay_set_cookie(), replaying_cookies),
            (Policy::rfc9111(), rfc9111),
        ] {
            assert_eq!(compile(policy, vec![]).refuses_stored(&response), !used, "{field}");
        }
    }
    assert!(!compile(Policy::new(), vec![]).refuses_stored(&stored(0, &[])));
}

#[test]
fn request_without_a_rule_follows_the_policy_or_bypasses() {
    let policy = compile(Policy::new().default_ttl(secs(5)), vec![]);
    assert_eq!(lifetimes(&policy, "/", 200), Some((Some(5), None)));
    let explicit = compile(Policy::new().explicit_only(), vec![]);
    assert_eq!(lifetimes(&explicit, "/", 200), Some((None, None)));
    let none = CompiledPolicy::new(Policy::new(), vec![], Unmatched::Pass, "t").unwrap();
    assert_eq!(lifetimes(&none, "/", 200), None);
    let some = vec![Rule::path("/a"), Rule::path("/b").status([200])];
    let some = CompiledPolicy::new(Policy::new(), some, Unmatched::Pass, "t").unwrap();
    assert_eq!(lifetimes(&some, "/a", 200), Some((Some(60), None)));
    assert_eq!(lifetimes(&some, "/b", 200), Some((Some(60), None)));
    assert_eq!(lifetimes(&some, "/b", 404), None);
    assert_eq!(lifetimes(&some, "/c", 200), None);
}

#[test]
fn scope_contains_namespace_and_fingerprint() {
    let scope = |policy: Policy, namespace: &str| {
        CompiledPolicy::new(policy, vec![], Unmatched::Policy, namespace).unwrap().scope
    };
    assert_eq!(scope(Policy::new(), "t"), KeyScope::new("t", ""));
    let loose = || Policy::new().replay_set_cookie();
    let fingerprint = fingerprint(&loose(), &[]);
    assert_eq!(scope(loose(), "t"), KeyScope::new("t", &fingerprint));
    assert_ne!(scope(loose(), "t"), scope(Policy::new(), &format!("t,{fingerprint}")));
}

#[test]
fn invalid_policy_is_refused_with_advice() {
    let new = |policy, namespace| CompiledPolicy::new(policy, vec![], Unmatched::Policy, namespace);
    for (policy, namespace, message) in [
        (Policy::new(), "", "namespace of the cache is empty"),
        (Policy::new().max_body_size(0), "t", "max_body_size is 0"),
        (Policy::new().wait_limit(Duration::ZERO), "t", "wait_limit is 0"),
        (Policy::new().background_limit(Duration::ZERO), "t", "background_limit is 0"),
        (Policy::new().drain_limit(Duration::ZERO), "t", "drain_limit is 0"),
        (Policy::new().refresh_ahead(0), "t", "refresh_ahead is 0 percent"),
        (Policy::new().refresh_ahead(100), "t", "refresh_ahead is 100 percent"),
        (Policy::new().key_header("not a name"), "t", "\"not a name\" is not a header field name"),
        (Policy::new().credentials(["x y"]), "t", "not a header field name"),
        (Policy::new().targeted_fields(["x y"]), "t", "not a header field name"),
        (Policy::new().vary_cookie(""), "t", "empty cookie name"),
        (Policy::new().key_with("", |_| None), "t", "key_with has an empty name"),
        (Policy::new().status_ttl(304, secs(1)), "t", "status 304"),
    ] {
        let error = new(policy, namespace).expect_err("refused");
        assert!(error.to_string().contains(message), "{error}");
    }
}

/// Returns the rules that match a path. Panics if a rule lets requests for this path bypass the
/// cache.
fn matched_rules(policy: &CompiledPolicy, path: &str) -> MatchedRules {
    policy.match_rules(&TestRequest::with_uri(path).to_srv_request()).unwrap()
}

#[test]
fn handler_ttl_precedes_all_but_override_ttl() {
    let policy = compile(Policy::new(), vec![Rule::path("/long").override_ttl(secs(90))]);
    for (path, own, want) in [
        ("/", None, None),
        ("/", Some(7), Some((7, LifetimeSource::Handler))),
        ("/long", None, Some((90, LifetimeSource::Policy))),
        ("/long", Some(7), Some((90, LifetimeSource::Policy))),
    ] {
        let matched = matched_rules(&policy, path);
        let terms = policy.terms(&matched, StatusCode::OK, own.map(secs)).unwrap();
        let first = terms.first.map(|(ttl, source)| (ttl.as_secs(), source));
        assert_eq!(first, want, "{path} {own:?}");
    }
}

#[test]
fn heuristic_lifetime_and_unusual_status_count_only_under_policies_that_use_them() {
    let (plain, rfc9111) = (compile(Policy::new(), vec![]), compile(Policy::rfc9111(), vec![]));
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
        let got = policy.lifetime_under_policy(&matched_rules(policy, "/"), &response);
        assert_eq!(got, want.map(secs), "{status} {source:?} {stated:?}");
    }
}

#[test]
fn client_ttl_of_the_deciding_rule_precedes_that_of_the_policy() {
    let rules = || {
        vec![
            Rule::path("/a").status([404]).client_ttl(secs(1)),
            Rule::path("/a").client_ttl(secs(2)),
            Rule::path("/b").ttl(secs(9)),
        ]
    };
    let with = compile(Policy::new().client_ttl(secs(3)), rules());
    let without = compile(Policy::new(), rules());
    for (path, status, of_rule) in
        [("/a", 404, Some(1)), ("/a", 200, Some(2)), ("/b", 200, None), ("/c", 200, None)]
    {
        let status = StatusCode::from_u16(status).unwrap();
        let of = |policy: &CompiledPolicy| {
            policy.client_ttl(&matched_rules(policy, path), status).map(|ttl| ttl.as_secs())
        };
        assert_eq!(of(&with), of_rule.or(Some(3)), "{path} {status}");
        assert_eq!(of(&without), of_rule, "{path} {status}");
    }
}

#[test]
fn keyed_fields_are_key_headers_and_cookie() {
    let of = |policy: Policy| {
        let policy = compile(policy, vec![]);
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
    let kept = compile(Policy::new().targeted_fields(["x-cc"]), vec![]);
    assert!(kept.removed_downstream().is_empty());
    let policy = Policy::new().targeted_fields(["x-cc"]).remove_targeted_fields();
    assert_eq!(compile(policy, vec![]).removed_downstream(), ["x-cc"]);
}

#[test]
fn compiled_policy_returns_the_settings() {
    let plain = compile(Policy::new().max_body_size(7), vec![]);
    assert!(
        !plain.honors_request_directives() && !plain.forwards_conditions() && !plain.stores_posts()
    );
    assert_eq!((plain.max_body_size(), plain.windows()), (7, Windows::default()));
    assert_eq!(plain.wait_limit(), secs(5));
    assert_eq!((plain.background_limit(), plain.drain_limit()), (secs(30), secs(30)));
    let limits = compile(Policy::new().background_limit(secs(1)).drain_limit(secs(2)), vec![]);
    assert_eq!((limits.background_limit(), limits.drain_limit()), (secs(1), secs(2)));
    assert!(!plain.trusts_origin_validators());
    assert_eq!(plain.vary_cookie, VaryCookie::Added);
    let proxy = compile(Policy::rfc9111(), vec![]);
    assert!(
        proxy.honors_request_directives() && proxy.forwards_conditions() && proxy.stores_posts()
    );
    assert!(proxy.trusts_origin_validators());
    assert_eq!(proxy.windows().if_error, secs(24 * 60 * 60));
    assert_eq!(proxy.vary_cookie, VaryCookie::NotNeeded);
    let ignoring = compile(Policy::new().ignore_cookies(["*"]), vec![]);
    assert_eq!(ignoring.vary_cookie, VaryCookie::NotNeeded);
    let some = compile(Policy::new().ignore_cookies(["_*"]), vec![]);
    assert_eq!(some.vary_cookie, VaryCookie::Added);
}

#[test]
fn response_is_refreshed_ahead_in_the_last_percent_of_its_lifetime() {
    let ahead = compile(Policy::new().refresh_ahead(20), vec![]);
    let (due, not_due) = (BackgroundRefresh::Due, BackgroundRefresh::NotDue);
    for (freshness, left, want) in
        [(100, 100, not_due), (100, 21, not_due), (100, 20, due), (u64::MAX, 0, due)]
    {
        assert_eq!(ahead.refresh_ahead(secs(freshness), secs(left)), want, "{left}");
    }
    let never = compile(Policy::new(), vec![]);
    assert_eq!(never.refresh_ahead(secs(100), Duration::ZERO), not_due);
}

#[test]
fn queries_of_a_path_are_those_of_rules_up_to_the_first_without_predicate() {
    let only = |name: &str| QueryKey::only([name]);
    let policy = compile(
        Policy::new().query(only("policy")),
        vec![
            Rule::path("/a").status([404]).ttl(secs(1)),
            Rule::prefix("/a").when(|_| false).query(only("maybe")),
            Rule::path("/a").query(only("sure")),
            Rule::path("/b").when(|_| true),
            Rule::prefix("/a").query(only("later")),
        ],
    );
    for (path, want) in [
        ("/a", vec!["maybe", "sure"]),
        ("/a/b", vec!["maybe", "later"]),
        ("/b", vec!["policy", "policy"]),
        ("/c", vec!["policy"]),
    ] {
        let want: Vec<_> = want.into_iter().map(|name| Some(only(name))).collect();
        let got: Vec<_> =
            policy.queries_of_path(path).into_iter().map(Option::<&QueryKey>::cloned).collect();
        assert_eq!(got, want, "{path}");
    }
    for (path, want) in [("/a", "sure"), ("/a/b", "later"), ("/b", "policy"), ("/c", "policy")] {
        let matched = matched_rules(&policy, path);
        assert_eq!(policy.query(&matched), Some(&only(want)), "{path}");
    }
    assert!(compile(Policy::new(), vec![]).queries_of_path("/") == [None]);
}
