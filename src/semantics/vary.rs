//! Vary (section 4.1): which request fields a response was selected by.

use std::borrow::Cow;

use actix_web::http::header::{
    AUTHORIZATION, COOKIE, HeaderMap, HeaderName, PROXY_AUTHORIZATION, VARY,
};

use super::{
    cookies::CookieRules,
    fields::{lines, list, split, trim},
};

/// More nominated fields than any application means; a response that names more is not stored.
const MAX_NAMES: usize = 16;

/// What a response says it was selected by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Vary {
    /// `*`, or something no cache can compare: never matches another request.
    Anything,
    /// These fields; none if empty.
    Fields(Vec<HeaderName>),
}

impl Vary {
    /// Reads all lines of the field.
    pub(crate) fn of(response: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for member in lines(response, &VARY).flat_map(list) {
            // `*` among others counts alone; what is not a field name cannot be compared.
            if member == b"*" || !member.iter().all(|&byte| is_token_byte(byte)) {
                return Self::Anything;
            }
            let Ok(name) = HeaderName::from_bytes(member) else { return Self::Anything };
            if !names.contains(&name) {
                names.push(name);
            }
            if names.len() > MAX_NAMES {
                return Self::Anything;
            }
        }
        Self::Fields(names)
    }
}

/// RFC 9110 section 5.6.2. The type for names takes more than that, quotes among them.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The value a request has for a nominated field: its lines joined (RFC 9110 section 5.3), white
/// space around members aside. Cookies that mean nothing are left out.
pub(crate) fn selecting_value<'a>(
    request: &'a HeaderMap,
    name: &HeaderName,
    cookies: &CookieRules,
) -> Option<Cow<'a, [u8]>> {
    if *name == COOKIE {
        return cookies.counting(request);
    }
    // Credentials are no lists: every byte of them counts.
    let exact = *name == AUTHORIZATION || *name == PROXY_AUTHORIZATION;
    let normal = |line| if exact { Cow::Borrowed(line) } else { normalised(line) };
    let mut lines = lines(request, name);
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(normal(first));
    };
    let all: Vec<_> = [first, second].into_iter().chain(lines).map(normal).collect();
    // No line contains a line feed.
    let between: &[u8] = if exact { b"\n" } else { b", " };
    Some(Cow::Owned(all.join(between)))
}

/// Members of a list separated by exactly a comma and a space. Empty ones stay: to who does not
/// read the field as a list, `a,` is not `a`.
fn normalised(line: &[u8]) -> Cow<'_, [u8]> {
    let line = trim(line);
    if !line.contains(&b',') {
        return Cow::Borrowed(line);
    }
    let members: Vec<_> = split(line, b',').collect();
    Cow::Owned(members.join(&b", "[..]))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE, HeaderValue};

    use super::*;

    fn response(lines: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(VARY, HeaderValue::from_str(line).unwrap());
        }
        fields
    }

    #[test]
    fn vary_names_fields_or_anything() {
        let fields = |names: &[HeaderName]| Vary::Fields(names.to_vec());
        let many = (0..17).map(|n| format!("x-{n}")).collect::<Vec<_>>().join(",");
        for (lines, want) in [
            (&[][..], fields(&[])),
            (&[""], fields(&[])),
            (&["Accept"], fields(&[ACCEPT])),
            (&["accept, ACCEPT , accept-language"], fields(&[ACCEPT, ACCEPT_LANGUAGE])),
            (&["Accept", "Accept-Language"], fields(&[ACCEPT, ACCEPT_LANGUAGE])),
            (&["*"], Vary::Anything),
            (&[" * "], Vary::Anything),
            (&["accept, *"], Vary::Anything),
            (&["accept", "*"], Vary::Anything),
            (&["not a name"], Vary::Anything),
            (&["\"accept\""], Vary::Anything),
            (&["accept;q=1"], Vary::Anything),
            (&[many.as_str()], Vary::Anything),
        ] {
            assert_eq!(Vary::of(&response(lines)), want, "{lines:?}");
        }
    }

    #[test]
    fn credentials_are_compared_by_every_byte() {
        let value = |lines: &[&str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
            }
            selecting_value(&fields, &AUTHORIZATION, &CookieRules::default()).map(Cow::into_owned)
        };
        for (one, other, same) in [
            (&["a b"][..], &["a b"][..], true),
            (&["a, b"], &["a,b"], false),
            (&["a, b"], &["a", "b"], false),
            (&["a"], &["a", ""], false),
        ] {
            assert_eq!(value(one) == value(other), same, "{one:?} {other:?}");
        }
    }

    #[test]
    fn white_space_and_line_breaks_do_not_make_a_variant_but_values_do() {
        let value = |lines: &[&str]| {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(ACCEPT, HeaderValue::from_str(line).unwrap());
            }
            selecting_value(&fields, &ACCEPT, &CookieRules::default()).map(Cow::into_owned)
        };
        for (case, one, other, same) in [
            ("white space", &["a,b"][..], &[" a ,  b "][..], true),
            ("lines", &["a, b"], &["a", "b"], true),
            ("order", &["a, b"], &["b, a"], false),
            ("case", &["a"], &["A"], false),
            ("empty members", &["a,"], &["a"], false),
            ("absent and empty", &[], &[""], false),
            ("both absent", &[], &[], true),
        ] {
            assert_eq!(value(one) == value(other), same, "{case}");
        }
    }
}
