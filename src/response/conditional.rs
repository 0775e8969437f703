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

use super::{body::CacheBody, range::range_response};
use crate::entry::response::StoredResponse;
use crate::semantics::{
    compression::OuterCompression,
    range::requested_ranges,
    request::is_conditional,
    validation::{Validators, belongs_in_not_modified, not_modified},
};

/// The content codings in which clients may get a response, besides the form that is being sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodedForms {
    /// A middleware around the cache may encode the response.
    pub(crate) outer: OuterCompression,
    pub(crate) copies: Copies,
}

/// Whether the cache makes copies of a response in content codings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copies {
    Possible,
    Impossible,
}

impl Copies {
    pub(crate) const fn of(stored: &StoredResponse) -> Self {
        match stored.coded {
            Some(_) => Self::Possible,
            None => Self::Impossible,
        }
    }
}

/// Applies the conditions and the ranges of a request to a complete response. Returns the response
/// itself, a 304, a 206 or a 416.
///
/// A client that may get the response compressed by a middleware gets no range: the range would be a
/// part of the uncompressed body. If the cache has copies of the response, a date in `If-Range` does
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
    if forms.outer.may_encode(request, response.headers()) {
        return response;
    }
    let validators = match forms.copies {
        Copies::Possible => Validators { date: None, ..validators },
        Copies::Impossible => validators,
    };
    let ranges = requested_ranges(method, request, validators, body.len() as u64);
    range_response(response, body, ranges)
}

/// Applies the conditions of a request to a response, and ignores the `Range` of the request. Call
/// this function if the complete body is not available. Returns the response itself or a 304.
pub(crate) fn apply_conditions_without_body<B>(
    request: &HeaderMap,
    response: HttpResponse<CacheBody<B>>,
) -> HttpResponse<CacheBody<B>> {
    if client_has_it(request, &response) { into_not_modified(response) } else { response }
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
