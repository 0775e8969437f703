//! Which parts of a query belong to the key.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Which parameters of a query count for the key, and in which order.
///
/// Without one, every byte of the query counts: that is never wrong, only sometimes wasteful.
/// Handlers still see the whole query, so let only those parameters not count which cannot
/// change the page: the first visitor's value would be seen by all.
///
/// Parameters are what stands between `&`; their names are compared decoded, as actix's `Query`
/// extractor reads them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct QueryKey {
    names: Names,
    order: Order,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Names {
    All,
    Only(Vec<String>),
    Ignoring(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Order {
    AsSent,
    Sorted,
}

impl QueryKey {
    /// Parameters that campaigns and mail programs add for statistics; a trailing `*` stands for any
    /// end. For [`ignoring`](Self::ignoring).
    pub const TRACKING: &[&str] = &[
        "utm_*",
        "mtm_*",
        "pk_*",
        "hsa_*",
        "gclid",
        "gclsrc",
        "dclid",
        "gbraid",
        "wbraid",
        "fbclid",
        "msclkid",
        "twclid",
        "ttclid",
        "yclid",
        "li_fat_id",
        "igshid",
        "mc_cid",
        "mc_eid",
        "_hsenc",
        "_hsmi",
        "vero_id",
        "oly_anon_id",
        "oly_enc_id",
        "s_cid",
        "_ga",
        "_gl",
        "srsltid",
    ];

    /// Only these parameters count.
    #[must_use]
    pub fn only(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self::new(Names::Only(names.into_iter().map(|name| name.as_ref().to_owned()).collect()))
    }

    /// All parameters but these count; a trailing `*` stands for any end. [`TRACKING`](Self::TRACKING) is a list
    /// ready for use.
    #[must_use]
    pub fn ignoring(names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        Self::new(Names::Ignoring(names.into_iter().map(|name| name.as_ref().to_owned()).collect()))
    }

    /// All parameters count, in whatever order they were sent. Several with the same name keep
    /// their order, for it may mean something.
    #[must_use]
    pub const fn sorted() -> Self {
        Self::new(Names::All).then_sorted()
    }

    /// The order of the parameters that count does not.
    #[must_use]
    pub const fn then_sorted(mut self) -> Self {
        self.order = Order::Sorted;
        self
    }

    const fn new(names: Names) -> Self {
        Self { names, order: Order::AsSent }
    }

    /// The query as it stands in the key.
    pub(crate) fn normalized<'a>(&self, query: Option<&'a str>) -> Option<Cow<'a, str>> {
        let query = query?;
        let total = query.split('&').count();
        let mut kept: Vec<_> =
            query.split('&').filter(|pair| self.counts(name(pair).as_ref())).collect();
        if kept.is_empty() {
            return None;
        }
        if self.order == Order::AsSent && kept.len() == total {
            return Some(Cow::Borrowed(query));
        }
        if self.order == Order::Sorted {
            kept.sort_by(|one, other| name(one).cmp(&name(other)));
        }
        Some(Cow::Owned(kept.join("&")))
    }

    fn counts(&self, name: &[u8]) -> bool {
        match &self.names {
            Names::All => true,
            Names::Only(names) => names.iter().any(|only| only.as_bytes() == name),
            Names::Ignoring(names) => {
                !names.iter().any(|ignored| match ignored.strip_suffix('*') {
                    Some(start) => name.starts_with(start.as_bytes()),
                    None => name == ignored.as_bytes(),
                })
            }
        }
    }
}

/// A parameter's name, decoded as forms are: percent-encoding and plus signs.
fn name(pair: &str) -> Cow<'_, [u8]> {
    let raw = pair.split_once('=').map_or(pair, |(name, _)| name);
    if !raw.contains(['%', '+']) {
        return Cow::Borrowed(raw.as_bytes());
    }
    let spaces = raw.replace('+', " ");
    Cow::Owned(percent_decode(spaces.as_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(query: &QueryKey, cases: &[(Option<&str>, Option<&str>)]) {
        for (sent, want) in cases {
            assert_eq!(query.normalized(*sent).as_deref(), *want, "{query:?} of {sent:?}");
        }
    }

    #[test]
    fn only_the_named_parameters_count() {
        check(
            &QueryKey::only(["q", "page"]),
            &[
                (None, None),
                (Some(""), None),
                (Some("q=1"), Some("q=1")),
                (Some("x=2&q=1&y"), Some("q=1")),
                (Some("page=2&q=1"), Some("page=2&q=1")),
                (Some("x=1"), None),
                (Some("%71=1"), Some("%71=1")),
                (Some("Q=1"), None),
                (Some("q=1;x=2"), Some("q=1;x=2")),
            ],
        );
    }

    #[test]
    fn ignored_parameters_do_not_count() {
        check(
            &QueryKey::ignoring(QueryKey::TRACKING),
            &[
                (None, None),
                (Some("utm_source=a"), None),
                (Some("utm_source=a&b=2&gclid=c"), Some("b=2")),
                (Some("u%74m_source=a&b=2"), Some("b=2")),
                (Some("utmost=1"), Some("utmost=1")),
                (Some("utm_content=x;callback=evil"), None),
                (Some("callback=ok&utm_content=x"), Some("callback=ok")),
                (Some("b=2&&c"), Some("b=2&&c")),
            ],
        );
    }

    #[test]
    fn order_counts_only_among_equal_names_when_sorted() {
        check(
            &QueryKey::sorted(),
            &[
                (Some("b=2&a=1"), Some("a=1&b=2")),
                (Some("a=2&a=1"), Some("a=2&a=1")),
                (Some("b&a=2&b=1&a=1"), Some("a=2&a=1&b&b=1")),
                (Some(""), Some("")),
            ],
        );
        check(&QueryKey::only(["b", "a"]).then_sorted(), &[(Some("c&b=2&a=1"), Some("a=1&b=2"))]);
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing_more(text in "[ab%&=;+*]{0,12}") {
            for query in [QueryKey::sorted(), QueryKey::only(["a"]), QueryKey::ignoring(["a*"]).then_sorted()] {
                let once = query.normalized(Some(&text));
                let twice = query.normalized(once.as_deref());
                prop_assert_eq!(once.as_deref(), twice.as_deref());
            }
        }
    }
}
