//! Evaluates the conditions and the ranges of requests against responses (RFC 9110 sections 13 and
//! 14).

use actix_web::{
    HttpResponse,
    http::{
        Method, StatusCode,
        header::{HeaderMap, RANGE},
    },
};
use bytes::Bytes;

use super::{body::CacheBody, range::range_response, representation::Representation};
use crate::{
    entry::response::StoredResponse,
    policy::compiled::CompiledPolicy,
    semantics::{
        compression::{CodingSupport, OuterCompression, is_stored_as_compressed_type},
        range::requested_ranges,
        request::is_conditional,
        streamed_coding::weaken_tag_of_coded,
        validation::{Validators, belongs_in_not_modified, not_modified},
    },
};

/// The content codings in which clients may get a response, besides the form that is being sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodedForms {
    /// A middleware around the cache may encode the response.
    pub(crate) outer: OuterCompression,
    pub(crate) copies: Copies,
}

/// Whether the cache codes a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    /// The cache has coded the response for some clients, or may do so.
    Possible,
    Impossible,
    /// The response is coded while this client receives it. A range of the stored body would be a
    /// part of other bytes.
    Streamed,
}

impl Copies {
    /// Returns the form in which a client gets a stored response under a policy with or without
    /// codings.
    pub(crate) fn of(
        policy: PolicyCodings,
        stored: &StoredResponse,
        representation: &Representation,
    ) -> Self {
        // While its length was not known, a response may have been coded although it is too short for
        // copies.
        let may_have_been_coded =
            || policy == PolicyCodings::Some && is_stored_as_compressed_type(stored);
        match representation {
            Representation::Streamed(_) => Self::Streamed,
            _ if stored.coded.is_some() || may_have_been_coded() => Self::Possible,
            _ => Self::Impossible,
        }
    }
}

/// Whether a policy has content codings in which the cache sends responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PolicyCodings {
    Some,
    None,
}

impl PolicyCodings {
    pub(crate) const fn of(policy: &CompiledPolicy) -> Self {
        match policy.compression() {
            Some(_) => Self::Some,
            None => Self::None,
        }
    }
}

/// Applies the conditions and the ranges of a request to a complete response. Returns the response
/// itself, a 304, a 206 or a 416.
///
/// A client that may get the response compressed by a middleware gets no range: the range would be a
/// part of the uncompressed body. If the cache codes the response, a date in `If-Range` does
/// not tell from which of them the client has a part, so only an entity tag selects a range.
pub(crate) fn apply_request_conditions<B>(
    method: &Method,
    request: &HeaderMap,
    forms: CodedForms,
    response: HttpResponse<CacheBody<B>>,
    body: &Bytes,
) -> HttpResponse<CacheBody<B>> {
    let unconditional = !is_conditional(request) && !request.contains_key(RANGE);
    if unconditional || response.status() != StatusCode::OK {
        return response;
    }
    let validators = Validators::for_request(request, response.headers());
    if not_modified(request, StatusCode::OK, validators) {
        return into_not_modified(response);
    }
    let validators = match forms.copies {
        Copies::Possible => Validators { date: None, ..validators },
        Copies::Impossible => validators,
        Copies::Streamed => return response,
    };
    if forms.outer.may_encode(CodingSupport::of(request), response.headers()) {
        return response;
    }
    let ranges = requested_ranges(method, request, validators, body.len() as u64);
    range_response(response, body, ranges)
}

/// Applies the conditions of a request to a response, and ignores the `Range` of the request. Call
/// this function if the complete body is not available. Returns the response itself or a 304.
///
/// Under a policy with content codings, the client may have the response as it was coded while it was
/// sent, so the 304 has a weak entity tag unless the request names the strong one.
pub(crate) fn apply_conditions_without_body<B>(
    request: &HeaderMap,
    codings: PolicyCodings,
    response: HttpResponse<CacheBody<B>>,
) -> HttpResponse<CacheBody<B>> {
    if !client_has_it(request, &response) {
        return response;
    }
    let mut not_modified = into_not_modified(response);
    if codings == PolicyCodings::Some {
        weaken_tag_of_coded(request, not_modified.headers_mut());
    }
    not_modified
}

/// Returns whether the conditions of a request show that its client already has the response. The
/// client then gets a 304.
pub(crate) fn client_has_it<B>(request: &HeaderMap, response: &HttpResponse<B>) -> bool {
    let validators = || Validators::of(response.headers());
    is_conditional(request) && not_modified(request, response.status(), validators())
}

/// Turns a response into a 304 (RFC 9110 section 15.4.5).
fn into_not_modified<B>(mut response: HttpResponse<CacheBody<B>>) -> HttpResponse<CacheBody<B>> {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().retain(|name, _| belongs_in_not_modified(name));
    response.set_body(CacheBody::none())
}
