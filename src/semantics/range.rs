//! Parts of a stored response (RFC 9110 section 14): which ones a request asks for.

use std::{ops::Range, time::Duration};

use actix_web::http::{
    Method,
    header::{HeaderMap, IF_RANGE, RANGE},
};
use smallvec::SmallVec;

use super::{
    fields::{EntityTag, field_lines, http_date, trim},
    validation::Validators,
};

/// Ranges that a request may ask for; with more, the whole is sent.
const MAX_RANGES: usize = 32;

/// What the head of each part of a multipart answer takes, about.
const PART_OVERHEAD: u64 = 128;

/// What of a representation is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RangeSelection {
    /// All of it: no range was asked for, or none that has to be honoured.
    Full,
    /// These parts, each of at least one byte; none reaches beyond the end.
    Parts(SmallVec<[Range<u64>; 1]>),
    /// None of the ranges asked for has a byte in it (416).
    Unsatisfiable,
}

/// What a request wants of a complete representation of `length` bytes.
pub(crate) fn requested_ranges(
    method: &Method,
    request: &HeaderMap,
    validators: Validators<'_>,
    length: u64,
) -> RangeSelection {
    // RFC 9110 section 14.2: defined for GET alone.
    let mut values = field_lines(request, &RANGE);
    let (Some(value), None) = (values.next(), values.next()) else { return RangeSelection::Full };
    if *method != Method::GET || !holds(request, validators) {
        return RangeSelection::Full;
    }
    // What cannot be read is ignored, and so is any other unit.
    let Some(asked) = parse(value) else { return RangeSelection::Full };
    let satisfiable: SmallVec<_> = asked.iter().filter_map(|spec| spec.within(length)).collect();
    if satisfiable.is_empty() {
        return RangeSelection::Unsatisfiable;
    }
    let parts = coalesced(satisfiable);
    let sent: u64 = parts.iter().map(|part| part.end - part.start + PART_OVERHEAD).sum();
    // Section 14.2: many small or overlapping ranges are a way to attack; the whole costs less.
    if parts.len() > 1 && sent >= length {
        RangeSelection::Full
    } else {
        RangeSelection::Parts(parts)
    }
}

/// RFC 9110 section 13.1.5: whether `If-Range` still names what is stored; by strong comparison,
/// or by exactly the date, where that date can be relied on.
fn holds(request: &HeaderMap, validators: Validators<'_>) -> bool {
    let mut values = field_lines(request, &IF_RANGE);
    let Some(value) = values.next() else { return true };
    if values.next().is_some() {
        return false;
    }
    let value = trim(value);
    if let Some(tag) = EntityTag::parse(value) {
        return tag.is_strong() && validators.tag == Some(value);
    }
    // Section 8.8.2.2: strong only if it was a second old when it was sent.
    let strong = validators.modified.zip(validators.date).is_some_and(|(modified, date)| {
        date.duration_since(modified).is_ok_and(|age| age >= Duration::from_secs(1))
    });
    strong && http_date(value).is_some_and(|date| validators.modified == Some(date))
}

/// One range-spec of RFC 9110 section 14.1.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spec {
    /// `2-5`, `2-`: both ends are part of it.
    From(u64, Option<u64>),
    /// `-3`: the last so many.
    Last(u64),
}

impl Spec {
    /// What it means for a representation of `length` bytes; nothing if it cannot be satisfied.
    fn within(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => {
                first..last.map_or(length, |last| last.saturating_add(1).min(length))
            }
            Self::Last(count) => length.saturating_sub(count)..length,
        };
        (!range.is_empty()).then_some(range)
    }
}

fn parse(value: &[u8]) -> Option<SmallVec<[Spec; 1]>> {
    let (unit, set) = value.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut specs = SmallVec::new();
    for member in set.split(|&byte| byte == b',').map(trim) {
        // Empty members of a list are allowed (section 5.6.1.2).
        if member.is_empty() {
            continue;
        }
        if specs.len() == MAX_RANGES {
            return None;
        }
        specs.push(spec(member)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn spec(member: &[u8]) -> Option<Spec> {
    let dash = member.iter().position(|&byte| byte == b'-')?;
    let (first, last) = member.split_at_checked(dash)?;
    let last = last.get(1..)?;
    match (first.is_empty(), last.is_empty()) {
        (true, true) => None,
        (true, false) => Some(Spec::Last(number(last)?)),
        (false, true) => Some(Spec::From(number(first)?, None)),
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::From(first, Some(last)))
        }
    }
}

/// Digits; what is too large to represent is larger than any representation.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

/// Section 15.3.7.2 allows to coalesce ranges that overlap; those that do not keep their order.
fn coalesced(parts: SmallVec<[Range<u64>; 1]>) -> SmallVec<[Range<u64>; 1]> {
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
#[expect(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
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
    fn ranges_are_read_as_rfc_9110_section_14_1_2_defines_them() {
        let whole = || RangeSelection::Full;
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
            ("bytes=0-", 0, RangeSelection::Unsatisfiable),
            ("bytes=-5", 0, RangeSelection::Unsatisfiable),
            ("bytes=5-4", 10, whole()),
            ("bytes=--1", 10, whole()),
            ("bytes=-", 10, whole()),
            ("bytes=", 10, whole()),
            ("bytes= ,", 10, whole()),
            ("bytes=a-b", 10, whole()),
            ("bytes=1.5-2", 10, whole()),
            ("bytes=0-1,x", 10, whole()),
            ("bytes 0-1", 10, whole()),
            ("items=0-1", 10, whole()),
            ("0-1", 10, whole()),
        ] {
            assert_eq!(of(range, length), want, "{range} of {length}");
        }
    }

    #[test]
    fn several_ranges_keep_their_order_unless_they_overlap() {
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
    fn what_costs_more_than_the_whole_is_the_whole() {
        assert_eq!(of("bytes=0-400,500-999", 1000), RangeSelection::Full);
        assert_eq!(of(&format!("bytes={}", "0-,".repeat(1000)), 1000), RangeSelection::Full);
        assert_eq!(of(&format!("bytes={}0-0", "0-0,".repeat(31)), 1000), parts(&[0..1]));
        assert_eq!(of(&format!("bytes={}0-0", "0-0,".repeat(32)), 1000), RangeSelection::Full);
        // With what the head of each part takes, 10 and 20 bytes are 286.
        assert_eq!(of("bytes=0-9,20-39", 286), RangeSelection::Full);
        assert_eq!(of("bytes=0-9,20-39", 287), parts(&[0..10, 20..40]));
        assert_eq!(of("bytes=0-9", 11), parts(&[0..10]), "one part has no head of its own");
        let apart: Vec<_> = (0..31).map(|n| format!("{}-{}", n * 2, n * 2)).collect();
        assert_eq!(of(&format!("bytes={}", apart.join(",")), 1000), RangeSelection::Full);
    }

    #[test]
    fn ranges_are_for_get_and_for_one_field() {
        let range = request(&[(RANGE, "bytes=0-1")]);
        assert_eq!(requested_ranges(&Method::HEAD, &range, TAGGED, 10), RangeSelection::Full);
        let twice = request(&[(RANGE, "bytes=0-1"), (RANGE, "bytes=0-1")]);
        assert_eq!(requested_ranges(&Method::GET, &twice, TAGGED, 10), RangeSelection::Full);
        assert_eq!(requested_ranges(&Method::GET, &request(&[]), TAGGED, 10), RangeSelection::Full);
    }

    #[test]
    fn a_range_of_something_else_is_the_whole() {
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
            ("its tag", "\"a\"".to_owned(), TAGGED, true),
            ("another tag", "\"b\"".to_owned(), TAGGED, false),
            ("a weak tag", "W/\"a\"".to_owned(), TAGGED, false),
            ("its tag, which is weak", "W/\"a\"".to_owned(), weak, false),
            ("strong of a weak one", "\"a\"".to_owned(), weak, false),
            ("its date", date(1000), dated(1000, Some(2000)), true),
            ("a later date", date(1001), dated(1000, Some(2000)), false),
            ("an earlier date", date(999), dated(1000, Some(2000)), false),
            ("sent in the same second", date(1000), dated(1000, Some(1000)), false),
            ("sent a second later", date(1000), dated(1000, Some(1001)), true),
            ("sent before it changed", date(1000), dated(1000, Some(900)), false),
            ("sent nobody knows when", date(1000), dated(1000, None), false),
            ("a date, but it has none", date(1000), TAGGED, false),
            ("neither", "a".to_owned(), TAGGED, false),
        ] {
            let fields = request(&[(RANGE, "bytes=0-1"), (IF_RANGE, &condition)]);
            let got = requested_ranges(&Method::GET, &fields, validators, 10);
            assert_eq!(got == parts(&[0..2]), want, "{case}: {got:?}");
        }
        let twice = request(&[(RANGE, "bytes=0-1"), (IF_RANGE, "\"a\""), (IF_RANGE, "\"a\"")]);
        assert_eq!(
            requested_ranges(&Method::GET, &twice, TAGGED, 10),
            RangeSelection::Full,
            "two conditions"
        );
    }

    proptest! {
        #[test]
        fn parts_lie_within_and_never_cost_more_than_the_whole(
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
        fn a_range_selects_what_a_naive_reading_selects(first in 0_u64..50, last in 0_u64..50, length in 1_u64..40) {
            let want: Vec<u64> = (0..length).filter(|at| (first..=last).contains(at)).collect();
            let got = match of(&format!("bytes={first}-{last}"), length) {
                RangeSelection::Full => { prop_assert!(first > last); return Ok(()); }
                RangeSelection::Unsatisfiable => vec![],
                RangeSelection::Parts(parts) => parts.into_iter().flatten().collect(),
            };
            prop_assert_eq!(got, want);
        }

        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(0x20_u8..0x7f, 0..40)) {
            let _ = parse(&bytes);
            let _ = parse(&[b"bytes=", &bytes[..]].concat());
        }
    }
}
