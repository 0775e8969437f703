//! Writes records.

use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use bytes::Bytes;

use super::{ABSENT, EncodeError, HEAD, MAGIC, SUMMED, VERSION, flag};
use crate::{
    entry::key::CacheKey,
    entry::response::{Lifetime, LifetimeSource, Staleness, StoredResponse, Validation},
};

pub(super) fn encode(key: &CacheKey, response: &StoredResponse) -> Result<Vec<u8>, EncodeError> {
    // All of it by name, so that what is added to it cannot be forgotten here.
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
        validity_check: _,
        received: _,
    } = response;
    let Lifetime { response: made, initial_age, freshness, source, staleness, retention } =
        lifetime;
    let Staleness { validation, while_revalidate, if_error } = staleness;
    let size = u32::try_from(size(key, response)).map_err(|_| EncodeError::TooLarge)?;
    let sent = original_fields.as_deref().unwrap_or_default();

    let mut writer = Writer(Vec::with_capacity(fitting(size)?));
    writer.bytes(&MAGIC);
    writer.bytes(&[VERSION, 0]);
    writer.u32(0);
    writer.u32(size);
    writer.u32(fitting(key.as_bytes().len())?);
    writer.u32(fitting(body.len())?);
    writer.u32(fitting(fields.len())?);
    writer.u32(fitting(sent.len())?);
    writer.u32(fitting(discriminator.len())?);
    writer.u16(fitting(selecting.len())?);
    writer.u16(status.as_u16());
    writer.bytes(&[fitting(tags.len())?, basis_code(*source), validation_code(*validation)]);
    writer.bytes(&[present(response)]);
    writer.bytes(&stamp.get().to_le_bytes());
    for time in [made.wall(), *initial_age, *freshness, *retention] {
        writer.time(time);
    }
    for time in [while_revalidate, if_error, stated, client_ttl] {
        writer.time(time.unwrap_or_default());
    }
    writer.bytes(key.as_bytes());
    for tag in tags {
        writer.bytes(&tag.to_bytes());
    }
    writer.bytes(discriminator);
    for (name, value) in selecting {
        writer.name(name)?;
        writer.value(value.as_deref())?;
    }
    for (name, value) in fields.iter().chain(sent) {
        writer.name(name)?;
        writer.value(Some(value.as_bytes()))?;
    }
    writer.bytes(body);
    let Writer(mut record) = writer;
    debug_assert_eq!(record.len() as u64, u64::from(size), "as long as was said");
    seal(&mut record);
    Ok(record)
}

/// The length of the record; more than there are addresses, perhaps, for lines share their bytes.
fn size(key: &CacheKey, response: &StoredResponse) -> u64 {
    let field = |name: &HeaderName, value: usize| 2 + 4 + (name.as_str().len() + value) as u64;
    let line = |(name, value): &(HeaderName, HeaderValue)| field(name, value.len());
    let original_fields = response.original_fields.iter().flat_map(|fields| fields.iter());
    let lines: u64 = response.fields.iter().chain(original_fields).map(line).sum();
    let selecting = response.selecting.iter();
    let selecting: u64 =
        selecting.map(|(name, value)| field(name, value.as_ref().map_or(0, Bytes::len))).sum();
    let rest =
        [HEAD, key.as_bytes().len(), size_of_val(&*response.tags), response.discriminator.len()];
    let rest: u64 = rest.into_iter().chain([response.body.len()]).map(|part| part as u64).sum();
    lines + selecting + rest
}

/// Writes the checksum, which is that of all that stands behind it.
pub(crate) fn seal(record: &mut [u8]) {
    if let Some((head, rest)) = record.split_at_mut_checked(SUMMED)
        && let Some(place) = head.last_chunk_mut()
    {
        *place = crc32fast::hash(rest).to_le_bytes();
    }
}

fn present(response: &StoredResponse) -> u8 {
    let staleness = &response.lifetime.staleness;
    [
        (flag::WHILE_REVALIDATE, staleness.while_revalidate.is_some()),
        (flag::IF_ERROR, staleness.if_error.is_some()),
        (flag::STATED, response.stated.is_some()),
        (flag::CLIENT_TTL, response.client_ttl.is_some()),
        (flag::UNDRESSED, response.original_fields.is_some()),
    ]
    .into_iter()
    .filter_map(|(flag, present)| present.then_some(flag))
    .sum()
}

const fn basis_code(source: LifetimeSource) -> u8 {
    match source {
        LifetimeSource::Explicit => 1,
        LifetimeSource::Heuristic => 2,
        LifetimeSource::Handler => 3,
        LifetimeSource::Policy => 4,
    }
}

const fn validation_code(validation: Validation) -> u8 {
    match validation {
        Validation::OnceStale => 1,
        Validation::Strict => 2,
        Validation::Always => 3,
    }
}

/// A number in as many bytes as a record has for it.
fn fitting<N, M: TryFrom<N>>(number: N) -> Result<M, EncodeError> {
    M::try_from(number).map_err(|_| EncodeError::TooLarge)
}

struct Writer(Vec<u8>);

impl Writer {
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

    fn name(&mut self, name: &HeaderName) -> Result<(), EncodeError> {
        let name = name.as_str().as_bytes();
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
