//! Finds rules that look as if their paths were meant to be below a scope, although rules name the
//! whole path: they match no request in the scope.

use std::fmt;

use actix_web::dev::ServiceRequest;

use super::{
    compiled_rule::CompiledRule,
    path_matcher::is_at_or_below,
    rule::{ComparedPath, PathRule, Rule},
};

/// A rule that matches no request in a scope, and a request that shows this.
#[derive(Debug)]
pub(crate) struct MisplacedRule<'a> {
    rule: &'a Rule,
    scope: &'a str,
    path: &'a str,
}

impl fmt::Display for MisplacedRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, scope, path } = self;
        write!(
            f,
            "the rule for {} does not apply to {path:?}, nor to any request in the scope {scope:?}: \
             rules name the whole path, so write it with {scope:?}, or use Rule::relative",
            rule.subject()
        )
    }
}

/// Returns a rule that would match a request if its path was relative to the scope of the cache, and
/// that matches no request in this scope. `rules` has each rule with its checked form.
pub(super) fn misplaced_rule<'a>(
    mut rules: impl Iterator<Item = (&'a Rule, &'a CompiledRule)>,
    request: &'a ServiceRequest,
) -> Option<MisplacedRule<'a>> {
    let (path, rest) = (request.match_info().as_str(), request.match_info().unprocessed());
    let scope = path.strip_suffix(rest).filter(|scope| !scope.is_empty())?;
    let (rule, _) = rules.find(|(rule, compiled)| {
        rule.compared == ComparedPath::Whole
            && excludes(&rule.path, scope)
            && compiled.matches_path(rest)
    })?;
    Some(MisplacedRule { rule, scope, path })
}

/// Returns whether the path of a rule is known to match no path in a scope.
fn excludes(path: &PathRule, scope: &str) -> bool {
    match path {
        PathRule::Exact(path) => !is_at_or_below(path, scope),
        PathRule::Prefix(prefix) => {
            !is_at_or_below(prefix, scope) && !is_at_or_below(scope, prefix)
        }
        PathRule::Pattern(pattern) => {
            // A parameter can continue the text before it.
            let literal = pattern.split('{').next().unwrap_or_default();
            !literal.starts_with(scope) && !scope.starts_with(literal)
        }
        PathRule::Any => false,
        #[cfg(feature = "regex")]
        PathRule::Regex(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{
        super::policy_set::{PolicyConfig, PolicySet},
        *,
    };

    /// Returns the warning for a request in a scope.
    fn warning(rules: &[Rule], path: &str, scope: &str) -> Option<String> {
        let config = PolicyConfig { rules: rules.to_vec(), ..PolicyConfig::new() };
        let policies = PolicySet::new(config, "t").unwrap();
        let mut request = TestRequest::with_uri(path).to_srv_request();
        request.match_info_mut().skip(scope.len().try_into().unwrap());
        let first = policies.misplaced_rule(&request).map(|rule| rule.to_string());
        let second = policies.misplaced_rule(&request).map(|rule| rule.to_string());
        assert_eq!(second, None, "a cache warns once");
        first
    }

    #[test]
    fn rule_is_misplaced_if_only_the_part_below_the_scope_matches() {
        for (rule, path, scope, want) in [
            (Rule::path("/posts"), "/blog/posts", "/blog", true),
            (Rule::path("/posts").bypass(), "/blog/posts", "/blog", true),
            (Rule::prefix("/posts"), "/blog/posts/1", "/blog", true),
            (Rule::pattern("/posts/{id}"), "/blog/posts/1", "/blog", true),
            // The request shows nothing.
            (Rule::path("/posts"), "/blog/other", "/blog", false),
            (Rule::path("/posts"), "/blog", "/blog", false),
            // The rule matches other requests in the scope.
            (Rule::path("/blog/x"), "/blog/blog/x", "/blog", false),
            (Rule::prefix("/"), "/blog/posts", "/blog", false),
            (Rule::pattern("/{id}"), "/blog/1", "/blog", false),
            (Rule::pattern("/b{id}"), "/blog/b1", "/blog", false),
            (Rule::any(), "/blog/posts", "/blog", false),
            (Rule::path("/posts").relative(), "/blog/posts", "/blog", false),
            // There is no scope, or a resource has matched the whole path.
            (Rule::path("/posts"), "/posts", "", false),
            (Rule::path("/posts"), "/blog/posts", "/blog/posts", false),
        ] {
            let rules = [Rule::path("/elsewhere"), rule];
            let got = warning(&rules, path, scope);
            assert_eq!(got.is_some(), want, "{rules:?} on {path} in {scope}: {got:?}");
        }
        let text = warning(&[Rule::path("/posts")], "/blog/posts", "/blog").unwrap();
        for part in ["the path \"/posts\"", "\"/blog/posts\"", "scope \"/blog\"", "Rule::relative"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(warning(&[], "/blog/posts", "/blog"), None);
    }
}
