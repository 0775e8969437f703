//! Rules: which requests and responses are treated in which way.

use std::{fmt, panic, sync::Arc, time::Duration};

use actix_web::dev::{Path, ResourceDef, ServiceRequest};

use super::{
    ConfigError, QueryKey,
    tagging::{CompiledTagging, Tagging},
};
use crate::entry::limits::may_have_status;

/// Treats some requests or responses differently from the policy.
///
/// Rules are tried in order, and the first that matches decides. Paths are compared as actix
/// routes them: percent-encoded characters that need no encoding are decoded, the query is no
/// part of it.
///
/// ```
/// # use std::time::Duration;
/// # use actix_web_cache::{QueryKey, Rule};
/// let rules = [
///     Rule::path("/health").bypass(),
///     Rule::pattern("/posts/{id}").ttl(Duration::from_secs(600)),
///     Rule::prefix("/search").query(QueryKey::only(["q", "page"])),
///     Rule::any().status([404]).ttl(Duration::from_secs(5)),
/// ];
/// ```
#[derive(Clone)]
pub struct Rule {
    paths: Paths,
    whens: Vec<Predicate>,
    pub(super) statuses: Vec<u16>,
    pub(super) handling: Handling,
    pub(super) ttl: Option<Duration>,
    pub(super) override_ttl: Option<Duration>,
    pub(super) client_ttl: Option<Duration>,
    pub(super) query: Option<QueryKey>,
    pub(super) tags: Vec<Tagging>,
}

/// Tells whether a rule is for a request.
type Predicate = Arc<dyn Fn(&ServiceRequest) -> bool + Send + Sync>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    Cache,
    Bypass,
}

#[derive(Clone)]
enum Paths {
    Any,
    Exact(String),
    Prefix(String),
    /// As written; what it compiles to is made when the cache is built.
    Pattern(String),
    #[cfg(feature = "regex")]
    Regex(String),
}

impl Rule {
    /// For every request.
    #[must_use]
    pub const fn any() -> Self {
        Self::new(Paths::Any)
    }

    /// For exactly this path.
    #[must_use]
    pub fn path(path: impl Into<String>) -> Self {
        Self::new(Paths::Exact(path.into()))
    }

    /// For this path and all below it: `/api` stands for `/api` and `/api/users`, not for
    /// `/apix`; `/api/` only for what is below.
    #[must_use]
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::new(Paths::Prefix(prefix.into()))
    }

    /// For paths of this pattern, written as in `web::resource`: `/posts/{id}`.
    #[must_use]
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self::new(Paths::Pattern(pattern.into()))
    }

    /// For paths that this regular expression matches from beginning to end.
    #[cfg(feature = "regex")]
    #[cfg_attr(docsrs, doc(cfg(feature = "regex")))]
    #[must_use]
    pub fn regex(pattern: impl Into<String>) -> Self {
        Self::new(Paths::Regex(pattern.into()))
    }

    /// Only for requests that `predicate` accepts, in addition to the path. It is asked on every
    /// request, before the store is.
    #[must_use]
    pub fn when(
        mut self,
        predicate: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.whens.push(Arc::new(predicate));
        self
    }

    /// Only for responses with one of these status codes. Such a rule is tried when the response
    /// is there; until then the request is looked up as the rules after it say.
    #[must_use]
    pub fn status(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.statuses.extend(statuses);
        self
    }

    /// Not cached: neither looked up nor stored, and no field touched but `Cache-Status`. With
    /// [`status`](Self::status), only not stored.
    #[must_use]
    pub const fn bypass(mut self) -> Self {
        self.handling = Handling::Bypass;
        self
    }

    /// The lifetime of responses that state none. Zero: such responses are not stored.
    ///
    /// It holds for status codes that the policy gives lifetimes to (200, 203, 301, 308, and those
    /// of [`Policy::status_ttl`](super::Policy::status_ttl)), or those of [`status`](Self::status).
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The lifetime, whatever the response and the handler say of it. Zero: not cached.
    ///
    /// It does not outweigh refusals: `no-store`, `private`, `Set-Cookie` and the like are never
    /// stored, and what says `no-cache` is not used without asking its handler.
    #[must_use]
    pub const fn override_ttl(mut self, ttl: Duration) -> Self {
        self.override_ttl = Some(ttl);
        self
    }

    /// How long clients may keep what this cache gives them; see
    /// [`Policy::client_ttl`](super::Policy::client_ttl).
    #[must_use]
    pub const fn client_ttl(mut self, ttl: Duration) -> Self {
        self.client_ttl = Some(ttl);
        self
    }

    /// Which parameters of the query are part of the key.
    #[must_use]
    pub fn query(mut self, query: QueryKey) -> Self {
        self.query = Some(query);
        self
    }

    /// Tags responses, so that [`CacheHandle::purge_tag`](crate::CacheHandle::purge_tag) finds
    /// them: `post:{id}` on `Rule::pattern("/posts/{id}")` is `post:1` for `/posts/1`. Parameters
    /// are those of the rule's own pattern, decoded as `web::Path` decodes them. Several add up.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(Tagging::Text(tag.into()));
        self
    }

    /// Tags responses by anything in the request; `None` gives no tag. It is asked before the
    /// handler is, and not on hits.
    #[must_use]
    pub fn tag_with(
        mut self,
        tag: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(Tagging::With(Arc::new(tag)));
        self
    }

    const fn new(paths: Paths) -> Self {
        Self {
            paths,
            whens: Vec::new(),
            statuses: Vec::new(),
            handling: Handling::Cache,
            ttl: None,
            override_ttl: None,
            client_ttl: None,
            query: None,
            tags: Vec::new(),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &self.paths {
            Paths::Any => "any",
            Paths::Exact(path) | Paths::Prefix(path) | Paths::Pattern(path) => path,
            #[cfg(feature = "regex")]
            Paths::Regex(path) => path,
        };
        f.debug_struct("Rule")
            .field("path", &path)
            .field("predicates", &self.whens.len())
            .field("statuses", &self.statuses)
            .field("handling", &self.handling)
            .field("ttl", &self.ttl)
            .field("override_ttl", &self.override_ttl)
            .field("client_ttl", &self.client_ttl)
            .field("query", &self.query)
            .field("tags", &self.tags)
            .finish()
    }
}

/// A rule that was found to make sense, ready for matching.
#[derive(Debug, Clone)]
pub(super) struct CompiledRule {
    pub(super) rule: Rule,
    pub(super) tags: Vec<CompiledTagging>,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    Any,
    Exact(String),
    Prefix(String),
    Pattern(ResourceDef),
    #[cfg(feature = "regex")]
    Regex(regex::Regex),
}

impl Matcher {
    /// The names of its parameters.
    fn parameters(&self) -> Vec<String> {
        match self {
            // Brackets that a parameter's own expression has are not asked for.
            Self::Pattern(pattern) => {
                let text = pattern.pattern().unwrap_or_default();
                let begun = text.split('{').skip(1);
                begun.filter_map(|text| text.split([':', '}']).next()).map(str::to_owned).collect()
            }
            #[cfg(feature = "regex")]
            Self::Regex(regex) => regex.capture_names().flatten().map(str::to_owned).collect(),
            Self::Any | Self::Exact(_) | Self::Prefix(_) => Vec::new(),
        }
    }
}

/// Whether a rule is for a URL, as far as the URL alone tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlMatch {
    No,
    Yes,
    /// A predicate would have to see the request.
    Perhaps,
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
        if let Some(&status) = rule.statuses.iter().find(|status| !storable(**status)) {
            return Err(ConfigError::Status(status));
        }
        let matcher = match &rule.paths {
            Paths::Any => Matcher::Any,
            Paths::Exact(path) => Matcher::Exact(absolute(path)?),
            Paths::Prefix(path) => Matcher::Prefix(absolute(path)?),
            Paths::Pattern(pattern) => Matcher::Pattern(resource(&absolute(pattern)?)?),
            #[cfg(feature = "regex")]
            Paths::Regex(pattern) => Matcher::Regex(anchored(pattern)?),
        };
        let parameters = matcher.parameters();
        let tags =
            rule.tags.iter().map(|tag| tag.checked(&parameters)).collect::<Result<_, _>>()?;
        Ok(Self { rule, tags, matcher })
    }

    /// Whether the rule is for this request; `path` is the one actix routes by.
    pub(super) fn matches(&self, request: &ServiceRequest, path: &str) -> bool {
        self.path_matches(path) && self.rule.whens.iter().all(|when| when(request))
    }

    pub(super) fn matches_url(&self, path: &str) -> UrlMatch {
        match self.path_matches(path) {
            false => UrlMatch::No,
            true if self.rule.whens.is_empty() => UrlMatch::Yes,
            true => UrlMatch::Perhaps,
        }
    }

    /// What a path has for one of its parameters, as routing left it.
    pub(super) fn parameter(&self, path: &str, name: &str) -> Option<String> {
        match &self.matcher {
            Matcher::Pattern(pattern) => {
                let mut found = Path::new(path);
                pattern.capture_match_info(&mut found);
                found.get(name).map(str::to_owned)
            }
            #[cfg(feature = "regex")]
            Matcher::Regex(regex) => Some(regex.captures(path)?.name(name)?.as_str().to_owned()),
            Matcher::Any | Matcher::Exact(_) | Matcher::Prefix(_) => None,
        }
    }

    /// Whether it waits for the response's status.
    pub(super) fn waits(&self) -> bool {
        !self.rule.statuses.is_empty()
    }

    fn path_matches(&self, path: &str) -> bool {
        match &self.matcher {
            Matcher::Any => true,
            Matcher::Exact(exact) => path == exact,
            Matcher::Prefix(prefix) => below(path, prefix),
            Matcher::Pattern(pattern) => pattern.is_match(path),
            #[cfg(feature = "regex")]
            Matcher::Regex(regex) => regex.is_match(path),
        }
    }
}

/// Whole segments only.
fn below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
}

/// Status codes that a rule can name: those of RFC 9110 section 15 whose responses can be stored.
pub(super) const fn storable(status: u16) -> bool {
    status < 600 && may_have_status(status)
}

fn absolute(path: &str) -> Result<String, ConfigError> {
    if path.starts_with('/') {
        Ok(path.to_owned())
    } else {
        Err(ConfigError::Path(path.to_owned()))
    }
}

/// actix panics on patterns it cannot read.
fn resource(pattern: &str) -> Result<ResourceDef, ConfigError> {
    let wrong = |reason: &str| ConfigError::Pattern {
        pattern: pattern.to_owned(),
        reason: reason.to_owned(),
    };
    // The commonest mistakes are told without a panic message in the log.
    let mut depth = 0_usize;
    for byte in pattern.bytes() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1).ok_or_else(|| wrong("a brace is not opened"))?,
            _ => {}
        }
    }
    if depth != 0 {
        return Err(wrong("a brace is not closed"));
    }
    if pattern.contains("{}") || pattern.contains("{:") {
        return Err(wrong("a parameter has no name"));
    }
    panic::catch_unwind(|| ResourceDef::new(pattern)).map_err(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        wrong(text.or_else(|| cause.downcast_ref().copied()).unwrap_or("it is refused"))
    })
}

#[cfg(feature = "regex")]
fn anchored(pattern: &str) -> Result<regex::Regex, ConfigError> {
    let wrong = |error: regex::Error| ConfigError::Regex {
        pattern: pattern.to_owned(),
        reason: error.to_string(),
    };
    // By itself first: the group around it could make sense of what makes none.
    regex::Regex::new(pattern).map_err(wrong)?;
    regex::Regex::new(&format!("^(?:{pattern})$")).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn matches(rule: Rule, path: &str) -> bool {
        let request = TestRequest::with_uri(path).to_srv_request();
        let decoded = request.match_info().as_str().to_owned();
        CompiledRule::new(rule).unwrap().matches(&request, &decoded)
    }

    #[test]
    fn rules_match_exactly_by_whole_segments_or_by_pattern() {
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
    fn regular_expressions_match_the_whole_path() {
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
    fn a_rule_that_cannot_work_is_refused_with_advice() {
        let second = Duration::from_secs(1);
        for (rule, say) in [
            (Rule::path("health"), "does not begin with '/'"),
            (Rule::prefix(""), "does not begin with '/'"),
            (Rule::pattern("posts/{id}"), "does not begin with '/'"),
            (Rule::pattern("/posts/{id"), "a brace is not closed"),
            (Rule::pattern("/posts/id}"), "a brace is not opened"),
            (Rule::pattern("/posts/{}"), "has no name"),
            (Rule::pattern("/posts/{id:[}"), "is not one of actix"),
            (Rule::any().status([304]), "status 304"),
            (Rule::any().status([200, 99]), "status 99"),
            (Rule::any().status([600]), "status 600"),
            (Rule::any().bypass().ttl(second), "both bypass() and a lifetime"),
            (Rule::any().bypass().override_ttl(second), "both bypass() and a lifetime"),
            (Rule::any().status([200]).query(QueryKey::sorted()), "both status() and query()"),
        ] {
            let error = CompiledRule::new(rule.clone()).expect_err("refused");
            assert!(error.to_string().contains(say), "{rule:?}: {error}");
        }
    }

    #[test]
    fn a_predicate_cannot_be_asked_about_a_url() {
        let rule = |rule| CompiledRule::new(rule).unwrap();
        assert_eq!(rule(Rule::path("/a")).matches_url("/a"), UrlMatch::Yes);
        assert_eq!(rule(Rule::path("/a")).matches_url("/b"), UrlMatch::No);
        assert_eq!(rule(Rule::path("/a").when(|_| false)).matches_url("/a"), UrlMatch::Perhaps);
    }
}
