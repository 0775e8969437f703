//! Constants of the record's layout.

use std::time::Duration;

/// The most that the writer's clock may be ahead of the reader's.
pub const MAX_SKEW: Duration = Duration::from_secs(2);

pub(super) const MAGIC: [u8; 2] = [0xac, 0x57];
pub(super) const VERSION: u8 = 1;

/// The offset of the bytes that the checksum covers.
pub(super) const CHECKSUMMED: usize = 8;

/// The length of the fixed part, which ends with the key's offset.
pub(super) const HEAD: usize = 144;

/// The length of an absent value.
pub(super) const ABSENT: u32 = u32::MAX;

/// The length of the shortest field: a name of one byte without a value.
pub(super) const SHORTEST_FIELD: usize = 2 + 1 + 4;

/// Flags of the optional parts that a record has.
pub(super) mod flag {
    pub(in super::super) const WHILE_REVALIDATE: u8 = 1;
    pub(in super::super) const IF_ERROR: u8 = 2;
    pub(in super::super) const STATED: u8 = 4;
    pub(in super::super) const CLIENT_TTL: u8 = 8;
    pub(in super::super) const ORIGINAL_FIELDS: u8 = 16;
    pub(in super::super) const ALL: u8 =
        WHILE_REVALIDATE | IF_ERROR | STATED | CLIENT_TTL | ORIGINAL_FIELDS;
}
