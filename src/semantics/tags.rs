//! Parsers for response fields that list tags (surrogate keys) or cache groups. The tags and groups
//! of a stored response are the names by which an application can purge it.

use std::borrow::Cow;

use actix_web::http::header::{HeaderMap, HeaderName};
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
    let by_space = matches!(name.as_str(), "surrogate-key" | "xkey");
    let is_separator = move |byte: &u8| {
        if by_space { matches!(byte, b' ' | b'\t') } else { *byte == b',' }
    };
    let members =
        field_lines(fields, name).flat_map(move |line| line.split(is_separator).map(trim));
    members.filter(|member| !member.is_empty()).map(String::from_utf8_lossy)
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
