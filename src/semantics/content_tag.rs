//! Entity tags that the cache makes from the content of responses, so that clients can revalidate
//! responses whose handlers send no validator (RFC 9110 section 8.8.3).

use actix_web::http::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, HeaderName, HeaderValue},
};
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::entry::{length_prefixed::append_part, response::StoredResponse};

/// The keys of the hash function. All processes and builds make equal tags, so that a client can
/// revalidate at one process a response that it got from another one.
const KEYS: (u64, u64) = (0x6163_7469_782d_7765, 0x625f_6361_6368_652e);

/// The fields that describe the content, except its length. A 304 does not contain them, so that a
/// client keeps those that it has. The tag therefore differs if one of them differs.
const CONTENT_FIELDS: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE];

/// Returns the entity tag of a complete response by its content. Returns `None` if the response has
/// another status code than 200, because a 304 can only replace a 200, or if it has a validator.
///
/// A response with `Last-Modified` gets no tag: a client would then send `If-None-Match`, and a
/// handler that knows only `If-Modified-Since` ignores this field next to an `If-None-Match` (RFC
/// 9110 section 13.2.2).
///
/// The tag is weak, because middlewares around the cache may encode the content for some clients.
pub(crate) fn content_tag(response: &StoredResponse) -> Option<HeaderValue> {
    let is_validator = |name: &[u8]| matches!(name, b"etag" | b"last-modified");
    let has_validator = response.fields.bytes().any(|(name, _)| is_validator(name));
    if response.status != StatusCode::OK || has_validator {
        return None;
    }
    let mut hasher = SipHasher13::new_with_keys(KEYS.0, KEYS.1);
    for name in &CONTENT_FIELDS {
        for line in response.fields.values(name) {
            append_part(&mut hasher, name.as_str().as_bytes());
            append_part(&mut hasher, line);
        }
    }
    append_part(&mut hasher, &response.body);
    let (high, low) = hasher.finish128().as_u64();
    HeaderValue::try_from(format!("W/\"{high:016x}{low:016x}\"")).ok()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ETAG, LAST_MODIFIED};
    use bytes::Bytes;

    use super::*;
    use crate::{entry::fixtures::stored, semantics::fields::EntityTag};

    fn response(fields: &[(HeaderName, &'static str)], body: &'static str) -> StoredResponse {
        let line = |(name, value): &(HeaderName, &'static str)| {
            (name.clone(), HeaderValue::from_static(value))
        };
        let fields = fields.iter().map(line).collect();
        StoredResponse { fields, body: Bytes::from_static(body.as_bytes()), ..stored(0, &[]) }
    }

    /// Processes of different builds serve one client, so these expected tags must never change.
    #[test]
    fn tag_is_the_same_in_every_build() {
        for (response, want) in [
            (response(&[], ""), "W/\"016e27aa54d2237b0b2da1c42c590a2e\""),
            (
                response(&[(CONTENT_TYPE, "text/html")], "page"),
                "W/\"aac38c4864ef148e1b2025edc31fcc9c\"",
            ),
        ] {
            let tag = content_tag(&response).unwrap();
            assert_eq!(tag, want);
            assert!(!EntityTag::parse(tag.as_bytes()).unwrap().is_strong());
        }
    }

    #[test]
    fn content_and_the_fields_that_describe_it_change_the_tag() {
        let html = || (CONTENT_TYPE, "text/html");
        let other = |name| (HeaderName::from_static(name), "a");
        let tags = [
            response(&[], "page"),
            response(&[], "pages"),
            response(&[html()], "page"),
            response(&[(CONTENT_TYPE, "text/htm")], "lpage"),
            response(&[(CONTENT_TYPE, "text/plain")], "page"),
            response(&[html(), (CONTENT_ENCODING, "gzip")], "page"),
            response(&[html(), (CONTENT_LANGUAGE, "gzip")], "page"),
            response(&[html(), html()], "page"),
        ]
        .map(|response| content_tag(&response).unwrap());
        for (index, one) in tags.iter().enumerate() {
            assert!(!tags[index + 1..].contains(one), "{index}");
        }
        let more = response(&[other("x-a"), html(), other("date")], "page");
        assert_eq!(content_tag(&more).unwrap(), tags[2]);
    }

    #[test]
    fn only_complete_responses_without_a_validator_get_a_tag() {
        for (name, value) in
            [(ETAG, "\"a\""), (ETAG, "invalid"), (LAST_MODIFIED, "invalid"), (LAST_MODIFIED, "")]
        {
            assert_eq!(content_tag(&response(&[(name, value)], "page")), None);
        }
        for status in [201, 203, 204, 301, 404, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(content_tag(&StoredResponse { status, ..response(&[], "page") }), None);
        }
    }
}
