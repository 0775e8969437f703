//! One process of all asks: it has set a key that nobody else can set until it is gone.
//!
//! The key holds the token of who asks, and expires with the lease. Where the answer turns out not
//! to be storable, it holds a note that says so instead, so that nobody waits for that again.

use std::{sync::Arc, time::Duration};

use deadpool_redis::redis::{Value, cmd, pipe};
use tokio::runtime::Handle;

use super::{
    connection::Wire,
    counters::count,
    failure::Failure,
    lanes::Lane,
    link::{ASK_LIMIT, Link, STORE_LIMIT},
};
use crate::{
    coordination::lease::{Lease, LeaseEnd, LeaseGuard},
    entry::key::CacheKey,
};

const RELEASE: &str = include_str!("release.lua");

/// What stands in place of a token where the answer cannot be stored.
const UNSTORABLE: &[u8] = b"n";

/// How long that holds: as long as the notes within a process.
const NOTE: Duration = Duration::from_secs(10);

type Token = [u8; 16];

/// Asks for the lease.
pub(super) async fn ask(
    link: &Arc<Link>,
    key: &CacheKey,
    rest: &[u8],
    time: Duration,
) -> Result<Lease, Failure> {
    let name: Arc<str> = link.keys.lease(key, rest).into();
    let token: Token = rand::random();
    // Before it is asked for: whoever goes away meanwhile leaves nothing behind.
    let guard = guard(link, &name, token);
    let asked =
        link.call(Lane::Ask, ASK_LIMIT, |mut wire| async move {
            take(&mut wire, &name, &token, time).await
        })
        .await;
    let counters = &link.counters;
    match asked {
        Ok(LeaseReply::Granted) => {
            count(&counters.leases);
            Ok(Lease::Granted(guard))
        }
        Ok(LeaseReply::Taken) => {
            count(&counters.taken);
            guard.disarm();
            Ok(Lease::Taken)
        }
        Ok(LeaseReply::Unstorable) => {
            guard.disarm();
            Ok(Lease::Unstorable)
        }
        Err(failure) => {
            count(&counters.unleased);
            // It may have been granted all the same.
            drop(guard);
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

/// One round trip. What is there is asked for apart, for `SET` tells it only from Redis 7 on.
async fn take(
    wire: &mut Wire,
    name: &str,
    token: &Token,
    time: Duration,
) -> Result<LeaseReply, Failure> {
    let mut both = pipe();
    both.cmd("SET").arg(name).arg(token).arg("NX").arg("PX").arg(millis(time));
    both.cmd("GET").arg(name);
    let (set, there): (Value, Value) = both.query_async(wire).await?;
    Ok(match (set, there) {
        (Value::Okay, _) => LeaseReply::Granted,
        (_, Value::BulkString(note)) if note == UNSTORABLE => LeaseReply::Unstorable,
        _ => LeaseReply::Taken,
    })
}

/// Gives the lease up in the background. If that cannot be told to Redis, it ends by itself.
fn guard(link: &Arc<Link>, name: &Arc<str>, token: Token) -> LeaseGuard {
    let (link, name) = (Arc::clone(link), Arc::clone(name));
    LeaseGuard::new(move |end| {
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(async move {
            let told = link.call(Lane::Ask, STORE_LIMIT, |mut wire| async move {
                release(&mut wire, &name, &token, end).await
            });
            if let Err(failure) = told.await {
                log::debug!("a lease is not given up, and ends by itself: {failure}");
            }
        });
    })
}

async fn release(wire: &mut Wire, name: &str, token: &Token, end: LeaseEnd) -> Result<(), Failure> {
    let command = match end {
        // Whoever has the lease by now: what they wait for cannot be stored.
        LeaseEnd::Unstorable => {
            let mut note = cmd("SET");
            note.arg(name).arg(UNSTORABLE).arg("PX").arg(millis(NOTE));
            note
        }
        LeaseEnd::Stored | LeaseEnd::Abandoned => {
            let mut script = cmd("EVAL");
            script.arg(RELEASE).arg(1).arg(name).arg(token);
            script
        }
    };
    Ok(command.exec_async(wire).await?)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
