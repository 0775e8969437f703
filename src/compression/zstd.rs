//! `zstd` (RFC 8878), by the crate `zstd`.

use std::io;

use super::level::CompressionLevel;

pub(super) const IS_AVAILABLE: bool = cfg!(feature = "compress-zstd");

#[cfg(feature = "compress-zstd")]
pub(super) fn compress(level: CompressionLevel, body: &[u8]) -> io::Result<Vec<u8>> {
    use std::io::Write as _;

    use ::zstd::stream::Encoder;

    /// RFC 9659 section 3: clients need not accept a larger window than 8 MiB.
    const WINDOW_LOG: u32 = 23;

    let level = match level {
        CompressionLevel::Fast => 1,
        CompressionLevel::Balanced => 7,
        CompressionLevel::Smallest => 19,
    };
    let mut encoder = Encoder::new(Vec::with_capacity(body.len() / 4), level)?;
    encoder.window_log(WINDOW_LOG)?;
    encoder.set_pledged_src_size(Some(body.len() as u64))?;
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(not(feature = "compress-zstd"))]
pub(super) fn compress(_: CompressionLevel, _: &[u8]) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::Unsupported.into())
}
