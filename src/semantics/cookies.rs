//! The `Cookie` field (RFC 6265 section 5.4): finds cookies that may identify a client, and
//! computes the values of cookies for cache keys and variants.

use std::borrow::Cow;

use actix_web::http::header::{COOKIE, HeaderMap};
use percent_encoding::percent_decode;

use super::fields::{Fields, trim};

/// The names of cookies that a policy ignores, and of cookies that a policy makes part of the cache
/// key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct CookieRules {
    /// Names of cookies that have no effect on any response. A trailing `*` matches any suffix.
    pub(crate) ignored: Vec<String>,
    /// Names of cookies whose values are part of the cache key.
    pub(crate) keyed: Vec<String>,
}

impl CookieRules {
    /// Returns whether a request has a cookie that may identify its client: a cookie that is
    /// neither ignored nor part of the cache key.
    pub(crate) fn has_identifying_cookie(&self, request: &HeaderMap) -> bool {
        cookies(request).any(|cookie| !self.is_ignored(cookie.name) && !self.is_keyed(cookie.name))
    }

    /// Returns the part of the cache key for the cookie with this name; `None` if the request has
    /// no such cookie.
    ///
    /// The part is the cookie's value. If the handler's cookie parser could find another value, the
    /// part is the whole `Cookie` field.
    pub(crate) fn part<'a>(request: &'a HeaderMap, name: &str) -> Option<Part<'a>> {
        let mut found = cookies(request).filter(|cookie| has_name(cookie.name, name.as_bytes()));
        let first = found.next();
        let is_encoded = first.is_some_and(|first| first.name != name.as_bytes());
        if found.next().is_some() || is_encoded || is_ambiguous(request) {
            return joined_lines(request).map(Part::All);
        }
        first.map(|cookie| Part::Value(cookie.value))
    }

    /// Returns the value of `Cookie` that is compared for responses with `Vary: Cookie`: the
    /// cookies that are not ignored, joined to one value. `None` if no cookie is left.
    pub(crate) fn selecting_value<'a>(&self, request: &'a impl Fields) -> Option<Cow<'a, [u8]>> {
        if self.ignored.is_empty() || is_ambiguous(request) {
            return joined_lines(request);
        }
        let compared = cookies(request).filter(|cookie| !self.is_ignored(cookie.name));
        let pairs: Vec<_> = compared.map(|cookie| cookie.pair).collect();
        (!pairs.is_empty()).then(|| Cow::Owned(pairs.join(&b"; "[..])))
    }

    /// Returns whether a cookie is ignored. For a percent-encoded name, the rules must ignore both
    /// the name as it was sent and the decoded name.
    fn is_ignored(&self, name: &[u8]) -> bool {
        let matches = |name: &[u8]| {
            self.ignored.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start.as_bytes()),
                None => name == pattern.as_bytes(),
            })
        };
        matches(name) && (!name.contains(&b'%') || matches(&decoded(name)))
    }

    fn is_keyed(&self, name: &[u8]) -> bool {
        self.keyed.iter().any(|keyed| has_name(name, keyed.as_bytes()))
    }
}

/// Returns whether a cookie has this name, either as it was sent or percent-decoded. actix decodes
/// the names of cookies.
fn has_name(found: &[u8], name: &[u8]) -> bool {
    found == name || (found.contains(&b'%') && *decoded(found) == *name)
}

fn decoded(name: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(name).into()
}

/// The part of a cache key for a cookie; see [`CookieRules::part`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    /// The cookie's value.
    Value(&'a [u8]),
    /// The whole field, because the cookie's value is ambiguous.
    All(Cow<'a, [u8]>),
}

/// One cookie of a request.
#[derive(Debug, Clone, Copy)]
struct Cookie<'a> {
    /// The text of the cookie as it was sent: its name, the equals sign and its value.
    pair: &'a [u8],
    name: &'a [u8],
    value: &'a [u8],
}

/// Returns the cookies of a request. A cookie without an equals sign has the whole text as its name
/// and an empty value. Such a cookie is not dropped, because the handler may use it.
fn cookies(request: &impl Fields) -> impl Iterator<Item = Cookie<'_>> {
    request
        .lines(&COOKIE)
        .flat_map(|line| line.split(|&byte| byte == b';'))
        .map(trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.iter().position(|&byte| byte == b'=') {
            Some(equals) => {
                let (name, value) = pair.split_at_checked(equals).unwrap_or((pair, &[]));
                Cookie { pair, name: trim(name), value: trim(value.get(1..).unwrap_or_default()) }
            }
            None => Cookie { pair, name: pair, value: &[] },
        })
}

/// Returns whether parsers disagree about the `Cookie` field of a request, so that the handler may
/// see other cookies than the cache.
///
/// A field is ambiguous if it contains bytes outside of ASCII, or a cookie without a name or
/// without an equals sign. Some parsers drop only such a cookie, others drop all cookies of the
/// request.
fn is_ambiguous(request: &impl Fields) -> bool {
    request.lines(&COOKIE).any(|line| !line.is_ascii())
        || cookies(request).any(|cookie| cookie.name.is_empty() || !cookie.pair.contains(&b'='))
}

/// Returns the whole `Cookie` field in one value. HTTP/2 clients may send `Cookie` in several lines
/// (RFC 9113 section 8.2.3).
fn joined_lines(request: &impl Fields) -> Option<Cow<'_, [u8]>> {
    let mut lines = request.lines(&COOKIE);
    let first = lines.next()?;
    let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
    let lines: Vec<_> = [first, second].into_iter().chain(lines).collect();
    Some(Cow::Owned(lines.join(&b"; "[..])))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn request(lines: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(COOKIE, HeaderValue::from_str(line).unwrap());
        }
        fields
    }

    fn rules(ignored: &[&str], keyed: &[&str]) -> CookieRules {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        CookieRules { ignored: owned(ignored), keyed: owned(keyed) }
    }

    #[test]
    fn cookie_identifies_a_client_unless_ignored_or_keyed() {
        for (case, lines, ignored, keyed, want) in [
            ("no cookie", &[][..], &[][..], &[][..], false),
            ("empty field", &[" ; ;"], &[], &[], false),
            ("any cookie", &["a=1"], &[], &[], true),
            ("name without value", &["a"], &[], &[], true),
            ("ignored", &["_ga=1"], &["_ga"], &[], false),
            ("ignored by pattern", &["_ga=1; _ga_X=2"], &["_ga*"], &[], false),
            ("names are case-sensitive", &["_GA=1"], &["_ga"], &[], true),
            ("ignored by both forms of the name", &["_g%61=1"], &["_g*"], &[], false),
            ("only the encoded name is ignored", &["_g%61=1"], &["_g%61"], &[], true),
            ("only the decoded name is ignored", &["_g%61=1"], &["_ga"], &[], true),
            ("one of two is ignored", &["_ga=1; sid=2"], &["_ga"], &[], true),
            ("in a second line", &["_ga=1", "sid=2"], &["_ga"], &[], true),
            ("keyed", &["lang=de"], &[], &["lang"], false),
            ("one of two is keyed", &["lang=de; sid=1"], &[], &["lang"], true),
            ("pattern without star", &["_ga_X=1"], &["_ga"], &[], true),
            ("all ignored", &["sid=1; x"], &["*"], &[], false),
        ] {
            assert_eq!(
                rules(ignored, keyed).has_identifying_cookie(&request(lines)),
                want,
                "{case}"
            );
        }
    }

    #[test]
    fn cookie_adds_its_value_to_the_key_or_the_whole_field_if_ambiguous() {
        let value = |value: &'static str| Some(Part::Value(value.as_bytes()));
        let field = |text: &'static str| Some(Part::All(Cow::Borrowed(text.as_bytes())));
        for (lines, want) in [
            (&[][..], None),
            (&["a=1"], None),
            (&["a=1; lang = de ; b=2"], value("de")),
            (&["a=1", "lang=de"], value("de")),
            (&["lang="], value("")),
            (&["lang=de; lang=fr"], field("lang=de; lang=fr")),
            (&["lang=de", "lang=fr"], field("lang=de; lang=fr")),
            (&["%6Cang=fr"], field("%6Cang=fr")),
            (&["%6cang=fr; lang=de"], field("%6cang=fr; lang=de")),
            (&["%6Dang=fr; lang=de"], value("de")),
            (&["lang=de; junk"], field("lang=de; junk")),
            (&["lang=de; =junk"], field("lang=de; =junk")),
            (&["lang=de; a=\u{fc}"], field("lang=de; a=\u{fc}")),
            (&["lang"], field("lang")),
        ] {
            assert_eq!(CookieRules::part(&request(lines), "lang"), want, "{lines:?}");
        }
    }

    #[test]
    fn ignored_cookies_do_not_select_variants() {
        let rules = rules(&["_ga"], &[]);
        let value = |lines: &[&str]| rules.selecting_value(&request(lines)).map(Cow::into_owned);
        assert_eq!(value(&["_ga=1; a=2"]), value(&["a=2; _ga=3"]));
        assert_ne!(value(&["a=2"]), value(&["a=3"]));
        assert_eq!(value(&["_ga=1"]), None);
        assert_eq!(value(&["a=1; b=2"]), value(&["a=1", "_ga=3", "b=2"]));
        for ambiguous in ["_ga; a=2", "_ga=\u{fc}; a=2", "a=2; =_ga"] {
            assert_eq!(value(&[ambiguous]).as_deref(), Some(ambiguous.as_bytes()));
        }
    }
}
