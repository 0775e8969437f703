//! Errors in a cache's configuration.

use std::{error::Error, fmt, time::Duration};

/// The reason why a cache refused its configuration.
///
/// [`CacheBuilder::build`](crate::CacheBuilder::build) returns this error at start-up. The message
/// names the setting and its value, and says how to correct it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The namespace is empty.
    EmptyNamespace,
    /// [`Policy::max_body_size`](crate::Policy::max_body_size) is zero.
    ZeroMaxBodySize,
    /// A time limit of the policy or of the [`CacheBuilder`](crate::CacheBuilder) is zero.
    ZeroLimit {
        /// The name of the setter, such as `wait_limit`.
        setting: &'static str,
        /// The default of the setting.
        default: Duration,
    },
    /// [`Policy::refresh_ahead`](crate::Policy::refresh_ahead) is not between 1 and 99 percent.
    InvalidRefreshAhead(u8),
    /// A configured field name is not a valid header field name (RFC 9110 section 5.1).
    InvalidFieldName(String),
    /// [`Policy::leave_out`](crate::Policy::leave_out) names a field that a stored response needs, or
    /// `Set-Cookie`, which prevents that a response is stored.
    EssentialField(String),
    /// A configured cookie name is empty.
    EmptyCookieName,
    /// A name that was passed to [`Policy::key_with`](crate::Policy::key_with) is empty.
    EmptyKeyPartName,
    /// A setting names this status code, but the cache stores no responses with it: the code is
    /// 1xx, 206 or 304, or is above 599.
    StatusNotStorable(u16),
    /// The path of a rule does not begin with a slash.
    RelativePath(String),
    /// The pattern of a rule is not a valid path pattern.
    Pattern {
        /// The pattern.
        pattern: String,
        /// The reason why the pattern is not valid.
        reason: String,
    },
    /// The regular expression of a rule is not valid.
    Regex {
        /// The regular expression.
        pattern: String,
        /// The reason why the regular expression is not valid.
        reason: String,
    },
    /// An entry of [`Policy::trusted_proxies`](crate::Policy::trusted_proxies) is neither an IP
    /// address, nor a network, nor `unix:`.
    TrustedProxy(String),
    /// A tag contains a parameter in braces, and the policy belongs to no rule, or to a rule whose
    /// path does not have this parameter.
    UnknownTagParameter(String),
    /// [`Policy::override_ttl`](crate::Policy::override_ttl) is zero.
    ZeroOverrideTtl,
    /// A host of a rule is not a host name.
    Host(String),
    /// A rule has both `bypass` and `with`.
    BypassWithPolicy,
    /// A policy has [`Policy::anonymous_only`](crate::Policy::anonymous_only) beside
    /// [`Policy::per_user`](crate::Policy::per_user) or
    /// [`Policy::share_authorized`](crate::Policy::share_authorized).
    AnonymousOnlyWithPeople,
    /// The policy of a rule is not valid.
    Rule {
        /// The path that the rule matches, such as `the prefix "/blog"`.
        path: String,
        /// The reason why the policy is not valid.
        error: Box<Self>,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyNamespace => f.write_str(
                "the namespace of the cache is empty: give it the application's name, so that \
                 applications over one store have different cache keys",
            ),
            Self::ZeroMaxBodySize => f.write_str(
                "max_body_size is 0, so no response could be stored: give the largest body in \
                 bytes, or turn the cache off with Mode::Off",
            ),
            Self::ZeroLimit { setting, default } => write!(
                f,
                "{setting} is 0: give a positive time, or leave it out for the default of \
                 {default:?}"
            ),
            Self::InvalidRefreshAhead(percent) => write!(
                f,
                "refresh_ahead is {percent} percent of a lifetime: use 1 to 99, or leave it out"
            ),
            Self::InvalidFieldName(name) => {
                write!(f, "{name:?} is not a header field name: use one like \"accept\"")
            }
            Self::EssentialField(name) => write!(
                f,
                "leave_out has {name:?}, which matches a field that stored responses need, or \
                 Set-Cookie, whose responses are not stored: use a narrower name"
            ),
            Self::EmptyCookieName => f.write_str(
                "vary_cookie or ignore_cookies has an empty cookie name: name it, or remove it",
            ),
            Self::EmptyKeyPartName => {
                f.write_str("key_with has an empty name: name it after the value it returns")
            }
            Self::StatusNotStorable(status) => write!(
                f,
                "responses with status {status} are never stored: use a status code from 200 to \
                 599 other than 206 and 304"
            ),
            Self::RelativePath(path) => write!(
                f,
                "the path {path:?} of a rule does not begin with '/': write it as in the URL, \
                 without host and query"
            ),
            Self::Pattern { pattern, reason } => write!(
                f,
                "the pattern {pattern:?} of a rule is not valid ({reason}): use one like \
                 \"/posts/{{id}}\""
            ),
            Self::Regex { pattern, reason } => {
                write!(f, "the regular expression {pattern:?} of a rule cannot be read: {reason}")
            }
            Self::TrustedProxy(entry) => write!(
                f,
                "the trusted proxy {entry:?} is not an IP address: use one like \"10.0.0.1\", a \
                 network like \"10.0.0.0/8\", or \"unix:\""
            ),
            Self::UnknownTagParameter(tag) => write!(
                f,
                "the tag {tag:?} has braces, which are for parameters of a rule's path: use a \
                 parameter of Rule::pattern in a rule, or compute the tag with tag_with"
            ),
            Self::ZeroOverrideTtl => f.write_str(
                "override_ttl is 0, so no response would be used: give a positive time, or let a \
                 rule bypass the cache",
            ),
            Self::Host(host) => write!(
                f,
                "the host {host:?} of a rule cannot be read: use one like \"api.example.com\", \
                 \"localhost:8080\" or \"*.example.com\""
            ),
            Self::BypassWithPolicy => f.write_str(
                "a rule has both bypass() and with(): remove one of them, or make two rules",
            ),
            Self::AnonymousOnlyWithPeople => f.write_str(
                "anonymous_only excludes the requests for which per_user or share_authorized \
                 keeps responses: remove one of them, or make a rule for the requests of people",
            ),
            Self::Rule { path, error } => write!(f, "in the rule for {path}: {error}"),
        }
    }
}

impl Error for ConfigError {}
