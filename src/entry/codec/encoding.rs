//! The encoder of records: a record is one stored response as bytes.

use std::{error::Error, fmt, time::Duration};

use bytes::Bytes;

use super::layout::{ABSENT, CHECKSUMMED, HEAD, MAGIC, VERSION, flag};
use crate::entry::{
    key::CacheKey,
    lifetime::{Lifetime, LifetimeSource, Staleness, Validation},
    response::{Audience, EtagSource, StoredResponse},
};

/// The reason why [`encode`] cannot write a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The record would be larger than 4 GiB.
    TooLarge,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str(
                "the response is larger than a record can be (4 GiB): set max_body_size to keep \
                 such responses out of the store",
            ),
        }
    }
}

impl Error for EncodeError {}

/// Encodes a response and its cache key as a record that [`decode`](crate::store::codec::decode)
/// reads.
///
/// # Errors
///
/// Returns [`EncodeError::TooLarge`] if the record would be larger than 4 GiB.
pub fn encode(key: &CacheKey, response: &StoredResponse) -> Result<Vec<u8>, EncodeError> {
    let size = u32::try_from(size(key, response)).map_err(|_| EncodeError::TooLarge)?;
    let mut writer = Writer(Vec::with_capacity(fitting(size)?));
    writer.head(key, response, size)?;
    writer.content(key, response)?;
    let Writer(mut record) = writer;
    debug_assert_eq!(record.len() as u64, u64::from(size), "the size was computed wrongly");
    seal(&mut record);
    Ok(record)
}

/// Returns the length of the record. The length may exceed the address space: header fields in
/// memory can share their bytes, but the record holds each field in full.
fn size(key: &CacheKey, response: &StoredResponse) -> u64 {
    let field = |name: &[u8], value: usize| 2 + 4 + (name.len() + value) as u64;
    let lines: u64 = lines(response).map(|(name, value)| field(name, value.len())).sum();
    let selecting = response.selecting.iter();
    let selecting: u64 = selecting
        .map(|(name, value)| field(name.as_ref(), value.as_ref().map_or(0, Bytes::len)))
        .sum();
    let rest =
        [HEAD, key.as_bytes().len(), size_of_val(&*response.tags), response.discriminator.len()];
    let rest: u64 = rest.into_iter().chain([response.body.len()]).map(|part| part as u64).sum();
    lines + selecting + rest
}

/// Returns the names and values of the lines of a response, then those of its original fields.
fn lines(response: &StoredResponse) -> impl Iterator<Item = (&[u8], &[u8])> {
    let original = response.original_fields.iter().flatten();
    let original = original.map(|(name, value)| (name.as_ref(), value.as_bytes()));
    response.fields.bytes().chain(original)
}

/// Computes the checksum of the record and writes the checksum into the head of the record.
pub(super) fn seal(record: &mut [u8]) {
    if let Some((head, rest)) = record.split_at_mut_checked(CHECKSUMMED)
        && let Some(checksum) = head.last_chunk_mut()
    {
        *checksum = crc32fast::hash(rest).to_le_bytes();
    }
}

fn flags(response: &StoredResponse) -> u8 {
    let staleness = &response.lifetime.staleness;
    [
        (flag::WHILE_REVALIDATE, staleness.while_revalidate.is_some()),
        (flag::IF_ERROR, staleness.if_error.is_some()),
        (flag::STATED, response.stated.is_some()),
        (flag::CLIENT_TTL, response.client_ttl.is_some()),
        (flag::ORIGINAL_FIELDS, response.original_fields.is_some()),
        (flag::PERMITS_SHARING, response.permits_sharing),
        (flag::WITHOUT_CODINGS, response.audience == Audience::ClientsWithoutCodings),
        (flag::ETAG_OF_CACHE, response.etag_source == EtagSource::Cache),
    ]
    .into_iter()
    .filter_map(|(flag, present)| present.then_some(flag))
    .sum()
}

/// Returns the second byte of flags.
fn more_flags(response: &StoredResponse) -> u8 {
    let decoding = response.audience == Audience::ClientsThatDecode;
    let copies = if response.coded.is_some() { flag::CODED_COPIES } else { 0 };
    copies | if decoding { flag::DECODING_CLIENTS } else { 0 }
}

const fn source_code(source: LifetimeSource) -> u8 {
    match source {
        LifetimeSource::Explicit => 1,
        LifetimeSource::Heuristic => 2,
        LifetimeSource::Handler => 3,
        LifetimeSource::Policy => 4,
        LifetimeSource::Middleware => 5,
    }
}

const fn validation_code(validation: Validation) -> u8 {
    match validation {
        Validation::OnceStale => 1,
        Validation::Strict => 2,
        Validation::Always => 3,
    }
}

/// Converts a number to the integer type that the record uses for it. Returns an error if the
/// number is too large for this type.
fn fitting<N, M: TryFrom<N>>(number: N) -> Result<M, EncodeError> {
    M::try_from(number).map_err(|_| EncodeError::TooLarge)
}

struct Writer(Vec<u8>);

impl Writer {
    /// Writes the fixed part of the record, with zero in place of the checksum.
    fn head(
        &mut self,
        key: &CacheKey,
        response: &StoredResponse,
        size: u32,
    ) -> Result<(), EncodeError> {
        // The patterns list all struct fields without `..`, so that the compiler reports a new
        // struct field that is not encoded.
        let StoredResponse {
            status,
            fields,
            body,
            lifetime,
            stated,
            selecting,
            discriminator,
            tags,
            stamp,
            client_ttl,
            original_fields,
            weak_tag: _,
            validity_check: _,
            uses: _,
            audience: _,
            permits_sharing: _,
            etag_source: _,
            coded,
            received: _,
        } = response;
        let Lifetime { response_time, initial_age, freshness, source, staleness, retention } =
            lifetime;
        let Staleness { validation, while_revalidate, if_error } = staleness;
        self.bytes(&MAGIC);
        self.bytes(&[VERSION, 0]);
        self.u32(0);
        self.u32(size);
        self.u32(fitting(key.as_bytes().len())?);
        self.u32(fitting(body.len())?);
        self.u32(fitting(fields.count())?);
        self.u32(fitting(original_fields.as_ref().map_or(0, |fields| fields.len()))?);
        self.u32(fitting(discriminator.len())?);
        self.u16(fitting(selecting.len())?);
        self.u16(status.as_u16());
        self.bytes(&[fitting(tags.len())?, source_code(*source), validation_code(*validation)]);
        self.bytes(&[flags(response)]);
        self.bytes(&stamp.get().to_le_bytes());
        for time in [response_time.wall(), *initial_age, *freshness, *retention] {
            self.time(time);
        }
        for time in [while_revalidate, if_error, stated, client_ttl] {
            self.time(time.unwrap_or_default());
        }
        let content = coded.as_ref().map(|coded| coded.content());
        self.bytes(content.as_ref().map_or(&[0; 16], |content| content.as_bytes()));
        self.bytes(&[more_flags(response)]);
        Ok(())
    }

    /// Writes the parts of the record that have a variable length.
    fn content(&mut self, key: &CacheKey, response: &StoredResponse) -> Result<(), EncodeError> {
        self.bytes(key.as_bytes());
        for tag in &response.tags {
            self.bytes(&tag.to_bytes());
        }
        self.bytes(&response.discriminator);
        for (name, value) in &response.selecting {
            self.name(name.as_ref())?;
            self.value(value.as_deref())?;
        }
        for (name, value) in lines(response) {
            self.name(name)?;
            self.value(Some(value))?;
        }
        self.bytes(&response.body);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn u16(&mut self, number: u16) {
        self.bytes(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.bytes(&number.to_le_bytes());
    }

    fn time(&mut self, time: Duration) {
        self.bytes(&time.as_secs().to_le_bytes());
        self.u32(time.subsec_nanos());
    }

    fn name(&mut self, name: &[u8]) -> Result<(), EncodeError> {
        self.u16(fitting(name.len())?);
        self.bytes(name);
        Ok(())
    }

    fn value(&mut self, value: Option<&[u8]>) -> Result<(), EncodeError> {
        self.u32(value.map_or(Ok(ABSENT), |value| fitting(value.len()))?);
        self.bytes(value.unwrap_or_default());
        Ok(())
    }
}
