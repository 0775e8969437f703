//! `br` (RFC 7932), by the crate `brotli`.

use std::io;

use super::level::CompressionLevel;

pub(super) const IS_AVAILABLE: bool = cfg!(feature = "compress-brotli");

#[cfg(feature = "compress-brotli")]
pub(super) fn compress(level: CompressionLevel, body: &[u8]) -> io::Result<Vec<u8>> {
    use std::io::Write as _;

    use ::brotli::CompressorWriter;

    /// The logarithm of the window, as in the default settings of the reference encoder.
    const WINDOW_LOG: u32 = 22;

    let quality = match level {
        CompressionLevel::Fast => 2,
        CompressionLevel::Balanced => 5,
        CompressionLevel::Smallest => 11,
    };
    let output = Vec::with_capacity(body.len() / 4);
    let mut encoder = CompressorWriter::new(output, 4096, quality, WINDOW_LOG);
    encoder.write_all(body)?;
    Ok(encoder.into_inner())
}

#[cfg(not(feature = "compress-brotli"))]
pub(super) fn compress(_: CompressionLevel, _: &[u8]) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}
