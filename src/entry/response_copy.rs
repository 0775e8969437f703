//! Copies of handlers' responses for the store. No copy shares memory with its original, whose buffers
//! may be much larger, and the parts of a copy share one buffer.

use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;
use smallvec::SmallVec;

use super::stored_fields::{FieldLine, Layout, StoredFields};

/// A copy of the header fields and of the body of a response.
pub(crate) struct ResponseCopy {
    pub(crate) fields: StoredFields,
    pub(crate) body: Bytes,
}

impl ResponseCopy {
    /// Copies header fields in the given order, and a body.
    pub(crate) fn of<'a>(
        fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
        body: &[u8],
    ) -> Self {
        // Most responses have fewer lines.
        let mut lines = SmallVec::<[_; 16]>::new();
        lines.extend(fields.map(|(name, value)| (name.as_str(), value.as_bytes())));
        let (layout, length) = Layout::of(&lines);
        let mut buffer = Vec::with_capacity(length + body.len());
        Layout::append(&mut buffer, &lines);
        buffer.extend_from_slice(body);
        let mut body = Bytes::from(buffer);
        let encoded = body.split_to(length);
        Self { fields: StoredFields::of_encoded(encoded, layout), body }
    }
}

/// Copies header fields in the given order.
pub(crate) fn copy_fields<'a>(
    fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>,
) -> Box<[FieldLine]> {
    let mut fields = fields.peekable();
    match fields.peek() {
        Some(_) => ResponseCopy::of(fields, &[]).fields.iter().cloned().collect(),
        None => Box::default(),
    }
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
        assert_eq!((&*whole.fields, &whole.body), (&*copy, &body));
        drop((value, copy, body));
        assert!(big.is_unique());
    }
}
