//! The Cookie field, as far as a cache must look into it: which cookies could be somebody's.

use std::borrow::Cow;

use actix_web::http::header::{COOKIE, HeaderMap};
use percent_encoding::percent_decode;

use super::fields::{lines, trim};

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
        cookies(request).any(|(name, _)| !self.ignores(name) && !self.keys(name))
    }

    /// What a request says for a cookie. Of several with one name handlers may take either, so
    /// all of them count, in a form that no single value has.
    pub(crate) fn value<'a>(request: &'a HeaderMap, name: &str) -> Option<Cow<'a, [u8]>> {
        let name = name.as_bytes();
        let all = || cookies(request).filter(|(found, _)| is(found, name));
        let (first, value) = all().next()?;
        if first == name && all().nth(1).is_none() {
            return Some(Cow::Borrowed(value));
        }
        let all = all().flat_map(|(name, value)| [b"; ", name, b"=", value].concat());
        Some(Cow::Owned(all.collect()))
    }

    /// The cookies that count, as one value: what `Vary: Cookie` compares.
    pub(crate) fn counting<'a>(&self, request: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
        let mut all = cookies(request).filter(|(name, _)| !self.ignores(name)).peekable();
        all.peek()?;
        let pairs: Vec<_> = all.map(|(name, value)| [name, value].join(&b'=')).collect();
        Some(Cow::Owned(pairs.join(&b"; "[..])))
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

/// Name and value of each cookie (RFC 6265 section 5.4). What has no equals sign is a name: it
/// may mean something to the handler, so it counts.
fn cookies(request: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    lines(request, &COOKIE)
        .flat_map(|line| line.split(|&byte| byte == b';'))
        .map(trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.iter().position(|&byte| byte == b'=') {
            Some(at) => {
                let (name, value) = pair.split_at_checked(at).unwrap_or((pair, &[]));
                (trim(name), trim(value.get(1..).unwrap_or_default()))
            }
            None => (pair, &[][..]),
        })
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
            ("one ignored, one not", &["_ga=1; sid=2"], &["_ga"], &[], true),
            ("in a second line", &["_ga=1", "sid=2"], &["_ga"], &[], true),
            ("keyed", &["lang=de"], &[], &["lang"], false),
            ("keyed and another", &["lang=de; sid=1"], &[], &["lang"], true),
            ("prefix without star", &["_ga_X=1"], &["_ga"], &[], true),
            ("ignored when decoded only", &["%5Fga=1"], &["_ga"], &[], true),
            ("ignored before decoding only", &["x%00=1"], &["x%00"], &[], true),
            ("ignored either way", &["_ga%5F=1"], &["_ga*"], &[], false),
            ("keyed when decoded", &["l%61ng=de"], &[], &["lang"], false),
            ("all", &["sid=1; x"], &["*"], &[], false),
        ] {
            assert_eq!(rules(ignored, keyed).personal(&request(lines)), want, "{case}");
        }
    }

    #[test]
    fn all_cookies_of_a_name_are_its_value() {
        let value = |lines: &[&str]| {
            CookieRules::value(&request(lines), "lang")
                .map(|value| String::from_utf8(value.into_owned()).unwrap())
        };
        for (lines, want) in [
            (&["a=1"][..], None),
            (&["a=1; lang = de ; language=x"], Some("de")),
            (&["lang"], Some("")),
            (&["lang=a=b"], Some("a=b")),
            (&["lang=de; a=1", "lang=fr"], Some("; lang=de; lang=fr")),
            (&["l%61ng=de"], Some("; l%61ng=de")),
            (&["lang=de; %6Cang=fr"], Some("; lang=de; %6Cang=fr")),
            (&["%6c=de; LANG=de"], None),
        ] {
            assert_eq!(value(lines).as_deref(), want, "{lines:?}");
        }
    }

    #[test]
    fn ignored_cookies_do_not_count_for_vary() {
        let rules = rules(&["_ga"], &[]);
        let counting = |lines: &[&str]| rules.counting(&request(lines)).map(Cow::into_owned);
        assert_eq!(counting(&["_ga=1; a=2"]), counting(&["a=2; _ga=3"]));
        assert_ne!(counting(&["a=2"]), counting(&["a=3"]));
        assert_eq!(counting(&["_ga=1"]), None);
    }
}
