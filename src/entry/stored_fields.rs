//! The header fields of stored responses.
//!
//! Many stored responses are never sent to another client. So the fields are stored as bytes, and the
//! list of names and values, which takes longer to make and to drop, is made when it is first read.

use std::{fmt, iter, ops::Deref, sync::OnceLock};

use actix_web::http::header::{ETAG, HeaderName, HeaderValue};
use bytes::Bytes;

use super::length_prefixed::{LENGTH, append_lengths, read_lengths};

/// A line of the header: the name and the value of a field.
pub(crate) type FieldLine = (HeaderName, HeaderValue);

/// The header fields of a stored response, in their order. They are read as a slice of lines.
#[derive(Clone, Default)]
pub(crate) struct StoredFields {
    /// The encoded lines. Empty if `lines` was known from the beginning.
    encoded: Bytes,
    layout: Layout,
    /// The value of a line of `ETag` after those in `encoded`.
    etag: Option<Box<HeaderValue>>,
    /// All lines, once they were read.
    lines: OnceLock<Box<[FieldLine]>>,
}

impl StoredFields {
    /// Makes fields from lines that [`Layout::append`] encoded.
    pub(crate) fn of_encoded(encoded: Bytes, layout: Layout) -> Self {
        Self { encoded, layout, ..Self::default() }
    }

    /// Appends a line of `ETag`.
    pub(crate) fn push_etag(&mut self, value: HeaderValue) {
        if !self.encoded.is_empty() && self.etag.is_none() {
            self.lines = OnceLock::new();
            self.etag = Some(Box::new(value));
        } else {
            *self = self.iter().cloned().chain([(ETAG, value)]).collect();
        }
    }

    /// Returns the value of the last line of `ETag`. Does not make the list of lines if that line was
    /// appended to encoded lines.
    pub(crate) fn last_etag(&self) -> Option<&HeaderValue> {
        let in_lines = || self.iter().rfind(|(name, _)| *name == ETAG).map(|(_, value)| value);
        self.etag.as_deref().or_else(in_lines)
    }

    /// Returns the number of lines. Does not make the list of lines.
    pub(crate) fn count(&self) -> usize {
        match self.encoded.is_empty() {
            true => self.len(),
            false => self.layout.lines + usize::from(self.etag.is_some()),
        }
    }

    /// Returns the names and values of all lines. Does not make the list of lines.
    pub(crate) fn bytes(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let known = if self.encoded.is_empty() { &**self } else { &[] };
        let known = known.iter().map(|(name, value)| (name.as_ref(), value.as_bytes()));
        let etag = self.etag.as_deref().map(|value| (ETAG.as_str().as_bytes(), value.as_bytes()));
        self.layout.lines_of(&self.encoded).chain(known).chain(etag)
    }

    /// Returns the values of all lines of a field. Does not make the list of lines.
    pub(crate) fn values<'a>(&'a self, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_str().as_bytes();
        self.bytes().filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }

    /// Returns `W/` and the first value of `ETag`, if the fields are encoded.
    pub(crate) fn weak_etag(&self) -> Option<HeaderValue> {
        let mut start = self.layout.names;
        let weak = self.layout.lines_of(&self.encoded).find_map(|(name, value)| {
            let value = start..start + prefix(name).len() + value.len();
            start = value.end;
            (*name == *ETAG.as_str().as_bytes()).then_some(value)
        });
        let weak = self.encoded.get(weak?)?;
        HeaderValue::from_maybe_shared(self.encoded.slice_ref(weak)).ok()
    }

    /// Returns the number of bytes that the fields take in memory once the list of lines is made.
    pub(crate) fn weight(&self) -> usize {
        if self.encoded.is_empty() {
            return self.iter().map(|(name, value)| line_weight(name, value.len())).sum();
        }
        let etag = self.etag.as_ref().map(|value| line_weight(&ETAG, value.len()));
        self.layout.lines * size_of::<FieldLine>()
            + self.encoded.len()
            + etag.map_or(0, |line| line + size_of::<HeaderValue>())
    }

    fn decoded(&self) -> Box<[FieldLine]> {
        let line = |(name, value): (&[u8], &[u8])| {
            let name = HeaderName::from_bytes(name).ok()?;
            Some((name, HeaderValue::from_maybe_shared(self.encoded.slice_ref(value)).ok()?))
        };
        let etag = self.etag.as_deref().map(|value| (ETAG, value.clone()));
        let mut lines = Vec::with_capacity(self.layout.lines + usize::from(etag.is_some()));
        lines.extend(self.layout.lines_of(&self.encoded).filter_map(line).chain(etag));
        lines.into_boxed_slice()
    }
}

/// The beginning of a weak entity tag (RFC 9110 section 8.8.3). It precedes each value of `ETag`, so that
/// the weak form of the tag needs no copy.
const WEAK: &[u8] = b"W/";

/// Returns the bytes before a value of a field.
const fn prefix(name: &[u8]) -> &'static [u8] {
    if matches!(name, b"etag") { WEAK } else { &[] }
}

/// The layout of encoded lines: for each line the lengths of its name and its value, and the name, and
/// then all values. A hit reads the values alone, so they are close to each other and to the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Layout {
    lines: usize,
    /// The number of bytes before the values.
    names: usize,
}

impl Layout {
    /// Returns the layout of these names and values, and the number of bytes that
    /// [`append`](Self::append) appends for them.
    pub(crate) fn of(lines: &[(&str, &[u8])]) -> (Self, usize) {
        let names = lines.iter().map(|(name, _)| 2 * LENGTH + name.len()).sum();
        let value = |(name, value): &(&str, &[u8])| prefix(name.as_bytes()).len() + value.len();
        let values: usize = lines.iter().map(value).sum();
        (Self { lines: lines.len(), names }, names + values)
    }

    /// Appends the encoded form of names and values.
    pub(crate) fn append(encoded: &mut Vec<u8>, lines: &[(&str, &[u8])]) {
        for (name, value) in lines {
            append_lengths(encoded, name.len(), value.len());
            encoded.extend_from_slice(name.as_bytes());
        }
        for (name, value) in lines {
            encoded.extend_from_slice(prefix(name.as_bytes()));
            encoded.extend_from_slice(value);
        }
    }

    /// Returns the names and values of encoded lines.
    fn lines_of(self, encoded: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (mut names, mut values) = encoded.split_at_checked(self.names).unwrap_or_default();
        iter::from_fn(move || {
            let (name, value, after_lengths) = read_lengths(names)?;
            let (name, other_names) = after_lengths.split_at_checked(name)?;
            let (value, other_values) =
                values.get(prefix(name).len()..)?.split_at_checked(value)?;
            (names, values) = (other_names, other_values);
            Some((name, value))
        })
    }
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
    use actix_web::http::header::{DATE, VARY};

    use super::*;

    const VALUE: fn(&'static str) -> HeaderValue = HeaderValue::from_static;

    fn lines() -> Vec<FieldLine> {
        let own = HeaderName::from_static("x-own");
        vec![(VARY, VALUE("a")), (own, VALUE("")), (DATE, VALUE("0")), (VARY, VALUE("b"))]
    }

    /// Returns the same fields in the form that a fill makes, and in that of a decoded record.
    fn forms() -> [StoredFields; 2] {
        let lines = lines();
        let bytes: Vec<_> =
            lines.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let (mut encoded, (layout, length)) = (Vec::new(), Layout::of(&bytes));
        Layout::append(&mut encoded, &bytes);
        assert_eq!(encoded.len(), length);
        [StoredFields::of_encoded(encoded.into(), layout), lines.into_iter().collect()]
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
    fn entity_tags_are_appended_to_each_form_before_and_after_it_was_read() {
        for reads in [false, true] {
            for mut fields in forms() {
                assert!(!reads || fields.len() == 4);
                let mut want = lines();
                for tag in ["\"a\"", "\"b\""] {
                    fields.push_etag(VALUE(tag));
                    want.push((ETAG, VALUE(tag)));
                    assert_eq!(fields.values(&ETAG).last(), Some(tag.as_bytes()));
                    assert_eq!(fields.last_etag(), Some(&VALUE(tag)));
                    assert_eq!(fields.values(&DATE).count(), 1);
                    assert_eq!(&*fields.clone(), &*want);
                }
            }
        }
    }

    #[test]
    fn weak_form_of_the_first_entity_tag_shares_the_buffer() {
        let line = |name: &'static str, value: &'static str| (name, value.as_bytes());
        for (lines, want) in [
            (vec![], None),
            (vec![line("date", "0")], None),
            (vec![line("etag", "\"a\"")], Some("W/\"a\"")),
            (
                vec![line("date", "0"), line("etag", "\"a\""), line("vary", ""), line("etag", "b")],
                Some("W/\"a\""),
            ),
        ] {
            let (mut encoded, (layout, length)) = (Vec::new(), Layout::of(&lines));
            Layout::append(&mut encoded, &lines);
            assert_eq!(encoded.len(), length);
            let fields = StoredFields::of_encoded(encoded.into(), layout);
            let weak = fields.weak_etag();
            assert_eq!(weak.as_ref(), want.map(VALUE).as_ref());
            let range = fields.encoded.as_ptr_range();
            assert!(weak.is_none_or(|weak| range.contains(&weak.as_bytes().as_ptr())));
            assert!(fields.bytes().map(|(_, value)| value).eq(lines.iter().map(|line| line.1)));
            assert_eq!(fields.len(), lines.len());
        }
        let decoded = StoredFields::from_iter([(ETAG, VALUE("\"a\""))]);
        assert_eq!(decoded.weak_etag(), None, "it has no such bytes");
    }

    #[test]
    fn weight_counts_the_lines_before_they_are_read() {
        let weight_of = |lines: &[FieldLine]| -> usize {
            lines.iter().map(|(name, value)| line_weight(name, value.len())).sum()
        };
        let [mut encoded, mut decoded] = forms();
        let (lines, tag) = (lines(), VALUE("\"a\""));
        let lengths = lines.len() * 2 * LENGTH;
        for _ in 0..2 {
            assert_eq!(encoded.weight(), weight_of(&lines) + lengths);
            assert_eq!(decoded.weight(), weight_of(&lines));
            assert_eq!(encoded.len(), 4, "the lines are read");
        }
        for fields in [&mut encoded, &mut decoded] {
            fields.push_etag(tag.clone());
        }
        let (more, boxed) = (line_weight(&ETAG, tag.len()), size_of::<HeaderValue>());
        assert_eq!(encoded.weight(), weight_of(&lines) + lengths + more + boxed);
        assert_eq!(decoded.weight(), weight_of(&lines) + more);
    }

    #[test]
    fn values_share_the_buffer_of_the_fields() {
        let [fields, _] = forms();
        let range = fields.encoded.as_ptr_range();
        assert!(
            fields.iter().all(|(_, value)| {
                value.is_empty() || range.contains(&value.as_bytes().as_ptr())
            })
        );
    }
}
