//! The decoder of records: a record is one stored response as bytes. The decoder checks each part
//! of a record before it uses the part, because another program may have written the record.

use std::{error::Error, fmt, time::Duration};

use actix_web::http::{
    StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
        DATE, ETAG, EXPIRES, HeaderName, HeaderValue, LAST_MODIFIED, LINK, REFERRER_POLICY,
        STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};
use bytes::Bytes;

use super::layout::{ABSENT, CHECKSUMMED, HEAD, MAGIC, MAX_SKEW, SHORTEST_FIELD, VERSION, flag};
use crate::{
    clock::Timestamp,
    entry::{
        coded_copy::{CodedCopies, ContentDigest},
        key::CacheKey,
        lifetime::{Lifetime, LifetimeSource, Staleness, Validation},
        limits::{MAX_LIFETIME, MAX_TAGS, may_have_body, may_have_field, may_have_status},
        response::{ANNOTATED_FIELDS, Audience, EtagSource, Selecting, StoredResponse, WeakTag},
        stamp::Stamp,
        tag::TagId,
        uses::Uses,
        validity::ValidityCheck,
    },
};

/// The largest difference of two times that count as the same. The clocks are not read at exactly one
/// moment, and the wall clock is adjusted slowly.
#[cfg(feature = "redis")]
const MAX_DRIFT: Duration = Duration::from_millis(100);

/// The reason why [`decode`] cannot read a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// The record is shorter than its stated length.
    Truncated,
    /// The record has this version number, which differs from the version that this build reads.
    Version(u8),
    /// The content of the record does not match the checksum of the record.
    Checksum,
    /// The record was written for another cache key.
    OtherKey,
    /// The named part of the record has a value that [`encode`](crate::store::codec::encode) never
    /// writes.
    Malformed(&'static str),
    /// The response in the record was made more than [`MAX_SKEW`] in the future, by the clock of
    /// this process.
    FromTheFuture,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => {
                f.write_str("the record is truncated: check that the store writes whole records")
            }
            Self::Version(version) => write!(
                f,
                "the record has version {version}, but this build reads version {VERSION}: it \
                 will be replaced; to end such misses, run one build over the store"
            ),
            Self::Checksum => f.write_str(
                "the record does not match its checksum: check for damage to the store's data",
            ),
            Self::OtherKey => f.write_str(
                "the record belongs to another key: check that the store names records by whole \
                 keys, or by a digest that does not collide",
            ),
            Self::Malformed(part) => write!(
                f,
                "the record is malformed (invalid {part}): check that only this cache writes to \
                 the store"
            ),
            Self::FromTheFuture => write!(
                f,
                "the record is from more than {} s in the future: synchronize the clocks of all \
                 machines that share the store",
                MAX_SKEW.as_secs()
            ),
        }
    }
}

impl Error for RecordError {}

/// Decodes a record that [`encode`](crate::store::codec::encode) wrote for this cache key.
///
/// `now` is the present time by the clocks of this process. The age of the response is computed
/// from `now`.
///
/// # Errors
///
/// Returns an error if the bytes are not a record of this version and this key, or if the response
/// was made more than [`MAX_SKEW`] in the future.
pub fn decode(
    record: Bytes,
    key: &CacheKey,
    now: Timestamp,
) -> Result<StoredResponse, RecordError> {
    let mut reader = Reader { record: &record, rest: &record };
    let head = reader.head()?;
    if reader.bytes(head.key_length)? != key.as_bytes() {
        return Err(RecordError::OtherKey);
    }
    let lifetime = Lifetime {
        response_time: rebased(head.time, now)?,
        initial_age: head.initial_age,
        freshness: head.freshness,
        source: head.source,
        staleness: head.staleness,
        retention: head.retention,
    };
    let tags = reader.tags(head.tags)?;
    let discriminator = Box::from(reader.bytes(head.discriminator_length)?);
    let selecting = reader.selecting(head.selecting_fields)?;
    let fields = reader.lines(head.lines, may_have_field)?;
    let original = reader.lines(head.original_lines, |name| ANNOTATED_FIELDS.contains(name))?;
    require(head.has_original_lines || original.is_empty(), "original fields")?;
    let body = reader.shared(head.body_length)?;
    require(reader.rest.is_empty(), "total length")?;
    require(body.is_empty() || may_have_body(head.status), "body of a 204")?;
    let etags = fields.iter().filter(|(name, _)| *name == ETAG).count();
    require(head.etag_source == EtagSource::Handler || etags == 1, "entity tag of the cache")?;
    Ok(StoredResponse {
        status: head.status,
        fields: fields.into(),
        body,
        lifetime,
        stated: head.stated,
        selecting,
        discriminator,
        tags,
        stamp: head.stamp,
        client_ttl: head.client_ttl,
        original_fields: head.has_original_lines.then_some(original),
        etag_source: head.etag_source,
        coded: head.content.map(|content| Box::new(CodedCopies::of_content(content))),
        audience: head.audience,
        permits_sharing: head.permits_sharing,
        weak_tag: WeakTag::default(),
        validity_check: ValidityCheck::default(),
        uses: Uses::default(),
        received: now.monotonic(),
    })
}

/// The fixed part of a record.
struct Head {
    key_length: usize,
    body_length: usize,
    lines: usize,
    original_lines: usize,
    has_original_lines: bool,
    audience: Audience,
    etag_source: EtagSource,
    permits_sharing: bool,
    discriminator_length: usize,
    selecting_fields: usize,
    status: StatusCode,
    tags: usize,
    source: LifetimeSource,
    staleness: Staleness,
    stamp: Stamp,
    /// The time of the response by the wall clock of the process that wrote the record.
    time: Duration,
    initial_age: Duration,
    freshness: Duration,
    retention: Duration,
    stated: Option<Duration>,
    client_ttl: Option<Duration>,
    /// The digest of the body, if the cache may make coded copies of it.
    content: Option<ContentDigest>,
}

fn require(holds: bool, part: &'static str) -> Result<(), RecordError> {
    if holds { Ok(()) } else { Err(RecordError::Malformed(part)) }
}

fn status(code: u16) -> Result<StatusCode, RecordError> {
    require(may_have_status(code), "status code")?;
    StatusCode::from_u16(code).map_err(|_| RecordError::Malformed("status code"))
}

fn source_of(code: u8) -> Result<LifetimeSource, RecordError> {
    match code {
        1 => Ok(LifetimeSource::Explicit),
        2 => Ok(LifetimeSource::Heuristic),
        3 => Ok(LifetimeSource::Handler),
        4 => Ok(LifetimeSource::Policy),
        5 => Ok(LifetimeSource::Middleware),
        _ => Err(RecordError::Malformed("lifetime source")),
    }
}

fn validation_of(code: u8) -> Result<Validation, RecordError> {
    match code {
        1 => Ok(Validation::OnceStale),
        2 => Ok(Validation::Strict),
        3 => Ok(Validation::Always),
        _ => Err(RecordError::Malformed("validation")),
    }
}

/// Converts the wall-clock time of a response to a timestamp of this process.
///
/// The monotonic clock of this process cannot show a time from before the process began. The age of
/// an older response therefore comes from the wall clock alone.
fn rebased(time: Duration, now: Timestamp) -> Result<Timestamp, RecordError> {
    if time > now.wall().saturating_add(MAX_SKEW) {
        return Err(RecordError::FromTheFuture);
    }
    let age = now.wall().saturating_sub(time);
    Ok(Timestamp::new(now.wall().min(time), now.monotonic().saturating_sub(age)))
}

/// Returns whether decoding the record of a response again, at `now`, would give the response the same
/// time.
///
/// The time would be another one if the wall clock of this process was set since the response was
/// decoded.
#[cfg(feature = "redis")]
pub(crate) fn has_same_time(decoded: &StoredResponse, now: Timestamp) -> bool {
    let time = decoded.lifetime.response_time;
    rebased(time.wall(), now)
        .is_ok_and(|again| again.monotonic().abs_diff(time.monotonic()) <= MAX_DRIFT)
}

/// Returns the name with this text, if it is the name of a field that most responses have. Other names
/// take longer to parse.
fn usual_name(text: &[u8]) -> Option<HeaderName> {
    Some(match text {
        b"cache-control" => CACHE_CONTROL,
        b"content-encoding" => CONTENT_ENCODING,
        b"content-language" => CONTENT_LANGUAGE,
        b"content-security-policy" => CONTENT_SECURITY_POLICY,
        b"content-type" => CONTENT_TYPE,
        b"date" => DATE,
        b"etag" => ETAG,
        b"expires" => EXPIRES,
        b"last-modified" => LAST_MODIFIED,
        b"link" => LINK,
        b"referrer-policy" => REFERRER_POLICY,
        b"strict-transport-security" => STRICT_TRANSPORT_SECURITY,
        b"vary" => VARY,
        b"x-content-type-options" => X_CONTENT_TYPE_OPTIONS,
        b"x-frame-options" => X_FRAME_OPTIONS,
        _ => return None,
    })
}

struct Reader<'a> {
    record: &'a Bytes,
    /// The bytes of the record that are not read yet.
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the first 12 bytes of the record and checks that the record is complete.
    fn envelope(&mut self) -> Result<(), RecordError> {
        let or_truncated = |bytes: Result<[u8; 4], _>| bytes.map_err(|_| RecordError::Truncated);
        let [first, second, version, reserved] = or_truncated(self.array())?;
        require([first, second] == MAGIC, "magic bytes")?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        require(reserved == 0, "reserved byte")?;
        let checksum = u32::from_le_bytes(or_truncated(self.array())?);
        let length = u32::from_le_bytes(or_truncated(self.array())?);
        let found = self.record.len();
        if found < HEAD || (found as u64) < u64::from(length) {
            return Err(RecordError::Truncated);
        }
        require(found as u64 == u64::from(length), "record length")?;
        let checksummed = self.record.get(CHECKSUMMED..).unwrap_or_default();
        if crc32fast::hash(checksummed) == checksum { Ok(()) } else { Err(RecordError::Checksum) }
    }

    fn head(&mut self) -> Result<Head, RecordError> {
        self.envelope()?;
        let key_length = self.length()?;
        let body_length = self.length()?;
        let lines = self.length()?;
        let original_lines = self.length()?;
        let discriminator_length = self.length()?;
        let selecting_fields = self.u16()?.into();
        let status = status(self.u16()?)?;
        let [tags, source, validation, flags] = self.array()?;
        let has = |flag| flags & flag != 0;
        let (source, validation) = (source_of(source)?, validation_of(validation)?);
        let stamp = Stamp::new(u64::from_le_bytes(self.array()?));
        let (time, initial_age) = (self.time()?, self.time()?);
        let (freshness, retention) = (self.lifetime()?, self.lifetime()?);
        let while_revalidate = self.optional_time(has(flag::WHILE_REVALIDATE))?;
        let if_error = self.optional_time(has(flag::IF_ERROR))?;
        let stated = self.optional_time(has(flag::STATED))?;
        let client_ttl = self.optional_time(has(flag::CLIENT_TTL))?;
        let content: [u8; 16] = self.array()?;
        let [more_flags] = self.array()?;
        let known = flag::CODED_COPIES | flag::DECODING_CLIENTS;
        require(more_flags & !known == 0, "flags")?;
        let may_be_coded = more_flags & flag::CODED_COPIES != 0;
        require(may_be_coded || content == [0; 16], "absent digest")?;
        Ok(Head {
            key_length,
            body_length,
            lines,
            original_lines,
            has_original_lines: has(flag::ORIGINAL_FIELDS),
            permits_sharing: has(flag::PERMITS_SHARING),
            audience: match (has(flag::WITHOUT_CODINGS), more_flags & flag::DECODING_CLIENTS != 0) {
                (false, false) => Audience::Everyone,
                (true, false) => Audience::ClientsWithoutCodings,
                (false, true) => Audience::ClientsThatDecode,
                (true, true) => return Err(RecordError::Malformed("audience")),
            },
            etag_source: if has(flag::ETAG_OF_CACHE) {
                EtagSource::Cache
            } else {
                EtagSource::Handler
            },
            discriminator_length,
            selecting_fields,
            status,
            tags: tags.into(),
            source,
            staleness: Staleness { validation, while_revalidate, if_error },
            stamp,
            time,
            initial_age,
            freshness,
            retention,
            stated,
            client_ttl,
            content: may_be_coded.then(|| ContentDigest::from_bytes(content)),
        })
    }

    /// Checks that the rest of the record is long enough for `number` items of at least `shortest`
    /// bytes. The check precedes the allocation of memory for the items.
    fn require_items(&self, number: usize, shortest: usize) -> Result<(), RecordError> {
        let bytes = number.checked_mul(shortest);
        require(bytes.is_some_and(|bytes| bytes <= self.rest.len()), "number of items")
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let split = self.rest.split_at_checked(length);
        let (found, rest) = split.ok_or(RecordError::Malformed("length"))?;
        self.rest = rest;
        Ok(found)
    }

    /// Reads bytes as a slice that shares the buffer of the record.
    ///
    /// `shared` and `name` are inlined, because returning their large results from a call is slow.
    #[inline(always)]
    fn shared(&mut self, length: usize) -> Result<Bytes, RecordError> {
        let found = self.bytes(length)?;
        Ok(self.record.slice_ref(found))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let split = self.rest.split_first_chunk();
        let (found, rest) = split.ok_or(RecordError::Malformed("length"))?;
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
        usize::try_from(self.u32()?).map_err(|_| RecordError::Malformed("length"))
    }

    fn time(&mut self) -> Result<Duration, RecordError> {
        let seconds = u64::from_le_bytes(self.array()?);
        let nanoseconds = self.u32()?;
        require(nanoseconds < 1_000_000_000, "time")?;
        Ok(Duration::new(seconds, nanoseconds))
    }

    /// Reads a lifetime. A lifetime over [`MAX_LIFETIME`] is an error, because a date plus such a
    /// lifetime may not be a valid date.
    fn lifetime(&mut self) -> Result<Duration, RecordError> {
        let time = self.time()?;
        require(time <= MAX_LIFETIME, "lifetime")?;
        Ok(time)
    }

    fn optional_time(&mut self, present: bool) -> Result<Option<Duration>, RecordError> {
        let time = self.time()?;
        require(present || time.is_zero(), "absent time")?;
        Ok(present.then_some(time))
    }

    fn tags(&mut self, number: usize) -> Result<Box<[TagId]>, RecordError> {
        require(number <= MAX_TAGS, "number of tags")?;
        let (tags, rest) = self.bytes(number * size_of::<TagId>())?.as_chunks();
        debug_assert!(rest.is_empty());
        Ok(tags.iter().copied().map(TagId::from_bytes).collect())
    }

    #[inline(always)]
    fn name(&mut self) -> Result<HeaderName, RecordError> {
        let length = self.u16()?;
        let text = self.bytes(length.into())?;
        if let Some(name) = usual_name(text) {
            return Ok(name);
        }
        let name = HeaderName::from_bytes(text);
        let name = name.map_err(|_| RecordError::Malformed("field name"))?;
        require(name.as_str().as_bytes() == text, "field name")?;
        Ok(name)
    }

    fn selecting(&mut self, number: usize) -> Result<Selecting, RecordError> {
        self.require_items(number, SHORTEST_FIELD)?;
        let mut fields = Vec::with_capacity(number);
        for _ in 0..number {
            let name = self.name()?;
            let value = match self.u32()? {
                ABSENT => None,
                length => {
                    let length = usize::try_from(length);
                    let length = length.map_err(|_| RecordError::Malformed("length"))?;
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
        is_allowed: impl Fn(&HeaderName) -> bool,
    ) -> Result<Box<[(HeaderName, HeaderValue)]>, RecordError> {
        self.require_items(number, SHORTEST_FIELD)?;
        let mut lines = Vec::with_capacity(number);
        for _ in 0..number {
            let name = self.name()?;
            require(is_allowed(&name), "field that is never stored")?;
            let length = self.length()?;
            let value = HeaderValue::from_maybe_shared(self.shared(length)?);
            lines.push((name, value.map_err(|_| RecordError::Malformed("field value"))?));
        }
        Ok(lines.into_boxed_slice())
    }
}
