//! The Cookie field, as far as a cache must look into it: which cookies could be somebody's.

use std::borrow::Cow;

use actix_web::http::header::{COOKIE, HeaderMap};

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

    /// The value of a cookie; of several with one name, the first.
    pub(crate) fn value<'a>(request: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
        cookies(request).find(|(found, _)| *found == name.as_bytes()).map(|(_, value)| value)
    }

    /// The cookies that count, as one value: what `Vary: Cookie` compares.
    pub(crate) fn counting<'a>(&self, request: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
        let mut all = cookies(request).filter(|(name, _)| !self.ignores(name)).peekable();
        all.peek()?;
        let pairs: Vec<_> = all.map(|(name, value)| [name, value].join(&b'=')).collect();
        Some(Cow::Owned(pairs.join(&b"; "[..])))
    }

    fn ignores(&self, name: &[u8]) -> bool {
        self.ignored.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start.as_bytes()),
            None => name == pattern.as_bytes(),
        })
    }

    fn keys(&self, name: &[u8]) -> bool {
        self.keyed.iter().any(|keyed| keyed.as_bytes() == name)
    }
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
            ("all", &["sid=1; x"], &["*"], &[], false),
        ] {
            assert_eq!(rules(ignored, keyed).personal(&request(lines)), want, "{case}");
        }
    }

    #[test]
    fn the_first_cookie_of_a_name_is_its_value() {
        let request = request(&["a=1; lang = de ; lang=fr"]);
        assert_eq!(CookieRules::value(&request, "lang"), Some(&b"de"[..]));
        assert_eq!(CookieRules::value(&request, "none"), None);
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
