//! `PolicySet`: the policy of a cache and the policies of its rules. It chooses the policy of each
//! request.

use std::{
    iter,
    sync::atomic::{AtomicBool, Ordering},
};

use actix_web::{
    dev::{ServiceRequest, Url},
    http::Method,
};

use super::{
    cache_name::CacheName,
    compiled::CompiledPolicy,
    compiled_rule::{CompiledRule, UrlMatch},
    error::ConfigError,
    fingerprint::RuleOrigin,
    misplaced_rules::{MisplacedRule, misplaced_rule},
    rule::{PolicyChange, Rule},
    rule_index::RuleIndex,
    settings::Policy,
};
use crate::entry::{
    url::UrlTarget,
    url_keys::{AppliedRule, UrlKey},
};

/// Whether requests that match no rule follow the policy of the cache or bypass the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// Requests that match no rule follow the policy of the cache.
    Policy,
    /// Requests that match no rule bypass the cache.
    Pass,
}

/// The policy and the rules of a cache, as the application configured them.
#[derive(Debug, Clone)]
pub(crate) struct PolicyConfig {
    pub(crate) policy: Policy,
    pub(crate) rules: Vec<Rule>,
    pub(crate) unmatched: Unmatched,
    /// The changes that scopes make to the policy and, after their own changes, to those of rules.
    pub(crate) changes: Vec<PolicyChange>,
}

/// The checked policy of a cache and the checked policies of its rules.
#[derive(Debug)]
pub(crate) struct PolicySet {
    config: PolicyConfig,
    /// The policy of the cache.
    base: CompiledPolicy,
    rules: Vec<CompiledRule>,
    index: RuleIndex,
    /// Whether [`misplaced_rule`](Self::misplaced_rule) has found a rule.
    found_misplaced_rule: AtomicBool,
    /// Whether any of the policies stores responses to `POST`.
    pub(crate) stores_posts: bool,
}

impl PolicyConfig {
    /// Makes the default policy without rules.
    pub(crate) fn new() -> Self {
        let (policy, unmatched) = (Policy::new(), Unmatched::Policy);
        Self { policy, rules: Vec::new(), unmatched, changes: Vec::new() }
    }

    /// Returns a copy in which the policy of the cache and those of its rules are changed, and the
    /// policy of the cache applies to requests that no rule matches.
    pub(crate) fn with(&self, change: impl Fn(Policy) -> Policy + Send + Sync + 'static) -> Self {
        let mut config = Self { unmatched: Unmatched::Policy, ..self.clone() };
        config.changes.push(PolicyChange::new(change));
        config
    }

    /// Returns the policy that `first` and then the scopes make of the policy of the cache.
    pub(super) fn changed(&self, first: &[PolicyChange]) -> Policy {
        let changes = first.iter().chain(&self.changes);
        changes.fold(self.policy.clone(), |policy, change| change.apply(policy))
    }
}

impl PolicySet {
    /// Checks and compiles a configuration.
    pub(crate) fn new<'a>(
        config: PolicyConfig,
        name: impl Into<CacheName<'a>>,
    ) -> Result<Self, ConfigError> {
        let name = name.into();
        name.check()?;
        if config.unmatched == Unmatched::Pass && config.rules.iter().all(Rule::is_bypass) {
            return Err(ConfigError::NoCachingRule);
        }
        let base = CompiledPolicy::new(config.changed(&[]), None, name)?;
        let compile = |(position, rule): (usize, &Rule)| {
            let earlier = config.rules.iter().take(position);
            let ordinal = earlier.filter(|earlier| earlier.has_conditions_of(rule)).count();
            let origin = RuleOrigin { rule, ordinal, base: &base.policy };
            CompiledRule::new(&origin, config.changed(&rule.changes), name)
        };
        let rules = config.rules.iter().enumerate().map(compile).collect::<Result<Vec<_>, _>>()?;
        let index = RuleIndex::new(&config.rules);
        let of_rules = rules.iter().filter_map(|rule| rule.policy.as_deref());
        let stores_posts = [&base].into_iter().chain(of_rules).any(CompiledPolicy::stores_posts);
        let found_misplaced_rule = AtomicBool::new(false);
        Ok(Self { config, base, rules, index, found_misplaced_rule, stores_posts })
    }

    pub(crate) const fn config(&self) -> &PolicyConfig {
        &self.config
    }

    /// Returns the policy of the cache.
    pub(crate) const fn base(&self) -> &Policy {
        &self.base.policy
    }

    /// Returns the rule that applies to a request: the first one that matches. Returns `None` if the
    /// request bypasses the cache.
    pub(crate) fn applied_rule(&self, request: &ServiceRequest) -> Option<AppliedRule> {
        self.applied_rule_for(request, request.method())
    }

    /// Returns the rule that would apply to a request if it had this method; see
    /// [`applied_rule`](Self::applied_rule).
    pub(crate) fn applied_rule_for(
        &self,
        request: &ServiceRequest,
        method: &Method,
    ) -> Option<AppliedRule> {
        if !self.rules.is_empty() {
            let path = request.match_info().as_str();
            for &index in self.index.candidates(path) {
                let Some(rule) = self.rules.get(index) else { continue };
                if rule.matches(request, method) {
                    return rule.policy.is_some().then_some(AppliedRule(Some(index)));
                }
            }
        }
        (self.config.unmatched == Unmatched::Policy).then_some(AppliedRule(None))
    }

    /// Returns a rule whose path seems to be relative to the scope of the cache by mistake, if a
    /// request shows this. Returns such a rule once.
    pub(crate) fn misplaced_rule<'a>(
        &'a self,
        request: &'a ServiceRequest,
    ) -> Option<MisplacedRule<'a>> {
        if self.rules.is_empty() || self.found_misplaced_rule.load(Ordering::Relaxed) {
            return None;
        }
        let rule = misplaced_rule(self.config.rules.iter().zip(&self.rules), request)?;
        let is_known = self.found_misplaced_rule.swap(true, Ordering::Relaxed);
        (!is_known).then_some(rule)
    }

    /// Returns the policy of a rule, or that of the cache.
    pub(crate) fn policy(&self, rule: AppliedRule) -> &CompiledPolicy {
        let of_rule = || self.rules.get(rule.0?)?.policy.as_deref();
        of_rule().unwrap_or(&self.base)
    }

    /// Returns whether a policy makes copies in content codings.
    pub(crate) fn compress(&self) -> bool {
        self.policies().any(|policy| policy.compression().is_some())
    }

    /// Returns the size in bytes of the largest body that any of the policies stores.
    pub(crate) fn largest_body_size(&self) -> usize {
        self.policies().map(CompiledPolicy::max_body_size).fold(0, usize::max)
    }

    /// Returns the policy of the cache and those of its rules.
    fn policies(&self) -> impl Iterator<Item = &CompiledPolicy> {
        let of_rules = self.rules.iter().filter_map(|rule| rule.policy.as_deref());
        iter::once(&self.base).chain(of_rules)
    }

    /// Returns the cache keys that requests for a URL can have. Request fields, cookies and
    /// computed values are not added to these keys.
    ///
    /// There are several keys because the scheme is not known, because a rule with a predicate or a
    /// method may apply to some requests only, and because the scope of a relative rule is not known.
    pub(crate) fn keys_for_url(&self, target: &UrlTarget) -> Vec<UrlKey> {
        let mut rules = self.rules_for_url(target, &Method::GET);
        for method in ["QUERY", "POST"].iter().filter_map(|method| method.parse().ok()) {
            let keyed = self.rules_for_url(target, &method).into_iter();
            rules.extend(keyed.filter(|rule| self.policy(*rule).keyed_body(&method).is_some()));
        }
        let mut keys: Vec<UrlKey> = Vec::new();
        for scheme in ["http", "https"] {
            for &rule in &rules {
                let url = UrlKey { key: self.policy(rule).key_for_url(scheme, target), rule };
                if !keys.contains(&url) {
                    keys.push(url);
                }
            }
        }
        keys
    }

    /// Returns all rules that can apply to requests for a URL with this method. There are several if a
    /// rule with a predicate matches the URL, because the predicate may refuse some of the requests,
    /// or if a rule is relative to an unknown scope.
    fn rules_for_url(&self, target: &UrlTarget, method: &Method) -> Vec<AppliedRule> {
        // Rules match the path that actix has decoded for routing.
        let decoded = Url::new(target.path.parse().unwrap_or_default());
        let mut found = Vec::new();
        for &index in self.index.candidates(decoded.path()) {
            let Some(rule) = self.rules.get(index) else { continue };
            let url_match = rule.matches_url(target, method, decoded.path());
            if url_match != UrlMatch::No && rule.policy.is_some() {
                found.push(AppliedRule(Some(index)));
            }
            if url_match == UrlMatch::Yes {
                return found;
            }
        }
        found.push(AppliedRule(None));
        found
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use actix_web::{http::StatusCode, test::TestRequest};

    use super::{super::query::QueryKey, *};

    fn compile(policy: Policy, rules: Vec<Rule>, unmatched: Unmatched) -> PolicySet {
        PolicySet::new(PolicyConfig { policy, rules, unmatched, ..PolicyConfig::new() }, "t")
            .unwrap()
    }

    /// Returns the lifetime in seconds of a response that states none; `None` if the request
    /// bypasses the cache.
    fn ttl(policies: &PolicySet, path: &str) -> Option<u64> {
        let request = TestRequest::with_uri(path).to_srv_request();
        let policy = policies.policy(policies.applied_rule(&request)?);
        let key = policy.key(&request, None).unwrap();
        policy.terms(&key.key, StatusCode::OK, None).unwrap().fallback.map(|ttl| ttl.as_secs())
    }

    fn with_ttl(rule: Rule, secs: u64) -> Rule {
        rule.with(move |policy| policy.default_ttl(Duration::from_secs(secs)))
    }

    fn rules() -> Vec<Rule> {
        vec![
            Rule::path("/health").bypass(),
            with_ttl(Rule::prefix("/a"), 1),
            with_ttl(Rule::any().method(Method::POST), 2),
            with_ttl(Rule::prefix("/a"), 3),
            Rule::path("/plain"),
            with_ttl(Rule::path("/twice"), 4).with(|policy| policy.max_body_size(9)),
        ]
    }

    #[test]
    fn first_rule_that_matches_gives_the_policy() {
        let minute = Duration::from_secs(70);
        let policies = compile(Policy::new().default_ttl(minute), rules(), Unmatched::Policy);
        let strict = compile(Policy::new().default_ttl(minute), rules(), Unmatched::Pass);
        for (path, want, want_of_rules_only) in [
            ("/health", None, None),
            ("/a", Some(1), Some(1)),
            ("/plain", Some(70), Some(70)),
            ("/twice", Some(4), Some(4)),
            ("/other", Some(70), None),
        ] {
            assert_eq!(ttl(&policies, path), want, "{path}");
            assert_eq!(ttl(&strict, path), want_of_rules_only, "{path}");
        }
        let request = TestRequest::with_uri("/b").to_srv_request();
        let applied = policies.applied_rule_for(&request, &Method::POST);
        assert_eq!(applied, Some(AppliedRule(Some(2))));
        assert_eq!(policies.largest_body_size(), Policy::new().max_body_size);
        let request = TestRequest::with_uri("/twice").to_srv_request();
        let applied = policies.applied_rule(&request).unwrap();
        assert_eq!(policies.policy(applied).max_body_size(), 9);
    }

    #[test]
    fn change_applies_to_the_policy_and_after_the_changes_of_rules() {
        let config =
            PolicyConfig { rules: rules(), unmatched: Unmatched::Pass, ..PolicyConfig::new() };
        let changed = config.with(|policy| policy.default_ttl(Duration::from_secs(50)));
        let policies = PolicySet::new(changed, "t").unwrap();
        for (path, want) in [
            ("/health", None),
            ("/a", Some(50)),
            ("/plain", Some(50)),
            ("/twice", Some(50)),
            ("/other", Some(50)),
        ] {
            assert_eq!(ttl(&policies, path), want, "{path}");
        }
        let request = TestRequest::with_uri("/twice").to_srv_request();
        let applied = policies.applied_rule(&request).unwrap();
        assert_eq!(policies.policy(applied).max_body_size(), 9, "the rule's own setting remains");
    }

    /// The function of a setting is called once for a request, although the policy of the rule and
    /// that of the cache are both changed.
    #[test]
    fn change_is_made_once_to_each_policy() {
        let config = PolicyConfig { rules: rules(), ..PolicyConfig::new() };
        let changed = config.with(|policy| policy.tag("a")).with(|policy| policy.tag("b"));
        let policies = PolicySet::new(changed, "t").unwrap();
        for path in ["/", "/a", "/plain"] {
            let request = TestRequest::with_uri(path).to_srv_request();
            let applied = policies.applied_rule(&request).unwrap();
            assert_eq!(policies.policy(applied).policy.tags.len(), 2, "{path}");
        }
    }

    /// Otherwise, a rule could answer with a page that the function of another rule had separated.
    #[test]
    fn rules_with_functions_of_their_own_share_no_keys() {
        let with = |rule: Rule, value: &'static str| {
            rule.with(move |policy| policy.key_with("group", move |_| Some(value.to_owned())))
        };
        let by = |header: &'static str| {
            Rule::path("/a").when(move |request| request.headers().contains_key(header))
        };
        let rules = vec![
            with(by("x-a"), "1"),
            with(by("x-b"), "1"),
            with(Rule::path("/a").method(Method::GET).when(|_| true), "1"),
            by("x-never").with(|policy| policy.credentials_when(|_| true)),
            by("x-never").with(|policy| policy.credentials_when(|_| false)),
            by("x-never").with(|policy| policy.tag_with(|_| None)),
            by("x-never").with(|policy| policy.tag_with(|_| None)),
            by("x-never").with(|policy| policy.default_ttl(Duration::from_secs(5))),
            by("x-never").with(|policy| policy.max_body_size(5)),
        ];
        let policy = Policy::new().tag_with(|_| Some("site".to_owned()));
        let policies = compile(policy, rules, Unmatched::Policy);
        let scope = |rule| &policies.policy(AppliedRule(rule)).scope;
        for one in 0..7 {
            assert!(scope(Some(one)) != scope(None), "{one}");
            assert!((0..one).all(|other| scope(Some(one)) != scope(Some(other))), "{one}");
        }
        assert!(scope(Some(7)) == scope(None) && scope(Some(8)) == scope(None));
    }

    #[test]
    fn empty_namespace_is_refused() {
        let error = PolicySet::new(PolicyConfig::new(), "").unwrap_err();
        assert!(error.to_string().contains("namespace of the cache is empty"), "{error}");
    }

    #[test]
    fn rules_only_needs_a_rule_that_caches() {
        for (rules, valid) in [
            (vec![], false),
            (vec![Rule::path("/a").bypass()], false),
            (vec![Rule::path("/a").bypass(), Rule::path("/b")], true),
        ] {
            let config = PolicyConfig { rules, unmatched: Unmatched::Pass, ..PolicyConfig::new() };
            let error = PolicySet::new(config, "t").err().map(|error| error.to_string());
            assert_eq!(error.is_none(), valid, "{error:?}");
            assert!(error.is_none_or(|error| error.contains("remove rules_only()")));
        }
    }

    #[test]
    fn keys_of_a_url_are_those_of_all_rules_that_may_apply() {
        let only_q = |policy: Policy| policy.query(QueryKey::only(["q"]));
        let policies = compile(
            Policy::new().query(QueryKey::sorted()),
            vec![
                Rule::path("/maybe").when(|_| true).with(only_q),
                Rule::path("/only").with(only_q),
                Rule::path("/host").host("b").with(only_q),
                Rule::path("/port").host("a:80").with(only_q),
                Rule::path("/none").bypass(),
                Rule::path("/below").relative().with(|policy| policy.query(QueryKey::only(["b"]))),
                Rule::path("/by-method").method("QUERY".parse().unwrap()).with(only_q),
                Rule::path("/by-method")
                    .method(Method::POST)
                    .with(move |policy| only_q(policy.cache_posts_by_body(9).tag("posts"))),
                Rule::path("/ordinary").method(Method::POST).with(only_q),
            ],
            Unmatched::Policy,
        );
        let target = |path: &str| UrlTarget {
            host: "a".to_owned(),
            path: path.to_owned(),
            query: Some("b=1&q=2".to_owned()),
        };
        for (path, sent, count) in [
            ("/x", "/x?q=2&b=1", 2),
            ("/only", "/only?q=2&z", 1),
            ("/%6Fnly", "/%6Fnly?q=2&z", 1),
            ("/maybe", "/maybe?q=2", 3),
            ("/host", "/host?q=2&b=1", 2),
            ("/port", "/port?q=2", 1),
            ("/below", "/below?z=1&b=1", 2),
            ("/by-method", "/by-method?q=2&b=1", 4),
            ("/ordinary", "/ordinary?q=2&b=1", 2),
        ] {
            let urls = policies.keys_for_url(&target(path));
            let request = TestRequest::with_uri(sent).insert_header(("host", "a")).to_srv_request();
            let rule = policies.applied_rule(&request).unwrap();
            let key = policies.policy(rule).key(&request, None).unwrap().key;
            assert!(urls.contains(&UrlKey { key, rule }), "{path}");
            assert_eq!(urls.len(), 2 * count, "{path}");
        }
        assert_eq!(policies.keys_for_url(&target("/none")).len(), 0);
        // A purge on any host names none.
        let any_host = UrlTarget { host: String::new(), ..target("/host") };
        assert_eq!(policies.keys_for_url(&any_host).len(), 2 * 3);
    }
}
