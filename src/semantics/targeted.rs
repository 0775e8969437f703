//! Targeted fields: fields such as `CDN-Cache-Control`, which replace `Cache-Control` for the
//! caches that they address (RFC 9213).

use actix_web::http::header::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

use super::{
    cache_control::{Directive, ResponseDirectives},
    fields::{field_lines, list_members, split},
};

/// The directives that apply to a response, and the field that contains them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Governing {
    pub(crate) directives: ResponseDirectives,
    pub(crate) source: Source,
}

/// The field that contains the directives of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Source {
    /// `Cache-Control`. `Expires` applies as well.
    #[default]
    CacheControl,
    /// A targeted field. `Cache-Control` and `Expires` do not apply.
    Targeted,
}

impl Governing {
    /// Reads the directives that apply to a response (section 2.2).
    ///
    /// `targets` are the targeted fields that this cache obeys, the most important first. The first
    /// of these fields that is valid and not empty replaces `Cache-Control` and `Expires`. Even a
    /// `no-store` in the replaced `Cache-Control` has no effect.
    pub(crate) fn of(response: &HeaderMap, targets: &[HeaderName]) -> Self {
        targets.iter().find_map(|name| targeted(response, name)).map_or_else(
            || Self { directives: ResponseDirectives::of(response), source: Source::CacheControl },
            |directives| Self { directives, source: Source::Targeted },
        )
    }
}

/// Returns whether a field gives directives to CDNs in place of `Cache-Control`. `Surrogate-Control` is
/// older than RFC 9213.
pub(crate) fn is_targeted(name: &HeaderName) -> bool {
    name.as_str().ends_with("-cache-control") || name.as_str() == "surrogate-control"
}

/// Parses a targeted field, which is a structured dictionary (section 2.1); `None` if the field is
/// absent, empty or invalid.
fn targeted(response: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let value = field_lines(response, name).collect::<Vec<_>>().join(&b", "[..]);
    let members: Dictionary = Parser::new(&value).parse().ok()?;
    if members.is_empty() {
        return None;
    }
    let mut directives = ResponseDirectives::default();
    for (key, member) in &members {
        // No known directive has a list as its argument, so a known directive with a list makes the
        // whole field invalid. Unknown directives are ignored, and so are the parameters of all
        // directives.
        let argument = match member {
            ListEntry::Item(item) => argument(key.as_str(), &item.bare_item)?,
            ListEntry::InnerList(_) if !is_known(key.as_str()) => continue,
            ListEntry::InnerList(_) => return None,
        };
        if !SCOPED.contains(&key.as_str()) {
            directives.add(key.as_str().as_bytes(), argument.as_deref().map(str::as_bytes));
        }
    }
    // A repeated member of a dictionary replaces the earlier one (RFC 9651 section 3.2). In
    // `private, private="x-a"`, the earlier one is stricter. All members count, so that the response
    // stays private.
    for member in list_members(&value) {
        let without_parameters = split(member, b';').next().unwrap_or_default();
        let Directive { name, argument } = Directive::parse(without_parameters);
        if SCOPED.iter().any(|scoped| scoped.as_bytes() == name) {
            directives.add(name, argument);
        }
    }
    Some(directives)
}

/// Directives whose argument is a number of seconds.
const SECONDS: [&str; 4] = ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"];
/// Directives whose argument is a list of field names, or absent.
const SCOPED: [&str; 2] = ["no-cache", "private"];
/// Directives without an argument.
const FLAGS: [&str; 5] =
    ["no-store", "public", "must-revalidate", "proxy-revalidate", "must-understand"];

fn is_known(name: &str) -> bool {
    SECONDS.contains(&name) || SCOPED.contains(&name) || FLAGS.contains(&name)
}

/// Returns a directive's argument in the form that it has in `Cache-Control`. The outer `None`
/// means that the argument does not have the type that the directive requires. The inner `None`
/// means that the directive has no argument.
fn argument(name: &str, value: &BareItem) -> Option<Option<String>> {
    let has_valid_type = if SECONDS.contains(&name) {
        matches!(value, BareItem::Integer(_))
    } else if SCOPED.contains(&name) {
        matches!(value, BareItem::Boolean(true) | BareItem::String(_))
    } else {
        !FLAGS.contains(&name) || matches!(value, BareItem::Boolean(true))
    };
    has_valid_type.then(|| match value {
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
    use crate::semantics::cache_control::DirectiveScope;

    const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");
    const OTHER: HeaderName = HeaderName::from_static("other-cache-control");

    fn governing(fields: &[(HeaderName, &str)], targets: &[HeaderName]) -> Governing {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.clone(), HeaderValue::from_str(value).unwrap());
        }
        Governing::of(&map, targets)
    }

    fn max_age(fields: &[(HeaderName, &str)]) -> Option<u64> {
        let directives = governing(fields, &[OTHER, CDN]).directives;
        directives.max_age.map(|age| age.as_secs())
    }

    #[test]
    fn first_field_of_the_target_list_replaces_cache_control() {
        let (cc, cdn, other) = (CACHE_CONTROL, CDN, OTHER);
        let unlisted = HeaderName::from_static("third-cache-control");
        for (case, fields, want) in [
            ("no targeted field", vec![(cc.clone(), "max-age=1")], Some(1)),
            ("one", vec![(cc.clone(), "max-age=1"), (cdn.clone(), "max-age=2")], Some(2)),
            ("two", vec![(cdn.clone(), "max-age=2"), (other, "max-age=3")], Some(3)),
            ("two lines", vec![(cdn.clone(), "public"), (cdn, "max-age=2")], Some(2)),
            ("not listed", vec![(cc, "max-age=1"), (unlisted, "max-age=2")], Some(1)),
        ] {
            assert_eq!(max_age(&fields), want, "{case}");
        }
    }

    #[test]
    fn targeted_field_counts_unless_it_is_empty_or_invalid() {
        for (case, targeted, want) in [
            ("last of two values", "max-age=1, max-age=2", Some(2)),
            ("no lifetime", "public", None),
            ("unknown members", "x=1.5, y=tok, z=(a b), max-age=2", Some(2)),
            ("parameters", "max-age=2;x=1", Some(2)),
            ("negative number", "max-age=-2", Some(0)),
            ("empty field", "", Some(1)),
            ("not a dictionary", "max-age=2, &", Some(1)),
            ("white space", "max-age =2", Some(1)),
            ("upper case", "Max-Age=2", Some(1)),
            ("string", "max-age=\"2\"", Some(1)),
            ("token", "max-age=abc", Some(1)),
            ("decimal", "max-age=2.0", Some(1)),
            ("flag with a number", "no-store=1, max-age=2", Some(1)),
            ("list in place of seconds", "max-age=2, s-maxage=(1 2)", Some(1)),
        ] {
            let fields = [(CACHE_CONTROL, "max-age=1"), (CDN, targeted)];
            assert_eq!(max_age(&fields), want, "{case}: {targeted}");
        }
    }

    #[test]
    fn targeted_field_is_ignored_if_an_argument_has_the_wrong_type() {
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
    fn strictest_of_repeated_members_counts() {
        for field in [
            "private, private=\"x-a\"",
            "private=\"x-a\", private",
            "private;x=1, private=\"x-a\"",
            "private=?0, private",
        ] {
            let got = governing(&[(CDN, field)], &[CDN]);
            assert_eq!(got.directives.private, DirectiveScope::Response, "{field}");
        }
        let got = governing(&[(CDN, "no-cache"), (CDN, "no-cache=\"x-a\"")], &[CDN]);
        assert_eq!(got.directives.no_cache, DirectiveScope::Response);
        let got = governing(&[(CDN, "private=\"x-a\", private=\"x-b\"")], &[CDN]);
        assert_eq!(got.directives.private.fields(), ["x-a", "x-b"]);
        let got = governing(&[(CDN, "x=\"a, private\", y=(private), max-age=2")], &[CDN]);
        assert_eq!(got.directives.private, DirectiveScope::Absent);
    }

    #[test]
    fn no_store_applies_only_in_the_governing_field() {
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
