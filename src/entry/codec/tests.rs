use std::{fmt::Debug, time::Duration};

use actix_web::http::{
    StatusCode,
    header::{
        ACCEPT, ACCEPT_LANGUAGE, AGE, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE,
        DATE, ETAG, EXPIRES, HeaderName, HeaderValue, LINK, TRANSFER_ENCODING, VARY,
    },
};
use bytes::Bytes;

use super::{
    decoding::{
        RecordError::{self, Checksum, FromTheFuture, Malformed, OtherKey, Truncated, Version},
        decode,
    },
    encoding::{EncodeError, encode},
    fuzzing::{read, repair},
    layout::HEAD,
};
use crate::{
    clock::Timestamp,
    entry::{
        coded_copy::{CodedCopies, ContentDigest},
        fixtures::stored,
        key::CacheKey,
        lifetime::{Lifetime, LifetimeSource, Staleness, Validation},
        limits::{MAX_LIFETIME, MAX_TAGS},
        response::{Audience, EtagSource, Selecting, StoredResponse, WeakTag},
        stamp::Stamp,
        tag::TagId,
        uses::Uses,
        validity::ValidityCheck,
    },
};

mod golden;
mod properties;

/// The time at which tests decode: an hour after the response time of `full()`, in a process that
/// is ten minutes old.
const NOW: Timestamp = Timestamp::new(Duration::new(1_700_003_600, 5), Duration::from_secs(600));

fn key() -> CacheKey {
    let mut key = CacheKey::new("shop", "https", "example.com", "/caf%C3%A9", Some("q=1"));
    key.push_part("tenant", Some(b"\xff\0"));
    key.push_part("theme", None);
    key
}

fn minimal_key() -> CacheKey {
    CacheKey::new("n", "http", "h", "/", None)
}

fn lines(lines: &[(HeaderName, &[u8])]) -> Box<[(HeaderName, HeaderValue)]> {
    let line = |(name, value): &(HeaderName, &[u8])| {
        (name.clone(), HeaderValue::from_bytes(value).unwrap())
    };
    lines.iter().map(line).collect()
}

/// Makes a response with every optional part.
fn full() -> StoredResponse {
    StoredResponse {
        status: StatusCode::NON_AUTHORITATIVE_INFORMATION,
        fields: lines(&[
            (CACHE_CONTROL, b"max-age=60"),
            (LINK, b"</b>"),
            (HeaderName::from_static("x-empty"), b""),
            (LINK, b"</a>"),
            (CONTENT_TYPE, b"text/plain; charset=utf-8"),
            (HeaderName::from_static("x-custom_name"), b"caf\xc3\xa9\t\xff"),
            (DATE, b"Tue, 14 Nov 2023 22:13:20 GMT"),
            (ETAG, b"W/\"a\""),
        ])
        .into(),
        etag_source: EtagSource::Cache,
        coded: Some(Box::new(CodedCopies::of_content(ContentDigest::from_bytes([0xd1; 16])))),
        body: Bytes::from_static(b"\0body\xff"),
        lifetime: Lifetime {
            response_time: Timestamp::new(
                Duration::new(1_700_000_000, 123_456_789),
                Duration::from_secs(7),
            ),
            initial_age: Duration::new(2, 1),
            freshness: MAX_LIFETIME,
            source: LifetimeSource::Handler,
            staleness: Staleness {
                validation: Validation::Strict,
                while_revalidate: Some(Duration::from_secs(30)),
                if_error: Some(Duration::ZERO),
            },
            retention: Duration::new(3600, 999_999_999),
        },
        stated: Some(Duration::from_secs(251_702_300_000)),
        selecting: Box::new([
            (ACCEPT, Some(Bytes::from_static(b"text/*\n\x80"))),
            (HeaderName::from_static("x-theme"), None),
            (ACCEPT_LANGUAGE, Some(Bytes::new())),
        ]),
        discriminator: Box::from(&b"l\x01\0"[..]),
        tags: Box::new([TagId::tag("shop", "post:1"), TagId::tag("shop", "x")]),
        stamp: Stamp::new(0x0102_0304_0506_0708),
        client_ttl: Some(Duration::from_millis(1500)),
        original_fields: Some(lines(&[(CACHE_CONTROL, b"public"), (VARY, b"accept")])),
        audience: Audience::Everyone,
        permits_sharing: false,
        weak_tag: WeakTag::default(),
        validity_check: ValidityCheck::default(),
        uses: Uses::default(),
        received: Duration::ZERO,
    }
}

/// Makes a response without optional parts.
fn minimal() -> StoredResponse {
    StoredResponse { status: StatusCode::NO_CONTENT, body: Bytes::new(), ..stored(0, &[]) }
}

/// Returns the parts of a response that its record holds.
fn written(response: &StoredResponse) -> impl PartialEq + Debug + use<> {
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
        audience,
        permits_sharing,
        etag_source,
        coded,
        weak_tag: _,
        validity_check: _,
        uses: _,
        received: _,
    } = response.clone();
    let Lifetime { response_time, initial_age, freshness, source, staleness, retention } = lifetime;
    let lifetime = (response_time.wall(), initial_age, freshness, source, staleness, retention);
    let groups = (selecting, discriminator, audience, permits_sharing, etag_source, tags, stamp);
    let content = coded.map(|coded| coded.content());
    (status, fields, body, lifetime, stated, groups, client_ttl, original_fields, content)
}

fn full_record() -> Vec<u8> {
    encode(&key(), &full()).unwrap()
}

/// Decodes the record of `full()` after a change of its bytes and a correction of its checksum.
fn read_changed(change: impl FnOnce(&mut Vec<u8>)) -> Result<StoredResponse, RecordError> {
    let mut record = full_record();
    change(&mut record);
    repair(&mut record);
    read(&record, &key(), NOW)
}

fn put(record: &mut [u8], at: usize, bytes: &[u8]) {
    record[at..at + bytes.len()].copy_from_slice(bytes);
}

#[test]
fn written_response_is_read_back() {
    for (key, response) in [(key(), full()), (minimal_key(), minimal())] {
        let record = encode(&key, &response).unwrap();
        let got = read(&record, &key, NOW).unwrap();
        assert_eq!(written(&got), written(&response));
    }
    let without = StoredResponse { original_fields: Some(Box::default()), ..minimal() };
    let record = encode(&key(), &without).unwrap();
    let got = read(&record, &key(), NOW).unwrap();
    assert!(got.original_fields.is_some(), "no original line differs from no annotation");
    let sources = [
        LifetimeSource::Explicit,
        LifetimeSource::Heuristic,
        LifetimeSource::Handler,
        LifetimeSource::Policy,
        LifetimeSource::Middleware,
    ];
    let validations = [Validation::OnceStale, Validation::Strict, Validation::Always];
    for (source, validation) in sources.into_iter().flat_map(|s| validations.map(|v| (s, v))) {
        let mut response = full();
        response.lifetime.source = source;
        response.lifetime.staleness.validation = validation;
        let record = encode(&key(), &response).unwrap();
        assert_eq!(written(&read(&record, &key(), NOW).unwrap()), written(&response));
    }
}

#[test]
fn absent_times_are_told_apart_from_zero() {
    for present in 0..16_u8 {
        let time = |bit: u8| (present & (1 << bit) != 0).then_some(Duration::ZERO);
        let mut response = full();
        response.lifetime.staleness.while_revalidate = time(0);
        response.lifetime.staleness.if_error = time(1);
        response.stated = time(2);
        response.client_ttl = time(3);
        let record = encode(&key(), &response).unwrap();
        assert_eq!(record[39], present | 16 | 128);
        assert_eq!(written(&read(&record, &key(), NOW).unwrap()), written(&response), "{present}");
    }
}

#[test]
fn body_and_values_are_not_copied() {
    let record = Bytes::from(full_record());
    let range = record.as_ptr_range();
    let got = decode(record.clone(), &key(), NOW).unwrap();
    let shares = |bytes: &[u8]| range.contains(&bytes.as_ptr());
    assert!(shares(&got.body));
    assert!(
        got.fields.iter().filter(|(_, value)| !value.is_empty()).all(|(_, v)| shares(v.as_bytes()))
    );
    assert!(got.selecting.iter().flat_map(|(_, v)| v).filter(|v| !v.is_empty()).all(|v| shares(v)));
}

#[test]
fn truncated_record_is_not_read() {
    for (key, record) in [(key(), full_record()), (minimal_key(), minimal_record())] {
        for end in 0..record.len() {
            assert_eq!(read(&record[..end], &key, NOW).unwrap_err(), Truncated, "at {end}");
        }
    }
    let mut short = full_record();
    short.truncate(HEAD - 1);
    repair(&mut short);
    assert_eq!(read(&short, &key(), NOW).unwrap_err(), Truncated, "shorter than any record");
}

fn minimal_record() -> Vec<u8> {
    encode(&minimal_key(), &minimal()).unwrap()
}

#[test]
fn flipped_bit_is_detected() {
    let record = full_record();
    for bit in 0..record.len() * 8 {
        let mut flipped = record.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let error = read(&flipped, &key(), NOW).unwrap_err();
        let expected = match bit / 8 {
            0 | 1 => matches!(error, Malformed("magic bytes")),
            2 => error == Version(3 ^ (1 << (bit % 8))),
            3 => error == Malformed("reserved byte"),
            8..12 => matches!(error, Truncated | Malformed("record length")),
            _ => error == Checksum,
        };
        assert!(expected, "bit {bit}: {error:?}");
    }
}

#[test]
fn other_bytes_and_other_versions_are_told_apart() {
    for (case, record, want) in [
        ("nothing", &b""[..], Truncated),
        ("too short", b"\xac\x57\x03", Truncated),
        ("text", b"<!DOCTYPE html>", Malformed("magic bytes")),
        ("half of the magic bytes", b"\xac\0\x03\0", Malformed("magic bytes")),
        ("version 0", b"\xac\x57\0\0", Version(0)),
        ("a short record of version 2", b"\xac\x57\x02\0", Version(2)),
        ("version 255 with another layout", b"\xac\x57\xff\x09anything", Version(255)),
        ("reserved byte", b"\xac\x57\x03\x01", Malformed("reserved byte")),
        ("no checksum", b"\xac\x57\x03\0\0\0\0", Truncated),
        ("no length", b"\xac\x57\x03\0\0\0\0\0\0\0\0", Truncated),
    ] {
        assert_eq!(read(record, &key(), NOW).unwrap_err(), want, "{case}");
    }
}

#[test]
fn bytes_after_a_record_are_an_error() {
    let mut record = full_record();
    record.push(0);
    assert_eq!(read(&record, &key(), NOW).unwrap_err(), Malformed("record length"));
    let got = read_changed(|record| record.push(0));
    assert_eq!(got.unwrap_err(), Malformed("total length"), "with a matching record length");
}

#[test]
fn record_of_another_key_is_not_read() {
    let record = full_record();
    let other = CacheKey::new("shop", "https", "example.com", "/caf%C3%A9", Some("q=1"));
    let mut longer = key();
    longer.push_part("x", None);
    for other in [other, longer, minimal_key()] {
        assert_eq!(read(&record, &other, NOW).unwrap_err(), OtherKey);
    }
}

#[test]
fn tag_of_the_cache_is_one_line() {
    let line = || (ETAG, &b"W/\"a\""[..]);
    for (fields, want) in [
        (lines(&[]), Err(Malformed("entity tag of the cache"))),
        (lines(&[line()]), Ok(())),
        (lines(&[line(), line()]), Err(Malformed("entity tag of the cache"))),
    ] {
        let (fields, etag_source) = (fields.into(), EtagSource::Cache);
        let response = StoredResponse { fields, etag_source, ..minimal() };
        let record = encode(&key(), &response).unwrap();
        assert_eq!(read(&record, &key(), NOW).map(drop), want);
    }
}

#[test]
fn invalid_numbers_in_the_head_are_refused() {
    let absent = |bit: u8, at: usize| {
        move |record: &mut Vec<u8>| {
            record[39] &= !bit;
            record[at] = 1;
        }
    };
    let longer = (MAX_LIFETIME + Duration::from_nanos(1), MAX_LIFETIME + Duration::from_secs(1));
    let set = |at: usize, bytes: &[u8]| {
        let bytes = bytes.to_vec();
        move |record: &mut Vec<u8>| put(record, at, &bytes)
    };
    let time = |at: usize, time: Duration| {
        let (seconds, rest) = (time.as_secs().to_le_bytes(), time.subsec_nanos().to_le_bytes());
        set(at, &[&seconds[..], &rest[..]].concat())
    };
    let number = |at: usize, number: u32| set(at, &number.to_le_bytes());
    type Change = Box<dyn FnOnce(&mut Vec<u8>)>;
    let cases: Vec<(Change, &str)> = vec![
        (Box::new(number(12, u32::MAX)), "length"),
        (Box::new(number(16, u32::MAX)), "length"),
        (Box::new(number(16, 5)), "total length"),
        (Box::new(number(16, 7)), "length"),
        (Box::new(number(20, u32::MAX)), "number of items"),
        (Box::new(number(24, u32::MAX)), "number of items"),
        (Box::new(number(28, u32::MAX)), "length"),
        (Box::new(set(32, &[0xff; 2])), "number of items"),
        (Box::new(set(36, &[65])), "number of tags"),
        (Box::new(set(36, &[64])), "length"),
        (Box::new(set(37, &[0])), "lifetime source"),
        (Box::new(set(37, &[6])), "lifetime source"),
        (Box::new(set(38, &[0])), "validation"),
        (Box::new(set(38, &[4])), "validation"),
        (Box::new(set(39, &[0x0f])), "original fields"),
        (Box::new(absent(1, 96)), "absent time"),
        (Box::new(absent(2, 108)), "absent time"),
        (Box::new(absent(4, 120)), "absent time"),
        (Box::new(absent(8, 143)), "absent time"),
        (Box::new(number(56, 1_000_000_000)), "time"),
        (Box::new(number(68, u32::MAX)), "time"),
        (Box::new(time(72, longer.0)), "lifetime"),
        (Box::new(time(72, Duration::MAX)), "lifetime"),
        (Box::new(time(84, longer.0)), "lifetime"),
        (Box::new(time(84, longer.1)), "lifetime"),
    ];
    for (n, (change, want)) in cases.into_iter().enumerate() {
        assert_eq!(read_changed(change).unwrap_err(), Malformed(want), "case {n}");
    }
}

#[test]
fn only_storable_status_codes_are_read() {
    for code in (0..1100).chain([u16::MAX]) {
        let storable = (200..1000).contains(&code) && ![206, 304].contains(&code);
        let got = read_changed(|record| {
            put(record, 34, &code.to_le_bytes());
            if code == 204 {
                record.truncate(record.len() - 6);
                put(record, 16, &[0; 4]);
            }
        });
        match got {
            Ok(response) => assert!(storable && response.status.as_u16() == code, "{code}"),
            Err(error) => assert!(!storable && error == Malformed("status code"), "{code}"),
        }
    }
}

#[test]
fn fields_and_bodies_that_are_never_stored_are_refused() {
    let fields = |name: HeaderName| StoredResponse {
        fields: lines(&[(name, b"1")]).into(),
        etag_source: EtagSource::Handler,
        ..full()
    };
    let original_fields = |name: HeaderName| StoredResponse {
        original_fields: Some(lines(&[(name, b"1")])),
        ..full()
    };
    let named = HeaderName::from_static;
    let tags = |number: usize| StoredResponse {
        tags: vec![TagId::tag("", ""); number].into_boxed_slice(),
        ..full()
    };
    let no_content = |body: &'static [u8]| StoredResponse {
        status: StatusCode::NO_CONTENT,
        body: Bytes::from_static(body),
        ..full()
    };
    let never = Some("field that is never stored");
    for (case, response, want) in [
        ("connection", fields(CONNECTION), never),
        ("keep-alive", fields(named("keep-alive")), never),
        ("proxy-connection", fields(named("proxy-connection")), never),
        ("te", fields(named("te")), never),
        ("trailer", fields(named("trailer")), never),
        ("transfer-encoding", fields(TRANSFER_ENCODING), never),
        ("upgrade", fields(named("upgrade")), never),
        ("content-length", fields(CONTENT_LENGTH), never),
        ("age", fields(AGE), never),
        ("proxy-authenticate", fields(named("proxy-authenticate")), never),
        ("proxy-authorization", fields(named("proxy-authorization")), never),
        ("proxy-authentication-info", fields(named("proxy-authentication-info")), never),
        ("authentication-info", fields(named("authentication-info")), never),
        ("set-cookie, which a policy may allow", fields(named("set-cookie")), None),
        ("an original line of a field that is never annotated", original_fields(ETAG), never),
        ("an original line of a connection field", original_fields(CONNECTION), never),
        ("an original line of an annotated field", original_fields(EXPIRES), None),
        ("204 with a body", no_content(b"x"), Some("body of a 204")),
        ("204 without a body", no_content(b""), None),
        ("the most tags", tags(MAX_TAGS), None),
        ("too many tags", tags(MAX_TAGS + 1), Some("number of tags")),
    ] {
        let record = encode(&key(), &response).unwrap();
        let got = read(&record, &key(), NOW).map(|_| ());
        assert_eq!(got, want.map_or(Ok(()), |want| Err(Malformed(want))), "{case}");
    }
}

#[test]
fn invalid_names_and_values_are_refused() {
    let selecting: Selecting = Box::new([(HeaderName::from_static("aaaa"), None)]);
    let sent = lines(&[(HeaderName::from_static("bbbb"), b"cccc")]);
    let (original_fields, etag_source) = (None, EtagSource::Handler);
    let response =
        StoredResponse { selecting, fields: sent.into(), original_fields, etag_source, ..full() };
    let record = encode(&key(), &response).unwrap();
    let find = |text: &[u8]| record.windows(4).position(|window| window == text).unwrap();
    let [selecting, name, value] = [&b"aaaa"[..], b"bbbb", b"cccc"].map(find);
    let bad_name = Some("field name");
    let bad_value = Some("field value");
    for (case, at, bytes, want) in [
        ("upper case in the name of a selecting field", selecting, &b"ABaa"[..], bad_name),
        ("a space in the name", selecting, b"a aa", bad_name),
        ("an empty name", selecting - 2, &[0, 0], bad_name),
        ("a name that is too long", selecting - 2, &[0xff, 0xff], Some("length")),
        ("a value that is too long", selecting + 4, &[0xfe, 0xff, 0xff, 0xff], Some("length")),
        ("a colon in a name", name, b"b:bb", bad_name),
        ("upper case in a name", name, b"Bbbb", bad_name),
        ("a line break in a name", name, b"b\r\nb", bad_name),
        ("another letter", name, b"bbbz", None),
        ("a line break in a value", value, b"c\r\nc", bad_value),
        ("a NUL in a value", value, b"ccc\0", bad_value),
        ("a DEL in a value", value, b"ccc\x7f", bad_value),
        ("other bytes in a value", value, b"\t \xff~", None),
        ("a value longer than the record", value - 4, &[0xff; 4], Some("length")),
    ] {
        let mut record = record.clone();
        put(&mut record, at, bytes);
        repair(&mut record);
        let got = read(&record, &key(), NOW).map(|_| ());
        assert_eq!(got, want.map_or(Ok(()), |want| Err(Malformed(want))), "{case}");
    }
}

#[test]
fn response_time_is_converted_to_the_clocks_of_this_process() {
    let at = |wall: f64, monotonic: f64| {
        Timestamp::new(Duration::from_secs_f64(wall), Duration::from_secs_f64(monotonic))
    };
    let mut response = full();
    for (case, time, now, want) in [
        ("now", 5000.0, at(5000.0, 70.0), Ok(at(5000.0, 70.0))),
        ("a minute ago", 5000.0, at(5060.0, 70.0), Ok(at(5000.0, 10.0))),
        ("at the beginning of this process", 5000.0, at(5070.0, 70.0), Ok(at(5000.0, 0.0))),
        ("before this process", 5000.0, at(9000.0, 70.0), Ok(at(5000.0, 0.0))),
        ("in 1970", 0.0, at(9000.0, 70.0), Ok(at(0.0, 0.0))),
        ("in half a second", 5000.5, at(5000.0, 70.0), Ok(at(5000.0, 70.0))),
        ("in two seconds", 5002.0, at(5000.0, 70.0), Ok(at(5000.0, 70.0))),
        ("in more than two seconds", 5002.001, at(5000.0, 70.0), Err(FromTheFuture)),
        ("in an hour", 8600.0, at(5000.0, 70.0), Err(FromTheFuture)),
    ] {
        response.lifetime.response_time = at(time, 12345.0);
        let record = encode(&key(), &response).unwrap();
        let got = read(&record, &key(), now).map(|response| response.lifetime.response_time);
        assert_eq!(got, want, "{case}");
    }
    let latest = read_changed(|record| put(record, 48, &[0xff; 8]));
    assert_eq!(latest.unwrap_err(), FromTheFuture);
    let end_of_time = Timestamp::new(Duration::MAX, Duration::MAX);
    assert!(read(&full_record(), &key(), end_of_time).is_ok());
}

#[test]
fn decoded_response_ages_by_both_clocks() {
    let got = read(&full_record(), &key(), NOW).unwrap();
    let response_time = got.lifetime.response_time;
    let later = |wall: i64, monotonic: u64| {
        let wall = NOW.wall().as_secs().saturating_add_signed(wall);
        let monotonic = NOW.monotonic() + Duration::from_secs(monotonic);
        Timestamp::new(Duration::from_secs(wall), monotonic).since(response_time).as_secs()
    };
    assert_eq!(later(0, 0), 3599, "by the writer's and the reader's wall clocks");
    assert_eq!(later(100, 100), 3699);
    assert_eq!(later(-7200, 100), 700, "a wall clock that is set back makes no response younger");
}

#[test]
fn response_that_does_not_fit_a_record_is_not_written() {
    let megabyte = HeaderValue::from_bytes(&vec![b'x'; 1 << 20]).unwrap();
    let fields = |number: usize| (0..number).map(|_| (LINK, megabyte.clone())).collect();
    let selecting = |number: usize| (0..number).map(|_| (ACCEPT, None)).collect();
    let tags = |number: usize| (0..number).map(|_| TagId::tag("", "")).collect();
    for (case, response, fits) in [
        ("4 GiB and more", StoredResponse { fields: fields(4096), ..minimal() }, false),
        (
            "the most selecting fields",
            StoredResponse { selecting: selecting(65_535), ..minimal() },
            true,
        ),
        (
            "too many selecting fields",
            StoredResponse { selecting: selecting(65_536), ..minimal() },
            false,
        ),
        ("too many tags", StoredResponse { tags: tags(256), ..minimal() }, false),
    ] {
        let got = encode(&minimal_key(), &response).map(|_| ());
        assert_eq!(got, if fits { Ok(()) } else { Err(EncodeError::TooLarge) }, "{case}");
    }
}

#[test]
fn errors_give_advice() {
    for (error, advice) in [
        (Truncated, "check that the store writes whole records"),
        (Version(7), "version 7, but this build reads version 3"),
        (Checksum, "check for damage"),
        (OtherKey, "check that the store names records by whole keys"),
        (
            Malformed("lifetime source"),
            "(invalid lifetime source): check that only this cache writes",
        ),
        (FromTheFuture, "more than 2 s in the future: synchronize"),
    ] {
        assert!(error.to_string().contains(advice), "{error}");
    }
    assert!(EncodeError::TooLarge.to_string().contains("max_body_size"));
}
