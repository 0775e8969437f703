//! How hard an encoder tries.

/// How much processor time the cache takes to make a copy of a stored response smaller
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
    /// Much time, for the smallest copies (`gzip` 9, `br` 11, `zstd` 19). Use it for files that seldom
    /// change.
    Smallest,
}
