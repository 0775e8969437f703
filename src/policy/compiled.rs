//! `CompiledPolicy`: a policy and its rules, checked and compiled.
//!
//! The deciding rule of a response is the first rule that matches the request and the status code
//! of the response.

use std::{sync::Arc, time::Duration};

use actix_web::{
    dev::ServiceRequest,
    http::{
        StatusCode,
        header::{COOKIE, HeaderName},
    },
};

use super::{
    check::parse_field_names,
    compiled_rule::{CompiledRule, UrlMatch},
    error::ConfigError,
    fingerprint::fingerprint,
    matched::MatchedRules,
    query::QueryKey,
    rule::{Handling, Rule},
    settings::Policy,
    trusted_proxies::TrustedProxies,
    values::{
        ClientConditions, ClientDirectives, DownstreamFields, OfferedTags, PostResponses,
        WaitingRequests,
    },
};
use crate::{
    entry::{key::KeyScope, lifetime::LifetimeSource, response::StoredResponse},
    outcome::NotStored,
    semantics::{
        compression::{InnerCompression, OuterCompression},
        invalidation::InvalidationChoices,
        requester::{IdentityRules, Requester},
        reuse::BackgroundRefresh,
        staleness::Windows,
        storing::{FieldEffect, Heuristics, PolicyChoices, StorageTerms, gets_general_lifetime},
        vary::Comparison,
    },
};

/// Whether requests that match no rule follow the policy or bypass the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmatched {
    /// Requests that match no rule follow the policy.
    Policy,
    /// Requests that match no rule bypass the cache.
    Pass,
}

/// Whether the cache adds `Vary: Cookie` to responses that are stored only because their requests
/// had no cookies. The added field keeps other caches from sending such a response to clients with
/// cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VaryCookie {
    /// The cache adds `Vary: Cookie`.
    Added,
    /// The cache does not add `Vary: Cookie`, because the policy stores responses to requests with
    /// cookies, too.
    NotNeeded,
}

/// A checked policy with its compiled rules.
#[derive(Debug, Clone)]
pub(crate) struct CompiledPolicy {
    pub(super) policy: Policy,
    pub(super) rules: Arc<[CompiledRule]>,
    unmatched: Unmatched,
    /// The rules that decide which requests are personal. A personal request carries credentials.
    pub(crate) identity: IdentityRules,
    /// The rules by which selecting fields (the request fields that `Vary` names) are normalized
    /// before the cache compares them.
    pub(crate) comparison: Comparison,
    choices: PolicyChoices,
    pub(super) trusted_proxies: TrustedProxies,
    pub(super) tag_fields: Vec<HeaderName>,
    removed_downstream: Vec<HeaderName>,
    pub(super) namespace: String,
    /// The beginning of each cache key: the namespace and the fingerprint of the policy.
    pub(super) scope: KeyScope,
    pub(crate) vary_cookie: VaryCookie,
}

impl CompiledPolicy {
    /// Returns all credentials of a request.
    pub(crate) fn credentials_of(&self, request: &ServiceRequest) -> Requester {
        let carried = Requester::carried(request.headers(), &self.identity);
        let is_personal = || self.policy.credentials_when.iter().any(|test| test.passes(request));
        Requester { has_credentials: carried.has_credentials || is_personal(), ..carried }
    }

    /// Checks and compiles the configuration of a cache.
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
        let identity = policy.identity_rules()?;
        let choices = policy.policy_choices()?;
        let tag_fields = parse_field_names(&policy.tag_fields)?;
        let trusted_proxies = TrustedProxies::new(policy.trusted_proxies.as_deref())?;
        // The scope encodes the length of the namespace, so a namespace that looks like a
        // fingerprint causes no confusion.
        let scope = KeyScope::new(namespace, &fingerprint(&policy, &rules));
        let rules = rules.into_iter().map(CompiledRule::new).collect::<Result<Arc<[_]>, _>>()?;
        let mut removed_downstream = Vec::new();
        if policy.targeted_downstream == DownstreamFields::Removed {
            removed_downstream.extend_from_slice(&choices.targets);
        }
        if policy.tags_downstream == DownstreamFields::Removed {
            removed_downstream.extend_from_slice(&tag_fields);
        }
        let vary_cookie =
            if policy.ignores_all_cookies() { VaryCookie::NotNeeded } else { VaryCookie::Added };
        Ok(Self {
            comparison: policy.comparison(),
            policy,
            rules,
            unmatched,
            identity,
            choices,
            trusted_proxies,
            tag_fields,
            removed_downstream,
            namespace: namespace.to_owned(),
            scope,
            vary_cookie,
        })
    }

    /// Returns the rules that match a request; `None` if the request bypasses the cache.
    pub(crate) fn match_rules(&self, request: &ServiceRequest) -> Option<MatchedRules> {
        let mut matched = MatchedRules::default();
        if !self.rules.is_empty() {
            let path = request.match_info().as_str();
            for (index, rule) in self.rules.iter().enumerate() {
                if !rule.matches(request, path) {
                    continue;
                }
                if rule.needs_status() {
                    matched.by_status.push(index);
                } else {
                    matched.by_request = Some(index);
                    break;
                }
            }
        }
        let bypasses = matched.by_status.is_empty() && self.never_stores(matched.by_request);
        (!bypasses).then_some(matched)
    }

    /// Returns whether the rule with this index stores no response. For `None`, returns whether no
    /// response is stored if no rule matches.
    fn never_stores(&self, by_request: Option<usize>) -> bool {
        match by_request.and_then(|index| self.rules.get(index)) {
            Some(rule) => rule.never_stores(),
            None => self.unmatched == Unmatched::Pass,
        }
    }

    /// Returns the terms for a response with this status: the conditions under which the policy
    /// stores the response.
    ///
    /// `handler_ttl` is the lifetime that the handler set in the options of the response.
    ///
    /// # Errors
    ///
    /// Returns [`NotStored::Rule`] if the deciding rule forbids the cache to store the response, or
    /// if no rule matches and requests without a matching rule bypass the cache.
    pub(crate) fn terms(
        &self,
        matched: &MatchedRules,
        status: StatusCode,
        handler_ttl: Option<Duration>,
    ) -> Result<StorageTerms<'_>, NotStored> {
        let rule = self.deciding_rule(matched, status)?;
        let first = rule
            .and_then(|rule| override_ttl(rule, status))
            .map(|ttl| (ttl, LifetimeSource::Policy))
            .or_else(|| handler_ttl.map(|ttl| (ttl, LifetimeSource::Handler)));
        let fallback = self.fallback_ttl(rule, status);
        Ok(StorageTerms { first, fallback, choices: &self.choices })
    }

    /// Returns the targeted fields that the policy obeys, the most important first.
    pub(crate) fn targeted_fields(&self) -> &[HeaderName] {
        &self.choices.targets
    }

    /// Returns whether this policy never uses a stored response, because the response has a field
    /// that this policy never stores, such as `Set-Cookie`. Caches whose policies differ in this
    /// choice have different cache keys, so another program wrote the response into the store.
    pub(crate) fn refuses_stored(&self, stored: &StoredResponse) -> bool {
        stored.fields.iter().any(|(name, _)| self.choices.effect_of(name) != FieldEffect::Stored)
    }

    /// Returns the lifetime that this policy gives to a stored response. `None` if this policy
    /// would not store the response. The lifetime can differ from the stored one, because a process
    /// with another policy may have stored the response.
    pub(crate) fn lifetime_under_policy(
        &self,
        matched: &MatchedRules,
        stored: &StoredResponse,
    ) -> Option<Duration> {
        let status = stored.status;
        let rule = self.deciding_rule(matched, status).ok()?;
        if let Some(ttl) = rule.and_then(|rule| override_ttl(rule, status)) {
            return Some(ttl);
        }
        let lifetime = &stored.lifetime;
        if lifetime.source == LifetimeSource::Handler {
            return Some(lifetime.freshness);
        }
        if let Some(stated) = stored.stated.filter(|_| self.choices.any_status.counts(status)) {
            return Some(stated);
        }
        let is_heuristic = lifetime.source == LifetimeSource::Heuristic;
        if is_heuristic && self.choices.heuristics == Heuristics::On {
            return Some(lifetime.freshness);
        }
        self.fallback_ttl(rule, status)
    }

    /// Returns the longest time for which clients may keep a response with this status; `None` if
    /// neither a rule nor the policy sets this limit. The limit applies only if the policy, a rule
    /// or the handler set the lifetime of the response.
    pub(crate) fn client_ttl(
        &self,
        matched: &MatchedRules,
        status: StatusCode,
    ) -> Option<Duration> {
        let rule = self.deciding_rule(matched, status).ok().flatten();
        rule.and_then(|rule| rule.client_ttl).or(self.policy.client_ttl)
    }

    /// Returns the request fields whose values are part of the cache key.
    pub(crate) fn keyed_fields(&self) -> impl Iterator<Item = &HeaderName> {
        let cookie = (!self.identity.cookies.keyed.is_empty()).then_some(&COOKIE);
        self.identity.keyed.iter().chain(cookie)
    }

    /// See [`Policy::max_body_size`].
    pub(crate) const fn max_body_size(&self) -> usize {
        self.policy.max_body_size
    }

    /// See [`Policy::wait_limit`].
    pub(crate) const fn wait_limit(&self) -> Duration {
        self.policy.wait_limit
    }

    /// See [`Policy::background_limit`].
    pub(crate) const fn background_limit(&self) -> Duration {
        self.policy.background_limit
    }

    /// See [`Policy::drain_limit`].
    pub(crate) const fn drain_limit(&self) -> Duration {
        self.policy.drain_limit
    }

    /// Returns whether a fresh response should be refreshed in the background. `freshness` is its
    /// freshness lifetime, and `left` is the time until it becomes stale.
    pub(crate) fn refresh_ahead(&self, freshness: Duration, left: Duration) -> BackgroundRefresh {
        match self.policy.refresh_ahead {
            Some(percent) if left <= freshness.mul_f64(f64::from(percent) / 100.0) => {
                BackgroundRefresh::Due
            }
            _ => BackgroundRefresh::NotDue,
        }
    }

    /// Returns the policy's choices about which URLs an unsafe request invalidates.
    pub(crate) const fn invalidation_choices(&self) -> InvalidationChoices {
        self.policy.invalidation
    }

    /// Returns whether a response that is never fresh may answer requests that waited for it.
    pub(crate) fn answers_waiting_requests(&self) -> bool {
        self.policy.waiting_requests == WaitingRequests::Answered
    }

    /// Returns whether a middleware around the cache may compress responses.
    pub(crate) const fn outer_compression(&self) -> OuterCompression {
        self.policy.outer_compression
    }

    /// Returns whether a middleware inside the cache may compress responses.
    pub(crate) const fn inner_compression(&self) -> InnerCompression {
        self.policy.inner_compression
    }

    /// Returns whether the cache honors directives other than `no-store` in requests.
    pub(crate) fn honors_request_directives(&self) -> bool {
        self.policy.client_directives == ClientDirectives::Honored
    }

    /// Returns the policy's time windows for stale responses that state no `stale-while-revalidate`
    /// or `stale-if-error`.
    pub(crate) const fn windows(&self) -> Windows {
        self.choices.windows
    }

    /// Returns whether the handler, instead of the cache, evaluates the conditions of clients on a
    /// miss.
    pub(crate) fn forwards_conditions(&self) -> bool {
        self.policy.client_conditions == ClientConditions::Forwarded
    }

    /// Returns whether the cache trusts the origin to follow RFC 9110 in validators and in
    /// responses to HEAD.
    ///
    /// With this trust, the cache lists the entity tags of all variants in a validation request,
    /// because it relies on the origin to give each variant another entity tag. A `HEAD` response
    /// without validators can then also confirm that a stored response is still valid.
    pub(crate) fn trusts_origin_validators(&self) -> bool {
        self.policy.offered_tags == OfferedTags::AllVariants
    }

    /// Returns whether responses to `POST` may be stored.
    pub(crate) fn stores_posts(&self) -> bool {
        self.policy.post_responses == PostResponses::Stored
    }

    /// Returns the response fields that clients do not receive.
    pub(crate) fn removed_downstream(&self) -> &[HeaderName] {
        &self.removed_downstream
    }

    /// Returns the setting for the query of a request: the setting of the matching rule, or else
    /// that of the policy. `None` if neither has one; every byte of the query is then part of the
    /// cache key.
    pub(super) fn query(&self, matched: &MatchedRules) -> Option<&QueryKey> {
        let rule = self.rule(matched.by_request);
        rule.and_then(|rule| rule.query.as_ref()).or(self.policy.query.as_ref())
    }

    /// Returns all settings for the query that can apply to requests for a path; see
    /// [`query`](Self::query). There are several if a rule with a predicate matches the path,
    /// because the predicate may refuse some of the requests.
    pub(super) fn queries_of_path(&self, path: &str) -> Vec<Option<&QueryKey>> {
        let mut queries = Vec::new();
        for compiled in self.rules.iter().filter(|rule| !rule.needs_status()) {
            let url_match = compiled.matches_url(path);
            if url_match != UrlMatch::No {
                queries.push(compiled.rule.query.as_ref().or(self.policy.query.as_ref()));
            }
            if url_match == UrlMatch::Yes {
                return queries;
            }
        }
        queries.push(self.policy.query.as_ref());
        queries
    }

    /// Returns the deciding rule of a response: the first rule that matches the request and the
    /// status code. Returns `None` if no rule matches and the policy applies.
    ///
    /// # Errors
    ///
    /// Returns [`NotStored::Rule`] if the rule forbids the cache to store the response, or if no
    /// rule matches and requests without a matching rule bypass the cache.
    fn deciding_rule(
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

    /// Returns the index of the deciding rule of a response; `None` if no rule matches.
    pub(super) fn deciding_index(
        &self,
        matched: &MatchedRules,
        status: StatusCode,
    ) -> Option<usize> {
        let matches_status = |index: &usize| {
            let rule = self.rule(Some(*index));
            rule.is_some_and(|rule| rule.statuses.contains(&status.as_u16()))
        };
        matched.by_status.iter().copied().find(matches_status).or(matched.by_request)
    }

    /// Returns the lifetime that the rule or the policy sets for a response that states none;
    /// `None` if neither sets one.
    fn fallback_ttl(&self, rule: Option<&Rule>, status: StatusCode) -> Option<Duration> {
        let rule_ttl = rule.and_then(|rule| rule.ttl.filter(|_| sets_lifetime(rule, status)));
        rule_ttl
            .or_else(|| self.status_ttl(status))
            .or_else(|| self.policy.default_ttl.filter(|_| gets_general_lifetime(status)))
    }

    fn status_ttl(&self, status: StatusCode) -> Option<Duration> {
        let found = self.policy.status_ttls.iter().find(|(code, _)| *code == status.as_u16());
        found.map(|&(_, ttl)| ttl)
    }

    fn rule(&self, index: Option<usize>) -> Option<&Rule> {
        self.rules.get(index?).map(|compiled| &compiled.rule)
    }
}

/// Returns whether the lifetimes of a deciding rule apply to responses with this status.
fn sets_lifetime(rule: &Rule, status: StatusCode) -> bool {
    !rule.statuses.is_empty() || gets_general_lifetime(status)
}

fn override_ttl(rule: &Rule, status: StatusCode) -> Option<Duration> {
    rule.override_ttl.filter(|_| sets_lifetime(rule, status))
}

#[cfg(test)]
mod tests;
