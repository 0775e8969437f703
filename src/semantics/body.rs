//! Checks whether a response body can be stored, by its length, its media type and the status code.

use actix_web::{
    body::BodySize,
    http::{
        StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap},
    },
};

use super::fields::{field_lines, trim};
use crate::{entry::limits::may_have_body, outcome::NotStored};

/// Media types of bodies that usually do not end: server-sent events, and sequences of images in
/// which each image replaces the one before, such as the pictures of a camera.
const ENDLESS_TYPES: [&[u8]; 2] = [b"text/event-stream", b"multipart/x-mixed-replace"];

/// Checks whether a response's body can be stored. Only the head of the response is known yet.
///
/// `size` is the size that the body object reports. A response is too large if its body has more
/// than `max_body_size` bytes. The limit applies separately to `head_length`, the total length of the
/// names and values of all lines of the header.
pub(crate) fn check_body(
    status: StatusCode,
    response: &HeaderMap,
    head_length: usize,
    size: BodySize,
    max_body_size: usize,
) -> Result<(), NotStored> {
    let too_long = |length| length > max_body_size as u64;
    if head_length > max_body_size || declared_length(size, response).is_some_and(too_long) {
        return Err(NotStored::TooLarge);
    }
    if size == BodySize::Stream && is_endless(response) {
        return Err(NotStored::Endless);
    }
    match size {
        BodySize::Sized(1..) | BodySize::Stream if !may_have_body(status) => Err(NotStored::NoBody),
        // A response without a body is incomplete if its status code calls for a body.
        BodySize::None if may_have_body(status) => Err(NotStored::NoBody),
        BodySize::Sized(_) | BodySize::Stream | BodySize::None => Ok(()),
    }
}

/// Returns whether a response has a media type whose bodies usually do not end.
pub(crate) fn is_endless(response: &HeaderMap) -> bool {
    let content_type = field_lines(response, &CONTENT_TYPE).next().unwrap_or_default();
    let media_type = trim(content_type.split(|&byte| byte == b';').next().unwrap_or_default());
    ENDLESS_TYPES.iter().any(|endless| media_type.eq_ignore_ascii_case(endless))
}

/// Returns the declared length of a body; `None` if the length is unknown.
///
/// A handler that forwards a response of another server may send a body object of unknown size. The
/// `Content-Length` of that server then declares the length. A body that ends before its declared
/// length is incomplete (RFC 9112 section 8).
pub(crate) fn declared_length(size: BodySize, response: &HeaderMap) -> Option<u64> {
    match size {
        BodySize::Sized(length) => Some(length),
        BodySize::None => None,
        BodySize::Stream => {
            let line = field_lines(response, &CONTENT_LENGTH).next()?;
            std::str::from_utf8(line).ok()?.parse().ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn response(fields: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name.clone(), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn endless_media_types_are_recognized_with_any_case_and_parameters() {
        for (content_type, want) in [
            (None, false),
            (Some(""), false),
            (Some("text/html"), false),
            (Some("text/event-stream"), true),
            (Some("Text/Event-Stream; charset=utf-8"), true),
            (Some("multipart/x-mixed-replace;boundary=a"), true),
            (Some("multipart/x-mixed-replace "), true),
            (Some("multipart/mixed"), false),
            (Some("text/plain; a=text/event-stream"), false),
        ] {
            let fields: Vec<_> =
                content_type.map(|value| (CONTENT_TYPE, value)).into_iter().collect();
            assert_eq!(is_endless(&response(&fields)), want, "{content_type:?}");
        }
    }

    #[test]
    fn declared_length_is_that_of_the_body_or_of_content_length() {
        for (size, content_length, want) in [
            (BodySize::Sized(5), None, Some(5)),
            (BodySize::Sized(5), Some("7"), Some(5)),
            (BodySize::Sized(0), Some("7"), Some(0)),
            (BodySize::None, Some("7"), None),
            (BodySize::Stream, None, None),
            (BodySize::Stream, Some("7"), Some(7)),
            (BodySize::Stream, Some("x"), None),
            (BodySize::Stream, Some("-1"), None),
            (BodySize::Stream, Some("99999999999999999999"), None),
        ] {
            let fields: Vec<_> =
                content_length.map(|value| (CONTENT_LENGTH, value)).into_iter().collect();
            let got = declared_length(size, &response(&fields));
            assert_eq!(got, want, "{size:?} {content_length:?}");
        }
        let odd = HeaderValue::from_bytes(&[0xff]).unwrap();
        let mut fields = HeaderMap::new();
        fields.insert(CONTENT_LENGTH, odd);
        assert_eq!(declared_length(BodySize::Stream, &fields), None, "no text");
    }

    #[test]
    fn body_can_be_stored_if_it_ends_within_the_limit_and_suits_the_status() {
        use NotStored::{Endless, NoBody, TooLarge};
        let events = || vec![(CONTENT_TYPE, "text/event-stream")];
        let length = |value| vec![(CONTENT_LENGTH, value)];
        for (status, size, fields, want) in [
            (200, BodySize::Sized(0), vec![], Ok(())),
            (200, BodySize::Sized(40), vec![], Ok(())),
            (200, BodySize::Sized(41), vec![], Err(TooLarge)),
            (200, BodySize::Stream, vec![], Ok(())),
            (200, BodySize::Stream, length("40"), Ok(())),
            (200, BodySize::Stream, length("41"), Err(TooLarge)),
            (200, BodySize::Stream, length("x"), Ok(())),
            (200, BodySize::Stream, events(), Err(Endless)),
            (200, BodySize::Sized(5), events(), Ok(())),
            (200, BodySize::None, vec![], Err(NoBody)),
            (204, BodySize::None, vec![], Ok(())),
            (204, BodySize::Sized(0), vec![], Ok(())),
            (204, BodySize::Sized(1), vec![], Err(NoBody)),
            (204, BodySize::Stream, vec![], Err(NoBody)),
            (404, BodySize::Sized(5), vec![], Ok(())),
        ] {
            let fields = response(&fields);
            let status = StatusCode::from_u16(status).unwrap();
            let got = check_body(status, &fields, 40, size, 40);
            assert_eq!(got, want, "{status} {size:?} {fields:?}");
        }
    }

    #[test]
    fn head_counts_against_the_limit_of_the_body() {
        for (limit, want) in [(9, Err(NotStored::TooLarge)), (10, Ok(()))] {
            let got = check_body(StatusCode::OK, &response(&[]), 10, BodySize::Sized(1), limit);
            assert_eq!(got, want, "{limit}");
        }
    }
}
