//! Compression of stored bodies, by the crates for each content coding, and of bodies that are being
//! sent.

mod brotli;
mod gzip;
pub(crate) mod level;
pub(crate) mod stream;
mod stream_encoder;
mod zstd;

use bytes::Bytes;

use self::level::CompressionLevel;
use crate::entry::content_coding::ContentCoding;

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

#[cfg(test)]
mod tests {
    use super::*;

    const LEVELS: [CompressionLevel; 3] =
        [CompressionLevel::Fast, CompressionLevel::Balanced, CompressionLevel::Smallest];

    fn available() -> impl Iterator<Item = ContentCoding> {
        ContentCoding::ALL.into_iter().filter(|coding| is_available(*coding))
    }

    /// A linear congruential generator: its bits look random to an encoder.
    struct Random(u64);

    impl Random {
        fn byte(&mut self) -> u8 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 56) as u8
        }
    }

    #[test]
    fn text_becomes_smaller_at_higher_levels() {
        // A text in a language, that never changes.
        let text = include_str!("../../LICENSE-APACHE");
        for coding in available() {
            let sizes = LEVELS.map(|level| compress(coding, level, text.as_bytes()).unwrap().len());
            let [fast, balanced, smallest] = sizes;
            assert!(fast > balanced && fast < text.len() * 2 / 3, "{coding}: {sizes:?}");
            // The slowest level of gzip does not make each text smaller than the one before.
            let most =
                if coding == ContentCoding::Gzip { balanced * 101 / 100 } else { balanced - 1 };
            assert!(smallest <= most, "{coding}: {sizes:?}");
        }
    }

    #[test]
    fn body_that_does_not_become_smaller_is_not_coded() {
        let mut random = Random(1);
        let noise: Vec<u8> = (0..5000).map(|_| random.byte()).collect();
        for coding in available() {
            assert_eq!(compress(coding, CompressionLevel::Fast, b""), None);
            assert_eq!(compress(coding, CompressionLevel::Fast, b"a"), None);
            assert_eq!(compress(coding, CompressionLevel::Smallest, &noise), None, "{coding}");
        }
    }
}
