//! `Rule`: a policy of its own for some requests, or the exception that they bypass the cache.

use std::{fmt, sync::Arc};

use actix_web::{dev::ServiceRequest, http::Method};

use super::{settings::Policy, values::RequestTest};

/// A policy of its own for some requests, or the exception that these requests bypass the cache.
///
/// Rules are tried in the order in which they were added, and the first rule that matches applies.
/// The path of a rule is compared with the path by which actix routes a request. In the path of the
/// request, percent-encoded characters that need no encoding are decoded. The query is not part of
/// the path. In a scope, a rule still names the whole path, with the path of the scope,
/// unless it is [`relative`](Self::relative).
///
/// A rule without [`with`](Self::with) and [`bypass`](Self::bypass) applies the policy of the cache
/// and ends the search for other rules.
///
/// ```
/// # use std::time::Duration;
/// # use actix_web_cache::{QueryKey, Rule};
/// let hour = Duration::from_secs(3600);
/// let rules = [
///     Rule::path("/health").bypass(),
///     Rule::prefix("/blog").with(move |policy| {
///         policy.default_ttl(hour).stale_while_revalidate(24 * hour)
///     }),
///     Rule::pattern("/posts/{id}").with(|policy| policy.tag("post:{id}")),
///     Rule::prefix("/search").with(|policy| policy.query(QueryKey::only(["q", "page"]))),
/// ];
/// ```
///
/// # In a file
///
/// With the feature `serde`, a rule can be deserialized, such as in a `CacheFile`. A rule has one of
/// the keys `path`, `prefix`, `pattern` and `regex`, or `any = true` for all paths. All other keys are
/// optional: `relative = true`, `methods` and `hosts` (a text or a list), and either `bypass = true`
/// or `policy`, a table of `PolicyChanges`.
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
    pub(super) compared: ComparedPath,
    pub(super) methods: Vec<Method>,
    pub(super) hosts: Vec<String>,
    pub(super) predicates: Vec<RequestTest>,
    pub(super) handling: Handling,
    pub(super) changes: Vec<PolicyChange>,
}

/// Whether requests that a rule matches are cached or bypass the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handling {
    Cache,
    Bypass,
}

/// The paths that a rule matches, as the application configured them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PathRule {
    Any,
    Exact(String),
    Prefix(String),
    Pattern(String),
    #[cfg(feature = "regex")]
    Regex(String),
}

/// The part of a request's path with which a rule compares its own path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ComparedPath {
    Whole,
    /// The part below the scope in which the cache is.
    BelowScope,
}

impl ComparedPath {
    /// Returns this part of the path by which actix routes a request.
    pub(super) fn of(self, request: &ServiceRequest) -> &str {
        match self {
            Self::Whole => request.match_info().as_str(),
            Self::BelowScope => request.match_info().unprocessed(),
        }
    }
}

/// A change that a rule or a scope makes to the policy of its cache.
#[derive(Clone)]
pub(crate) struct PolicyChange(Arc<dyn Fn(Policy) -> Policy + Send + Sync>);

impl fmt::Debug for PolicyChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("function")
    }
}

impl PolicyChange {
    pub(super) fn new(change: impl Fn(Policy) -> Policy + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    /// Returns the changed policy.
    pub(super) fn apply(&self, policy: Policy) -> Policy {
        (self.0)(policy)
    }
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

    /// Compares the path of the rule with the part of the path below the scope in which the cache is.
    ///
    /// In a cache around `web::scope("/blog")`, the rule `Rule::prefix("/posts").relative()` matches
    /// `/blog/posts/1`. In nested scopes, the part is the one below the innermost scope around the
    /// cache. It is empty for the path of the scope itself, `/blog`, so a relative rule can have the
    /// empty path: `Rule::path("").relative()`. In a cache around the whole application, the part is
    /// the whole path. Around a resource or a route, the part is empty, because these match the
    /// whole path.
    ///
    /// A purge of a URL does not know the scope of the URL, and reaches the responses that were
    /// stored under any relative rule.
    ///
    /// ```
    /// # use actix_web::web;
    /// # use actix_web_cache::{Cache, MemoryStore, Rule};
    /// # fn main() -> Result<(), actix_web_cache::ConfigError> {
    /// let blog = Cache::builder(MemoryStore::new(64 * 1024 * 1024))
    ///     .rule(Rule::path("/drafts").relative().bypass())
    ///     .build()?;
    /// let scope = web::scope("/blog").wrap(blog); // `/blog/drafts` bypasses the cache
    /// # let _: actix_web::Scope<_> = scope;
    /// # Ok(())
    /// # }
    /// ```
    pub fn relative(mut self) -> Self {
        self.compared = ComparedPath::BelowScope;
        self
    }

    /// Limits the rule to requests with this method. After several calls, any of the methods matches.
    ///
    /// `GET` and `HEAD` include each other, because a stored response answers both. A rule for an
    /// unsafe method, such as `POST`, decides which stored responses a request purges
    /// ([`Policy::no_purge_by_requests`]), or that the requests only read
    /// ([`Policy::cache_posts_by_body`]).
    pub fn method(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }

    /// Limits the rule to requests for this host, such as `api.example.com`. After several calls, any
    /// of the hosts matches.
    ///
    /// Case is ignored. A host without a port matches requests with any port, and a host with the
    /// port 80 or 443 also matches requests without a port. `*.example.com` matches all hosts below
    /// `example.com`.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.hosts.push(host.into());
        self
    }

    /// Limits the rule to requests for which `predicate` returns true.
    ///
    /// The cache calls `predicate` for requests with a matching path, method and host, before the
    /// lookup or the purge. If several predicates are set, all must return true.
    pub fn when(
        mut self,
        predicate: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.predicates.push(RequestTest::new(predicate));
        self
    }

    /// Bypasses the cache: requests are not looked up, and responses are not stored.
    ///
    /// The cache adds no field but `Cache-Status` to the response. An unsafe request, such as a
    /// `POST`, still purges what the policy of the cache says, and this policy decides whether the
    /// response is compressed ([`Policy::compress`]). A rule cannot have both `bypass` and
    /// [`with`](Self::with).
    pub fn bypass(mut self) -> Self {
        self.handling = Handling::Bypass;
        self
    }

    /// Gives the requests that the rule matches another policy. The function `change` receives the
    /// policy of the cache, and returns the policy of the rule.
    ///
    /// A rule can change every setting of [`Policy`]. Its [tags](Policy::tag) can contain the
    /// parameters of its path. After several calls, the changes are made one after another. The
    /// cache calls `change` at start-up, and again for each [`Cache::with`](crate::Cache::with).
    pub fn with(mut self, change: impl Fn(Policy) -> Policy + Send + Sync + 'static) -> Self {
        self.changes.push(PolicyChange::new(change));
        self
    }

    /// Returns whether the rule has the same path, methods and hosts as another rule.
    pub(super) fn has_conditions_of(&self, other: &Self) -> bool {
        self.path == other.path
            && self.compared == other.compared
            && self.methods == other.methods
            && self.hosts == other.hosts
    }

    /// Returns whether requests that the rule matches bypass the cache.
    pub(super) fn is_bypass(&self) -> bool {
        self.handling == Handling::Bypass
    }

    /// Returns what the rule is for, to name it in a message.
    pub(crate) fn subject(&self) -> impl fmt::Display + '_ {
        &self.path
    }

    const fn new(path: PathRule) -> Self {
        Self {
            path,
            compared: ComparedPath::Whole,
            methods: Vec::new(),
            hosts: Vec::new(),
            predicates: Vec::new(),
            handling: Handling::Cache,
            changes: Vec::new(),
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("path", &self.path)
            .field("compared", &self.compared)
            .field("methods", &self.methods)
            .field("hosts", &self.hosts)
            .field("predicates", &self.predicates.len())
            .field("handling", &self.handling)
            .field("changes", &self.changes.len())
            .finish()
    }
}

/// Names the rule in a message.
impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any path"),
            Self::Exact(path) => write!(f, "the path {path:?}"),
            Self::Prefix(prefix) => write!(f, "the prefix {prefix:?}"),
            Self::Pattern(pattern) => write!(f, "the pattern {pattern:?}"),
            #[cfg(feature = "regex")]
            Self::Regex(pattern) => write!(f, "the regular expression {pattern:?}"),
        }
    }
}
