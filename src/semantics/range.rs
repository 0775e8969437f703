//! Range requests for stored responses (RFC 9110 section 14). Sections without an RFC number belong
//! to RFC 9110.

use std::{ops::Range, time::Duration};

use actix_web::http::{
    Method,
    header::{HeaderMap, IF_RANGE, RANGE},
};
use smallvec::SmallVec;

use super::{
    dates::http_date,
    fields::{EntityTag, field_lines, trim},
    validation::Validators,
};

/// The largest number of ranges that a request may ask for. A request for more ranges gets the full
/// representation.
const MAX_RANGES: usize = 32;

/// The approximate size in bytes of the head that precedes each part in a `multipart/byteranges`
/// response.
const PART_OVERHEAD: u64 = 128;

/// The part of a representation that the response to a request contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RangeSelection {
    /// The full representation: the request has no `Range`, or the `Range` is ignored.
    Full,
    /// These byte ranges of the representation. No range is empty or extends beyond the end.
    Parts(SmallVec<[Range<u64>; 1]>),
    /// No bytes: all requested ranges are beyond the end of the representation (status code 416).
    Unsatisfiable,
}

/// Returns which part of a representation of `length` bytes a request asks for.
pub(crate) fn requested_ranges(
    method: &Method,
    request: &HeaderMap,
    validators: Validators<'_>,
    length: u64,
) -> RangeSelection {
    let mut values = field_lines(request, &RANGE);
    let (Some(value), None) = (values.next(), values.next()) else { return RangeSelection::Full };
    // Section 14.2: `Range` is only defined for GET.
    if *method != Method::GET || !if_range_matches(request, validators) {
        return RangeSelection::Full;
    }
    // Section 14.1.2: each range of the last bytes is satisfiable, even if there are none, but a 206
    // cannot describe such a range. Clients that send `Range` with each request expect no error.
    if length == 0 {
        return RangeSelection::Full;
    }
    // Section 14.2: `Range` is ignored if a range is invalid or the unit is unknown.
    let Some(specs) = parse(value) else { return RangeSelection::Full };
    let satisfiable: SmallVec<_> = specs.iter().filter_map(|spec| spec.resolve(length)).collect();
    if satisfiable.is_empty() {
        return RangeSelection::Unsatisfiable;
    }
    let parts = coalesce(satisfiable);
    let sizes = parts.iter().map(|part| (part.end - part.start).saturating_add(PART_OVERHEAD));
    let sent = sizes.fold(0, u64::saturating_add);
    // Sections 14.2 and 17.15: many small ranges can be an attack. The full representation is sent
    // if the parts with their heads would be at least as large.
    if parts.len() > 1 && sent >= length {
        RangeSelection::Full
    } else {
        RangeSelection::Parts(parts)
    }
}

/// Returns whether `If-Range` lets `Range` apply: the condition is true, or the request has no
/// `If-Range` (section 13.1.5).
///
/// Entity tags are compared strongly. A date must equal `Last-Modified`, and `Last-Modified` must
/// be a strong validator.
fn if_range_matches(request: &HeaderMap, validators: Validators<'_>) -> bool {
    let mut values = field_lines(request, &IF_RANGE);
    let Some(value) = values.next() else { return true };
    if values.next().is_some() {
        return false;
    }
    let value = trim(value);
    if let Some(tag) = EntityTag::parse(value) {
        return tag.is_strong() && validators.tag == Some(value);
    }
    // Section 8.8.2.2: `Last-Modified` is strong if it is at least a second before `Date`.
    let strong = validators.modified.zip(validators.date).is_some_and(|(modified, date)| {
        date.duration_since(modified).is_ok_and(|age| age >= Duration::from_secs(1))
    });
    strong && http_date(value).is_some_and(|date| validators.modified == Some(date))
}

/// One requested range, as the request states it (range-spec, section 14.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RangeSpec {
    /// `2-5` or `2-`: from the first to the last byte inclusive. Without a last byte, the range
    /// extends to the end.
    From(u64, Option<u64>),
    /// `-3`: the given number of bytes at the end.
    Last(u64),
}

impl RangeSpec {
    /// Returns the range within a representation of `length` bytes; `None` if the range contains no
    /// bytes.
    fn resolve(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => {
                first..last.map_or(length, |last| last.saturating_add(1).min(length))
            }
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

/// Parses the value of `Range`; `None` if the value is invalid or its unit is not `bytes`.
fn parse(value: &[u8]) -> Option<SmallVec<[RangeSpec; 1]>> {
    let (unit, set) = value.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut specs = SmallVec::new();
    for member in set.split(|&byte| byte == b',').map(trim) {
        // Section 5.6.1.2: a list may contain empty members.
        if member.is_empty() {
            continue;
        }
        if specs.len() == MAX_RANGES {
            return None;
        }
        specs.push(parse_spec(member)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn parse_spec(member: &[u8]) -> Option<RangeSpec> {
    let dash = member.iter().position(|&byte| byte == b'-')?;
    let (first, last) = member.split_at_checked(dash)?;
    let last = last.get(1..)?;
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => Some(RangeSpec::Last(parse_number(last)?)),
        (false, true) => Some(RangeSpec::From(parse_number(first)?, None)),
        (false, false) => {
            let (first, last) = (parse_number(first)?, parse_number(last)?);
            (first <= last).then_some(RangeSpec::From(first, Some(last)))
        }
    }
}

/// Parses a byte position or a byte count. A number that does not fit into `u64` becomes
/// `u64::MAX`, which is beyond the end of any representation.
fn parse_number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

/// Merges ranges that overlap (section 15.3.7.2). If no ranges overlap, all ranges keep their
/// order. Otherwise, the result is sorted by position.
fn coalesce(parts: SmallVec<[Range<u64>; 1]>) -> SmallVec<[Range<u64>; 1]> {
    let mut sorted = parts.clone();
    sorted.sort_unstable_by_key(|part| part.start);
    let mut merged: SmallVec<[Range<u64>; 1]> = SmallVec::new();
    for part in sorted {
        match merged.last_mut() {
            Some(last) if part.start < last.end => last.end = last.end.max(part.end),
            _ => merged.push(part),
        }
    }
    if merged.len() == parts.len() { parts } else { merged }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "these are lists of one range")]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use actix_web::http::header::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const TAGGED: Validators<'static> =
        Validators { tag: Some(b"\"a\""), modified: None, date: None };

    fn request(fields: &[(HeaderName, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        map
    }

    fn of(range: &str, length: u64) -> RangeSelection {
        requested_ranges(&Method::GET, &request(&[(RANGE, range)]), TAGGED, length)
    }

    fn parts(ranges: &[Range<u64>]) -> RangeSelection {
        RangeSelection::Parts(ranges.iter().cloned().collect())
    }

    #[test]
    fn ranges_are_parsed_as_rfc_9110_section_14_1_2_defines() {
        let full = || RangeSelection::Full;
        for (range, length, want) in [
            ("bytes=0-1", 10, parts(&[0..2])),
            ("bytes=2-", 10, parts(&[2..10])),
            ("bytes=-3", 10, parts(&[7..10])),
            ("bytes=-30", 10, parts(&[0..10])),
            ("bytes=0-0", 10, parts(&[0..1])),
            ("bytes=5-99", 10, parts(&[5..10])),
            ("BYTES=0-1", 10, parts(&[0..2])),
            ("bytes=0-1 , ", 10, parts(&[0..2])),
            ("bytes=0-18446744073709551616", 10, parts(&[0..10])),
            ("bytes=10-", 10, RangeSelection::Unsatisfiable),
            ("bytes=18446744073709551615-", 10, RangeSelection::Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, RangeSelection::Unsatisfiable),
            ("bytes=-0", 10, RangeSelection::Unsatisfiable),
            ("bytes=0-18446744073709551614,5-", u64::MAX, parts(&[0..u64::MAX])),
            ("bytes=1-18446744073709551614,0-0", u64::MAX, full()),
            ("bytes=0-", 0, full()),
            ("bytes=-5", 0, full()),
            ("bytes=-0", 0, full()),
            ("bytes=9-", 0, full()),
            ("bytes=5-4", 10, full()),
            ("bytes=--1", 10, full()),
            ("bytes=-", 10, full()),
            ("bytes=", 10, full()),
            ("bytes= ,", 10, full()),
            ("bytes=a-b", 10, full()),
            ("bytes=1.5-2", 10, full()),
            ("bytes=0-1,x", 10, full()),
            ("bytes 0-1", 10, full()),
            ("items=0-1", 10, full()),
            ("0-1", 10, full()),
        ] {
            assert_eq!(of(range, length), want, "{range} of {length}");
        }
    }

    #[test]
    fn ranges_keep_their_order_unless_they_overlap() {
        for (range, want) in [
            ("bytes=500-600,0-1", parts(&[500..601, 0..2])),
            ("bytes=0-99,50-150", parts(&[0..151])),
            ("bytes=600-700,0-99,50-150", parts(&[0..151, 600..701])),
            ("bytes=0-1,2-3", parts(&[0..2, 2..4])),
            ("bytes=0-2,2-3", parts(&[0..4])),
            ("bytes=0-99,10-20", parts(&[0..100])),
            ("bytes=0-1,9999-", parts(&[0..2])),
        ] {
            assert_eq!(of(range, 2000), want, "{range}");
        }
    }

    #[test]
    fn ranges_that_cost_more_than_the_representation_are_ignored() {
        assert_eq!(of("bytes=0-400,500-999", 1000), RangeSelection::Full);
        assert_eq!(of(&format!("bytes={}", "0-,".repeat(1000)), 1000), RangeSelection::Full);
        assert_eq!(of(&format!("bytes={}0-0", "0-0,".repeat(31)), 1000), parts(&[0..1]));
        assert_eq!(of(&format!("bytes={}0-0", "0-0,".repeat(32)), 1000), RangeSelection::Full);
        // The two parts need 10 + 20 bytes of content and 2 * 128 bytes for their heads: 286 bytes.
        assert_eq!(of("bytes=0-9,20-39", 286), RangeSelection::Full);
        assert_eq!(of("bytes=0-9,20-39", 287), parts(&[0..10, 20..40]));
        assert_eq!(of("bytes=0-9", 11), parts(&[0..10]), "a single part has no head");
        let separate: Vec<_> = (0..31).map(|n| format!("{}-{}", n * 2, n * 2)).collect();
        assert_eq!(of(&format!("bytes={}", separate.join(",")), 1000), RangeSelection::Full);
    }

    #[test]
    fn ranges_are_ignored_unless_the_method_is_get_and_the_field_has_one_line() {
        let range = request(&[(RANGE, "bytes=0-1")]);
        assert_eq!(requested_ranges(&Method::HEAD, &range, TAGGED, 10), RangeSelection::Full);
        let twice = request(&[(RANGE, "bytes=0-1"), (RANGE, "bytes=0-1")]);
        assert_eq!(requested_ranges(&Method::GET, &twice, TAGGED, 10), RangeSelection::Full);
        assert_eq!(requested_ranges(&Method::GET, &request(&[]), TAGGED, 10), RangeSelection::Full);
    }

    #[test]
    fn range_is_ignored_if_if_range_does_not_match() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let date: fn(u64) -> String =
            |seconds| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        let weak = Validators { tag: Some(b"W/\"a\""), ..TAGGED };
        let dated = |modified: u64, sent: Option<u64>| Validators {
            tag: None,
            modified: Some(at(modified)),
            date: sent.map(at) as Option<SystemTime>,
        };
        for (case, condition, validators, want) in [
            ("same tag", "\"a\"".to_owned(), TAGGED, true),
            ("other tag", "\"b\"".to_owned(), TAGGED, false),
            ("weak form of a strong tag", "W/\"a\"".to_owned(), TAGGED, false),
            ("same tag, weak", "W/\"a\"".to_owned(), weak, false),
            ("strong form of a weak tag", "\"a\"".to_owned(), weak, false),
            ("same date", date(1000), dated(1000, Some(2000)), true),
            ("later date", date(1001), dated(1000, Some(2000)), false),
            ("earlier date", date(999), dated(1000, Some(2000)), false),
            ("Date in the same second", date(1000), dated(1000, Some(1000)), false),
            ("Date a second later", date(1000), dated(1000, Some(1001)), true),
            ("Date before Last-Modified", date(1000), dated(1000, Some(900)), false),
            ("no Date", date(1000), dated(1000, None), false),
            ("no Last-Modified", date(1000), TAGGED, false),
            ("neither tag nor date", "a".to_owned(), TAGGED, false),
        ] {
            let fields = request(&[(RANGE, "bytes=0-1"), (IF_RANGE, &condition)]);
            let got = requested_ranges(&Method::GET, &fields, validators, 10);
            assert_eq!(got == parts(&[0..2]), want, "{case}: {got:?}");
        }
        let twice = request(&[(RANGE, "bytes=0-1"), (IF_RANGE, "\"a\""), (IF_RANGE, "\"a\"")]);
        assert_eq!(
            requested_ranges(&Method::GET, &twice, TAGGED, 10),
            RangeSelection::Full,
            "two lines of If-Range"
        );
    }

    proptest! {
        #[test]
        fn parts_are_within_the_representation_and_not_larger(
            specs in proptest::collection::vec("[0-9]{0,3}-[0-9]{0,3}", 0..6),
            length in 0_u64..2000,
        ) {
            if let RangeSelection::Parts(parts) = of(&format!("bytes={}", specs.join(",")), length) {
                prop_assert!(!parts.is_empty());
                for part in &parts {
                    prop_assert!(part.start < part.end && part.end <= length);
                }
                let sent: u64 = parts.iter().map(|part| part.end - part.start).sum();
                prop_assert!(sent <= length);
            }
        }

        #[test]
        fn range_contains_all_bytes_from_first_to_last(first in 0_u64..50, last in 0_u64..50, length in 1_u64..40) {
            let want: Vec<u64> = (0..length).filter(|byte| (first..=last).contains(byte)).collect();
            let got = match of(&format!("bytes={first}-{last}"), length) {
                RangeSelection::Full => { prop_assert!(first > last); return Ok(()); }
                RangeSelection::Unsatisfiable => vec![],
                RangeSelection::Parts(parts) => parts.into_iter().flatten().collect(),
            };
            prop_assert_eq!(got, want);
        }

        #[test]
        fn parser_does_not_panic(bytes in proptest::collection::vec(0x20_u8..0x7f, 0..40)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"bytes=", &bytes[..]].concat());
        }
    }
}
