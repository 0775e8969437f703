//! Stored responses in Redis: one hash for each cache key. A record is one response, encoded by
//! `codec`.
//!
//! | field | value |
//! |---|---|
//! | `n` | the names of the selecting fields, separated by commas |
//! | 16 bytes, a [`VariantId`] | the record of the variant with this id |
//! | `i` | the index: the id and the expiry of each variant, the newest first |
//!
//! All variants of a cache key are in one hash, so that Redis removes, evicts and expires all
//! variants together. A lookup reads one variant. To compute its id, the lookup guesses that the
//! key still has the selecting fields that this process saw last. If the guessed variant is
//! missing, the lookup reads the names of the selecting fields from the hash.

use std::{sync::Arc, time::Duration};

use actix_web::http::header::HeaderName;
use bytes::Bytes;
use deadpool_redis::redis::{Cmd, RedisError, Value, cmd, pipe};

use super::{connection::Connection, failure::Failure, keys::EntryKey};
use crate::entry::{selector::VariantId, variants::MAX_VARIANTS};

const INDEX_VARIANT: &str = include_str!("index_variant.lua");

/// The names of the fields that select among the variants of a cache key.
pub(super) type SelectingFields = Arc<[HeaderName]>;

/// Returns the command that reads the record of one variant.
///
/// A variant that is found has the current selecting fields, because a write that changes the
/// selecting fields removes all older variants.
pub(super) fn record_command(key: &EntryKey, variant: VariantId) -> Cmd {
    let mut command = cmd("HGET");
    command.arg(&key.name).arg(variant.as_bytes());
    command
}

/// Parses the reply to [`record_command`]. A Redis key that is not a hash counts as missing, and
/// the next write replaces the key.
pub(super) fn parse_record(reply: Value) -> Result<Option<Bytes>, Failure> {
    match reply {
        Value::BulkString(record) => Ok(Some(Bytes::from(record))),
        Value::ServerError(error) => {
            nil_if_wrong_type(error.into())?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Turns the error for a Redis key that is not a hash into a nil reply.
pub(super) fn nil_if_wrong_type(error: RedisError) -> Result<Value, RedisError> {
    if is_wrong_type(&error) { Ok(Value::Nil) } else { Err(error) }
}

/// Reads the stored names of the selecting fields. Returns `guessed` itself if the stored names are
/// equal, and `None` if no variant is stored.
pub(super) async fn read_selecting_fields(
    connection: &mut Connection,
    key: &EntryKey,
    guessed: &SelectingFields,
) -> Result<Option<SelectingFields>, Failure> {
    let reply = cmd("HGET").arg(&key.name).arg(b"n").query_async(connection).await;
    match reply.or_else(nil_if_wrong_type)? {
        Value::BulkString(names) => Ok(decode_names(&names, guessed)),
        _ => Ok(None),
    }
}

/// Decodes field names. Returns `guessed` itself if the names are equal.
fn decode_names(text: &[u8], guessed: &SelectingFields) -> Option<SelectingFields> {
    let names = || text.split(|&byte| byte == b',').filter(|name| !name.is_empty());
    if names().eq(guessed.iter().map(|name| name.as_str().as_bytes())) {
        return Some(Arc::clone(guessed));
    }
    names().map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// Encodes field names in alphabetical order, so that equal sets of names have equal texts.
fn encode_names<'a>(names: impl Iterator<Item = &'a HeaderName>) -> String {
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
    /// The time after which Redis deletes the response.
    pub(super) retention: Duration,
}

/// Writes a variant. Returns `false` and stores nothing if the stored variants have a selecting
/// field that the new variant lacks.
pub(super) async fn write(
    connection: &mut Connection,
    new: &NewRecord<'_>,
) -> Result<bool, Failure> {
    match try_write(connection, new).await {
        Err(Failure::Redis(error)) if is_wrong_type(&error) => {
            cmd("UNLINK").arg(&new.key.name).exec_async(connection).await?;
            try_write(connection, new).await
        }
        result => result,
    }
}

async fn try_write(connection: &mut Connection, new: &NewRecord<'_>) -> Result<bool, Failure> {
    let retention = u64::try_from(new.retention.as_millis()).unwrap_or(u64::MAX).max(1);
    let (name, variant) = (&new.key.name, new.variant);
    let mut index = cmd("EVAL");
    index.arg(INDEX_VARIANT).arg(1).arg(name).arg(variant.as_bytes());
    index.arg(encode_names(new.selecting.iter().copied())).arg(retention).arg(MAX_VARIANTS);
    // Use one transaction, so that each hash gets an expiry, and no lookup reads a half-written
    // hash.
    let mut transaction = pipe();
    transaction.atomic();
    transaction.cmd("HSET").arg(name).arg(variant.as_bytes()).arg(new.record).ignore();
    transaction.cmd("PEXPIRE").arg(name).arg(retention).ignore();
    let (is_stored,): (i64,) = transaction.add_command(index).query_async(connection).await?;
    Ok(is_stored == 1)
}

/// Returns whether the error says that a key is not a hash. Only another program writes such a key.
fn is_wrong_type(error: &RedisError) -> bool {
    let command_errors = error.clone().into_server_errors();
    error.code() == Some("WRONGTYPE")
        || command_errors
            .is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "WRONGTYPE"))
}

/// Removes all variants of a cache key. Returns their number.
pub(super) async fn remove(connection: &mut Connection, key: &EntryKey) -> Result<usize, Failure> {
    let mut pipeline = pipe();
    pipeline.cmd("HLEN").arg(&key.name).cmd("UNLINK").arg(&key.name).ignore_errors();
    let replies: Vec<Value> = pipeline.query_async(connection).await?;
    let fields = match replies.first() {
        Some(Value::Int(fields)) => usize::try_from(*fields).unwrap_or_default(),
        _ => 0,
    };
    // Each field of the hash except `n` and `i` is a variant.
    Ok(fields.saturating_sub(2))
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
