//! What may be stored (section 3), and for how long.

use std::time::Duration;

use actix_web::http::{
    StatusCode,
    header::{COOKIE, HeaderMap, HeaderName, PRAGMA},
};

use super::{
    cache_control::{Extent, ResponseDirectives},
    fields::{LONGEST, lines, list},
    freshness::{explicit, heuristic, initial_age},
    requester::Requester,
    staleness::{self, Windows},
    targeted::Governing,
    validation::can_be_validated,
    vary::Vary,
};
use crate::{
    outcome::NotStored,
    stored::{Basis, Lifetime},
    time::Now,
};

/// A request and the head of its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange<'a> {
    /// The request says `no-store`.
    pub(crate) request_no_store: bool,
    pub(crate) requester: Requester,
    pub(crate) requested: Now,
    pub(crate) status: StatusCode,
    pub(crate) response: &'a HeaderMap,
    pub(crate) responded: Now,
}

/// What the application says of storing a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// A lifetime that goes before what the response says: the application's insistence.
    pub(crate) first: Option<(Duration, Basis)>,
    /// A lifetime where the response says nothing.
    pub(crate) fallback: Option<Duration>,
    /// What holds for all responses.
    pub(crate) latitude: &'a Latitude,
}

/// What a policy makes of the choices that the standard leaves to a cache.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Latitude {
    pub(crate) any_status: AnyStatus,
    pub(crate) heuristics: Heuristics,
    pub(crate) set_cookie: SetCookie,
    pub(crate) qualified: Qualified,
    /// Targeted fields that are meant for this cache (RFC 9213), in order.
    pub(crate) targets: Vec<HeaderName>,
    /// How long what can be validated is kept beyond its freshness lifetime.
    pub(crate) retention: Duration,
    pub(crate) windows: Windows,
}

/// Whether a lifetime is guessed where none is stated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Heuristics {
    #[default]
    Off,
    /// By `Last-Modified` (section 4.2.2).
    On,
}

/// What becomes of responses that set cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum SetCookie {
    #[default]
    Refused,
    /// Stored, and the cookie replayed to everybody (section 7.3 allows it).
    Stored,
}

/// What the qualified forms `private="field"` and `no-cache="field"` do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Qualified {
    /// The same as the unqualified: what a handler meant by it is too often the whole.
    #[default]
    AsWhole,
    /// The fields they name are not stored; the rest is.
    ByField,
}

/// For which status codes a stated lifetime counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum AnyStatus {
    /// Those that are usually meant for more than one request.
    #[default]
    Usual,
    /// Every final one (section 3).
    Final,
}

impl AnyStatus {
    /// Whether a lifetime that a response with this status states is followed.
    pub(crate) fn counts(self, status: StatusCode) -> bool {
        self == Self::Final || usually_shared(status)
    }
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Storing {
    Store(Plan),
    Skip(NotStored),
}

/// How a response is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) lifetime: Lifetime,
    /// The freshness lifetime that the response states, whether it was followed or not.
    pub(crate) stated: Option<Duration>,
    /// The fields its `Vary` names.
    pub(crate) nominated: Vec<HeaderName>,
    /// It was storable only because the request had no cookies.
    pub(crate) needs_no_cookie: bool,
    /// Fields that must not be stored with it.
    pub(crate) withheld: Vec<HeaderName>,
}

/// Decides whether and for how long a response is stored.
pub(crate) fn decide(exchange: &Exchange<'_>, terms: &Terms<'_>) -> Storing {
    plan(exchange, terms).map_or_else(Storing::Skip, Storing::Store)
}

fn plan(exchange: &Exchange<'_>, terms: &Terms<'_>) -> Result<Plan, NotStored> {
    let latitude = terms.latitude;
    let mut governing = Governing::of(exchange.response, &latitude.targets);
    if latitude.qualified == Qualified::AsWhole {
        for extent in [&mut governing.directives.private, &mut governing.directives.no_cache] {
            if *extent != Extent::Absent {
                *extent = Extent::Whole;
            }
        }
    }
    let directives = &governing.directives;
    let withheld: Vec<_> =
        directives.private.fields().iter().chain(directives.no_cache.fields()).cloned().collect();
    refused(exchange, directives, latitude, &withheld)?;
    let Vary::Fields(nominated) = Vary::of(exchange.response) else { return Err(NotStored::Vary) };
    let stated = explicit(&governing, exchange.response, exchange.responded);
    let lifetime = lifetime(exchange, directives, stated, terms)?;
    personal(exchange.requester, directives, &nominated, lifetime.basis)?;
    let by_cookie = nominated.contains(&COOKIE);
    let needs_no_cookie = !by_cookie && !directives.shares_with_everybody();
    Ok(Plan { lifetime, stated, nominated, needs_no_cookie, withheld })
}

/// What the message itself forbids.
fn refused(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    latitude: &Latitude,
    withheld: &[HeaderName],
) -> Result<(), NotStored> {
    // Section 5.2.1.5.
    if exchange.request_no_store {
        return Err(NotStored::RequestNoStore);
    }
    // Section 3: a final status code. 206 is a part, 304 says nothing of its own.
    if exchange.status.is_informational()
        || matches!(exchange.status, StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Err(NotStored::Status);
    }
    // Section 5.2.2.3: only what the cache understands; that it may then store, `no-store` or not.
    let understood = is_understood(exchange.status);
    if directives.must_understand && !understood {
        return Err(NotStored::Status);
    }
    // Section 5.2.2.5.
    if directives.no_store && !directives.must_understand {
        return Err(NotStored::NoStore);
    }
    // Section 5.2.2.7.
    if directives.private == Extent::Whole {
        return Err(NotStored::Private);
    }
    // Section 5.2.2.4: not reused without validation, so where that is impossible storing would be
    // in vain.
    if directives.no_cache == Extent::Whole && !can_be_validated(exchange.response) {
        return Err(NotStored::NoCache);
    }
    // Section 7.3 leaves it to the cache; a cookie is somebody's.
    let sets_cookie = ["set-cookie", "set-cookie2"].into_iter().any(|name| {
        exchange.response.contains_key(name) && !withheld.iter().any(|field| field == name)
    });
    if sets_cookie && latitude.set_cookie == SetCookie::Refused {
        return Err(NotStored::SetCookie);
    }
    Ok(())
}

/// Status codes whose caching requirements are known here: those of RFC 9110 section 15.
fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=206 | 300..=305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}

fn lifetime(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    stated: Option<Duration>,
    terms: &Terms<'_>,
) -> Result<Lifetime, NotStored> {
    let latitude = terms.latitude;
    let counts = latitude.any_status.counts(exchange.status);
    let (freshness, basis) = if let Some(first) = terms.first {
        first
    } else if let Some(stated) = stated.filter(|_| counts) {
        (stated, Basis::Explicit)
    } else if directives.no_cache == Extent::Whole && usually_shared(exchange.status) {
        // It states that it is validated each time, which needs no lifetime.
        (Duration::ZERO, Basis::Explicit)
    } else if let Some(given) = given(exchange, directives, terms) {
        if says_pragma_no_cache(exchange.response) {
            return Err(NotStored::NoCache);
        }
        given
    } else if usually_shared(exchange.status) {
        return Err(NotStored::NoLifetime);
    } else {
        return Err(NotStored::Status);
    };
    // Section 1.2.2 takes this for forever; added to a date it still makes a date.
    let freshness = freshness.min(LONGEST);
    let initial_age = initial_age(exchange.response, exchange.requested, exchange.responded);
    let staleness = staleness::stated(directives);
    let validated = can_be_validated(exchange.response).then_some(latitude.retention);
    let retention = latitude.windows.longest(&staleness).max(validated.unwrap_or_default());
    let lifetime = Lifetime {
        response: exchange.responded,
        initial_age,
        freshness,
        basis,
        staleness,
        retention,
    };
    if initial_age < freshness.saturating_add(retention) {
        Ok(lifetime)
    } else if freshness.is_zero() {
        Err(NotStored::NoLifetime)
    } else {
        Err(NotStored::Stale)
    }
}

/// The lifetime that a response has although it states none: a guess for status codes that are
/// heuristically cacheable or with `public` (section 4.2.2), or what the policy gives it.
fn given(
    exchange: &Exchange<'_>,
    directives: &ResponseDirectives,
    terms: &Terms<'_>,
) -> Option<(Duration, Basis)> {
    let allowed = terms.latitude.heuristics == Heuristics::On
        && (directives.public || heuristically_cacheable(exchange.status));
    let guessed = heuristic(exchange.response, exchange.responded).filter(|_| allowed);
    let guessed = guessed.map(|lifetime| (lifetime, Basis::Heuristic));
    guessed.or_else(|| terms.fallback.map(|lifetime| (lifetime, Basis::Policy)))
}

/// Section 5.4 defines no `Pragma` for responses, so it outweighs nothing that is stated. Who sends
/// it wants no caching all the same, and has stated no lifetime.
fn says_pragma_no_cache(response: &HeaderMap) -> bool {
    lines(response, &PRAGMA).flat_map(list).any(|member| member.eq_ignore_ascii_case(b"no-cache"))
}

/// RFC 9110 section 15.1, save 206.
fn heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Status codes whose responses usually hold for more than one request: those that are
/// heuristically cacheable, and redirects that state a lifetime.
fn usually_shared(status: StatusCode) -> bool {
    heuristically_cacheable(status) || matches!(status.as_u16(), 302 | 307)
}

/// What the requester forbids, unless the response says that others may have it.
fn personal(
    requester: Requester,
    directives: &ResponseDirectives,
    nominated: &[HeaderName],
    basis: Basis,
) -> Result<(), NotStored> {
    // Section 3.5: `Vary: Authorization` does not suffice. `must-revalidate` is about a lifetime that
    // the response states; who states none did not think of sharing.
    let shares = directives.shares_with_everybody()
        || (directives.must_revalidate && basis == Basis::Explicit);
    if requester.authorised && !shares {
        return Err(NotStored::Authorization);
    }
    // Stricter than the RFC, which leaves cookies to the handler: handlers forget. One that says
    // `Vary: Cookie` did not.
    let by_cookie = nominated.contains(&COOKIE);
    if requester.cookies && !by_cookie && !directives.shares_with_everybody() {
        return Err(NotStored::Cookie);
    }
    // Fields only the application knows: where the response states a lifetime it thought of them.
    if requester.credentials && basis != Basis::Explicit && !directives.shares_authorised() {
        return Err(NotStored::Credentials);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{AGE, CACHE_CONTROL, HeaderValue, VARY};

    use super::*;
    use crate::stored::tests::at;

    const NOBODY: Requester = Requester { authorised: false, cookies: false, credentials: false };
    const AUTHORISED: Requester = Requester { authorised: true, ..NOBODY };
    const COOKIES: Requester = Requester { cookies: true, ..NOBODY };
    const CREDENTIALS: Requester = Requester { credentials: true, ..NOBODY };

    fn exchange(status: u16, response: &HeaderMap, requester: Requester) -> Exchange<'_> {
        Exchange {
            request_no_store: false,
            requester,
            requested: at(0),
            status: StatusCode::from_u16(status).unwrap(),
            response,
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

    /// The freshness lifetime and its basis, or the refusal.
    fn outcome(storing: Storing) -> Result<(u64, Basis), NotStored> {
        match storing {
            Storing::Store(plan) => Ok((plan.lifetime.freshness.as_secs(), plan.lifetime.basis)),
            Storing::Skip(reason) => Err(reason),
        }
    }

    /// The defaults, but for what is kept for validation.
    static STRICT: Latitude = Latitude {
        any_status: AnyStatus::Usual,
        heuristics: Heuristics::Off,
        set_cookie: SetCookie::Refused,
        qualified: Qualified::AsWhole,
        targets: Vec::new(),
        retention: Duration::ZERO,
        windows: Windows { while_revalidate: Duration::ZERO, if_error: Duration::ZERO },
    };

    const NO_TERMS: Terms<'static> = Terms { first: None, fallback: None, latitude: &STRICT };

    fn terms(first: Option<u64>, fallback: Option<u64>) -> Terms<'static> {
        Terms {
            first: first.map(|n| (Duration::from_secs(n), Basis::Policy)),
            fallback: fallback.map(Duration::from_secs),
            ..NO_TERMS
        }
    }

    #[test]
    fn what_the_response_says_goes_before_the_fallback_and_after_the_first() {
        use Basis::{Explicit, Policy};
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
            ("", Some(u64::MAX), None, Ok((LONGEST.as_secs(), Policy))),
            ("", None, Some(u64::MAX), Ok((LONGEST.as_secs(), Policy))),
            ("max-age=5", Some(0), Some(60), Err(NotStored::NoLifetime)),
            ("no-store", Some(90), None, Err(NotStored::NoStore)),
            ("private", Some(90), None, Err(NotStored::Private)),
            ("private=\"x-a\"", Some(90), None, Err(NotStored::Private)),
            ("no-cache, max-age=60", Some(90), None, Err(NotStored::NoCache)),
            ("public, no-store", None, Some(60), Err(NotStored::NoStore)),
            ("ext=\"no-store\", max-age=5", None, None, Ok((5, Explicit))),
        ] {
            let fields = response(cache_control);
            let got = outcome(decide(&exchange(200, &fields, NOBODY), &terms(first, fallback)));
            assert_eq!(got, want, "{cache_control:?} first {first:?} fallback {fallback:?}");
        }
    }

    #[test]
    fn pragma_counts_only_where_nothing_else_gives_a_lifetime() {
        for (cache_control, first, fallback, want) in [
            ("", None, Some(60), Err(NotStored::NoCache)),
            ("max-age=5", None, Some(60), Ok((5, Basis::Explicit))),
            ("", Some(90), Some(60), Ok((90, Basis::Policy))),
            ("", None, None, Err(NotStored::NoLifetime)),
        ] {
            let mut fields = response(cache_control);
            fields.insert(PRAGMA, HeaderValue::from_static("No-Cache"));
            let got = outcome(decide(&exchange(200, &fields, NOBODY), &terms(first, fallback)));
            assert_eq!(got, want, "{cache_control:?} first {first:?} fallback {fallback:?}");
        }
    }

    #[test]
    fn status_codes_decide_where_a_stated_lifetime_counts() {
        let fields = response("max-age=5");
        let usual = [200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414, 501];
        for status in 100..600 {
            let stored =
                |terms: &Terms<'_>| outcome(decide(&exchange(status, &fields, NOBODY), terms));
            let never = status < 200 || status == 206 || status == 304;
            let final_ones = Latitude { any_status: AnyStatus::Final, ..STRICT.clone() };
            let any = Terms { latitude: &final_ones, ..NO_TERMS };
            assert_eq!(stored(&NO_TERMS).is_ok(), usual.contains(&status), "{status}");
            assert_eq!(stored(&any).is_ok(), !never, "{status} in any-status mode");
            assert_eq!(
                stored(&terms(Some(9), None)).is_ok(),
                !never,
                "{status} told by the application"
            );
        }
    }

    #[test]
    fn cookies_set_and_vary_that_nobody_can_compare_are_never_stored() {
        for (name, value, want) in [
            ("set-cookie", "a=1", NotStored::SetCookie),
            ("set-cookie2", "a=1", NotStored::SetCookie),
            ("vary", "*", NotStored::Vary),
            ("vary", "accept, *", NotStored::Vary),
        ] {
            let mut fields = response("public, max-age=5");
            fields.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            let got = outcome(decide(&exchange(200, &fields, NOBODY), &terms(Some(9), Some(9))));
            assert_eq!(got, Err(want), "{name}: {value}");
        }
    }

    #[test]
    fn a_request_that_says_no_store_leaves_nothing_behind() {
        let fields = response("public, max-age=5");
        let exchange = Exchange { request_no_store: true, ..exchange(200, &fields, NOBODY) };
        let got = outcome(decide(&exchange, &terms(Some(9), Some(9))));
        assert_eq!(got, Err(NotStored::RequestNoStore));
    }

    #[test]
    fn personal_requests_are_stored_only_if_the_response_says_that_others_may_have_it() {
        use NotStored::{Authorization, Cookie, Credentials};
        for (who, cache_control, fallback, want) in [
            (AUTHORISED, "max-age=5", None, Some(Authorization)),
            (AUTHORISED, "", Some(60), Some(Authorization)),
            (AUTHORISED, "public, max-age=5", None, None),
            (AUTHORISED, "s-maxage=5", None, None),
            (AUTHORISED, "must-revalidate, max-age=5", None, None),
            (AUTHORISED, "must-revalidate", Some(60), Some(Authorization)),
            (AUTHORISED, "public", Some(60), None),
            (COOKIES, "max-age=5", None, Some(Cookie)),
            (COOKIES, "must-revalidate, max-age=5", None, Some(Cookie)),
            (COOKIES, "", Some(60), Some(Cookie)),
            (COOKIES, "public, max-age=5", None, None),
            (COOKIES, "s-maxage=5", None, None),
            (CREDENTIALS, "max-age=5", None, None),
            (CREDENTIALS, "", Some(60), Some(Credentials)),
            (CREDENTIALS, "public", Some(60), None),
        ] {
            let fields = response(cache_control);
            let got = outcome(decide(&exchange(200, &fields, who), &terms(None, fallback))).err();
            assert_eq!(got, want, "{who:?} {cache_control:?}");
            if want.is_some() {
                let all = terms(Some(60), Some(60));
                let forced = outcome(decide(&exchange(200, &fields, who), &all));
                assert_eq!(forced.err(), want, "an overriding lifetime loosens nothing: {who:?}");
            }
        }
    }

    #[test]
    fn what_is_selected_by_cookies_may_be_stored_for_those_who_send_the_same() {
        let mut fields = response("max-age=5");
        fields.insert(VARY, HeaderValue::from_static("Cookie, Authorization"));
        for (who, want) in [(COOKIES, None), (AUTHORISED, Some(NotStored::Authorization))] {
            let storing = decide(&exchange(200, &fields, who), &NO_TERMS);
            if let Storing::Store(plan) = &storing {
                assert!(!plan.needs_no_cookie);
            }
            assert_eq!(outcome(storing).err(), want, "{who:?}");
        }
    }

    #[test]
    fn what_hung_on_the_absence_of_cookies_is_said() {
        for (cache_control, want) in
            [("max-age=5", true), ("public, max-age=5", false), ("s-maxage=5", false)]
        {
            let fields = response(cache_control);
            let Storing::Store(plan) = decide(&exchange(200, &fields, NOBODY), &NO_TERMS) else {
                panic!("{cache_control} is stored");
            };
            assert_eq!(plan.needs_no_cookie, want, "{cache_control}");
        }
    }

    #[test]
    fn what_arrives_stale_is_not_stored_and_vary_is_kept() {
        let mut fields = response("max-age=5");
        fields.insert(VARY, HeaderValue::from_static("accept"));
        let Storing::Store(plan) = decide(&exchange(200, &fields, NOBODY), &NO_TERMS) else {
            panic!("stored");
        };
        assert_eq!(plan.nominated, [actix_web::http::header::ACCEPT]);
        fields.insert(AGE, HeaderValue::from_static("5"));
        let got = outcome(decide(&exchange(200, &fields, NOBODY), &NO_TERMS));
        assert_eq!(got, Err(NotStored::Stale));
    }
}
