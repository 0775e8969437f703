//! When a stored response may answer a request (section 4).

use std::{sync::Arc, time::Duration};

use actix_web::http::header::{COOKIE, HeaderMap};

use super::{
    cache_control::RequestDirectives,
    requester::Requester,
    staleness::{Windows, suits_client},
    vary::{Comparison, selecting_value},
};
use crate::{
    clock::Timestamp,
    entry::lifetime::{LifetimeSource, Validation},
    entry::response::StoredResponse,
    entry::validity::Validity,
    entry::variants::Variants,
};

/// A request that asks for what is stored.
#[derive(Debug)]
pub(crate) struct ReuseRequest<'a> {
    pub(crate) request: &'a HeaderMap,
    pub(crate) requester: Requester,
    pub(crate) comparison: &'a Comparison,
    /// What distinguishes readers beside the key and `Vary`.
    pub(crate) discriminator: &'a [u8],
    /// The client's directives, where they are honoured.
    pub(crate) directives: Option<RequestDirectives>,
    /// What the reader's policy allows where a response says nothing.
    pub(crate) windows: Windows,
}

/// The decision.
#[derive(Debug, Clone)]
pub(crate) enum Reuse {
    /// Fresh: answer with it.
    Fresh { stored: Arc<StoredResponse>, age: Duration, ttl: Duration },
    /// No longer fresh, but it may answer all the same.
    Stale { stored: Arc<StoredResponse>, age: Duration, over: Duration, refresh: Refresh },
    /// It may answer once the handler said that it still holds.
    Validate { stored: Arc<StoredResponse>, because: ValidationReason },
    /// Nothing is stored.
    Absent,
    /// What is stored was selected by other request fields.
    OtherVariant,
    /// What is stored may not answer such a requester.
    NotForRequester,
}

/// Whether a stale answer is a reason to ask the handler for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// `stale-while-revalidate`.
    Due,
    /// The client takes what is stale; others may not.
    NotDue,
}

/// Why a stored response must be validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ValidationReason {
    /// It is no longer fresh, or says that it always must be.
    Stale,
    /// The client wants it younger, or checked.
    Client,
}

/// Chooses among the variants of a resource.
///
/// `standing` tells what invalidations left of each; `granted` the lifetime that a response has under the
/// reader's own policy, for whoever stored it may have been more generous.
pub(crate) fn choose(
    variants: Option<&Variants>,
    validity: impl Fn(&StoredResponse) -> Validity,
    lifetime_under_policy: impl Fn(&StoredResponse) -> Option<Duration>,
    reader: &ReuseRequest<'_>,
    now: Timestamp,
) -> Reuse {
    let Some(variants) = variants else { return Reuse::Absent };
    let mut any = false;
    // Section 4.1: of several that match, the most recent, which comes first.
    for stored in variants.responses() {
        let validity = validity(stored);
        if validity == Validity::Purged {
            continue;
        }
        any = true;
        if selected(stored, reader) {
            return judge(stored, validity.expired_since(), lifetime_under_policy, reader, now);
        }
    }
    if any { Reuse::OtherVariant } else { Reuse::Absent }
}

/// Section 4.1: all nominated fields match those of the request it was stored for.
fn selected(stored: &StoredResponse, reader: &ReuseRequest<'_>) -> bool {
    *stored.discriminator == *reader.discriminator
        && stored.selecting.iter().all(|(name, recorded)| {
            selecting_value(reader.request, name, reader.comparison).as_deref()
                == recorded.as_deref()
        })
}

/// Whether a requester may have a stored response at all, fresh or not.
///
/// What did not state its lifetime was not thought of as shared either: only requesters without
/// anything personal may have it, beside what it was selected by.
pub(crate) fn is_allowed_for(stored: &StoredResponse, requester: Requester) -> bool {
    let by_cookie = stored.selecting.iter().any(|(name, _)| *name == COOKIE);
    let requester = Requester { cookies: requester.cookies && !by_cookie, ..requester };
    stored.lifetime.source == LifetimeSource::Explicit || requester.is_anonymous()
}

fn judge(
    stored: &Arc<StoredResponse>,
    expired_since: Option<Timestamp>,
    lifetime_under_policy: impl Fn(&StoredResponse) -> Option<Duration>,
    reader: &ReuseRequest<'_>,
    now: Timestamp,
) -> Reuse {
    if !is_allowed_for(stored, reader.requester) {
        return Reuse::NotForRequester;
    }
    let lifetime = &stored.lifetime;
    let age = lifetime.age(now);
    let freshness = lifetime.freshness.min(lifetime_under_policy(stored).unwrap_or_default());
    let freshness = expired_since.map_or(freshness, |since| freshness.min(lifetime.age(since)));
    let validate = |because| Reuse::Validate { stored: Arc::clone(stored), because };
    // Section 5.2.2.4.
    if lifetime.staleness.validation == Validation::Always {
        return validate(ValidationReason::Stale);
    }
    let directives = reader.directives.unwrap_or_default();
    // Sections 5.2.1.1 and 5.2.1.4.
    if directives.no_cache || directives.max_age.is_some_and(|limit| age > limit) {
        return validate(ValidationReason::Client);
    }
    match freshness.checked_sub(age).filter(|left| !left.is_zero()) {
        // Section 5.2.1.3.
        Some(ttl) if directives.min_fresh.is_some_and(|least| ttl < least) => {
            validate(ValidationReason::Client)
        }
        Some(ttl) => Reuse::Fresh { stored: Arc::clone(stored), age, ttl },
        None => {
            let over = age.saturating_sub(freshness);
            let refresh = if over < reader.windows.while_revalidate(&lifetime.staleness) {
                Refresh::Due
            } else {
                Refresh::NotDue
            };
            let unwanted = directives.min_fresh.is_some();
            let suits = suits_client(&lifetime.staleness, over, directives.max_stale);
            if (refresh == Refresh::Due || suits) && !unwanted {
                Reuse::Stale { stored: Arc::clone(stored), age, over, refresh }
            } else {
                validate(ValidationReason::Stale)
            }
        }
    }
}

/// Whether a stored response may answer because the handler failed (section 4.2.4, RFC 5861
/// section 4).
///
/// `expired_since` is when an invalidation ended its freshness.
pub(crate) fn may_serve_stale_on_error(
    stored: &StoredResponse,
    expired_since: Option<Timestamp>,
    windows: Windows,
    now: Timestamp,
) -> bool {
    let lifetime = &stored.lifetime;
    let over = expired_since.map_or_else(
        || lifetime.stale_for(now),
        |since| lifetime.stale_for(now).max(lifetime.age(now).saturating_sub(lifetime.age(since))),
    );
    over < windows.if_error(&lifetime.staleness)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, HeaderName, HeaderValue};

    use std::sync::LazyLock;

    use super::*;
    use crate::{
        entry::fixtures::{at, stored},
        entry::lifetime::Staleness,
    };

    fn request(accept: Option<&'static str>) -> HeaderMap {
        let mut fields = HeaderMap::new();
        if let Some(accept) = accept {
            fields.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        fields
    }

    fn reader(request: &HeaderMap) -> ReuseRequest<'_> {
        static PLAIN: LazyLock<Comparison> = LazyLock::new(Comparison::default);
        ReuseRequest {
            request,
            requester: Requester::default(),
            comparison: &PLAIN,
            discriminator: &[],
            directives: None,
            windows: Windows::default(),
        }
    }

    fn stored_by_cookie() -> StoredResponse {
        stored(0, &[(COOKIE, Some("sid=1"))])
    }

    fn hour(_: &StoredResponse) -> Option<Duration> {
        Some(Duration::from_secs(3600))
    }

    fn of(responses: Vec<StoredResponse>) -> Variants {
        let add = |variants: Option<Variants>, response| {
            Variants::add(variants.as_ref(), Arc::new(response), usize::MAX)
        };
        responses.into_iter().fold(None, add).unwrap()
    }

    fn word(reuse: &Reuse) -> String {
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

    #[test]
    fn the_newest_matching_variant_answers_while_it_is_fresh() {
        let variants = of(vec![stored(0, DE), stored(10, FR)]);
        for (accept, now, want) in [
            (Some("de"), 20, "0: age 20 ttl 40"),
            (Some("fr"), 20, "10: age 10 ttl 50"),
            (Some("es"), 20, "other variant"),
            (None, 20, "other variant"),
            (Some("de"), 60, "validate: Stale"),
        ] {
            let request = request(accept);
            let got =
                choose(Some(&variants), |_| Validity::Valid, hour, &reader(&request), at(now));
            assert_eq!(word(&got), want, "{accept:?} at {now}");
        }
    }

    #[test]
    fn nothing_stored_or_all_of_it_invalidated_is_absence() {
        let request = request(None);
        let variants = of(vec![stored(0, &[])]);
        assert_eq!(
            word(&choose(None, |_| Validity::Valid, hour, &reader(&request), at(1))),
            "absent"
        );
        assert_eq!(
            word(&choose(Some(&variants), |_| Validity::Purged, hour, &reader(&request), at(1))),
            "absent"
        );
    }

    #[test]
    fn what_was_invalidated_leaves_the_place_to_what_was_not() {
        let by_fr = request(Some("fr"));
        let variants = of(vec![stored(0, DE), stored(10, FR)]);
        let older = |stored: &StoredResponse| {
            if stored.lifetime.response_time == at(0) { Validity::Valid } else { Validity::Purged }
        };
        let got = choose(Some(&variants), older, hour, &reader(&by_fr), at(20));
        assert_eq!(word(&got), "other variant", "section 4.1: the French one is gone");
        let by_de = request(Some("de"));
        let got = choose(Some(&variants), older, hour, &reader(&by_de), at(20));
        assert_eq!(word(&got), "0: age 20 ttl 40");
    }

    #[test]
    fn only_a_lifetime_that_the_response_states_is_for_everybody() {
        let nobody = Requester::default();
        let cookies = Requester { cookies: true, ..nobody };
        let has_authorization = Requester { has_authorization: true, ..nobody };
        let credentials = Requester { credentials: true, ..nobody };
        for (source, everybody) in [
            (LifetimeSource::Explicit, true),
            (LifetimeSource::Heuristic, false),
            (LifetimeSource::Handler, false),
            (LifetimeSource::Policy, false),
        ] {
            for by_cookie in [false, true] {
                let mut response = if by_cookie { stored_by_cookie() } else { stored(0, DE) };
                response.lifetime.source = source;
                assert!(is_allowed_for(&response, nobody), "{source:?}");
                assert_eq!(is_allowed_for(&response, has_authorization), everybody, "{source:?}");
                assert_eq!(is_allowed_for(&response, credentials), everybody, "{source:?}");
                assert_eq!(
                    is_allowed_for(&response, cookies),
                    everybody || by_cookie,
                    "{source:?}"
                );
                let both = Requester { cookies: true, ..has_authorization };
                assert_eq!(is_allowed_for(&response, both), everybody, "{source:?}");
            }
        }
    }

    #[test]
    fn readers_that_differ_in_what_splits_do_not_share() {
        let request = request(None);
        let mut other = stored(0, &[]);
        other.discriminator = Box::from(&b"x"[..]);
        let variants = of(vec![other]);
        assert_eq!(
            word(&choose(Some(&variants), |_| Validity::Valid, hour, &reader(&request), at(1))),
            "other variant"
        );
        let same = ReuseRequest { discriminator: b"x", ..reader(&request) };
        assert_eq!(
            word(&choose(Some(&variants), |_| Validity::Valid, hour, &same, at(1))),
            "0: age 1 ttl 59"
        );
    }

    #[test]
    fn a_lifetime_the_policy_gave_is_for_anonymous_readers_that_accept_it() {
        let request = request(None);
        let policy = of(vec![stored(0, &[])]);
        let mut stated = stored(0, &[]);
        stated.lifetime.source = LifetimeSource::Explicit;
        let stated = of(vec![stated]);
        let nobody = Requester::default();
        for who in [
            Requester { has_authorization: true, ..nobody },
            Requester { cookies: true, ..nobody },
            Requester { credentials: true, ..nobody },
        ] {
            let reader = ReuseRequest { requester: who, ..reader(&request) };
            assert_eq!(
                word(&choose(Some(&policy), |_| Validity::Valid, hour, &reader, at(1))),
                "not for requester"
            );
            assert_eq!(
                word(&choose(Some(&stated), |_| Validity::Valid, hour, &reader, at(1))),
                "0: age 1 ttl 59"
            );
        }
        let by_cookie = of(vec![stored_by_cookie()]);
        let mut with_cookie = HeaderMap::new();
        with_cookie.insert(COOKIE, HeaderValue::from_static("sid=1"));
        let who = Requester { cookies: true, ..nobody };
        let reader_of = ReuseRequest { requester: who, ..reader(&with_cookie) };
        let got = choose(Some(&by_cookie), |_| Validity::Valid, hour, &reader_of, at(1));
        assert_eq!(word(&got), "0: age 1 ttl 59", "who sends the cookie it was selected by");
        for (lifetime_under_policy, want) in [
            (None, "validate: Stale"),
            (Some(0), "validate: Stale"),
            (Some(20), "validate: Stale"),
            (Some(30), "0: age 20 ttl 10"),
            (Some(90), "0: age 20 ttl 40"),
        ] {
            let lifetime_under_policy = lifetime_under_policy.map(Duration::from_secs);
            for stored in [&policy, &stated] {
                let got = choose(
                    Some(stored),
                    |_| Validity::Valid,
                    |_| lifetime_under_policy,
                    &reader(&request),
                    at(20),
                );
                assert_eq!(
                    word(&got),
                    want,
                    "the shorter lifetime counts: {lifetime_under_policy:?}"
                );
            }
        }
    }

    #[test]
    fn honoured_directives_can_decline_what_is_stored() {
        let request = request(None);
        let variants = of(vec![stored(0, &[])]);
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
            let reader = ReuseRequest { directives: Some(directives), ..reader(&request) };
            let got = choose(Some(&variants), |_| Validity::Valid, hour, &reader, at(20));
            assert_eq!(word(&got), want, "{directives:?}");
        }
    }

    fn stating(validation: Validation, while_revalidate: Option<u64>) -> Variants {
        let mut response = stored(0, &[]);
        response.lifetime.source = LifetimeSource::Explicit;
        response.lifetime.retention = Duration::from_secs(1000);
        response.lifetime.staleness = Staleness {
            validation,
            while_revalidate: while_revalidate.map(Duration::from_secs),
            if_error: None,
        };
        of(vec![response])
    }

    #[test]
    fn a_stale_response_answers_within_its_window_or_for_a_client_that_takes_it() {
        use Validation::{Always, OnceStale, Strict};
        let none = RequestDirectives::default();
        let stale = |n| RequestDirectives { max_stale: Some(Duration::from_secs(n)), ..none };
        let fresh = RequestDirectives { min_fresh: Some(Duration::from_secs(1)), ..none };
        for (validation, window, directives, now, want) in [
            (OnceStale, None, none, 70, "validate: Stale"),
            (OnceStale, Some(20), none, 59, "0: age 59 ttl 1"),
            (OnceStale, Some(20), none, 60, "stale: age 60 over 0 Due"),
            (OnceStale, Some(20), none, 79, "stale: age 79 over 19 Due"),
            (OnceStale, Some(20), none, 80, "validate: Stale"),
            (OnceStale, Some(20), fresh, 70, "validate: Stale"),
            (OnceStale, None, stale(10), 70, "stale: age 70 over 10 NotDue"),
            (OnceStale, None, stale(9), 70, "validate: Stale"),
            (OnceStale, Some(20), stale(5), 70, "stale: age 70 over 10 Due"),
            (OnceStale, Some(0), stale(10), 70, "stale: age 70 over 10 NotDue"),
            (Strict, None, stale(500), 70, "validate: Stale"),
            (Strict, Some(20), none, 70, "stale: age 70 over 10 Due"),
            (Always, None, none, 1, "validate: Stale"),
            (Always, Some(20), stale(500), 70, "validate: Stale"),
        ] {
            let request = request(None);
            let reader = ReuseRequest { directives: Some(directives), ..reader(&request) };
            let variants = stating(validation, window);
            let got = choose(Some(&variants), |_| Validity::Valid, hour, &reader, at(now));
            assert_eq!(word(&got), want, "{validation:?} {window:?} {directives:?} at {now}");
        }
    }

    #[test]
    fn what_is_not_for_a_requester_is_not_even_validated_for_it() {
        let request = request(None);
        let variants = of(vec![stored(0, &[])]);
        let who = Requester { cookies: true, ..Requester::default() };
        let reader = ReuseRequest { requester: who, ..reader(&request) };
        let got = choose(Some(&variants), |_| Validity::Valid, hour, &reader, at(70));
        assert_eq!(word(&got), "not for requester");
    }

    #[test]
    fn what_was_made_stale_is_so_since_then_or_since_it_was_made() {
        for (since, now, want) in [
            (40, 50, "stale: age 50 over 10 Due"),
            (40, 59, "stale: age 59 over 19 Due"),
            (40, 60, "validate: Stale"),
            (0, 1, "stale: age 1 over 1 Due"),
            (60, 70, "stale: age 70 over 10 Due"),
            (69, 70, "stale: age 70 over 10 Due"),
        ] {
            let request = request(None);
            let variants = stating(Validation::OnceStale, Some(20));
            let stale = |_: &StoredResponse| Validity::ExpiredSince(at(since));
            let got = choose(Some(&variants), stale, hour, &reader(&request), at(now));
            assert_eq!(word(&got), want, "since {since} at {now}");
        }
        let windows = Windows { if_error: Duration::from_secs(10), ..Windows::default() };
        for (since, now, want) in [(40, 49, true), (40, 50, false), (65, 69, true), (65, 70, false)]
        {
            let got = may_serve_stale_on_error(&stored(0, &[]), Some(at(since)), windows, at(now));
            assert_eq!(got, want, "since {since} at {now}");
        }
    }

    #[test]
    fn a_stored_response_rescues_within_its_window() {
        let windows = Windows { if_error: Duration::from_secs(10), ..Windows::default() };
        for (validation, stated, now, want) in [
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
                if_error: stated.map(Duration::from_secs),
                ..Staleness::default()
            };
            assert_eq!(
                may_serve_stale_on_error(&response, None, windows, at(now)),
                want,
                "{validation:?} {stated:?} {now}"
            );
            assert!(
                !may_serve_stale_on_error(&response, None, Windows::default(), at(now))
                    || stated.is_some()
            );
        }
    }
}
