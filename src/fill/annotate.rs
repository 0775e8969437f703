//! Completes the header fields of a response that will be stored, and copies them for the store.

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
        response::{ANNOTATED_FIELDS, Audience, EtagSource, StoredResponse, copy_fields},
        uses::Uses,
        validity::ValidityCheck,
    },
    policy::compiled::VaryCookie,
    semantics::{
        client_lifetime::{
            ClientHeaders, ClientLifetimes, forbid_sharing, is_targeted, limit_lifetime,
            state_cdn_lifetime, state_lifetime,
        },
        connection::ConnectionFields,
        dates::set_date,
        storing::{Downstream, StoragePlan},
        vary::{add_to_vary, selecting_value},
    },
};

type Fields = Box<[(HeaderName, HeaderValue)]>;

impl Candidate {
    /// Completes the header fields of a response that will be stored, and returns the response for
    /// the store, without its body. Afterwards, `fields` are the fields for the client of this
    /// request.
    pub(crate) fn prepare(
        &self,
        plan: &StoragePlan,
        status: StatusCode,
        fields: &mut HeaderMap,
        now: Timestamp,
    ) -> StoredResponse {
        for (name, value) in &plan.emitted_tags {
            fields.insert(name.clone(), value.clone());
        }
        let ClientLifetimes { headers, client_ttl, cdn_ttl } = self.policy().client_lifetimes();
        let is_stated = plan.lifetime.source.is_stated();
        let client_ttl =
            client_ttl.filter(|_| !is_stated && headers == ClientHeaders::WithLifetime);
        let original_fields = self.annotate(plan, fields, now);
        let draft =
            StoredResponse { client_ttl, original_fields, ..self.draft(plan, status, fields) };
        let (age, left) =
            (plan.lifetime.age(now), plan.lifetime.remaining(now).unwrap_or_default());
        if let Some(limit) = client_ttl {
            limit_lifetime(fields, age, left.min(limit), now);
        }
        if let Some(limit) = cdn_ttl.filter(|_| !is_stated) {
            state_cdn_lifetime(fields, age, left.min(limit));
        }
        draft
    }

    /// Adds `Date` if the response has none, states the freshness lifetime to clients unless the
    /// policy leaves their fields untouched, forbids other caches to share a response that only some
    /// clients may get, and completes `Vary`. If a field other than `Date` needs a change, returns the
    /// lines of all [`ANNOTATED_FIELDS`], and of targeted fields that change, from before that change.
    fn annotate(
        &self,
        plan: &StoragePlan,
        fields: &mut HeaderMap,
        now: Timestamp,
    ) -> Option<Fields> {
        // RFC 9110 section 6.6.1: a recipient adds `Date` to a response that has none.
        if !fields.contains_key(DATE) {
            set_date(fields, DATE, now.system_time());
        }
        let lifetime = &plan.lifetime;
        let states_lifetime = !lifetime.source.is_stated()
            && self.policy().client_lifetimes().headers == ClientHeaders::WithLifetime;
        let missing = self.missing_vary_members(plan);
        self.warn_about_encoding(plan, fields);
        let is_as_stated = plan.downstream == Downstream::AsStated;
        if !states_lifetime && is_as_stated && missing.is_empty() {
            return None;
        }
        let is_changed = |name: &HeaderName| {
            ANNOTATED_FIELDS.contains(name) || (!is_as_stated && is_targeted(name))
        };
        let original: Vec<_> = fields.iter().filter(|(name, _)| is_changed(name)).collect();
        let original = copy_fields(&original);
        if states_lifetime {
            state_lifetime(fields, lifetime, now);
        }
        if !is_as_stated {
            forbid_sharing(fields);
        }
        if !missing.is_empty() {
            add_to_vary(fields, &missing);
        }
        Some(original)
    }

    /// Returns the request fields that the cache must add to `Vary`: the fields whose values are
    /// part of the cache key, and `Cookie` if the response is stored only because its request had
    /// no cookies. Downstream caches then do not reuse the response for requests with other values
    /// of these fields.
    fn missing_vary_members(&self, plan: &StoragePlan) -> SmallVec<[HeaderName; 2]> {
        let policy = self.policy();
        let cookie = plan.needs_no_cookie && policy.vary_cookie == VaryCookie::Added;
        let mut missing = SmallVec::new();
        let coding = policy.comparison.codings.always_select();
        for name in policy.keyed_fields().chain(cookie.then_some(&COOKIE)).chain(coding) {
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

    /// Returns the clients that a response with these fields may answer. If the response varies on
    /// `Accept-Encoding`, this field alone selects the clients.
    fn audience(&self, nominated: &[HeaderName], fields: &HeaderMap) -> Audience {
        let compression = self.policy().inner_compression();
        let varies = |names: &[HeaderName]| names.contains(&ACCEPT_ENCODING);
        if self.replaced_audience == Some(Audience::Everyone)
            || varies(nominated)
            || varies(&self.selecting_fields)
            || self.policy().comparison.codings.always_select().is_some()
        {
            return Audience::Everyone;
        }
        compression.audience(&self.request, fields)
    }

    fn draft(&self, plan: &StoragePlan, status: StatusCode, fields: &HeaderMap) -> StoredResponse {
        let comparison = &self.policy().comparison;
        let known = &self.selecting_fields;
        let coding = comparison.codings.always_select();
        let coding = coding.filter(|name| !plan.nominated.contains(name));
        let nominated = plan.nominated.iter().chain(coding);
        let learned = nominated.filter(|name| !known.contains(name));
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
            audience: self.audience(&plan.nominated, fields),
            permits_sharing: plan.permits_sharing,
            tags: Box::from(&*plan.tags),
            stamp: self.fill.stamp(),
            client_ttl: None::<Duration>,
            original_fields: None,
            etag_source: EtagSource::Handler,
            validity_check: ValidityCheck::default(),
            uses: Uses::default(),
            received: plan.lifetime.response_time.monotonic(),
        }
    }
}
