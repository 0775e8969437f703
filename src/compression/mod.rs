//! Compression of stored bodies, by the crates for each content coding.

mod brotli;
mod gzip;
mod zstd;

use std::io;

use bytes::Bytes;

use crate::entry::content_coding::ContentCoding;

/// How much processor time the cache takes to make a copy smaller
/// ([`Compression::level`](crate::Compression::level)).
///
/// The cache makes each copy once, on a thread of its own, so that no client waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CompressionLevel {
    /// Little time: about the levels that servers use if they compress each response (`gzip` 1, `br`
    /// 2, `zstd` 1).
    Fast,
    /// More time, for smaller copies (`gzip` 6, `br` 5, `zstd` 7).
    #[default]
    Balanced,
    /// Much time, for the smallest copies (`gzip` 9, `br` 11, `zstd` 19): about a second for a body
    /// of 1 MiB. Use it for files that seldom change.
    Smallest,
}

/// Returns whether this build can make copies in a coding: whether the feature of the coding is
/// enabled.
pub(crate) const fn is_available(coding: ContentCoding) -> bool {
    match coding {
        ContentCoding::Brotli => brotli::IS_AVAILABLE,
        ContentCoding::Zstd => zstd::IS_AVAILABLE,
        ContentCoding::Gzip => gzip::IS_AVAILABLE,
    }
}

/// Encodes a body. Returns `None` if the coded bytes are not fewer than those of the body, or if the
/// encoder fails.
pub(crate) fn compress(
    coding: ContentCoding,
    level: CompressionLevel,
    body: &[u8],
) -> Option<Bytes> {
    let coded = match coding {
        ContentCoding::Brotli => brotli::compress(level, body),
        ContentCoding::Zstd => zstd::compress(level, body),
        ContentCoding::Gzip => gzip::compress(level, body),
    };
    match coded {
        // A copy of a boxed slice: the buffer of an encoder is larger than the coded bytes.
        Ok(coded) if coded.len() < body.len() => Some(Bytes::from(coded.into_boxed_slice())),
        Ok(_) => None,
        Err(error) => {
            log::warn!("a response could not be coded as {coding}: {error}");
            None
        }
    }
}

/// The result of an encoder whose feature is not enabled.
#[cfg_attr(
    all(feature = "compress-brotli", feature = "compress-gzip", feature = "compress-zstd"),
    expect(dead_code, reason = "for builds without a coding")
)]
fn unavailable() -> io::Result<Vec<u8>> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "the feature of this coding is not enabled"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [CompressionLevel; 3] =
        [CompressionLevel::Fast, CompressionLevel::Balanced, CompressionLevel::Smallest];

    fn available() -> impl Iterator<Item = ContentCoding> {
        ContentCoding::ALL.into_iter().filter(|coding| is_available(*coding))
    }

    #[test]
    fn text_becomes_smaller_with_each_level() {
        let text = include_str!("../../README.md");
        for coding in available() {
            let sizes = LEVELS.map(|level| compress(coding, level, text.as_bytes()).unwrap().len());
            assert!(sizes.is_sorted_by(|fast, small| fast > small), "{coding}: {sizes:?}");
            assert!(sizes[0] < text.len() * 2 / 3, "{coding}: {sizes:?}");
        }
    }

    #[test]
    fn body_that_does_not_become_smaller_is_not_coded() {
        // A linear congruential generator: its bits look random to an encoder.
        let mut state = 1_u64;
        let noise: Vec<u8> = (0..5000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        for coding in available() {
            assert_eq!(compress(coding, CompressionLevel::Fast, b""), None);
            assert_eq!(compress(coding, CompressionLevel::Fast, b"a"), None);
            assert_eq!(compress(coding, CompressionLevel::Smallest, &noise), None, "{coding}");
        }
    }
}
