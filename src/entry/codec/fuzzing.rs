//! Checks of decoded records, for unit tests and the fuzz target of the codec.

use super::{
    decoding::{RecordError, decode},
    encoding::{encode, seal},
    layout::{HEAD, MAGIC, VERSION},
};
use crate::{
    clock::Timestamp,
    entry::{key::CacheKey, response::StoredResponse},
};

/// Decodes a record and checks that the decoded response may be stored.
///
/// # Panics
///
/// Panics if the response must never be stored, or if its encoding differs from `record`.
pub(crate) fn read(
    record: &[u8],
    key: &CacheKey,
    now: Timestamp,
) -> Result<StoredResponse, RecordError> {
    let response = decode(bytes::Bytes::copy_from_slice(record), key, now)?;
    assert!(response.lifetime.response_time.wall() <= now.wall());
    assert!(response.lifetime.response_time.monotonic() <= now.monotonic());
    let status = response.status.as_u16();
    assert!(status >= 200 && status != 206 && status != 304, "status {status}");
    assert!(status != 204 || response.body.is_empty(), "204 with a body");
    assert!(response.lifetime.freshness.as_secs() <= 1 << 31);
    assert!(response.lifetime.retention.as_secs() <= 1 << 31);
    assert!(response.tags.len() <= 64);
    for (name, value) in &response.fields {
        let name = name.as_str();
        let connection_fields =
            ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
        assert!(!connection_fields.contains(&name), "{name}");
        assert!(!is_proxy_field(name), "{name}");
        assert!(!["age", "content-length", "authentication-info"].contains(&name), "{name}");
        assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)), "{name}");
    }
    for (name, _) in response.original_fields.iter().flat_map(|fields| fields.iter()) {
        assert!(["cache-control", "date", "expires", "vary"].contains(&name.as_str()), "{name}");
    }
    // The decoder replaces a time in the future by `now`, so the encoding of such a response
    // differs.
    if response_time(record) <= now.wall().as_nanos() {
        assert_eq!(encode(key, &response).expect("a decoded response can be encoded"), record);
    }
    Ok(response)
}

fn is_proxy_field(name: &str) -> bool {
    matches!(
        name.strip_prefix("proxy-"),
        Some("authenticate" | "authentication-info" | "authorization" | "connection")
    )
}

fn response_time(record: &[u8]) -> u128 {
    let seconds = record.get(48..56).and_then(|bytes| bytes.try_into().ok());
    let nanoseconds = record.get(56..60).and_then(|bytes| bytes.try_into().ok());
    u128::from(u64::from_le_bytes(seconds.unwrap())) * 1_000_000_000
        + u128::from(u32::from_le_bytes(nanoseconds.unwrap()))
}

/// Turns any bytes into a record for this key, with valid magic bytes, version, lengths and
/// checksum.
pub(crate) fn forge(content: &[u8], key: &CacheKey) -> Vec<u8> {
    let key = key.as_bytes();
    let (head, rest) = content.split_at_checked(HEAD).unwrap_or((content, &[]));
    let mut record = head.to_vec();
    record.resize(HEAD, 0);
    record.extend_from_slice(key);
    record.extend_from_slice(rest);
    let lengths = [record.len(), key.len()].map(|length| u32::try_from(length).unwrap());
    let envelope = [
        [MAGIC[0], MAGIC[1], VERSION, 0],
        [0; 4],
        lengths[0].to_le_bytes(),
        lengths[1].to_le_bytes(),
    ];
    let start = record.chunks_exact_mut(4).zip(envelope);
    start.for_each(|(to, from)| to.copy_from_slice(&from));
    seal(&mut record);
    record
}

/// Writes the correct length and checksum into a record that was changed.
pub(crate) fn repair(record: &mut [u8]) {
    let length = u32::try_from(record.len()).unwrap();
    if let Some(bytes) = record.get_mut(8..12) {
        bytes.copy_from_slice(&length.to_le_bytes());
    }
    seal(record);
}
