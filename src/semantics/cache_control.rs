//! The Cache-Control field (section 5.2), of requests and of responses.

use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderMap};

use super::fields::{delta_seconds, lines, list, never_closes, split, trim};

/// Response directives (section 5.2.2) that rule a shared cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ResponseDirectives {
    /// `no-store`.
    pub(crate) no_store: bool,
    /// `private`, with or without field names.
    pub(crate) private: bool,
    /// `no-cache`, with or without field names.
    pub(crate) no_cache: bool,
    /// `public`.
    pub(crate) public: bool,
    /// `must-revalidate`.
    pub(crate) must_revalidate: bool,
    /// `s-maxage`; zero when its argument cannot be read.
    pub(crate) s_maxage: Option<Duration>,
    /// `max-age`; zero when its argument cannot be read.
    pub(crate) max_age: Option<Duration>,
}

impl ResponseDirectives {
    /// Reads all lines of the field.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let mut found = Self::default();
        for line in lines(fields, &CACHE_CONTROL) {
            for member in list(line) {
                found.take(&Directive::parse(member));
                words(member).for_each(|word| found.refuse(&Directive::parse(word)));
            }
            // What a string that never closes hides may be a refusal.
            found.no_store |= never_closes(line);
        }
        found
    }

    fn take(&mut self, directive: &Directive<'_>) {
        // Section 4.2.1: what is not valid is stale, and so may be what is said twice: the
        // shortest is what both sayings allow.
        let shortest = |known: Option<Duration>| {
            let lifetime = directive.argument.and_then(seconds).unwrap_or(Duration::ZERO);
            Some(known.map_or(lifetime, |known| known.min(lifetime)))
        };
        if directive.is("public") {
            self.public = true;
        } else if directive.is("must-revalidate") {
            self.must_revalidate = true;
        } else if directive.is("s-maxage") {
            self.s_maxage = shortest(self.s_maxage);
        } else if directive.is("max-age") {
            self.max_age = shortest(self.max_age);
        }
    }

    fn refuse(&mut self, directive: &Directive<'_>) {
        self.no_store |= directive.is("no-store");
        self.private |= directive.is("private");
        self.no_cache |= directive.is("no-cache");
    }

    /// Section 3.5: the directives by which a response to an authorised request may be shared.
    pub(crate) fn shares_authorised(&self) -> bool {
        self.shares_with_everybody() || self.must_revalidate
    }

    /// The directives that say a response is the same for everybody. A lifetime of nothing in
    /// shared caches says the opposite.
    pub(crate) fn shares_with_everybody(&self) -> bool {
        self.public || self.s_maxage.is_some_and(|lifetime| !lifetime.is_zero())
    }
}

/// Request directives (section 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct RequestDirectives {
    /// `no-store`: nothing of this exchange is stored.
    pub(crate) no_store: bool,
    /// `no-cache`: the client wants an answer of the handler.
    pub(crate) no_cache: bool,
    /// `only-if-cached`: the client wants an answer of the cache.
    pub(crate) only_if_cached: bool,
    /// `max-age`: the oldest answer the client takes.
    pub(crate) max_age: Option<Duration>,
    /// `min-fresh`: the lifetime an answer must have left.
    pub(crate) min_fresh: Option<Duration>,
}

impl RequestDirectives {
    /// Reads all lines of the field.
    pub(crate) fn of(fields: &HeaderMap) -> Self {
        let mut found = Self::default();
        for Directive { name, argument } in directives(fields) {
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
            }
        }
        found
    }
}

/// One directive; its argument as it stands, quotes included.
#[derive(Clone, Copy)]
pub(crate) struct Directive<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) argument: Option<&'a [u8]>,
}

impl<'a> Directive<'a> {
    /// Splits at the first equals sign.
    pub(crate) fn parse(member: &'a [u8]) -> Self {
        let Some(at) = member.iter().position(|&byte| byte == b'=') else {
            return Self { name: member, argument: None };
        };
        let (name, argument) = member.split_at_checked(at).unwrap_or((member, &[]));
        Self { name: trim(name), argument: argument.get(1..).map(trim) }
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

fn directives(fields: &HeaderMap) -> impl Iterator<Item = Directive<'_>> {
    lines(fields, &CACHE_CONTROL).flat_map(list).map(Directive::parse)
}

/// The words of a member: `private; max-age=60`, written by somebody who took the semicolon for
/// the separator, refuses as much as it would with a comma.
fn words(member: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(member, b';').flat_map(|part| split(part, b' ')).flat_map(|part| split(part, b'\t'))
}

/// Section 5.2: recipients ought to accept the token and the quoted form of an argument.
pub(crate) fn seconds(argument: &[u8]) -> Option<Duration> {
    let quoted = argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    delta_seconds(quoted.unwrap_or(argument))
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
        private: false,
        no_cache: false,
        public: false,
        must_revalidate: false,
        s_maxage: None,
        max_age: None,
    };

    const fn secs(n: u64) -> Option<Duration> {
        Some(Duration::from_secs(n))
    }

    #[test]
    fn response_directives_are_read_whatever_their_case_and_lines() {
        let cases: &[(&[&str], ResponseDirectives)] = &[
            (&[], NONE),
            (&[""], NONE),
            (&["no-store"], ResponseDirectives { no_store: true, ..NONE }),
            (&["No-Store"], ResponseDirectives { no_store: true, ..NONE }),
            (&["private"], ResponseDirectives { private: true, ..NONE }),
            (&["private=\"x-a, x-b\""], ResponseDirectives { private: true, ..NONE }),
            (&["no-cache"], ResponseDirectives { no_cache: true, ..NONE }),
            (&["no-cache=\"set-cookie\""], ResponseDirectives { no_cache: true, ..NONE }),
            (&["ext=\"no-store\""], NONE),
            (&["ext=\"a, no-store, b\""], NONE),
            (&["xno-store, no-storex"], NONE),
            (
                &["public, must-revalidate"],
                ResponseDirectives { public: true, must_revalidate: true, ..NONE },
            ),
            (&["max-age=5"], ResponseDirectives { max_age: secs(5), ..NONE }),
            (&["Max-Age = 5"], ResponseDirectives { max_age: secs(5), ..NONE }),
            (&["max-age=\"5\""], ResponseDirectives { max_age: secs(5), ..NONE }),
            (&["max-age=5, max-age=9"], ResponseDirectives { max_age: secs(5), ..NONE }),
            (&["max-age=9", "max-age=5"], ResponseDirectives { max_age: secs(5), ..NONE }),
            (&["s-maxage=9, s-maxage=x"], ResponseDirectives { s_maxage: secs(0), ..NONE }),
            (&["max-age=abc"], ResponseDirectives { max_age: secs(0), ..NONE }),
            (&["max-age=abc, max-age=9"], ResponseDirectives { max_age: secs(0), ..NONE }),
            (&["max-age"], ResponseDirectives { max_age: secs(0), ..NONE }),
            (&["max-age=-1"], ResponseDirectives { max_age: secs(0), ..NONE }),
            (&["max-age=1.5"], ResponseDirectives { max_age: secs(0), ..NONE }),
            (
                &["s-maxage=7", "max-age=5"],
                ResponseDirectives { s_maxage: secs(7), max_age: secs(5), ..NONE },
            ),
            (&["public", "private"], ResponseDirectives { public: true, private: true, ..NONE }),
            (&["private; max-age=5"], ResponseDirectives { private: true, ..NONE }),
            (
                &["no-cache no-store,\tpublic"],
                ResponseDirectives { no_cache: true, no_store: true, public: true, ..NONE },
            ),
            (&["ext=private, ext=\"a; private\""], NONE),
            (&["ext=\"never closed, public"], ResponseDirectives { no_store: true, ..NONE }),
            (&["ext=\"closed\"", "ext=\"a\\\""], ResponseDirectives { no_store: true, ..NONE }),
        ];
        for (lines, want) in cases {
            assert_eq!(response(lines), *want, "{lines:?}");
        }
    }

    #[test]
    fn only_a_lifetime_in_shared_caches_says_that_they_may_share() {
        for (line, authorised, everybody) in [
            ("max-age=5", false, false),
            ("public", true, true),
            ("must-revalidate", true, false),
            ("s-maxage=5", true, true),
            ("s-maxage=0", false, false),
            ("s-maxage=soon", false, false),
        ] {
            let directives = response(&[line]);
            assert_eq!(directives.shares_authorised(), authorised, "{line}");
            assert_eq!(directives.shares_with_everybody(), everybody, "{line}");
        }
    }

    #[test]
    fn request_directives_are_read_and_unreadable_arguments_ignored() {
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
            ("max-stale", none),
        ] {
            assert_eq!(of(line), want, "{line}");
        }
    }

    #[test]
    fn a_field_of_a_hundred_thousand_bytes_is_read_in_one_pass() {
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
        fn directives_are_found_among_any_others(before in "[a-z=,\t ]{0,20}", after in "[ -~]{0,20}") {
            let line = format!("{before},no-store,{after}");
            prop_assert!(response(&[&line]).no_store);
        }

        #[test]
        fn no_field_makes_the_parser_panic(line in proptest::collection::vec(0x20_u8..0x7f, 0..80)) {
            let fields = fields(&[&line]);
            let _ = (ResponseDirectives::of(&fields), RequestDirectives::of(&fields));
        }
    }
}
