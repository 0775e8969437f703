//! Vary (section 4.1): which request fields a response was selected by.

use std::borrow::Cow;

use actix_web::http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHORIZATION, VARY,
};

use super::{
    cookies::CookieRules,
    fields::{field_lines, field_name, list_members, split, trim},
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
        for member in field_lines(response, &VARY).flat_map(list_members) {
            // `*` among others counts alone; what is not a field name cannot be compared.
            if member == b"*" {
                return Self::Anything;
            }
            let Some(name) = field_name(member) else { return Self::Anything };
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

/// Adds field names to `Vary`, which then has one line.
///
/// One line is safer than several: middleware outside of the cache may read only the first line
/// and drop the others, as actix-cors does.
pub(crate) fn add_to_vary(fields: &mut HeaderMap, names: &[HeaderName]) {
    let present = field_lines(fields, &VARY).flat_map(list_members);
    let members: Vec<_> = present.chain(names.iter().map(usual_spelling)).collect();
    if let Ok(line) = HeaderValue::from_bytes(&members.join(&b", "[..])) {
        fields.insert(VARY, line);
    }
}

/// Returns a field name as it is usually written, for people who read the header.
fn usual_spelling(name: &HeaderName) -> &[u8] {
    if *name == COOKIE { b"Cookie" } else { name.as_str().as_bytes() }
}

/// How the fields that select among variants are compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Comparison {
    pub(crate) cookies: CookieRules,
    pub(crate) languages: Languages,
    pub(crate) codings: Codings,
}

/// How `Accept-Language` is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) enum Languages {
    /// As it was sent, white space aside.
    #[default]
    AsSent,
    /// Without regard to case, which has no meaning in language tags (RFC 5646 section 2.1.1).
    CaseFolded,
    /// By the one of these that suits it best: the application has no others.
    Best(Vec<String>),
}

/// How `Accept-Encoding` is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) enum Codings {
    /// As it was sent, white space aside.
    #[default]
    AsSent,
    /// By which of these it accepts: the application has no others.
    Offered(Vec<String>),
}

/// The value a request has for a nominated field: its lines joined (RFC 9110 section 5.3), white
/// space around members aside. What means nothing to the application is left out.
pub(crate) fn selecting_value<'a>(
    request: &'a HeaderMap,
    name: &HeaderName,
    comparison: &Comparison,
) -> Option<Cow<'a, [u8]>> {
    if *name == COOKIE {
        return comparison.cookies.counting(request);
    }
    let value = joined(request, name)?;
    Some(match (&comparison.languages, &comparison.codings) {
        (Languages::CaseFolded, _) if *name == ACCEPT_LANGUAGE => {
            Cow::Owned(value.to_ascii_lowercase())
        }
        (Languages::Best(offered), _) if *name == ACCEPT_LANGUAGE => {
            Cow::Owned(best_language(&value, offered).as_bytes().to_vec())
        }
        (_, Codings::Offered(offered)) if *name == ACCEPT_ENCODING => {
            Cow::Owned(accepted_codings(&value, offered).into_bytes())
        }
        _ => value,
    })
}

fn joined<'a>(request: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    // Credentials are no lists: every byte of them counts.
    let exact = *name == AUTHORIZATION || *name == PROXY_AUTHORIZATION;
    let normal = |line| if exact { Cow::Borrowed(line) } else { normalized(line) };
    let mut lines = field_lines(request, name);
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(normal(first));
    };
    let all: Vec<_> = [first, second].into_iter().chain(lines).map(normal).collect();
    // No line contains a line feed.
    let between: &[u8] = if exact { b"\n" } else { b", " };
    Some(Cow::Owned(all.join(between)))
}

/// The members of an `Accept-*` field with their weights in thousandths (RFC 9110 section 12.4.2).
/// A weight that cannot be read is 1.
fn weighted(value: &[u8]) -> impl Iterator<Item = (&str, u16)> {
    list_members(value).filter_map(|member| {
        let mut parts = split(member, b';');
        let name = std::str::from_utf8(parts.next()?).ok()?;
        let weight = parts.find_map(|part| {
            let (q, weight) = part.split_at_checked(2)?;
            q.eq_ignore_ascii_case(b"q=").then_some(weight)
        });
        Some((name, weight.and_then(thousandths).unwrap_or(1000)))
    })
}

fn thousandths(weight: &[u8]) -> Option<u16> {
    let number: f32 = std::str::from_utf8(weight).ok()?.parse().ok()?;
    (0.0..=1.0).contains(&number).then_some((number * 1000.0) as u16)
}

/// The lookup of RFC 4647 section 3.4: ranges by weight, each shortened until one of the offered
/// tags is it. Empty if none suits.
fn best_language<'a>(value: &[u8], offered: &'a [String]) -> &'a str {
    let mut ranges: Vec<_> = weighted(value).filter(|(_, weight)| *weight > 0).collect();
    // Stable: among equals the order they were sent in counts.
    ranges.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    let find = |range: &str| offered.iter().find(|tag| tag.eq_ignore_ascii_case(range));
    let found = ranges.iter().find_map(|(range, _)| {
        if *range == "*" {
            return offered.first();
        }
        let mut range = *range;
        loop {
            if let Some(tag) = find(range) {
                return Some(tag);
            }
            range = range.rsplit_once('-')?.0;
        }
    });
    found.map_or("", String::as_str)
}

/// Those of the offered codings that are accepted, in the order they are offered; and whether
/// none at all is not (RFC 9110 section 12.5.3).
fn accepted_codings(value: &[u8], offered: &[String]) -> String {
    let weight = |coding: &str| {
        let is = |name: &str| {
            name.eq_ignore_ascii_case(coding)
                || (coding.eq_ignore_ascii_case("gzip") && name.eq_ignore_ascii_case("x-gzip"))
        };
        let named = weighted(value).find(|(name, _)| is(name));
        named.or_else(|| weighted(value).find(|(name, _)| *name == "*")).map(|(_, weight)| weight)
    };
    let mut accepted: Vec<&str> = offered
        .iter()
        .map(String::as_str)
        .filter(|coding| weight(coding).is_some_and(|weight| weight > 0))
        .collect();
    if weight("identity") == Some(0) {
        accepted.push("identity;q=0");
    }
    accepted.join(", ")
}

/// Members of a list separated by exactly a comma and a space. Empty ones stay: to who does not
/// read the field as a list, `a,` is not `a`.
fn normalized(line: &[u8]) -> Cow<'_, [u8]> {
    let line = trim(line);
    if !line.contains(&b',') {
        return Cow::Borrowed(line);
    }
    let members: Vec<_> = split(line, b',').collect();
    Cow::Owned(members.join(&b", "[..]))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, HeaderValue};

    use super::*;

    fn response(lines: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(VARY, HeaderValue::from_str(line).unwrap());
        }
        fields
    }

    #[test]
    fn names_are_added_to_vary_in_one_line() {
        for (lines, names, want) in [
            (&[][..], &[COOKIE][..], "Cookie"),
            (&["Accept"], &[COOKIE], "Accept, Cookie"),
            (&["Accept", "x-a,, x-b"], &[HeaderName::from_static("x-c")], "Accept, x-a, x-b, x-c"),
            (&[], &[ACCEPT_LANGUAGE, COOKIE], "accept-language, Cookie"),
        ] {
            let mut fields = HeaderMap::new();
            for line in lines {
                fields.append(VARY, HeaderValue::from_static(line));
            }
            add_to_vary(&mut fields, names);
            let got: Vec<_> = fields.get_all(VARY).collect();
            assert_eq!(got, [want], "{lines:?}");
        }
    }

    #[test]
    fn vary_names_fields_or_anything() {
        let fields = |names: &[HeaderName]| Vary::Fields(names.to_vec());
        let count = |n: usize| (0..n).map(|n| format!("x-{n}")).collect::<Vec<_>>();
        let most: Vec<_> =
            count(16).iter().map(|name| HeaderName::from_bytes(name.as_bytes()).unwrap()).collect();
        let (at_most, many) = (count(16).join(","), count(17).join(","));
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
            (&["accept/"], Vary::Anything),
            (&[at_most.as_str()], fields(&most)),
            (&[at_most.as_str(), "X-0"], fields(&most)),
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
            selecting_value(&fields, &AUTHORIZATION, &Comparison::default()).map(Cow::into_owned)
        };
        for (one, other, same) in [
            (&["a b"][..], &["a b"][..], true),
            (&["a, b"], &["a,b"], false),
            (&["a, b"], &["a", "b"], false),
            (&["a"], &["a", ""], false),
            (&["a"], &["a "], false),
            (&["a", "b", "c"], &["a", "b", "c"], true),
            (&["a", "b", "c"], &["a", "b", "d"], false),
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
            selecting_value(&fields, &ACCEPT, &Comparison::default()).map(Cow::into_owned)
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

    fn compared(name: &HeaderName, value: &str, comparison: &Comparison) -> String {
        let mut fields = HeaderMap::new();
        fields.insert(name.clone(), HeaderValue::from_str(value).unwrap());
        let value = selecting_value(&fields, name, comparison).unwrap();
        String::from_utf8(value.into_owned()).unwrap()
    }

    fn owned(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn languages_are_compared_as_sent_without_case_or_by_the_best_one() {
        let of = |languages: Languages| Comparison { languages, ..Comparison::default() };
        let (sent, folded) = (of(Languages::AsSent), of(Languages::CaseFolded));
        assert_eq!(compared(&ACCEPT_LANGUAGE, "de-AT,EN", &sent), "de-AT, EN");
        assert_eq!(compared(&ACCEPT_LANGUAGE, "de-AT,EN", &folded), "de-at, en");
        assert_eq!(compared(&ACCEPT, "A/B", &folded), "A/B", "other fields have case");
        let best = of(Languages::Best(owned(&["en", "de", "pt-BR"])));
        assert_eq!(compared(&ACCEPT, "de-AT", &best), "de-AT", "other fields are no languages");
        for (value, want) in [
            ("de", "de"),
            ("de-AT", "de"),
            ("DE-at-1996;q=0.9, en;q=0.8", "de"),
            ("en;q=0.8, de;q=0.9", "de"),
            ("en;q=0.8, de;q=0.8", "en"),
            ("pt-br", "pt-BR"),
            ("pt", ""),
            ("fr, *;q=0.1", "en"),
            ("fr, de;q=0", ""),
            ("de;q=x", "de"),
            ("en;q=0.001, de;Q=0.002", "de"),
            ("en;q=0.999, de;q=1.5", "de"),
            ("en;q=-1, de;q=nan", "en"),
            ("en;q=0.5, de;x=0;q=0.4", "en"),
            ("en;q=0.5, de;x=0;q=0.6", "de"),
            ("en;qs, de", "en"),
            ("fr-, de", "de"),
            ("", ""),
        ] {
            assert_eq!(compared(&ACCEPT_LANGUAGE, value, &best), want, "{value}");
        }
    }

    #[test]
    fn codings_are_compared_by_which_of_the_offered_are_accepted() {
        let comparison = Comparison {
            codings: Codings::Offered(owned(&["br", "gzip"])),
            ..Comparison::default()
        };
        for (value, want) in [
            ("gzip", "gzip"),
            ("gzip, deflate, br", "br, gzip"),
            ("BR;q=1.0, gzip;q=0.1", "br, gzip"),
            ("gzip;q=0, br", "br"),
            ("*", "br, gzip"),
            ("*;q=0.5, br;q=0", "gzip"),
            ("x-gzip", "gzip"),
            ("deflate", ""),
            ("", ""),
            ("identity;q=0, gzip", "gzip, identity;q=0"),
            ("*;q=0, gzip", "gzip, identity;q=0"),
            ("*;q=0, identity, gzip", "gzip"),
            ("identity;q=0.001, gzip", "gzip"),
            ("x-br, X-GZIP;q=0.5", "gzip"),
        ] {
            assert_eq!(compared(&ACCEPT_ENCODING, value, &comparison), want, "{value}");
        }
        assert_eq!(compared(&ACCEPT, "gzip,x", &comparison), "gzip, x", "no codings");
        assert_eq!(compared(&ACCEPT_ENCODING, "gzip,x", &Comparison::default()), "gzip, x");
    }
}
