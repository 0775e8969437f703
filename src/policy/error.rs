//! Configuration that cannot work.

use std::{error::Error, fmt};

/// Why a cache's configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The namespace is empty.
    EmptyNamespace,
    /// The limit for bodies is zero.
    ZeroBodySize,
    /// Nobody would wait for anybody.
    ZeroWaitLimit,
    /// The share of a lifetime in which it is refreshed is none.
    RefreshAhead(u8),
    /// A name is not one of a field (RFC 9110 section 5.1).
    FieldName(String),
    /// A cookie's or a key part's name is empty.
    EmptyName(&'static str),
    /// A status code is none whose responses can be stored.
    Status(u16),
    /// A rule's path does not begin with a slash.
    Path(String),
    /// A rule's pattern is not one of actix.
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule's regular expression cannot be read.
    Regex {
        /// The expression.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A rule's tag names a parameter that its pattern does not have.
    TagParameter(String),
    /// A rule both refuses storing and gives a lifetime.
    BypassWithLifetime,
    /// A rule that waits for the status wants to shape the key.
    StatusWithQuery,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyNamespace => f.write_str(
                "the cache's namespace is empty: give it the application's name, so that others \
                 who use the same store cannot meet its keys",
            ),
            Self::ZeroBodySize => f.write_str(
                "max_body_size is 0, so that nothing could be stored: give the largest body in \
                 bytes, or turn the cache off with Mode::Off",
            ),
            Self::ZeroWaitLimit => f.write_str(
                "wait_limit is 0, so that many requests at once would each ask the handler: give \
                 a time, like the default of five seconds",
            ),
            Self::RefreshAhead(percent) => write!(
                f,
                "refresh_ahead is {percent} percent of a lifetime: use 1 to 99, or leave it out"
            ),
            Self::FieldName(name) => {
                write!(f, "{name:?} is no field name: use one like \"accept\"")
            }
            Self::EmptyName(what) => write!(f, "a {what} has an empty name: name it"),
            Self::Status(status) => write!(
                f,
                "responses with status {status} are never stored: use a final status code other \
                 than 206 and 304"
            ),
            Self::Path(path) => write!(
                f,
                "the rule's path {path:?} does not begin with '/': write it as in the URL, \
                 without host and query"
            ),
            Self::Pattern { pattern, reason } => write!(
                f,
                "the rule's pattern {pattern:?} is not one of actix ({reason}): use one like \
                 \"/posts/{{id}}\""
            ),
            Self::Regex { pattern, reason } => {
                write!(f, "the rule's regular expression {pattern:?} cannot be read: {reason}")
            }
            Self::TagParameter(tag) => write!(
                f,
                "the rule's tag {tag:?} has a parameter in braces that the rule's path does not: \
                 use those of Rule::pattern, or make the tag with tag_with()"
            ),
            Self::BypassWithLifetime => f.write_str(
                "a rule has both bypass() and a lifetime: keep one of the two, or make two rules",
            ),
            Self::StatusWithQuery => f.write_str(
                "a rule has both status() and query(): the key is made before the status is \
                 known, so give query() to a rule without status()",
            ),
        }
    }
}

impl Error for ConfigError {}
