//! Makes partial responses (206) from complete responses (RFC 9110 section 15.3.7).

use std::ops::Range;

use actix_web::{
    HttpResponse,
    http::{
        StatusCode,
        header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    },
};
use bytes::Bytes;

use super::body::CacheBody;
use crate::semantics::range::RangeSelection;

/// Makes the response to a range request from the complete response: the complete response itself,
/// a 206 with the requested ranges, or a 416.
pub(crate) fn range_response<B>(
    complete: HttpResponse<CacheBody<B>>,
    body: &Bytes,
    ranges: RangeSelection,
) -> HttpResponse<CacheBody<B>> {
    match ranges {
        RangeSelection::Full => complete,
        RangeSelection::Unsatisfiable => not_satisfiable(body.len()),
        RangeSelection::Parts(parts) => match parts.as_slice() {
            [part] => single_part(complete, body, part),
            parts => multipart(complete, body, parts),
        },
    }
}

/// Makes a 416 for a representation of `length` bytes (RFC 9110 section 15.5.17).
fn not_satisfiable<B>(length: usize) -> HttpResponse<CacheBody<B>> {
    let body = CacheBody::whole(Bytes::new());
    let mut response = HttpResponse::with_body(StatusCode::RANGE_NOT_SATISFIABLE, body);
    insert(response.headers_mut(), CONTENT_RANGE, format!("bytes */{length}"));
    response
}

/// Makes a 206 with a single range (RFC 9110 section 15.3.7.1).
fn single_part<B>(
    mut response: HttpResponse<CacheBody<B>>,
    body: &Bytes,
    part: &Range<u64>,
) -> HttpResponse<CacheBody<B>> {
    let Some(bytes) = cut(body, part) else { return response };
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let fields = response.headers_mut();
    fields.remove(CONTENT_LENGTH);
    insert(fields, CONTENT_RANGE, content_range(part, body.len()));
    response.set_body(CacheBody::whole(bytes))
}

/// Makes a 206 with several ranges, as `multipart/byteranges` (RFC 9110 section 15.3.7.2).
fn multipart<B>(
    mut response: HttpResponse<CacheBody<B>>,
    body: &Bytes,
    parts: &[Range<u64>],
) -> HttpResponse<CacheBody<B>> {
    let fields = response.headers_mut();
    let content_type = fields.get(CONTENT_TYPE).cloned();
    // The boundary is random, so that an attacker cannot put the boundary into the body.
    let boundary = format!("{:032x}", fastrand::u128(..));
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    // The delimiter of the first part follows no line break.
    let mut line_break = "";
    for part in parts {
        let Some(cut) = cut(body, part) else { continue };
        let mut head = format!("{line_break}--{boundary}\r\n").into_bytes();
        if let Some(content_type) = &content_type {
            head.extend_from_slice(b"Content-Type: ");
            head.extend_from_slice(content_type.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        let range = content_range(part, body.len());
        head.extend_from_slice(format!("Content-Range: {range}\r\n\r\n").as_bytes());
        pieces.extend([Bytes::from(head), cut]);
        line_break = "\r\n";
    }
    pieces.push(Bytes::from(format!("{line_break}--{boundary}--\r\n")));
    fields.remove(CONTENT_LENGTH);
    insert(fields, CONTENT_TYPE, format!("multipart/byteranges; boundary={boundary}"));
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response.set_body(CacheBody::parts(pieces))
}

fn cut(body: &Bytes, part: &Range<u64>) -> Option<Bytes> {
    let range = usize::try_from(part.start).ok()?..usize::try_from(part.end).ok()?;
    body.get(range.clone()).is_some().then(|| body.slice(range))
}

fn content_range(part: &Range<u64>, length: usize) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1))
}

fn insert(fields: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        fields.insert(name, value);
    }
}
