//! Which responses the cache may send in a content coding of its own (RFC 9110 section 8.4), and
//! media types that are worth it.

use actix_web::http::{
    StatusCode,
    header::{
        ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
        HeaderName, HeaderValue,
    },
};

use super::{
    cache_control::Directive,
    fields::{field_lines, list_members},
};
use crate::entry::{coded_tag::CodedTag, limits::may_have_body};

/// Fields with a digest or a signature of the content or of its representation. They would be wrong
/// for a copy in a content coding (RFC 9530 sections 2 and 3, RFC 3230, RFC 9421).
const DIGEST_FIELDS: [&str; 5] =
    ["content-digest", "repr-digest", "digest", "content-md5", "signature"];

/// Returns whether the cache may send the response in a content coding. `nominated` are the request
/// fields that `Vary` of the response names.
pub(crate) fn may_be_coded(
    status: StatusCode,
    response: &HeaderMap,
    nominated: &[HeaderName],
) -> bool {
    may_have_body(status)
        // The handler has chosen the coding, or chooses it by the request.
        && !response.contains_key(CONTENT_ENCODING)
        && !nominated.contains(&ACCEPT_ENCODING)
        && !response.contains_key(CONTENT_RANGE)
        && !forbids_transformation(response)
        && !DIGEST_FIELDS.iter().any(|name| response.contains_key(*name))
}

/// Returns whether a message has `Cache-Control: no-transform` (RFC 9111 sections 5.2.1.6 and
/// 5.2.2.6).
pub(crate) fn forbids_transformation(message: &HeaderMap) -> bool {
    let members = field_lines(message, &CACHE_CONTROL).flat_map(list_members);
    members.map(Directive::parse).any(|directive| directive.is("no-transform"))
}

/// Adds the entity tags of the handler to a list of tags: for each tag of a coded copy, the tag of the
/// response from which the copy was made, and for each weak tag, the strong one. Returns `None` if the
/// lines have neither.
///
/// Handlers know only the tags that they send. The tags in the list stay, because a handler may have
/// made a tag that looks like that of a copy. If it sends weak tags itself, the strong one matches
/// none of them.
pub(crate) fn with_tags_of_handler<'a>(
    lines: impl Iterator<Item = &'a [u8]>,
) -> Option<HeaderValue> {
    let mut members = Vec::new();
    let mut has_added = false;
    for member in lines.flat_map(list_members) {
        members.push(member.to_vec());
        if let Some(copy) = CodedTag::parse(member) {
            members.push([b"\"", copy.opaque, b"\""].concat());
            has_added = true;
        } else if let Some(strong) = member.strip_prefix(b"W/") {
            members.push(strong.to_vec());
            has_added = true;
        }
    }
    let list = has_added.then(|| members.join(&b", "[..]))?;
    HeaderValue::from_bytes(&list).ok()
}

/// The media types of the responses that the cache codes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MediaTypes(Vec<MediaRange>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum MediaRange {
    /// `type/subtype`.
    Type(String),
    /// `type/*`, without the star.
    Beginning(String),
    /// `*+suffix`, without the star (RFC 6839).
    Suffix(String),
}

impl MediaTypes {
    /// Parses media ranges: `type/subtype`, `type/*` or `*+suffix`, in any case.
    ///
    /// # Errors
    ///
    /// Returns the first text that is no such media range.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, &str> {
        let ranges = texts.iter().map(|text| parse_range(text).ok_or(text.as_str()));
        ranges.collect::<Result<_, _>>().map(Self)
    }

    /// Returns whether one of the ranges contains the media type of the response. A response
    /// without `Content-Type` has none.
    pub(crate) fn contain_type_of(&self, response: &HeaderMap) -> bool {
        let Some(value) = response.get(CONTENT_TYPE) else { return false };
        let essence = value.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default();
        let essence = essence.trim_ascii();
        self.0.iter().any(|range| match range {
            MediaRange::Type(text) => essence.eq_ignore_ascii_case(text.as_bytes()),
            MediaRange::Beginning(text) => starts_with(essence, text.as_bytes()),
            MediaRange::Suffix(text) => ends_with(essence, text.as_bytes()),
        })
    }
}

fn parse_range(text: &str) -> Option<MediaRange> {
    let is_name = |name: &str| {
        !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    if let Some(suffix) = text.strip_prefix('*') {
        let is_suffix = suffix.strip_prefix('+').is_some_and(is_name);
        return is_suffix.then(|| MediaRange::Suffix(suffix.to_owned()));
    }
    let (kind, subtype) = text.split_once('/')?;
    match (is_name(kind), subtype) {
        (true, "*") => Some(MediaRange::Beginning(format!("{kind}/"))),
        (true, subtype) if is_name(subtype) => Some(MediaRange::Type(text.to_owned())),
        _ => None,
    }
}

fn starts_with(text: &[u8], beginning: &[u8]) -> bool {
    text.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

fn ends_with(text: &[u8], end: &[u8]) -> bool {
    let at = text.len().checked_sub(end.len());
    at.and_then(|at| text.get(at..)).is_some_and(|found| found.eq_ignore_ascii_case(end))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::ACCEPT;

    use super::*;

    fn fields(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn response_may_be_coded_unless_a_field_speaks_against_it() {
        for (status, lines, nominated, want) in [
            (200, &[][..], &[][..], true),
            (404, &[("content-type", "text/html")], &[ACCEPT], true),
            (204, &[], &[], false),
            (200, &[("content-encoding", "gzip")], &[], false),
            (200, &[("content-encoding", "identity")], &[], false),
            (200, &[], &[ACCEPT, ACCEPT_ENCODING], false),
            (200, &[("content-range", "bytes 0-1/2")], &[], false),
            (200, &[("cache-control", "max-age=60, No-Transform")], &[], false),
            (200, &[("cache-control", "max-age=60")], &[], true),
            (200, &[("cache-control", "x=\"no-transform\"")], &[], true),
            (200, &[("content-digest", "a")], &[], false),
            (200, &[("repr-digest", "a")], &[], false),
            (200, &[("digest", "a")], &[], false),
            (200, &[("content-md5", "a")], &[], false),
            (200, &[("signature", "a")], &[], false),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(may_be_coded(status, &fields(lines), nominated), want, "{lines:?}");
        }
    }

    #[test]
    fn tag_of_a_copy_stands_for_the_tag_of_its_response() {
        for (lines, want) in [
            (&[][..], None),
            (&["*"], None),
            (&["\"a\""], None),
            (&["\"a\", W/\"b\""], Some("\"a\", W/\"b\", \"b\"")),
            (&["\"a~br-0123456789abcdef\""], Some("\"a~br-0123456789abcdef\", \"a\"")),
            (
                &["\"x\"", "\"a~gzip-0123456789abcdef\", \"y\""],
                Some("\"x\", \"a~gzip-0123456789abcdef\", \"a\", \"y\""),
            ),
        ] {
            let got = with_tags_of_handler(lines.iter().map(|line| line.as_bytes()));
            assert_eq!(got.as_ref().map(|list| list.to_str().unwrap()), want);
        }
    }

    #[test]
    fn media_types_are_matched_by_type_by_beginning_and_by_suffix() {
        let texts = ["text/*", "application/json", "*+JSON"].map(str::to_owned);
        let types = MediaTypes::parse(&texts).unwrap();
        for (value, want) in [
            ("text/html", true),
            ("TEXT/plain; charset=utf-8", true),
            ("text", false),
            ("application/json", true),
            (" Application/JSON ;q", true),
            ("application/jsonp", false),
            ("application/problem+json", true),
            ("+json", true),
            ("json", false),
            ("image/png", false),
            ("", false),
        ] {
            let got = types.contain_type_of(&fields(&[("content-type", value)]));
            assert_eq!(got, want, "{value:?}");
        }
        assert!(!types.contain_type_of(&fields(&[])));
        assert!(!MediaTypes::default().contain_type_of(&fields(&[("content-type", "text/html")])));
    }

    #[test]
    fn invalid_media_ranges_are_refused() {
        for text in ["", "*", "*/*", "text", "text/", "/html", "text/ht*", "*json", "*+", "a b/c"] {
            assert_eq!(MediaTypes::parse(&[text.to_owned()]), Err(text));
        }
    }
}
