//! An encoding of stored responses as bytes, for stores on disk, on the network or in another
//! process.
//!
//! [`encode`] converts a response and its cache key into a record. [`decode`] converts the record
//! back. If [`decode`] returns an error, the store should report a miss. The cache then calls the
//! handler, and the new response replaces the record.
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
//! #     "/src/entry/codec/golden/record-v3-minimal.bin"
//! # ));
//! # let response = codec::decode(Bytes::from_static(written), &key, now)?;
//! records.put(&key, &response)?;
//! assert_eq!(records.get(&key, now).unwrap().status(), response.status());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The field values and the body of a decoded response are slices of the buffer that [`decode`]
//! receives, not copies. Pass a buffer that holds only the record, because the response keeps the
//! whole buffer in memory.
//!
//! # Clocks
//!
//! A record holds the wall-clock time of its response, because monotonic clocks of two processes
//! cannot be compared. Machines that share a store must therefore synchronize their wall clocks,
//! for example by NTP. [`decode`] treats a response from up to [`MAX_SKEW`] in the future as made
//! now. [`decode`] rejects a response from further in the future, because the age of that response
//! is unknown.
//!
//! # Trust
//!
//! The checksum of a record detects accidental damage. The checksum is not a signature: anyone who
//! can write to the store can answer requests in the name of the application. [`decode`] also
//! rejects header fields that are never stored, a body with status code 204, and lifetimes over 2³¹
//! seconds. A forged record can therefore affect only the replies that are made from it.
//!
//! # Versions
//!
//! The layout of a record version never changes. A new layout gets a new version number. Each build
//! of this crate writes and reads one version. [`decode`] returns an error for a record of another
//! version, so the lookup is a miss. Processes with different versions may share a store: they
//! replace records of the other version and never misread one. The key names of
//! `RedisStore` contain a version that changes with the version of the record, so processes with
//! different record versions use different keys there.
//!
//! # Layout of version 3
//!
//! All numbers in a record are unsigned and little-endian. A time is 8 bytes of whole seconds, then
//! 4 bytes of nanoseconds (less than 10⁹). An absent time is written as zero. Field names are in
//! lower case. The encoding is canonical: each pair of a key and a response has exactly one valid
//! record.
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 2 | magic bytes `AC 57` |
//! | 2 | 1 | version: 3 |
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
//! | 37 | 1 | source of the lifetime: 1 explicit, 2 heuristic, 3 handler, 4 policy, 5 middleware ([`LifetimeSource`](crate::store::LifetimeSource)) |
//! | 38 | 1 | validation: 1 once stale, 2 strict, 3 always ([`Validation`](crate::store::Validation)) |
//! | 39 | 1 | flags of the optional parts that are present: 1 `stale-while-revalidate`, 2 `stale-if-error`, 4 the stated lifetime, 8 the lifetime for clients, 16 original field lines. 32 stands for no part: the response answers only clients that accept no content coding. 64: the handler permits sharing by `public` or `s-maxage`. 128: the cache made the `ETag`, which is one field line |
//! | 40 | 8 | stamp: the logical time of the store before the handler ran ([`Stamp`](crate::store::Stamp)) |
//! | 48 | 12 | time of the response, since 1970 |
//! | 60 | 12 | initial age (`corrected_initial_age` of RFC 9111 section 4.2.3) |
//! | 72 | 12 | freshness lifetime: 2³¹ seconds at most |
//! | 84 | 12 | retention (how long a stale response is kept): 2³¹ seconds at most |
//! | 96 | 12 | `stale-while-revalidate` |
//! | 108 | 12 | `stale-if-error` |
//! | 120 | 12 | the freshness lifetime that the response itself states |
//! | 132 | 12 | the freshness lifetime that the cache states to clients |
//! | 144 | 16 | the digest of the body (SipHash-1-3-128 with fixed keys), if the cache may make coded copies; otherwise zero |
//! | 160 | 1 | flags: 1 if the cache may make coded copies of the body; 2 if the response answers only clients that accept its `Content-Encoding` |
//! | 161 | | the key ([`CacheKey::as_bytes`](crate::store::CacheKey::as_bytes)) |
//! | | 16 each | the tags ([`TagId::to_bytes`](crate::store::TagId::to_bytes)) |
//! | | | the discriminator: the forwarded host and scheme, and the position of the cache among nested caches, where the key does not contain them |
//! | | | the selecting fields (the request fields that choose the variant), each a name and a value; an absent value has the length 2³²−1 |
//! | | | the field lines, each a name and a value |
//! | | | the original field lines, each a name and a value: `Cache-Control`, `Date`, `Expires` and `Vary` as the handler sent them, present if the cache changed any of these fields |
//! | | | the body, to the end |
//!
//! The length of a name precedes the name in 2 bytes. The length of a value precedes the value in 4
//! bytes.

mod coded_copies;
mod decoding;
mod encoding;
#[cfg(any(test, fuzzing))]
#[expect(clippy::expect_used, clippy::unwrap_used, reason = "failed checks panic, as in tests")]
pub(crate) mod fuzzing;
mod layout;
#[cfg(test)]
mod tests;

pub use self::{
    coded_copies::{decode_coded_copy, encode_coded_copy},
    decoding::{RecordError, decode},
    encoding::{EncodeError, encode},
    layout::MAX_SKEW,
};
#[cfg(feature = "redis")]
pub(crate) use self::{decoding::has_same_time, layout::VERSION};
