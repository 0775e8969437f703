//! Stored responses in Redis: some hashes for each URL. A record is one response, encoded by
//! `codec`.
//!
//! | field | value |
//! |---|---|
//! | the 16-byte id of a cache key, and a [`VariantId`] of 16 bytes | the record of the variant |
//! | the same, and `b`, `z` or `g` | a copy of the body in the coding `br`, `zstd` or `gzip` |
//! | `m`, and the id of a cache key | the index of the cache key |
//! | `x` | the expiry of the last variant |
//! | `u` | the unconfirmed writes: the token and the deadline of each |
//!
//! An index has the names of the selecting fields, separated by commas, a space, the time at which
//! the numbers of uses were halved, and a line feed. The id, the expiry, the write token, the class
//! and the number of uses of each variant follow, the newest variant first.
//!
//! The names of the hashes follow from the URL, so the removal of a URL finds all cache keys of the
//! URL, in whatever process and by whatever policy their responses were stored. A lookup reads one
//! variant. To compute its id, the lookup guesses that the key still has the selecting fields that
//! this process saw last. If the guessed variant is missing, the lookup reads the names of the
//! selecting fields from the index.
//!
//! # Confirmed writes
//!
//! A removal may run while a response is written. The process that writes the response therefore
//! reads the invalidation table again after the write, and removes the response if a removal applies
//! to it. If the process ends between the two steps, the response must not outlive the record of the
//! removal. A write is therefore unconfirmed at first, and the hash expires soon. Only the
//! confirmation, after the check, lets the hash live for as long as its variants.

use std::{sync::Arc, time::Duration};

use actix_web::http::header::HeaderName;
use bytes::Bytes;
use deadpool_redis::redis::{Cmd, Value, cmd, pipe};
use futures_util::future::join_all;

use super::{
    connection::Connection,
    failure::{Failure, is_wrong_type, nil_if_wrong_type},
    invalidation_table::MAX_UNCONFIRMED,
    keys::EntryKey,
};
use crate::{
    clock::Timestamp,
    entry::{
        content_coding::ContentCoding,
        key::CacheKey,
        selector::{Selector, VariantId},
        variants::MAX_VARIANTS,
    },
};

const INDEX_VARIANT: &str = include_str!("index_variant.lua");
const SETTLE_WRITE: &str = include_str!("settle_write.lua");
const SETTLE_COPY: &str = include_str!("settle_copy.lua");
const COUNT_USE: &str = include_str!("count_use.lua");
const REMOVE: &str = include_str!("remove.lua");

/// The names of the fields that select among the variants of a cache key.
pub(super) type SelectingFields = Arc<[HeaderName]>;

/// The record that a lookup reads.
pub(super) struct WantedRecord<'a> {
    pub(super) key: &'a CacheKey,
    pub(super) entry: &'a EntryKey,
    pub(super) selecting: &'a SelectingFields,
    pub(super) variant: VariantId,
    pub(super) coding: Option<ContentCoding>,
    pub(super) now: Timestamp,
}

impl<'a> WantedRecord<'a> {
    pub(super) fn new(
        key: &'a CacheKey,
        entry: &'a EntryKey,
        selecting: &'a SelectingFields,
        selector: &Selector<'_>,
    ) -> Self {
        let (variant, coding) = (selector.variant(selecting), selector.preferred_coding());
        Self { key, entry, selecting, variant, coding, now: selector.now() }
    }

    pub(super) fn command(&self) -> Cmd {
        record_command(self.entry, self.variant, self.coding)
    }

    /// Returns a digest that differs for different variants and codings of a cache key.
    pub(super) fn digest(&self) -> u64 {
        let variant = self.variant.as_bytes().first_chunk().map_or(0, |id| u64::from_le_bytes(*id));
        let coding = self.coding.map_or(0, |coding| coding.index() as u64 + 1);
        (self.entry.digest ^ variant).wrapping_add(coding)
    }
}

/// Returns the command that reads the record of one variant, and its copy in `coding`.
///
/// A variant that is found has the current selecting fields, because a write that changes the
/// selecting fields removes all older variants.
fn record_command(key: &EntryKey, variant: VariantId, coding: Option<ContentCoding>) -> Cmd {
    let record = record_field(key, variant);
    let name = if coding.is_some() { "HMGET" } else { "HGET" };
    // Space for both fields.
    let size = name.len() + key.name.len() + 2 * RECORD_FIELD + 1;
    let mut command = Cmd::with_capacity(4, size);
    command.arg(name).arg(&key.name).arg(&record[..]);
    if let Some(coding) = coding {
        command.arg(&copy_field(key, variant, coding)[..]);
    }
    command
}

/// The length of the name of a hash field with a record.
const RECORD_FIELD: usize = 32;

/// Returns the name of the hash field with the record of a variant.
fn record_field(key: &EntryKey, variant: VariantId) -> [u8; RECORD_FIELD] {
    let mut field = [0; RECORD_FIELD];
    let (id, rest) = field.split_at_mut(16);
    id.copy_from_slice(&key.id);
    rest.copy_from_slice(variant.as_bytes());
    field
}

/// Returns the name of the hash field with the copy of a variant in a coding. The scripts know these
/// names, too.
fn copy_field(key: &EntryKey, variant: VariantId, coding: ContentCoding) -> Vec<u8> {
    let letter = match coding {
        ContentCoding::Brotli => b'b',
        ContentCoding::Zstd => b'z',
        ContentCoding::Gzip => b'g',
    };
    [&record_field(key, variant)[..], &[letter]].concat()
}

/// The stored bytes of a variant.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct FoundRecord {
    pub(super) record: Bytes,
    /// The copy in the coding for which the command asked.
    pub(super) copy: Option<Bytes>,
}

impl FoundRecord {
    /// Returns the number of bytes in the reply.
    pub(super) fn size(&self) -> usize {
        self.record.len() + self.copy.as_ref().map_or(0, Bytes::len)
    }
}

/// Parses the reply to [`record_command`]. A Redis key that is not a hash counts as missing, and
/// the next write replaces the key.
pub(super) fn parse_record(reply: Value) -> Result<Option<FoundRecord>, Failure> {
    match reply {
        Value::BulkString(record) => {
            Ok(Some(FoundRecord { record: Bytes::from(record), copy: None }))
        }
        Value::Array(values) => {
            let mut values = values.into_iter().map(|value| match value {
                Value::BulkString(bytes) => Some(Bytes::from(bytes)),
                _ => None,
            });
            let (record, copy) = (values.next().flatten(), values.next().flatten());
            Ok(record.map(|record| FoundRecord { record, copy }))
        }
        Value::ServerError(error) => {
            nil_if_wrong_type(error.into())?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Reads the copy of a variant in a coding.
pub(super) async fn read_copy(
    connection: &mut Connection,
    key: &EntryKey,
    variant: VariantId,
    coding: ContentCoding,
) -> Result<Option<Bytes>, Failure> {
    let mut command = cmd("HGET");
    command.arg(&key.name).arg(copy_field(key, variant, coding));
    match command.query_async(connection).await.or_else(nil_if_wrong_type)? {
        Value::BulkString(copy) => Ok(Some(Bytes::from(copy))),
        _ => Ok(None),
    }
}

/// Writes a copy of a variant, if the record of the variant is stored.
pub(super) async fn write_copy(
    connection: &mut Connection,
    key: &EntryKey,
    variant: VariantId,
    coding: ContentCoding,
    copy: &[u8],
) -> Result<(), Failure> {
    let field = copy_field(key, variant, coding);
    let mut settle = cmd("EVAL");
    settle.arg(SETTLE_COPY).arg(1).arg(&key.name).arg(&record_field(key, variant)[..]).arg(&field);
    // Use one transaction, so that a hash that holds nothing but a copy, and has no expiry, is not
    // left behind.
    let mut transaction = pipe();
    transaction.atomic();
    transaction.cmd("HSET").arg(&key.name).arg(&field).arg(copy).ignore();
    transaction.add_command(settle).ignore();
    match transaction.exec_async(connection).await {
        Err(error) if is_wrong_type(&error) => Ok(()),
        result => Ok(result?),
    }
}

/// Reads the stored names of the selecting fields. Returns `guessed` itself if the stored names are
/// equal to it. Returns `None` if no variant is stored.
pub(super) async fn read_selecting_fields(
    connection: &mut Connection,
    key: &EntryKey,
    guessed: &SelectingFields,
) -> Result<Option<SelectingFields>, Failure> {
    let field = [&b"m"[..], &key.id].concat();
    let reply = cmd("HGET").arg(&key.name).arg(field).query_async(connection).await;
    match reply.or_else(nil_if_wrong_type)? {
        Value::BulkString(index) => {
            let names = index.split(|&byte| matches!(byte, b' ' | b'\n')).next();
            Ok(names.and_then(|names| decode_names(names, guessed)))
        }
        _ => Ok(None),
    }
}

/// Decodes field names. Returns `guessed` itself if the names are equal to it, and `None` if a name
/// is not valid.
pub(super) fn decode_names(text: &[u8], guessed: &SelectingFields) -> Option<SelectingFields> {
    let names = || text.split(|&byte| byte == b',').filter(|name| !name.is_empty());
    if names().eq(guessed.iter().map(|name| name.as_str().as_bytes())) {
        return Some(Arc::clone(guessed));
    }
    names().map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// Encodes field names in alphabetical order, so that equal sets of names have equal texts.
pub(super) fn encode_names<'a>(names: impl Iterator<Item = &'a HeaderName>) -> String {
    let mut names: Vec<_> = names.map(HeaderName::as_str).collect();
    names.sort_unstable();
    names.join(",")
}

/// A response to write.
pub(super) struct NewRecord<'a> {
    pub(super) key: &'a EntryKey,
    pub(super) variant: VariantId,
    pub(super) selecting: Vec<&'a HeaderName>,
    pub(super) record: &'a [u8],
    /// Whether any client could have chosen the forwarded fields of the request.
    pub(super) is_chosen_by_client: bool,
    /// The time after which Redis deletes the response.
    pub(super) retention: Duration,
}

impl NewRecord<'_> {
    /// Returns whether the response could be used for longer than an unconfirmed one.
    fn needs_confirmation(&self) -> bool {
        self.retention > MAX_UNCONFIRMED
    }
}

/// The result of a write.
pub(super) struct Written {
    /// Whether the variant is stored. A variant is refused if the stored variants have a selecting
    /// field that the new variant lacks.
    pub(super) is_stored: bool,
    /// Names this write, so that a later write of the same variant is not taken for it.
    token: String,
}

/// Writes a variant.
pub(super) async fn write(
    connection: &mut Connection,
    new: &NewRecord<'_>,
) -> Result<Written, Failure> {
    match try_write(connection, new).await {
        Err(Failure::Redis(error)) if is_wrong_type(&error) => {
            cmd("UNLINK").arg(&new.key.name).exec_async(connection).await?;
            try_write(connection, new).await
        }
        result => result,
    }
}

async fn try_write(connection: &mut Connection, new: &NewRecord<'_>) -> Result<Written, Failure> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let NewRecord { key: EntryKey { name, id, .. }, variant, retention, .. } = new;
    let token = format!("{:016x}", fastrand::u64(..));
    let mut index = cmd("EVAL");
    index.arg(INDEX_VARIANT).arg(1).arg(name).arg(id).arg(variant.as_bytes());
    index.arg(encode_names(new.selecting.iter().copied())).arg(millis(*retention));
    index.arg(MAX_VARIANTS).arg(&token);
    match new.needs_confirmation() {
        true => index.arg(millis(MAX_UNCONFIRMED)),
        false => index.arg(""),
    };
    index.arg(if new.is_chosen_by_client { "c" } else { "o" });
    // Use one transaction, so that each hash gets an expiry, and no lookup reads a half-written
    // hash.
    let mut transaction = pipe();
    transaction.atomic();
    let field = record_field(new.key, *variant);
    transaction.cmd("HSET").arg(name).arg(&field[..]).arg(new.record).ignore();
    let at_first = millis((*retention).min(MAX_UNCONFIRMED));
    transaction.cmd("PEXPIRE").arg(name).arg(at_first).ignore();
    let (is_stored,): (i64,) = transaction.add_command(index).query_async(connection).await?;
    Ok(Written { is_stored: is_stored == 1, token })
}

/// Whether an invalidation applies to a response that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Valid,
    Invalidated,
}

/// Confirms a write, or removes the written variant unless a later write has replaced it. A valid
/// variant whose write needs no confirmation stays as it is.
pub(super) async fn settle(
    connection: &mut Connection,
    new: &NewRecord<'_>,
    written: &Written,
    verdict: Verdict,
) -> Result<(), Failure> {
    let mut script = cmd("EVAL");
    script.arg(SETTLE_WRITE).arg(1).arg(&new.key.name).arg(&written.token);
    match verdict {
        Verdict::Valid if !new.needs_confirmation() => return Ok(()),
        Verdict::Valid => {}
        Verdict::Invalidated => {
            script.arg(&new.key.id).arg(new.variant.as_bytes());
        }
    }
    Ok(script.exec_async(connection).await?)
}

/// Counts a use of a variant, so that the variant is dropped later than others if a cache key has
/// too many.
pub(super) async fn count_use(
    connection: &mut Connection,
    key: &EntryKey,
    variant: VariantId,
) -> Result<(), Failure> {
    let mut script = cmd("EVAL");
    script.arg(COUNT_USE).arg(1).arg(&key.name).arg(&key.id).arg(variant.as_bytes());
    Ok(script.exec_async(connection).await?)
}

/// Removes all variants of a cache key. Returns their number.
pub(super) async fn remove(connection: &mut Connection, key: &EntryKey) -> Result<usize, Failure> {
    remove_from(connection.clone(), &key.name, &key.id).await
}

/// Removes all variants in these hashes. Returns their number.
pub(super) async fn remove_hashes(
    connection: &Connection,
    hashes: &[String],
) -> Result<usize, Failure> {
    // The hashes may be on several nodes, so send all commands at the same time.
    let lengths = hashes.iter().map(|name| {
        let mut connection = connection.clone();
        async move { cmd("HLEN").arg(name).query_async(&mut connection).await }
    });
    let mut removed = 0;
    for (name, length) in hashes.iter().zip(join_all(lengths).await) {
        // A key that is not a hash is replaced by the next write.
        if length.or_else(nil_if_wrong_type)? != Value::Int(0) {
            removed += remove_from(connection.clone(), name, b"").await?;
        }
    }
    Ok(removed)
}

async fn remove_from(mut connection: Connection, name: &str, id: &[u8]) -> Result<usize, Failure> {
    let mut script = cmd("EVAL");
    script.arg(REMOVE).arg(1).arg(name).arg(id);
    match script.query_async(&mut connection).await.or_else(nil_if_wrong_type)? {
        Value::Int(removed) => Ok(usize::try_from(removed).unwrap_or_default()),
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{ACCEPT, ACCEPT_LANGUAGE};

    use super::*;

    #[test]
    fn names_are_encoded_in_alphabetical_order_and_decoded_again() {
        let text = encode_names([&ACCEPT_LANGUAGE, &ACCEPT].into_iter());
        assert_eq!(text, "accept,accept-language");
        let guessed: SelectingFields = Arc::new([ACCEPT]);
        let decoded = decode_names(text.as_bytes(), &guessed).unwrap();
        assert_eq!(*decoded, [ACCEPT, ACCEPT_LANGUAGE]);
        let same = decode_names(b"accept", &guessed).unwrap();
        assert!(Arc::ptr_eq(&same, &guessed));
        assert!(decode_names(b"accept,b\0d", &guessed).is_none());
    }
}
