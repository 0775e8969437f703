//! Responses that a compressing middleware around the cache may encode.
//!
//! actix's `Compress` encodes a response and leaves its strong entity tag as it is. The encoded
//! response then has the entity tag of the stored response, but other bytes (RFC 9110 section
//! 8.8.3.3). The cache must therefore not send a range of the stored response to a client that
//! resumes its download of the encoded response.

use actix_web::http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue,
};

use super::{
    fields::{EntityTag, Fields, trim},
    vary::accepts_any_coding,
};
use crate::entry::response::{Audience, StoredResponse};

/// The codings of actix's `Compress`.
const CODINGS: [&str; 4] = ["br", "gzip", "deflate", "zstd"];

/// Whether a client accepts a coding of actix's `Compress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodingSupport {
    Supported,
    Unsupported,
}

impl CodingSupport {
    /// Reads `Accept-Encoding` of a request.
    pub(crate) fn of(request: &impl Fields) -> Self {
        if accepts_compression(request) { Self::Supported } else { Self::Unsupported }
    }
}

/// Whether a middleware around the cache may compress responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum OuterCompression {
    #[default]
    Possible,
    Absent,
}

impl OuterCompression {
    /// Returns whether a middleware around the cache may encode the response for this client. This
    /// is possible if the response has no content coding, the client accepts a coding of
    /// `Compress`, and `Compress` encodes the media type of the response.
    pub(crate) fn may_encode(self, client: CodingSupport, response: &HeaderMap) -> bool {
        self == Self::Possible && client == CodingSupport::Supported && is_encodable(response)
    }

    /// Makes the strong entity tag of a response weak, if a middleware around the cache may encode the
    /// response for this client. The encoded response would have the same entity tag, although its
    /// bytes are others (RFC 9110 section 8.8.1).
    pub(crate) fn weaken_tag(self, client: CodingSupport, response: &mut HeaderMap) {
        if self.may_encode(client, response) {
            weaken_strong_tag(response);
        }
    }

    /// Returns the weak form of the entity tag of a stored response, in the same cases as
    /// [`weaken_tag`](Self::weaken_tag).
    pub(crate) fn weak_tag<'a>(
        self,
        request: &impl Fields,
        stored: &'a StoredResponse,
    ) -> Option<&'a HeaderValue> {
        if self == Self::Absent {
            return None;
        }
        let make = || {
            let tag = stored.lines(&ETAG).next()?;
            if !is_strong_tag(tag) || !may_be_coded(stored) {
                return None;
            }
            let is_trimmed = *trim(tag.as_bytes()) == *tag.as_bytes();
            let at_hand = is_trimmed.then(|| stored.fields.weak_etag()).flatten();
            at_hand.or_else(|| weak_form(tag))
        };
        stored.weak_tag.get_or_make(make).filter(|_| accepts_compression(request))
    }
}

/// Makes the strong entity tag of a response weak.
pub(crate) fn weaken_strong_tag(response: &mut HeaderMap) {
    if let Some(tag) = response.get_mut(ETAG)
        && let Some(weak) = weak_tag_of(tag)
    {
        *tag = weak;
    }
}

/// Returns the weak form of a strong entity tag.
pub(crate) fn weak_tag_of(tag: &HeaderValue) -> Option<HeaderValue> {
    if is_strong_tag(tag) { weak_form(tag) } else { None }
}

fn is_strong_tag(tag: &HeaderValue) -> bool {
    EntityTag::parse(tag.as_bytes()).is_some_and(EntityTag::is_strong)
}

fn weak_form(strong: &HeaderValue) -> Option<HeaderValue> {
    // The value takes over the allocation.
    HeaderValue::try_from([b"W/", trim(strong.as_bytes())].concat()).ok()
}

/// Whether a middleware inside the cache may compress responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum InnerCompression {
    #[default]
    Possible,
    Absent,
}

impl InnerCompression {
    /// Returns the clients that a response to a request of this client may answer.
    ///
    /// Actix's `Compress` states `Vary: Accept-Encoding` only in responses that it encodes. A
    /// response without a coding, for a client that accepts none, may therefore be encoded for other
    /// clients. They get such a response of their own.
    pub(crate) fn audience(self, client: CodingSupport, response: &HeaderMap) -> Audience {
        if self == Self::Possible && client == CodingSupport::Unsupported && is_encodable(response)
        {
            Audience::ClientsWithoutCodings
        } else {
            Audience::Everyone
        }
    }
}

/// Returns whether a client accepts a coding of actix's `Compress`.
pub(crate) fn accepts_compression(request: &impl Fields) -> bool {
    let Some(first) = request.lines(&ACCEPT_ENCODING).next() else { return false };
    // Most clients begin the list with a coding that they accept without a weight.
    let member = first.split(|byte| *byte == b',').next();
    matches!(member, Some(b"br" | b"gzip" | b"deflate" | b"zstd"))
        || accepts_any_coding(request, &CODINGS)
}

/// Returns whether `Compress` encodes a response for clients that accept it: one without a content
/// coding, and of any media type but videos, and images other than SVG.
fn is_encodable(response: &HeaderMap) -> bool {
    !response.contains_key(CONTENT_ENCODING)
        && response.get(CONTENT_TYPE).is_none_or(|value| is_compressed(value.as_bytes()))
}

/// Returns the same for a stored response.
pub(crate) fn is_stored_as_compressed_type(stored: &StoredResponse) -> bool {
    let media_type = stored.lines(&CONTENT_TYPE).next();
    media_type.is_none_or(|value| is_compressed(value.as_bytes()))
}

/// Returns whether `Compress` may encode a stored response.
fn may_be_coded(stored: &StoredResponse) -> bool {
    !stored.has_field(&CONTENT_ENCODING) && is_stored_as_compressed_type(stored)
}

fn is_compressed(media_type: &[u8]) -> bool {
    let essence = media_type.split(|&byte| byte == b';').next().unwrap_or_default();
    let essence = essence.trim_ascii();
    let begins_with = |beginning: &[u8]| {
        essence.get(..beginning.len()).is_some_and(|start| start.eq_ignore_ascii_case(beginning))
    };
    let is_image = begins_with(b"image/") && !essence.eq_ignore_ascii_case(b"image/svg+xml");
    !is_image && !begins_with(b"video/")
}

#[cfg(test)]
mod tests {
    use std::slice;

    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;
    use crate::entry::fixtures::stored;

    fn fields(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let line = |(name, value): &(HeaderName, &str)| {
            (name.clone(), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn compressible_response_may_be_encoded_for_a_client_that_accepts_a_coding() {
        for (accepted, want) in [
            ("gzip", true),
            ("br;q=0.1", true),
            ("deflate, gzip;q=0", true),
            ("x-own, zstd", true),
            ("*", true),
            ("identity", false),
            ("gzip;q=0", false),
            ("identity;q=1, *;q=0", false),
            ("x-own", false),
            ("", false),
        ] {
            let client = CodingSupport::of(&fields(&[(ACCEPT_ENCODING, accepted)]));
            let response = fields(&[(CONTENT_TYPE, "text/html")]);
            assert_eq!(
                OuterCompression::Possible.may_encode(client, &response),
                want,
                "{accepted}"
            );
            assert!(!OuterCompression::Absent.may_encode(client, &response));
        }
        let response = fields(&[]);
        assert!(!OuterCompression::Possible.may_encode(CodingSupport::of(&fields(&[])), &response));
    }

    #[test]
    fn strong_tag_of_a_response_that_may_be_encoded_becomes_weak() {
        for (tag, accepted, kind, want) in [
            ("\"a\"", "gzip", "text/html", "W/\"a\""),
            ("W/\"a\"", "gzip", "text/html", "W/\"a\""),
            ("invalid", "gzip", "text/html", "invalid"),
            ("\"a\"", "identity", "text/html", "\"a\""),
            ("\"a\"", "gzip", "image/png", "\"a\""),
        ] {
            let client = CodingSupport::of(&fields(&[(ACCEPT_ENCODING, accepted)]));
            for (outer, want) in
                [(OuterCompression::Possible, want), (OuterCompression::Absent, tag)]
            {
                let mut response = fields(&[(ETAG, tag), (CONTENT_TYPE, kind)]);
                outer.weaken_tag(client, &mut response);
                assert_eq!(response.get(ETAG).unwrap(), want, "{tag} {accepted} {kind}");
            }
            let mut coded = fields(&[(ETAG, tag), (CONTENT_ENCODING, "br")]);
            OuterCompression::Possible.weaken_tag(client, &mut coded);
            assert_eq!(coded.get(ETAG).unwrap(), tag);
        }
    }

    #[test]
    fn weak_tag_of_a_stored_response_is_that_of_its_fields() {
        let page = |lines: &[(HeaderName, &str)]| StoredResponse {
            fields: fields(lines).into_iter().collect(),
            ..stored(0, &[])
        };
        let (tag, html) = ((ETAG, "\"a\""), (CONTENT_TYPE, "text/html"));
        for response in [
            &[][..],
            slice::from_ref(&tag),
            &[tag.clone(), html.clone()],
            &[(ETAG, "W/\"a\""), html.clone()],
            &[(ETAG, "invalid"), html.clone()],
            &[(ETAG, " \"a\" "), html.clone()],
            &[tag.clone(), (CONTENT_TYPE, "image/png")],
            &[tag.clone(), html.clone(), (CONTENT_ENCODING, "br")],
        ] {
            for accepted in ["gzip", "identity"] {
                for outer in [OuterCompression::Possible, OuterCompression::Absent] {
                    let request = fields(&[(ACCEPT_ENCODING, accepted)]);
                    let client = CodingSupport::of(&request);
                    let mut weakened = fields(response);
                    outer.weaken_tag(client, &mut weakened);
                    for stored in [page(response), page(response).copied()] {
                        let kept = stored.lines(&ETAG).next();
                        let got = outer.weak_tag(&request, &stored).or(kept);
                        assert_eq!(got, weakened.get(ETAG), "{response:?} {accepted} {outer:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn images_videos_and_encoded_responses_are_not_encoded() {
        let client = CodingSupport::Supported;
        for (response, want) in [
            (vec![], true),
            (vec![(CONTENT_TYPE, "application/pdf")], true),
            (vec![(CONTENT_TYPE, "audio/mpeg")], true),
            (vec![(CONTENT_TYPE, "image/svg+xml")], true),
            (vec![(CONTENT_TYPE, "IMAGE/SVG+XML; charset=utf-8")], true),
            (vec![(CONTENT_TYPE, "image/png")], false),
            (vec![(CONTENT_TYPE, "Video/mp4; codecs=x")], false),
            (vec![(CONTENT_ENCODING, "gzip")], false),
        ] {
            let got = OuterCompression::Possible.may_encode(client, &fields(&response));
            assert_eq!(got, want, "{response:?}");
        }
    }

    #[test]
    fn uncoded_response_to_a_client_without_codings_is_for_such_clients() {
        let html = (CONTENT_TYPE, "text/html");
        for (case, accept, response, everyone) in [
            ("no field", None, vec![html.clone()], false),
            ("identity alone", Some("identity"), vec![html.clone()], false),
            ("all refused", Some("gzip;q=0, *;q=0"), vec![html.clone()], false),
            ("no media type", None, vec![], false),
            ("accepts gzip", Some("gzip"), vec![html.clone()], true),
            ("accepts any", Some("*"), vec![html.clone()], true),
            ("coded", None, vec![html.clone(), (CONTENT_ENCODING, "gzip")], true),
            ("image", None, vec![(CONTENT_TYPE, "image/png")], true),
        ] {
            let accept: Vec<_> = accept.map(|value| (ACCEPT_ENCODING, value)).into_iter().collect();
            let (client, response) = (CodingSupport::of(&fields(&accept)), fields(&response));
            let audience = InnerCompression::Possible.audience(client, &response);
            assert_eq!(audience == Audience::Everyone, everyone, "{case}");
            let absent = InnerCompression::Absent.audience(client, &response);
            assert_eq!(absent, Audience::Everyone, "{case}");
        }
    }
}
