//! What must hold of whatever is read, for tests and the fuzz target.

use super::{HEAD, MAGIC, RecordError, VERSION, decode, encode, encoding::seal};
use crate::{clock::Timestamp, entry::key::CacheKey, entry::response::StoredResponse};

/// Reads a record.
///
/// # Panics
///
/// If what is read is nothing that is ever stored, or would not be written in the same bytes.
pub(crate) fn read(
    record: &[u8],
    key: &CacheKey,
    now: Timestamp,
) -> Result<StoredResponse, RecordError> {
    let response = decode(bytes::Bytes::copy_from_slice(record), key, now)?;
    assert!(response.lifetime.response.wall() <= now.wall());
    assert!(response.lifetime.response.monotonic() <= now.monotonic());
    let status = response.status.as_u16();
    assert!(status >= 200 && status != 206 && status != 304, "status {status}");
    assert!(status != 204 || response.body.is_empty(), "204 with a body");
    assert!(response.lifetime.freshness.as_secs() <= 1 << 31);
    assert!(response.lifetime.retention.as_secs() <= 1 << 31);
    assert!(response.tags.len() <= 64);
    for (name, value) in &response.fields {
        let name = name.as_str();
        let of_a_connection =
            ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];
        assert!(!of_a_connection.contains(&name), "{name}");
        assert!(!name.starts_with("proxy-") || !is_of_proxies(name), "{name}");
        assert!(!["age", "content-length", "authentication-info"].contains(&name), "{name}");
        assert!(!value.as_bytes().iter().any(|byte| b"\r\n\0".contains(byte)), "{name}");
    }
    for (name, _) in response.original_fields.iter().flat_map(|fields| fields.iter()) {
        assert!(["cache-control", "date", "expires", "vary"].contains(&name.as_str()), "{name}");
    }
    // What counts as made now is written as such.
    if made_at(record) <= now.wall().as_nanos() {
        assert_eq!(encode(key, &response).expect("it was written"), record);
    }
    Ok(response)
}

fn is_of_proxies(name: &str) -> bool {
    matches!(
        name.strip_prefix("proxy-"),
        Some("authenticate" | "authentication-info" | "authorization" | "connection")
    )
}

fn made_at(record: &[u8]) -> u128 {
    let seconds = record.get(48..56).and_then(|bytes| bytes.try_into().ok());
    let nanoseconds = record.get(56..60).and_then(|bytes| bytes.try_into().ok());
    u128::from(u64::from_le_bytes(seconds.unwrap())) * 1_000_000_000
        + u128::from(u32::from_le_bytes(nanoseconds.unwrap()))
}

/// Makes a record of anything: with the opening and the checksum of one, and for this key.
pub(crate) fn forge(content: &[u8], key: &CacheKey) -> Vec<u8> {
    let key = key.as_bytes();
    let (head, rest) = content.split_at_checked(HEAD).unwrap_or((content, &[]));
    let mut record = head.to_vec();
    record.resize(HEAD, 0);
    record.extend_from_slice(key);
    record.extend_from_slice(rest);
    let lengths = [record.len(), key.len()].map(|length| u32::try_from(length).unwrap());
    let places = record.chunks_exact_mut(4).take(4);
    let [version, length] = [[MAGIC[0], MAGIC[1], VERSION, 0], lengths[0].to_le_bytes()];
    let opening = [version, [0; 4], length, lengths[1].to_le_bytes()];
    places.zip(opening).for_each(|(place, bytes)| place.copy_from_slice(&bytes));
    seal(&mut record);
    record
}

/// Makes a record whole again that was changed.
#[cfg(test)]
pub(crate) fn mend(record: &mut [u8]) {
    let length = u32::try_from(record.len()).unwrap();
    if let Some(place) = record.get_mut(8..12) {
        place.copy_from_slice(&length.to_le_bytes());
    }
    seal(record);
}
