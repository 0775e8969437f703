//! Batches: the lookups that one thread sends to Redis together.
//!
//! Lookups of one thread share one round trip if the thread makes them in one turn of its tokio
//! runtime. Each batch also reads the epoch, once for all its lookups. The epoch is the time of the
//! latest invalidation in the invalidation table, which holds the invalidations of all processes in
//! Redis (see `invalidation_table.rs`).

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use deadpool_redis::redis::{Cmd, Value, pipe};
use futures_util::future::{join, join_all};
use thread_local::ThreadLocal;
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    client::RedisClient,
    connection::Connection,
    failure::{Failure, nil_if_wrong_type},
    invalidation_table::{EpochCheck, monotonic_micros},
    worker_connections::ConnectionRole,
};
use crate::entry::stamp::Stamp;

/// The maximum number of lookups in a batch. Each lookup waits for the replies to all lookups of
/// its batch, so larger batches would delay lookups.
const MAX_BATCH: usize = 16;

/// The open batch of each thread, to which the thread adds its lookups.
#[derive(Default)]
pub(super) struct Batches(ThreadLocal<RefCell<Arc<Batch>>>);

/// Lookups that are not sent yet. `None` once the batch is closed, which happens just before its
/// lookups are sent.
#[derive(Default)]
struct Batch(Mutex<Option<Vec<PendingLookup>>>);

struct PendingLookup {
    command: Cmd,
    reply_to: oneshot::Sender<Result<(Value, Stamp), Failure>>,
}

impl Batch {
    fn of(lookup: PendingLookup) -> Self {
        Self(Mutex::new(Some(vec![lookup])))
    }

    /// Adds a lookup. Returns the lookup if the batch is full or closed.
    fn add(&self, lookup: PendingLookup) -> Result<(), PendingLookup> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(lookups) if lookups.len() < MAX_BATCH => lookups.push(lookup),
            Some(_) | None => return Err(lookup),
        }
        Ok(())
    }

    fn close(&self) -> Vec<PendingLookup> {
        let lookups = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        lookups.unwrap_or_default()
    }
}

impl Batches {
    /// Sends a lookup together with the lookups of other requests on this thread. Returns the
    /// reply, and the time up to which this process knows all invalidations.
    pub(super) async fn lookup(
        &self,
        client: &Arc<RedisClient>,
        command: Cmd,
    ) -> Result<(Value, Stamp), Failure> {
        if client.breaker.is_open() {
            return Err(Failure::CircuitOpen);
        }
        let (reply_to, reply) = oneshot::channel();
        self.collect(client, PendingLookup { command, reply_to })?;
        // `send` drops a sender without a reply only if the runtime of the task ends.
        reply.await.unwrap_or(Err(Failure::NoRuntime))
    }

    /// Sends a lookup whose reply is expected to be large, by a connection of its own.
    pub(super) async fn lookup_alone(
        client: &Arc<RedisClient>,
        command: Cmd,
    ) -> Result<(Value, Stamp), Failure> {
        let place = client.place_for_large_lookup();
        let (replies, stamp) = call(client, place.role(), vec![command]).await?;
        Ok((replies.into_iter().next().unwrap_or(Value::Nil), stamp))
    }

    /// Adds a lookup to the batch of this thread, or begins a new batch.
    fn collect(&self, client: &Arc<RedisClient>, lookup: PendingLookup) -> Result<(), Failure> {
        let mut current = self.0.get_or_default().borrow_mut();
        // The task that is going to send a batch holds a reference to the batch. If there is no
        // such reference, the batch was sent or the runtime has ended.
        let lookup = if Arc::strong_count(&current) > 1 {
            match current.add(lookup) {
                Ok(()) => return Ok(()),
                Err(lookup) => lookup,
            }
        } else {
            lookup
        };
        let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        let batch = Arc::new(Batch::of(lookup));
        *current = Arc::clone(&batch);
        let client = Arc::clone(client);
        // The runtime polls this task after all tasks that are ready now, so those tasks can still
        // add lookups.
        runtime.spawn(async move { send(&client, batch.close()).await });
        Ok(())
    }
}

async fn send(client: &Arc<RedisClient>, lookups: Vec<PendingLookup>) {
    let (commands, receivers): (Vec<_>, Vec<_>) =
        lookups.into_iter().map(|lookup| (lookup.command, lookup.reply_to)).unzip();
    match call(client, ConnectionRole::Lookups, commands).await {
        Ok((replies, stamp)) => {
            for (receiver, reply) in receivers.into_iter().zip(replies) {
                // A request that was canceled has dropped its receiver.
                let _ = receiver.send(Ok((reply, stamp)));
            }
        }
        Err(failure) => {
            for receiver in receivers {
                let _ = receiver.send(Err(failure.clone()));
            }
        }
    }
}

/// Sends lookups by the connection of this thread for `role`.
async fn call(
    client: &Arc<RedisClient>,
    role: ConnectionRole,
    commands: Vec<Cmd>,
) -> Result<(Vec<Value>, Stamp), Failure> {
    let sent = monotonic_micros();
    let found = client
        .call(role, client.timeouts.lookup, |mut connection| async move {
            client.counters.lookups.fetch_add(commands.len() as u64, Ordering::Relaxed);
            query(client, &mut connection, commands).await
        })
        .await?;
    client.table.set_current_at(sent);
    Ok(found)
}

/// Sends lookups, and reads the epoch of the invalidation table.
///
/// A single server reads the epoch after the responses. The nodes of a Cluster read the epoch and
/// the responses at the same time. In both cases, when the call returns, this process knows every
/// invalidation that was confirmed before the call.
async fn query(
    client: &Arc<RedisClient>,
    connection: &mut Connection,
    commands: Vec<Cmd>,
) -> Result<(Vec<Value>, Stamp), Failure> {
    let epoch = client.table.epoch_command(&client.keys);
    let (replies, epoch) = if connection.is_single_server() {
        let mut pipeline = pipe();
        for command in commands {
            pipeline.add_command(command);
        }
        pipeline.add_command(epoch).ignore_errors();
        let mut replies: Vec<Value> = pipeline.query_async(connection).await?;
        let epoch = replies.pop().unwrap_or(Value::Nil);
        (replies, epoch)
    } else {
        // The keys may be on several nodes, so send all commands at the same time.
        let mut table_connection = connection.clone();
        let replies = commands.iter().map(|command| {
            let mut connection = connection.clone();
            async move { command.query_async(&mut connection).await.or_else(nil_if_wrong_type) }
        });
        let (replies, epoch) =
            join(join_all(replies), epoch.query_async(&mut table_connection)).await;
        (replies.into_iter().collect::<Result<_, _>>()?, epoch?)
    };
    let stamp = match client.table.check_epoch(epoch)? {
        EpochCheck::Unchanged(stamp) => stamp,
        EpochCheck::Changed => client.read_table(connection).await?,
    };
    Ok((replies, stamp))
}
