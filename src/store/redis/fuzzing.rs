//! Checks of the parsers for replies of Redis, for the fuzz targets.

use std::sync::Arc;

use actix_web::http::header::{HeaderName, VARY};
use deadpool_redis::redis::Value;

use super::{
    address::RedisSource,
    invalidation_table::{
        EpochCheck, InvalidationTable, decode_member, decode_removal, encode_members,
        encode_removal, parse_members,
    },
    records::{decode_names, encode_names, parse_record},
};
use crate::{
    coordination::{coordinator::Coordinator, removals::Removal},
    entry::{invalidation::Invalidation, tag::TagId},
};

/// Parses the URL of a Redis server. Returns whether the URL is valid.
pub(crate) fn parse_url(url: &str) -> bool {
    url.parse::<RedisSource>().is_ok()
}

/// Decodes the names of selecting fields.
///
/// # Panics
///
/// Panics if the names change when they are encoded and decoded again.
pub(crate) fn decode_selecting_fields(text: &[u8]) {
    let guessed = Arc::from([VARY]);
    let Some(names) = decode_names(text, &guessed) else { return };
    let encoded = encode_names(names.iter());
    let again = decode_names(encoded.as_bytes(), &guessed);
    let mut sorted: Vec<&HeaderName> = names.iter().collect();
    sorted.sort_unstable_by_key(|name| name.as_str());
    let again: Vec<_> = again.iter().flat_map(|names| names.iter()).collect();
    // A comma is no part of a field name, so the encoding is not ambiguous.
    assert_eq!(again, sorted, "{encoded}");
}

/// Decodes a member of the invalidation table, or of the removals.
///
/// # Panics
///
/// Panics if an encoded member is decoded to another invalidation, or if a member of an unknown
/// form is not an invalidation of all responses.
pub(crate) fn decode_members(member: &[u8]) {
    let invalidation = decode_member(member);
    let encoded = encode_members(&invalidation);
    match (&invalidation, &encoded[..]) {
        (Invalidation::PurgeAll, _) => assert_eq!(encoded, [b"f"]),
        (_, [one]) => assert_eq!(one, member, "{invalidation:?}"),
        _ => panic!("{invalidation:?} has {} members", encoded.len()),
    }
    if let Ok(Some(tag)) = member.try_into().map(TagId::try_from_bytes) {
        assert!(matches!(decode_removal(member), Removal::Tag(found) if found == tag));
        // The first byte of a stored member names its kind.
        assert_eq!(encode_removal(tag).strip_prefix(b"k"), Some(member));
    } else {
        assert!(matches!(decode_removal(member), Removal::Dropped));
    }
}

/// Reads replies as the invalidation table, then its epoch again, and a stored response.
///
/// # Panics
///
/// Panics if a reply without an epoch counts as the table, or if the epoch goes back.
pub(crate) fn read_replies(replies: [Value; 3], coordinator: &Coordinator) {
    let [table, removals, record] = replies;
    let read = InvalidationTable::default();
    let members = parse_members(&table);
    let epoch = members.iter().rfind(|(member, _)| *member == b"e");
    let has_epoch = epoch.is_some_and(|(_, epoch)| *epoch > 0);
    let first = read.learn([&table, &removals], coordinator);
    assert_eq!(first.is_some(), has_epoch, "{table:?}");
    if let Some(epoch) = first {
        let reply = Value::Int(i64::try_from(epoch.get()).unwrap_or(i64::MAX));
        let is_same = epoch.get() <= i64::MAX as u64;
        let check = read.check_epoch(reply).ok();
        assert_eq!(check == Some(EpochCheck::Unchanged(epoch)), is_same, "{epoch:?}");
    }
    let second = read.learn([&removals, &table], coordinator);
    assert_eq!(read.is_known(), first.is_some() || second.is_some());
    let _ = read.check_epoch(record.clone());
    let is_record = match &record {
        Value::BulkString(_) => true,
        Value::Array(values) => matches!(values.first(), Some(Value::BulkString(_))),
        _ => false,
    };
    let found = parse_record(record).ok().flatten();
    assert_eq!(found.is_some(), is_record);
}
