//! Responses as bytes, for stores that keep bytes: in another process, on disk, on the network.
//!
//! [`encode`] writes a record of one response under one key, [`decode`] reads it again. What cannot
//! be read is an error, and to a store an error is a miss: the handler is asked, and its answer
//! replaces the record.
//!
//! ```
//! use std::collections::HashMap;
//!
//! use actix_web_cache::store::{CacheKey, Timestamp, StoredResponse, codec};
//! use bytes::Bytes;
//!
//! #[derive(Default)]
//! struct Records(HashMap<Vec<u8>, Bytes>);
//!
//! impl Records {
//!     fn put(&mut self, key: &CacheKey, response: &StoredResponse) -> Result<(), codec::EncodeError> {
//!         let record = codec::encode(key, response)?;
//!         self.0.insert(key.as_bytes().to_vec(), Bytes::from(record));
//!         Ok(())
//!     }
//!
//!     fn get(&self, key: &CacheKey, now: Timestamp) -> Option<StoredResponse> {
//!         let record = self.0.get(key.as_bytes())?.clone();
//!         codec::decode(record, key, now)
//!             .inspect_err(|error| eprintln!("a record is not used: {error}"))
//!             .ok()
//!     }
//! }
//!
//! # let now = actix_web_cache::Clock::system().now();
//! let mut records = Records::default();
//! let key = CacheKey::new("shop", "http", "example.com", "/", None);
//! records.0.insert(key.as_bytes().to_vec(), Bytes::from_static(b"written by another"));
//! assert!(records.get(&key, now).is_none());
//! # // As a store gets it: from a record that is written down.
//! # let key = CacheKey::new("n", "http", "h", "/", None);
//! # let written = include_bytes!(concat!(
//! #     env!("CARGO_MANIFEST_DIR"),
//! #     "/tests/golden/record-v1-minimal.bin"
//! # ));
//! # let response = codec::decode(Bytes::from_static(written), &key, now)?;
//! records.put(&key, &response)?;
//! assert_eq!(records.get(&key, now).unwrap().status(), response.status());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The values of fields and the body are slices of the bytes that `decode` was given, not copies:
//! give it bytes that are the record alone, for what is around it lives as long as the response.
//!
//! # Clocks
//!
//! A record says when its response was made by the wall clock, since no other clock means anything
//! to another process. Machines that share a store therefore keep their clocks by NTP. What was made
//! up to [`MAX_SKEW`] from now counts as made now; what is further ahead has no age that could be
//! told, and is an error.
//!
//! # Trust
//!
//! The checksum finds accidents and is no signature: whoever can write to a store can answer in the
//! application's name. What is refused beyond that (fields that are never stored, bodies where none
//! may be, lifetimes that no date can follow) keeps such a record from harming more than what it
//! answers.
//!
//! # Versions
//!
//! A version's layout never changes; another layout is another version. Each build writes and reads
//! one version, and all others are an error, which is a miss. While processes of two versions share a
//! store, they replace each other's records, and nothing is misread.
//!
//! # Layout of version 1
//!
//! Numbers are unsigned and little-endian. A time is 8 bytes of whole seconds and 4 bytes of
//! nanoseconds, which are less than 10⁹; one that is absent is zero. There is one record for each
//! response and key: names of fields are in lower case, and whatever is not described here is an
//! error.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 2 | `AC 57` |
//! | 2 | 1 | version: 1 |
//! | 3 | 1 | 0 |
//! | 4 | 4 | CRC-32 of all that follows, as in gzip (RFC 1952 section 8) |
//! | 8 | 4 | length of the record, from offset 0 on |
//! | 12 | 4 | length of the key |
//! | 16 | 4 | length of the body; 0 with status code 204 |
//! | 20 | 4 | number of field lines |
//! | 24 | 4 | number of field lines as the handler sent them |
//! | 28 | 4 | length of the split |
//! | 32 | 2 | number of selecting fields |
//! | 34 | 2 | status code: 200 to 999, but for 206 and 304 |
//! | 36 | 1 | number of tags: 64 at most |
//! | 37 | 1 | source: 1 explicit, 2 heuristic, 3 handler, 4 policy ([`LifetimeSource`](crate::store::LifetimeSource)) |
//! | 38 | 1 | validation: 1 once stale, 2 strict, 3 always ([`Validation`](crate::store::Validation)) |
//! | 39 | 1 | what is present, as bits: 1 `stale-while-revalidate`, 2 `stale-if-error`, 4 the stated lifetime, 8 the clients' lifetime, 16 fields as the handler sent them |
//! | 40 | 8 | stamp ([`Stamp`](crate::store::Stamp)) |
//! | 48 | 12 | when the response was made, since 1970 |
//! | 60 | 12 | initial age |
//! | 72 | 12 | freshness lifetime: 2³¹ seconds at most |
//! | 84 | 12 | retention: 2³¹ seconds at most |
//! | 96 | 12 | `stale-while-revalidate` |
//! | 108 | 12 | `stale-if-error` |
//! | 120 | 12 | the freshness lifetime that the response itself states |
//! | 132 | 12 | for how long clients may keep it |
//! | 144 | | the key ([`CacheKey::as_bytes`]) |
//! | | 16 each | the tags ([`TagId::to_bytes`](crate::store::TagId::to_bytes)) |
//! | | | the discriminator: what tells requests apart beside key and selecting fields |
//! | | | the selecting fields, each a name and a value, or the length 2³²−1 where the request had none |
//! | | | the field lines, each a name and a value |
//! | | | the field lines as the handler sent them, each a name and a value: `Cache-Control`, `Date`, `Expires` and `Vary` alone |
//! | | | the body, to the end |
//!
//! A name has its length before it in 2 bytes, a value in 4.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;

use crate::{clock::Timestamp, entry::key::CacheKey, entry::response::StoredResponse};

mod decoding;
mod encoding;
#[cfg(any(test, fuzzing))]
#[expect(clippy::expect_used, clippy::unwrap_used, reason = "it is what tests assert")]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;

/// How far ahead of ours the clock that a response was made by may be.
pub const MAX_SKEW: Duration = Duration::from_secs(2);

const MAGIC: [u8; 2] = [0xac, 0x57];
const VERSION: u8 = 1;

/// What the checksum is of begins here.
const SUMMED: usize = 8;

/// The part before the key.
const HEAD: usize = 144;

/// The length of a value that is none.
const ABSENT: u32 = u32::MAX;

/// The shortest field: a name of one byte without a value.
const LEAST_FIELD: usize = 2 + 1 + 4;

/// What is present of that which may be absent.
mod flag {
    pub(super) const WHILE_REVALIDATE: u8 = 1;
    pub(super) const IF_ERROR: u8 = 2;
    pub(super) const STATED: u8 = 4;
    pub(super) const CLIENT_TTL: u8 = 8;
    pub(super) const UNDRESSED: u8 = 16;
    pub(super) const ALL: u8 = WHILE_REVALIDATE | IF_ERROR | STATED | CLIENT_TTL | UNDRESSED;
}

/// A response as bytes, to be read by [`decode`].
///
/// # Errors
///
/// If it is larger than a record can be: 4 GiB.
pub fn encode(key: &CacheKey, response: &StoredResponse) -> Result<Vec<u8>, EncodeError> {
    encoding::encode(key, response)
}

/// Reads a record that [`encode`] wrote for this key.
///
/// When the response was made is told by this process's clocks: `now` is what they say.
///
/// # Errors
///
/// If it is no such record, or was made [too far](MAX_SKEW) ahead of `now`.
pub fn decode(
    record: Bytes,
    key: &CacheKey,
    now: Timestamp,
) -> Result<StoredResponse, RecordError> {
    decoding::decode(&record, key, now)
}

/// Why a response cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// It is larger than a record can be.
    TooLarge,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str(
                "the response is larger than the 4 GiB of a record: let a smaller max_body_size \
                 keep such responses out of the store",
            ),
        }
    }
}

impl Error for EncodeError {}

/// Why a record cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// It is shorter than it says.
    Truncated,
    /// It has another version.
    Version(u8),
    /// It is not what was written.
    Checksum,
    /// It was written for another key.
    OtherKey,
    /// It says what [`encode`] never writes.
    Malformed(&'static str),
    /// It was made further ahead than clocks may differ ([`MAX_SKEW`]).
    FromTheFuture,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => {
                f.write_str("the record breaks off: see that the store writes records whole")
            }
            Self::Version(version) => write!(
                f,
                "the record has version {version}, and this build reads version {VERSION}: it \
                 will be replaced; run one build over a store for these misses to end"
            ),
            Self::Checksum => f.write_str(
                "the record's checksum is not that of its content: see what damages the store's \
                 data",
            ),
            Self::OtherKey => f.write_str(
                "the record is another key's: see that the store names records by whole keys, or \
                 by a digest that does not collide",
            ),
            Self::Malformed(what) => write!(
                f,
                "the record is not one that this cache writes ({what}): see who else writes to \
                 the store"
            ),
            Self::FromTheFuture => write!(
                f,
                "the record was made more than {} s ahead of this machine's clock: keep the \
                 clocks of all machines that share the store by NTP",
                MAX_SKEW.as_secs()
            ),
        }
    }
}

impl Error for RecordError {}
