//! `No-Vary-Search`: a response says which differences between queries do not matter
//! (draft-ietf-httpbis-no-vary-search, whose sections are cited here).

use std::borrow::Cow;

use actix_web::http::header::{HeaderMap, HeaderName};
use percent_encoding::percent_decode;
use sfv::{BareItem, Dictionary, InnerList, ListEntry, Parser};

use super::fields::field_lines;
use crate::entry::length_prefixed::append_part;

pub(crate) const NO_VARY_SEARCH: HeaderName = HeaderName::from_static("no-vary-search");

/// The largest length of the field in bytes. A longer field is ignored.
const MAX_LENGTH: usize = 2048;

/// The largest number of parameters that the field can name. A field with more is ignored.
const MAX_NAMES: usize = 64;

/// The differences between queries that do not matter for a response: the URL search variance of
/// section 3, if it is not the default one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoVarySearch {
    significant: Significant,
    order: Order,
}

/// The parameters whose values matter. The names are decoded, sorted, and different.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Significant {
    AllExcept(Vec<String>),
    Only(Vec<String>),
}

/// Whether the order of parameters with different names matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Significant,
    Insignificant,
}

impl NoVarySearch {
    /// Reads the field of a response (section 4.2). Returns `None` if every difference between
    /// queries matters, because the field is absent or invalid, or says so.
    pub(crate) fn of(response: &HeaderMap) -> Option<Self> {
        if !response.contains_key(NO_VARY_SEARCH) {
            return None;
        }
        let value = field_lines(response, &NO_VARY_SEARCH).collect::<Vec<_>>().join(&b", "[..]);
        let parsed = (value.len() <= MAX_LENGTH).then(|| parse(&value)).flatten();
        if parsed.is_none() {
            log::debug!("No-Vary-Search has no effect: every difference between queries matters");
        }
        parsed
    }

    /// Returns the significant part of a query. The results for two queries are equal if, and only
    /// if, the queries are equivalent (section 5).
    pub(crate) fn normalize(&self, query: Option<&str>) -> Vec<u8> {
        let mut parameters: Vec<_> = query
            .unwrap_or_default()
            .split('&')
            .filter(|parameter| !parameter.is_empty())
            .map(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                (decode(name.as_bytes()), decode(value.as_bytes()))
            })
            .filter(|(name, _)| self.is_significant(name))
            .collect();
        if self.order == Order::Insignificant {
            // The sort is stable: the order of parameters with equal names matters.
            parameters.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        let mut encoded = Vec::new();
        for (name, value) in parameters {
            append_part(&mut encoded, name.as_bytes());
            append_part(&mut encoded, value.as_bytes());
        }
        encoded
    }

    /// Encodes the value. The encodings of different values differ.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, names) = match &self.significant {
            Significant::AllExcept(names) => (b'a', names),
            Significant::Only(names) => (b'o', names),
        };
        let order = match self.order {
            Order::Significant => b'1',
            Order::Insignificant => b'0',
        };
        let mut encoded = vec![kind, order];
        for name in names {
            append_part(&mut encoded, name.as_bytes());
        }
        encoded
    }

    fn is_significant(&self, name: &str) -> bool {
        let is_in = |names: &[String]| names.binary_search_by(|other| other.as_str().cmp(name));
        match &self.significant {
            Significant::AllExcept(names) => is_in(names).is_err(),
            Significant::Only(names) => is_in(names).is_ok(),
        }
    }
}

/// Parses the value of the field (section 4.1).
fn parse(value: &[u8]) -> Option<NoVarySearch> {
    let fields: Dictionary = Parser::new(value).parse().ok()?;
    let order = match fields.get("key-order").map(boolean) {
        None | Some(Some(false)) => Order::Significant,
        Some(Some(true)) => Order::Insignificant,
        Some(None) => return None,
    };
    let except = fields.get("except");
    let significant = match fields.get("params") {
        None => Significant::AllExcept(Vec::new()),
        Some(ListEntry::InnerList(params)) => Significant::AllExcept(names(params)?),
        Some(params) => match boolean(params)? {
            false => Significant::AllExcept(Vec::new()),
            true => Significant::Only(match except {
                None => Vec::new(),
                Some(ListEntry::InnerList(except)) => names(except)?,
                Some(ListEntry::Item(_)) => return None,
            }),
        },
    };
    if except.is_some() && !matches!(significant, Significant::Only(_)) {
        return None;
    }
    let is_default = order == Order::Significant
        && matches!(&significant, Significant::AllExcept(names) if names.is_empty());
    (!is_default).then_some(NoVarySearch { significant, order })
}

fn boolean(entry: &ListEntry) -> Option<bool> {
    match entry {
        ListEntry::Item(item) => match item.bare_item {
            BareItem::Boolean(value) => Some(value),
            _ => None,
        },
        ListEntry::InnerList(_) => None,
    }
}

/// Returns the decoded names in a list, sorted. `None` if a member is not a string, or if there are
/// too many (sections 4.1 and 4.3).
fn names(list: &InnerList) -> Option<Vec<String>> {
    let name = |bare_item: &BareItem| match bare_item {
        BareItem::String(name) => Some(decode(name.as_str().as_bytes())),
        _ => None,
    };
    let names = list.items.iter().map(|item| name(&item.bare_item));
    let mut names = names.collect::<Option<Vec<_>>>()?;
    names.sort_unstable();
    names.dedup();
    (names.len() <= MAX_NAMES).then_some(names)
}

/// Decodes a name or a value as in HTML forms: plus signs and percent-encodings. Bytes that are not
/// UTF-8 become U+FFFD.
fn decode(text: &[u8]) -> String {
    let spaces: Cow<'_, [u8]> = if text.contains(&b'+') {
        text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect()
    } else {
        Cow::Borrowed(text)
    };
    let decoded: Vec<u8> = percent_decode(&spaces).collect();
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of_lines(lines: &[&str]) -> Option<NoVarySearch> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(NO_VARY_SEARCH, HeaderValue::from_str(line).unwrap());
        }
        NoVarySearch::of(&fields)
    }

    fn of(value: &str) -> Option<NoVarySearch> {
        of_lines(&[value])
    }

    fn except(names: &[&str], order: Order) -> Option<NoVarySearch> {
        let names = names.iter().copied().map(str::to_owned).collect();
        Some(NoVarySearch { significant: Significant::AllExcept(names), order })
    }

    fn only(names: &[&str], order: Order) -> Option<NoVarySearch> {
        let names = names.iter().copied().map(str::to_owned).collect();
        Some(NoVarySearch { significant: Significant::Only(names), order })
    }

    #[test]
    fn valid_fields_are_parsed_as_in_section_4() {
        use Order::{Insignificant, Significant};
        for (value, want) in [
            ("params", only(&[], Significant)),
            ("params=?1", only(&[], Significant)),
            ("params=(\"a\")", except(&["a"], Significant)),
            ("params=(\"b\" \"a\" \"%61\")", except(&["a", "b"], Significant)),
            ("params, except=(\"x\")", only(&["x"], Significant)),
            ("params, except=()", only(&[], Significant)),
            ("key-order", except(&[], Insignificant)),
            ("key-order=?1", except(&[], Insignificant)),
            ("params, key-order, except=(\"x\")", only(&["x"], Insignificant)),
            ("key-order, params, except=(\"x\")", only(&["x"], Insignificant)),
            ("params=();x, key-order;y=1, other=5", except(&[], Insignificant)),
            ("params=(\"%C3%A9+%E6%B0%97\")", except(&["\u{e9} \u{6c17}"], Significant)),
        ] {
            assert!(want.is_some());
            assert_eq!(of(value), want, "{value}");
        }
        let two_lines = of_lines(&["params", "key-order, except=(\"x\")"]);
        assert_eq!(two_lines, only(&["x"], Insignificant));
    }

    #[test]
    fn invalid_and_default_fields_have_no_effect() {
        for value in [
            "",
            "unknown-key",
            "key-order=\"not a boolean\"",
            "key-order=()",
            "params=\"not a boolean or inner list\"",
            "params=(not-a-string)",
            "params=(\"a\"), except=(\"x\")",
            "params=(), except=()",
            "params=?0, except=(\"x\")",
            "params, except=(not-a-string)",
            "params, except=\"not an inner list\"",
            "params, except=?1",
            "except=(\"x\")",
            "except=()",
            "params=?0",
            "params=()",
            "key-order=?0",
            "params, \"",
            "params=(\"\\x\")",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
        assert_eq!(of_lines(&[]), None);
    }

    #[test]
    fn long_fields_have_no_effect() {
        let names = |count: usize| (0..count).map(|n| format!("\"{n}\" ")).collect::<String>();
        assert!(of(&format!("params=({})", names(MAX_NAMES))).is_some());
        assert!(of(&format!("params=({})", names(MAX_NAMES + 1))).is_none());
        let long = |length: usize| format!("params=(\"{}\")", "a".repeat(length));
        assert!(of(&long(MAX_LENGTH - 11)).is_some());
        assert!(of(&long(MAX_LENGTH - 10)).is_none());
    }

    #[test]
    fn queries_are_compared_as_in_section_5() {
        for (value, one, other, equivalent) in [
            // The examples of the section.
            ("key-order", None, Some(""), true),
            ("key-order", Some("a=x"), Some("%61=%78"), true),
            ("key-order", Some("a=\u{e9}"), Some("a=%C3%A9"), true),
            ("key-order", Some("a=%f6"), Some("a=%ef%bf%bd"), true),
            ("key-order", Some("a=x&&&&"), Some("a=x"), true),
            ("key-order", Some("a="), Some("a"), true),
            ("key-order", Some("a=%20"), Some("a=+"), true),
            ("key-order", Some("a=%20"), Some("a= &"), true),
            // The order of parameters.
            ("key-order", Some("a=1&b=2"), Some("b=2&a=1"), true),
            ("key-order", Some("a=1&a=2"), Some("a=2&a=1"), false),
            ("key-order", Some("a=1&b&a=2"), Some("b&a=1&a=2"), true),
            ("params=(\"c\")", Some("a=1&b=2"), Some("b=2&a=1"), false),
            // The parameters that matter.
            ("params", Some("a=1&b"), None, true),
            ("params=(\"a\")", Some("a=1&b=2&a=3"), Some("b=2"), true),
            ("params=(\"a\")", Some("b=2"), Some("b=3"), false),
            ("params=(\"a\")", Some("b=2"), Some("b=2&b=2"), false),
            ("params=(\"a\")", Some("a1=2"), None, false),
            ("params=(\"a\")", Some("A=2"), None, false),
            ("params, except=(\"a\")", Some("b=1&a=2&c"), Some("a=2&d=9"), true),
            ("params, except=(\"a\")", Some("a=2"), Some("a=3"), false),
            ("params, except=(\"a\")", Some("a=2"), None, false),
            ("params, except=(\"a b\")", Some("a+b=2"), Some("a%20b=2"), true),
            ("params=(\"%C3%A9+%E6%B0%97\")", Some("%C3%A9%20%E6%B0%97=3"), Some(""), true),
            // Other ways to write two parameters.
            ("key-order", Some("a=1%26b=2"), Some("a=1&b=2"), false),
            ("key-order", Some("a%3D1"), Some("a=1"), false),
            ("key-order", Some("=a"), Some("a"), false),
            ("key-order", Some("a=b=c"), Some("a=b%3Dc"), true),
        ] {
            let rule = of(value).unwrap();
            let got = rule.normalize(one) == rule.normalize(other);
            assert_eq!(got, equivalent, "{value}: {one:?} and {other:?}");
        }
    }

    /// Compares two queries by the algorithm of section 5, step by step.
    fn are_equivalent(rule: &NoVarySearch, one: &str, other: &str) -> bool {
        let parameters = |query: &str| {
            let mut url = url::Url::parse("http://h/").unwrap();
            url.set_query(Some(query));
            let mut pairs: Vec<(String, String)> = url
                .query_pairs()
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .filter(|(name, _)| match &rule.significant {
                    Significant::AllExcept(names) => !names.contains(name),
                    Significant::Only(names) => names.contains(name),
                })
                .collect();
            if rule.order == Order::Insignificant {
                pairs.sort_by(|one, other| one.0.encode_utf16().cmp(other.0.encode_utf16()));
            }
            pairs
        };
        parameters(one) == parameters(other)
    }

    fn any_rule() -> impl Strategy<Value = NoVarySearch> {
        let names = proptest::collection::btree_set("[ab ]{1,2}", 0..3);
        (names, any::<bool>(), any::<bool>()).prop_map(|(names, only, ordered)| {
            let names = names.into_iter().collect();
            let significant =
                if only { Significant::Only(names) } else { Significant::AllExcept(names) };
            let order = if ordered { Order::Significant } else { Order::Insignificant };
            NoVarySearch { significant, order }
        })
    }

    proptest! {
        #[test]
        fn normalized_queries_are_equal_if_the_draft_says_so(
            rule in any_rule(),
            one in "(a|b|=|&|%61|%20|\\+|%){0,6}",
            other in "(a|b|=|&|%61|%20|\\+|%){0,6}",
        ) {
            let got = rule.normalize(Some(&one)) == rule.normalize(Some(&other));
            prop_assert_eq!(got, are_equivalent(&rule, &one, &other));
        }

        #[test]
        fn encodings_are_equal_only_for_equal_values(one in any_rule(), other in any_rule()) {
            prop_assert_eq!(one.encode() == other.encode(), one == other);
        }
    }
}
