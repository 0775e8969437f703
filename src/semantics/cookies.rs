//! The Cookie field, as far as a cache must look into it: which cookies could be somebody's.

use std::borrow::Cow;

use actix_web::http::header::{COOKIE, HeaderMap};
use percent_encoding::percent_decode;

use super::fields::{field_lines, trim};

/// Cookies by name: what the application says about them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct CookieRules {
    /// Names that mean nothing to the handlers; a trailing `*` stands for any end.
    pub(crate) ignored: Vec<String>,
    /// Names whose values are part of the key.
    pub(crate) keyed: Vec<String>,
}

impl CookieRules {
    /// Whether the request carries a cookie that is neither ignored nor part of the key.
    pub(crate) fn personal(&self, request: &HeaderMap) -> bool {
        cookies(request).any(|cookie| !self.ignores(cookie.name) && !self.keys(cookie.name))
    }

    /// What a cookie says in the key: its value; where handlers could find another than we do, all
    /// that the request sends.
    pub(crate) fn part<'a>(request: &'a HeaderMap, name: &str) -> Option<Part<'a>> {
        let mut found = cookies(request).filter(|cookie| is(cookie.name, name.as_bytes()));
        let first = found.next();
        let plain = first.is_none_or(|first| first.name == name.as_bytes());
        if found.next().is_some() || !plain || puzzling(request) {
            return all(request).map(Part::All);
        }
        first.map(|cookie| Part::Value(cookie.value))
    }

    /// The cookies that count, as one value: what `Vary: Cookie` compares.
    pub(crate) fn counting<'a>(&self, request: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
        if self.ignored.is_empty() || puzzling(request) {
            return all(request);
        }
        let counting = cookies(request).filter(|cookie| !self.ignores(cookie.name));
        let pairs: Vec<_> = counting.map(|cookie| cookie.pair).collect();
        (!pairs.is_empty()).then(|| Cow::Owned(pairs.join(&b"; "[..])))
    }

    /// By both readings of its name.
    fn ignores(&self, name: &[u8]) -> bool {
        let ignored = |name: &[u8]| {
            self.ignored.iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => name.starts_with(start.as_bytes()),
                None => name == pattern.as_bytes(),
            })
        };
        ignored(name) && (!name.contains(&b'%') || ignored(&decoded(name)))
    }

    fn keys(&self, name: &[u8]) -> bool {
        self.keyed.iter().any(|keyed| is(name, keyed.as_bytes()))
    }
}

/// Whether a cookie has this name as it stands, or as actix reads it: percent-decoded.
fn is(found: &[u8], name: &[u8]) -> bool {
    found == name || (found.contains(&b'%') && *decoded(found) == *name)
}

fn decoded(name: &[u8]) -> Cow<'_, [u8]> {
    percent_decode(name).into()
}

/// See [`CookieRules::part`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Value(&'a [u8]),
    All(Cow<'a, [u8]>),
}

/// One cookie of a request.
#[derive(Debug, Clone, Copy)]
struct Cookie<'a> {
    /// As it stands.
    pair: &'a [u8],
    name: &'a [u8],
    value: &'a [u8],
}

/// The cookies of a request (RFC 6265 section 5.4). What has no equals sign is a name: it may
/// mean something to the handler, so it counts.
fn cookies(request: &HeaderMap) -> impl Iterator<Item = Cookie<'_>> {
    field_lines(request, &COOKIE)
        .flat_map(|line| line.split(|&byte| byte == b';'))
        .map(trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                let (name, value) = pair.split_at_checked(at).unwrap_or((pair, &[]));
                Cookie { pair, name: trim(name), value: trim(value.get(1..).unwrap_or_default()) }
            }
            None => Cookie { pair, name: pair, value: &[] },
        })
}

/// Whether parsers differ about the field: over what is not ASCII, or no pair, some drop the pair
/// and some all cookies, so that the handler may see none of those we do.
fn puzzling(request: &HeaderMap) -> bool {
    field_lines(request, &COOKIE).any(|line| !line.is_ascii())
        || cookies(request).any(|cookie| cookie.name.is_empty() || !cookie.pair.contains(&b'='))
}

/// The whole field; HTTP/2 may have cut it into lines (RFC 9113 section 8.2.3).
fn all(request: &HeaderMap) -> Option<Cow<'_, [u8]>> {
    let mut lines = field_lines(request, &COOKIE);
    let first = lines.next()?;
    let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
    let all: Vec<_> = [first, second].into_iter().chain(lines).collect();
    Some(Cow::Owned(all.join(&b"; "[..])))
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
    fn a_cookie_is_personal_unless_ignored_or_keyed() {
        for (case, lines, ignored, keyed, want) in [
            ("no cookie", &[][..], &[][..], &[][..], false),
            ("empty field", &[" ; ;"], &[], &[], false),
            ("any cookie", &["a=1"], &[], &[], true),
            ("a name without value", &["a"], &[], &[], true),
            ("ignored", &["_ga=1"], &["_ga"], &[], false),
            ("ignored by pattern", &["_ga=1; _ga_X=2"], &["_ga*"], &[], false),
            ("names are case-sensitive", &["_GA=1"], &["_ga"], &[], true),
            ("ignored by both readings", &["_g%61=1"], &["_g*"], &[], false),
            ("ignored as it stands alone", &["_g%61=1"], &["_g%61"], &[], true),
            ("ignored as it is decoded alone", &["_g%61=1"], &["_ga"], &[], true),
            ("one ignored, one not", &["_ga=1; sid=2"], &["_ga"], &[], true),
            ("in a second line", &["_ga=1", "sid=2"], &["_ga"], &[], true),
            ("keyed", &["lang=de"], &[], &["lang"], false),
            ("keyed and another", &["lang=de; sid=1"], &[], &["lang"], true),
            ("prefix without star", &["_ga_X=1"], &["_ga"], &[], true),
            ("all", &["sid=1; x"], &["*"], &[], false),
        ] {
            assert_eq!(rules(ignored, keyed).personal(&request(lines)), want, "{case}");
        }
    }

    #[test]
    fn a_cookie_in_the_key_is_its_value_or_where_that_is_unclear_the_whole_field() {
        let value = |value: &'static str| Some(Part::Value(value.as_bytes()));
        let whole = |text: &'static str| Some(Part::All(Cow::Borrowed(text.as_bytes())));
        for (lines, want) in [
            (&[][..], None),
            (&["a=1"], None),
            (&["a=1; lang = de ; b=2"], value("de")),
            (&["a=1", "lang=de"], value("de")),
            (&["lang="], value("")),
            (&["lang=de; lang=fr"], whole("lang=de; lang=fr")),
            (&["lang=de", "lang=fr"], whole("lang=de; lang=fr")),
            (&["%6Cang=fr"], whole("%6Cang=fr")),
            (&["%6cang=fr; lang=de"], whole("%6cang=fr; lang=de")),
            (&["%6Dang=fr; lang=de"], value("de")),
            (&["lang=de; junk"], whole("lang=de; junk")),
            (&["lang=de; =junk"], whole("lang=de; =junk")),
            (&["lang=de; a=\u{fc}"], whole("lang=de; a=\u{fc}")),
            (&["lang"], whole("lang")),
        ] {
            assert_eq!(CookieRules::part(&request(lines), "lang"), want, "{lines:?}");
        }
    }

    #[test]
    fn ignored_cookies_do_not_count_for_vary() {
        let rules = rules(&["_ga"], &[]);
        let counting = |lines: &[&str]| rules.counting(&request(lines)).map(Cow::into_owned);
        assert_eq!(counting(&["_ga=1; a=2"]), counting(&["a=2; _ga=3"]));
        assert_ne!(counting(&["a=2"]), counting(&["a=3"]));
        assert_eq!(counting(&["_ga=1"]), None);
        assert_eq!(counting(&["a=1; b=2"]), counting(&["a=1", "_ga=3", "b=2"]));
        for puzzling in ["_ga; a=2", "_ga=\u{fc}; a=2", "a=2; =_ga"] {
            assert_eq!(counting(&[puzzling]).as_deref(), Some(puzzling.as_bytes()));
        }
    }
}
