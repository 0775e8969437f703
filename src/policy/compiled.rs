//! A policy and its rules, found to make sense: what the walk asks.

use std::{sync::Arc, time::Duration};

use actix_web::{
    dev::ServiceRequest,
    http::{
        StatusCode,
        header::{COOKIE, HeaderName},
    },
};
use smallvec::SmallVec;

use super::{
    ClientConditions, ClientDirectives, ConfigError, DownstreamFields, Offered, Policy, Posts,
    QueryKey, Rule, has_default,
    rule::{CompiledRule, Handling, UrlMatch},
};
use crate::{
    entry::{key::KeyScope, lifetime::LifetimeSource, response::StoredResponse},
    outcome::NotStored,
    semantics::{
        requester::IdentityRules,
        staleness::Windows,
        storing::{Heuristics, PolicyChoices, StorageTerms},
        vary::Comparison,
    },
};

/// What happens to requests that no rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// The policy says.
    Policy,
    /// They pass.
    Pass,
}

/// A policy with its rules.
#[derive(Debug, Clone)]
pub(crate) struct CompiledPolicy {
    pub(super) policy: Policy,
    pub(super) rules: Arc<[CompiledRule]>,
    unmatched: Unmatched,
    pub(crate) personal: IdentityRules,
    pub(crate) comparison: Comparison,
    choices: PolicyChoices,
    pub(super) tag_fields: Vec<HeaderName>,
    removed_downstream: Vec<HeaderName>,
    pub(super) namespace: String,
    /// Namespace and fingerprint, as they begin each key.
    pub(super) scope: KeyScope,
    pub(crate) vary_cookie: VaryCookie,
}

/// Whether responses that hung on the absence of cookies say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VaryCookie {
    Said,
    NeverDue,
}

/// The rules that are for a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct MatchedRules {
    /// Those that wait for the status, in order.
    waiting: SmallVec<[usize; 2]>,
    /// The first that does not.
    settled: Option<usize>,
}

impl MatchedRules {
    pub(super) fn indices(&self) -> impl Iterator<Item = usize> {
        self.waiting.iter().copied().chain(self.settled)
    }
}

impl CompiledPolicy {
    pub(crate) fn new(
        policy: Policy,
        rules: Vec<Rule>,
        unmatched: Unmatched,
        namespace: &str,
    ) -> Result<Self, ConfigError> {
        policy.check()?;
        if namespace.is_empty() {
            return Err(ConfigError::EmptyNamespace);
        }
        let personal = policy.personal()?;
        let vary_cookie =
            if policy.cookies_never_decide() { VaryCookie::NeverDue } else { VaryCookie::Said };
        let scope = KeyScope::new(namespace, &policy.fingerprint(&rules));
        let rules = rules.into_iter().map(CompiledRule::new).collect::<Result<Arc<[_]>, _>>()?;
        let (choices, comparison) = (policy.choices()?, policy.comparison());
        let tag_fields = Policy::names(&policy.tag_fields)?;
        let targets = policy.targeted_downstream == DownstreamFields::Removed;
        let tagging = policy.tags_downstream == DownstreamFields::Removed;
        let removed = targets.then_some(&choices.targets).into_iter();
        let removed_downstream =
            removed.chain(tagging.then_some(&tag_fields)).flatten().cloned().collect();
        Ok(Self {
            policy,
            rules,
            unmatched,
            personal,
            comparison,
            choices,
            tag_fields,
            removed_downstream,
            namespace: namespace.to_owned(),
            scope,
            vary_cookie,
        })
    }

    /// The rules for a request; `None` if it passes.
    pub(crate) fn match_rules(&self, request: &ServiceRequest) -> Option<MatchedRules> {
        let mut matched = MatchedRules::default();
        if !self.rules.is_empty() {
            let path = request.match_info().as_str();
            for (index, rule) in self.rules.iter().enumerate() {
                if !rule.matches(request, path) {
                    continue;
                }
                if rule.waits() {
                    matched.waiting.push(index);
                } else {
                    matched.settled = Some(index);
                    break;
                }
            }
        }
        let passes = matched.waiting.is_empty() && self.passes(matched.settled);
        (!passes).then_some(matched)
    }

    /// Whether nothing can be stored under the rule that does not wait.
    fn passes(&self, settled: Option<usize>) -> bool {
        match self.rule(settled) {
            Some(rule) => {
                rule.handling == Handling::Bypass || rule.override_ttl == Some(Duration::ZERO)
            }
            None => self.unmatched == Unmatched::Pass,
        }
    }

    /// What is said of the lifetime of a response with this status; `own` is what the handler
    /// itself said.
    pub(crate) fn terms(
        &self,
        matched: &MatchedRules,
        status: StatusCode,
        own: Option<Duration>,
    ) -> Result<StorageTerms<'_>, NotStored> {
        let rule = self.deciding(matched, status)?;
        let first = rule
            .and_then(|rule| rule.override_ttl)
            .map(|ttl| (ttl, LifetimeSource::Policy))
            .or_else(|| own.map(|ttl| (ttl, LifetimeSource::Handler)));
        let fallback = self.fallback(rule, status);
        Ok(StorageTerms { first, fallback, choices: &self.choices })
    }

    /// The lifetime this policy would have given what another may have stored.
    pub(crate) fn lifetime_under_policy(
        &self,
        matched: &MatchedRules,
        stored: &StoredResponse,
    ) -> Option<Duration> {
        let status = stored.status;
        let rule = self.deciding(matched, status).ok()?;
        let lifetime = &stored.lifetime;
        let handlers =
            || (lifetime.source == LifetimeSource::Handler).then_some(lifetime.freshness);
        let stated = || stored.stated.filter(|_| self.choices.any_status.counts(status));
        let guesses = self.choices.heuristics == Heuristics::On;
        let guessed = || {
            (guesses && lifetime.source == LifetimeSource::Heuristic).then_some(lifetime.freshness)
        };
        rule.and_then(|rule| rule.override_ttl)
            .or_else(handlers)
            .or_else(stated)
            .or_else(guessed)
            .or_else(|| self.fallback(rule, status))
    }

    /// How long clients may keep a response with this status under a policy's lifetime.
    pub(crate) fn client_ttl(
        &self,
        matched: &MatchedRules,
        status: StatusCode,
    ) -> Option<Duration> {
        let rule = self.deciding(matched, status).ok().flatten();
        rule.and_then(|rule| rule.client_ttl).or(self.policy.client_ttl)
    }

    /// Whether a lifetime for status codes at large holds for this one.
    pub(crate) fn gives_lifetimes_to(&self, status: StatusCode) -> bool {
        has_default(status) || self.status_ttl(status).is_some()
    }

    /// The request fields that the key is made of, as far as they can be named.
    pub(crate) fn keyed_fields(&self) -> impl Iterator<Item = &HeaderName> {
        let cookie = (!self.personal.cookies.keyed.is_empty()).then_some(&COOKIE);
        self.personal.keyed.iter().chain(cookie)
    }

    pub(crate) const fn max_body_size(&self) -> usize {
        self.policy.max_body_size
    }

    pub(crate) const fn drain_limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    pub(crate) const fn background_limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    pub(crate) const fn wait_limit(&self) -> Duration {
        self.policy.wait_limit
    }

    /// Whether something fresh that has so much left of its lifetime is to be refreshed.
    pub(crate) fn refreshes(&self, freshness: Duration, left: Duration) -> bool {
        let percent = self.policy.refresh_ahead;
        percent.is_some_and(|percent| left <= freshness.mul_f64(f64::from(percent) / 100.0))
    }

    pub(crate) fn honors_request_directives(&self) -> bool {
        self.policy.client_directives == ClientDirectives::Honored
    }

    /// What is allowed of stale responses that say nothing of it.
    pub(crate) const fn windows(&self) -> Windows {
        self.choices.windows
    }

    /// Whether clients' conditions go to the handler where nothing is stored.
    pub(crate) fn forwards_conditions(&self) -> bool {
        self.policy.client_conditions == ClientConditions::Forwarded
    }

    /// Whether origins are taken at their word: offered the entity tags of all variants, and believed
    /// a HEAD that names none.
    pub(crate) fn trusts_origin_validators(&self) -> bool {
        self.policy.offered == Offered::AllVariants
    }

    /// Whether answers to POST may be stored.
    pub(crate) fn stores_posts(&self) -> bool {
        self.policy.posts == Posts::Stored
    }

    /// The fields that clients do not get.
    pub(crate) fn removed_downstream(&self) -> &[HeaderName] {
        &self.removed_downstream
    }

    /// The normaliser of the query of a request.
    pub(super) fn query(&self, matched: &MatchedRules) -> Option<&QueryKey> {
        let rule = self.rule(matched.settled);
        rule.and_then(|rule| rule.query.as_ref()).or(self.policy.query.as_ref())
    }

    /// All normalisers that the query of a URL may have met.
    pub(super) fn queries_of(&self, path: &str) -> Vec<Option<&QueryKey>> {
        let mut queries = Vec::new();
        for rule in self.rules.iter().filter(|rule| !rule.waits()) {
            let url = rule.matches_url(path);
            if url != UrlMatch::No {
                queries.push(rule.rule.query.as_ref().or(self.policy.query.as_ref()));
            }
            if url == UrlMatch::Yes {
                return queries;
            }
        }
        queries.push(self.policy.query.as_ref());
        queries
    }

    /// The first rule that is for a response; an error if it or the lack of one forbids storing.
    fn deciding(
        &self,
        matched: &MatchedRules,
        status: StatusCode,
    ) -> Result<Option<&Rule>, NotStored> {
        match self.rule(self.deciding_index(matched, status)) {
            Some(rule) if rule.handling == Handling::Bypass => Err(NotStored::Rule),
            None if self.unmatched == Unmatched::Pass => Err(NotStored::Rule),
            rule => Ok(rule),
        }
    }

    pub(super) fn deciding_index(
        &self,
        matched: &MatchedRules,
        status: StatusCode,
    ) -> Option<usize> {
        let waits_for_it = |index: &usize| {
            let rule = self.rule(Some(*index));
            rule.is_some_and(|rule| rule.statuses.contains(&status.as_u16()))
        };
        matched.waiting.iter().copied().find(waits_for_it).or(matched.settled)
    }

    fn fallback(&self, rule: Option<&Rule>, status: StatusCode) -> Option<Duration> {
        let of_rule = rule.and_then(|rule| {
            let meant = !rule.statuses.is_empty() || self.gives_lifetimes_to(status);
            rule.ttl.filter(|_| meant)
        });
        of_rule
            .or_else(|| self.status_ttl(status))
            .or_else(|| self.policy.default_ttl.filter(|_| has_default(status)))
    }

    fn status_ttl(&self, status: StatusCode) -> Option<Duration> {
        let found = self.policy.status_ttls.iter().find(|(code, _)| *code == status.as_u16());
        found.map(|&(_, ttl)| ttl)
    }

    fn rule(&self, index: Option<usize>) -> Option<&Rule> {
        self.rules.get(index?).map(|checked| &checked.rule)
    }
}

#[cfg(test)]
mod tests;
