//! The target `policy`: no setting of an application makes the cache panic, and rules and query
//! settings select what their documentation says.
//!
//! The lines of the input are a pattern, a path, a query, the text of a tag, and the names of query
//! parameters.

use std::collections::BTreeMap;

use percent_encoding::percent_decode;

use crate::policy::{
    Policy, QueryKey, Rule, fuzzing,
    policy_set::{PolicyConfig, PolicySet},
};

/// The longest pattern, path or query of an input. The time for a longer pattern is spent in the
/// regular expressions of actix.
const LONGEST: usize = 300;

/// Runs the target.
///
/// # Panics
///
/// Panics if a rule does not match the paths that it should, or if a query setting drops or keeps
/// the wrong parameters.
pub fn run(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut lines = text.split('\n').map(|line| line.get(..LONGEST).unwrap_or(line));
    let mut line = || lines.next().unwrap_or_default();
    let (pattern, path, query, tag) = (line(), line(), line(), line());
    let names: Vec<_> = lines.filter(|name| !name.is_empty()).collect();
    check_pattern(pattern, path);
    check_rules(pattern, path);
    check_compilation(pattern, tag, &names);
    for setting in settings(&names) {
        check_query(&setting, query, &names);
    }
}

/// A pattern matches a path exactly if all of its parameters have a value.
fn check_pattern(pattern: &str, path: &str) {
    let Some((is_match, values)) = fuzzing::match_pattern(pattern, path) else { return };
    let mut found = values.iter().map(Option::is_some);
    assert!(found.all(|found| found == is_match), "{pattern:?} {path:?} {values:?}");
    let has_parameters = pattern.contains('{');
    assert!(has_parameters || is_match == (pattern == path), "{pattern:?} {path:?}");
}

fn check_rules(pattern: &str, path: &str) {
    assert_eq!(fuzzing::match_rule(Rule::any(), path), Some(true));
    let exact = fuzzing::match_rule(Rule::path(pattern), path);
    check_refusal(pattern, exact.is_some());
    assert!(exact.is_none_or(|exact| exact == (pattern == path)), "{pattern:?} {path:?}");
    // A prefix matches the path itself and all paths that continue after a slash.
    let with_slash = format!("{}/", pattern.strip_suffix('/').unwrap_or(pattern));
    let is_below = path == pattern || path.starts_with(&with_slash);
    let prefix = fuzzing::match_rule(Rule::prefix(pattern), path);
    assert_eq!(prefix.is_some(), exact.is_some(), "{pattern:?}");
    assert!(prefix.is_none_or(|prefix| prefix == is_below), "{pattern:?} {path:?}");
}

/// The path of a rule is accepted exactly if it looks like the path of a request.
fn check_refusal(path: &str, is_accepted: bool) {
    let is_absolute = path.starts_with('/');
    let has_star = path.ends_with('*') || path.contains("/*/");
    let is_valid = is_absolute && !has_star && !path.contains(['?', '{', '}']);
    // A path is refused if it is percent-encoded without need.
    assert!(is_accepted == is_valid || (is_valid && path.contains('%')), "{path:?}");
}

/// No policy and no rule makes the compilation panic.
fn check_compilation(pattern: &str, tag: &str, names: &[&str]) {
    let query = QueryKey::only(names.iter().copied());
    let with_tag = |tag: String| move |policy: Policy| policy.tag(tag.clone());
    let rules = vec![
        Rule::pattern(pattern).with(with_tag(tag.to_owned())),
        Rule::prefix(pattern).host(tag).with(move |policy| policy.query(query.clone())),
        #[cfg(feature = "regex")]
        Rule::regex(pattern).with(with_tag(tag.to_owned())),
    ];
    for rule in rules {
        let policy = Policy::new()
            .ignore_cookies(names.iter().copied())
            .credentials(names.iter().copied())
            .targeted_fields(names.iter().copied())
            .tag_fields(names.iter().copied())
            .vary_cookie(tag)
            .key_header(tag);
        let config = PolicyConfig { policy, rules: vec![rule], ..PolicyConfig::new() };
        let _ = PolicySet::new(config, tag);
    }
}

/// The parameters that a query setting keeps.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    All,
    Listed,
    Unlisted,
}

/// A query setting, the parameters that it keeps, and whether it sorts them.
struct Setting(QueryKey, Kept, bool);

fn settings(names: &[&str]) -> [Setting; 5] {
    let names = || names.iter().copied();
    [
        Setting(QueryKey::sorted(), Kept::All, true),
        Setting(QueryKey::only(names()), Kept::Listed, false),
        Setting(QueryKey::only(names()).then_sorted(), Kept::Listed, true),
        Setting(QueryKey::ignoring(names()), Kept::Unlisted, false),
        Setting(QueryKey::ignoring(names()).then_sorted(), Kept::Unlisted, true),
    ]
}

/// Returns the name of a parameter, decoded as in HTML forms.
fn name(parameter: &str) -> Vec<u8> {
    let name = parameter.split('=').next().unwrap_or_default().replace('+', " ");
    percent_decode(name.as_bytes()).collect()
}

/// Returns the parameters by their names. Parameters with one name keep their order.
fn by_name<'a>(parameters: &[&'a str]) -> BTreeMap<Vec<u8>, Vec<&'a str>> {
    let mut by_name = BTreeMap::<_, Vec<_>>::new();
    for &parameter in parameters {
        by_name.entry(name(parameter)).or_default().push(parameter);
    }
    by_name
}

fn check_query(setting: &Setting, query: &str, names: &[&str]) {
    let Setting(setting, keeps, is_sorted) = setting;
    let normalize = |query| fuzzing::normalize_query(setting, query);
    assert_eq!(normalize(None), None);
    let normalized = normalize(Some(query));
    let again = normalized.as_deref().and_then(|query| normalize(Some(query)));
    assert_eq!(again, normalized, "{setting:?} is applied again");
    let is_listed = |parameter: &str| {
        let name = name(parameter);
        names.iter().any(|listed| match listed.strip_suffix('*').map(str::as_bytes) {
            Some(start) => name.starts_with(start),
            None => name == listed.as_bytes(),
        })
    };
    let is_kept = |parameter: &&str| match keeps {
        Kept::All => true,
        Kept::Listed => is_listed(parameter),
        Kept::Unlisted => !is_listed(parameter),
    };
    let expected: Vec<_> = query.split('&').filter(is_kept).collect();
    let kept: Vec<_> = normalized.iter().flat_map(|query| query.split('&')).collect();
    if !is_sorted {
        assert_eq!(kept, expected, "{setting:?}");
        return;
    }
    assert_eq!(by_name(&kept), by_name(&expected), "{setting:?}");
    // Two orders of parameters with different names make one key.
    let all: Vec<_> = query.split('&').collect();
    let reversed: Vec<_> = by_name(&all).into_values().rev().flatten().collect();
    assert_eq!(normalize(Some(&reversed.join("&"))), normalized, "{setting:?}");
}
