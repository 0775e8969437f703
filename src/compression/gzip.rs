//! `gzip` (RFC 1952), by the crate `flate2`.

use std::io;

use super::level::CompressionLevel;

pub(super) const IS_AVAILABLE: bool = cfg!(feature = "compress-gzip");

#[cfg(feature = "compress-gzip")]
pub(super) fn compress(level: CompressionLevel, body: &[u8]) -> io::Result<Vec<u8>> {
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write as _;

    let level = match level {
        CompressionLevel::Fast => 1,
        CompressionLevel::Balanced => 6,
        CompressionLevel::Smallest => 9,
    };
    // The header has no time and no name, so equal bodies have equal copies.
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::new(level));
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(not(feature = "compress-gzip"))]
pub(super) fn compress(_: CompressionLevel, _: &[u8]) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}
