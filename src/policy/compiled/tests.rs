use actix_web::test::TestRequest;

use super::*;
use crate::entry::fixtures::stored;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn checked(policy: Policy, rules: Vec<Rule>) -> CompiledPolicy {
    CompiledPolicy::new(policy, rules, Unmatched::Policy, "t").unwrap()
}

/// The fallback lifetime and the overriding one.
fn lifetimes(
    checked: &CompiledPolicy,
    path: &str,
    status: u16,
) -> Option<(Option<u64>, Option<u64>)> {
    let matched = checked.match_rules(&TestRequest::with_uri(path).to_srv_request())?;
    let terms = checked.terms(&matched, StatusCode::from_u16(status).unwrap(), None).ok()?;
    let first = terms.first.map(|(ttl, _)| ttl.as_secs());
    Some((terms.fallback.map(|ttl| ttl.as_secs()), first))
}

#[test]
fn the_first_rule_that_matches_path_and_status_decides() {
    let cache = checked(
        Policy::new().status_ttl(404, secs(7)),
        vec![
            Rule::path("/health").bypass(),
            Rule::prefix("/a").status([404, 500]).ttl(secs(1)),
            Rule::prefix("/a").status([200]).bypass(),
            Rule::prefix("/a").ttl(secs(2)),
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
        ("/b", 500, Some((None, Some(3)))),
        ("/c", 200, None),
        ("/d", 200, Some((Some(0), None))),
        ("/d", 404, Some((Some(0), None))),
        ("/other", 200, Some((Some(60), None))),
        ("/other", 404, Some((Some(7), None))),
        ("/other", 410, Some((Some(4), None))),
        ("/other", 302, Some((None, None))),
    ] {
        assert_eq!(lifetimes(&cache, path, status), want, "{path} {status}");
    }
}

#[test]
fn what_another_stored_is_granted_the_lifetime_that_it_would_have_here() {
    let cache = checked(
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
        ("/long", 503, LifetimeSource::Handler, None, Some(90)),
        ("/no", 200, LifetimeSource::Explicit, Some(5), None),
        ("/no", 404, LifetimeSource::Handler, None, None),
    ] {
        let mut response = stored(0, &[]);
        response.status = StatusCode::from_u16(status).unwrap();
        response.lifetime.source = source;
        response.stated = stated.map(secs);
        let matched = cache.match_rules(&TestRequest::with_uri(path).to_srv_request()).unwrap();
        let got = cache
            .lifetime_under_policy(&matched, &response)
            .map(|lifetime_under_policy| lifetime_under_policy.as_secs());
        assert_eq!(got, want, "{path} {status} {source:?} {stated:?}");
    }
}

#[test]
fn without_rules_the_policy_decides_or_nothing_is_cached() {
    let cache = checked(Policy::new().default_ttl(secs(5)), vec![]);
    assert_eq!(lifetimes(&cache, "/", 200), Some((Some(5), None)));
    let explicit = checked(Policy::new().explicit_only(), vec![]);
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
fn policies_that_loosen_what_is_personal_or_the_same_do_not_share() {
    let scope = |policy: Policy, rules: Vec<Rule>| checked(policy, rules).scope;
    let plain = scope(Policy::new(), vec![]);
    let same = scope(Policy::new().default_ttl(secs(9)), vec![Rule::path("/a").ttl(secs(1))]);
    assert_eq!(plain, same, "lifetimes do not matter");
    let ignoring = scope(Policy::new().ignore_cookies(["a", "b"]), vec![]);
    assert_eq!(ignoring, scope(Policy::new().ignore_cookies(["b", "a"]), vec![]));
    let all = [
        plain,
        ignoring,
        scope(Policy::new().ignore_cookies(["a"]), vec![]),
        scope(Policy::new().credentials(["x-mine"]), vec![]),
        scope(Policy::new().replay_set_cookie(), vec![]),
        scope(Policy::new().share_despite_cookies(), vec![]),
        scope(Policy::new().honor_qualified_directives(), vec![]),
        scope(Policy::new().targeted_fields(["x-cache-control"]), vec![]),
        scope(Policy::new().fold_language_case(), vec![]),
        scope(Policy::new().vary_languages(["de"]), vec![]),
        scope(Policy::new().vary_codings(["br"]), vec![]),
        scope(Policy::rfc9111(), vec![]),
        scope(Policy::new().query(QueryKey::sorted()), vec![]),
        scope(Policy::new(), vec![Rule::path("/a").query(QueryKey::sorted())]),
        CompiledPolicy::new(Policy::new(), vec![], Unmatched::Policy, "other").unwrap().scope,
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[index + 1..].contains(one), "{one:?} twice in {all:?}");
    }
}

#[test]
fn a_configuration_that_cannot_work_is_refused_with_advice() {
    let new = |policy, namespace| CompiledPolicy::new(policy, vec![], Unmatched::Policy, namespace);
    for (policy, namespace, say) in [
        (Policy::new(), "", "namespace is empty"),
        (Policy::new().max_body_size(0), "t", "max_body_size is 0"),
        (Policy::new().wait_limit(Duration::ZERO), "t", "wait_limit is 0"),
        (Policy::new().refresh_ahead(0), "t", "refresh_ahead is 0 percent"),
        (Policy::new().refresh_ahead(100), "t", "refresh_ahead is 100 percent"),
        (Policy::new().key_header("not a name"), "t", "\"not a name\" is no field name"),
        (Policy::new().credentials(["x y"]), "t", "no field name"),
        (Policy::new().targeted_fields(["x y"]), "t", "no field name"),
        (Policy::new().vary_cookie(""), "t", "cookie has an empty name"),
        (Policy::new().key_with("", |_| None), "t", "key part has an empty name"),
        (Policy::new().status_ttl(304, secs(1)), "t", "status 304"),
    ] {
        let error = new(policy, namespace).expect_err("refused");
        assert!(error.to_string().contains(say), "{error}");
    }
}

/// The rules for a path, which does not pass.
fn admitted(checked: &CompiledPolicy, path: &str) -> MatchedRules {
    checked.match_rules(&TestRequest::with_uri(path).to_srv_request()).unwrap()
}

#[test]
fn a_handlers_word_goes_before_all_but_a_rule_that_overrides() {
    let cache = checked(Policy::new(), vec![Rule::path("/long").override_ttl(secs(90))]);
    for (path, own, want) in [
        ("/", None, None),
        ("/", Some(7), Some((7, LifetimeSource::Handler))),
        ("/long", None, Some((90, LifetimeSource::Policy))),
        ("/long", Some(7), Some((90, LifetimeSource::Policy))),
    ] {
        let matched = admitted(&cache, path);
        let terms = cache.terms(&matched, StatusCode::OK, own.map(secs)).unwrap();
        let first = terms.first.map(|(ttl, source)| (ttl.as_secs(), source));
        assert_eq!(first, want, "{path} {own:?}");
    }
}

#[test]
fn a_guess_or_a_rare_status_is_granted_only_by_policies_that_follow_them() {
    let (plain, rfc9111) = (checked(Policy::new(), vec![]), checked(Policy::rfc9111(), vec![]));
    for (cache, status, source, stated, want) in [
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
        let got = cache.lifetime_under_policy(&admitted(cache, "/"), &response);
        assert_eq!(got, want.map(secs), "{status} {source:?} {stated:?}");
    }
}

#[test]
fn the_rule_that_decides_says_how_long_clients_keep_it_or_else_the_policy() {
    let rules = || {
        vec![
            Rule::path("/a").status([404]).client_ttl(secs(1)),
            Rule::path("/a").client_ttl(secs(2)),
            Rule::path("/b").ttl(secs(9)),
        ]
    };
    let with = checked(Policy::new().client_ttl(secs(3)), rules());
    let without = checked(Policy::new(), rules());
    for (path, status, of_rule) in
        [("/a", 404, Some(1)), ("/a", 200, Some(2)), ("/b", 200, None), ("/c", 200, None)]
    {
        let status = StatusCode::from_u16(status).unwrap();
        let of = |cache: &CompiledPolicy| {
            cache.client_ttl(&admitted(cache, path), status).map(|ttl| ttl.as_secs())
        };
        assert_eq!(of(&with), of_rule.or(Some(3)), "{path} {status}");
        assert_eq!(of(&without), of_rule, "{path} {status}");
    }
}

#[test]
fn a_status_has_a_lifetime_of_its_own_if_it_is_given_one() {
    let cache = checked(Policy::new().status_ttl(404, secs(7)), vec![]);
    for (status, want) in [
        (200, true),
        (203, true),
        (301, true),
        (308, true),
        (404, true),
        (302, false),
        (500, false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(cache.gives_lifetimes_to(status), want, "{status}");
    }
}

#[test]
fn what_the_key_is_made_of_can_be_named() {
    let of = |policy: Policy| {
        let cache = checked(policy, vec![]);
        cache.keyed_fields().map(HeaderName::to_string).collect::<Vec<_>>()
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
fn targeted_fields_reach_clients_unless_they_are_to_be_removed() {
    let kept = checked(Policy::new().targeted_fields(["x-cc"]), vec![]);
    assert!(kept.removed_downstream().is_empty());
    let policy = Policy::new().targeted_fields(["x-cc"]).remove_targeted_fields();
    assert_eq!(checked(policy, vec![]).removed_downstream(), ["x-cc"]);
}

#[test]
fn a_policy_is_asked_what_it_was_told() {
    let plain = checked(Policy::new().max_body_size(7), vec![]);
    assert!(
        !plain.honors_request_directives() && !plain.forwards_conditions() && !plain.stores_posts()
    );
    assert_eq!((plain.max_body_size(), plain.windows()), (7, Windows::default()));
    assert_eq!(plain.wait_limit(), secs(5));
    assert!(!plain.trusts_origin_validators());
    assert_eq!(plain.vary_cookie, VaryCookie::Said);
    let proxy = checked(Policy::rfc9111(), vec![]);
    assert!(
        proxy.honors_request_directives() && proxy.forwards_conditions() && proxy.stores_posts()
    );
    assert!(proxy.trusts_origin_validators());
    assert_eq!(proxy.windows().if_error, secs(24 * 60 * 60));
    assert_eq!(proxy.vary_cookie, VaryCookie::NeverDue);
    let ignoring = checked(Policy::new().ignore_cookies(["*"]), vec![]);
    assert_eq!(ignoring.vary_cookie, VaryCookie::NeverDue);
    let some = checked(Policy::new().ignore_cookies(["_*"]), vec![]);
    assert_eq!(some.vary_cookie, VaryCookie::Said);
}

#[test]
fn the_last_part_of_a_lifetime_is_the_time_to_refresh() {
    let ahead = checked(Policy::new().refresh_ahead(20), vec![]);
    for (freshness, left, want) in [(100, 100, false), (100, 21, false), (100, 20, true)] {
        assert_eq!(ahead.refreshes(secs(freshness), secs(left)), want, "{left}");
    }
    assert!(ahead.refreshes(Duration::MAX, Duration::ZERO));
    assert!(!checked(Policy::new(), vec![]).refreshes(secs(100), Duration::ZERO));
}

#[test]
fn a_url_may_have_met_the_queries_of_all_rules_up_to_the_first_that_is_certain() {
    let only = |name: &str| QueryKey::only([name]);
    let cache = checked(
        Policy::new().query(only("policy")),
        vec![
            Rule::path("/a").status([404]).ttl(secs(1)),
            Rule::prefix("/a").when(|_| false).query(only("perhaps")),
            Rule::path("/a").query(only("sure")),
            Rule::path("/b").when(|_| true),
            Rule::prefix("/a").query(only("later")),
        ],
    );
    for (path, want) in [
        ("/a", vec!["perhaps", "sure"]),
        ("/a/b", vec!["perhaps", "later"]),
        ("/b", vec!["policy", "policy"]),
        ("/c", vec!["policy"]),
    ] {
        let want: Vec<_> = want.into_iter().map(|name| Some(only(name))).collect();
        let got: Vec<_> =
            cache.queries_of(path).into_iter().map(Option::<&QueryKey>::cloned).collect();
        assert_eq!(got, want, "{path}");
    }
    for (path, want) in [("/a", "sure"), ("/a/b", "later"), ("/b", "policy"), ("/c", "policy")] {
        let matched = admitted(&cache, path);
        assert_eq!(cache.query(&matched), Some(&only(want)), "{path}");
    }
    assert!(checked(Policy::new(), vec![]).queries_of("/") == [None]);
}
