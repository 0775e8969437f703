use std::borrow::Cow;

use actix_web::http::header::{ACCEPT, HeaderName};

use super::*;
use crate::entry::{
    content_coding::ContentCoding,
    fixtures::{at, stored},
    lifetime::Staleness,
    selector::Selects,
};

/// The header fields of a request, whose values are compared without normalization.
struct Fields<'a>(&'a [(HeaderName, &'static str)]);

impl Selects for Fields<'_> {
    fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        let field = self.0.iter().find(|(found, _)| found == name);
        field.map(|(_, value)| Cow::Borrowed(value.as_bytes()))
    }

    fn accepts_coding(&self) -> bool {
        false
    }

    fn decodes(&self, _: &StoredResponse) -> bool {
        false
    }

    fn preferred_coding(&self) -> Option<ContentCoding> {
        None
    }
}

const ANONYMOUS: Requester =
    Requester { has_authorization: false, has_cookies: false, has_credentials: false };

fn plain() -> ReuseRequest {
    ReuseRequest { requester: ANONYMOUS, directives: None, windows: Windows::default() }
}

fn variants(responses: Vec<StoredResponse>) -> Variants {
    let add = |variants: Option<Variants>, response| {
        Variants::add(variants.as_ref(), Arc::new(response), usize::MAX)
    };
    responses.into_iter().fold(None, add).unwrap()
}

const fn valid(_: &StoredResponse) -> Validity {
    Validity::Valid
}

const fn hour(_: &StoredResponse) -> Option<Duration> {
    Some(Duration::from_secs(3600))
}

/// Selects a response for a request without header fields. No response was purged or expired.
fn select(variants: &Variants, request: &ReuseRequest, now: u64) -> String {
    select_by(&[], variants, valid, hour, request, now)
}

fn select_by(
    fields: &[(HeaderName, &'static str)],
    variants: &Variants,
    validity: impl Fn(&StoredResponse) -> Validity,
    lifetime_under_policy: impl Fn(&StoredResponse) -> Option<Duration>,
    request: &ReuseRequest,
    now: u64,
) -> String {
    let fields = Fields(fields);
    let selector = Selector::new(&fields, &[], at(now));
    let reuse = select_response(
        Some(variants),
        &selector,
        validity,
        lifetime_under_policy,
        request,
        at(now),
    );
    describe(&reuse)
}

fn describe(reuse: &Reuse) -> String {
    match reuse {
        Reuse::Fresh { stored, age, ttl } => {
            let second = stored.lifetime.response_time.monotonic().as_secs();
            format!("{second}: age {} ttl {}", age.as_secs(), ttl.as_secs())
        }
        Reuse::Stale { age, over, refresh, .. } => {
            format!("stale: age {} over {} {refresh:?}", age.as_secs(), over.as_secs())
        }
        Reuse::Validate { because, .. } => format!("validate: {because:?}"),
        Reuse::Absent => "absent".to_owned(),
        Reuse::OtherVariant => "other variant".to_owned(),
        Reuse::NotForRequester => "not for requester".to_owned(),
    }
}

const DE: &[(HeaderName, Option<&str>)] = &[(ACCEPT, Some("de"))];
const FR: &[(HeaderName, Option<&str>)] = &[(ACCEPT, Some("fr"))];
const BY_COOKIE: &[(HeaderName, Option<&str>)] = &[(COOKIE, Some("sid=1"))];

#[test]
fn newest_matching_variant_is_selected_while_it_is_fresh() {
    let variants = variants(vec![stored(0, DE), stored(10, FR)]);
    for (fields, now, want) in [
        (&[(ACCEPT, "de")][..], 20, "0: age 20 ttl 40"),
        (&[(ACCEPT, "fr")], 20, "10: age 10 ttl 50"),
        (&[(ACCEPT, "es")], 20, "other variant"),
        (&[], 20, "other variant"),
        (&[(ACCEPT, "de")], 60, "validate: Stale"),
    ] {
        let got = select_by(fields, &variants, valid, hour, &plain(), now);
        assert_eq!(got, want, "{fields:?} at {now}");
    }
}

#[test]
fn resource_without_valid_responses_is_absent() {
    let fields = Fields(&[]);
    let selector = Selector::new(&fields, &[], at(1));
    let got = select_response(None, &selector, valid, hour, &plain(), at(1));
    assert_eq!(describe(&got), "absent");
    let variants = variants(vec![stored(0, &[])]);
    let got = select_by(&[], &variants, |_| Validity::Purged, hour, &plain(), 1);
    assert_eq!(got, "absent");
}

#[test]
fn purged_variant_is_not_selected_and_others_are() {
    let variants = variants(vec![stored(0, DE), stored(10, FR)]);
    let purged_fr = |stored: &StoredResponse| {
        if stored.lifetime.response_time == at(0) { Validity::Valid } else { Validity::Purged }
    };
    let select = |accept| select_by(&[(ACCEPT, accept)], &variants, purged_fr, hour, &plain(), 20);
    assert_eq!(select("fr"), "other variant");
    assert_eq!(select("de"), "0: age 20 ttl 40");
}

#[test]
fn response_with_another_discriminator_is_not_selected() {
    let mut other = stored(0, &[]);
    other.discriminator = Box::from(&b"x"[..]);
    let variants = variants(vec![other]);
    for (discriminator, want) in [(&b""[..], "other variant"), (b"x", "0: age 1 ttl 59")] {
        let fields = Fields(&[]);
        let selector = Selector::new(&fields, discriminator, at(1));
        let got = select_response(Some(&variants), &selector, valid, hour, &plain(), at(1));
        assert_eq!(describe(&got), want, "{discriminator:?}");
    }
}

#[test]
fn only_responses_with_explicit_freshness_are_allowed_for_requests_with_credentials() {
    let cookies = Requester { has_cookies: true, ..ANONYMOUS };
    let authorization = Requester { has_authorization: true, ..ANONYMOUS };
    let credentials = Requester { has_credentials: true, ..ANONYMOUS };
    let cookies_and_authorization = Requester { has_cookies: true, ..authorization };
    for (source, shared) in [
        (LifetimeSource::Explicit, true),
        (LifetimeSource::Middleware, false),
        (LifetimeSource::Heuristic, false),
        (LifetimeSource::Handler, false),
        (LifetimeSource::Policy, false),
    ] {
        for selected_by_cookie in [false, true] {
            let mut response = stored(0, if selected_by_cookie { BY_COOKIE } else { DE });
            response.lifetime.source = source;
            let permitted = StoredResponse { permits_sharing: true, ..response.clone() };
            for (requester, want) in [
                (ANONYMOUS, true),
                (authorization, shared),
                (credentials, shared),
                (cookies, shared || selected_by_cookie),
                (cookies_and_authorization, shared),
            ] {
                let case = format!("{source:?} {requester:?} selected by {:?}", response.selecting);
                assert_eq!(is_allowed_for(&response, requester), want, "{case}");
                assert!(is_allowed_for(&permitted, requester), "{case}, permitted");
            }
        }
    }
}

#[test]
fn response_with_lifetime_from_policy_is_not_served_to_requests_with_credentials() {
    let by_policy = variants(vec![stored(0, &[])]);
    let mut explicit = stored(0, &[]);
    explicit.lifetime.source = LifetimeSource::Explicit;
    let explicit = variants(vec![explicit]);
    for requester in [
        Requester { has_authorization: true, ..ANONYMOUS },
        Requester { has_cookies: true, ..ANONYMOUS },
        Requester { has_credentials: true, ..ANONYMOUS },
    ] {
        let request = ReuseRequest { requester, ..plain() };
        assert_eq!(select(&by_policy, &request, 1), "not for requester", "{requester:?}");
        assert_eq!(select(&by_policy, &request, 70), "not for requester", "no validation either");
        assert_eq!(select(&explicit, &request, 1), "0: age 1 ttl 59", "{requester:?}");
    }
    let by_cookie = variants(vec![stored(0, BY_COOKIE)]);
    let requester = Requester { has_cookies: true, ..ANONYMOUS };
    let request = ReuseRequest { requester, ..plain() };
    let got = select_by(&[(COOKIE, "sid=1")], &by_cookie, valid, hour, &request, 1);
    assert_eq!(got, "0: age 1 ttl 59", "selected by the same cookie");
}

#[test]
fn shorter_of_stored_lifetime_and_policy_lifetime_counts() {
    let by_policy = variants(vec![stored(0, &[])]);
    let mut explicit = stored(0, &[]);
    explicit.lifetime.source = LifetimeSource::Explicit;
    let explicit = variants(vec![explicit]);
    for (limit, want) in [
        (None, "validate: Stale"),
        (Some(0), "validate: Stale"),
        (Some(20), "validate: Stale"),
        (Some(30), "0: age 20 ttl 10"),
        (Some(90), "0: age 20 ttl 40"),
    ] {
        let limit = limit.map(Duration::from_secs);
        for variants in [&by_policy, &explicit] {
            let got = select_by(&[], variants, valid, |_| limit, &plain(), 20);
            assert_eq!(got, want, "{limit:?}");
        }
    }
}

#[test]
fn request_directives_demand_validation_of_fresh_responses() {
    let variants = variants(vec![stored(0, &[])]);
    let none = RequestDirectives::default();
    let secs = |n| Some(Duration::from_secs(n));
    for (directives, want) in [
        (none, "0: age 20 ttl 40"),
        (RequestDirectives { no_cache: true, ..none }, "validate: Client"),
        (RequestDirectives { max_age: secs(20), ..none }, "0: age 20 ttl 40"),
        (RequestDirectives { max_age: secs(19), ..none }, "validate: Client"),
        (RequestDirectives { min_fresh: secs(40), ..none }, "0: age 20 ttl 40"),
        (RequestDirectives { min_fresh: secs(41), ..none }, "validate: Client"),
    ] {
        let request = ReuseRequest { directives: Some(directives), ..plain() };
        assert_eq!(select(&variants, &request, 20), want, "section 5.2.1: {directives:?}");
    }
}

fn with_staleness(validation: Validation, while_revalidate: Option<u64>) -> Variants {
    let mut response = stored(0, &[]);
    response.lifetime.source = LifetimeSource::Explicit;
    response.lifetime.retention = Duration::from_secs(1000);
    response.lifetime.staleness = Staleness {
        validation,
        while_revalidate: while_revalidate.map(Duration::from_secs),
        if_error: None,
    };
    variants(vec![response])
}

#[test]
fn stale_response_is_served_within_its_window_or_to_clients_that_accept_it() {
    use Validation::{Always, OnceStale, Strict};
    let none = RequestDirectives::default();
    let max_stale = |n| RequestDirectives { max_stale: Some(Duration::from_secs(n)), ..none };
    let min_fresh = RequestDirectives { min_fresh: Some(Duration::from_secs(1)), ..none };
    for (validation, window, directives, now, want) in [
        (OnceStale, None, none, 70, "validate: Stale"),
        (OnceStale, Some(20), none, 59, "0: age 59 ttl 1"),
        (OnceStale, Some(20), none, 60, "stale: age 60 over 0 Due"),
        (OnceStale, Some(20), none, 79, "stale: age 79 over 19 Due"),
        (OnceStale, Some(20), none, 80, "validate: Stale"),
        (OnceStale, Some(20), min_fresh, 70, "validate: Stale"),
        (OnceStale, None, max_stale(10), 70, "stale: age 70 over 10 NotDue"),
        (OnceStale, None, max_stale(9), 70, "validate: Stale"),
        (OnceStale, Some(20), max_stale(5), 70, "stale: age 70 over 10 Due"),
        (OnceStale, Some(0), max_stale(10), 70, "stale: age 70 over 10 NotDue"),
        (Strict, None, max_stale(500), 70, "validate: Stale"),
        (Strict, Some(20), none, 70, "stale: age 70 over 10 Due"),
        (Always, None, none, 1, "validate: Stale"),
        (Always, Some(20), max_stale(500), 70, "validate: Stale"),
    ] {
        let request = ReuseRequest { directives: Some(directives), ..plain() };
        let got = select(&with_staleness(validation, window), &request, now);
        assert_eq!(got, want, "{validation:?} {window:?} {directives:?} at {now}");
    }
}

#[test]
fn expired_response_is_stale_since_its_expiration_or_the_end_of_its_lifetime() {
    for (since, now, want) in [
        (40, 50, "stale: age 50 over 10 Due"),
        (40, 59, "stale: age 59 over 19 Due"),
        (40, 60, "validate: Stale"),
        (0, 1, "stale: age 1 over 1 Due"),
        (60, 70, "stale: age 70 over 10 Due"),
        (69, 70, "stale: age 70 over 10 Due"),
    ] {
        let variants = with_staleness(Validation::OnceStale, Some(20));
        let expired = |_: &StoredResponse| Validity::ExpiredSince(at(since));
        let got = select_by(&[], &variants, expired, hour, &plain(), now);
        assert_eq!(got, want, "since {since} at {now}");
    }
}

const ON_ERROR: Windows =
    Windows { if_error: Duration::from_secs(10), while_revalidate: Duration::ZERO };

#[test]
fn stale_response_is_served_on_error_within_its_window() {
    for (validation, if_error, now, want) in [
        (Validation::OnceStale, None, 59, true),
        (Validation::OnceStale, None, 69, true),
        (Validation::OnceStale, None, 70, false),
        (Validation::OnceStale, Some(20), 79, true),
        (Validation::OnceStale, Some(0), 61, false),
        (Validation::Strict, None, 61, false),
        (Validation::Strict, Some(20), 79, true),
        (Validation::Always, Some(20), 10, false),
    ] {
        let mut response = stored(0, &[]);
        response.lifetime.staleness = Staleness {
            validation,
            if_error: if_error.map(Duration::from_secs),
            ..Staleness::default()
        };
        let on_error =
            |validity, windows| may_serve_stale_on_error(&response, validity, windows, at(now));
        let case = format!("{validation:?} {if_error:?} at {now}");
        assert_eq!(on_error(Validity::Valid, ON_ERROR), want, "{case}");
        assert!(!on_error(Validity::Purged, ON_ERROR), "purged: {case}");
        let without_window = on_error(Validity::Valid, Windows::default());
        assert_eq!(without_window, want && if_error.is_some(), "no window in policy: {case}");
    }
}

#[test]
fn window_of_expired_response_starts_at_its_expiration_or_the_end_of_its_lifetime() {
    for (since, now, want) in [(40, 49, true), (40, 50, false), (65, 69, true), (65, 70, false)] {
        let expired = Validity::ExpiredSince(at(since));
        let got = may_serve_stale_on_error(&stored(0, &[]), expired, ON_ERROR, at(now));
        assert_eq!(got, want, "since {since} at {now}");
    }
}

#[test]
fn handler_has_failed_if_the_status_is_500_502_503_or_504() {
    for status in 100..600 {
        let got = is_server_failure(StatusCode::from_u16(status).unwrap());
        assert_eq!(got, [500, 502, 503, 504].contains(&status), "RFC 5861 section 4: {status}");
    }
}

#[test]
fn response_is_never_fresh_if_it_is_validated_always_or_stale_on_arrival() {
    let secs = Duration::from_secs;
    for (validation, initial_age, freshness, limit, want) in [
        (Validation::OnceStale, 0, 60, 60, false),
        (Validation::OnceStale, 59, 60, 99, false),
        (Validation::OnceStale, 60, 60, 99, true),
        (Validation::OnceStale, 30, 60, 30, true),
        (Validation::OnceStale, 0, 0, 99, true),
        (Validation::Strict, 0, 60, 60, false),
        (Validation::Strict, 0, 0, 60, true),
        (Validation::Always, 0, 60, 60, true),
    ] {
        let mut response = stored(0, &[]);
        response.lifetime.staleness.validation = validation;
        response.lifetime.initial_age = secs(initial_age);
        response.lifetime.freshness = secs(freshness);
        let got = is_never_fresh(&response, secs(limit));
        assert_eq!(got, want, "{validation:?} {initial_age} {freshness} {limit}");
    }
}

#[test]
fn response_answers_a_request_that_waited_for_it_unless_stale_reuse_is_forbidden() {
    for (validation, validity, arrived, want) in [
        (Validation::OnceStale, Validity::Valid, 9, true),
        (Validation::OnceStale, Validity::Valid, 10, true),
        (Validation::OnceStale, Validity::Valid, 11, false),
        (Validation::OnceStale, Validity::Purged, 9, false),
        (Validation::OnceStale, Validity::ExpiredSince(at(10)), 9, false),
        (Validation::Strict, Validity::Valid, 9, false),
        (Validation::Always, Validity::Valid, 9, false),
    ] {
        let mut response = stored(10, &[]);
        response.lifetime.staleness.validation = validation;
        let got = may_answer_waiting_request(&response, validity, at(arrived));
        assert_eq!(got, want, "{validation:?} {validity:?} {arrived}");
    }
}
