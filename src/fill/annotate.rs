//! Completes the header fields of a response that will be stored, and copies them for the store.

use std::sync::Arc;

use actix_web::http::{
    StatusCode,
    header::{ACCEPT_ENCODING, COOKIE, DATE, HeaderMap, HeaderName, HeaderValue},
};
use bytes::Bytes;
use smallvec::SmallVec;

use super::candidate::{Candidate, WriteCoding};
use crate::{
    clock::Timestamp,
    entry::{
        response::{ANNOTATED_FIELDS, Audience, EtagSource, Selecting, StoredResponse, WeakTag},
        response_copy::{ResponseCopy, copy_fields},
        uses::Uses,
        validity::ValidityCheck,
    },
    policy::compiled::VaryCookie,
    semantics::{
        accept_encoding::{AcceptedCodings, has_registered_coding},
        client_lifetime::{
            ClientHeaders, ClientLifetimes, forbid_sharing, limit_lifetime, state_cdn_lifetime,
            state_lifetime,
        },
        connection::ConnectionFields,
        dates::date_value,
        present_fields::PresentFields,
        storing::{Downstream, StoragePlan},
        targeted::is_targeted,
        vary::{add_to_vary, selecting_value},
    },
};

type Fields = Box<[(HeaderName, HeaderValue)]>;

/// The party that chooses the content coding in which clients get a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CodingChoice {
    /// The cache, which may make copies in content codings for clients that accept them.
    OfCache,
    /// The handler, or a middleware inside the cache. The stored response answers these clients.
    OfHandler(Audience),
}

impl CodingChoice {
    const fn audience(self) -> Audience {
        match self {
            Self::OfCache => Audience::Everyone,
            Self::OfHandler(audience) => audience,
        }
    }

    /// Returns whether clients with other values of `Accept-Encoding` can get other responses,
    /// although the handler does not say so.
    fn varies(self) -> bool {
        matches!(self, Self::OfCache | Self::OfHandler(Audience::ClientsThatDecode))
    }
}

impl Candidate {
    /// Completes the header fields of a response that will be stored, and returns the response for
    /// the store, with a copy of `body`. Afterwards, `fields` are the fields for the client of this
    /// request.
    pub(crate) fn prepare(
        &mut self,
        plan: &StoragePlan,
        status: StatusCode,
        fields: &mut HeaderMap,
        body: &[u8],
        now: Timestamp,
    ) -> Arc<StoredResponse> {
        for (name, value) in &plan.emitted_tags {
            fields.insert(name.clone(), value.clone());
        }
        let ClientLifetimes { headers, client_ttl, cdn_ttl } = self.policy().client_lifetimes();
        let is_stated = plan.lifetime.source.is_stated();
        let client_ttl =
            client_ttl.filter(|_| !is_stated && headers == ClientHeaders::WithLifetime);
        let choice = self.coding_choice(plan, status, fields);
        let original_fields = self.annotate(plan, choice, fields, now);
        self.coding = match (choice, self.policy().compression()) {
            (CodingChoice::OfCache, Some(compression)) => {
                let accepted = AcceptedCodings::of(&self.request);
                let preferred = accepted.preferred(&compression.codings).first();
                WriteCoding::ByCache { preferred }
            }
            (CodingChoice::OfCache | CodingChoice::OfHandler(_), _) => WriteCoding::AsInDraft,
        };
        let ResponseCopy { fields: copied_fields, body } = copy_kept(plan, fields, body);
        let draft = Arc::new(StoredResponse {
            status,
            fields: copied_fields,
            body,
            lifetime: plan.lifetime,
            stated: plan.stated,
            selecting: self.selecting(plan),
            discriminator: Box::from(&*self.discriminator),
            audience: choice.audience(),
            permits_sharing: plan.permits_sharing,
            tags: Box::from(&*plan.tags),
            stamp: self.fill.stamp(),
            client_ttl,
            original_fields,
            etag_source: EtagSource::Handler,
            coded: None,
            weak_tag: WeakTag::default(),
            validity_check: ValidityCheck::default(),
            uses: Uses::default(),
            received: plan.lifetime.response_time.monotonic(),
        });
        let left = || plan.lifetime.remaining(now).unwrap_or_default();
        if let Some(limit) = client_ttl {
            limit_lifetime(fields, plan.lifetime.age(now), left().min(limit), now);
        }
        if let Some(limit) = cdn_ttl.filter(|_| !is_stated) {
            state_cdn_lifetime(fields, plan.lifetime.age(now), left().min(limit));
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
        choice: CodingChoice,
        fields: &mut HeaderMap,
        now: Timestamp,
    ) -> Option<Fields> {
        // RFC 9110 section 6.6.1: a recipient adds `Date` to a response that has none.
        if !plan.present.has(PresentFields::DATE)
            && let Some(date) = date_value(now.system_time())
        {
            fields.append(DATE, date);
        }
        let lifetime = &plan.lifetime;
        let states_lifetime = !lifetime.source.is_stated()
            && self.policy().client_lifetimes().headers == ClientHeaders::WithLifetime;
        let missing = self.missing_vary_members(plan, choice);
        if choice == CodingChoice::OfHandler(Audience::ClientsThatDecode) {
            self.warn_about_encoding();
        }
        let is_as_stated = plan.downstream == Downstream::AsStated;
        if !states_lifetime && is_as_stated && missing.is_empty() {
            return None;
        }
        let is_changed = |name: &HeaderName| {
            ANNOTATED_FIELDS.contains(name) || (!is_as_stated && is_targeted(name))
        };
        let original = if plan.present.has(PresentFields::ANNOTATED) {
            copy_fields(fields.iter().filter(|(name, _)| is_changed(name)))
        } else {
            Fields::default()
        };
        if states_lifetime {
            state_lifetime(fields, plan.present, lifetime, now);
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
    /// of these fields. `Accept-Encoding` is one of them if only some clients get the response, or a
    /// copy of it, in a content coding.
    fn missing_vary_members(
        &self,
        plan: &StoragePlan,
        choice: CodingChoice,
    ) -> SmallVec<[HeaderName; 2]> {
        let policy = self.policy();
        let cookie = plan.needs_no_cookie && policy.vary_cookie == VaryCookie::Added;
        let mut missing = SmallVec::new();
        let coding = policy.comparison.codings.always_select();
        let coding = coding.or_else(|| choice.varies().then_some(&ACCEPT_ENCODING));
        for name in policy.keyed_fields().chain(cookie.then_some(&COOKIE)).chain(coding) {
            if !plan.nominated.contains(name) && !missing.contains(name) {
                missing.push(name.clone());
            }
        }
        missing
    }

    fn warn_about_encoding(&self) {
        if self.shared.store.coordinator().should_warn_about_encoding() {
            log::warn!(
                "a response with Content-Encoding but without Vary: Accept-Encoding is stored: only \
                 clients that accept its coding get it, and all others go to the handler. Let the \
                 handler send Vary, or leave compression to the cache (Policy::compress)"
            );
        }
    }

    /// Returns who chooses the content coding in which clients get a response. If the response varies
    /// on `Accept-Encoding`, this field alone selects the clients.
    fn coding_choice(
        &self,
        plan: &StoragePlan,
        status: StatusCode,
        fields: &HeaderMap,
    ) -> CodingChoice {
        let varies = |names: &[HeaderName]| names.contains(&ACCEPT_ENCODING);
        let audience = if varies(&plan.nominated)
            || varies(&self.selecting_fields)
            || self.policy().comparison.codings.always_select().is_some()
        {
            Audience::Everyone
        } else if plan.present.has(PresentFields::CONTENT_ENCODING) && has_registered_coding(fields)
        {
            Audience::ClientsThatDecode
        } else if self.policy().codes(status, fields, &plan.nominated) {
            return CodingChoice::OfCache;
        } else if self.replaced_audience == Some(Audience::Everyone) {
            Audience::Everyone
        } else {
            self.policy().inner_compression().audience(self.coding_support, fields)
        };
        CodingChoice::OfHandler(audience)
    }

    /// Returns the selecting fields of a response that will be stored, with their values in the request.
    fn selecting(&self, plan: &StoragePlan) -> Selecting {
        let comparison = &self.policy().comparison;
        let known = &self.selecting_fields;
        let coding = comparison.codings.always_select();
        let coding = coding.filter(|name| !plan.nominated.contains(name));
        let nominated = plan.nominated.iter().chain(coding);
        let learned = nominated.filter(|name| !known.contains(name));
        let with_value = |name: &HeaderName| {
            let value = selecting_value(&self.request, name, comparison);
            (name.clone(), value.map(|value| Bytes::copy_from_slice(&value)))
        };
        known.iter().chain(learned).map(with_value).collect()
    }
}

/// Copies the fields that are stored, and the body.
fn copy_kept(plan: &StoragePlan, fields: &HeaderMap, body: &[u8]) -> ResponseCopy {
    // The usual case. The fields that the cache adds are all stored.
    if plan.withheld.is_empty() && !plan.present.has(PresentFields::NEVER_STORED) {
        return ResponseCopy::of(fields.iter(), body);
    }
    let connection = ConnectionFields::of(fields);
    let is_kept =
        |name: &HeaderName| connection.may_be_stored(name) && !plan.withheld.contains(name);
    ResponseCopy::of(fields.iter().filter(|(name, _)| is_kept(name)), body)
}
