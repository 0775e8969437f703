//! Answers from complete responses: whole, in part, or as 304.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    ops::Range,
    time::Duration,
};

use actix_web::{
    HttpResponse,
    http::{
        Method, StatusCode,
        header::{
            AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
            RANGE,
        },
    },
};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::{
    clock::Timestamp,
    entry::limits::may_have_body,
    entry::response::StoredResponse,
    outcome::Outcome,
    response::body::CacheBody,
    semantics::{
        client_lifetime::limit_lifetime,
        range::{RangeSelection, requested_ranges},
        request::is_conditional,
        validation::{Validators, belongs_in_not_modified, not_modified},
    },
    shared::{Field, Shared},
};

pub(crate) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
pub(crate) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");

/// The answer to a request that `stored` may answer. `left` is what is left of its lifetime.
pub(crate) fn answer<B>(
    method: &Method,
    request: &HeaderMap,
    stored: &StoredResponse,
    age: Duration,
    left: Duration,
    now: Timestamp,
) -> HttpResponse<CacheBody<B>> {
    let whole = body_of(stored.status, &stored.body);
    conditioned(method, request, with_fields(stored, whole, age, left, now), &stored.body)
}

/// The same where the stored response's body is still on its way. Ranges are not for it.
pub(crate) fn answer_with<B>(
    body: CacheBody<B>,
    request: &HeaderMap,
    stored: &StoredResponse,
    age: Duration,
    left: Duration,
    now: Timestamp,
) -> HttpResponse<CacheBody<B>> {
    not_modified_instead(request, with_fields(stored, body, age, left, now))
}

fn with_fields<B>(
    stored: &StoredResponse,
    body: CacheBody<B>,
    age: Duration,
    left: Duration,
    now: Timestamp,
) -> HttpResponse<CacheBody<B>> {
    let mut response = HttpResponse::with_body(stored.status, body);
    let fields = response.headers_mut();
    fields.reserve(stored.fields.len() + 3);
    for (name, value) in &stored.fields {
        fields.append(name.clone(), value.clone());
    }
    if let Some(limit) = stored.client_ttl {
        limit_lifetime(fields, age, left.min(limit), now);
    }
    // Section 5.1: whole seconds.
    if let Some(age) = short(format_args!("{}", age.as_secs())) {
        fields.insert(AGE, age);
    }
    response
}

/// The body of a complete response.
pub(crate) fn body_of<B>(status: StatusCode, body: &Bytes) -> CacheBody<B> {
    // RFC 9110 section 15.3.5: not even a length.
    if may_have_body(status) { CacheBody::whole(body.clone()) } else { CacheBody::none() }
}

/// Applies a client's conditions and ranges to the complete answer to its request.
pub(crate) fn conditioned<B>(
    method: &Method,
    request: &HeaderMap,
    response: HttpResponse<CacheBody<B>>,
    body: &Bytes,
) -> HttpResponse<CacheBody<B>> {
    let plain = !is_conditional(request) && !request.contains_key(RANGE);
    if plain || response.status() != StatusCode::OK {
        return response;
    }
    let validators = Validators::of(response.headers());
    if not_modified(request, StatusCode::OK, validators) {
        return condensed(response);
    }
    match requested_ranges(method, request, validators, body.len() as u64) {
        RangeSelection::Full => response,
        RangeSelection::Unsatisfiable => unsatisfiable(body.len()),
        RangeSelection::Parts(parts) => match parts.as_slice() {
            [part] => one_part(response, body, part),
            parts => many_parts(response, body, parts),
        },
    }
}

/// Applies a client's conditions to an answer whose body is not at hand, or not wanted.
pub(crate) fn not_modified_instead<B>(
    request: &HeaderMap,
    response: HttpResponse<CacheBody<B>>,
) -> HttpResponse<CacheBody<B>> {
    if has_it(request, &response) { condensed(response) } else { response }
}

/// Whether the client has what a response would send it.
pub(crate) fn has_it<B>(request: &HeaderMap, response: &HttpResponse<B>) -> bool {
    let validators = || Validators::of(response.headers());
    is_conditional(request) && not_modified(request, response.status(), validators())
}

fn condensed<B>(mut response: HttpResponse<CacheBody<B>>) -> HttpResponse<CacheBody<B>> {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response.headers_mut().retain(|name, _| belongs_in_not_modified(name));
    response.set_body(CacheBody::none())
}

/// RFC 9110 section 15.5.17.
fn unsatisfiable<B>(length: usize) -> HttpResponse<CacheBody<B>> {
    let body = CacheBody::whole(Bytes::new());
    let mut response = HttpResponse::with_body(StatusCode::RANGE_NOT_SATISFIABLE, body);
    set(response.headers_mut(), CONTENT_RANGE, format!("bytes */{length}"));
    response
}

/// RFC 9110 section 15.3.7.1.
fn one_part<B>(
    mut response: HttpResponse<CacheBody<B>>,
    body: &Bytes,
    part: &Range<u64>,
) -> HttpResponse<CacheBody<B>> {
    let Some(bytes) = cut(body, part) else { return response };
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let fields = response.headers_mut();
    fields.remove(CONTENT_LENGTH);
    set(fields, CONTENT_RANGE, content_range(part, body.len()));
    response.set_body(CacheBody::whole(bytes))
}

/// RFC 9110 section 15.3.7.2.
fn many_parts<B>(
    mut response: HttpResponse<CacheBody<B>>,
    body: &Bytes,
    parts: &[Range<u64>],
) -> HttpResponse<CacheBody<B>> {
    let fields = response.headers_mut();
    let kind = fields.get(CONTENT_TYPE).cloned();
    // Random, so that no body can be made to contain it.
    let boundary = format!(
        "{:016x}{:016x}",
        RandomState::new().hash_one(body.len()),
        RandomState::new().hash_one(parts)
    );
    let mut bytes = BytesMut::new();
    for part in parts {
        let Some(cut) = cut(body, part) else { continue };
        bytes.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        if let Some(kind) = &kind {
            bytes.extend_from_slice(b"Content-Type: ");
            bytes.extend_from_slice(kind.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        let range = content_range(part, body.len());
        bytes.extend_from_slice(format!("Content-Range: {range}\r\n\r\n").as_bytes());
        bytes.extend_from_slice(&cut);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    fields.remove(CONTENT_LENGTH);
    set(fields, CONTENT_TYPE, format!("multipart/byteranges; boundary={boundary}"));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response.set_body(CacheBody::whole(bytes.freeze()))
}

fn cut(body: &Bytes, part: &Range<u64>) -> Option<Bytes> {
    let range = usize::try_from(part.start).ok()?..usize::try_from(part.end).ok()?;
    body.get(range.clone()).is_some().then(|| body.slice(range))
}

fn content_range(part: &Range<u64>, length: usize) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1))
}

/// A value in one allocation that is as long as it is: hits make two of them.
fn short(text: fmt::Arguments<'_>) -> Option<HeaderValue> {
    let mut line = Line(SmallVec::new());
    fmt::write(&mut line, text).ok()?;
    HeaderValue::from_bytes(&line.0).ok()
}

struct Line(SmallVec<[u8; 96]>);

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn set(fields: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        fields.insert(name, value);
    }
}

/// Writes what became of the request into the answer, and takes out what is not for clients.
pub(crate) fn report(fields: &mut HeaderMap, outcome: &Outcome, shared: &Shared) {
    for name in shared.checked.removed_downstream() {
        fields.remove(name);
    }
    let settings = &shared.settings;
    if settings.x_cache == Field::Written {
        if outcome.is_hit() {
            fields.insert(X_CACHE, HeaderValue::from_static("hit"));
        } else if outcome.is_stored() {
            fields.insert(X_CACHE, HeaderValue::from_static("miss"));
        }
    }
    if settings.cache_status == Field::Written {
        // RFC 9211 section 2: after those of caches closer to the origin.
        if let Some(value) = short(format_args!("actix-web-cache; {outcome}")) {
            fields.append(CACHE_STATUS, value);
        }
    }
}
