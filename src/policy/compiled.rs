//! `CompiledPolicy`: a checked and compiled policy.

use std::time::Duration;

use actix_web::{
    HttpRequest,
    dev::ServiceRequest,
    http::{
        Method, StatusCode,
        header::{COOKIE, HeaderName},
    },
};

use super::{
    cache_name::CacheName,
    check::{parse_emitted_tag_fields, parse_field_names},
    compression::{CompiledCompression, Compression},
    error::ConfigError,
    fingerprint::{RuleOrigin, fingerprint},
    path_matcher::PathMatcher,
    rule::ComparedPath,
    settings::Policy,
    store_if::{StorableResponse, StoreDecision},
    tagging::CompiledTagging,
    trusted_proxies::TrustedProxies,
    values::{
        ClientConditions, ClientDirectives, ContentTags, DownstreamFields, HeadMisses,
        NoVarySearchField, OfferedTags, PostResponses, WaitingRequests,
    },
};
use crate::{
    entry::{
        key::CacheKey, key_scope::KeyScope, lifetime::LifetimeSource, response::StoredResponse,
    },
    outcome::NotStored,
    semantics::{
        client_lifetime::{CDN_CACHE_CONTROL, ClientLifetimes},
        compression::{InnerCompression, OuterCompression},
        invalidation::InvalidationChoices,
        requester::{IdentityRules, Requester},
        reuse::BackgroundRefresh,
        special_fields::SpecialFields,
        staleness::Windows,
        status::gets_general_lifetime,
        storing::{FieldEffect, Heuristics, PolicyChoices, StorageTerms},
        vary::Comparison,
    },
};

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

/// A checked policy: that of a cache, or that of one of its rules.
#[derive(Debug, Clone)]
pub(crate) struct CompiledPolicy {
    /// The id of this policy in the process, random and not zero. A stored response keeps the id of
    /// the policy that has accepted its fields.
    pub(super) id: u64,
    pub(super) policy: Policy,
    /// The rules that decide which requests are personal. A personal request carries credentials.
    pub(crate) identity: IdentityRules,
    /// The rules by which selecting fields (the request fields that `Vary` names) are normalized
    /// before the cache compares them.
    pub(crate) comparison: Comparison,
    choices: PolicyChoices,
    pub(super) trusted_proxies: TrustedProxies,
    /// The path of the rule to which the policy belongs. Its parameters can be parts of tags.
    pub(super) path: PathMatcher,
    pub(super) compared: ComparedPath,
    pub(super) tags: Vec<CompiledTagging>,
    pub(super) tag_fields: Vec<HeaderName>,
    /// The response fields into which the cache writes the tags of responses.
    pub(super) emitted_tag_fields: Vec<HeaderName>,
    removed_downstream: Vec<HeaderName>,
    pub(super) namespace: String,
    /// The beginning of each cache key: the namespace and the fingerprint of the policy.
    pub(super) scope: KeyScope,
    pub(crate) vary_cookie: VaryCookie,
    pub(super) compression: Option<CompiledCompression>,
}

impl CompiledPolicy {
    /// Returns all credentials of a request, which may have these special fields.
    pub(crate) fn credentials_of(
        &self,
        request: &ServiceRequest,
        special: SpecialFields,
    ) -> Requester {
        let carried = if special.has(SpecialFields::CREDENTIALS) {
            Requester::carried(request.headers(), &self.identity)
        } else {
            Requester::default()
        };
        let is_personal = || self.policy.credentials_when.iter().any(|test| test.passes(request));
        Requester { has_credentials: carried.has_credentials || is_personal(), ..carried }
    }

    /// Checks and compiles a policy. `rule` is the rule to which the policy belongs, with its path.
    pub(super) fn new<'a>(
        policy: Policy,
        rule: Option<(&RuleOrigin<'_>, &PathMatcher)>,
        name: impl Into<CacheName<'a>>,
    ) -> Result<Self, ConfigError> {
        let name = name.into();
        policy.check()?;
        let is_of_post_rule =
            rule.is_some_and(|(rule, _)| rule.rule.methods.contains(&Method::POST));
        if policy.post_body.is_some() && !is_of_post_rule {
            return Err(ConfigError::PostsWithoutRule);
        }
        let identity = policy.identity_rules()?;
        let choices = policy.policy_choices()?;
        let tag_fields = parse_field_names(&policy.tag_fields)?;
        let emitted_tag_fields = parse_emitted_tag_fields(&policy.emitted_tag_fields)?;
        let trusted_proxies = TrustedProxies::new(policy.trusted_proxies.as_deref())?;
        let path = rule.map_or(PathMatcher::Any, |(_, path)| path.clone());
        let compared = rule.map_or(ComparedPath::Whole, |(origin, _)| origin.rule.compared);
        let parameters = path.parameters();
        let tags = policy.tags.iter().map(|tag| tag.compile(&parameters));
        let tags = tags.collect::<Result<_, _>>()?;
        let fingerprint = fingerprint(&policy, rule.map(|(rule, _)| rule));
        // The scope encodes the length of the namespace, so a namespace that looks like a
        // fingerprint causes no confusion.
        let scope = KeyScope::new(name.namespace, &name.fingerprint(fingerprint));
        let mut removed_downstream = Vec::new();
        if policy.targeted_downstream == DownstreamFields::Removed {
            removed_downstream.extend_from_slice(&choices.targets);
        }
        if policy.tags_downstream == DownstreamFields::Removed {
            removed_downstream.extend_from_slice(&tag_fields);
        }
        if policy.client_lifetimes.cdn_ttl.is_some()
            && removed_downstream.contains(&CDN_CACHE_CONTROL)
        {
            return Err(ConfigError::CdnTtlRemoved);
        }
        removed_downstream.retain(|name| !emitted_tag_fields.contains(name));
        let compression = policy.compression.as_ref().map(Compression::compile).transpose()?;
        let vary_cookie =
            if policy.ignores_all_cookies() { VaryCookie::NotNeeded } else { VaryCookie::Added };
        Ok(Self {
            id: fastrand::u64(1..),
            comparison: policy.comparison(),
            policy,
            identity,
            choices,
            trusted_proxies,
            path,
            compared,
            tags,
            tag_fields,
            emitted_tag_fields,
            removed_downstream,
            namespace: name.namespace.to_owned(),
            scope,
            vary_cookie,
            compression,
        })
    }

    /// Returns the terms for a response with this status: the conditions under which the policy
    /// stores the response.
    ///
    /// `key` is the cache key of the response, and `handler_ttl` is the lifetime that the handler set
    /// in the options of the response.
    ///
    /// # Errors
    ///
    /// Returns [`NotStored::Status`] if the policy stores no response with this status.
    pub(crate) fn terms(
        &self,
        key: &CacheKey,
        status: StatusCode,
        handler_ttl: Option<Duration>,
    ) -> Result<StorageTerms<'_>, NotStored> {
        if self.never_stores(status) {
            return Err(NotStored::Status);
        }
        let first = self
            .override_ttl(key, status)
            .map(|ttl| (ttl, LifetimeSource::Policy))
            .or_else(|| handler_ttl.map(|ttl| (ttl, LifetimeSource::Handler)));
        let fallback = self.fallback_ttl(key, status);
        Ok(StorageTerms { first, fallback, choices: &self.choices })
    }

    /// Returns whether the policy stores no response with this status, whatever its fields say.
    fn never_stores(&self, status: StatusCode) -> bool {
        self.policy.unstored_statuses.contains(&status.as_u16())
    }

    /// Returns the targeted fields that the policy obeys, the most important first.
    pub(crate) fn targeted_fields(&self) -> &[HeaderName] {
        &self.choices.targets
    }

    /// Returns whether this policy never uses a stored response, because the response has a field
    /// that this policy never stores, such as `Set-Cookie`. Caches whose policies differ in this
    /// choice have different cache keys, so another program wrote the response into the store.
    pub(crate) fn refuses_stored(&self, stored: &StoredResponse) -> bool {
        // The fields of a stored response do not change, so each response is checked once.
        if stored.validity_check.is_accepted_by(self.id) {
            return false;
        }
        let is_refused = |name| self.choices.effect_of(name) != FieldEffect::Stored;
        let refuses = stored.fields.iter().any(|(name, _)| is_refused(name));
        if !refuses {
            stored.validity_check.accept(self.id);
        }
        refuses
    }

    /// Returns the lifetime that this policy gives to a response that is stored under `key`. `None`
    /// if this policy would not store the response. The lifetime can differ from the stored one,
    /// because a process with another policy may have stored the response.
    pub(crate) fn lifetime_under_policy(
        &self,
        key: &CacheKey,
        stored: &StoredResponse,
    ) -> Option<Duration> {
        let status = stored.status;
        if self.never_stores(status) {
            return None;
        }
        if let Some(ttl) = self.override_ttl(key, status) {
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
        self.fallback_ttl(key, status)
    }

    /// Returns the policy's choices about the lifetimes that responses state to clients.
    pub(crate) const fn client_lifetimes(&self) -> ClientLifetimes {
        self.policy.client_lifetimes
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

    /// Returns the size in bytes of the largest request body that is part of a cache key, for
    /// requests with this method. `None` if the bodies of these requests are not part of cache keys.
    pub(crate) fn keyed_body(&self, method: &Method) -> Option<usize> {
        match method.as_str() {
            "QUERY" => self.policy.query_body,
            "POST" => self.policy.post_body,
            _ => None,
        }
    }

    /// See [`Policy::request_body_limit`].
    pub(crate) const fn request_body_limit(&self) -> Duration {
        self.policy.request_body_limit
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

    /// Returns whether the cache makes entity tags for responses without a validator.
    pub(crate) fn makes_content_tags(&self) -> bool {
        self.policy.content_tags == ContentTags::Made
    }

    /// Returns whether functions of the application decide about storing; see [`Policy::store_if`].
    pub(crate) fn has_store_tests(&self) -> bool {
        !self.policy.store_tests.is_empty()
    }

    /// Returns the first answer of a function of the application that refuses to store a response.
    pub(crate) fn store_decision(
        &self,
        request: &HttpRequest,
        response: &StorableResponse<'_>,
    ) -> StoreDecision {
        let mut decisions =
            self.policy.store_tests.iter().map(|test| test.decide(request, response));
        decisions.find(|decision| *decision != StoreDecision::Store).unwrap_or(StoreDecision::Store)
    }

    /// Returns whether the policy honors `No-Vary-Search` of responses.
    pub(crate) fn honors_no_vary_search(&self) -> bool {
        self.policy.no_vary_search == NoVarySearchField::Honored
    }

    /// Returns whether responses to `POST` may be stored.
    pub(crate) fn stores_posts(&self) -> bool {
        self.policy.post_responses == PostResponses::Stored
    }

    /// Returns whether the cache calls the handler with GET for a HEAD request.
    pub(crate) fn fetches_on_head(&self) -> bool {
        self.policy.head_misses == HeadMisses::Fetched
    }

    /// Returns the response fields that clients do not receive.
    pub(crate) fn removed_downstream(&self) -> &[HeaderName] {
        &self.removed_downstream
    }

    /// Returns the lifetime that replaces any other lifetime of a response with this status; `None`
    /// if the policy sets none.
    fn override_ttl(&self, key: &CacheKey, status: StatusCode) -> Option<Duration> {
        let general = || self.policy.override_ttl.filter(|_| gets_general_lifetime(status));
        let ttl = of_status(&self.policy.override_status_ttls, status).or_else(general);
        ttl.map(|ttl| self.jittered(ttl, key))
    }

    /// Returns the lifetime that the policy sets for a response that states none; `None` if it sets
    /// none.
    fn fallback_ttl(&self, key: &CacheKey, status: StatusCode) -> Option<Duration> {
        let general = || self.policy.default_ttl.filter(|_| gets_general_lifetime(status));
        let ttl = of_status(&self.policy.status_ttls, status).or_else(general);
        ttl.map(|ttl| self.jittered(ttl, key))
    }
}

/// Returns the lifetime for a status code in a list of lifetimes.
fn of_status(ttls: &[(u16, Duration)], status: StatusCode) -> Option<Duration> {
    ttls.iter().find(|(code, _)| *code == status.as_u16()).map(|&(_, ttl)| ttl)
}

#[cfg(test)]
mod tests;
