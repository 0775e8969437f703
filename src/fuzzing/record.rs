//! The target `record`: no bytes make the decoder of stored responses panic, and a record is either
//! refused or decoded to the response that was encoded.

use std::time::Duration;

use actix_web::http::{
    StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_TYPE, COOKIE, DATE, ETAG, EXPIRES, HeaderName, HeaderValue,
        LAST_MODIFIED, VARY,
    },
};
use bytes::Bytes;

use super::input::{Input, NOW};
use crate::{
    clock::Timestamp,
    entry::{
        codec::{decode, encode, fuzzing},
        coded_copy::{CodedCopies, ContentDigest},
        key::CacheKey,
        lifetime::{Lifetime, LifetimeSource, Staleness, Validation},
        limits::may_have_status,
        response::{ANNOTATED_FIELDS, Audience, EtagSource, StoredResponse, WeakTag},
        stamp::Stamp,
        tag::TagId,
        uses::Uses,
        validity::ValidityCheck,
    },
};

/// Runs the target.
///
/// # Panics
///
/// Panics if a decoded response is one that the cache never stores, if encoding it again gives
/// other bytes, or if a damaged record is decoded.
pub fn run(bytes: &[u8]) {
    let key = CacheKey::new("n", "http", "h", "/", None);
    let _ = fuzzing::read(bytes, &key, NOW);
    let _ = fuzzing::read(&fuzzing::forge(bytes, &key), &key, NOW);

    let mut input = Input::new(bytes);
    let response = response(&mut input);
    let record = encode(&key, &response).unwrap();
    let decoded = fuzzing::read(&record, &key, NOW).unwrap();
    // Times since the start of the process are not part of a record.
    let same = |response: &StoredResponse| StoredResponse {
        received: Duration::ZERO,
        lifetime: Lifetime { response_time: wall(response), ..response.lifetime },
        weak_tag: WeakTag::default(),
        validity_check: ValidityCheck::default(),
        uses: Uses::default(),
        ..response.clone()
    };
    assert_eq!(format!("{:?}", same(&decoded)), format!("{:?}", same(&response)));
    let other = CacheKey::new("n", "http", "h", "/other", None);
    assert!(decode(Bytes::from(record.clone()), &other, NOW).is_err(), "a record of another key");
    damage(&record, &key, &mut input);
}

fn wall(response: &StoredResponse) -> Timestamp {
    Timestamp::new(response.lifetime.response_time.wall(), Duration::ZERO)
}

/// Changes a record as the rest of the input says. A change of up to 32 adjacent bits is noticed by
/// the checksum. A change with a new checksum gives an error or a response that may be stored.
fn damage(record: &[u8], key: &CacheKey, input: &mut Input<'_>) {
    let truncated = &record[..input.number() as usize % record.len()];
    assert!(fuzzing::read(truncated, key, NOW).is_err(), "a truncated record");
    let mut forged = record.to_vec();
    for _ in 0..8 {
        if input.is_empty() {
            return;
        }
        // Most changes are in the first bytes, whose numbers decide how the decoder reads the rest.
        let limit = if input.flag() { record.len() } else { record.len().min(160) };
        let at = input.number() as usize % limit;
        let changes = [input.byte(), input.byte(), input.byte(), input.byte()];
        let mut damaged = record.to_vec();
        for bytes in [&mut damaged, &mut forged] {
            bytes.iter_mut().skip(at).zip(changes).for_each(|(byte, change)| *byte ^= change);
        }
        if damaged != record {
            assert!(fuzzing::read(&damaged, key, NOW).is_err(), "a damaged record");
        }
        fuzzing::repair(&mut forged);
        let _ = fuzzing::read(&forged, key, NOW);
    }
}

fn response(input: &mut Input<'_>) -> StoredResponse {
    let status = 200 + u16::from(input.byte()) * 3;
    let status = if may_have_status(status) { status } else { 200 };
    let body = if status == 204 { Bytes::new() } else { Bytes::copy_from_slice(input.bytes()) };
    let fields = fields(input);
    let names = [COOKIE, VARY, HeaderName::from_static("x-a")];
    let selecting = (0..input.below(4)).map(|_| {
        let value = input.flag().then(|| Bytes::copy_from_slice(input.bytes()));
        (input.choose(&names).clone(), value)
    });
    let selecting = selecting.collect();
    let tags = (0..input.below(65)).map(|_| {
        TagId::from_bytes(
            (u128::from(input.number()) << 64 | u128::from(input.byte())).to_be_bytes(),
        )
    });
    let tags = tags.collect();
    let original = input.flag().then(|| {
        let lines =
            (0..input.below(4)).map(|_| (input.choose(&ANNOTATED_FIELDS).clone(), value(input)));
        lines.collect()
    });
    let etags = fields.iter().filter(|(name, _)| *name == ETAG).count();
    StoredResponse {
        status: StatusCode::from_u16(status).unwrap(),
        fields: fields.into(),
        body,
        lifetime: lifetime(input),
        stated: time(input),
        selecting,
        discriminator: Box::from(input.bytes()),
        audience: *input.choose(&[
            Audience::Everyone,
            Audience::ClientsWithoutCodings,
            Audience::ClientsThatDecode,
        ]),
        permits_sharing: input.flag(),
        tags,
        stamp: Stamp::new(input.number()),
        client_ttl: time(input),
        original_fields: original,
        etag_source: if etags == 1 { EtagSource::Cache } else { EtagSource::Handler },
        coded: input.flag().then(|| Box::new(CodedCopies::of_content(ContentDigest::of(b"")))),
        weak_tag: WeakTag::default(),
        validity_check: ValidityCheck::default(),
        uses: Uses::default(),
        received: Duration::ZERO,
    }
}

fn fields(input: &mut Input<'_>) -> Box<[(HeaderName, HeaderValue)]> {
    let names = [CONTENT_TYPE, CACHE_CONTROL, DATE, ETAG, EXPIRES, LAST_MODIFIED, VARY];
    let lines = (0..input.below(8)).map(|_| {
        let custom = HeaderName::from_bytes(&[b"x-", input.bytes()].concat());
        (custom.unwrap_or_else(|_| input.choose(&names).clone()), value(input))
    });
    lines.collect()
}

fn value(input: &mut Input<'_>) -> HeaderValue {
    HeaderValue::from_bytes(input.bytes()).unwrap_or(HeaderValue::from_static("odd"))
}

/// Reads a time that a record can contain, or none.
fn time(input: &mut Input<'_>) -> Option<Duration> {
    input.flag().then(|| Duration::new(input.number(), u32::from(input.byte()) * 1_000_000))
}

fn lifetime(input: &mut Input<'_>) -> Lifetime {
    use LifetimeSource::{Explicit, Handler, Heuristic, Middleware, Policy};
    let limited = |input: &mut Input<'_>| Duration::from_secs(input.number() % (1 << 31));
    let made = Duration::from_secs(input.number() % NOW.wall().as_secs());
    let validations = [Validation::OnceStale, Validation::Strict, Validation::Always];
    Lifetime {
        response_time: Timestamp::new(made, Duration::ZERO),
        initial_age: time(input).unwrap_or_default(),
        freshness: limited(input),
        source: *input.choose(&[Explicit, Middleware, Heuristic, Handler, Policy]),
        staleness: Staleness {
            validation: *input.choose(&validations),
            while_revalidate: time(input),
            if_error: time(input),
        },
        retention: limited(input),
    }
}
