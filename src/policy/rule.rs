//! `Rule`: an exception from the policy for some requests or responses.

use std::{fmt, time::Duration};

use actix_web::dev::ServiceRequest;

use super::{
    query::QueryKey,
    tagging::Tagging,
    values::{RequestTest, RequestText},
};

/// An exception from the [`Policy`](crate::Policy) for some requests or responses.
///
/// Rules are tried in the order in which they were added, and the first rule that matches applies.
/// The path of a rule is compared with the path by which actix routes a request. In the path of the
/// request, percent-encoded characters that need no encoding are decoded. The query is not part of
/// the path.
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
///
/// # Errors
///
/// The constructors and setters accept every value.
/// [`CacheBuilder::build`](crate::CacheBuilder::build) returns a
/// [`ConfigError`](crate::ConfigError) if a value is invalid.
#[derive(Clone)]
#[must_use]
pub struct Rule {
    pub(super) path: PathRule,
    pub(super) predicates: Vec<RequestTest>,
    pub(super) statuses: Vec<u16>,
    pub(super) handling: Handling,
    pub(super) ttl: Option<Duration>,
    pub(super) override_ttl: Option<Duration>,
    pub(super) client_ttl: Option<Duration>,
    pub(super) query: Option<QueryKey>,
    pub(super) tags: Vec<Tagging>,
}

/// Whether requests and responses that a rule matches are cached or bypass the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    Cache,
    Bypass,
}

/// The paths that a rule matches, as the application configured them.
#[derive(Debug, Clone)]
pub(super) enum PathRule {
    Any,
    Exact(String),
    Prefix(String),
    Pattern(String),
    #[cfg(feature = "regex")]
    Regex(String),
}

impl Rule {
    /// Creates a rule for every request.
    pub fn any() -> Self {
        Self::new(PathRule::Any)
    }

    /// Creates a rule for this path only.
    pub fn path(path: impl Into<String>) -> Self {
        Self::new(PathRule::Exact(path.into()))
    }

    /// Creates a rule for this path and all paths below it.
    ///
    /// Whole segments match: `/api` matches `/api` and `/api/users`, but not `/apix`. `/api/`
    /// matches `/api/` and `/api/users`, but not `/api`.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::new(PathRule::Prefix(prefix.into()))
    }

    /// Creates a rule for the paths that match a pattern, in the syntax of
    /// [`web::resource`](actix_web::web::resource): `/posts/{id}`, `/posts/{id:\d+}`,
    /// `/files/{tail}*`.
    ///
    /// A pattern can have up to 16 parameters. In `{name:expression}`, the regular expression can
    /// contain characters, `.`, classes in brackets, `\d`, `\s`, `\w` and their negations, groups,
    /// alternatives and repetitions. For other expressions, use `Rule::regex` (feature `regex`) or
    /// [`when`](Self::when).
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self::new(PathRule::Pattern(pattern.into()))
    }

    /// Creates a rule for the paths that this regular expression matches from beginning to end.
    #[cfg(feature = "regex")]
    #[cfg_attr(docsrs, doc(cfg(feature = "regex")))]
    pub fn regex(pattern: impl Into<String>) -> Self {
        Self::new(PathRule::Regex(pattern.into()))
    }

    /// Limits the rule to requests for which `predicate` returns true.
    ///
    /// The cache calls `predicate` for requests with a matching path, before the lookup. If several
    /// predicates are set, all must return true.
    pub fn when(
        mut self,
        predicate: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.predicates.push(RequestTest::new(predicate));
        self
    }

    /// Limits the rule to responses with one of these status codes.
    ///
    /// The cache applies a rule with status codes once the handler has answered. For the lookup
    /// before that, the cache uses the next matching rule without `status`, or the policy. Several
    /// calls add up.
    pub fn status(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.statuses.extend(statuses);
        self
    }

    /// Bypasses the cache: requests are not looked up, and responses are not stored.
    ///
    /// The cache adds no field but `Cache-Status` to the response. In a rule with
    /// [`status`](Self::status), `bypass` only prevents the cache from storing the response,
    /// because the cache looks up a request before the status code is known. A rule cannot have
    /// both `bypass` and a lifetime.
    pub fn bypass(mut self) -> Self {
        self.handling = Handling::Bypass;
        self
    }

    /// Sets the lifetime of responses that state none.
    ///
    /// Without [`status`](Self::status), the lifetime applies to responses with status 200, 203,
    /// 301 or 308. With `status`, the lifetime applies to the codes of the rule instead, and takes
    /// precedence over [`Policy::status_ttl`](crate::Policy::status_ttl). With zero, such responses
    /// are stale at once. The cache then stores a response only if it can be revalidated or served
    /// stale.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the lifetime of responses, regardless of the lifetime that the response states or the
    /// handler sets.
    ///
    /// Without [`status`](Self::status), the lifetime applies to responses with status 200, 203,
    /// 301 or 308. With `status`, the lifetime applies to the codes of the rule instead.
    ///
    /// Without `status`, a lifetime of zero bypasses the cache. With `status`, a lifetime of zero
    /// makes the responses stale at once.
    ///
    /// The rule does not override refusals: a response with `no-store`, `private` or `Set-Cookie`,
    /// for example, is not stored. A response with `no-cache` is revalidated before every use.
    pub fn override_ttl(mut self, ttl: Duration) -> Self {
        self.override_ttl = Some(ttl);
        self
    }

    /// Sets the longest time for which clients may keep a response; see
    /// [`Policy::client_ttl`](crate::Policy::client_ttl).
    pub fn client_ttl(mut self, ttl: Duration) -> Self {
        self.client_ttl = Some(ttl);
        self
    }

    /// Sets which parameters of the query are part of the cache key; see
    /// [`Policy::query`](crate::Policy::query).
    ///
    /// A rule cannot have both `query` and [`status`](Self::status).
    pub fn query(mut self, query: QueryKey) -> Self {
        self.query = Some(query);
        self
    }

    /// Gives responses a tag (surrogate key) for
    /// [`CacheHandle::purge_tag`](crate::CacheHandle::purge_tag).
    ///
    /// The tag can contain parameters of the rule's own path. For example, `post:{id}` in
    /// `Rule::pattern("/posts/{id}")` becomes `post:1` for `/posts/1`. The values of parameters are
    /// decoded as [`web::Path`](actix_web::web::Path) decodes them. Several calls add up.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(Tagging::Text(tag.into()));
        self
    }

    /// Gives responses a tag that the function `tag` computes from the request. `None` adds no tag.
    ///
    /// The cache calls `tag` before it calls the handler, and does not call `tag` on a hit.
    pub fn tag_with(
        mut self,
        tag: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(Tagging::Computed(RequestText::new(tag)));
        self
    }

    const fn new(path: PathRule) -> Self {
        Self {
            path,
            predicates: Vec::new(),
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
        f.debug_struct("Rule")
            .field("path", &self.path)
            .field("predicates", &self.predicates.len())
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
