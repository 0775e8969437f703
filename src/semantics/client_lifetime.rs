//! Writes the freshness lifetime for clients and downstream caches into `Cache-Control` and
//! `Expires` of a response.

use std::time::Duration;

use actix_web::http::header::{EXPIRES, HeaderMap};

use super::{
    directive_list::DirectiveList,
    fields::{date_field, set_date},
    freshness,
    targeted::Governing,
};
use crate::{clock::Timestamp, entry::lifetime::Lifetime};

/// Limits the freshness lifetime that a response states to clients, so that it ends no later than
/// `left` after `now`.
///
/// `age` is the response's age at `now`. If the response states a shorter lifetime, that lifetime
/// is kept. If the response states no lifetime, the limit becomes its lifetime, in `max-age` and in
/// `Expires`.
pub(crate) fn limit_lifetime(
    fields: &mut HeaderMap,
    age: Duration,
    left: Duration,
    now: Timestamp,
) {
    // RFC 9111 section 4.2: `max-age` counts from the time at which the response was generated, so
    // `age` is added to `left`.
    let mut directives = DirectiveList::of(fields);
    directives.limit("max-age", age.saturating_add(left));
    directives.write(fields);
    let end = now.system_time() + left;
    let stated = date_field(fields, &EXPIRES).unwrap_or(end);
    set_date(fields, EXPIRES, stated.min(end));
}

/// Writes the freshness lifetime that this cache uses into a response, if a rule, the policy or the
/// options of the handler set this lifetime.
///
/// Clients then keep the response no longer than the cache does. If the response also states a
/// lifetime, as `max-age` or as `Expires`, the shorter of the two lifetimes is written. If the
/// lifetime comes from the response's own fields, nothing is written, because clients can compute
/// the lifetime from these fields.
pub(crate) fn state_lifetime(fields: &mut HeaderMap, lifetime: &Lifetime, now: Timestamp) {
    if lifetime.source.is_stated() {
        return;
    }
    // RFC 9111 section 5.2.2.10: `s-maxage` applies only to shared caches, so it does not limit the
    // lifetime for clients.
    let mut governing = Governing::of(fields, &[]);
    governing.directives.s_maxage = None;
    let stated = freshness::explicit_lifetime(&governing, fields, now);
    let max_age = lifetime.freshness.min(stated.unwrap_or(lifetime.freshness));
    let mut directives = DirectiveList::of(fields);
    directives.limit("max-age", max_age);
    directives.write(fields);
    if !fields.contains_key(EXPIRES) {
        let left = max_age.saturating_sub(lifetime.age(now));
        set_date(fields, EXPIRES, now.system_time() + left);
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{CACHE_CONTROL, DATE, HeaderName};

    use super::*;
    use crate::entry::{
        fixtures::{at, header_map, http_date, stored},
        lifetime::LifetimeSource,
    };

    fn cache_control(text: &str) -> (HeaderName, String) {
        (CACHE_CONTROL, text.to_owned())
    }

    fn expires(text: impl Into<String>) -> (HeaderName, String) {
        (EXPIRES, text.into())
    }

    fn stated(fields: &HeaderMap) -> (&str, &str) {
        let text = |name| fields.get(name).map_or("", |value| value.to_str().unwrap());
        (text(CACHE_CONTROL), text(EXPIRES))
    }

    #[test]
    fn stated_lifetime_is_limited_and_never_extended() {
        for (case, fields, want) in [
            ("no lifetime", vec![], ("max-age=30", 120)),
            (
                "longer max-age",
                vec![cache_control("max-age=90, public")],
                ("max-age=30, public", 120),
            ),
            ("shorter max-age", vec![cache_control("max-age=15")], ("max-age=15", 120)),
            ("unreadable max-age", vec![cache_control("max-age=x")], ("max-age=0", 120)),
            ("later Expires", vec![expires(http_date(500))], ("max-age=30", 120)),
            ("same Expires", vec![expires(http_date(120))], ("max-age=30", 120)),
            ("earlier Expires", vec![expires(http_date(105))], ("max-age=30", 105)),
            ("unreadable Expires", vec![expires("0")], ("max-age=30", 120)),
        ] {
            let mut fields = header_map(&fields);
            limit_lifetime(&mut fields, Duration::from_secs(10), Duration::from_secs(20), at(100));
            let (directives, second) = want;
            assert_eq!(stated(&fields), (directives, &*http_date(second)), "{case}");
        }
        let mut fields = HeaderMap::new();
        limit_lifetime(&mut fields, Duration::from_secs(10), Duration::ZERO, at(100));
        assert_eq!(stated(&fields), ("max-age=10", &*http_date(100)), "no time is left");
    }

    #[test]
    fn lifetime_of_policy_or_handler_is_stated_unless_the_response_states_a_shorter_one() {
        let dated = || (DATE, http_date(90));
        for (case, fields, want) in [
            ("no lifetime", vec![], ("max-age=60", http_date(150))),
            ("longer max-age", vec![cache_control("max-age=90")], ("max-age=60", http_date(150))),
            ("shorter max-age", vec![cache_control("max-age=20")], ("max-age=20", http_date(110))),
            (
                "s-maxage does not count",
                vec![cache_control("s-maxage=5")],
                ("s-maxage=5, max-age=60", http_date(150)),
            ),
            (
                "shorter Expires",
                vec![dated(), expires(http_date(120))],
                ("max-age=30", http_date(120)),
            ),
            (
                "longer Expires",
                vec![dated(), expires(http_date(500))],
                ("max-age=60", http_date(500)),
            ),
            ("unreadable Expires", vec![expires("0")], ("max-age=0", "0".to_owned())),
            (
                "shorter than the age",
                vec![cache_control("max-age=5")],
                ("max-age=5", http_date(100)),
            ),
        ] {
            for source in [LifetimeSource::Policy, LifetimeSource::Handler] {
                let lifetime =
                    Lifetime { response_time: at(90), source, ..stored(0, &[]).lifetime };
                assert_eq!(lifetime.freshness.as_secs(), 60);
                let mut fields = header_map(&fields);
                state_lifetime(&mut fields, &lifetime, at(100));
                let (directives, date) = &want;
                assert_eq!(stated(&fields), (*directives, &**date), "{case}");
            }
        }
    }

    #[test]
    fn lifetime_that_the_response_states_is_not_written_again() {
        for source in [LifetimeSource::Explicit, LifetimeSource::Heuristic] {
            let lifetime = Lifetime { source, ..stored(0, &[]).lifetime };
            let mut fields = header_map(&[cache_control("s-maxage=5")]);
            state_lifetime(&mut fields, &lifetime, at(100));
            assert_eq!(stated(&fields), ("s-maxage=5", ""), "{source:?}");
        }
    }
}
