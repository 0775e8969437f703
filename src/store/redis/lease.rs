//! Leases. A lease is the right of one process to run the handler for a response that is not
//! stored, while the other processes that share the store wait.
//!
//! In Redis, a lease is a key that is set only if it does not exist, and that expires. The value of
//! the key is the token of the process that holds the lease. If the response cannot be stored, the
//! holder replaces the token by a hit-for-miss marker for ten seconds. While Redis has the marker,
//! other processes call the handler without waiting.
//!
//! Another program may have written the key, without an expiry or with another type. Such a key
//! must not keep all processes waiting for ever, so it gets the expiry of a lease, or is removed.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{Value, cmd, pipe};
use tokio::runtime::Handle;

use super::{
    client::RedisClient,
    connection::Connection,
    counters::count,
    failure::{Failure, is_wrong_type},
    worker_connections::ConnectionRole,
};
use crate::{
    coordination::lease::{Lease, LeaseEnd, LeaseGuard},
    entry::key::CacheKey,
};

const RELEASE: &str = include_str!("release_lease.lua");

/// The hit-for-miss marker: the value of the key, in place of a token, if the response cannot be
/// stored.
const UNSTORABLE: &[u8] = b"n";

/// The time that Redis keeps a hit-for-miss marker. Each process keeps its own hit-for-miss marks,
/// in memory, for an equal time.
const UNSTORABLE_RETENTION: Duration = Duration::from_secs(10);

/// The reply to `PTTL` for a key that never expires.
const NO_EXPIRY: i64 = -1;

/// A random number that identifies the holder of a lease. A token need not be secret.
type Token = [u8; 16];

/// Requests a lease that expires after `duration`. Requests that cannot share a response have
/// different `collapse_key`s.
pub(super) async fn acquire(
    client: &Arc<RedisClient>,
    key: &CacheKey,
    collapse_key: &[u8],
    duration: Duration,
) -> Result<Lease, Failure> {
    let name: Arc<str> = client.keys.lease(key, collapse_key).into();
    let token: Token = fastrand::u128(..).to_ne_bytes();
    // Make the guard before the request is sent: if the caller is canceled, the guard releases the
    // lease.
    let guard = guard(client, &name, token);
    let reply = client
        .call(ConnectionRole::Lookups, client.timeouts.lookup, |mut connection| {
            let name = &name;
            async move { request(&mut connection, name, &token, duration).await }
        })
        .await;
    let counters = &client.counters;
    match reply {
        Ok(LeaseReply::Granted) => {
            count(&counters.leases_granted);
            Ok(Lease::Granted(guard))
        }
        Ok(LeaseReply::Taken) => {
            count(&counters.leases_taken);
            guard.disarm();
            Ok(Lease::Taken)
        }
        Ok(LeaseReply::Unstorable) => {
            guard.disarm();
            Ok(Lease::Unstorable)
        }
        Err(failure) => {
            count(&counters.leases_failed);
            // Redis may have granted the lease although the call failed, so the guard releases the
            // lease.
            drop(guard);
            if failure.is_refused_write() {
                client.find_primary(&name);
            }
            Err(failure)
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeaseReply {
    Granted,
    Taken,
    Unstorable,
}

/// Requests a lease. Removes a key of another type once, and limits the life of a key without an
/// expiry.
async fn request(
    connection: &mut Connection,
    name: &str,
    token: &Token,
    duration: Duration,
) -> Result<LeaseReply, Failure> {
    let (reply, expiry) = match set_if_absent(connection, name, token, duration).await {
        Err(Failure::Redis(error)) if is_wrong_type(&error) => {
            log::warn!("a lease in Redis had another type: it is replaced");
            cmd("UNLINK").arg(name).exec_async(connection).await?;
            set_if_absent(connection, name, token, duration).await?
        }
        result => result?,
    };
    if expiry == NO_EXPIRY {
        log::warn!("a lease in Redis had no expiry: it now expires in {duration:?}");
        cmd("PEXPIRE").arg(name).arg(millis(duration)).exec_async(connection).await?;
    }
    Ok(reply)
}

/// Sets the key of a lease unless the key exists, and reads the value and the expiry of the key, in
/// one round trip. A single `SET` with both `NX` and `GET` would need Redis 7, but the store
/// supports Redis 6.2.
async fn set_if_absent(
    connection: &mut Connection,
    name: &str,
    token: &Token,
    duration: Duration,
) -> Result<(LeaseReply, i64), Failure> {
    let mut pipeline = pipe();
    pipeline.cmd("SET").arg(name).arg(token).arg("NX").arg("PX").arg(millis(duration));
    pipeline.cmd("GET").arg(name);
    pipeline.cmd("PTTL").arg(name);
    let (set, value, expiry): (Value, Value, i64) = pipeline.query_async(connection).await?;
    let reply = match (set, value) {
        (Value::Okay, _) => LeaseReply::Granted,
        (_, Value::BulkString(value)) if value == UNSTORABLE => LeaseReply::Unstorable,
        _ => LeaseReply::Taken,
    };
    Ok((reply, expiry))
}

/// Makes the guard that releases a lease in the background. If Redis cannot be reached, the lease
/// expires by itself.
fn guard(client: &Arc<RedisClient>, name: &Arc<str>, token: Token) -> LeaseGuard {
    let (client, name) = (Arc::clone(client), Arc::clone(name));
    LeaseGuard::new(move |end| {
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let timeout = client.timeouts.write;
            let released =
                client.call(ConnectionRole::Lookups, timeout, |mut connection| async move {
                    release(&mut connection, &name, &token, end).await
                });
            if let Err(failure) = released.await {
                log::debug!("lease in Redis not released, it expires by itself: {failure}");
            }
        });
    })
}

async fn release(
    connection: &mut Connection,
    name: &str,
    token: &Token,
    end: LeaseEnd,
) -> Result<(), Failure> {
    let command = match end {
        // `SET` also replaces the lease of another holder, whose response cannot be stored either.
        LeaseEnd::Unstorable => {
            let mut set = cmd("SET");
            set.arg(name).arg(UNSTORABLE).arg("PX").arg(millis(UNSTORABLE_RETENTION));
            set
        }
        LeaseEnd::Stored | LeaseEnd::Abandoned => {
            let mut script = cmd("EVAL");
            script.arg(RELEASE).arg(1).arg(name).arg(token);
            script
        }
    };
    Ok(command.exec_async(connection).await?)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
