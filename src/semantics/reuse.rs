//! When a stored response may answer a request (section 4).

use std::{sync::Arc, time::Duration};

use actix_web::http::header::{COOKIE, HeaderMap};

use super::{
    cache_control::RequestDirectives, cookies::CookieRules, requester::Requester,
    vary::selecting_value,
};
use crate::{
    stored::{Basis, StoredResponse, Variants},
    time::Now,
};

/// A request that asks for what is stored.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pub(crate) request: &'a HeaderMap,
    pub(crate) requester: Requester,
    pub(crate) cookies: &'a CookieRules,
    /// What distinguishes readers beside the key and `Vary`.
    pub(crate) split: &'a [u8],
    /// The client's directives, where they are honoured.
    pub(crate) directives: Option<RequestDirectives>,
}

/// The decision.
#[derive(Debug, Clone)]
pub(crate) enum Reuse {
    /// Fresh: answer with it.
    Fresh { stored: Arc<StoredResponse>, age: Duration, ttl: Duration },
    /// Nothing is stored.
    Absent,
    /// What is stored was selected by other request fields.
    OtherVariant,
    /// What is stored is no longer fresh.
    Stale,
    /// The client's directives want something younger.
    Declined,
    /// What is stored may not answer such a requester.
    NotForRequester,
}

/// Chooses among the variants of a resource.
///
/// `valid` tells what was not invalidated; `granted` the lifetime that a response has under the
/// reader's own policy, for whoever stored it may have been more generous.
pub(crate) fn choose(
    variants: Option<&Variants>,
    valid: impl Fn(&StoredResponse) -> bool,
    granted: impl Fn(&StoredResponse) -> Option<Duration>,
    reader: &Reader<'_>,
    now: Now,
) -> Reuse {
    let Some(variants) = variants else { return Reuse::Absent };
    let mut any = false;
    // Section 4.1: of several that match, the most recent, which comes first.
    for stored in variants.responses().iter().filter(|stored| valid(stored)) {
        any = true;
        if selected(stored, reader) {
            return judge(stored, granted, reader, now);
        }
    }
    if any { Reuse::OtherVariant } else { Reuse::Absent }
}

/// Section 4.1: all nominated fields match those of the request it was stored for.
fn selected(stored: &StoredResponse, reader: &Reader<'_>) -> bool {
    *stored.split == *reader.split
        && stored.selecting.iter().all(|(name, recorded)| {
            selecting_value(reader.request, name, reader.cookies).as_deref() == recorded.as_deref()
        })
}

fn judge(
    stored: &Arc<StoredResponse>,
    granted: impl Fn(&StoredResponse) -> Option<Duration>,
    reader: &Reader<'_>,
    now: Now,
) -> Reuse {
    let lifetime = &stored.lifetime;
    let age = lifetime.age(now);
    let Some(left) = lifetime.left(now) else { return Reuse::Stale };
    // The response did not state its lifetime, so nobody thought of sharing it either: only
    // requesters without anything personal do, beside what it was selected by.
    let by_cookie = stored.selecting.iter().any(|(name, _)| *name == COOKIE);
    let requester =
        Requester { cookies: reader.requester.cookies && !by_cookie, ..reader.requester };
    if lifetime.basis != Basis::Explicit && !requester.anonymous() {
        return Reuse::NotForRequester;
    }
    let ttl = left.min(granted(stored).unwrap_or_default().saturating_sub(age));
    if ttl.is_zero() {
        return Reuse::Stale;
    }
    if let Some(directives) = reader.directives {
        // Sections 5.2.1.1, 5.2.1.3 and 5.2.1.4.
        let too_old = directives.max_age.is_some_and(|limit| age > limit);
        let too_short = directives.min_fresh.is_some_and(|least| ttl < least);
        if directives.no_cache || too_old || too_short {
            return Reuse::Declined;
        }
    }
    Reuse::Fresh { stored: Arc::clone(stored), age, ttl }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, HeaderName, HeaderValue};

    use super::*;
    use crate::stored::tests::{at, stored};

    fn request(accept: Option<&'static str>) -> HeaderMap {
        let mut fields = HeaderMap::new();
        if let Some(accept) = accept {
            fields.insert(ACCEPT, HeaderValue::from_static(accept));
        }
        fields
    }

    fn reader(request: &HeaderMap) -> Reader<'_> {
        static NONE: CookieRules = CookieRules { ignored: Vec::new(), keyed: Vec::new() };
        Reader {
            request,
            requester: Requester::default(),
            cookies: &NONE,
            split: &[],
            directives: None,
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
                let second = stored.lifetime.response.monotonic().as_secs();
                format!("{second}: age {} ttl {}", age.as_secs(), ttl.as_secs())
            }
            Reuse::Absent => "absent".to_owned(),
            Reuse::OtherVariant => "other variant".to_owned(),
            Reuse::Stale => "stale".to_owned(),
            Reuse::Declined => "declined".to_owned(),
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
            (Some("de"), 60, "stale"),
        ] {
            let request = request(accept);
            let got = choose(Some(&variants), |_| true, hour, &reader(&request), at(now));
            assert_eq!(word(&got), want, "{accept:?} at {now}");
        }
    }

    #[test]
    fn nothing_stored_or_all_of_it_invalidated_is_absence() {
        let request = request(None);
        let variants = of(vec![stored(0, &[])]);
        assert_eq!(word(&choose(None, |_| true, hour, &reader(&request), at(1))), "absent");
        assert_eq!(
            word(&choose(Some(&variants), |_| false, hour, &reader(&request), at(1))),
            "absent"
        );
    }

    #[test]
    fn readers_that_differ_in_what_splits_do_not_share() {
        let request = request(None);
        let mut other = stored(0, &[]);
        other.split = Box::from(&b"x"[..]);
        let variants = of(vec![other]);
        assert_eq!(
            word(&choose(Some(&variants), |_| true, hour, &reader(&request), at(1))),
            "other variant"
        );
        let same = Reader { split: b"x", ..reader(&request) };
        assert_eq!(word(&choose(Some(&variants), |_| true, hour, &same, at(1))), "0: age 1 ttl 59");
    }

    #[test]
    fn a_lifetime_the_policy_gave_is_for_anonymous_readers_that_accept_it() {
        let request = request(None);
        let policy = of(vec![stored(0, &[])]);
        let mut stated = stored(0, &[]);
        stated.lifetime.basis = Basis::Explicit;
        let stated = of(vec![stated]);
        let nobody = Requester::default();
        for who in [
            Requester { authorised: true, ..nobody },
            Requester { cookies: true, ..nobody },
            Requester { credentials: true, ..nobody },
        ] {
            let reader = Reader { requester: who, ..reader(&request) };
            assert_eq!(
                word(&choose(Some(&policy), |_| true, hour, &reader, at(1))),
                "not for requester"
            );
            assert_eq!(
                word(&choose(Some(&stated), |_| true, hour, &reader, at(1))),
                "0: age 1 ttl 59"
            );
        }
        let by_cookie = of(vec![stored_by_cookie()]);
        let mut with_cookie = HeaderMap::new();
        with_cookie.insert(COOKIE, HeaderValue::from_static("sid=1"));
        let who = Requester { cookies: true, ..nobody };
        let reader_of = Reader { requester: who, ..reader(&with_cookie) };
        let got = choose(Some(&by_cookie), |_| true, hour, &reader_of, at(1));
        assert_eq!(word(&got), "0: age 1 ttl 59", "who sends the cookie it was selected by");
        for (granted, want) in [
            (None, "stale"),
            (Some(0), "stale"),
            (Some(20), "stale"),
            (Some(30), "0: age 20 ttl 10"),
            (Some(90), "0: age 20 ttl 40"),
        ] {
            let granted = granted.map(Duration::from_secs);
            for stored in [&policy, &stated] {
                let got = choose(Some(stored), |_| true, |_| granted, &reader(&request), at(20));
                assert_eq!(word(&got), want, "the shorter lifetime counts: {granted:?}");
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
            (RequestDirectives { no_cache: true, ..none }, "declined"),
            (RequestDirectives { max_age: secs(20), ..none }, "0: age 20 ttl 40"),
            (RequestDirectives { max_age: secs(19), ..none }, "declined"),
            (RequestDirectives { min_fresh: secs(40), ..none }, "0: age 20 ttl 40"),
            (RequestDirectives { min_fresh: secs(41), ..none }, "declined"),
        ] {
            let reader = Reader { directives: Some(directives), ..reader(&request) };
            let got = choose(Some(&variants), |_| true, hour, &reader, at(20));
            assert_eq!(word(&got), want, "{directives:?}");
        }
    }
}
