//! Reads records, and believes nothing of them.

use std::time::Duration;

use actix_web::http::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use bytes::Bytes;

use super::{ABSENT, HEAD, LEAST_FIELD, MAGIC, MAX_SKEW, RecordError, SUMMED, VERSION, flag};
use crate::{
    clock::Timestamp,
    entry::key::CacheKey,
    entry::limits::{MAX_LIFETIME, MAX_TAGS, may_have_body, may_have_field, may_have_status},
    entry::response::{
        ANNOTATED_FIELDS, Lifetime, LifetimeSource, Selecting, Staleness, StoredResponse,
        Validation,
    },
    entry::stamp::{Stamp, ValidityCheck},
    entry::tag::TagId,
};

pub(super) fn decode(
    record: &Bytes,
    key: &CacheKey,
    now: Timestamp,
) -> Result<StoredResponse, RecordError> {
    let mut reader = Reader { record, rest: record };
    reader.opening()?;
    let key_length = reader.length()?;
    let body_length = reader.length()?;
    let fields = reader.length()?;
    let sent = reader.length()?;
    let discriminator = reader.length()?;
    let selecting = reader.u16()?;
    let status = status(reader.u16()?)?;
    let [tags, source, validation, present] = reader.array()?;
    let has = |flag| present & flag != 0;
    demand(present & !flag::ALL == 0, "what is present")?;
    let stamp = Stamp::new(u64::from_le_bytes(reader.array()?));
    let made = reader.time()?;
    let initial_age = reader.time()?;
    let freshness = reader.lifetime()?;
    let retention = reader.lifetime()?;
    let while_revalidate = reader.optional_time(has(flag::WHILE_REVALIDATE))?;
    let if_error = reader.optional_time(has(flag::IF_ERROR))?;
    let stated = reader.optional_time(has(flag::STATED))?;
    let client_ttl = reader.optional_time(has(flag::CLIENT_TTL))?;
    let staleness =
        Staleness { validation: validation_of(validation)?, while_revalidate, if_error };
    let source = basis_of(source)?;
    if reader.bytes(key_length)? != key.as_bytes() {
        return Err(RecordError::OtherKey);
    }
    let response = rebased(made, now)?;

    let tags = reader.tags(tags.into())?;
    let discriminator = Box::from(reader.bytes(discriminator)?);
    let selecting = reader.selecting(selecting.into())?;
    let fields = reader.lines(fields, may_have_field)?;
    let sent = reader.lines(sent, |name| ANNOTATED_FIELDS.contains(name))?;
    demand(has(flag::UNDRESSED) || sent.is_empty(), "fields as sent")?;
    let body = reader.shared(body_length)?;
    demand(reader.rest.is_empty(), "the lengths")?;
    demand(body.is_empty() || may_have_body(status), "a body")?;
    Ok(StoredResponse {
        status,
        fields,
        body,
        lifetime: Lifetime { response, initial_age, freshness, source, staleness, retention },
        stated,
        selecting,
        discriminator,
        tags,
        stamp,
        client_ttl,
        original_fields: has(flag::UNDRESSED).then_some(sent),
        validity_check: ValidityCheck::default(),
        received: now.monotonic(),
    })
}

fn demand(holds: bool, what: &'static str) -> Result<(), RecordError> {
    if holds { Ok(()) } else { Err(RecordError::Malformed(what)) }
}

fn status(code: u16) -> Result<StatusCode, RecordError> {
    demand(may_have_status(code), "the status code")?;
    StatusCode::from_u16(code).map_err(|_| RecordError::Malformed("the status code"))
}

fn basis_of(code: u8) -> Result<LifetimeSource, RecordError> {
    match code {
        1 => Ok(LifetimeSource::Explicit),
        2 => Ok(LifetimeSource::Heuristic),
        3 => Ok(LifetimeSource::Handler),
        4 => Ok(LifetimeSource::Policy),
        _ => Err(RecordError::Malformed("the source")),
    }
}

fn validation_of(code: u8) -> Result<Validation, RecordError> {
    match code {
        1 => Ok(Validation::OnceStale),
        2 => Ok(Validation::Strict),
        3 => Ok(Validation::Always),
        _ => Err(RecordError::Malformed("the validation")),
    }
}

/// When something was made, by this process's clocks. What was made before this process has no more
/// than the process's own age by the monotonic clock; the wall clock tells the rest.
fn rebased(made: Duration, now: Timestamp) -> Result<Timestamp, RecordError> {
    if made > now.wall().saturating_add(MAX_SKEW) {
        return Err(RecordError::FromTheFuture);
    }
    let age = now.wall().saturating_sub(made);
    Ok(Timestamp::new(now.wall().min(made), now.monotonic().saturating_sub(age)))
}

struct Reader<'a> {
    record: &'a Bytes,
    /// What is not read yet.
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// What says that this is a record, and a whole one.
    fn opening(&mut self) -> Result<(), RecordError> {
        let whole = |found: Result<[u8; 4], _>| found.map_err(|_| RecordError::Truncated);
        let [first, second, version, reserved] = whole(self.array())?;
        demand([first, second] == MAGIC, "its beginning")?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        demand(reserved == 0, "the reserved byte")?;
        let checksum = u32::from_le_bytes(whole(self.array())?);
        let length = u32::from_le_bytes(whole(self.array())?);
        let found = self.record.len();
        if found < HEAD || (found as u64) < u64::from(length) {
            return Err(RecordError::Truncated);
        }
        demand(found as u64 == u64::from(length), "its length")?;
        let summed = self.record.get(SUMMED..).unwrap_or_default();
        if crc32fast::hash(summed) == checksum { Ok(()) } else { Err(RecordError::Checksum) }
    }

    /// Only if all of them are there: nothing is made room for that is not.
    fn room_for(&self, number: usize, least: usize) -> Result<(), RecordError> {
        demand(number.checked_mul(least).is_some_and(|bytes| bytes <= self.rest.len()), "a number")
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let discriminator = self.rest.split_at_checked(length);
        let (found, rest) = discriminator.ok_or(RecordError::Malformed("a length"))?;
        self.rest = rest;
        Ok(found)
    }

    /// The same without copying. Inlined, as is `name`, for what they return is large to move.
    #[inline(always)]
    fn shared(&mut self, length: usize) -> Result<Bytes, RecordError> {
        let found = self.bytes(length)?;
        Ok(self.record.slice_ref(found))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let discriminator = self.rest.split_first_chunk();
        let (found, rest) = discriminator.ok_or(RecordError::Malformed("a length"))?;
        self.rest = rest;
        Ok(*found)
    }

    fn u16(&mut self) -> Result<u16, RecordError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        self.array().map(u32::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, RecordError> {
        usize::try_from(self.u32()?).map_err(|_| RecordError::Malformed("a length"))
    }

    fn time(&mut self) -> Result<Duration, RecordError> {
        let seconds = u64::from_le_bytes(self.array()?);
        let nanoseconds = self.u32()?;
        demand(nanoseconds < 1_000_000_000, "a time")?;
        Ok(Duration::new(seconds, nanoseconds))
    }

    /// Added to a date it still makes a date.
    fn lifetime(&mut self) -> Result<Duration, RecordError> {
        let time = self.time()?;
        demand(time <= MAX_LIFETIME, "a lifetime")?;
        Ok(time)
    }

    fn optional_time(&mut self, present: bool) -> Result<Option<Duration>, RecordError> {
        let time = self.time()?;
        demand(present || time.is_zero(), "an absent time")?;
        Ok(present.then_some(time))
    }

    fn tags(&mut self, number: usize) -> Result<Box<[TagId]>, RecordError> {
        demand(number <= MAX_TAGS, "the number of tags")?;
        let (tags, rest) = self.bytes(number * size_of::<TagId>())?.as_chunks();
        debug_assert!(rest.is_empty());
        Ok(tags.iter().copied().map(TagId::from_bytes).collect())
    }

    #[inline(always)]
    fn name(&mut self) -> Result<HeaderName, RecordError> {
        let length = self.u16()?;
        let text = self.bytes(length.into())?;
        let name = HeaderName::from_bytes(text);
        let name = name.map_err(|_| RecordError::Malformed("a field's name"))?;
        demand(name.as_str().as_bytes() == text, "a field's name")?;
        Ok(name)
    }

    fn selecting(&mut self, number: usize) -> Result<Selecting, RecordError> {
        self.room_for(number, LEAST_FIELD)?;
        let mut fields = Vec::with_capacity(number);
        for _ in 0..number {
            let name = self.name()?;
            let value = match self.u32()? {
                ABSENT => None,
                length => {
                    let length = usize::try_from(length);
                    let length = length.map_err(|_| RecordError::Malformed("a length"))?;
                    Some(self.shared(length)?)
                }
            };
            fields.push((name, value));
        }
        Ok(fields.into_boxed_slice())
    }

    fn lines(
        &mut self,
        number: usize,
        may_have: impl Fn(&HeaderName) -> bool,
    ) -> Result<Box<[(HeaderName, HeaderValue)]>, RecordError> {
        self.room_for(number, LEAST_FIELD)?;
        let mut lines = Vec::with_capacity(number);
        for _ in 0..number {
            let name = self.name()?;
            demand(may_have(&name), "a field that is not stored")?;
            let length = self.length()?;
            let value = HeaderValue::from_maybe_shared(self.shared(length)?);
            lines.push((name, value.map_err(|_| RecordError::Malformed("a field's value"))?));
        }
        Ok(lines.into_boxed_slice())
    }
}
