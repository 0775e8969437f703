//! The encoding of a list of byte strings: the length of each part of the list precedes the part.
//!
//! Cache keys, variant ids, collapse keys and tags consist of several parts, and clients choose
//! some of these parts. Because the length of each part precedes the part, two different lists
//! never have equal encodings. A length is 4 bytes, little-endian. An absent part has the length
//! 2³²−1 and no bytes, so it differs from an empty part. Several processes can share encoded lists
//! through a store, so all builds of this crate use the same encoding.

use std::hash::Hasher;

use sha2::{Digest, Sha256};
use siphasher::sip128::SipHasher13;
use smallvec::{Array, SmallVec};

/// The number that is written instead of a length if a part is absent.
const ABSENT: u32 = u32::MAX;

/// The number of bytes in an encoded length.
pub(crate) const LENGTH: usize = size_of::<u32>();

/// A destination of encoded bytes: a buffer or a hash function.
pub(crate) trait ByteSink {
    /// Appends bytes.
    fn append(&mut self, bytes: &[u8]);
}

impl ByteSink for Vec<u8> {
    fn append(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl<A: Array<Item = u8>> ByteSink for SmallVec<A> {
    fn append(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl ByteSink for Sha256 {
    fn append(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl ByteSink for SipHasher13 {
    fn append(&mut self, bytes: &[u8]) {
        self.write(bytes);
    }
}

/// Appends the length of a part, then the part.
pub(crate) fn append_part(sink: &mut impl ByteSink, part: &[u8]) {
    sink.append(&encoded_length(Some(part.len())));
    sink.append(part);
}

/// Appends a part that may be absent.
pub(crate) fn append_optional(sink: &mut impl ByteSink, part: Option<&[u8]>) {
    match part {
        Some(part) => append_part(sink, part),
        None => sink.append(&encoded_length(None)),
    }
}

/// Appends the lengths of two parts. The caller appends the bytes of the parts.
pub(crate) fn append_lengths(sink: &mut impl ByteSink, first: usize, second: usize) {
    let lengths = [first, second].map(|length| encoded_length(Some(length)));
    sink.append(lengths.as_flattened());
}

/// Returns the encoded length of a part, or what precedes an absent part.
pub(crate) fn encoded_length(length: Option<usize>) -> [u8; LENGTH] {
    // Parts come from request heads and from the configuration, which are always shorter than 4
    // GiB.
    let length = length.map_or(ABSENT, |length| u32::try_from(length).unwrap_or(ABSENT - 1));
    length.to_le_bytes()
}

/// Splits an encoded list into its first part and the rest of the list. Returns `None` if the bytes
/// are not an encoded list.
pub(crate) fn read_optional(list: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (length, rest) = list.split_first_chunk::<LENGTH>()?;
    let length = u32::from_le_bytes(*length);
    if length == ABSENT {
        return Some((None, rest));
    }
    let (part, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((Some(part), rest))
}

/// Splits a list into two lengths and the rest of the list.
pub(crate) fn read_lengths(list: &[u8]) -> Option<(usize, usize, &[u8])> {
    let (first, rest) = list.split_first_chunk::<LENGTH>()?;
    let (second, rest) = rest.split_first_chunk::<LENGTH>()?;
    let length = |bytes: &[u8; LENGTH]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
    Some((length(first)?, length(second)?, rest))
}

/// Splits an encoded list like [`read_optional`], but returns `None` if the first part is absent.
pub(crate) fn read_part(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let (part, rest) = read_optional(list)?;
    Some((part?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_lengths_are_read_back_and_cut_lists_are_refused() {
        let mut list = Vec::new();
        append_lengths(&mut list, 3, 70_000);
        list.extend_from_slice(b"rest");
        assert_eq!(read_lengths(&list), Some((3, 70_000, &b"rest"[..])));
        for end in 0..2 * LENGTH {
            assert_eq!(read_lengths(&list[..end]), None, "{end}");
        }
    }

    type Parts = Vec<Option<Vec<u8>>>;

    fn encode(parts: &Parts) -> Vec<u8> {
        let mut list = Vec::new();
        for part in parts {
            append_optional(&mut list, part.as_deref());
        }
        list
    }

    fn parts() -> impl Strategy<Value = Parts> {
        // Random bytes that look like lengths would most likely reveal an ambiguous encoding.
        let byte = prop_oneof![Just(0), Just(1), Just(4), Just(255)];
        let part = proptest::collection::vec(byte, 0..10);
        proptest::collection::vec(proptest::option::of(part), 0..4)
    }

    proptest! {
        #[test]
        fn lists_that_differ_are_encoded_differently((one, other) in (parts(), parts())) {
            prop_assert_eq!(encode(&one) == encode(&other), one == other);
        }

        #[test]
        fn encoded_list_is_read_back(parts in parts()) {
            let list = encode(&parts);
            let mut rest = &list[..];
            for part in &parts {
                let (read, after) = read_optional(rest).unwrap();
                prop_assert_eq!(read, part.as_deref());
                rest = after;
            }
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let mut rest = &bytes[..];
            while let Some((_, after)) = read_optional(rest) {
                rest = after;
            }
        }
    }

    #[test]
    fn part_that_is_absent_or_cut_short_is_not_read() {
        let mut absent = Vec::new();
        append_optional(&mut absent, None);
        assert_eq!(read_part(&absent), None);
        assert_eq!(read_optional(&absent), Some((None, &[][..])));
        for cut in [&[][..], &[1, 0, 0], &[2, 0, 0, 0, b'a']] {
            assert_eq!(read_optional(cut), None, "{cut:?}");
        }
    }
}
