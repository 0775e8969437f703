//! `QueryKey`: the parameters of a query that are part of the cache key.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// Selects the parameters of a query that are part of the cache key.
///
/// Without a `QueryKey`, every byte of the query is part of the cache key. By this default, a
/// response answers only requests with an identical query, unless it has `No-Vary-Search`. However,
/// if a parameter has no effect on a response, the cache stores the response once for each value of
/// the parameter.
///
/// Handlers still see the whole query. Leave a parameter out of the key only if it cannot change
/// the response. Otherwise, all clients get the response that was made for the first client's value
/// of the parameter.
///
/// Parameters are separated by `&`. Their names are compared after percent-decoding, as
/// [`web::Query`](actix_web::web::Query) decodes them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct QueryKey {
    pub(super) names: ParameterNames,
    pub(super) order: ParameterOrder,
}

/// The parameters that are part of the cache key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParameterNames {
    All,
    Only(Vec<String>),
    Ignoring(Vec<String>),
}

/// The order of parameters in the cache key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParameterOrder {
    AsSent,
    Sorted,
}

impl QueryKey {
    /// Makes only these parameters part of the cache key. A trailing `*` in a name matches any
    /// suffix. Elsewhere in a name, `*` is an error.
    pub fn only(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(ParameterNames::Only(names.into_iter().map(Into::into).collect()))
    }

    /// Makes all parameters except these part of the cache key. A trailing `*` in a name matches
    /// any suffix. Elsewhere in a name, `*` is an error.
    ///
    /// ```
    /// # use actix_web_cache::QueryKey;
    /// let query = QueryKey::ignoring(QueryKey::tracking_parameters().chain(["session_hint"]));
    /// ```
    pub fn ignoring(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::new(ParameterNames::Ignoring(names.into_iter().map(Into::into).collect()))
    }

    /// Makes all parameters part of the cache key, regardless of their order.
    ///
    /// Parameters with equal names keep their order, because handlers may depend on it.
    pub fn sorted() -> Self {
        Self::new(ParameterNames::All).then_sorted()
    }

    /// Sorts the parameters in the cache key by name, so that their order in the request has no
    /// effect.
    ///
    /// Parameters with equal names keep their order, because handlers may depend on it.
    pub fn then_sorted(mut self) -> Self {
        self.order = ParameterOrder::Sorted;
        self
    }

    /// Returns the names of parameters that advertising campaigns and mail programs add to URLs for
    /// statistics. Pass the names to [`ignoring`](Self::ignoring).
    ///
    /// Later versions of this crate may add names.
    pub fn tracking_parameters() -> impl Iterator<Item = &'static str> {
        TRACKING_PARAMETERS.iter().copied()
    }

    const fn new(names: ParameterNames) -> Self {
        Self { names, order: ParameterOrder::AsSent }
    }

    /// Returns the query that the cache key contains. `None` if the request has no query, or if no
    /// parameter of the query is part of the key.
    pub(super) fn normalize<'a>(&self, query: Option<&'a str>) -> Option<Cow<'a, str>> {
        let query = query?;
        let total = query.split('&').count();
        let mut kept: Vec<_> = query
            .split('&')
            .filter(|parameter| self.contains(parameter_name(parameter).as_ref()))
            .collect();
        if kept.is_empty() {
            return None;
        }
        if self.order == ParameterOrder::AsSent && kept.len() == total {
            return Some(Cow::Borrowed(query));
        }
        if self.order == ParameterOrder::Sorted {
            kept.sort_by(|one, other| parameter_name(one).cmp(&parameter_name(other)));
        }
        Some(Cow::Owned(kept.join("&")))
    }

    fn contains(&self, name: &[u8]) -> bool {
        match &self.names {
            ParameterNames::All => true,
            ParameterNames::Only(names) => is_listed(names, name),
            ParameterNames::Ignoring(names) => !is_listed(names, name),
        }
    }
}

const TRACKING_PARAMETERS: &[&str] = &[
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

/// Returns whether a list contains a name. A trailing `*` in the list matches any suffix.
fn is_listed(list: &[String], name: &[u8]) -> bool {
    list.iter().any(|listed| match listed.strip_suffix('*') {
        Some(start) => name.starts_with(start.as_bytes()),
        None => name == listed.as_bytes(),
    })
}

/// Returns the decoded name of a parameter: percent-encoding and plus signs are decoded as in HTML
/// forms.
fn parameter_name(parameter: &str) -> Cow<'_, [u8]> {
    let raw = parameter.split_once('=').map_or(parameter, |(name, _)| name);
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
            assert_eq!(query.normalize(*sent).as_deref(), *want, "{query:?} of {sent:?}");
        }
    }

    #[test]
    fn only_keeps_the_named_parameters() {
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
        check(
            &QueryKey::only(["filter_*"]),
            &[
                (Some("filter_a=1&b=2&filter_=3"), Some("filter_a=1&filter_=3")),
                (Some("filter=1"), None),
            ],
        );
    }

    #[test]
    fn ignoring_removes_the_named_parameters() {
        check(
            &QueryKey::ignoring(QueryKey::tracking_parameters()),
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
    fn sorting_keeps_the_order_of_parameters_of_one_name() {
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
        fn normalizing_twice_equals_normalizing_once(text in "[ab%&=;+*]{0,12}") {
            for query in [QueryKey::sorted(), QueryKey::only(["a"]), QueryKey::ignoring(["a*"]).then_sorted()] {
                let once = query.normalize(Some(&text));
                let twice = query.normalize(once.as_deref());
                prop_assert_eq!(once.as_deref(), twice.as_deref());
            }
        }
    }
}
