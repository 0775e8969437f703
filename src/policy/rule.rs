//! Exceptions from the policy for some requests or responses.

use std::{fmt, sync::Arc, time::Duration};

use actix_web::dev::ServiceRequest;

use super::{query::QueryKey, tagging::Tagging, values::RequestText};

/// An exception from the [`Policy`](crate::Policy) for some requests or responses.
///
/// The first rule that matches decides; rules are tried in the order in which they were added.
/// A rule matches paths as actix routes them: percent-encoded characters that need no encoding
/// are decoded, and the query is not part of the path.
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
/// Constructors and setters accept every value.
/// [`CacheBuilder::build`](crate::CacheBuilder::build) returns a
/// [`ConfigError`](crate::ConfigError) if a value cannot work.
#[derive(Clone)]
#[must_use]
pub struct Rule {
    pub(super) path: PathRule,
    pub(super) predicates: Vec<Predicate>,
    pub(super) statuses: Vec<u16>,
    pub(super) handling: Handling,
    pub(super) ttl: Option<Duration>,
    pub(super) override_ttl: Option<Duration>,
    pub(super) client_ttl: Option<Duration>,
    pub(super) query: Option<QueryKey>,
    pub(super) tags: Vec<Tagging>,
}

/// A function of the application that decides whether a rule applies to a request.
pub(super) type Predicate = Arc<dyn Fn(&ServiceRequest) -> bool + Send + Sync>;

/// The treatment of a rule's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    Cache,
    Bypass,
}

/// The paths that a rule matches, as configured.
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

    /// Creates a rule for exactly this path.
    pub fn path(path: impl Into<String>) -> Self {
        Self::new(PathRule::Exact(path.into()))
    }

    /// Creates a rule for this path and all paths below it.
    ///
    /// Whole segments match: `/api` matches `/api` and `/api/users`, but not `/apix`. `/api/`
    /// matches only paths below it.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        Self::new(PathRule::Prefix(prefix.into()))
    }

    /// Creates a rule for the paths of a pattern, written as for
    /// [`web::resource`](actix_web::web::resource): `/posts/{id}`, `/posts/{id:\d+}`,
    /// `/files/{tail}*`.
    ///
    /// There can be 16 parameters. The expression of a parameter can contain characters, `.`,
    /// brackets, `\d`, `\s`, `\w` and their negations, groups, alternatives and repetitions. For
    /// other expressions, use `Rule::regex` (feature `regex`) or [`when`](Self::when).
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
    /// The cache calls `predicate` for every request with a matching path, before the lookup.
    /// Several predicates must all return true.
    pub fn when(
        mut self,
        predicate: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.predicates.push(Arc::new(predicate));
        self
    }

    /// Limits the rule to responses with one of these status codes.
    ///
    /// Such a rule applies when the handler has answered. The lookup before that follows the next
    /// matching rule without `status`, or the policy. Several calls add up.
    pub fn status(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.statuses.extend(statuses);
        self
    }

    /// Bypasses the cache: requests are not looked up, and responses are not stored.
    ///
    /// The response is not changed, except that it gets `Cache-Status`. With
    /// [`status`](Self::status), only storing is bypassed. It cannot be combined with a lifetime.
    pub fn bypass(mut self) -> Self {
        self.handling = Handling::Bypass;
        self
    }

    /// Sets the lifetime of responses that state none.
    ///
    /// It applies to status 200, 203, 301 and 308 and to the codes of
    /// [`Policy::status_ttl`](crate::Policy::status_ttl); with [`status`](Self::status), it
    /// applies to the codes of the rule instead. With zero, such responses are stale at once: they
    /// are stored only if they can be revalidated or used stale.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the lifetime of responses, whatever lifetime the response states or the handler sets.
    ///
    /// Zero bypasses the cache. It does not override refusals: a response with `no-store`,
    /// `private`, `Set-Cookie` and the like is not stored, and one with `no-cache` is revalidated
    /// before every use.
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
    /// [`Policy::query`](crate::Policy::query). It cannot be combined with
    /// [`status`](Self::status).
    pub fn query(mut self, query: QueryKey) -> Self {
        self.query = Some(query);
        self
    }

    /// Gives responses a tag (surrogate key) for
    /// [`CacheHandle::purge_tag`](crate::CacheHandle::purge_tag).
    ///
    /// The tag can contain parameters of the rule's own path: `post:{id}` on
    /// `Rule::pattern("/posts/{id}")` is `post:1` for `/posts/1`. Values are decoded as
    /// [`web::Path`](actix_web::web::Path) decodes them. Several calls add up.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(Tagging::Text(tag.into()));
        self
    }

    /// Gives responses a tag that is computed from the request. `None` adds no tag.
    ///
    /// The cache calls `tag` before the handler, and not on hits.
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
