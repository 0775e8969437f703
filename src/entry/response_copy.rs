//! Copies of handlers' responses for the store. No copy shares memory with its original, whose buffers
//! may be much larger, and the parts of a copy share one buffer.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, DATE, ETAG, EXPIRES, HeaderName,
    HeaderValue, LAST_MODIFIED, VARY,
};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// The beginning of a weak entity tag (RFC 9110 section 8.8.3).
const WEAK: &[u8] = b"W/";

/// A copy of the header fields and of the body of a response.
pub(crate) struct ResponseCopy {
    pub(crate) fields: Box<[(HeaderName, HeaderValue)]>,
    pub(crate) body: Bytes,
    /// The first line of `ETag` after `W/`: the weak form of the tag, if the tag is strong and valid.
    pub(crate) weak_form: Option<HeaderValue>,
}

impl ResponseCopy {
    /// Copies header fields in the given order, and a body.
    pub(crate) fn of<'a>(
        fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        body: &[u8],
    ) -> Self {
        // Most responses have fewer lines.
        let fields: SmallVec<[_; 16]> = fields.collect();
        let tag = fields.iter().position(|(name, _)| **name == ETAG);
        let values: usize = fields.iter().map(|(_, value)| value.len()).sum();
        let weak = if tag.is_some() { WEAK.len() } else { 0 };
        let mut buffer = BytesMut::with_capacity(values + weak + body.len());
        for (index, (_, value)) in fields.iter().enumerate() {
            if Some(index) == tag {
                buffer.extend_from_slice(WEAK);
            }
            buffer.extend_from_slice(value.as_bytes());
        }
        buffer.extend_from_slice(body);
        let (mut rest, mut weak_form) = (buffer.freeze(), None);
        let copy = |(index, &(name, value)): (usize, &(&HeaderName, &HeaderValue))| {
            if Some(index) == tag {
                let form = rest.slice(..WEAK.len() + value.len());
                weak_form = HeaderValue::from_maybe_shared(form).ok();
                drop(rest.split_to(WEAK.len()));
            }
            let bytes = rest.split_to(value.len());
            let copy = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| value.clone());
            (copy_name(name), copy)
        };
        let fields = fields.iter().enumerate().map(copy).collect();
        Self { fields, body: rest, weak_form }
    }
}

/// Copies header fields in the given order.
pub(crate) fn copy_fields<'a>(
    fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> Box<[(HeaderName, HeaderValue)]> {
    let mut fields = fields.peekable();
    match fields.peek() {
        Some(_) => ResponseCopy::of(fields, &[]).fields,
        None => Box::default(),
    }
}

/// The names of fields that responses often have. A name that has a constant holds no buffer, so its
/// clone shares none.
const USUAL_NAMES: [HeaderName; 8] = [
    CACHE_CONTROL,
    CONTENT_TYPE,
    DATE,
    ETAG,
    EXPIRES,
    LAST_MODIFIED,
    VARY,
    CONTENT_SECURITY_POLICY,
];

/// Copies a field name. The copy shares no buffer with the original.
fn copy_name(name: &HeaderName) -> HeaderName {
    if USUAL_NAMES.contains(name) {
        return name.clone();
    }
    HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copied_fields_keep_lines_and_order_and_share_no_buffer() {
        let big = Bytes::from(vec![b'x'; 10_000]);
        let value = HeaderValue::from_maybe_shared(big.slice(0..3)).unwrap();
        let name = HeaderName::from_static("link");
        let fields = [(&name, &value), (&name, &value)];
        let copy = copy_fields(fields.into_iter());
        assert_eq!(copy.len(), 2);
        assert!(copy.iter().all(|(found, copied)| *found == name && *copied == value));
        let body = big.slice(..5);
        let whole = ResponseCopy::of(fields.into_iter(), &body);
        assert_eq!((&whole.fields, &whole.body, whole.weak_form.is_none()), (&copy, &body, true));
        drop((value, copy, body));
        assert!(big.is_unique());
    }

    #[test]
    fn first_entity_tag_is_copied_with_its_weak_form() {
        let value = HeaderValue::from_static;
        let (tag, other, date) = (value("\"a\""), value("\"b\""), value("0"));
        for (fields, want) in [
            (&[(&DATE, &date)][..], None),
            (&[(&ETAG, &tag)], Some("W/\"a\"")),
            (&[(&DATE, &date), (&ETAG, &tag), (&DATE, &date), (&ETAG, &other)], Some("W/\"a\"")),
        ] {
            let copy = ResponseCopy::of(fields.iter().copied(), b"body");
            let copied: Vec<_> = copy.fields.iter().map(|(name, value)| (name, value)).collect();
            assert_eq!(copied, fields);
            assert_eq!(copy.weak_form, want.map(value));
            assert_eq!(copy.body, "body");
        }
    }
}
