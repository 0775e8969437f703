//! Makes responses to clients from stored responses.

use std::{fmt, sync::Arc, time::Duration};

use actix_web::{
    HttpResponse,
    body::MessageBody,
    http::{
        Method, StatusCode,
        header::{AGE, CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;
use smallvec::SmallVec;

use super::{
    body::CacheBody,
    conditional::{
        CodedForms, Copies, PolicyCodings, apply_conditions_without_body, apply_request_conditions,
    },
    numbers::age_value,
    representation::Representation,
};
use crate::{
    clock::Timestamp,
    entry::{limits::may_have_body, response::StoredResponse},
    policy::compiled::CompiledPolicy,
    semantics::{
        client_lifetime::{
            ClientHeaders, ClientLifetimes, limit_lifetime, limit_stated_lifetimes,
            state_cdn_lifetime,
        },
        compression::{OuterCompression, weak_tag_of},
        replayed_fields::count_down_retry_after,
    },
};

/// A stored response that may answer a request, and its body.
#[derive(Debug, Clone)]
pub(crate) struct SelectedResponse {
    pub(crate) stored: Arc<StoredResponse>,
    pub(crate) representation: Representation,
    /// The body of the representation. A body of more than 64 KiB counts toward a limit until all clones of
    /// this value are dropped ([`HeldBodies::hold`](crate::coordination::held_bodies::HeldBodies::hold)).
    pub(crate) body: Bytes,
}

/// A stored response that answers a request, with its age at the time of the request.
#[derive(Debug, Clone)]
pub(crate) struct CachedResponse {
    pub(crate) selected: SelectedResponse,
    /// The age of the response at `now`: `current_age` in RFC 9111 section 4.2.3.
    pub(crate) age: Duration,
    /// The rest of the freshness lifetime at `now`; zero for a stale response.
    pub(crate) left: Duration,
    pub(crate) now: Timestamp,
    pub(crate) terms: ClientTerms,
}

/// The choices of a policy about responses to clients.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientTerms {
    pub(crate) compression: OuterCompression,
    pub(crate) codings: PolicyCodings,
    pub(crate) lifetimes: ClientLifetimes,
}

impl ClientTerms {
    /// Returns the choices of a policy.
    pub(crate) const fn of(policy: &CompiledPolicy) -> Self {
        Self {
            compression: policy.outer_compression(),
            codings: PolicyCodings::of(policy),
            lifetimes: policy.client_lifetimes(),
        }
    }

    /// Returns the content codings in which clients may get a stored response of which this client gets
    /// a representation.
    pub(crate) fn forms(
        self,
        stored: &StoredResponse,
        representation: &Representation,
    ) -> CodedForms {
        let copies = Copies::of(self.codings, stored, representation);
        CodedForms { outer: self.compression, copies }
    }
}

impl CachedResponse {
    /// Makes the `CachedResponse` for a stored response that is served stale: its lifetime or a
    /// soft purge has ended its freshness.
    pub(crate) fn stale(selected: SelectedResponse, now: Timestamp, terms: ClientTerms) -> Self {
        let age = selected.stored.lifetime.age(now);
        Self { selected, age, left: Duration::ZERO, now, terms }
    }

    /// Returns whether the response becomes stale earlier than its header fields may promise to
    /// clients: a soft purge or the policy has shortened its lifetime, or the response is stale
    /// already.
    fn ends_early(&self) -> bool {
        let freshness = self.selected.stored.lifetime.freshness;
        self.left.is_zero() || self.age.saturating_add(self.left) < freshness
    }

    /// Makes the response to a request with this method and these header fields: the complete
    /// response, a partial response (206), a 304 or a 416.
    pub(crate) fn respond<B: MessageBody>(
        &self,
        method: &Method,
        request: &HeaderMap,
    ) -> HttpResponse<CacheBody<B>> {
        let SelectedResponse { stored, representation, body } = &self.selected;
        let forms = self.terms.forms(stored, representation);
        let complete = self.uncoded(request);
        let response = apply_request_conditions(method, request, forms, complete, body);
        representation.code_while_sending(method, response)
    }

    /// Makes the complete response to a request with this method and these header fields. The
    /// conditions and the `Range` of the request are ignored.
    pub(crate) fn complete<B: MessageBody>(
        &self,
        method: &Method,
        request: &HeaderMap,
    ) -> HttpResponse<CacheBody<B>> {
        self.selected.representation.code_while_sending(method, self.uncoded(request))
    }

    /// Makes the complete response, before it is coded for a client that gets it coded while it is
    /// sent.
    fn uncoded<B>(&self, request: &HeaderMap) -> HttpResponse<CacheBody<B>> {
        let SelectedResponse { stored, representation, body } = &self.selected;
        let body = body_for(stored.status, body);
        match representation {
            Representation::Stored => {
                self.with_body(body, self.terms.compression.weak_tag(request, stored))
            }
            Representation::OfClient(tag) => self.with_body(body, Some(tag)),
            Representation::Streamed(_) => {
                let weak = stored.lines(&ETAG).next().and_then(weak_tag_of);
                self.with_body(body, weak.as_ref())
            }
            Representation::Copy(coding) => {
                let copy = stored.usable_copy(*coding);
                let mut complete = self.with_body(body, copy.map(|copy| copy.etag));
                if let Some(copy) = copy {
                    let name = HeaderValue::from_static(copy.coding.name());
                    complete.headers_mut().append(CONTENT_ENCODING, name);
                }
                complete
            }
        }
    }

    /// Makes the response with a body that the cache is still receiving: the complete response or a
    /// 304. `Range` is ignored, because the body is not complete yet.
    pub(crate) fn respond_with<B>(
        &self,
        body: CacheBody<B>,
        request: &HeaderMap,
    ) -> HttpResponse<CacheBody<B>> {
        let weak = self.terms.compression.weak_tag(request, &self.selected.stored);
        apply_conditions_without_body(request, self.terms.codings, self.with_body(body, weak))
    }

    /// Makes the response with a body. `tag` replaces the entity tag of the stored response.
    fn with_body<B>(
        &self,
        body: CacheBody<B>,
        tag: Option<&HeaderValue>,
    ) -> HttpResponse<CacheBody<B>> {
        let Self { selected: SelectedResponse { stored, .. }, age, left, now, terms } = self;
        let ClientLifetimes { headers, client_ttl, cdn_ttl } = terms.lifetimes;
        let is_stated = stored.lifetime.source.is_stated();
        let mut response = HttpResponse::with_body(stored.status, body);
        let fields = response.headers_mut();
        let lines = &*stored.fields;
        // Two more fields are usual: `Age`, which is never stored, and `Cache-Status`.
        fields.reserve(lines.len() + 2);
        let is_replaced = |name: &HeaderName| tag.is_some() && *name == ETAG;
        for (name, value) in lines.iter().filter(|(name, _)| !is_replaced(name)) {
            fields.append(name.clone(), value.clone());
        }
        if let Some(tag) = tag {
            fields.append(ETAG, tag.clone());
        }
        if headers == ClientHeaders::WithLifetime {
            // Another policy may have stored the response. The shorter limit applies.
            let own = client_ttl.filter(|_| !is_stated);
            if let Some(limit) = stored.client_ttl.into_iter().chain(own).min() {
                limit_lifetime(fields, *age, (*left).min(limit), *now);
            }
            if self.ends_early() {
                limit_stated_lifetimes(fields, *age, *left, *now);
            }
        }
        if let Some(limit) = cdn_ttl.filter(|_| !is_stated) {
            state_cdn_lifetime(fields, *age, (*left).min(limit));
        }
        if stored.status != StatusCode::OK {
            count_down_retry_after(fields, now.since(stored.lifetime.response_time));
        }
        // RFC 9111 section 5.1: `Age` is in whole seconds.
        if let Some(age) = age_value(age.as_secs()) {
            fields.append(AGE, age);
        }
        response
    }
}

/// Makes the complete body of a response with this status code, or no body if the status code
/// allows none.
pub(crate) fn body_for<B>(status: StatusCode, body: &Bytes) -> CacheBody<B> {
    // RFC 9110 sections 8.6 and 15.3.5: a 204 has neither content nor `Content-Length`.
    if may_have_body(status) { CacheBody::whole(body.clone()) } else { CacheBody::none() }
}

/// Formats a field value in one allocation of exactly its length.
pub(crate) fn field_value(text: fmt::Arguments<'_>) -> Option<HeaderValue> {
    let mut buffer = Buffer(SmallVec::new());
    fmt::write(&mut buffer, text).ok()?;
    HeaderValue::from_bytes(&buffer.0).ok()
}

struct Buffer(SmallVec<[u8; 96]>);

impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
