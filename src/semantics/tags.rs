//! Reads and writes response fields that list tags (surrogate keys), and reads those that list cache
//! groups. The tags and groups of a stored response are the names by which an application can purge
//! it.

use std::{borrow::Cow, collections::HashSet, fmt::Write as _};

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, List, ListEntry, Parser};

use super::fields::{field_lines, trim};

/// The field that lists the groups of a response (RFC 9875 section 2).
pub(crate) const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");

/// The field by which the response to an unsafe request lists groups. The cache invalidates the
/// stored responses of these groups (RFC 9875 section 3).
pub(crate) const CACHE_GROUP_INVALIDATION: HeaderName =
    HeaderName::from_static("cache-group-invalidation");

/// Returns the groups in `Cache-Groups` or `Cache-Group-Invalidation`, which are lists of strings
/// (RFC 9651 section 3.1).
///
/// The result is empty if the field is absent or invalid. One invalid member makes the whole field
/// invalid (RFC 9651 section 4.2).
pub(crate) fn groups(fields: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let value = field_lines(fields, name).collect::<Vec<_>>().join(&b", "[..]);
    let string = |entry: &ListEntry| match entry {
        // RFC 9875 section 2: unknown parameters are ignored.
        ListEntry::Item(item) => match &item.bare_item {
            BareItem::String(text) => Some(text.as_str().to_owned()),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    };
    let list = Parser::new(&value).parse::<List>().ok();
    let strings = list.and_then(|list| list.iter().map(string).collect::<Option<Vec<_>>>());
    if strings.is_none() {
        log::debug!("{name} is not a list of strings: the field is ignored");
    }
    strings.unwrap_or_default()
}

/// Returns the tags in a field such as `Cache-Tag`. No RFC defines these fields.
///
/// Tags are separated by white space in `Surrogate-Key` and `xkey`, and by commas in all other
/// fields.
pub(crate) fn listed_tags<'a>(
    fields: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
    members(field_lines(fields, name), Separator::of(name)).map(String::from_utf8_lossy)
}

/// The separator of the tags in a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Separator {
    WhiteSpace,
    Comma,
}

impl Separator {
    fn of(name: &HeaderName) -> Self {
        let by_space = matches!(name.as_str(), "surrogate-key" | "xkey");
        if by_space { Self::WhiteSpace } else { Self::Comma }
    }

    const fn separates(self, byte: u8) -> bool {
        match self {
            Self::WhiteSpace => matches!(byte, b' ' | b'\t'),
            Self::Comma => byte == b',',
        }
    }
}

/// Returns the members in the lines of a field that lists tags.
fn members<'a, I: Iterator<Item = &'a [u8]>>(
    lines: I,
    separator: Separator,
) -> impl Iterator<Item = &'a [u8]> + use<'a, I> {
    let is_separator = move |byte: &u8| separator.separates(*byte);
    let members = lines.flat_map(move |line| line.split(is_separator).map(trim));
    members.filter(|member| !member.is_empty())
}

/// The length of the longest value of a field that lists tags for a CDN, in bytes. Common CDNs accept
/// no longer one.
const MAX_LIST_LENGTH: usize = 16 * 1024;

/// The error if the tags of a response are too long for a field that a CDN reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TagsTooLong;

/// Makes the value of the field `name`, which lists the tags of a response for a CDN. `lines` are the
/// lines of this field that the response has already; their members stay as they are, each once. The
/// names in `tags` follow as [`encode_tag`] writes them, unless they are among these members. Returns
/// `None` if the list is empty.
pub(crate) fn tag_list<'a>(
    name: &HeaderName,
    lines: impl Iterator<Item = &'a [u8]>,
    tags: impl Iterator<Item = Cow<'a, str>>,
) -> Result<Option<HeaderValue>, TagsTooLong> {
    let separator = Separator::of(name);
    let (mut list, mut seen) = (Vec::new(), HashSet::new());
    let tags = tags.map(|tag| Cow::Owned(encode_tag(&tag).into_owned().into_bytes()));
    for member in members(lines, separator).map(Cow::Borrowed).chain(tags) {
        if seen.contains(&member) {
            continue;
        }
        if !list.is_empty() {
            list.push(if separator == Separator::Comma { b',' } else { b' ' });
        }
        list.extend_from_slice(&member);
        if list.len() > MAX_LIST_LENGTH {
            return Err(TagsTooLong);
        }
        seen.insert(member);
    }
    Ok(HeaderValue::from_bytes(&list).ok().filter(|_| !list.is_empty()))
}

/// Writes a tag as it appears in a response field for a CDN.
///
/// All characters are percent-encoded except visible ASCII characters other than `,` and `%`, so that
/// the text contains no separator of any field, and so that two tags have different texts. The empty
/// tag becomes `%`.
pub(crate) fn encode_tag(tag: &str) -> Cow<'_, str> {
    if tag.is_empty() {
        return Cow::Borrowed("%");
    }
    let stays = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b',' | b'%');
    if tag.bytes().all(stays) {
        return Cow::Borrowed(tag);
    }
    let mut text = String::with_capacity(tag.len() + 8);
    for byte in tag.bytes() {
        if stays(byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn fields(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(name.clone(), HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        fields
    }

    #[test]
    fn groups_are_the_members_of_a_structured_list_of_strings() {
        let many: Vec<_> = (0..32).map(|n| format!("\"{n:032}\"")).collect();
        let wanted: Vec<_> = (0..32).map(|n| format!("{n:032}")).collect();
        let many = many.join(", ");
        let cases: [(&[&str], Vec<&str>); 14] = [
            (&[], vec![]),
            (&[""], vec![]),
            (&["\"a\""], vec!["a"]),
            (&["\"a\", \"b c\"", " \"A\""], vec!["a", "b c", "A"]),
            (&["\"a\";x=1;y, \"b\""], vec!["a", "b"]),
            (&["\"\", \"a,b\", \"a\\\"b\\\\\""], vec!["", "a,b", "a\"b\\"]),
            (&[&many], wanted.iter().map(String::as_str).collect()),
            (&["a"], vec![]),
            (&["\"a\", b"], vec![]),
            (&["\"a\", 1"], vec![]),
            (&["(\"a\" \"b\")"], vec![]),
            (&["\"a\","], vec![]),
            (&["\"a"], vec![]),
            (&["\"\u{e9}\""], vec![]),
        ];
        for (lines, want) in cases {
            assert_eq!(groups(&fields(&CACHE_GROUPS, lines), &CACHE_GROUPS), want, "{lines:?}");
        }
    }

    #[test]
    fn encoded_tags_have_no_separators_and_differ() {
        for (tag, want) in [
            ("post:1", "post:1"),
            ("", "%"),
            ("%", "%25"),
            ("a b", "a%20b"),
            ("a,b", "a%2Cb"),
            ("a%20b", "a%2520b"),
            ("\u{e9}\n", "%C3%A9%0A"),
        ] {
            assert_eq!(encode_tag(tag), want, "{tag:?}");
        }
    }

    #[test]
    fn list_has_each_tag_once_and_keeps_the_members_of_the_handler() {
        for (name, lines, tags, want) in [
            ("cache-tag", &[][..], &[][..], None),
            ("cache-tag", &[], &["a", "b", "a"], Some("a,b")),
            ("cache-tag", &["x y, a", "z"], &["a", "b c"], Some("x y,a,z,b%20c")),
            ("surrogate-key", &["x  y", "x"], &["y", "b c"], Some("x y b%20c")),
            ("xkey", &[","], &["a,b"], Some(", a%2Cb")),
        ] {
            let name = HeaderName::from_static(name);
            let lines = lines.iter().map(|line: &&str| line.as_bytes());
            let got = tag_list(&name, lines, tags.iter().map(|tag| Cow::Borrowed(*tag))).unwrap();
            let got = got.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(got, want, "{name}");
        }
    }

    #[test]
    fn list_that_no_cdn_accepts_is_not_made() {
        let name = HeaderName::from_static("cache-tag");
        let list = |count: usize, last: usize| {
            let tags = (0..count).map(|n| format!("{n:0255}")).chain(["x".repeat(last)]);
            let list = tag_list(&name, std::iter::empty(), tags.map(Cow::Owned));
            list.map(|value| value.unwrap().len())
        };
        assert_eq!(list(63, 256), Ok(16 * 1024));
        assert_eq!(list(63, 257), Err(TagsTooLong));
    }

    #[test]
    fn tags_are_separated_by_commas_or_by_white_space() {
        for (name, lines, want) in [
            ("cache-tag", &["a, b c,,\td "][..], &["a", "b c", "d"][..]),
            ("cache-tag", &["a", "b,a"], &["a", "b", "a"]),
            ("surrogate-key", &["a b,c  d\te"], &["a", "b,c", "d", "e"]),
            ("xkey", &["a b", "c"], &["a", "b", "c"]),
            ("edge-cache-tag", &["", " , "], &[]),
        ] {
            let name = HeaderName::from_static(name);
            let fields = fields(&name, lines);
            let got: Vec<_> = listed_tags(&fields, &name).collect();
            assert_eq!(got, want, "{name}: {lines:?}");
        }
    }
}
