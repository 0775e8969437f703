//! The encoding of coded copies (copies of the body of a response in a content coding).
//!
//! All numbers are little-endian.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 2 | magic bytes `AC 58` |
//! | 2 | 1 | version: 1 |
//! | 3 | 1 | coding: 1 `br`, 2 `zstd`, 3 `gzip`; and 128 if the coding is of no use for the body |
//! | 4 | 4 | CRC-32 of all bytes from offset 8 on, as in gzip (RFC 1952 section 8) |
//! | 8 | 16 | the digest of the body of the response, as in the record of the response |
//! | 24 | | the coded bytes, to the end; none if the coding is of no use |

use bytes::Bytes;

use super::decoding::RecordError;
use crate::entry::{
    coded_copy::{CodedCopy, ContentDigest},
    content_coding::ContentCoding,
};

const MAGIC: [u8; 2] = [0xac, 0x58];

/// The version of the layout. It is independent of the version of records.
const VERSION: u8 = 1;

/// The offset of the first byte that the checksum covers.
const CHECKSUMMED: usize = 8;

/// The offset of the coded bytes.
const HEAD: usize = 24;

/// The flag of a copy without coded bytes, because the coding is of no use for the body.
const USELESS: u8 = 128;

/// Encodes a coded copy, so that [`decode_coded_copy`] reads it.
///
/// Store it beside the record of its response. A copy does not contain its cache key: it belongs to
/// each response for which [`CodedCopy::belongs_to`] returns `true`.
#[must_use]
pub fn encode_coded_copy(copy: &CodedCopy) -> Vec<u8> {
    let bytes = copy.bytes();
    let flag = if bytes.is_some() { 0 } else { USELESS };
    let digest = copy.content();
    let bytes = bytes.map_or(&[][..], |bytes| bytes);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(digest.as_bytes());
    checksum.update(bytes);
    let head = [MAGIC[0], MAGIC[1], VERSION, code(copy.coding()) | flag];
    [&head[..], &checksum.finalize().to_le_bytes(), digest.as_bytes(), bytes].concat()
}

/// Decodes a coded copy that [`encode_coded_copy`] wrote. The coded bytes are a slice of `record`.
///
/// # Errors
///
/// Returns an error if the bytes are not a coded copy of this version.
pub fn decode_coded_copy(record: &Bytes) -> Result<CodedCopy, RecordError> {
    let (head, bytes) = record.split_first_chunk::<HEAD>().ok_or(RecordError::Truncated)?;
    let [first, second, version, kind, c0, c1, c2, c3, digest @ ..] = *head;
    if [first, second] != MAGIC {
        return Err(RecordError::Malformed("magic bytes"));
    }
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    let checksummed = record.get(CHECKSUMMED..).unwrap_or_default();
    if crc32fast::hash(checksummed) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(RecordError::Checksum);
    }
    let coding = ContentCoding::ALL.into_iter().find(|coding| code(*coding) == kind & !USELESS);
    let coding = coding.ok_or(RecordError::Malformed("content coding"))?;
    let content = ContentDigest::from_bytes(digest);
    match (kind & USELESS != 0, bytes.is_empty()) {
        (true, true) => Ok(CodedCopy::useless(coding, content)),
        (true, false) => Err(RecordError::Malformed("length of a copy without bytes")),
        (false, _) => Ok(CodedCopy::new(coding, content, record.slice(HEAD..))),
    }
}

const fn code(coding: ContentCoding) -> u8 {
    match coding {
        ContentCoding::Brotli => 1,
        ContentCoding::Zstd => 2,
        ContentCoding::Gzip => 3,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn copy() -> CodedCopy {
        let content = ContentDigest::from_bytes([7; 16]);
        CodedCopy::new(ContentCoding::Gzip, content, Bytes::from_static(b"coded"))
    }

    fn changed(at: usize, byte: u8, repair: bool) -> Bytes {
        let mut record = encode_coded_copy(&copy());
        record[at] = byte;
        if repair {
            let checksum = crc32fast::hash(&record[CHECKSUMMED..]).to_le_bytes();
            record[4..8].copy_from_slice(&checksum);
        }
        record.into()
    }

    #[test]
    fn layout_is_as_documented() {
        let record = encode_coded_copy(&copy());
        assert_eq!(record[..4], [0xac, 0x58, 1, 3]);
        assert_eq!(record[4..8], crc32fast::hash(&record[8..]).to_le_bytes());
        assert_eq!(record[8..24], [7; 16]);
        assert_eq!(&record[24..], b"coded");
        let useless = encode_coded_copy(&copy().without_bytes());
        assert_eq!((useless[3], useless.len()), (131, 24));
    }

    #[test]
    fn each_copy_is_read_back() {
        for coding in ContentCoding::ALL {
            let content = ContentDigest::of(b"a");
            for copy in [
                CodedCopy::new(coding, content, Bytes::from_static(b"c")),
                CodedCopy::new(coding, content, Bytes::new()),
                CodedCopy::useless(coding, content),
            ] {
                assert_eq!(decode_coded_copy(&encode_coded_copy(&copy).into()), Ok(copy));
            }
        }
    }

    #[test]
    fn damaged_copies_are_refused() {
        let record = Bytes::from(encode_coded_copy(&copy()));
        assert_eq!(decode_coded_copy(&record.slice(..23)), Err(RecordError::Truncated));
        assert_eq!(decode_coded_copy(&record.slice(..26)), Err(RecordError::Checksum));
        for (at, byte, want) in [
            (0, 0, RecordError::Malformed("magic bytes")),
            (1, 0x57, RecordError::Malformed("magic bytes")),
            (2, 2, RecordError::Version(2)),
            (3, 0, RecordError::Malformed("content coding")),
            (3, 4, RecordError::Malformed("content coding")),
            (3, 131, RecordError::Malformed("length of a copy without bytes")),
        ] {
            assert_eq!(decode_coded_copy(&changed(at, byte, true)), Err(want), "{at}");
        }
        for at in 8..record.len() {
            let got = decode_coded_copy(&changed(at, record[at] ^ 1, false));
            assert_eq!(got, Err(RecordError::Checksum), "{at}");
        }
    }

    proptest! {
        #[test]
        fn bytes_that_are_accepted_are_written_again(record: Vec<u8>, change in any::<(usize, u8)>()) {
            let record = Bytes::from(record);
            if let Ok(copy) = decode_coded_copy(&record) {
                prop_assert_eq!(encode_coded_copy(&copy), record);
            }
            let record = changed(change.0 % 29, change.1, true);
            if let Ok(copy) = decode_coded_copy(&record) {
                prop_assert_eq!(encode_coded_copy(&copy), record);
            }
        }
    }
}
