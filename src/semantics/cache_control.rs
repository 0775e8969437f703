//! The `Cache-Control` field of requests and responses (RFC 9111 section 5.2).

use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderMap, HeaderName};
use smallvec::SmallVec;

use super::fields::{
    delta_seconds, field_lines, field_name, has_open_quote, list_members, split, trim,
};

/// Response directives that a shared cache obeys (section 5.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResponseDirectives {
    /// `no-store`.
    pub(crate) no_store: bool,
    /// `private`.
    pub(crate) private: DirectiveScope,
    /// `no-cache`.
    pub(crate) no_cache: DirectiveScope,
    /// `public`.
    pub(crate) public: bool,
    /// `must-revalidate`.
    pub(crate) must_revalidate: bool,
    /// `proxy-revalidate`.
    pub(crate) proxy_revalidate: bool,
    /// `must-understand`.
    pub(crate) must_understand: bool,
    /// `s-maxage`; zero if its argument is invalid.
    pub(crate) s_maxage: Option<Duration>,
    /// `max-age`; zero if its argument is invalid.
    pub(crate) max_age: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861 section 3).
    pub(crate) stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861 section 4).
    pub(crate) stale_if_error: Option<Duration>,
}

/// The scope of `private` or `no-cache`: the part of a response to which the directive applies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum DirectiveScope {
    /// The response does not have the directive.
    #[default]
    Absent,
    /// The directive applies to these fields, which its argument names (the qualified form).
    Fields(SmallVec<[HeaderName; 2]>),
    /// The directive applies to the whole response.
    Response,
}

impl DirectiveScope {
    /// Returns the scope of a directive after one more occurrence of it, with this argument. `self`
    /// is the scope of the earlier occurrences.
    fn extended_by(self, argument: Option<&[u8]>) -> Self {
        match (self, Self::field_names(argument)) {
            (Self::Response, _) | (_, None) => Self::Response,
            (Self::Absent, Some(names)) => Self::Fields(names),
            (Self::Fields(mut known), Some(names)) => {
                known.extend(names);
                Self::Fields(known)
            }
        }
    }

    /// Returns the field names in the argument of a qualified form. `None` if there is no argument,
    /// or if the argument names no field or contains an invalid name. The directive then applies to
    /// the whole response. `*` is a valid name, but means all fields in other places (`Vary`).
    fn field_names(argument: Option<&[u8]>) -> Option<SmallVec<[HeaderName; 2]>> {
        let members = list_members(unquoted(argument?));
        let names = members.map(field_name).collect::<Option<SmallVec<[HeaderName; 2]>>>()?;
        let names_fields = !names.is_empty() && names.iter().all(|name| name != "*");
        names_fields.then_some(names)
    }

    /// Returns the fields that a qualified form names; an empty slice for the other forms.
    pub(crate) fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Absent | Self::Response => &[],
        }
    }
}

impl ResponseDirectives {
    /// Reads all lines of `Cache-Control`.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        Self::of_lines(field_lines(fields, &CACHE_CONTROL))
    }

    /// Reads these lines of `Cache-Control`.
    pub(crate) fn of_lines<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::default();
        let mut any_open_quote = false;
        for line in lines {
            any_open_quote |= has_open_quote(line);
            for member in list_members(line) {
                let Directive { name, argument } = Directive::parse(member);
                found.add(name, argument);
                found.add_refusals(member);
            }
        }
        // A quoted string without its closing quote may hide `no-store`. Therefore `no-store` is
        // assumed, and `must-understand` cannot override the assumption.
        if any_open_quote {
            found.no_store = true;
            found.must_understand = false;
        }
        found
    }

    /// Adds one directive. An unknown directive is ignored (section 5.2.3).
    pub(super) fn add(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        // Section 4.2.1: a response with an invalid or conflicting lifetime may be considered
        // stale. An invalid lifetime therefore counts as zero. Of several lifetimes, the shortest
        // counts.
        let shortest = |known: Option<Duration>| {
            let lifetime = argument.and_then(seconds).unwrap_or(Duration::ZERO);
            Some(known.map_or(lifetime, |known| known.min(lifetime)))
        };
        // An invalid window for stale responses is ignored. If a window directive is repeated, the
        // first valid value counts.
        let window = |known: Option<Duration>| known.or_else(|| argument.and_then(seconds));
        if is("no-store") {
            self.no_store = true;
        } else if is("private") {
            self.private = std::mem::take(&mut self.private).extended_by(argument);
        } else if is("no-cache") {
            self.no_cache = std::mem::take(&mut self.no_cache).extended_by(argument);
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") {
            self.must_revalidate = true;
        } else if is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if is("must-understand") {
            self.must_understand = true;
        } else if is("s-maxage") {
            self.s_maxage = shortest(self.s_maxage);
        } else if is("max-age") {
            self.max_age = shortest(self.max_age);
        } else if is("stale-while-revalidate") {
            self.stale_while_revalidate = window(self.stale_while_revalidate);
        } else if is("stale-if-error") {
            self.stale_if_error = window(self.stale_if_error);
        }
    }

    /// Adds `no-store`, `private` and `no-cache` if they are words in a list member of several
    /// words.
    ///
    /// In `private; max-age=60`, the server most likely meant a comma instead of the semicolon, and
    /// meant `private`. Directives that permit storing or reuse are not read from such a member.
    fn add_refusals(&mut self, member: &[u8]) {
        for refusal in refusals(member) {
            match refusal {
                "private" => self.private = DirectiveScope::Response,
                "no-cache" => self.no_cache = DirectiveScope::Response,
                _ => self.no_store = true,
            }
        }
    }

    /// Returns whether the response has `no-store`, `private` or `no-cache`, the qualified forms
    /// included. A shared cache must not reuse such a response, or some of its fields, without
    /// validation.
    pub(crate) fn refuses_sharing(&self) -> bool {
        self.no_store
            || self.private != DirectiveScope::Absent
            || self.no_cache != DirectiveScope::Absent
    }

    /// Returns whether the response may be shared by all clients: it has `public` or a positive
    /// `s-maxage`.
    ///
    /// `s-maxage=0` does not count, because no shared cache may reuse such a response without
    /// validation.
    pub(crate) fn allows_sharing(&self) -> bool {
        self.public || self.s_maxage.is_some_and(|lifetime| !lifetime.is_zero())
    }
}

/// Directives of a request (section 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RequestDirectives {
    /// `no-store`: neither the request nor its response may be stored.
    pub(crate) no_store: bool,
    /// `no-cache`: a stored response must be validated before it is used.
    pub(crate) no_cache: bool,
    /// `only-if-cached`: only the cache may answer the request; the handler must not be called.
    pub(crate) only_if_cached: bool,
    /// `max-age`: the highest age of a response that the client accepts.
    pub(crate) max_age: Option<Duration>,
    /// `min-fresh`: the time for which a response must still be fresh.
    pub(crate) min_fresh: Option<Duration>,
    /// `max-stale`: the longest time for which a response may have been stale; [`Duration::MAX`] if
    /// the directive has no argument.
    pub(crate) max_stale: Option<Duration>,
}

impl RequestDirectives {
    /// Reads all lines of `Cache-Control`. A directive with an invalid argument is ignored. Of
    /// several valid directives of one name, the first counts.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let mut found = Self::default();
        let members = field_lines(fields, &CACHE_CONTROL).flat_map(list_members);
        for Directive { name, argument } in members.map(Directive::parse) {
            let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
            if is("no-store") {
                found.no_store = true;
            } else if is("no-cache") {
                found.no_cache = true;
            } else if is("only-if-cached") {
                found.only_if_cached = true;
            } else if is("max-age") {
                found.max_age = found.max_age.or_else(|| argument.and_then(seconds));
            } else if is("min-fresh") {
                found.min_fresh = found.min_fresh.or_else(|| argument.and_then(seconds));
            } else if is("max-stale") {
                // Section 5.2.1.2: `max-stale` without an argument accepts a stale response of any
                // age.
                let limit = argument.map_or(Some(Duration::MAX), seconds);
                found.max_stale = found.max_stale.or(limit);
            }
        }
        found
    }
}

/// A directive: its name and its argument. Quotes around the argument are kept.
#[derive(Clone, Copy)]
pub(crate) struct Directive<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) argument: Option<&'a [u8]>,
}

impl<'a> Directive<'a> {
    /// Splits a list member into name and argument at the first equals sign.
    ///
    /// The grammar allows no white space around the equals sign, and parsers disagree about a
    /// directive with such white space. Its argument therefore counts as empty. An empty argument
    /// is invalid for each directive that needs an argument.
    pub(crate) fn parse(member: &'a [u8]) -> Self {
        let Some(equals) = member.iter().position(|&byte| byte == b'=') else {
            return Self { name: member, argument: None };
        };
        let (name, argument) = member.split_at_checked(equals).unwrap_or((member, &[]));
        let argument = argument.get(1..).unwrap_or_default();
        let has_space = trim(name) != name || trim(argument) != argument;
        Self { name: trim(name), argument: Some(if has_space { &[] } else { argument }) }
    }

    /// Returns whether the directive has this name, regardless of case.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Returns the names of the refusals that are words in a list member of several words: `no-store`,
/// `private` or `no-cache`.
pub(super) fn refusals(member: &[u8]) -> impl Iterator<Item = &'static str> {
    let has_several_words = words(member).nth(1).is_some();
    let directives = words(member).map(Directive::parse).filter(move |_| has_several_words);
    directives.filter_map(|directive| {
        ["no-store", "private", "no-cache"].into_iter().find(|name| directive.is(name))
    })
}

/// Splits a list member at semicolons, spaces and tabs outside of quoted strings.
fn words(member: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(member, b';').flat_map(|part| split(part, b' ')).flat_map(|part| split(part, b'\t'))
}

/// Parses delta-seconds, quoted or not. Section 5.2 recommends that recipients accept both forms.
pub(crate) fn seconds(argument: &[u8]) -> Option<Duration> {
    delta_seconds(unquoted(argument))
}

fn unquoted(argument: &[u8]) -> &[u8] {
    let quoted = argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    quoted.unwrap_or(argument)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn fields(lines: &[&[u8]]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(CACHE_CONTROL, HeaderValue::from_bytes(line).unwrap());
        }
        fields
    }

    fn response(lines: &[&str]) -> ResponseDirectives {
        ResponseDirectives::of(&fields(&lines.iter().map(|l| l.as_bytes()).collect::<Vec<_>>()))
    }

    const NONE: ResponseDirectives = ResponseDirectives {
        no_store: false,
        private: DirectiveScope::Absent,
        no_cache: DirectiveScope::Absent,
        public: false,
        must_revalidate: false,
        proxy_revalidate: false,
        must_understand: false,
        s_maxage: None,
        max_age: None,
        stale_while_revalidate: None,
        stale_if_error: None,
    };

    const fn secs(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    fn check(cases: &[(&[&str], ResponseDirectives)]) {
        for (lines, want) in cases {
            assert_eq!(response(lines), *want, "{lines:?}");
        }
    }

    fn private(scope: DirectiveScope) -> ResponseDirectives {
        ResponseDirectives { private: scope, ..NONE }
    }

    fn no_cache(scope: DirectiveScope) -> ResponseDirectives {
        ResponseDirectives { no_cache: scope, ..NONE }
    }

    const fn max_age(seconds: u64) -> ResponseDirectives {
        ResponseDirectives { max_age: secs(seconds), ..NONE }
    }

    const NO_STORE: ResponseDirectives = ResponseDirectives { no_store: true, ..NONE };

    #[test]
    fn private_no_store_and_no_cache_refuse_sharing() {
        for (line, want) in [
            ("", false),
            ("public, max-age=5, must-revalidate", false),
            ("max-age=5, private", true),
            ("private=\"x-a\"", true),
            ("no-store", true),
            ("no-cache", true),
            ("no-cache=\"x-a\"", true),
        ] {
            assert_eq!(response(&[line]).refuses_sharing(), want, "{line}");
        }
    }

    #[test]
    fn response_directives_are_read_from_all_lines_in_any_case() {
        check(&[
            (&[], NONE),
            (&[""], NONE),
            (&["no-store"], NO_STORE),
            (&["No-Store"], NO_STORE),
            (&["ext=\"no-store\""], NONE),
            (&["ext=\"a, no-store, b\""], NONE),
            (&["xno-store, no-storex"], NONE),
            (
                &["public, must-revalidate"],
                ResponseDirectives { public: true, must_revalidate: true, ..NONE },
            ),
            (
                &["must-revalidate, proxy-revalidate, must-understand"],
                ResponseDirectives {
                    must_revalidate: true,
                    proxy_revalidate: true,
                    must_understand: true,
                    ..NONE
                },
            ),
            (&["s-maxage=7", "max-age=5"], ResponseDirectives { s_maxage: secs(7), ..max_age(5) }),
            (
                &["public", "private"],
                ResponseDirectives { public: true, ..private(DirectiveScope::Response) },
            ),
        ]);
    }

    #[test]
    fn private_and_no_cache_apply_to_named_fields_or_to_the_response() {
        use DirectiveScope::Response;
        let fields = |names: &[&'static str]| {
            DirectiveScope::Fields(names.iter().map(|name| HeaderName::from_static(name)).collect())
        };
        check(&[
            (&["private"], private(Response)),
            (&["private=\"x-a, x-b\""], private(fields(&["x-a", "x-b"]))),
            (&["private, private=\"x-a\""], private(Response)),
            (&["private = \"a\""], private(Response)),
            (&["private=x\"a\""], private(Response)),
            (&["private=*"], private(Response)),
            (&["private=\"x-a, *\""], private(Response)),
            (&["no-cache=*"], no_cache(Response)),
            (&["no-cache"], no_cache(Response)),
            (&["no-cache=\"Set-Cookie\""], no_cache(fields(&["set-cookie"]))),
            (&["no-cache=a", "no-cache=\"b\""], no_cache(fields(&["a", "b"]))),
            (&["no-cache=\"a\", no-cache"], no_cache(Response)),
            (&["no-cache=\"\""], no_cache(Response)),
            (&["no-cache=\"a b\""], no_cache(Response)),
        ]);
    }

    #[test]
    fn shortest_lifetime_and_first_window_count() {
        check(&[
            (&["max-age=5"], max_age(5)),
            (&["Max-Age=5"], max_age(5)),
            (&["max-age =5"], max_age(0)),
            (&["max-age= 5"], max_age(0)),
            (&["max-age=\"5\""], max_age(5)),
            (&["max-age=5, max-age=9"], max_age(5)),
            (&["max-age=9", "max-age=5"], max_age(5)),
            (&["max-age=abc"], max_age(0)),
            (&["max-age=abc, max-age=9"], max_age(0)),
            (&["max-age"], max_age(0)),
            (&["max-age=-1"], max_age(0)),
            (&["max-age=1.5"], max_age(0)),
            (&["s-maxage=9, s-maxage=x"], ResponseDirectives { s_maxage: secs(0), ..NONE }),
            (
                &["stale-while-revalidate=3, stale-if-error=4, stale-if-error=9"],
                ResponseDirectives {
                    stale_while_revalidate: secs(3),
                    stale_if_error: secs(4),
                    ..NONE
                },
            ),
            (&["stale-while-revalidate, stale-if-error=x"], NONE),
            (
                &["stale-while-revalidate=x, stale-while-revalidate=3"],
                ResponseDirectives { stale_while_revalidate: secs(3), ..NONE },
            ),
        ]);
    }

    #[test]
    fn missing_closing_quote_implies_no_store() {
        check(&[
            (
                &["private=\"x-a"],
                ResponseDirectives { no_store: true, ..private(DirectiveScope::Response) },
            ),
            (&["ext=\"a, no-store", "must-understand"], NO_STORE),
            (&["ext=\"no closing quote, public"], NO_STORE),
            (&["ext=\"closed\"", "ext=\"a\\\""], NO_STORE),
        ]);
    }

    #[test]
    fn refusals_among_several_words_of_one_member_count() {
        use DirectiveScope::Response;
        check(&[
            (&["x; no-cache"], no_cache(Response)),
            (&["private; max-age=5"], private(Response)),
            (
                &["no-cache no-store,\tpublic"],
                ResponseDirectives { no_store: true, public: true, ..no_cache(Response) },
            ),
            (&["public; s-maxage=5"], NONE),
            (&["ext=private, ext=\"a; private\""], NONE),
        ]);
    }

    #[test]
    fn public_and_positive_s_maxage_allow_sharing() {
        for (line, shared) in [
            ("max-age=5", false),
            ("public", true),
            ("must-revalidate", false),
            ("s-maxage=5", true),
            ("s-maxage=0", false),
            ("s-maxage=soon", false),
        ] {
            let directives = response(&[line]);
            assert_eq!(directives.allows_sharing(), shared, "{line}");
        }
    }

    #[test]
    fn request_directives_with_invalid_arguments_are_ignored() {
        let of = |line: &str| RequestDirectives::of(&fields(&[line.as_bytes()]));
        let none = RequestDirectives::default();
        for (line, want) in [
            ("no-store", RequestDirectives { no_store: true, ..none }),
            ("no-cache", RequestDirectives { no_cache: true, ..none }),
            ("only-if-cached", RequestDirectives { only_if_cached: true, ..none }),
            (
                "max-age=3, min-fresh=4",
                RequestDirectives { max_age: secs(3), min_fresh: secs(4), ..none },
            ),
            ("max-age=x", none),
            ("max-age", none),
            ("min-fresh", none),
            ("max-age=x, max-age=3, max-age=9", RequestDirectives { max_age: secs(3), ..none }),
            ("min-fresh=3, min-fresh=9", RequestDirectives { min_fresh: secs(3), ..none }),
            ("max-stale=3, max-stale", RequestDirectives { max_stale: secs(3), ..none }),
            (
                "No-Store, Max-Age=\"3\", ext=\"no-cache\"",
                RequestDirectives { no_store: true, max_age: secs(3), ..none },
            ),
            ("max-stale", RequestDirectives { max_stale: Some(Duration::MAX), ..none }),
            ("max-stale=5", RequestDirectives { max_stale: secs(5), ..none }),
            ("max-stale=x", none),
        ] {
            assert_eq!(of(line), want, "{line}");
        }
    }

    #[test]
    fn field_of_a_hundred_thousand_bytes_is_read() {
        for (line, no_store) in [
            (",".repeat(100_000), false),
            ("; ".repeat(50_000), false),
            ("\"".repeat(100_000), false),
            ("\"".repeat(99_999), true),
            ("a=".repeat(50_000), false),
            ("x,".repeat(50_000), false),
        ] {
            assert_eq!(response(&[&line]), ResponseDirectives { no_store, ..NONE });
        }
    }

    proptest! {
        #[test]
        fn directive_is_found_among_any_others(before in "[a-z=,\t ]{0,20}", after in "[ -~]{0,20}") {
            let line = format!("{before},no-store,{after}");
            prop_assert!(response(&[&line]).no_store);
        }

        #[test]
        fn parsers_do_not_panic(line in proptest::collection::vec(0x20_u8..0x7f, 0..80)) {
            let fields = fields(&[&line]);
            let _ = (ResponseDirectives::of(&fields), RequestDirectives::of(&fields));
        }
    }
}
