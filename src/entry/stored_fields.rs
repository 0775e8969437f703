//! The header fields of stored responses.
//!
//! Many stored responses are never sent to another client. So the fields are stored as bytes, and the
//! list of names and values, which takes longer to make and to drop, is made when it is first read.

use std::{fmt, iter, ops::Deref, sync::OnceLock};

use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;

use super::length_prefixed::{LENGTH, append_part, read_part};

/// A line of the header: the name and the value of a field.
pub(crate) type FieldLine = (HeaderName, HeaderValue);

/// The header fields of a stored response, in their order. They are read as a slice of lines.
#[derive(Clone, Default)]
pub(crate) struct StoredFields {
    /// The names and the values of the lines in turn ([`length_prefixed`](super::length_prefixed)).
    /// Empty if `lines` was known from the beginning.
    encoded: Bytes,
    /// The number of lines in `encoded`.
    encoded_lines: usize,
    /// A line after those in `encoded`.
    last: Option<Box<FieldLine>>,
    /// All lines, once they were read.
    lines: OnceLock<Box<[FieldLine]>>,
}

impl StoredFields {
    /// Returns the number of bytes that [`append_line`] appends.
    pub(crate) const fn encoded_length(name: &str, value: &[u8]) -> usize {
        2 * LENGTH + name.len() + value.len()
    }

    /// Makes fields from lines that [`append_line`] encoded.
    pub(crate) fn of_encoded(encoded: Bytes, encoded_lines: usize) -> Self {
        Self { encoded, encoded_lines, ..Self::default() }
    }

    /// Appends a line.
    pub(crate) fn push(&mut self, name: HeaderName, value: HeaderValue) {
        if !self.encoded.is_empty() && self.last.is_none() {
            self.lines = OnceLock::new();
            self.last = Some(Box::new((name, value)));
        } else {
            *self = self.iter().cloned().chain([(name, value)]).collect();
        }
    }

    /// Returns the number of lines. Does not make the list of lines.
    pub(crate) fn count(&self) -> usize {
        match self.encoded.is_empty() {
            true => self.len(),
            false => self.encoded_lines + usize::from(self.last.is_some()),
        }
    }

    /// Returns the names and values of all lines. Does not make the list of lines.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let known = if self.encoded.is_empty() { &**self } else { &[] };
        let last = self.last.as_deref();
        let lines = known.iter().chain(last).map(|(name, value)| (name.as_ref(), value.as_bytes()));
        encoded_lines(&self.encoded).chain(lines)
    }

    /// Returns the values of all lines of a field. Does not make the list of lines.
    pub(crate) fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_str().as_bytes();
        self.bytes().filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Returns the number of bytes that the fields take in memory once the list of lines is made.
    pub(crate) fn weight(&self) -> usize {
        if self.encoded.is_empty() {
            return self.iter().map(|(name, value)| line_weight(name, value.len())).sum();
        }
        let last = self.last.as_ref().map(|last| line_weight(&last.0, last.1.len()));
        self.encoded_lines * size_of::<FieldLine>()
            + self.encoded.len()
            + last.map_or(0, |last| last + size_of::<FieldLine>())
    }

    fn decoded(&self) -> Box<[FieldLine]> {
        let line = |(name, value): (&[u8], &[u8])| {
            let name = HeaderName::from_bytes(name).ok()?;
            Some((name, HeaderValue::from_maybe_shared(self.encoded.slice_ref(value)).ok()?))
        };
        let last = self.last.as_deref().cloned();
        let mut lines = Vec::with_capacity(self.encoded_lines + usize::from(last.is_some()));
        lines.extend(encoded_lines(&self.encoded).filter_map(line).chain(last));
        lines.into_boxed_slice()
    }
}

/// Appends the encoded form of a line.
pub(crate) fn append_line(encoded: &mut Vec<u8>, name: &str, value: &[u8]) {
    append_part(encoded, name.as_bytes());
    append_part(encoded, value);
}

/// Returns the names and values of lines that [`append_line`] encoded.
fn encoded_lines(mut encoded: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    iter::from_fn(move || {
        let (name, after_name) = read_part(encoded)?;
        let (value, after_value) = read_part(after_name)?;
        encoded = after_value;
        Some((name, value))
    })
}

/// Returns the number of bytes that a header field takes in memory: the two Rust values, and the
/// text of the name and the value.
pub(crate) fn line_weight(name: &HeaderName, value: usize) -> usize {
    size_of::<FieldLine>() + name.as_str().len() + value
}

impl Deref for StoredFields {
    type Target = [FieldLine];

    fn deref(&self) -> &[FieldLine] {
        self.lines.get_or_init(|| self.decoded())
    }
}

impl From<Box<[FieldLine]>> for StoredFields {
    fn from(lines: Box<[FieldLine]>) -> Self {
        Self { lines: OnceLock::from(lines), ..Self::default() }
    }
}

impl FromIterator<FieldLine> for StoredFields {
    fn from_iter<I: IntoIterator<Item = FieldLine>>(lines: I) -> Self {
        Self::from(lines.into_iter().collect::<Box<[_]>>())
    }
}

impl<'a> IntoIterator for &'a StoredFields {
    type Item = &'a FieldLine;
    type IntoIter = std::slice::Iter<'a, FieldLine>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for StoredFields {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for StoredFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{DATE, ETAG, VARY};

    use super::*;

    const VALUE: fn(&'static str) -> HeaderValue = HeaderValue::from_static;

    fn lines() -> Vec<FieldLine> {
        let own = HeaderName::from_static("x-own");
        vec![(VARY, VALUE("a")), (own, VALUE("")), (DATE, VALUE("0")), (VARY, VALUE("b"))]
    }

    /// Returns the same fields in the form that a fill makes, and in that of a decoded record.
    fn forms() -> [StoredFields; 2] {
        let mut encoded = Vec::new();
        for (name, value) in &lines() {
            append_line(&mut encoded, name.as_str(), value.as_bytes());
        }
        let length: usize = lines()
            .iter()
            .map(|(name, value)| StoredFields::encoded_length(name.as_str(), value.as_bytes()))
            .sum();
        assert_eq!(encoded.len(), length);
        [StoredFields::of_encoded(encoded.into(), 4), lines().into_iter().collect()]
    }

    #[test]
    fn lines_are_those_of_the_response_in_each_form() {
        for fields in forms() {
            let bytes: Vec<_> = fields.bytes().map(|(_, value)| value.to_vec()).collect();
            assert_eq!(bytes, [&b"a"[..], b"", b"0", b"b"]);
            assert_eq!(fields.values(&VARY).collect::<Vec<_>>(), [b"a", b"b"]);
            assert_eq!(fields.values(&ETAG).count(), 0);
            assert_eq!(fields.count(), 4);
            assert_eq!(&*fields, &*lines());
            let after: Vec<_> = fields.bytes().map(|(_, value)| value.to_vec()).collect();
            assert_eq!(after, bytes, "the list of lines changes nothing");
        }
        assert!(StoredFields::default().is_empty());
    }

    #[test]
    fn lines_are_appended_to_each_form_before_and_after_it_was_read() {
        for reads in [false, true] {
            for mut fields in forms() {
                assert!(!reads || fields.len() == 4);
                let mut want = lines();
                for tag in ["\"a\"", "\"b\""] {
                    fields.push(ETAG, VALUE(tag));
                    want.push((ETAG, VALUE(tag)));
                    assert_eq!(fields.values(&ETAG).last(), Some(tag.as_bytes()));
                    assert_eq!(fields.values(&DATE).count(), 1);
                    assert_eq!(&*fields.clone(), &*want);
                }
            }
        }
    }

    #[test]
    fn weight_counts_the_lines_before_they_are_read() {
        let weight_of = |lines: &[FieldLine]| -> usize {
            lines.iter().map(|(name, value)| line_weight(name, value.len())).sum()
        };
        let [mut encoded, mut decoded] = forms();
        let (lines, last) = (lines(), (ETAG, VALUE("\"a\"")));
        let lengths = lines.len() * 2 * LENGTH;
        for _ in 0..2 {
            assert_eq!(encoded.weight(), weight_of(&lines) + lengths);
            assert_eq!(decoded.weight(), weight_of(&lines));
            assert_eq!(encoded.len(), 4, "the lines are read");
        }
        for fields in [&mut encoded, &mut decoded] {
            fields.push(last.0.clone(), last.1.clone());
        }
        let more = line_weight(&last.0, last.1.len());
        let boxed = size_of::<FieldLine>();
        assert_eq!(encoded.weight(), weight_of(&lines) + lengths + more + boxed);
        assert_eq!(decoded.weight(), weight_of(&lines) + more);
    }

    #[test]
    fn values_share_the_buffer_of_the_fields() {
        let [fields, _] = forms();
        let range = fields.encoded.as_ptr_range();
        assert!(fields.iter().all(|(_, value)| {
            value.is_empty() || range.contains(&value.as_bytes().as_ptr())
        }));
    }
}
