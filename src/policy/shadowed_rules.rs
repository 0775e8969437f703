//! Finds rules that never apply, because an earlier rule matches all of their requests.

use super::{
    path_matcher::is_at_or_below,
    rule::{PathRule, Rule},
};

/// Returns each rule that never applies, with the earlier rule that matches all of its requests.
pub(crate) fn shadowed_rules(rules: &[Rule]) -> Vec<(&Rule, &Rule)> {
    let mut found = Vec::new();
    for (position, rule) in rules.iter().enumerate() {
        let earlier = rules.iter().take(position).find(|earlier| covers(earlier, rule));
        found.extend(earlier.map(|earlier| (rule, earlier)));
    }
    found
}

/// Returns whether `rule` is known to match all requests that `other` matches.
fn covers(rule: &Rule, other: &Rule) -> bool {
    // The result of a predicate is known only for a request.
    rule.predicates.is_empty()
        && (rule.methods.is_empty() || rule.methods == other.methods)
        && (rule.hosts.is_empty() || rule.hosts == other.hosts)
        && (rule.path == PathRule::Any || rule.compared == other.compared)
        && covers_path(&rule.path, &other.path)
}

fn covers_path(path: &PathRule, other: &PathRule) -> bool {
    match (path, other) {
        (PathRule::Any, _) => true,
        (PathRule::Exact(path), PathRule::Exact(other)) => path == other,
        (PathRule::Prefix(prefix), PathRule::Exact(other) | PathRule::Prefix(other)) => {
            is_at_or_below(other, prefix)
        }
        (PathRule::Prefix(prefix), PathRule::Pattern(pattern)) => {
            // A parameter continues the text before it.
            let literal = pattern.split('{').next().unwrap_or_default();
            is_at_or_below(literal, prefix)
                && (literal != prefix || literal == pattern || prefix.ends_with('/'))
        }
        (PathRule::Pattern(path), PathRule::Pattern(other)) => path == other,
        #[cfg(feature = "regex")]
        (PathRule::Regex(path), PathRule::Regex(other)) => path == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;

    use super::*;

    #[test]
    fn rule_is_shadowed_by_an_earlier_rule_for_all_of_its_requests() {
        for (earlier, later, shadowed) in [
            (Rule::any(), Rule::path("/a"), true),
            (Rule::any(), Rule::any(), true),
            (Rule::path("/a"), Rule::any(), false),
            (Rule::path("/a"), Rule::path("/a"), true),
            (Rule::path("/a"), Rule::path("/b"), false),
            (Rule::prefix("/a"), Rule::path("/a"), true),
            (Rule::prefix("/a"), Rule::path("/a/b"), true),
            (Rule::prefix("/a"), Rule::path("/ab"), false),
            (Rule::prefix("/a"), Rule::prefix("/a/b"), true),
            (Rule::prefix("/a/b"), Rule::prefix("/a"), false),
            (Rule::prefix("/a/"), Rule::prefix("/a"), false),
            (Rule::prefix("/a"), Rule::pattern("/a/{id}"), true),
            (Rule::prefix("/a/b"), Rule::pattern("/a/{id}"), false),
            (Rule::prefix("/a"), Rule::pattern("/a{id}"), false),
            (Rule::prefix("/a"), Rule::pattern("/a"), true),
            (Rule::prefix("/a/"), Rule::pattern("/a/{id}"), true),
            (Rule::pattern("/a/{id}"), Rule::pattern("/a/{id}"), true),
            (Rule::pattern("/a/{id}"), Rule::path("/a/b"), false),
            (Rule::any().when(|_| true), Rule::path("/a"), false),
            (Rule::any(), Rule::path("/a").when(|_| true), true),
            (Rule::any().method(Method::GET), Rule::path("/a"), false),
            (Rule::any().method(Method::GET), Rule::path("/a").method(Method::GET), true),
            (Rule::any(), Rule::path("/a").method(Method::POST).host("a"), true),
            (Rule::any().host("a"), Rule::path("/a"), false),
            (Rule::any().host("a"), Rule::path("/a").host("a"), true),
            (Rule::any().bypass(), Rule::any(), true),
            (Rule::prefix("/a"), Rule::path("/a").relative(), false),
            (Rule::prefix("/a").relative(), Rule::path("/a"), false),
            (Rule::prefix("/a").relative(), Rule::path("/a/b").relative(), true),
            (Rule::prefix("").relative(), Rule::path("/a").relative(), true),
            (Rule::any().relative(), Rule::path("/a"), true),
        ] {
            let rules = [earlier, later];
            assert_eq!(shadowed_rules(&rules).len(), usize::from(shadowed), "{rules:?}");
        }
        let rules = [Rule::path("/a"), Rule::prefix("/b"), Rule::path("/b/c"), Rule::path("/a")];
        let found = shadowed_rules(&rules);
        let names: Vec<_> = found
            .iter()
            .map(|(rule, earlier)| (rule.path.to_string(), earlier.path.to_string()))
            .collect();
        let name = |text: &str| text.to_owned();
        assert_eq!(
            names,
            [
                (name("the path \"/b/c\""), name("the prefix \"/b\"")),
                (name("the path \"/a\""), name("the path \"/a\"")),
            ]
        );
    }
}
