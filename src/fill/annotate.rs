//! The fields of a response that is going to be stored: completed for clients, and copied.

use std::time::Duration;

use actix_web::http::{
    StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, COOKIE, DATE, HeaderMap, HeaderName, HeaderValue},
};
use bytes::Bytes;
use smallvec::SmallVec;

use super::candidate::Candidate;
use crate::{
    clock::Timestamp,
    entry::{
        response::{ANNOTATED_FIELDS, StoredResponse, copy_fields},
        validity::ValidityCheck,
    },
    policy::compiled::VaryCookie,
    semantics::{
        client_lifetime::{limit_lifetime, state_lifetime},
        connection::ConnectionFields,
        dates::set_date,
        storing::StoragePlan,
        vary::{add_to_vary, selecting_value},
    },
};

type Fields = Box<[(HeaderName, HeaderValue)]>;

impl Candidate {
    /// Completes the fields of a response that is going to be stored, for the client of this
    /// request and for later ones. Returns the stored response, still without its body.
    pub(crate) fn prepare(
        &self,
        plan: &StoragePlan,
        status: StatusCode,
        fields: &mut HeaderMap,
        now: Timestamp,
    ) -> StoredResponse {
        let client_ttl = self.shared.policy.client_ttl(&self.matched, status);
        let client_ttl = client_ttl.filter(|_| !plan.lifetime.source.is_stated());
        let original_fields = self.annotate(plan, fields, now);
        let draft =
            StoredResponse { client_ttl, original_fields, ..self.draft(plan, status, fields) };
        if let Some(limit) = client_ttl {
            let left = plan.lifetime.remaining(now).unwrap_or_default().min(limit);
            limit_lifetime(fields, plan.lifetime.age(now), left, now);
        }
        draft
    }

    /// Completes `Date`, the lifetime that clients see and `Vary`. Returns the original lines of
    /// the fields that it changed, or `None` if it changed none.
    fn annotate(
        &self,
        plan: &StoragePlan,
        fields: &mut HeaderMap,
        now: Timestamp,
    ) -> Option<Fields> {
        // RFC 9110 section 6.6.1: a response without Date is dated when it is received.
        if !fields.contains_key(DATE) {
            set_date(fields, DATE, now.system_time());
        }
        let lifetime = &plan.lifetime;
        let missing = self.missing_vary_members(plan);
        self.warn_about_encoding(plan, fields);
        if lifetime.source.is_stated() && missing.is_empty() {
            return None;
        }
        let original: Vec<_> =
            fields.iter().filter(|(name, _)| ANNOTATED_FIELDS.contains(name)).collect();
        let original = copy_fields(&original);
        if !lifetime.source.is_stated() {
            state_lifetime(fields, lifetime, now);
        }
        if !missing.is_empty() {
            add_to_vary(fields, &missing);
        }
        Some(original)
    }

    /// The fields that `Vary` lacks: those that the cache key is made of, and `Cookie` where only
    /// the lack of cookies made the response shareable. Requests with other values get other
    /// responses, and caches downstream must know that.
    fn missing_vary_members(&self, plan: &StoragePlan) -> SmallVec<[HeaderName; 2]> {
        let policy = &self.shared.policy;
        let cookie = plan.needs_no_cookie && policy.vary_cookie == VaryCookie::Added;
        let mut missing = SmallVec::new();
        for name in policy.keyed_fields().chain(cookie.then_some(&COOKIE)) {
            if !plan.nominated.contains(name) && !missing.contains(name) {
                missing.push(name.clone());
            }
        }
        missing
    }

    fn warn_about_encoding(&self, plan: &StoragePlan, fields: &HeaderMap) {
        let coordinator = self.shared.store.coordinator();
        let varies = plan.nominated.contains(&ACCEPT_ENCODING);
        if fields.contains_key(CONTENT_ENCODING)
            && !varies
            && coordinator.should_warn_about_encoding()
        {
            log::warn!(
                "a response with Content-Encoding but without Vary: Accept-Encoding is stored: \
                 clients that cannot decode it will get it too. Wrap Compress around the cache, \
                 not the other way round, or let the handler send Vary"
            );
        }
    }

    fn draft(&self, plan: &StoragePlan, status: StatusCode, fields: &HeaderMap) -> StoredResponse {
        let comparison = &self.shared.policy.comparison;
        let known = &self.selecting_fields;
        let learned = plan.nominated.iter().filter(|name| !known.contains(name));
        let selecting = known.iter().chain(learned).map(|name| {
            let value = selecting_value(&self.request, name, comparison);
            (name.clone(), value.map(|value| Bytes::copy_from_slice(&value)))
        });
        let connection = ConnectionFields::of(fields);
        let is_kept =
            |name: &HeaderName| connection.may_be_stored(name) && !plan.withheld.contains(name);
        let kept: Vec<_> = fields.iter().filter(|(name, _)| is_kept(name)).collect();
        StoredResponse {
            status,
            fields: copy_fields(&kept),
            body: Bytes::new(),
            lifetime: plan.lifetime,
            stated: plan.stated,
            selecting: selecting.collect(),
            discriminator: Box::from(&*self.discriminator),
            tags: Box::from(&*plan.tags),
            stamp: self.fill.stamp(),
            client_ttl: None::<Duration>,
            original_fields: None,
            validity_check: ValidityCheck::default(),
            received: plan.lifetime.response_time.monotonic(),
        }
    }
}
