//! Access to the parsers of this folder, for the fuzz targets.

use actix_web::{dev::ServiceRequest, http::Method};

use super::{
    compiled_rule::{CompiledRule, UrlMatch},
    discriminator::append_forwarded,
    fingerprint::RuleOrigin,
    path_pattern::{PathPattern, parse_parameters},
    query::QueryKey,
    rule::Rule,
    settings::Policy,
    tagging::Tagging,
};
use crate::entry::{
    discriminator::{Discriminator, is_chosen_by_client},
    url::UrlTarget,
};

/// Checks that forwarded values in a discriminator are read back as those of a client.
pub(crate) fn check_forwarded(request: &ServiceRequest) {
    let mut text = Discriminator::new();
    append_forwarded(&mut text, request);
    assert_eq!(is_chosen_by_client(&text), !text.is_empty());
}

/// Normalizes a query by several settings.
pub(crate) fn normalize_queries(query: &str) {
    for setting in [
        QueryKey::sorted(),
        QueryKey::only(["a", "b"]),
        QueryKey::ignoring(QueryKey::tracking_parameters()).then_sorted(),
    ] {
        let _ = setting.normalize(Some(query));
    }
}

/// Normalizes a query.
pub(crate) fn normalize_query(setting: &QueryKey, query: Option<&str>) -> Option<String> {
    setting.normalize(query).map(Into::into)
}

/// Checks a path pattern. The crate checks a pattern before actix compiles it.
pub(crate) fn check_pattern(pattern: &str) {
    let _ = parse_parameters(pattern);
}

/// Compiles a path pattern, and returns whether it matches a path, and the values of its
/// parameters. `None` if the pattern is not valid.
pub(crate) fn match_pattern(pattern: &str, path: &str) -> Option<(bool, Vec<Option<String>>)> {
    let pattern = PathPattern::new(pattern).ok()?;
    let values = pattern.parameters().iter().map(|name| pattern.parameter(path, name));
    Some((pattern.matches(path), values.collect()))
}

/// Returns whether a rule matches a path. `None` if the rule is not valid.
pub(crate) fn match_rule(rule: Rule, path: &str) -> Option<bool> {
    let base = Policy::new();
    let origin = RuleOrigin { rule: &rule, ordinal: 0, base: &base };
    let rule = CompiledRule::new(&origin, base.clone(), "t".into()).ok()?;
    let url = UrlTarget { host: String::new(), path: path.to_owned(), query: None };
    Some(rule.matches_url(&url, &Method::GET, path) == UrlMatch::Yes)
}

/// Parses the text of a rule's tag.
pub(crate) fn parse_tag_template(text: &str) {
    let _ = Tagging::Text(text.to_owned()).compile(&["a".to_owned(), "id".to_owned()]);
}
