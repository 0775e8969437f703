//! Parsers for the value types that several header fields use: lists, numbers and entity tags (RFC
//! 9110).

use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::entry::limits::MAX_LIFETIME;

/// The largest value of delta-seconds. Larger numbers count as this one (RFC 9111 section 1.2.2).
const MAX_DELTA: u64 = MAX_LIFETIME.as_secs();

/// Header fields in which the lines of one field can be found.
pub(crate) trait Fields {
    /// Returns the values of all lines of a field.
    fn lines<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]>;
}

impl Fields for HeaderMap {
    fn lines<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        field_lines(self, name)
    }
}

/// Returns the values of all lines of a field.
pub(crate) fn field_lines<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    fields.get_all(name).map(|value| value.as_bytes())
}

/// Returns the members of a line of a list-based field (RFC 9110 section 5.6.1), without white
/// space around them. Empty members are left out. A comma inside a quoted string does not separate
/// members.
pub(crate) fn list_members(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(line, b',').filter(|member| !member.is_empty())
}

/// Splits a line at each `separator` outside of quoted strings. White space around the pieces is
/// removed, and empty pieces are kept.
pub(crate) fn split(line: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = end_of_member(text, separator);
        let (member, tail) = text.split_at_checked(end).unwrap_or((text, &[]));
        rest = tail.split_first().map(|(_, tail)| tail);
        Some(trim(member))
    })
}

/// Returns the position of the first separator outside of quoted strings, or the length of the
/// text. A quoted string without its closing quote extends to the end of the text.
fn end_of_member(text: &[u8], separator: u8) -> usize {
    let mut quotes = QuoteState::default();
    let end = text.iter().position(|&byte| !quotes.advance(byte) && byte == separator);
    end.unwrap_or(text.len())
}

/// Returns whether a line contains a quoted string without its closing quote.
pub(crate) fn has_open_quote(line: &[u8]) -> bool {
    let mut quotes = QuoteState::default();
    line.iter().for_each(|&byte| {
        quotes.advance(byte);
    });
    quotes.open
}

/// Tracks whether a position in a line is inside a quoted string (RFC 9110 section 5.6.4).
#[derive(Default)]
struct QuoteState {
    open: bool,
    escaped: bool,
}

impl QuoteState {
    /// Reads the next byte, and returns whether a quoted string is open after it.
    fn advance(&mut self, byte: u8) -> bool {
        if self.escaped {
            self.escaped = false;
        } else if byte == b'\\' {
            self.escaped = self.open;
        } else if byte == b'"' {
            self.open = !self.open;
        }
        self.open
    }
}

/// Removes optional white space (RFC 9110 section 5.6.3) from both ends.
pub(crate) fn trim(text: &[u8]) -> &[u8] {
    let is_ows = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_ows(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_ows(byte)).map_or(start, |last| last + 1);
    text.get(start..end).unwrap_or_default()
}

/// Makes a field value of a text and a number. The cache writes `Age` and `Cache-Status` for each hit,
/// so this function is faster than to format the value.
pub(crate) fn number_after(text: &str, number: u64) -> Option<HeaderValue> {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(number);
    let mut value = Vec::with_capacity(text.len() + digits.len());
    value.extend_from_slice(text.as_bytes());
    value.extend_from_slice(digits.as_bytes());
    // The value takes over the allocation.
    HeaderValue::try_from(value).ok()
}

/// Parses delta-seconds: a number of seconds that consists of digits only (RFC 9111 section 1.2.2).
/// A number above 2^31 becomes 2^31.
pub(crate) fn delta_seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut seconds: u64 = 0;
    for &byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        seconds = (seconds * 10 + u64::from(byte - b'0')).min(MAX_DELTA);
    }
    Some(Duration::from_secs(seconds))
}

/// Parses a field name, which is a token (RFC 9110 section 5.6.2). `HeaderName` alone does not
/// suffice, because it accepts bytes that are not allowed in tokens, such as quotes.
pub(crate) fn field_name(text: &[u8]) -> Option<HeaderName> {
    let is_token = |&byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    text.iter().all(is_token).then(|| HeaderName::from_bytes(text).ok())?
}

/// An entity tag (RFC 9110 section 8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntityTag<'a> {
    weak: bool,
    opaque: &'a [u8],
}

impl<'a> EntityTag<'a> {
    /// Parses `"x"` or `W/"x"`. Quotes, control characters and spaces are not allowed in `x`.
    pub(crate) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = trim(text);
        let (weak, quoted) = text.strip_prefix(b"W/").map_or((false, text), |rest| (true, rest));
        let opaque = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        let allowed = |byte: u8| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..);
        // All bytes are read even if one is not allowed, so that several are compared at once.
        let is_valid = opaque.iter().fold(true, |valid, &byte| valid & allowed(byte));
        is_valid.then_some(Self { weak, opaque })
    }

    /// Returns whether the entity tag is strong. Two representations of a resource with equal
    /// strong entity tags have equal bytes (RFC 9110 section 8.8.1).
    pub(crate) const fn is_strong(self) -> bool {
        !self.weak
    }

    /// Compares two entity tags by the weak comparison, which ignores `W/` (RFC 9110 section
    /// 8.8.3.2).
    pub(crate) fn weak_eq(self, other: Self) -> bool {
        self.opaque == other.opaque
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn list_members_are_split_outside_of_quotes_without_empty_ones() {
        for (line, want) in [
            ("", vec![]),
            (" , ,", vec![]),
            ("a", vec!["a"]),
            (" a ,\tb,, c\t", vec!["a", "b", "c"]),
            (r#"a="x,y", b"#, vec![r#"a="x,y""#, "b"]),
            (r#"a="x\",y", b"#, vec![r#"a="x\",y""#, "b"]),
            (r#"a="no closing quote, b"#, vec![r#"a="no closing quote, b"#]),
            (r"a\,b", vec![r"a\", "b"]),
        ] {
            let got: Vec<_> = list_members(line.as_bytes()).map(String::from_utf8_lossy).collect();
            assert_eq!(got, want, "{line:?}");
        }
    }

    #[test]
    fn missing_closing_quote_is_found() {
        for (line, want) in [
            ("", false),
            ("a=\"b\", c", false),
            ("a=\"b", true),
            ("a=\"b\\\"", true),
            ("a=\"b\\\\\"", false),
            ("a\\\"b", true),
            ("\"a\" \"", true),
        ] {
            assert_eq!(has_open_quote(line.as_bytes()), want, "{line}");
        }
    }

    #[test]
    fn delta_seconds_are_digits_up_to_a_maximum() {
        for (text, want) in [
            ("0", Some(0)),
            ("5", Some(5)),
            ("0005", Some(5)),
            ("2147483647", Some(2_147_483_647)),
            ("2147483649", Some(MAX_DELTA)),
            ("99999999999999999999999999999999", Some(MAX_DELTA)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            (" 5", None),
            ("0x5", None),
            ("\"5\"", None),
            ("abc", None),
        ] {
            let got = delta_seconds(text.as_bytes()).map(|delta| delta.as_secs());
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn field_names_are_tokens() {
        for (text, valid) in [
            ("a", true),
            ("X-A", true),
            ("!#$%&'*+-.^_`|~1", true),
            ("", false),
            ("a b", false),
            ("\"a", false),
            ("a\"", false),
            ("a/b", false),
            ("a{}", false),
            ("\u{fc}", false),
        ] {
            assert_eq!(field_name(text.as_bytes()).is_some(), valid, "{text}");
        }
    }

    #[test]
    fn entity_tags_are_quoted_and_weak_ones_equal_strong_ones() {
        for (text, valid) in [
            (r#""a""#, true),
            (r#"W/"a""#, true),
            (r#""""#, true),
            (r#" "a" "#, true),
            (r#"w/"a""#, false),
            ("a", false),
            (r#""a"#, false),
            (r#""a b""#, false),
            (r#""a"b""#, false),
            ("\"", false),
        ] {
            assert_eq!(EntityTag::parse(text.as_bytes()).is_some(), valid, "{text:?}");
        }
        let tag = |text: &'static str| EntityTag::parse(text.as_bytes()).unwrap();
        assert!(tag(r#"W/"a""#).weak_eq(tag(r#""a""#)));
        assert!(!tag(r#""b""#).weak_eq(tag(r#""a""#)));
    }

    proptest! {
        #[test]
        fn parsers_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for member in list_members(&bytes) {
                prop_assert!(!member.is_empty());
                prop_assert_eq!(member, trim(member));
            }
            let _ = (delta_seconds(&bytes), EntityTag::parse(&bytes));
        }
    }
}
