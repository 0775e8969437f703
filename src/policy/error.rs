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
    /// The size that was passed to [`Policy::cache_queries`](crate::Policy::cache_queries) or
    /// [`Policy::cache_posts_by_body`](crate::Policy::cache_posts_by_body) is zero.
    ZeroRequestBody {
        /// The name of the setter.
        setting: &'static str,
    },
    /// [`Policy::cache_posts_by_body`](crate::Policy::cache_posts_by_body) is set for a policy that
    /// does not belong to a rule with the method `POST`.
    PostsWithoutRule,
    /// A time limit of the policy or of the [`CacheBuilder`](crate::CacheBuilder) is zero.
    ZeroLimit {
        /// The name of the setter, such as `wait_limit`.
        setting: &'static str,
        /// The default of the setting.
        default: Duration,
    },
    /// [`Policy::refresh_ahead`](crate::Policy::refresh_ahead) is not between 1 and 99 percent.
    InvalidRefreshAhead(u8),
    /// [`Policy::jitter`](crate::Policy::jitter) is not between 1 and 50 percent.
    InvalidJitter(u8),
    /// A configured field name is not a valid header field name (RFC 9110 section 5.1).
    InvalidFieldName(String),
    /// [`Policy::leave_out`](crate::Policy::leave_out) names a field that a stored response needs, or
    /// `Set-Cookie`, which prevents that a response is stored.
    EssentialField(String),
    /// The field in [`Policy::emit_tags`](crate::Policy::emit_tags) has another meaning than a list
    /// of tags.
    EmittedTagField(String),
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
    /// The policy has [`cdn_ttl`](crate::Policy::cdn_ttl) and removes the field that states it.
    CdnTtlRemoved,
    /// [`Policy::override_ttl`](crate::Policy::override_ttl) is zero.
    ZeroOverrideTtl,
    /// A host of a rule is not a host name.
    Host(String),
    /// The path of a rule contains braces. Only the pattern of a rule has parameters.
    BracesInPath(String),
    /// The path of a rule contains `*` as a whole segment or at its end. A path does not match
    /// other paths by `*`.
    StarInPath(String),
    /// The path of a rule contains a query.
    QueryInPath(String),
    /// The path of a rule is percent-encoded, but rules are compared with decoded paths.
    EncodedPath {
        /// The path.
        path: String,
        /// The path as requests for it are compared.
        decoded: String,
    },
    /// [`CacheBuilder::rules_only`](crate::CacheBuilder::rules_only) is set, and no rule caches
    /// requests.
    NoCachingRule,
    /// A content coding of [`Policy::vary_codings`](crate::Policy::vary_codings) is not
    /// registered.
    UnknownCoding(String),
    /// A language of [`Policy::vary_languages`](crate::Policy::vary_languages) is not a language
    /// tag.
    InvalidLanguage(String),
    /// A setting has an empty list, but needs at least one entry.
    EmptyList {
        /// The name of the setter, such as `vary_languages`.
        setting: &'static str,
    },
    /// [`Compression::codings`](crate::Compression::codings) has a coding whose feature is not
    /// enabled.
    CodingNotEnabled(&'static str),
    /// [`Policy::compress`](crate::Policy::compress) is set, but no feature of a coding is enabled.
    NoCodingEnabled,
    /// A text of [`Compression::types`](crate::Compression::types) is no media range.
    InvalidMediaType(String),
    /// A name contains `*` where `*` does not match other names.
    StarInName {
        /// The name of the setter, such as `vary_cookie`.
        setting: &'static str,
        /// The name.
        name: String,
    },
    /// A name cannot be the name of a cookie (RFC 6265 section 4.1.1).
    InvalidCookieName(String),
    /// A cookie is both ignored and part of the cache key.
    CookieIgnoredAndKeyed(String),
    /// The name of [options](crate::CacheBuilder::options) is empty.
    EmptyOptionsName,
    /// [Options](crate::CacheBuilder::options) with this name are set twice.
    RepeatedOptions(String),
    /// A tag of the policy, or of options, is empty.
    EmptyTag,
    /// A tag of the policy is longer than 256 bytes, so responses with it are not stored.
    TagTooLong(String),
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
            Self::ZeroRequestBody { setting } => write!(
                f,
                "{setting} is 0, so only requests without a body could be cached: give the largest \
                 body of a request in bytes"
            ),
            Self::PostsWithoutRule => f.write_str(
                "cache_posts_by_body is set outside of a rule for POST, where a POST usually \
                 changes data: set it by Rule::path(\"/graphql\").method(Method::POST).with(...)",
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
            Self::InvalidJitter(percent) => {
                write!(f, "jitter is {percent} percent of a lifetime: use 1 to 50, or leave it out")
            }
            Self::InvalidFieldName(name) => {
                write!(f, "{name:?} is not a header field name: use one like \"accept\"")
            }
            Self::EssentialField(name) => write!(
                f,
                "leave_out has {name:?}, which matches a field that stored responses need, or \
                 Set-Cookie, whose responses are not stored: use a narrower name"
            ),
            Self::EmittedTagField(name) => write!(
                f,
                "emit_tags names the field {name:?}, which does not list tags: use the field that \
                 the CDN reads, such as \"Surrogate-Key\" or \"Cache-Tag\""
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
            Self::CdnTtlRemoved => f.write_str(
                "cdn_ttl writes CDN-Cache-Control, which remove_targeted_fields removes: leave one of \
                 them out, or remove CDN-Cache-Control from targeted_fields",
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
            Self::BracesInPath(path) => write!(
                f,
                "the path {path:?} of a rule has braces, so it matches no path with a value in \
                 their place: use Rule::pattern({path:?}) for parameters"
            ),
            Self::StarInPath(path) => match path.strip_suffix("/*") {
                Some(prefix) if !prefix.contains('*') => write!(
                    f,
                    "the path {path:?} of a rule ends with `*`, which matches no other text: use \
                     Rule::prefix({:?}) for all paths below it",
                    if prefix.is_empty() { "/" } else { prefix }
                ),
                _ => write!(
                    f,
                    "the path {path:?} of a rule has `*`, which matches no other text: use a \
                     parameter in Rule::pattern, as in \"/posts/{{id}}/edit\", or Rule::prefix for \
                     all paths below one"
                ),
            },
            Self::QueryInPath(path) => write!(
                f,
                "the path {path:?} of a rule has a query, and paths are compared without it: use \
                 Policy::query to choose the parameters in the cache key, or Rule::when to match \
                 requests by their query"
            ),
            Self::EncodedPath { path, decoded } => write!(
                f,
                "the path {path:?} of a rule is percent-encoded, and paths are decoded before they \
                 are compared: write {decoded:?}"
            ),
            Self::NoCachingRule => f.write_str(
                "rules_only() is set and no rule caches requests, so no response could be stored: \
                 add a rule without bypass(), or remove rules_only()",
            ),
            Self::UnknownCoding(coding) => write!(
                f,
                "vary_codings has {coding:?}, which is no content coding: use names as in \
                 Content-Encoding, such as \"br\" (brotli), \"gzip\", \"zstd\" or \"deflate\""
            ),
            Self::InvalidLanguage(tag) => write!(
                f,
                "vary_languages has {tag:?}, which is no language tag: use tags like \"de\" or \
                 \"pt-BR\""
            ),
            Self::EmptyList { setting } => write!(
                f,
                "{setting} has an empty list: name all that the handlers offer, or leave it out"
            ),
            Self::CodingNotEnabled(coding) => write!(
                f,
                "Compression::codings has the coding {coding}, which this build cannot make: \
                 enable the feature {} of actix-web-cache",
                match *coding {
                    "br" => "compress-brotli",
                    "zstd" => "compress-zstd",
                    _ => "compress-gzip",
                }
            ),
            Self::NoCodingEnabled => f.write_str(
                "compress is set, but this build can make no coding: enable a feature of \
                 actix-web-cache, compress-brotli, compress-gzip or compress-zstd",
            ),
            Self::InvalidMediaType(text) => write!(
                f,
                "Compression::types has {text:?}: use a media type such as \"application/json\", \
                 \"text/*\" or \"*+json\""
            ),
            Self::StarInName { setting: setting @ "vary_cookie", name } => write!(
                f,
                "{setting} has the name {name:?}, and `*` matches no other names in it: name each \
                 cookie"
            ),
            Self::StarInName { setting, name } => write!(
                f,
                "{setting} has the name {name:?}, and `*` matches other names only at the end: use \
                 a beginning like \"utm_*\", or name each of them"
            ),
            Self::InvalidCookieName(name) => write!(
                f,
                "{name:?} is not the name of a cookie: use the text before the equals sign, such as \
                 \"lang\""
            ),
            Self::CookieIgnoredAndKeyed(name) => write!(
                f,
                "the cookie {name:?} is in ignore_cookies and in vary_cookie: remove it from \
                 ignore_cookies if responses depend on it, or else from vary_cookie"
            ),
            Self::EmptyOptionsName => {
                f.write_str("options have an empty name: name them as in CachePolicy::named")
            }
            Self::RepeatedOptions(name) => {
                write!(f, "the options {name:?} are set twice: remove or rename one of them")
            }
            Self::EmptyTag => f.write_str("a tag is empty: name it, or remove it"),
            Self::TagTooLong(tag) => write!(
                f,
                "the tag {tag:?} has {} bytes, and responses with a tag of more than 256 bytes are \
                 not stored: use a shorter one",
                tag.len()
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
