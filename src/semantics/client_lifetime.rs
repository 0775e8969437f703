//! Writes the freshness lifetime for clients and downstream caches into `Cache-Control` and
//! `Expires` of a response.

use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, EXPIRES, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::{
    dates::{date_field, date_value, set_date},
    directive_list::DirectiveList,
    fields::number_after,
    freshness,
    present_fields::PresentFields,
    recent_values::RecentValues,
    targeted::{Governing, is_targeted},
};
use crate::{clock::Timestamp, entry::lifetime::Lifetime};

/// The targeted field that all CDNs read (RFC 9213 section 3).
pub(crate) const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// Whether responses state to clients how long the cache keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ClientHeaders {
    /// The cache states the lifetime that it uses in `Cache-Control` and `Expires`, unless the
    /// handler states one. It shortens each stated lifetime of a response that it purges or refreshes
    /// earlier. Clients therefore keep no response for longer than the cache does.
    #[default]
    WithLifetime,
    /// Clients receive `Cache-Control`, `Expires` and fields such as `CDN-Cache-Control` as the
    /// handler sent them.
    Untouched,
}

/// The choices of a policy about the lifetimes that responses state to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ClientLifetimes {
    pub(crate) headers: ClientHeaders,
    /// The longest time for which clients may keep a response.
    pub(crate) client_ttl: Option<Duration>,
    /// The longest time for which a CDN may keep a response.
    pub(crate) cdn_ttl: Option<Duration>,
}

/// States to a CDN that it may keep a response until `left` after `now`, unless the response has a
/// lifetime for CDNs already, or forbids them to store it. `age` is the response's age at `now`.
///
/// For a CDN, `CDN-Cache-Control` replaces `Cache-Control` and `Expires` (RFC 9213 section 2.2). All
/// other directives in `Cache-Control` are therefore repeated.
pub(crate) fn state_cdn_lifetime(fields: &mut HeaderMap, age: Duration, left: Duration) {
    if fields.contains_key(CDN_CACHE_CONTROL) {
        return;
    }
    let mut directives = DirectiveList::of(fields);
    if directives.has("private") || directives.has("no-store") {
        return;
    }
    directives.remove("s-maxage");
    directives.set("max-age", Some(&age.saturating_add(left).as_secs().to_string()));
    directives.write_field(fields, &CDN_CACHE_CONTROL);
}

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

/// Forbids other caches to share a response: makes it `private` (RFC 9111 section 5.2.2.7), and
/// removes the directives by which a shared cache would share it. Browsers may store the response as
/// before.
///
/// For a CDN, a targeted field replaces `Cache-Control` (RFC 9213 section 2.2), so each targeted field
/// that the response has becomes `no-store`.
pub(crate) fn forbid_sharing(fields: &mut HeaderMap) {
    let targeted: SmallVec<[HeaderName; 1]> =
        fields.keys().filter(|name| is_targeted(name)).cloned().collect();
    for name in targeted {
        fields.insert(name, HeaderValue::from_static("no-store"));
    }
    let mut directives = DirectiveList::of(fields);
    directives.remove("public");
    directives.remove("s-maxage");
    directives.set("private", None);
    directives.write(fields);
}

/// Limits each lifetime that a response states to browsers and to other caches: none of them keeps
/// the response for longer than `left` after `now`. A response that states no lifetime stays as it
/// is.
///
/// The cache needs this limit if a response becomes stale earlier than its fields promise, for
/// example by a soft purge. Without the limit, a browser or a CDN would keep the response for the
/// promised lifetime.
///
/// `age` is the response's age at `now`. The lifetimes are `max-age` and `s-maxage` in
/// `Cache-Control` and in targeted fields (RFC 9213), and `Expires`.
pub(crate) fn limit_stated_lifetimes(
    fields: &mut HeaderMap,
    age: Duration,
    left: Duration,
    now: Timestamp,
) {
    let limit = age.saturating_add(left);
    limit_directives(fields, &CACHE_CONTROL, &["max-age", "s-maxage"], limit);
    limit_targeted_fields(fields, limit);
    let end = now.system_time() + left;
    if let Some(stated) = date_field(fields, &EXPIRES) {
        set_date(fields, EXPIRES, stated.min(end));
    }
}

/// Limits the lifetimes in all targeted fields, also in those that address other caches.
fn limit_targeted_fields(fields: &mut HeaderMap, limit: Duration) {
    let has_directives = |name: &&HeaderName| name.as_str().ends_with("-cache-control");
    // Few responses have such fields.
    if !fields.keys().any(|name| has_directives(&name)) {
        return;
    }
    let names: SmallVec<[HeaderName; 1]> = fields.keys().filter(has_directives).cloned().collect();
    for name in &names {
        limit_directives(fields, name, &["max-age", "s-maxage"], limit);
    }
}

/// Limits the given directives of `field`. Directives that the field does not have are not added.
fn limit_directives(
    fields: &mut HeaderMap,
    field: &HeaderName,
    directives: &[&str],
    limit: Duration,
) {
    let mut list = DirectiveList::of_field(fields, field);
    let mut is_changed = false;
    for name in directives {
        if list.has(name) {
            list.limit(name, limit);
            is_changed = true;
        }
    }
    if is_changed {
        list.write_field(fields, field);
    }
}

/// Writes the freshness lifetime that this cache uses into a response, if the policy or the options
/// of the handler set this lifetime.
///
/// Clients then keep the response no longer than the cache does. If the response also states a
/// lifetime, as `max-age` or as `Expires`, the shorter of the two lifetimes is written into
/// `max-age`. If the lifetime comes from the response's own fields, nothing is written, because
/// clients can compute the lifetime from these fields. `present` are the kinds of fields that the
/// response has.
pub(crate) fn state_lifetime(
    fields: &mut HeaderMap,
    present: PresentFields,
    lifetime: &Lifetime,
    now: Timestamp,
) {
    if lifetime.source.is_stated() {
        return;
    }
    let is_stated =
        present.has(PresentFields::CACHE_CONTROL) || present.has(PresentFields::EXPIRES);
    let max_age = if is_stated {
        limit_max_age(fields, lifetime.freshness, now)
    } else {
        // The usual case: the handler states nothing.
        if let Some(max_age) = max_age_value(lifetime.freshness.as_secs()) {
            fields.append(CACHE_CONTROL, max_age);
        }
        lifetime.freshness
    };
    if present.has(PresentFields::TARGETED) {
        limit_targeted_fields(fields, lifetime.freshness);
    }
    if !present.has(PresentFields::EXPIRES) {
        let left = max_age.saturating_sub(lifetime.age(now));
        if let Some(end) = date_value(now.system_time() + left) {
            fields.append(EXPIRES, end);
        }
    }
}

/// Returns the value of `Cache-Control` with this `max-age` alone.
fn max_age_value(seconds: u64) -> Option<HeaderValue> {
    thread_local! {
        static MAX_AGES: RecentValues = const { RecentValues::new() };
    }
    let make = |seconds| number_after("max-age=", seconds);
    MAX_AGES.with(|recent| recent.get_or_make(seconds, make))
}

/// Limits `max-age` and `s-maxage` in `Cache-Control` to `freshness`, and `max-age` to the lifetime in
/// `Expires`, too. Returns the new `max-age`.
fn limit_max_age(fields: &mut HeaderMap, freshness: Duration, now: Timestamp) -> Duration {
    // RFC 9111 section 5.2.2.10: `s-maxage` applies only to shared caches, so it does not limit the
    // lifetime for clients.
    let mut governing = Governing::of(fields, &[]);
    governing.directives.s_maxage = None;
    let stated = freshness::explicit_lifetime(&governing, fields, now);
    let max_age = freshness.min(stated.unwrap_or(freshness));
    let mut directives = DirectiveList::of(fields);
    directives.limit("max-age", max_age);
    if directives.has("s-maxage") {
        directives.limit("s-maxage", freshness);
    }
    directives.write(fields);
    max_age
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
    fn response_that_is_not_shared_is_private() {
        for (before, after) in [
            ("", "private"),
            ("max-age=5", "max-age=5, private"),
            ("public, max-age=5, s-maxage=9", "max-age=5, private"),
            ("private, max-age=5", "private, max-age=5"),
            ("private=\"x\", public", "private"),
            ("no-cache", "no-cache, private"),
        ] {
            let mut fields = HeaderMap::new();
            if !before.is_empty() {
                fields.insert(CACHE_CONTROL, before.parse().unwrap());
            }
            forbid_sharing(&mut fields);
            assert_eq!(stated(&fields).0, after, "{before}");
            assert!(!fields.contains_key(CDN_CACHE_CONTROL), "no targeted field is added");
        }
        let mut fields = header_map(&[
            (CDN_CACHE_CONTROL, "max-age=600".to_owned()),
            (HeaderName::from_static("surrogate-control"), "max-age=600".to_owned()),
        ]);
        forbid_sharing(&mut fields);
        for name in ["cdn-cache-control", "surrogate-control"] {
            assert_eq!(fields.get(name).unwrap(), "no-store", "{name}");
        }
    }

    #[test]
    fn each_stated_lifetime_is_limited_and_none_is_added() {
        const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");
        let cdn = |text: &str| (CDN, text.to_owned());
        for (case, fields, want) in [
            ("no lifetime", vec![], ("", "", None)),
            ("other directives", vec![cache_control("public,x=1")], ("public,x=1", "", None)),
            (
                "both directives",
                vec![cache_control("max-age=90, public, s-maxage=80")],
                ("max-age=30, public, s-maxage=30", "", None),
            ),
            (
                "shorter directives",
                vec![cache_control("max-age=9, s-maxage=30")],
                ("max-age=9, s-maxage=30", "", None),
            ),
            (
                "targeted field",
                vec![cache_control("max-age=5"), cdn("max-age=90, must-revalidate")],
                ("max-age=5", "max-age=30, must-revalidate", None),
            ),
            ("later Expires", vec![expires(http_date(500))], ("", "", Some(http_date(120)))),
            ("earlier Expires", vec![expires(http_date(105))], ("", "", Some(http_date(105)))),
            ("unreadable Expires", vec![expires("0")], ("", "", Some("0".to_owned()))),
        ] {
            let mut fields = header_map(&fields);
            let secs = Duration::from_secs;
            limit_stated_lifetimes(&mut fields, secs(10), secs(20), at(100));
            let (directives, targeted, date) = want;
            let date = date.unwrap_or_default();
            assert_eq!(stated(&fields), (directives, &*date), "{case}");
            let got = fields.get(CDN).map_or("", |value| value.to_str().unwrap());
            assert_eq!(got, targeted, "{case}");
        }
    }

    #[test]
    fn lifetime_for_a_cdn_keeps_other_directives_and_replaces_no_other_lifetime() {
        let cdn = |text: &str| (CDN_CACHE_CONTROL, text.to_owned());
        for (fields, want) in [
            (vec![], "max-age=30"),
            (vec![cache_control("max-age=5")], "max-age=30"),
            (
                vec![cache_control("public, max-age=5, s-maxage=7, must-revalidate")],
                "public, max-age=30, must-revalidate",
            ),
            (vec![cache_control("no-cache")], "no-cache, max-age=30"),
            (vec![cache_control("max-age=60, private")], ""),
            (vec![cache_control("private=\"x\"")], ""),
            (vec![cdn("max-age=5")], "max-age=5"),
            (vec![cdn("no-store")], "no-store"),
        ] {
            let mut map = header_map(&fields);
            state_cdn_lifetime(&mut map, Duration::from_secs(10), Duration::from_secs(20));
            let got = map.get(CDN_CACHE_CONTROL).map_or("", |value| value.to_str().unwrap());
            assert_eq!(got, want, "{fields:?}");
        }
    }

    /// A shorter lifetime of the policy also replaces the lifetimes in `s-maxage` and in targeted
    /// fields, which address caches in front of the application.
    #[test]
    fn lifetime_of_policy_limits_those_of_downstream_caches() {
        let cdn = HeaderName::from_static("cdn-cache-control");
        let mut fields = header_map(&[
            cache_control("s-maxage=600"),
            (cdn.clone(), "max-age=600, public".to_owned()),
        ]);
        let source = LifetimeSource::Policy;
        let lifetime = Lifetime { source, ..stored(0, &[]).lifetime };
        let present = PresentFields::of(&fields);
        state_lifetime(&mut fields, present, &lifetime, at(0));
        assert_eq!(stated(&fields).0, "s-maxage=60, max-age=60");
        assert_eq!(fields.get(cdn).unwrap(), "max-age=60, public");
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
                let present = PresentFields::of(&fields);
                state_lifetime(&mut fields, present, &lifetime, at(100));
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
            let present = PresentFields::of(&fields);
            state_lifetime(&mut fields, present, &lifetime, at(100));
            assert_eq!(stated(&fields), ("s-maxage=5", ""), "{source:?}");
        }
    }
}
