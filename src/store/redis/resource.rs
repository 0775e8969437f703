//! One hash for each resource: its variants, and the names of the fields that select among them.
//!
//! | field | is |
//! |---|---|
//! | `n` | the names, separated by commas |
//! | 16 bytes | the record of the variant that these bytes identify |
//! | `i` | for each variant, the newest first, its 16 bytes and when it expires |
//!
//! All of a resource is one key, so that it is removed, expires and is evicted as one. A look-up
//! asks for one variant, guessing which by the names that were seen last, and for the names only
//! where that is not there.

use std::{sync::Arc, time::Duration};

use actix_web::http::header::HeaderName;
use bytes::Bytes;
use deadpool_redis::redis::{Cmd, RedisError, Value, cmd, pipe};

use super::{connection::Wire, failure::Failure, keys::Resource};
use crate::entry::{selector::VariantId, variants::MAX_VARIANTS};

const SETTLE: &str = include_str!("settle.lua");

/// The fields that select among a resource's variants.
pub(super) type Names = Arc<[HeaderName]>;

/// Asks for one variant. If it is there, its names are those that select: with the first response that
/// is selected by others, all variants of these are gone.
pub(super) fn ask(resource: &Resource, variant: VariantId) -> Cmd {
    let mut ask = cmd("HGET");
    ask.arg(&resource.name).arg(variant.as_bytes());
    ask
}

/// The record that the reply to [`ask`] is. What is no hash is nothing of ours: the next response
/// replaces it.
pub(super) fn read(reply: Value) -> Result<Option<Bytes>, Failure> {
    match reply {
        Value::BulkString(record) => Ok(Some(Bytes::from(record))),
        Value::ServerError(error) => {
            without_foreign(error.into())?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// Nothing where an error says that a key holds what is not ours.
pub(super) fn without_foreign(error: RedisError) -> Result<Value, RedisError> {
    if is_foreign(&error) { Ok(Value::Nil) } else { Err(error) }
}

/// The names that select; `guessed` itself if they are these, nothing if there is no variant at all.
pub(super) async fn names(
    wire: &mut Wire,
    resource: &Resource,
    guessed: &Names,
) -> Result<Option<Names>, Failure> {
    let reply = cmd("HGET").arg(&resource.name).arg(b"n").query_async(wire).await;
    match reply.or_else(without_foreign)? {
        Value::BulkString(names) => Ok(read_names(&names, guessed)),
        _ => Ok(None),
    }
}

/// The names in the order of all; `guessed` itself if they are these.
fn read_names(text: &[u8], guessed: &Names) -> Option<Names> {
    let written = || text.split(|&byte| byte == b',').filter(|name| !name.is_empty());
    if written().eq(guessed.iter().map(|name| name.as_str().as_bytes())) {
        return Some(Arc::clone(guessed));
    }
    written().map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// The names as they are written.
fn write_names<'a>(names: impl Iterator<Item = &'a HeaderName>) -> String {
    let mut names: Vec<_> = names.map(HeaderName::as_str).collect();
    names.sort_unstable();
    names.join(",")
}

/// A response to be written.
pub(super) struct Draft<'a> {
    pub(super) resource: &'a Resource,
    pub(super) variant: VariantId,
    pub(super) names: Vec<&'a HeaderName>,
    pub(super) record: &'a [u8],
    pub(super) kept: Duration,
}

/// Writes a variant; `false` if others select than the response knows of.
pub(super) async fn write(wire: &mut Wire, draft: &Draft<'_>) -> Result<bool, Failure> {
    match try_write(wire, draft).await {
        Err(Failure::Redis(error)) if is_foreign(&error) => {
            cmd("UNLINK").arg(&draft.resource.name).exec_async(wire).await?;
            try_write(wire, draft).await
        }
        result => result,
    }
}

async fn try_write(wire: &mut Wire, draft: &Draft<'_>) -> Result<bool, Failure> {
    let kept = u64::try_from(draft.kept.as_millis()).unwrap_or(u64::MAX).max(1);
    let (name, variant) = (&draft.resource.name, draft.variant);
    let mut settle = cmd("EVAL");
    settle.arg(SETTLE).arg(1).arg(name).arg(variant.as_bytes());
    settle.arg(write_names(draft.names.iter().copied())).arg(kept).arg(MAX_VARIANTS);
    // As one, so that nothing stays without an expiry and nothing is seen half written.
    let mut all = pipe();
    all.atomic();
    all.cmd("HSET").arg(name).arg(variant.as_bytes()).arg(draft.record).ignore();
    all.cmd("PEXPIRE").arg(name).arg(kept).ignore();
    let (settled,): (i64,) = all.add_command(settle).query_async(wire).await?;
    Ok(settled == 1)
}

/// Whether a key of ours holds what is not ours.
fn is_foreign(error: &RedisError) -> bool {
    let servers = error.clone().into_server_errors();
    error.code() == Some("WRONGTYPE")
        || servers.is_some_and(|all| all.iter().any(|(_, error)| error.code() == "WRONGTYPE"))
}

/// Removes a resource; tells how many variants it had.
pub(super) async fn remove(wire: &mut Wire, resource: &Resource) -> Result<usize, Failure> {
    let mut both = pipe();
    both.cmd("HLEN").arg(&resource.name).cmd("UNLINK").arg(&resource.name).ignore_errors();
    let replies: Vec<Value> = both.query_async(wire).await?;
    let fields = match replies.first() {
        Some(Value::Int(fields)) => usize::try_from(*fields).unwrap_or_default(),
        _ => 0,
    };
    Ok(fields.saturating_sub(2))
}
