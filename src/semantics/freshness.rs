//! Computes the freshness lifetime and the age of responses (RFC 9111 section 4.2).

use std::time::Duration;

use actix_web::http::header::{AGE, DATE, EXPIRES, HeaderMap, LAST_MODIFIED};

use super::{
    dates::date_field,
    fields::{delta_seconds, field_lines, list_members},
    targeted::{Governing, Source},
};
use crate::clock::Timestamp;

/// The longest heuristic freshness lifetime. Even a resource that did not change for ten years may
/// change today.
const MAX_HEURISTIC: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns the freshness lifetime that a response states (section 4.2.1): `s-maxage`, or else
/// `max-age`, or else `Expires` minus `Date`. `None` if the response states no lifetime.
pub(crate) fn explicit_lifetime(
    governing: &Governing,
    response: &HeaderMap,
    responded: Timestamp,
) -> Option<Duration> {
    let directives = &governing.directives;
    directives.s_maxage.or(directives.max_age).or_else(|| {
        // RFC 9213 section 2.2: a targeted field also replaces `Expires`.
        if governing.source == Source::Targeted {
            return None;
        }
        let mut expires = field_lines(response, &EXPIRES);
        expires.next()?;
        // Section 5.3: an invalid date in `Expires`, especially "0", is in the past. Several lines
        // of `Expires` count as invalid, because each of them could be the correct one.
        let Some(expires) = date_field(response, &EXPIRES) else { return Some(Duration::ZERO) };
        let date = date_field(response, &DATE).unwrap_or_else(|| responded.system_time());
        Some(expires.duration_since(date).unwrap_or(Duration::ZERO))
    })
}

/// Returns the heuristic freshness lifetime (section 4.2.2): a tenth of the time between
/// `Last-Modified` and `Date`, in whole seconds, at most one day.
///
/// `None` if `Last-Modified` is missing, invalid, or after `Date`.
pub(crate) fn heuristic_lifetime(response: &HeaderMap, responded: Timestamp) -> Option<Duration> {
    let modified = date_field(response, &LAST_MODIFIED)?;
    let date = date_field(response, &DATE).unwrap_or_else(|| responded.system_time());
    let unchanged = date.duration_since(modified).ok()?;
    Some(Duration::from_secs(unchanged.as_secs() / 10).min(MAX_HEURISTIC))
}

/// Returns the age that a response had on receipt (`corrected_initial_age` of section 4.2.3).
///
/// A response without `Date` and `Age` was made by a handler in this process. Its age is zero,
/// however long the handler took. A response with `Date` or `Age` was received from another server.
/// The time between the request and the response counts as part of its age, because that server may
/// have generated the response at the beginning of this time.
pub(crate) fn initial_age(
    response: &HeaderMap,
    requested: Timestamp,
    responded: Timestamp,
) -> Duration {
    let date = date_field(response, &DATE);
    let age = age_value(response);
    if date.is_none() && age.is_none() {
        return Duration::ZERO;
    }
    let apparent = date
        .and_then(|date| responded.system_time().duration_since(date).ok())
        // `Date` has a resolution of one second, so fractions of a second do not count.
        .map_or(Duration::ZERO, |age| Duration::from_secs(age.as_secs()));
    let corrected = age.unwrap_or_default().saturating_add(responded.since(requested));
    apparent.max(corrected)
}

/// Returns the value of `Age` (section 5.1). Of several members, the first one counts. `None` if
/// this member is invalid, or if the response has no `Age`.
fn age_value(response: &HeaderMap) -> Option<Duration> {
    field_lines(response, &AGE).flat_map(list_members).next().and_then(delta_seconds)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{CACHE_CONTROL, HeaderName};

    use super::*;
    use crate::entry::fixtures::{at, header_map, http_date};

    #[test]
    fn explicit_lifetime_is_s_maxage_then_max_age_then_expires() {
        let cc = |text: &str| (CACHE_CONTROL, text.to_owned());
        for (case, fields, want) in [
            ("no lifetime", vec![], None),
            ("max-age", vec![cc("max-age=5")], Some(5)),
            ("s-maxage before max-age", vec![cc("max-age=5, s-maxage=9")], Some(9)),
            ("s-maxage=0 before max-age", vec![cc("max-age=5, s-maxage=0")], Some(0)),
            ("max-age before Expires", vec![cc("max-age=5"), (EXPIRES, http_date(99))], Some(5)),
            (
                "invalid max-age before Expires",
                vec![cc("max-age=x"), (EXPIRES, http_date(99))],
                Some(0),
            ),
            ("Expires minus Date", vec![(EXPIRES, http_date(99)), (DATE, http_date(90))], Some(9)),
            ("Expires minus now", vec![(EXPIRES, http_date(130))], Some(30)),
            ("Expires in the past", vec![(EXPIRES, http_date(50)), (DATE, http_date(90))], Some(0)),
            ("Expires: 0", vec![(EXPIRES, "0".to_owned())], Some(0)),
            ("invalid Expires", vec![(EXPIRES, "soon".to_owned())], Some(0)),
            ("two Expires", vec![(EXPIRES, http_date(130)), (EXPIRES, http_date(140))], Some(0)),
            ("invalid Date", vec![(EXPIRES, http_date(130)), (DATE, "x".to_owned())], Some(30)),
        ] {
            let fields = header_map(&fields);
            let got = explicit_lifetime(&Governing::of(&fields, &[]), &fields, at(100));
            assert_eq!(got.map(|lifetime| lifetime.as_secs()), want, "{case}");
        }
    }

    #[test]
    fn targeted_field_replaces_expires() {
        let cdn = HeaderName::from_static("cdn-cache-control");
        let fields = header_map(&[(cdn.clone(), "public".to_owned()), (EXPIRES, http_date(130))]);
        let of = |targets: &[HeaderName]| {
            explicit_lifetime(&Governing::of(&fields, targets), &fields, at(100))
                .map(|age| age.as_secs())
        };
        assert_eq!(of(&[cdn]), None);
        assert_eq!(of(&[]), Some(30));
    }

    #[test]
    fn heuristic_lifetime_is_a_tenth_of_the_time_since_last_modified() {
        for (case, fields, want) in [
            ("no Last-Modified", vec![], None),
            ("modified 50 s ago", vec![(LAST_MODIFIED, http_date(50))], Some(5)),
            ("with Date", vec![(LAST_MODIFIED, http_date(50)), (DATE, http_date(70))], Some(2)),
            ("just modified", vec![(LAST_MODIFIED, http_date(95))], Some(0)),
            ("in the future", vec![(LAST_MODIFIED, http_date(400))], None),
            ("invalid", vec![(LAST_MODIFIED, "then".to_owned())], None),
        ] {
            let got = heuristic_lifetime(&header_map(&fields), at(100));
            assert_eq!(got.map(|lifetime| lifetime.as_secs()), want, "{case}");
        }
        let old = header_map(&[
            (LAST_MODIFIED, "Sun, 06 Nov 1994 08:49:37 GMT".to_owned()),
            (DATE, "Sun, 06 Nov 2016 08:49:37 GMT".to_owned()),
        ]);
        assert_eq!(
            heuristic_lifetime(&old, at(100)),
            Some(Duration::from_secs(86_400)),
            "a day at most"
        );
    }

    #[test]
    fn initial_age_is_the_longer_of_apparent_and_corrected_age() {
        let age = |text: &str| (AGE, text.to_owned());
        for (case, fields, want) in [
            ("neither Date nor Age", vec![], 0),
            ("dated now", vec![(DATE, http_date(100))], 10),
            ("dated long ago", vec![(DATE, http_date(40))], 60),
            ("dated in the future", vec![(DATE, http_date(400))], 10),
            ("only Age", vec![age("30")], 40),
            ("Age and older Date", vec![age("30"), (DATE, http_date(20))], 80),
            ("Age and younger Date", vec![age("30"), (DATE, http_date(95))], 40),
            ("invalid Age", vec![age("x")], 0),
            ("two members of Age", vec![age("30, 500")], 40),
            ("two lines of Age", vec![age("30"), age("500")], 40),
        ] {
            let got = initial_age(&header_map(&fields), at(90), at(100));
            assert_eq!(got.as_secs(), want, "{case}");
        }
    }
}
