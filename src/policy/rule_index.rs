//! `RuleIndex`: the rules that can match a path, by the first segment of the path.
//!
//! An application can have many rules, and most of them name a path. The index spares each request
//! the comparison with the paths of all rules.

use super::rule::{ComparedPath, PathRule, Rule};

/// The positions of rules by the first segment of their paths.
#[derive(Debug)]
pub(super) struct RuleIndex {
    /// The segments that rules name, sorted.
    segments: Vec<Segment>,
    /// The rules that match any segment, in order.
    others: Vec<usize>,
}

/// A first segment of paths.
#[derive(Debug)]
struct Segment {
    text: String,
    /// The rules that match paths with this segment, in order.
    rules: Vec<usize>,
}

impl RuleIndex {
    /// Makes an index of rules from their paths.
    pub(super) fn new(rules: &[Rule]) -> Self {
        let segments: Vec<_> = rules.iter().map(only_segment).collect();
        let rules_for = |segment: Option<&str>| {
            let matches = |own: Option<&str>| own.is_none() || own == segment;
            let rules = segments.iter().enumerate().filter(|(_, own)| matches(**own));
            rules.map(|(rule, _)| rule).collect()
        };
        let mut named: Vec<&str> = segments.iter().copied().flatten().collect();
        named.sort_unstable();
        named.dedup();
        let segment = |text: &str| Segment { text: text.to_owned(), rules: rules_for(Some(text)) };
        Self { segments: named.into_iter().map(segment).collect(), others: rules_for(None) }
    }

    /// Returns the positions of the rules that can match a path, in order.
    pub(super) fn candidates(&self, path: &str) -> &[usize] {
        let segment = first_segment(path);
        let found = self.segments.binary_search_by(|known| known.text.as_str().cmp(segment));
        let known = found.ok().and_then(|at| self.segments.get(at));
        known.map_or(&self.others, |known| &known.rules)
    }
}

/// Returns the text between the first two slashes of a path.
fn first_segment(path: &str) -> &str {
    let path = path.strip_prefix('/').unwrap_or(path);
    path.split_once('/').map_or(path, |(first, _)| first)
}

/// Returns the first segment that all paths of a rule have. `None` if the first segments differ, or
/// are not known.
fn only_segment(rule: &Rule) -> Option<&str> {
    // The path of a relative rule follows the path of a scope.
    if rule.compared == ComparedPath::BelowScope {
        return None;
    }
    match &rule.path {
        PathRule::Exact(path) => Some(first_segment(path)),
        // All paths are below `/`.
        PathRule::Prefix(prefix) => Some(first_segment(prefix)).filter(|first| !first.is_empty()),
        PathRule::Pattern(pattern) => {
            let first = first_segment(pattern);
            // A parameter can contain slashes in its regular expression, and `*` ends a pattern that
            // matches a tail.
            (!first.contains(['{', '}', '*'])).then_some(first)
        }
        PathRule::Any => None,
        #[cfg(feature = "regex")]
        PathRule::Regex(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::path_matcher::PathMatcher, *};

    #[test]
    fn rules_are_found_by_the_first_segment_in_order() {
        let index = RuleIndex::new(&[
            Rule::path("/a"),
            Rule::any(),
            Rule::prefix("/a/b"),
            Rule::pattern("/b/{id}"),
            Rule::pattern("/{id}/a"),
            Rule::prefix("/"),
            Rule::path("/"),
            Rule::path("/b").relative(),
        ]);
        for (path, want) in [
            ("/a", &[0, 1, 2, 4, 5, 7][..]),
            ("/a/x/y", &[0, 1, 2, 4, 5, 7]),
            ("/b/1", &[1, 3, 4, 5, 7]),
            ("/", &[1, 4, 5, 6, 7]),
            ("//a", &[1, 4, 5, 6, 7]),
            ("/c", &[1, 4, 5, 7]),
            ("", &[1, 4, 5, 6, 7]),
        ] {
            assert_eq!(index.candidates(path), want, "{path}");
        }
    }

    fn rule() -> BoxedStrategy<Rule> {
        let path = "(/[ab]{0,2}){1,3}";
        let pattern = r"(/([ab]{0,2}|\{x\}|a\{y\}|\{z:[ab/]+\})){1,3}(/\{tail\}\*)?";
        prop_oneof![
            Just(Rule::any()),
            path.prop_map(Rule::path),
            path.prop_map(Rule::prefix),
            pattern.prop_map(Rule::pattern),
        ]
        .boxed()
    }

    proptest! {
        #[test]
        fn no_rule_that_matches_is_missed(
            rules in proptest::collection::vec(rule(), 0..6),
            path in "(/[ab]{0,2}){1,3}",
        ) {
            let index = RuleIndex::new(&rules);
            for (position, rule) in rules.iter().enumerate() {
                let Ok(matcher) = PathMatcher::new(&rule.path, rule.compared) else { continue };
                if matcher.matches(&path) {
                    prop_assert!(index.candidates(&path).contains(&position), "{rule:?} {path}");
                }
            }
        }
    }
}
