//! Golden records: files with the bytes of version 3, whose layout must never change.

use std::{fs::File, io::Write as _, path::Path};

use super::{super::layout::VERSION, *};

const FULL: &[u8] = include_bytes!("../golden/record-v3-full.bin");
const MINIMAL: &[u8] = include_bytes!("../golden/record-v3-minimal.bin");

/// Writes the golden files of a new version. Increment `VERSION` and the `FORMAT_VERSION` of Redis,
/// run this test by its name with `--ignored`, and include the new files above instead of the old
/// ones. The test never overwrites an existing file.
#[test]
#[ignore = "writes files"]
fn write_golden_records() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/entry/codec/golden");
    for (name, record) in [("full", full_record()), ("minimal", minimal_record())] {
        let path = directory.join(format!("record-v{VERSION}-{name}.bin"));
        File::create_new(path).unwrap().write_all(&record).unwrap();
    }
}

#[test]
fn records_are_written_as_the_golden_files() {
    assert_eq!(full_record(), FULL);
    assert_eq!(minimal_record(), MINIMAL);
}

#[test]
fn full_golden_record_is_read() {
    let got = decode(Bytes::from_static(FULL), &key(), NOW).unwrap();
    let fields = |fields: &[(HeaderName, HeaderValue)]| {
        let line = |(name, value): &(HeaderName, HeaderValue)| {
            format!("{name}: {}", value.as_bytes().escape_ascii())
        };
        fields.iter().map(line).collect::<Vec<_>>()
    };
    assert_eq!(got.status, 203);
    let want = [
        "cache-control: max-age=60",
        "link: </b>",
        "x-empty: ",
        "link: </a>",
        "content-type: text/plain; charset=utf-8",
        r"x-custom_name: caf\xc3\xa9\t\xff",
        "date: Tue, 14 Nov 2023 22:13:20 GMT",
        r#"etag: W/\"a\""#,
    ];
    assert_eq!(fields(&got.fields), want);
    assert_eq!(got.etag_source, EtagSource::Cache);
    assert_eq!(&got.body[..], b"\0body\xff");
    assert_eq!(got.lifetime.response_time.wall(), Duration::new(1_700_000_000, 123_456_789));
    assert_eq!(got.lifetime.response_time.monotonic(), Duration::ZERO);
    assert_eq!(got.lifetime.initial_age, Duration::new(2, 1));
    assert_eq!(got.lifetime.freshness, Duration::from_secs(2_147_483_648));
    assert_eq!(got.lifetime.source, LifetimeSource::Handler);
    assert_eq!(got.lifetime.staleness.validation, Validation::Strict);
    assert_eq!(got.lifetime.staleness.while_revalidate, Some(Duration::from_secs(30)));
    assert_eq!(got.lifetime.staleness.if_error, Some(Duration::ZERO));
    assert_eq!(got.lifetime.retention, Duration::new(3600, 999_999_999));
    assert_eq!(got.stated, Some(Duration::from_secs(251_702_300_000)));
    let selecting: Vec<_> =
        got.selecting.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    let want = [
        ("accept", Some(&b"text/*\n\x80"[..])),
        ("x-theme", None),
        ("accept-language", Some(&b""[..])),
    ];
    assert_eq!(selecting, want);
    assert_eq!(&got.discriminator[..], b"l\x01\0");
    let tags: Vec<_> = got.tags.iter().map(|tag| format!("{tag:?}")).collect();
    assert_eq!(tags[0], "TagId(017481b48ca7b7136cd46db6447e5302)");
    assert_eq!((tags.len(), got.tags[1]), (2, TagId::tag("shop", "x")));
    assert_eq!(got.stamp.get(), 0x0102_0304_0506_0708);
    assert_eq!(got.client_ttl, Some(Duration::from_millis(1500)));
    assert_eq!(got.coded.unwrap().content().as_bytes(), &[0xd1; 16]);
    assert_eq!(fields(&got.original_fields.unwrap()), ["cache-control: public", "vary: accept"]);
}

#[test]
fn minimal_golden_record_is_read() {
    let got = decode(Bytes::from_static(MINIMAL), &minimal_key(), NOW).unwrap();
    assert_eq!(got.status, 204);
    assert!(got.fields.is_empty() && got.body.is_empty() && got.selecting.is_empty());
    assert!(got.discriminator.is_empty() && got.tags.is_empty() && got.original_fields.is_none());
    assert!(got.coded.is_none());
    assert_eq!((got.stated, got.client_ttl, got.stamp), (None, None, Stamp::ZERO));
    assert_eq!(got.lifetime.response_time.wall(), Duration::from_secs(1_000_000));
    assert_eq!(got.lifetime.initial_age, Duration::ZERO);
    assert_eq!(got.lifetime.freshness, Duration::from_secs(60));
    assert_eq!(got.lifetime.retention, Duration::ZERO);
    assert_eq!(got.lifetime.source, LifetimeSource::Policy);
    assert_eq!(got.lifetime.staleness, Staleness::default());
}

/// Processes with different versions can share a store.
#[test]
fn records_of_earlier_versions_are_refused_by_their_version() {
    for (version, record) in [
        (1, &include_bytes!("../golden/record-v1-full.bin")[..]),
        (1, include_bytes!("../golden/record-v1-minimal.bin")),
        (2, include_bytes!("../golden/record-v2-full.bin")),
        (2, include_bytes!("../golden/record-v2-minimal.bin")),
    ] {
        let read = decode(Bytes::from_static(record), &key(), NOW);
        assert_eq!(read.unwrap_err(), Version(version));
    }
}

/// Reads a golden record by the table in the documentation of the codec, without the decoder.
#[test]
fn layout_is_as_documented() {
    let bytes = |from: usize, length: usize| &FULL[from..from + length];
    let u16 = |at: usize| u16::from_le_bytes(bytes(at, 2).try_into().unwrap());
    let u32 = |at: usize| u32::from_le_bytes(bytes(at, 4).try_into().unwrap());
    let time = |at: usize| (u64::from_le_bytes(bytes(at, 8).try_into().unwrap()), u32(at + 8));
    assert_eq!(bytes(0, 4), [0xac, 0x57, 3, 0]);
    assert_eq!(u32(4), crc_as_in_gzip(&FULL[8..]));
    assert_eq!(u32(8) as usize, FULL.len());
    assert_eq!(u32(12) as usize, key().as_bytes().len());
    assert_eq!([u32(16), u32(20), u32(24), u32(28)], [6, 8, 2, 3]);
    assert_eq!([u16(32), u16(34)], [3, 203]);
    assert_eq!(bytes(36, 4), [2, 3, 2, 159]);
    assert_eq!(bytes(40, 8), [8, 7, 6, 5, 4, 3, 2, 1]);
    let times = [48, 60, 72, 84, 96, 108, 120, 132].map(time);
    let want = [
        (1_700_000_000, 123_456_789),
        (2, 1),
        (1 << 31, 0),
        (3600, 999_999_999),
        (30, 0),
        (0, 0),
        (251_702_300_000, 0),
        (1, 500_000_000),
    ];
    assert_eq!(times, want);
    assert_eq!((bytes(144, 16), FULL[160]), (&[0xd1; 16][..], 1));
    let tags = [TagId::tag("shop", "post:1"), TagId::tag("shop", "x")].map(TagId::to_bytes);
    let key = key();
    let parts: [&[u8]; 16] = [
        key.as_bytes(),
        &tags.concat(),
        b"l\x01\0",
        b"\x06\0accept\x08\0\0\0text/*\n\x80",
        b"\x07\0x-theme\xff\xff\xff\xff",
        b"\x0f\0accept-language\0\0\0\0",
        b"\x0d\0cache-control\x0a\0\0\0max-age=60",
        b"\x04\0link\x04\0\0\0</b>",
        b"\x07\0x-empty\0\0\0\0",
        b"\x04\0link\x04\0\0\0</a>",
        b"\x0c\0content-type\x19\0\0\0text/plain; charset=utf-8",
        b"\x0d\0x-custom_name\x07\0\0\0caf\xc3\xa9\t\xff",
        b"\x04\0date\x1d\0\0\0Tue, 14 Nov 2023 22:13:20 GMT",
        b"\x04\0etag\x05\0\0\0W/\"a\"",
        b"\x0d\0cache-control\x06\0\0\0public\x04\0vary\x06\0\0\0accept",
        b"\0body\xff",
    ];
    assert_eq!(&FULL[161..], parts.concat());
}

/// Computes the CRC-32 of RFC 1952 section 8, bit by bit.
fn crc_as_in_gzip(bytes: &[u8]) -> u32 {
    let shifted = |crc: u32| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| shifted(crc)))
}
