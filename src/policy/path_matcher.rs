//! `PathMatcher`: the checked and parsed path of a rule.

use super::{
    check::{check_path, check_slash},
    error::ConfigError,
    path_pattern::PathPattern,
    rule::{ComparedPath, PathRule},
};

/// The paths that a rule matches.
#[derive(Debug, Clone)]
pub(super) enum PathMatcher {
    Any,
    Exact(String),
    Prefix(String),
    Pattern(PathPattern),
    #[cfg(feature = "regex")]
    Regex(regex::Regex),
}

impl PathMatcher {
    /// Checks and parses the path of a rule.
    pub(super) fn new(path: &PathRule, compared: ComparedPath) -> Result<Self, ConfigError> {
        Ok(match path {
            PathRule::Any => Self::Any,
            PathRule::Exact(path) => {
                check_path(path, compared)?;
                Self::Exact(path.clone())
            }
            PathRule::Prefix(path) => {
                check_path(path, compared)?;
                Self::Prefix(path.clone())
            }
            PathRule::Pattern(pattern) => {
                check_slash(pattern, compared)?;
                let error = |reason| ConfigError::Pattern { pattern: pattern.clone(), reason };
                Self::Pattern(PathPattern::new(pattern).map_err(error)?)
            }
            #[cfg(feature = "regex")]
            PathRule::Regex(pattern) => Self::Regex(compile_anchored(pattern)?),
        })
    }

    /// Returns whether the rule matches the path by which actix routes a request.
    pub(super) fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => is_at_or_below(path, prefix),
            Self::Pattern(pattern) => pattern.matches(path),
            #[cfg(feature = "regex")]
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// Returns the names of the parameters that tags can contain.
    pub(super) fn parameters(&self) -> Vec<String> {
        match self {
            Self::Pattern(pattern) => pattern.parameters().to_vec(),
            #[cfg(feature = "regex")]
            Self::Regex(regex) => regex.capture_names().flatten().map(str::to_owned).collect(),
            Self::Any | Self::Exact(_) | Self::Prefix(_) => Vec::new(),
        }
    }

    /// Returns the value that a parameter has in a path. Percent-encoded characters in the value are
    /// not decoded.
    pub(super) fn parameter(&self, path: &str, name: &str) -> Option<String> {
        match self {
            Self::Pattern(pattern) => pattern.parameter(path, name),
            #[cfg(feature = "regex")]
            Self::Regex(regex) => Some(regex.captures(path)?.name(name)?.as_str().to_owned()),
            Self::Any | Self::Exact(_) | Self::Prefix(_) => None,
        }
    }
}

/// Returns whether a path equals `prefix`, or begins with all segments of `prefix`.
pub(super) fn is_at_or_below(path: &str, prefix: &str) -> bool {
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
