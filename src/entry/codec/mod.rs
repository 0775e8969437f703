//! Responses as bytes, for stores that keep bytes: in another process, on disk, on the network.
//!
//! [`encode`] writes a record of one response under one key, and [`decode`] reads it. A store treats
//! a record that cannot be read as a miss: the handler is called, and its response replaces the
//! record.
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
//! records.0.insert(key.as_bytes().to_vec(), Bytes::from_static(b"not a record"));
//! assert!(records.get(&key, now).is_none());
//! # // Stands for a response that the cache passes to `Store::put`.
//! # let key = CacheKey::new("n", "http", "h", "/", None);
//! # let written = include_bytes!(concat!(
//! #     env!("CARGO_MANIFEST_DIR"),
//! #     "/src/entry/codec/golden/record-v1-minimal.bin"
//! # ));
//! # let response = codec::decode(Bytes::from_static(written), &key, now)?;
//! records.put(&key, &response)?;
//! assert_eq!(records.get(&key, now).unwrap().status(), response.status());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The decoded field values and the body are slices of the bytes that `decode` gets, not copies.
//! Pass it a buffer that holds only the record: the whole buffer lives as long as the response.
//!
//! # Clocks
//!
//! A record holds the time of its response by the wall clock, because monotonic clocks of two
//! processes cannot be compared. Machines that share a store must therefore keep their clocks by NTP.
//! A response from up to [`MAX_SKEW`] in the future counts as made now. A response from further in
//! the future has no known age, and its record is an error.
//!
//! # Trust
//!
//! The checksum detects accidents. It is no signature: anyone who can write to a store can answer
//! requests in the application's name. The decoder also refuses fields that are never stored, bodies
//! where none is allowed, and lifetimes that are too long. A forged record can therefore do no more
//! harm than its own reply.
//!
//! # Versions
//!
//! The layout of a version never changes; a new layout gets a new version. A build writes and reads
//! one version, and treats a record of another version as an error, that is, as a miss. Processes of
//! two versions that share a store replace each other's records, and misread none.
//!
//! # Layout of version 1
//!
//! Numbers are unsigned and little-endian. A time is 8 bytes of whole seconds and 4 bytes of
//! nanoseconds (less than 10⁹); an absent time is zero. Field names are in lower case. The encoding
//! is canonical: a response and a key have exactly one record, and any other bytes are an error.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 2 | magic bytes `AC 57` |
//! | 2 | 1 | version: 1 |
//! | 3 | 1 | reserved: 0 |
//! | 4 | 4 | CRC-32 of all bytes from offset 8 on, as in gzip (RFC 1952 section 8) |
//! | 8 | 4 | length of the record, from offset 0 on |
//! | 12 | 4 | length of the key |
//! | 16 | 4 | length of the body; 0 with status code 204 |
//! | 20 | 4 | number of field lines |
//! | 24 | 4 | number of original field lines |
//! | 28 | 4 | length of the discriminator |
//! | 32 | 2 | number of selecting fields |
//! | 34 | 2 | status code: 200 to 999, except 206 and 304 |
//! | 36 | 1 | number of tags: 64 at most |
//! | 37 | 1 | source of the lifetime: 1 explicit, 2 heuristic, 3 handler, 4 policy ([`LifetimeSource`](crate::store::LifetimeSource)) |
//! | 38 | 1 | validation: 1 once stale, 2 strict, 3 always ([`Validation`](crate::store::Validation)) |
//! | 39 | 1 | flags of the optional parts that are present: 1 `stale-while-revalidate`, 2 `stale-if-error`, 4 the stated lifetime, 8 the clients' lifetime, 16 original field lines |
//! | 40 | 8 | stamp ([`Stamp`](crate::store::Stamp)) |
//! | 48 | 12 | time of the response, since 1970 |
//! | 60 | 12 | initial age |
//! | 72 | 12 | freshness lifetime: 2³¹ seconds at most |
//! | 84 | 12 | retention: 2³¹ seconds at most |
//! | 96 | 12 | `stale-while-revalidate` |
//! | 108 | 12 | `stale-if-error` |
//! | 120 | 12 | the freshness lifetime that the response itself states |
//! | 132 | 12 | the lifetime for clients |
//! | 144 | | the key ([`CacheKey::as_bytes`](crate::store::CacheKey::as_bytes)) |
//! | | 16 each | the tags ([`TagId::to_bytes`](crate::store::TagId::to_bytes)) |
//! | | | the discriminator, which keeps requests with equal keys and selecting fields apart |
//! | | | the selecting fields, each a name and a value; an absent value has the length 2³²−1 |
//! | | | the field lines, each a name and a value |
//! | | | the original field lines, each a name and a value: the handler's own `Cache-Control`, `Date`, `Expires` and `Vary`, where the cache changed any of them |
//! | | | the body, to the end |
//!
//! A name has its length before it in 2 bytes, a value in 4.

mod decoding;
mod encoding;
#[cfg(any(test, fuzzing))]
#[expect(clippy::expect_used, clippy::unwrap_used, reason = "failed checks panic, as in tests")]
pub(crate) mod fuzzing;
mod layout;
#[cfg(test)]
mod tests;

pub use self::{
    decoding::{RecordError, decode},
    encoding::{EncodeError, encode},
    layout::MAX_SKEW,
};
