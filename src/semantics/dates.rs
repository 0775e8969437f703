//! HTTP dates (RFC 9110 section 5.6.7).

use std::{
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use httpdate::HttpDate;

use super::{
    fields::{field_lines, trim},
    recent_values::RecentValues,
};

thread_local! {
    static DATES: RecentValues = const { RecentValues::new() };
}

/// The days of the week, as IMF-fixdate (the preferred format) and `asctime` abbreviate them.
const SHORT_DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The days of the week in the format of RFC 850.
const LONG_DAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// Parses a date in any of the three formats (IMF-fixdate, RFC 850 and `asctime`), in any letter
/// case (RFC 9111 section 4.2).
///
/// A date whose day of the week is wrong counts as valid: the rest of the date states the day, and
/// the sender most likely computed the day of the week wrongly.
pub(crate) fn http_date(text: &[u8]) -> Option<SystemTime> {
    let text = std::str::from_utf8(trim(text)).ok()?;
    if let Ok(date) = httpdate::parse_http_date(text) {
        return Some(date);
    }
    let end = text.find(|c: char| !c.is_ascii_alphabetic())?;
    let (day, rest) = text.split_at_checked(end)?;
    let is_day = |known: &&str| known.eq_ignore_ascii_case(day);
    let days = [SHORT_DAYS, LONG_DAYS].into_iter().find(|days| days.iter().any(is_day))?;
    let rest = capitalize_words(rest);
    days.iter().find_map(|day| httpdate::parse_http_date(&format!("{day}{rest}")).ok())
}

/// Writes each word with one capital letter, and `GMT` with three, as the formats demand.
fn capitalize_words(text: &str) -> String {
    let mut is_first = true;
    let mut capitalized: String = text
        .chars()
        .map(|c| {
            let letter = if is_first { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            is_first = !c.is_ascii_alphabetic();
            letter
        })
        .collect();
    if capitalized.ends_with("Gmt") {
        capitalized.truncate(capitalized.len() - 3);
        capitalized.push_str("GMT");
    }
    capitalized
}

/// Parses a field that contains one date; `None` if the field is absent, has several lines or
/// contains an invalid date.
pub(crate) fn date_field(fields: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    let mut lines = field_lines(fields, name);
    let first = lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    http_date(first)
}

/// Sets a field such as `Date` or `Expires` to `time`, as [`date_value`] writes it.
pub(crate) fn set_date(fields: &mut HeaderMap, name: HeaderName, time: SystemTime) {
    if let Some(date) = date_value(time) {
        fields.insert(name, date);
    }
}

/// Returns the value of a field such as `Date` or `Expires`, in the preferred format. A time before
/// 1970 becomes the beginning of 1970.
///
/// `time` must be before the year 10000. For the ends of lifetimes,
/// [`MAX_LIFETIME`](crate::entry::limits::MAX_LIFETIME) ensures this limit.
pub(crate) fn date_value(time: SystemTime) -> Option<HeaderValue> {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATES.with(|recent| recent.get_or_make(seconds, formatted_date))
}

fn formatted_date(seconds: u64) -> Option<HeaderValue> {
    let time = UNIX_EPOCH + Duration::from_secs(seconds);
    // The length of each date in this format.
    let mut text = [0; 29];
    write!(text.as_mut_slice(), "{}", HttpDate::from(time)).ok()?;
    HeaderValue::from_bytes(&text).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_parsed_in_all_three_formats() {
        let want = Some(UNIX_EPOCH + Duration::from_secs(784_111_777));
        let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        for (case, text, want) in [
            ("IMF-fixdate", "Sun, 06 Nov 1994 08:49:37 GMT", want),
            ("RFC 850", "Sunday, 06-Nov-94 08:49:37 GMT", want),
            ("asctime", "Sun Nov  6 08:49:37 1994", want),
            ("with white space around it", " Sun, 06 Nov 1994 08:49:37 GMT ", want),
            ("lower case", "sun, 06 nov 1994 08:49:37 gmt", want),
            ("upper case", "SUNDAY, 06-NOV-94 08:49:37 GMT", want),
            ("upper case, asctime", "SUN NOV  6 08:49:37 1994", want),
            ("wrong day", "Thu, 06 Nov 1994 08:49:37 GMT", want),
            ("wrong day, RFC 850", "wednesday, 06-Nov-94 08:49:37 GMT", want),
            ("wrong day, asctime", "Mon Nov  6 08:49:37 1994", want),
            ("number", "0", None),
            ("other time zone", "Sun, 06 Nov 1994 08:49:37 CET", None),
            ("no day", "06 Nov 1994 08:49:37 GMT", None),
            ("unknown day", "Xyz, 06 Nov 1994 08:49:37 GMT", None),
            ("long day in the short format", "Sunday, 06 Nov 1994 08:49:37 GMT", None),
            ("day alone", "Sun", None),
            ("two dates", "Thu, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT", None),
            ("empty", "", None),
            ("before 1970", "Sun, 06 Nov 1904 08:49:37 GMT", None),
            ("year 0", "Sat, 01 Jan 0000 00:00:00 GMT", None),
            ("leap second", "Sat, 31 Dec 2016 23:59:60 GMT", None),
            ("year 1970", "Thu, 01 Jan 1970 00:00:00 GMT", Some(UNIX_EPOCH)),
            ("year 70", "Thursday, 01-Jan-70 00:00:00 GMT", Some(UNIX_EPOCH)),
            ("year 9999", "Fri, 31 Dec 9999 23:59:59 GMT", Some(last)),
        ] {
            assert_eq!(http_date(text.as_bytes()), want, "{case}");
        }
        assert_eq!(http_date(&[0xff, 0xfe]), None);
    }

    #[test]
    fn date_is_written_in_the_preferred_format_in_place_of_others() {
        use actix_web::http::header::EXPIRES;
        let mut fields = HeaderMap::new();
        fields.append(EXPIRES, HeaderValue::from_static("0"));
        fields.append(EXPIRES, HeaderValue::from_static("1"));
        for (second, want) in [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (4_000_000_000 + (1 << 31), "Sun, 21 Oct 2164 10:20:48 GMT"),
        ] {
            set_date(&mut fields, EXPIRES, UNIX_EPOCH + Duration::from_secs(second));
            let got: Vec<_> = fields.get_all(EXPIRES).collect();
            assert_eq!(got, [want], "{second}");
        }
    }

    proptest! {
        #[test]
        fn parser_does_not_panic(text in "\\PC{0,48}", bytes in any::<[u8; 24]>()) {
            let _ = (http_date(text.as_bytes()), http_date(&bytes));
        }

        #[test]
        fn formatted_date_is_read_back_in_any_case(second in 0_u64..250_000_000_000) {
            let date = UNIX_EPOCH + Duration::from_secs(second);
            let text = httpdate::fmt_http_date(date);
            prop_assert_eq!(http_date(text.to_ascii_lowercase().as_bytes()), Some(date));
            prop_assert_eq!(http_date(text.to_ascii_uppercase().as_bytes()), Some(date));
        }
    }
}
