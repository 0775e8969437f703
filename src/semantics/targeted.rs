//! Which field rules a response: Cache-Control, or one that is targeted at this cache (RFC 9213).

use actix_web::http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::{cache_control::ResponseDirectives, fields::field_lines};

/// The directives that count for a response, and where they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Governing {
    pub(crate) directives: ResponseDirectives,
    pub(crate) source: Source,
}

/// Where the directives stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In Cache-Control; beside it, Expires counts.
    CacheControl,
    /// In a targeted field, which counts alone.
    Targeted,
}

impl Governing {
    /// RFC 9213 section 2.2: of the target list, the first field that is valid and not empty
    /// replaces Cache-Control and Expires, what they refuse included.
    pub(crate) fn of(response: &HeaderMap, targets: &[HeaderName]) -> Self {
        targets.iter().find_map(|name| targeted(response, name)).map_or_else(
            || Self { directives: ResponseDirectives::of(response), source: Source::CacheControl },
            |directives| Self { directives, source: Source::Targeted },
        )
    }
}

/// A targeted field as a dictionary of structured fields (RFC 9213 section 2.1). Nothing if it is
/// absent, empty or invalid.
fn targeted(response: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let all = field_lines(response, name).collect::<Vec<_>>().join(&b", "[..]);
    let members: Dictionary = Parser::new(&all).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives::default();
    for (key, member) in &members {
        // No directive has a list; one that nobody knows does not matter. Parameters have no
        // meaning here.
        let argument = match member {
            ListEntry::Item(item) => argument(key.as_str(), &item.bare_item)?,
            ListEntry::InnerList(_) if !is_known(key.as_str()) => continue,
            ListEntry::InnerList(_) => return None,
        };
        directives.take(key.as_str().as_bytes(), argument.as_deref().map(str::as_bytes));
    }
    Some(directives)
}

const SECONDS: [&str; 4] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
const EXTENTS: [&str; 2] = ["no-cache", "private"];
const FLAGS: [&str; 5] =
    ["no-store", "public", "must-revalidate", "proxy-revalidate", "must-understand"];

fn is_known(name: &str) -> bool {
    SECONDS.contains(&name) || EXTENTS.contains(&name) || FLAGS.contains(&name)
}

/// A directive's argument as Cache-Control would have it. Nothing if its type is not the one the
/// directive has: whoever wrote that meant something that nobody can tell.
fn argument(name: &str, value: &BareItem) -> Option<Option<String>> {
    let fits = if SECONDS.contains(&name) {
        matches!(value, BareItem::Integer(_))
    } else if EXTENTS.contains(&name) {
        matches!(value, BareItem::Boolean(true) | BareItem::String(_))
    } else {
        !FLAGS.contains(&name) || matches!(value, BareItem::Boolean(true))
    };
    fits.then(|| match value {
        BareItem::Integer(number) => Some(number.to_string()),
        BareItem::String(text) => Some(text.as_str().to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::http::header::{CACHE_CONTROL, HeaderValue};

    use super::*;

    const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");
    const OURS: HeaderName = HeaderName::from_static("ours-cache-control");

    fn governing(fields: &[(HeaderName, &str)], targets: &[HeaderName]) -> Governing {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        Governing::of(&map, targets)
    }

    #[test]
    fn a_valid_targeted_field_counts_alone() {
        let (cc, cdn, ours) = (CACHE_CONTROL, CDN, OURS);
        for (case, fields, want) in [
            ("Cache-Control alone", vec![(cc.clone(), "max-age=1")], Some(1)),
            ("both", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "max-age=2")], Some(2)),
            (
                "the first of the list",
                vec![(cdn.clone(), "max-age=2"), (ours, "max-age=3")],
                Some(3),
            ),
            ("two lines", vec![(cdn.clone(), "public"), (cdn.clone(), "max-age=2")], Some(2)),
            ("of two the last", vec![(cdn.clone(), "max-age=1, max-age=2")], Some(2)),
            ("without a lifetime", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "public")], None),
            ("unknown members", vec![(cdn.clone(), "x=1.5, y=tok, z=(a b), max-age=2")], Some(2)),
            ("parameters", vec![(cdn.clone(), "max-age=2;x=1")], Some(2)),
            ("negative", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "max-age=-2")], Some(0)),
            ("empty", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "")], Some(1)),
            (
                "not a dictionary",
                vec![(cc.clone(), "max-age=1"), (cdn.clone(), "max-age=2, &")],
                Some(1),
            ),
            ("white space", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "max-age =2")], Some(1)),
            ("upper case", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "Max-Age=2")], Some(1)),
            ("a string", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "max-age=\"2\"")], Some(1)),
            ("a token", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "max-age=abc")], Some(1)),
            ("a decimal", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "max-age=2.0")], Some(1)),
            (
                "a flag with a number",
                vec![(cc.clone(), "max-age=1"), (cdn.clone(), "no-store=1, max-age=2")],
                Some(1),
            ),
            (
                "a list for seconds",
                vec![(cc.clone(), "max-age=1"), (cdn, "max-age=2, s-maxage=(1 2)")],
                Some(1),
            ),
            (
                "another's field",
                vec![
                    (cc, "max-age=1"),
                    (HeaderName::from_static("their-cache-control"), "max-age=2"),
                ],
                Some(1),
            ),
        ] {
            let got = governing(&fields, &[OURS, CDN]);
            let seconds = got.directives.max_age.map(|age| age.as_secs());
            assert_eq!(seconds, want, "{case}");
        }
    }

    #[test]
    fn each_directive_has_arguments_of_its_type_or_nobody_can_tell_what_was_meant() {
        for (field, valid) in [
            ("max-age=1", true),
            ("s-maxage=1", true),
            ("stale-while-revalidate=1", true),
            ("stale-if-error=1", true),
            ("s-maxage", false),
            ("stale-while-revalidate=?1", false),
            ("stale-if-error=\"1\"", false),
            ("no-cache", true),
            ("private", true),
            ("no-cache=\"x-a\"", true),
            ("private=\"x-a\"", true),
            ("no-cache=?0", false),
            ("private=x-a", false),
            ("private=1", false),
            ("private=(\"x-a\")", false),
            ("no-cache=()", false),
            ("no-store", true),
            ("public", true),
            ("must-revalidate", true),
            ("proxy-revalidate", true),
            ("must-understand", true),
            ("no-store=?0", false),
            ("public=\"x\"", false),
            ("must-revalidate=x", false),
            ("proxy-revalidate=1", false),
            ("must-understand=1.5", false),
            ("no-store=(a)", false),
            ("unknown=?0", true),
            ("unknown=(a b)", true),
        ] {
            let source = governing(&[(CDN, field)], &[CDN]).source;
            assert_eq!(source == Source::Targeted, valid, "RFC 9213 section 2.1: {field}");
        }
        let got = governing(&[(CDN, "private=\"x-a\", stale-while-revalidate=7")], &[CDN]);
        assert_eq!(got.directives.private.fields(), ["x-a"]);
        assert_eq!(got.directives.stale_while_revalidate, Some(Duration::from_secs(7)));
    }

    #[test]
    fn refusals_count_only_in_the_field_that_rules() {
        let got = governing(&[(CACHE_CONTROL, "no-store"), (CDN, "max-age=2")], &[CDN]);
        assert!(!got.directives.no_store);
        assert_eq!(got.source, Source::Targeted);
        let got = governing(&[(CACHE_CONTROL, "max-age=2"), (CDN, "no-store, private")], &[CDN]);
        assert!(got.directives.no_store && got.directives.max_age.is_none());
        let got = governing(&[(CACHE_CONTROL, "max-age=2"), (CDN, "no-store")], &[]);
        assert_eq!(got.source, Source::CacheControl);
        assert_eq!(got.directives.max_age, Some(Duration::from_secs(2)));
        let got = governing(&[(CDN, "private=\"x-a, x-b\", no-cache")], &[CDN]);
        assert_eq!(got.directives.private.fields().len(), 2);
    }
}
