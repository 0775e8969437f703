//! Decides whether a handler's response is stored, and for how long.

use std::time::Duration;

use actix_web::{
    HttpMessage,
    body::MessageBody,
    dev::ServiceResponse,
    http::{
        StatusCode, Uri,
        header::{HeaderMap, HeaderName},
    },
};

use super::candidate::Candidate;
use crate::{
    cache_control::HandlerCacheControl,
    clock::Timestamp,
    entry::{lifetime::LifetimeSource, response::StoredResponse, tag::TagId},
    options::handler_options,
    outcome::NotStored,
    policy::response_tags::merge_tags,
    semantics::{
        body::check_body,
        cache_control::DirectiveScope,
        fields::Fields as _,
        freshness::explicit_lifetime,
        no_vary_search::NoVarySearch,
        present_fields::PresentFields,
        requester::Sharing,
        storing::{self, Exchange, StorageDecision, StoragePlan, is_lasting_refusal},
        tags::TagsTooLong,
        targeted::Governing,
        validation::CONDITIONS,
    },
};

/// The largest number of request fields that select among the stored responses of one key.
const MAX_SELECTING_FIELDS: usize = 32;

impl Candidate {
    /// Decides whether a response may be stored. Also checks the size of its head, and the size of
    /// its body if it is known.
    pub(crate) fn plan<B: MessageBody>(
        &self,
        response: &ServiceResponse<B>,
        now: Timestamp,
    ) -> Result<Box<StoragePlan>, NotStored> {
        let head = response.response();
        let plan = self.decide(response, None, head.headers(), now)?;
        let limit = self.shared.max_body_size(self.rule);
        check_body(head.status(), head.headers(), plan.head_length, head.body().size(), limit)?;
        // The last response for the key promised to be stored, and was not.
        if self.shared.store.coordinator().was_too_large(&self.key, now) {
            return Err(NotStored::TooLarge);
        }
        Ok(plan)
    }

    /// Decides whether a response with these fields may be stored. If `answer` (a 304 or a response
    /// to HEAD) updates a stored response, `updated` is this stored response, and `fields` are its
    /// fields after the update.
    ///
    /// The lifetime and the tags that the handler set for the stored response remain, because a
    /// handler may set them only in complete responses. A lifetime that the handler sets now by its
    /// options replaces the first one.
    pub(super) fn decide<B>(
        &self,
        answer: &ServiceResponse<B>,
        updated: Option<&StoredResponse>,
        fields: &HeaderMap,
        now: Timestamp,
    ) -> Result<Box<StoragePlan>, NotStored> {
        let policy = self.policy();
        let status = updated.map_or_else(|| answer.status(), |updated| updated.status);
        let options = handler_options(
            &answer.request().extensions(),
            &answer.response().extensions(),
            status,
            |name| self.shared.settings.options.find(name),
        )?;
        let handler_directives = HandlerCacheControl::directives(&answer.response().extensions());
        let exchange = Exchange {
            request_no_store: self.request_no_store,
            requester: self.requester,
            sharing: &self.sharing,
            requested: self.requested,
            status,
            response: fields,
            handler_directives: handler_directives.as_ref(),
            responded: now,
        };
        let known_ttl = || updated.and_then(|updated| self.known_ttl(updated, answer, now));
        let handler_ttl = options.ttl.map(|ttl| policy.jittered(ttl, &self.key));
        let terms = policy.terms(&self.key, status, handler_ttl.or_else(known_ttl))?;
        let mut plan = match storing::decide(&exchange, &terms) {
            StorageDecision::Store(plan) => plan,
            StorageDecision::Skip(reason) => return Err(reason),
        };
        if self.session.forbids_storing(answer.request(), &self.sharing) {
            return Err(NotStored::Session);
        }
        if self.selects_by_too_many_fields(&plan.nominated) {
            return Err(NotStored::Vary);
        }
        let handled = answer.request().uri();
        if *handled != self.uri {
            self.warn_about_rewritten_path(handled);
            return Err(NotStored::PathRewritten);
        }
        if self.handler_saw_other_fields(answer, &plan.nominated) {
            return Err(NotStored::RequestChanged);
        }
        // The key says that the response answers other queries too.
        if self.variance.is_some() && self.variance.as_deref() != self.variance_of(fields).as_ref()
        {
            return Err(NotStored::NoVarySearch);
        }
        if self.fill.is_invalidated() {
            return Err(NotStored::Invalidated);
        }
        // The tags of an updated response are known. Its fields may list them in their encoded form,
        // so only the fields of the answer are read.
        let sent = answer.headers();
        plan.tags = policy.tags(&self.request_tags, &self.key, &options.tags, sent)?;
        if let Sharing::User(id) = &self.sharing {
            let namespace = &self.shared.settings.namespace;
            merge_tags(&mut plan.tags, &[TagId::user(namespace, id)])?;
        }
        if let Some(updated) = updated {
            merge_tags(&mut plan.tags, &updated.tags)?;
        }
        plan.emitted_tags = policy
            .emitted_tags(&self.request_tags, &options.tags, sent, updated)
            .map_err(|TagsTooLong| NotStored::Tags)?;
        Ok(plan)
    }

    /// Returns the `No-Vary-Search` of a response with these fields, if the policy honors it.
    fn variance_of(&self, fields: &HeaderMap) -> Option<NoVarySearch> {
        if self.policy().honors_no_vary_search() { NoVarySearch::of(fields) } else { None }
    }

    /// Learns from a response with these fields which differences between the queries of its path
    /// do not matter. `decision` says whether the response is stored. The cache does not learn from
    /// responses that are not stored for another reason than their `No-Vary-Search`.
    pub(crate) fn learn_variance(
        &self,
        decision: Result<&StoragePlan, NotStored>,
        fields: &HeaderMap,
    ) {
        let variance = match decision {
            Ok(plan) if !plan.present.has(PresentFields::NO_VARY_SEARCH) => None,
            Ok(_) | Err(NotStored::NoVarySearch) => self.variance_of(fields),
            Err(_) => return,
        };
        if self.variance.as_deref() == variance.as_ref() {
            return;
        }
        if let Some(path) = self.key.of_path() {
            self.shared.store.coordinator().search_variances().set(&path, variance);
        }
    }

    /// Returns the lifetime that the handler set for a stored response. If its update states another
    /// lifetime than the response did, the shorter of both applies.
    fn known_ttl<B>(
        &self,
        updated: &StoredResponse,
        answer: &ServiceResponse<B>,
        now: Timestamp,
    ) -> Option<Duration> {
        let lifetime = &updated.lifetime;
        if lifetime.source != LifetimeSource::Handler {
            return None;
        }
        let targets = self.policy().targeted_fields();
        let stated = |fields: &HeaderMap, responded: Timestamp| {
            let governing = Governing::of(fields, targets);
            match governing.directives.no_cache {
                DirectiveScope::Absent => explicit_lifetime(&governing, fields, responded),
                DirectiveScope::Fields(_) | DirectiveScope::Response => Some(Duration::ZERO),
            }
        };
        let mut before = HeaderMap::new();
        for (name, value) in updated.as_handler_sent() {
            before.append(name.clone(), value.clone());
        }
        let before = stated(&before, lifetime.response_time);
        let shorter = stated(answer.headers(), now).filter(|after| Some(*after) != before);
        Some(shorter.map_or(lifetime.freshness, |after| after.min(lifetime.freshness)))
    }

    fn warn_about_rewritten_path(&self, rewritten: &Uri) {
        if self.shared.store.coordinator().should_warn_about_rewritten_paths() {
            log::warn!(
                "a middleware inside the cache changed the path or the query of a request, from the \
                 path {} to {}, so the response is not stored: wrap the middleware (such as NormalizePath) around the \
                 cache, so that rules and cache keys see the same URL as the handler",
                self.uri.path(),
                rewritten.path()
            );
        }
    }

    /// Returns whether the stored responses of the key would vary on too many request fields. Each
    /// lookup computes the values of all these fields, so their number is limited, whatever
    /// responses there were before.
    fn selects_by_too_many_fields(&self, nominated: &[HeaderName]) -> bool {
        let known = &self.selecting_fields;
        let learned = nominated.iter().filter(|name| !known.contains(name)).count();
        learned > 0 && known.len() + learned > MAX_SELECTING_FIELDS
    }

    /// Returns whether a middleware between the cache and the handler changed a request field that
    /// `Vary` names. If so, the handler saw other values than the values for which the response
    /// would be stored.
    fn handler_saw_other_fields<B>(
        &self,
        answer: &ServiceResponse<B>,
        nominated: &[HeaderName],
    ) -> bool {
        let seen = answer.request().headers();
        nominated.iter().any(|name| {
            !CONDITIONS.contains(name) && !seen.lines(name).eq(self.request.lines(name))
        })
    }

    /// Marks the key as hit-for-miss if the next response probably cannot be stored either. For
    /// some seconds, requests for the key then do not wait for each other.
    pub(super) fn mark_hit_for_miss(
        &mut self,
        reason: NotStored,
        status: StatusCode,
        now: Timestamp,
    ) {
        let lasting = is_lasting_refusal(reason, status);
        if let Some(leader) = self.leader.as_mut().filter(|_| lasting) {
            leader.mark_hit_for_miss(self.shared.store.coordinator(), &self.key, now);
        }
    }
}
