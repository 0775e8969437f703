//! Reads `Vary`, and normalizes the selecting fields: the request fields that `Vary` names (RFC
//! 9111 section 4.1).

use std::borrow::Cow;

use actix_web::http::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHORIZATION, VARY,
};

use super::{
    cookies::CookieRules,
    fields::{Fields, field_lines, field_name, list_members, split, trim},
    weights::{FULL, weighted},
};

/// The largest number of fields that `Vary` may name. A response that names more fields is not
/// stored.
const MAX_NAMES: usize = 16;

/// The parsed `Vary` of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Vary {
    /// `Vary` contains `*`, an invalid field name or too many names, so the response matches no
    /// other request.
    NeverMatches,
    /// The response matches each request in which these selecting fields have the values that they
    /// had in the request for the response.
    Fields(Vec<HeaderName>),
}

impl Vary {
    /// Reads all lines of `Vary`.
    pub(crate) fn of(response: &HeaderMap) -> Self {
        let mut names = Vec::new();
        for member in field_lines(response, &VARY).flat_map(list_members) {
            // RFC 9110 section 12.5.5: a list that contains `*` has the meaning of `*` alone. A
            // field with an invalid name cannot be compared.
            if member == b"*" {
                return Self::NeverMatches;
            }
            let Some(name) = field_name(member) else { return Self::NeverMatches };
            if !names.contains(&name) {
                names.push(name);
            }
            if names.len() > MAX_NAMES {
                return Self::NeverMatches;
            }
        }
        Self::Fields(names)
    }
}

/// Adds field names to `Vary`, and joins its lines to one line.
///
/// Middleware around the cache may read only the first line of `Vary` and drop the other lines, as
/// actix-cors does.
pub(crate) fn add_to_vary(fields: &mut HeaderMap, names: &[HeaderName]) {
    // The usual case: the handler sends no `Vary`.
    if *names == [COOKIE] && !fields.contains_key(VARY) {
        fields.append(VARY, HeaderValue::from_static(COOKIE_SPELLING));
        return;
    }
    let present = field_lines(fields, &VARY).flat_map(list_members);
    let members: Vec<_> = present.chain(names.iter().map(usual_spelling)).collect();
    if let Ok(line) = HeaderValue::from_bytes(&members.join(&b", "[..])) {
        fields.insert(VARY, line);
    }
}

/// The usual spelling of `Cookie`.
const COOKIE_SPELLING: &str = "Cookie";

/// Returns a field name as the cache writes it into `Vary`: `Cookie` in its usual spelling, and all
/// other names in lower case.
fn usual_spelling(name: &HeaderName) -> &[u8] {
    if *name == COOKIE { COOKIE_SPELLING.as_bytes() } else { name.as_str().as_bytes() }
}

/// The rules by which selecting fields are normalized before the cache compares them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Comparison {
    /// The rules for `Cookie`: ignored cookies are left out.
    pub(crate) cookies: CookieRules,
    /// The rule for `Accept-Language`.
    pub(crate) languages: Languages,
    /// The rule for `Accept-Encoding`.
    pub(crate) codings: Codings,
}

impl Codings {
    /// Returns `Accept-Encoding` if this field selects even where a response has no `Vary`.
    pub(crate) fn always_select(&self) -> Option<&'static HeaderName> {
        const FIELD: &HeaderName = &ACCEPT_ENCODING;
        match self {
            Self::AsSent => None,
            Self::Offered(_) => Some(FIELD),
        }
    }
}

/// The rule by which `Accept-Language` is normalized before the cache compares it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) enum Languages {
    /// The field is compared as it was sent, except for white space.
    #[default]
    AsSent,
    /// The field is compared without regard to case: language tags are case-insensitive (RFC 5646
    /// section 2.1.1).
    CaseFolded,
    /// `Accept-Language` is replaced by the language of this list that matches it best. The list
    /// contains all languages that the application offers.
    Best(Vec<String>),
}

/// The rule by which `Accept-Encoding` is normalized before the cache compares it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) enum Codings {
    /// The field is compared as it was sent, except for white space.
    #[default]
    AsSent,
    /// `Accept-Encoding` is replaced by the codings of this list that the client accepts. The list
    /// contains all codings that the application offers.
    Offered(Vec<String>),
}

/// Returns the normalized value of a selecting field, which the cache compares with the normalized
/// value in another request; `None` if the request does not have the field.
///
/// The lines of the field are joined (RFC 9110 section 5.3), and white space around list members is
/// normalized. `comparison` has further rules, which remove differences that have no effect on the
/// application's responses.
pub(crate) fn selecting_value<'a>(
    request: &'a impl Fields,
    name: &HeaderName,
    comparison: &Comparison,
) -> Option<Cow<'a, [u8]>> {
    if *name == COOKIE {
        return comparison.cookies.selecting_value(request);
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

/// Returns the lines of a field, joined to one value.
fn joined<'a>(request: &'a impl Fields, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    // `Authorization` and `Proxy-Authorization` are not lists, so their values are compared byte by
    // byte.
    let is_credential = *name == AUTHORIZATION || *name == PROXY_AUTHORIZATION;
    let normalize = |line| if is_credential { Cow::Borrowed(line) } else { normalized(line) };
    let mut lines = request.lines(name);
    let first = lines.next()?;
    let Some(second) = lines.next() else {
        return Some(normalize(first));
    };
    let lines: Vec<_> = [first, second].into_iter().chain(lines).map(normalize).collect();
    // A field value cannot contain a line feed, so the joined value is unambiguous.
    let separator: &[u8] = if is_credential { b"\n" } else { b", " };
    Some(Cow::Owned(lines.join(separator)))
}

/// Returns the language in `offered` that matches `Accept-Language` best; an empty string if no
/// language matches.
///
/// The algorithm is the lookup of RFC 4647 section 3.4. Each language range of the field, in the
/// order of the weights, is shortened at its hyphens until it equals an offered language.
fn best_language<'a>(value: &[u8], offered: &'a [String]) -> &'a str {
    let mut ranges: Vec<_> = list_members(value)
        .map(weighted)
        .filter_map(|(range, weight)| {
            // A range with an invalid weight shows at least that the client knows the language.
            Some((std::str::from_utf8(range).ok()?, weight.unwrap_or(FULL)))
        })
        .filter(|(_, weight)| *weight > 0)
        .collect();
    // The sort is stable: ranges of equal weight keep their order.
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

/// Returns whether a request accepts one of these codings (RFC 9110 section 12.5.3).
pub(crate) fn accepts_any_coding(request: &impl Fields, codings: &[&str]) -> bool {
    let Some(value) = joined(request, &ACCEPT_ENCODING) else { return false };
    codings.iter().any(|coding| accepts_coding(&value, coding))
}

/// Returns the weight that `Accept-Encoding` gives to a coding, by its name or by `*`: `None` if the
/// field has neither, `Some(None)` if the weight is invalid.
fn coding_weight(value: &[u8], coding: &str) -> Option<Option<u16>> {
    let matches = |name: &[u8]| {
        name.eq_ignore_ascii_case(coding.as_bytes())
            || (coding.eq_ignore_ascii_case("gzip") && name.eq_ignore_ascii_case(b"x-gzip"))
    };
    let members = || list_members(value).map(weighted);
    let named = members().find(|(name, _)| matches(name));
    let found = named.or_else(|| members().find(|(name, _)| *name == b"*"));
    found.map(|(_, weight)| weight)
}

/// Returns whether `Accept-Encoding` accepts a coding. A coding whose weight is invalid counts as
/// refused, because no client may get a coding that it refuses.
fn accepts_coding(value: &[u8], coding: &str) -> bool {
    coding_weight(value, coding).flatten().is_some_and(|weight| weight > 0)
}

/// Returns the codings in `offered` that `Accept-Encoding` accepts, in the order of `offered`.
/// `identity;q=0` is appended if the client does not accept a response without a coding (RFC 9110
/// section 12.5.3).
fn accepted_codings(value: &[u8], offered: &[String]) -> String {
    let mut accepted: Vec<&str> =
        offered.iter().map(String::as_str).filter(|coding| accepts_coding(value, coding)).collect();
    if coding_weight(value, "identity") == Some(Some(0)) {
        accepted.push("identity;q=0");
    }
    accepted.join(", ")
}

/// Writes a comma and one space between the members of a list. Empty members are kept, because a
/// handler that does not parse the field as a list distinguishes `a,` from `a`.
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
    fn field_names_are_added_to_vary_in_one_line() {
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
    fn vary_names_fields_or_never_matches() {
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
            (&["*"], Vary::NeverMatches),
            (&[" * "], Vary::NeverMatches),
            (&["accept, *"], Vary::NeverMatches),
            (&["accept", "*"], Vary::NeverMatches),
            (&["not a name"], Vary::NeverMatches),
            (&["\"accept\""], Vary::NeverMatches),
            (&["accept;q=1"], Vary::NeverMatches),
            (&["accept/"], Vary::NeverMatches),
            (&[at_most.as_str()], fields(&most)),
            (&[at_most.as_str(), "X-0"], fields(&most)),
            (&[many.as_str()], Vary::NeverMatches),
        ] {
            assert_eq!(Vary::of(&response(lines)), want, "{lines:?}");
        }
    }

    #[test]
    fn credentials_are_compared_byte_by_byte() {
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
    fn variants_differ_in_values_but_not_in_white_space_or_lines() {
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
    fn languages_are_compared_as_sent_case_folded_or_by_best_match() {
        let comparison = |languages: Languages| Comparison { languages, ..Comparison::default() };
        let (sent, folded) = (comparison(Languages::AsSent), comparison(Languages::CaseFolded));
        assert_eq!(compared(&ACCEPT_LANGUAGE, "de-AT,EN", &sent), "de-AT, EN");
        assert_eq!(compared(&ACCEPT_LANGUAGE, "de-AT,EN", &folded), "de-at, en");
        assert_eq!(compared(&ACCEPT, "A/B", &folded), "A/B", "other fields keep their case");
        let best = comparison(Languages::Best(owned(&["en", "de", "pt-BR"])));
        assert_eq!(compared(&ACCEPT, "de-AT", &best), "de-AT", "other fields are not matched");
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
    fn codings_are_compared_by_accepted_offered_codings() {
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
            ("br;q=x, gzip", "gzip"),
            ("gzip, *;q=x", "gzip"),
            ("x-br, X-GZIP;q=0.5", "gzip"),
        ] {
            assert_eq!(compared(&ACCEPT_ENCODING, value, &comparison), want, "{value}");
        }
        assert_eq!(compared(&ACCEPT, "gzip,x", &comparison), "gzip, x", "no codings");
        assert_eq!(compared(&ACCEPT_ENCODING, "gzip,x", &Comparison::default()), "gzip, x");
    }
}
