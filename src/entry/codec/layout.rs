//! Constants of the byte layout of a record, which is one encoded response.

use std::time::Duration;

/// The longest time by which the clock of the process that wrote a record may be ahead of the clock
/// of the process that reads the record.
pub const MAX_SKEW: Duration = Duration::from_secs(2);

pub(super) const MAGIC: [u8; 2] = [0xac, 0x57];

/// The version of the layout. If it changes, the key names of the Redis store need a new version as
/// well; `store/redis/keys.rs` does not compile until then.
pub(crate) const VERSION: u8 = 3;

/// The offset of the first byte that the checksum covers. The checksum covers all later bytes.
pub(super) const CHECKSUMMED: usize = 8;

/// The length of the fixed part of a record. The key begins at this offset.
pub(super) const HEAD: usize = 161;

/// The number that a record has instead of a length if a value is absent.
pub(super) const ABSENT: u32 = u32::MAX;

/// The length of the shortest encoded header field: a name of one byte, with an empty or absent
/// value.
pub(super) const SHORTEST_FIELD: usize = 2 + 1 + 4;

/// Flags for the optional parts of a record. A flag is set if the part is present. The last three
/// flags stand for no part.
pub(super) mod flag {
    pub(in super::super) const WHILE_REVALIDATE: u8 = 1;
    pub(in super::super) const IF_ERROR: u8 = 2;
    pub(in super::super) const STATED: u8 = 4;
    pub(in super::super) const CLIENT_TTL: u8 = 8;
    pub(in super::super) const ORIGINAL_FIELDS: u8 = 16;
    pub(in super::super) const WITHOUT_CODINGS: u8 = 32;
    pub(in super::super) const PERMITS_SHARING: u8 = 64;
    pub(in super::super) const ETAG_OF_CACHE: u8 = 128;

    /// In the second byte of flags: the cache may make coded copies of the response.
    pub(in super::super) const CODED_COPIES: u8 = 1;
    /// In the second byte of flags. Stands for no part.
    pub(in super::super) const DECODING_CLIENTS: u8 = 2;
}
