use std::sync::LazyLock;

use actix_web::http::header::{
    AGE, CACHE_CONTROL, ETAG, EXPIRES, HeaderValue, LAST_MODIFIED, VARY,
};

use super::*;
use crate::{
    entry::{fixtures::at, lifetime::Validation},
    semantics::replayed_fields::ONE_REQUEST_FIELDS,
};

mod credentials;

const ANONYMOUS: Requester =
    Requester { has_authorization: false, has_cookies: false, has_credentials: false };
const AUTHORIZED: Requester = Requester { has_authorization: true, ..ANONYMOUS };
const COOKIES: Requester = Requester { has_cookies: true, ..ANONYMOUS };
const CREDENTIALS: Requester = Requester { has_credentials: true, ..ANONYMOUS };

fn exchange(status: u16, response: &HeaderMap, requester: Requester) -> Exchange<'_> {
    Exchange {
        request_no_store: false,
        requester,
        sharing: &Sharing::Everybody,
        requested: at(0),
        status: StatusCode::from_u16(status).unwrap(),
        response,
        handler_directives: None,
        responded: at(0),
    }
}

fn response(cache_control: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if !cache_control.is_empty() {
        fields.insert(CACHE_CONTROL, HeaderValue::from_str(cache_control).unwrap());
    }
    fields
}

/// Returns the freshness lifetime in seconds and its source, or the reason why the response is not
/// stored.
fn outcome(decision: StorageDecision) -> Result<(u64, LifetimeSource), NotStored> {
    match decision {
        StorageDecision::Store(plan) => {
            Ok((plan.lifetime.freshness.as_secs(), plan.lifetime.source))
        }
        StorageDecision::Skip(reason) => Err(reason),
    }
}

/// The choices of the default policy, except that stale responses are not kept for validation.
static DEFAULTS: LazyLock<PolicyChoices> = LazyLock::new(|| PolicyChoices {
    any_status: AnyStatus::Usual,
    heuristics: Heuristics::Off,
    set_cookie: SetCookie::Refused,
    qualified: Qualified::AsUnqualified,
    one_request_fields: OneRequestFields::Withheld,
    left_out: FieldPatterns::new(ONE_REQUEST_FIELDS),
    targets: Vec::new(),
    retention: Duration::ZERO,
    windows: Windows { while_revalidate: Duration::ZERO, if_error: Duration::ZERO },
});

fn no_lifetimes() -> StorageTerms<'static> {
    StorageTerms { first: None, fallback: None, choices: &DEFAULTS }
}

fn terms(first: Option<u64>, fallback: Option<u64>) -> StorageTerms<'static> {
    StorageTerms {
        first: first.map(|n| (Duration::from_secs(n), LifetimeSource::Policy)),
        fallback: fallback.map(Duration::from_secs),
        ..no_lifetimes()
    }
}

#[test]
fn explicit_lifetime_precedes_fallback_and_follows_first() {
    use LifetimeSource::{Explicit, Policy};
    for (cache_control, first, fallback, want) in [
        ("", None, None, Err(NotStored::NoLifetime)),
        ("", None, Some(60), Ok((60, Policy))),
        ("", None, Some(0), Err(NotStored::NoLifetime)),
        ("max-age=5", None, Some(60), Ok((5, Explicit))),
        ("max-age=0", None, Some(60), Err(NotStored::NoLifetime)),
        ("s-maxage=0, max-age=9", None, Some(60), Err(NotStored::NoLifetime)),
        ("max-age=abc", None, Some(60), Err(NotStored::NoLifetime)),
        ("max-age=5", Some(90), Some(60), Ok((90, Policy))),
        ("max-age=0", Some(90), None, Ok((90, Policy))),
        ("", Some(u64::MAX), None, Ok((MAX_LIFETIME.as_secs(), Policy))),
        ("", None, Some(u64::MAX), Ok((MAX_LIFETIME.as_secs(), Policy))),
        ("max-age=5", Some(0), Some(60), Err(NotStored::NoLifetime)),
        ("no-store", Some(90), None, Err(NotStored::NoStore)),
        ("private", Some(90), None, Err(NotStored::Private)),
        ("private=\"x-a\"", Some(90), None, Err(NotStored::Private)),
        ("no-cache, max-age=60", Some(90), None, Err(NotStored::NoCache)),
        ("public, no-store", None, Some(60), Err(NotStored::NoStore)),
        ("ext=\"no-store\", max-age=5", None, None, Ok((5, Explicit))),
    ] {
        let fields = response(cache_control);
        let got = outcome(decide(&exchange(200, &fields, ANONYMOUS), &terms(first, fallback)));
        assert_eq!(got, want, "{cache_control:?} first {first:?} fallback {fallback:?}");
    }
}

#[test]
fn pragma_overrides_only_the_fallback_lifetime() {
    for (cache_control, first, fallback, want) in [
        ("", None, Some(60), Err(NotStored::NoCache)),
        ("max-age=5", None, Some(60), Ok((5, LifetimeSource::Explicit))),
        ("", Some(90), Some(60), Ok((90, LifetimeSource::Policy))),
        ("", None, None, Err(NotStored::NoLifetime)),
    ] {
        let mut fields = response(cache_control);
        fields.insert(PRAGMA, HeaderValue::from_static("No-Cache"));
        let got = outcome(decide(&exchange(200, &fields, ANONYMOUS), &terms(first, fallback)));
        assert_eq!(got, want, "{cache_control:?} first {first:?} fallback {fallback:?}");
    }
}

#[test]
fn explicit_lifetime_is_obeyed_for_usual_status_codes_or_for_all() {
    let fields = response("max-age=5");
    let usual = [200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501];
    for status in 100..1000 {
        let stored = |terms: &StorageTerms<'_>| {
            outcome(decide(&exchange(status, &fields, ANONYMOUS), terms))
        };
        let never = status < 200 || status == 206 || status == 304;
        let any_status = PolicyChoices { any_status: AnyStatus::Final, ..DEFAULTS.clone() };
        let any_status = StorageTerms { choices: &any_status, ..no_lifetimes() };
        assert_eq!(stored(&no_lifetimes()).is_ok(), usual.contains(&status), "{status}");
        assert_eq!(stored(&any_status).is_ok(), !never, "{status} with any status");
        assert_eq!(
            stored(&terms(Some(9), None)).is_ok(),
            !never,
            "{status} with a lifetime from the policy"
        );
    }
}

#[test]
fn responses_with_fields_that_forbid_storing_are_not_stored() {
    for (name, value, want) in [
        ("set-cookie", "a=1", NotStored::SetCookie),
        ("set-cookie2", "a=1", NotStored::SetCookie),
        ("connection", "cache-control", NotStored::Connection),
        ("connection", "close, content-type", NotStored::Connection),
        ("vary", "*", NotStored::Vary),
        ("vary", "accept, *", NotStored::Vary),
    ] {
        let mut fields = response("public, max-age=5");
        fields.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        let got = outcome(decide(&exchange(200, &fields, ANONYMOUS), &terms(Some(9), Some(9))));
        assert_eq!(got, Err(want), "{name}: {value}");
    }
}

#[test]
fn request_with_no_store_is_not_stored() {
    let fields = response("public, max-age=5");
    let exchange = Exchange { request_no_store: true, ..exchange(200, &fields, ANONYMOUS) };
    let got = outcome(decide(&exchange, &terms(Some(9), Some(9))));
    assert_eq!(got, Err(NotStored::RequestNoStore));
}

#[test]
fn plan_contains_the_fields_of_vary() {
    let mut fields = response("max-age=5");
    fields.insert(VARY, HeaderValue::from_static("accept"));
    let StorageDecision::Store(plan) = decide(&exchange(200, &fields, ANONYMOUS), &no_lifetimes())
    else {
        panic!("not stored");
    };
    assert_eq!(plan.nominated, [actix_web::http::header::ACCEPT]);
}

#[test]
fn response_that_is_received_stale_is_not_stored() {
    let fields = response_with("max-age=5", &[(AGE, "5")]);
    let got = outcome(decide(&exchange(200, &fields, ANONYMOUS), &no_lifetimes()));
    assert_eq!(got, Err(NotStored::Stale));
}

fn any_status() -> PolicyChoices {
    PolicyChoices { any_status: AnyStatus::Final, ..DEFAULTS.clone() }
}

fn response_with(cache_control: &str, fields: &[(HeaderName, &str)]) -> HeaderMap {
    let mut response = response(cache_control);
    for (name, value) in fields {
        response.append(name.clone(), HeaderValue::from_str(value).unwrap());
    }
    response
}

fn decide_with(choices: &PolicyChoices, status: u16, fields: &HeaderMap) -> StorageDecision {
    decide(&exchange(status, fields, ANONYMOUS), &StorageTerms { choices, ..no_lifetimes() })
}

#[test]
fn must_understand_overrides_no_store_for_understood_status_codes() {
    use NotStored::{NoStore, Private, Status};
    for (status, cache_control, want) in [
        (200, "must-understand, max-age=5", Ok((5, LifetimeSource::Explicit))),
        (200, "must-understand, no-store, max-age=5", Ok((5, LifetimeSource::Explicit))),
        (200, "no-store, max-age=5", Err(NoStore)),
        (200, "must-understand, no-store, private, max-age=5", Err(Private)),
        (599, "must-understand, max-age=5", Err(Status)),
        (599, "must-understand, no-store, max-age=5", Err(Status)),
        (599, "no-store, max-age=5", Err(NoStore)),
        (599, "max-age=5", Ok((5, LifetimeSource::Explicit))),
        (206, "must-understand, max-age=5", Err(Status)),
    ] {
        let got = outcome(decide_with(&any_status(), status, &response(cache_control)));
        assert_eq!(got, want, "section 5.2.2.3: {status} {cache_control}");
    }
}

#[test]
fn status_codes_of_rfc_9110_section_15_are_understood() {
    let fields = response("must-understand, max-age=5");
    let understood = |status: u16| match status {
        200..=205 | 300..=303 | 305 | 307 | 308 | 421 | 422 | 426 => true,
        400..=499 => status <= 417,
        500..=505 => true,
        _ => false,
    };
    for status in 200..600 {
        let got = outcome(decide_with(&any_status(), status, &fields)).is_ok();
        assert_eq!(got, understood(status), "{status}");
    }
}

#[test]
fn qualified_directives_apply_to_the_response_or_to_their_fields() {
    let by_field = PolicyChoices { qualified: Qualified::ByField, ..DEFAULTS.clone() };
    let kept = PolicyChoices { retention: Duration::from_secs(9), ..DEFAULTS.clone() };
    let tag = || vec![(ETAG, "\"a\"")];
    let cookie = || vec![(HeaderName::from_static("set-cookie"), "a=1")];
    let cookie2 = || vec![(HeaderName::from_static("set-cookie2"), "a=1")];
    for (choices, cache_control, fields, want) in [
        (&by_field, "private=\"x-a, x-b\", max-age=5", vec![], Ok(vec!["x-a", "x-b"])),
        (&by_field, "no-cache=\"x-a\", max-age=5", vec![], Ok(vec!["x-a"])),
        (&by_field, "no-cache=x-a, private=x-b, max-age=5", vec![], Ok(vec!["x-b", "x-a"])),
        (&by_field, "private, max-age=5", vec![], Err(NotStored::Private)),
        (&by_field, "private=\"x-a\", private, max-age=5", vec![], Err(NotStored::Private)),
        (&by_field, "no-cache, max-age=5", vec![], Err(NotStored::NoCache)),
        (&by_field, "private=\"set-cookie\", max-age=5", cookie(), Ok(vec!["set-cookie"])),
        (&by_field, "no-cache=\"Set-Cookie2\", max-age=5", cookie2(), Ok(vec!["set-cookie2"])),
        (&by_field, "private=\"set-cookie2\", max-age=5", cookie(), Err(NotStored::SetCookie)),
        (&by_field, "private=\"x-a\", max-age=5", cookie(), Err(NotStored::SetCookie)),
        (&*DEFAULTS, "private=\"x-a\", max-age=5", tag(), Err(NotStored::Private)),
        (&*DEFAULTS, "no-cache=\"x-a\", max-age=5", vec![], Err(NotStored::NoCache)),
        (&*DEFAULTS, "max-age=5", vec![], Ok(vec![])),
        (&kept, "no-cache=\"x-a\", max-age=5", tag(), Ok(vec![])),
    ] {
        let case = format!("sections 5.2.2.4 and 5.2.2.7: {cache_control} {:?}", choices.qualified);
        let fields = response_with(cache_control, &fields);
        match decide_with(choices, 200, &fields) {
            StorageDecision::Store(plan) => {
                assert_eq!(
                    Ok(plan.withheld),
                    want.map(|names| {
                        names.into_iter().map(HeaderName::from_static).collect::<Vec<_>>()
                    }),
                    "{case}"
                );
                let always = plan.lifetime.staleness.validation == Validation::Always;
                assert_eq!(always, *choices == kept, "{case}");
            }
            StorageDecision::Skip(reason) => assert_eq!(Err(reason), want, "{case}"),
        }
    }
}

#[test]
fn heuristic_lifetime_is_used_if_allowed_and_no_explicit_one_exists() {
    use LifetimeSource::{Explicit, Heuristic, Policy};
    use NotStored::{NoCache, NoLifetime, Status};
    let on = PolicyChoices { heuristics: Heuristics::On, ..DEFAULTS.clone() };
    // Time 0 of the test clock is 13:46:40 on January 12, 1970. This date is 50 s earlier.
    let long_ago = || vec![(LAST_MODIFIED, "Mon, 12 Jan 1970 13:45:50 GMT")];
    let pragma = || [long_ago(), vec![(PRAGMA, "no-cache")]].concat();
    let just_now = || vec![(LAST_MODIFIED, "Mon, 12 Jan 1970 13:46:35 GMT")];
    for (choices, status, cache_control, fields, fallback, want) in [
        (&on, 200, "", long_ago(), None, Ok((5, Heuristic))),
        (&on, 200, "", long_ago(), Some(60), Ok((5, Heuristic))),
        (&on, 200, "max-age=9", long_ago(), None, Ok((9, Explicit))),
        (&on, 200, "max-age=0", long_ago(), None, Err(NoLifetime)),
        (&on, 200, "", just_now(), Some(60), Err(NoLifetime)),
        (&on, 200, "", vec![], Some(60), Ok((60, Policy))),
        (&on, 200, "", vec![], None, Err(NoLifetime)),
        (&on, 200, "", pragma(), None, Err(NoCache)),
        (&*DEFAULTS, 200, "", long_ago(), None, Err(NoLifetime)),
        (&*DEFAULTS, 200, "public", long_ago(), None, Err(NoLifetime)),
        (&*DEFAULTS, 200, "", long_ago(), Some(60), Ok((60, Policy))),
        (&on, 302, "", long_ago(), None, Err(NoLifetime)),
        (&on, 302, "public", long_ago(), None, Ok((5, Heuristic))),
        (&on, 503, "", long_ago(), None, Err(Status)),
        (&on, 503, "public", long_ago(), None, Ok((5, Heuristic))),
        (&on, 503, "", long_ago(), Some(60), Ok((60, Policy))),
    ] {
        let fields = response_with(cache_control, &fields);
        let fallback = fallback.map(Duration::from_secs);
        let terms = StorageTerms { fallback, choices, ..no_lifetimes() };
        let got = outcome(decide(&exchange(status, &fields, ANONYMOUS), &terms));
        assert_eq!(
            got, want,
            "section 4.2.2: {status} {cache_control:?} {:?} {fallback:?}",
            choices.heuristics
        );
    }
    let cacheable = [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501];
    for status in 200..600 {
        let got = outcome(decide_with(&on, status, &response_with("", &long_ago()))).is_ok();
        assert_eq!(got, cacheable.contains(&status), "RFC 9110 section 15.1: {status}");
    }
}

#[test]
fn responses_with_set_cookie_are_stored_if_the_policy_permits() {
    let permitted = PolicyChoices { set_cookie: SetCookie::Stored, ..DEFAULTS.clone() };
    for name in ["set-cookie", "set-cookie2"] {
        let fields = response_with("max-age=5", &[(HeaderName::from_static(name), "a=1")]);
        let got = outcome(decide_with(&permitted, 200, &fields));
        assert_eq!(got, Ok((5, LifetimeSource::Explicit)), "section 7.3: {name}");
    }
}

#[test]
fn targeted_field_decides_in_place_of_cache_control() {
    let cdn = HeaderName::from_static("cdn-cache-control");
    let targets = PolicyChoices { targets: vec![cdn.clone()], ..DEFAULTS.clone() };
    for (choices, cache_control, targeted, want) in [
        (&targets, "no-store", "max-age=5", Ok((5, LifetimeSource::Explicit))),
        (&targets, "private", "max-age=5", Ok((5, LifetimeSource::Explicit))),
        (&targets, "max-age=5", "no-store", Err(NotStored::NoStore)),
        (&targets, "max-age=5", "private", Err(NotStored::Private)),
        (&targets, "max-age=5", "public", Err(NotStored::NoLifetime)),
        (&*DEFAULTS, "max-age=5", "no-store", Ok((5, LifetimeSource::Explicit))),
    ] {
        let fields = response_with(cache_control, &[(cdn.clone(), targeted)]);
        let got = outcome(decide_with(choices, 200, &fields));
        assert_eq!(got, want, "RFC 9213 section 2.2: {cache_control} {targeted}");
    }
}

#[test]
fn response_is_kept_as_long_as_it_can_be_validated_or_served_stale() {
    use NotStored::{NoLifetime, Stale};
    let secs = Duration::from_secs;
    let plain = PolicyChoices { retention: secs(100), ..DEFAULTS.clone() };
    let windows = Windows { while_revalidate: secs(20), if_error: secs(30) };
    let open = PolicyChoices { windows, ..plain.clone() };
    let wide = PolicyChoices {
        windows: Windows { while_revalidate: secs(200), ..windows },
        ..plain.clone()
    };
    let endless = PolicyChoices { retention: Duration::MAX, ..DEFAULTS.clone() };
    let tag = || vec![(ETAG, "\"a\"")];
    let tag_and_age = |age: &'static str| vec![(ETAG, "\"a\""), (AGE, age)];
    for (choices, cache_control, fields, want) in [
        (&plain, "max-age=5", vec![], Ok((5, 0))),
        (&plain, "max-age=5", tag(), Ok((5, 100))),
        (&plain, "max-age=5", vec![(LAST_MODIFIED, "Mon, 12 Jan 1970 13:45:50 GMT")], Ok((5, 100))),
        (&plain, "max-age=5", vec![(LAST_MODIFIED, "then")], Ok((5, 0))),
        (&plain, "max-age=5, stale-while-revalidate=7", vec![], Ok((5, 7))),
        (&plain, "max-age=5, stale-if-error=8", vec![], Ok((5, 8))),
        (&plain, "max-age=5, must-revalidate, stale-if-error=8", vec![], Ok((5, 0))),
        (&open, "max-age=5", vec![], Ok((5, 30))),
        (&open, "max-age=5", tag(), Ok((5, 100))),
        (&wide, "max-age=5", tag(), Ok((5, 200))),
        (&wide, "max-age=5, must-revalidate", tag(), Ok((5, 100))),
        (&wide, "s-maxage=5", vec![], Ok((5, 0))),
        (&endless, "max-age=5", tag(), Ok((5, MAX_LIFETIME.as_secs()))),
        (&plain, "max-age=0", tag(), Ok((0, 100))),
        (&plain, "max-age=0", vec![], Err(NoLifetime)),
        (&plain, "max-age=0, stale-while-revalidate=7", vec![], Ok((0, 7))),
        (&plain, "max-age=5", vec![(AGE, "4")], Ok((5, 0))),
        (&plain, "max-age=5", vec![(AGE, "5")], Err(Stale)),
        (&plain, "max-age=5", tag_and_age("104"), Ok((5, 100))),
        (&plain, "max-age=5", tag_and_age("105"), Err(Stale)),
        (&plain, "max-age=0", tag_and_age("100"), Err(NoLifetime)),
    ] {
        let fields = response_with(cache_control, &fields);
        let got = match decide_with(choices, 200, &fields) {
            StorageDecision::Store(plan) => {
                let Lifetime { freshness, retention, .. } = plan.lifetime;
                Ok((freshness.as_secs(), retention.as_secs()))
            }
            StorageDecision::Skip(reason) => Err(reason),
        };
        assert_eq!(got, want, "section 4.2.4: {cache_control} {fields:?}");
    }
}

#[test]
fn response_with_no_cache_needs_a_validator_and_no_lifetime() {
    use LifetimeSource::{Explicit, Policy};
    use NotStored::{NoCache, NoLifetime, Status};
    let kept = PolicyChoices { retention: Duration::from_secs(100), ..DEFAULTS.clone() };
    let tag = || vec![(ETAG, "\"a\"")];
    for (choices, status, cache_control, fields, first, want) in [
        (&kept, 200, "no-cache", tag(), None, Ok((0, Explicit))),
        (&kept, 302, "no-cache", tag(), None, Ok((0, Explicit))),
        (&kept, 200, "no-cache, max-age=9", tag(), None, Ok((9, Explicit))),
        (&kept, 200, "no-cache", tag(), Some(90), Ok((90, Policy))),
        (&kept, 200, "no-cache", vec![], None, Err(NoCache)),
        (&kept, 200, "no-cache", vec![], Some(90), Err(NoCache)),
        (&kept, 200, "no-cache", vec![(LAST_MODIFIED, "then")], None, Err(NoCache)),
        (&kept, 503, "no-cache", tag(), None, Ok((60, Policy))),
        (&*DEFAULTS, 200, "no-cache", tag(), None, Err(NoLifetime)),
    ] {
        let fields = response_with(cache_control, &fields);
        let terms = StorageTerms { choices, ..terms(first, Some(60)) };
        let decision = decide(&exchange(status, &fields, ANONYMOUS), &terms);
        if let StorageDecision::Store(plan) = &decision {
            assert_eq!(plan.lifetime.staleness.validation, Validation::Always, "{cache_control}");
        }
        let case = format!("section 5.2.2.4: {status} {cache_control} {first:?}");
        assert_eq!(outcome(decision), want, "{case}");
    }
    let got = outcome(decide_with(&kept, 503, &response_with("no-cache", &tag())));
    assert_eq!(got, Err(Status), "not a usual status code");
}

#[test]
fn plan_contains_stated_lifetime_and_initial_age() {
    for (cache_control, first, want) in
        [("max-age=5", None, Some(5)), ("max-age=5", Some(90), Some(5)), ("", Some(90), None)]
    {
        let fields = response_with(cache_control, &[(AGE, "1")]);
        let exchange = Exchange { responded: at(3), ..exchange(200, &fields, ANONYMOUS) };
        let StorageDecision::Store(plan) = decide(&exchange, &terms(first, None)) else {
            panic!("{cache_control} is not stored");
        };
        assert_eq!(plan.stated.map(|stated| stated.as_secs()), want, "{cache_control} {first:?}");
        assert_eq!(plan.lifetime.response_time, at(3));
        assert_eq!(plan.lifetime.initial_age.as_secs(), 4, "section 4.2.3");
    }
}

#[test]
fn response_with_a_nonce_is_stored_only_if_it_states_a_lifetime() {
    use actix_web::http::header::{
        CONTENT_SECURITY_POLICY as CSP, CONTENT_SECURITY_POLICY_REPORT_ONLY as REPORT_ONLY,
    };
    let nonce = "script-src 'nonce-abc'";
    for (case, cache_control, policy, handler, want) in [
        ("no nonce", "", (CSP, "script-src 'self'"), None, None),
        ("nonce", "", (CSP, nonce), None, Some(NotStored::Nonce)),
        ("nonce in a report-only policy", "", (REPORT_ONLY, nonce), None, Some(NotStored::Nonce)),
        ("public", "public", (CSP, nonce), None, Some(NotStored::Nonce)),
        ("lifetime of the handler", "max-age=5", (CSP, nonce), None, None),
        ("lifetime of a middleware", "max-age=5", (CSP, nonce), Some(""), Some(NotStored::Nonce)),
        ("lifetimes of both", "max-age=5", (CSP, nonce), Some("max-age=9"), None),
    ] {
        let (name, value) = policy;
        let fields = response_with(cache_control, &[(name, value)]);
        let own = handler.map(|text| ResponseDirectives::of(&response(text)));
        let exchange =
            Exchange { handler_directives: own.as_ref(), ..exchange(200, &fields, ANONYMOUS) };
        let got = outcome(decide(&exchange, &terms(None, Some(60))));
        assert_eq!(got.err(), want, "{case}");
    }
}

#[test]
fn fields_about_one_request_are_withheld() {
    let name = HeaderName::from_static;
    let fields = response_with(
        "max-age=5",
        &[
            (name("x-ratelimit-remaining"), "0"),
            (name("ratelimit"), "x"),
            (name("ratelimit-policy"), "x"),
            (name("x-request-id"), "x"),
            (name("x-kept"), "1"),
        ],
    );
    let stores = PolicyChoices { left_out: FieldPatterns::default(), ..DEFAULTS.clone() };
    for (choices, want) in
        [(&*DEFAULTS, &["ratelimit", "x-ratelimit-remaining", "x-request-id"][..]), (&stores, &[])]
    {
        let StorageDecision::Store(mut plan) = decide_with(choices, 200, &fields) else {
            panic!("not stored");
        };
        plan.withheld.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        assert_eq!(plan.withheld, want);
    }
}

#[test]
fn refusal_is_lasting_unless_its_cause_is_temporary() {
    for (reason, status, want) in [
        (NotStored::NoStore, 200, true),
        (NotStored::SetCookie, 404, true),
        (NotStored::TooLarge, 200, true),
        (NotStored::NoStore, 500, false),
        (NotStored::Status, 503, false),
        (NotStored::Invalidated, 200, false),
        (NotStored::Busy, 200, false),
        (NotStored::RequestChanged, 200, false),
        (NotStored::Status, 410, true),
        (NotStored::Status, 400, false),
        (NotStored::Status, 401, false),
        (NotStored::Private, 403, false),
        (NotStored::Status, 406, false),
        (NotStored::NoStore, 429, false),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(is_lasting_refusal(reason, status), want, "{reason:?} {status}");
    }
}
