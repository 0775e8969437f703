//! `CompiledRule`: a rule whose settings are checked, and whose path and tags are parsed.

use std::time::Duration;

use actix_web::dev::ServiceRequest;

use super::{
    check::{check_path, check_status},
    error::ConfigError,
    path_pattern::PathPattern,
    rule::{Handling, PathRule, Rule},
    tagging::CompiledTagging,
};

/// A checked rule with its parsed path and tags.
#[derive(Debug, Clone)]
pub(super) struct CompiledRule {
    pub(super) rule: Rule,
    pub(super) tags: Vec<CompiledTagging>,
    matcher: PathMatcher,
}

#[derive(Debug, Clone)]
enum PathMatcher {
    Any,
    Exact(String),
    Prefix(String),
    Pattern(PathPattern),
    #[cfg(feature = "regex")]
    Regex(regex::Regex),
}

/// Whether a rule applies to requests for a path, if only the path is known and not the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlMatch {
    No,
    Yes,
    /// The path matches, but the rule also has predicates, which need the request.
    Maybe,
}

impl CompiledRule {
    pub(super) fn new(rule: Rule) -> Result<Self, ConfigError> {
        if rule.handling == Handling::Bypass && (rule.ttl.is_some() || rule.override_ttl.is_some())
        {
            return Err(ConfigError::BypassWithLifetime);
        }
        if !rule.statuses.is_empty() && rule.query.is_some() {
            return Err(ConfigError::StatusWithQuery);
        }
        for &status in &rule.statuses {
            check_status(status)?;
        }
        let matcher = PathMatcher::new(&rule.path)?;
        let parameters = matcher.parameters();
        let tags = rule.tags.iter().map(|tag| tag.compile(&parameters));
        let tags = tags.collect::<Result<_, _>>()?;
        Ok(Self { rule, tags, matcher })
    }

    /// Returns whether the rule applies to a request. `path` is the path by which actix routes the
    /// request.
    pub(super) fn matches(&self, request: &ServiceRequest, path: &str) -> bool {
        self.matcher.matches(path)
            && self.rule.predicates.iter().all(|predicate| predicate.passes(request))
    }

    /// Returns whether the rule applies to requests for a path.
    pub(super) fn matches_url(&self, path: &str) -> UrlMatch {
        match self.matcher.matches(path) {
            false => UrlMatch::No,
            true if self.rule.predicates.is_empty() => UrlMatch::Yes,
            true => UrlMatch::Maybe,
        }
    }

    /// Returns the value that one of the rule's path parameters has in a path. Percent-encoded
    /// characters in the value are not decoded.
    pub(super) fn parameter(&self, path: &str, name: &str) -> Option<String> {
        self.matcher.parameter(path, name)
    }

    /// Returns whether the rule applies only to responses with certain status codes.
    pub(super) fn needs_status(&self) -> bool {
        !self.rule.statuses.is_empty()
    }

    /// Returns whether no response can be stored under the rule.
    pub(super) fn never_stores(&self) -> bool {
        self.rule.handling == Handling::Bypass || self.rule.override_ttl == Some(Duration::ZERO)
    }
}

impl PathMatcher {
    fn new(path: &PathRule) -> Result<Self, ConfigError> {
        Ok(match path {
            PathRule::Any => Self::Any,
            PathRule::Exact(path) => {
                check_path(path)?;
                Self::Exact(path.clone())
            }
            PathRule::Prefix(path) => {
                check_path(path)?;
                Self::Prefix(path.clone())
            }
            PathRule::Pattern(pattern) => {
                check_path(pattern)?;
                let error = |reason| ConfigError::Pattern { pattern: pattern.clone(), reason };
                Self::Pattern(PathPattern::new(pattern).map_err(error)?)
            }
            #[cfg(feature = "regex")]
            PathRule::Regex(pattern) => Self::Regex(compile_anchored(pattern)?),
        })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => is_at_or_below(path, prefix),
            Self::Pattern(pattern) => pattern.matches(path),
            #[cfg(feature = "regex")]
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// The names of the parameters that tags can contain.
    fn parameters(&self) -> Vec<String> {
        match self {
            Self::Pattern(pattern) => pattern.parameters().to_vec(),
            #[cfg(feature = "regex")]
            Self::Regex(regex) => regex.capture_names().flatten().map(str::to_owned).collect(),
            Self::Any | Self::Exact(_) | Self::Prefix(_) => Vec::new(),
        }
    }

    fn parameter(&self, path: &str, name: &str) -> Option<String> {
        match self {
            Self::Pattern(pattern) => pattern.parameter(path, name),
            #[cfg(feature = "regex")]
            Self::Regex(regex) => Some(regex.captures(path)?.name(name)?.as_str().to_owned()),
            Self::Any | Self::Exact(_) | Self::Prefix(_) => None,
        }
    }
}

/// Returns whether a path equals `prefix`, or begins with all segments of `prefix`.
fn is_at_or_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// Compiles a regular expression that must match the whole path.
#[cfg(feature = "regex")]
fn compile_anchored(pattern: &str) -> Result<regex::Regex, ConfigError> {
    let error = |error: regex::Error| ConfigError::Regex {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    };
    // The expression is also compiled alone: `a)(b` is invalid, but inside the added group it would
    // be valid.
    regex::Regex::new(pattern).map_err(error)?;
    regex::Regex::new(&format!("^(?:{pattern})$")).map_err(error)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{super::query::QueryKey, *};

    fn matches(rule: Rule, path: &str) -> bool {
        let request = TestRequest::with_uri(path).to_srv_request();
        let decoded = request.match_info().as_str().to_owned();
        CompiledRule::new(rule).unwrap().matches(&request, &decoded)
    }

    #[test]
    fn rule_matches_exactly_by_whole_segments_or_by_pattern() {
        for (rule, path, want) in [
            (Rule::any(), "/x", true),
            (Rule::path("/a"), "/a", true),
            (Rule::path("/a"), "/a?b=1", true),
            (Rule::path("/a"), "/%61", true),
            (Rule::path("/a"), "/a/", false),
            (Rule::path("/a"), "/a/b", false),
            (Rule::path("/a"), "/A", false),
            (Rule::path("/a/b"), "/a%2Fb", false),
            (Rule::prefix("/api"), "/api", true),
            (Rule::prefix("/api"), "/api/x/y", true),
            (Rule::prefix("/api"), "/apix", false),
            (Rule::prefix("/api/"), "/api/x", true),
            (Rule::prefix("/api/"), "/api", false),
            (Rule::prefix("/"), "/anything", true),
            (Rule::pattern("/posts/{id}"), "/posts/1", true),
            (Rule::pattern("/posts/{id}"), "/posts/1/edit", false),
            (Rule::pattern("/posts/{id:[0-9]+}"), "/posts/x", false),
            (Rule::pattern("/files/{tail}*"), "/files/a/b", true),
            (Rule::any().when(|request| request.headers().contains_key("x-a")), "/", false),
            (Rule::any().when(|request| request.path() == "/b"), "/b", true),
        ] {
            assert_eq!(matches(rule.clone(), path), want, "{rule:?} on {path}");
        }
    }

    #[cfg(feature = "regex")]
    #[test]
    fn regex_matches_the_whole_path() {
        for (pattern, path, want) in [
            ("/api", "/api", true),
            ("/api", "/apix", false),
            ("/api", "/v1/api", false),
            ("/a|/b", "/b", true),
            ("/a|/b", "/ax", false),
            ("/api/.*", "/api/x", true),
        ] {
            assert_eq!(matches(Rule::regex(pattern), path), want, "{pattern} on {path}");
        }
        let error = CompiledRule::new(Rule::regex("/a)(")).unwrap_err();
        assert!(error.to_string().contains("/a)("), "{error}");
    }

    #[test]
    fn invalid_rule_is_refused_with_advice() {
        let second = Duration::from_secs(1);
        for (rule, message) in [
            (Rule::path("health"), "does not begin with '/'"),
            (Rule::prefix(""), "does not begin with '/'"),
            (Rule::pattern("posts/{id}"), "does not begin with '/'"),
            (Rule::pattern("/posts/{id"), "a brace is not closed"),
            (Rule::pattern("/posts/{id:[}"), "is not valid"),
            (Rule::any().status([304]), "status 304"),
            (Rule::any().status([200, 99]), "status 99"),
            (Rule::any().status([600]), "status 600"),
            (Rule::any().bypass().ttl(second), "both bypass() and a lifetime"),
            (Rule::any().bypass().override_ttl(second), "both bypass() and a lifetime"),
            (Rule::any().status([200]).query(QueryKey::sorted()), "both status() and query()"),
        ] {
            let error = CompiledRule::new(rule.clone()).expect_err("refused");
            assert!(error.to_string().contains(message), "{rule:?}: {error}");
        }
    }

    #[test]
    fn tag_of_a_rule_can_contain_only_parameters_of_its_path() {
        for (rule, valid) in [
            (Rule::pattern("/a/{id}").tag("x:{id}"), true),
            (Rule::pattern("/a/{id:[0-9]+}").tag("x:{id}"), true),
            (Rule::pattern("/a/{tail}*").tag("x:{tail}"), true),
            (Rule::pattern("/a/{id:[0-9]{2}}").tag("x:{2}"), false),
            (Rule::pattern("/a/{id}").tag("x:{name}"), false),
            (Rule::pattern("/a/{id}").tag("x:{id"), false),
            (Rule::path("/a").tag("x:{id}"), false),
            (Rule::any().tag("x"), true),
        ] {
            assert_eq!(CompiledRule::new(rule.clone()).is_ok(), valid, "{rule:?}");
        }
        let error = CompiledRule::new(Rule::path("/a").tag("x:{id}")).unwrap_err();
        assert!(error.to_string().contains("x:{id}"), "{error}");
    }

    #[test]
    fn rule_with_a_predicate_may_match_a_url() {
        let rule = |rule| CompiledRule::new(rule).unwrap();
        assert_eq!(rule(Rule::path("/a")).matches_url("/a"), UrlMatch::Yes);
        assert_eq!(rule(Rule::path("/a")).matches_url("/b"), UrlMatch::No);
        assert_eq!(rule(Rule::path("/a").when(|_| false)).matches_url("/a"), UrlMatch::Maybe);
    }
}
