//! Batches: the lookups that one thread sends to Redis together.
//!
//! Lookups of one thread share one round trip if the thread makes them in one turn of its tokio
//! runtime. Each batch also reads the epoch, once for all its lookups. The epoch is the time of the
//! latest invalidation in the invalidation table, which holds the invalidations of all processes in
//! Redis (see `invalidation_table.rs`).
//!
//! The functions that each lookup runs are no `async fn`s: the future of an `async fn` has space for
//! each argument twice, and the task of a batch copies its future several times.

use std::{
    cell::RefCell,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use deadpool_redis::redis::{Cmd, Pipeline, Value, aio::ConnectionLike as _};
use futures_util::future::join_all;
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
struct Batch(Mutex<Option<PendingLookups>>);

/// Lookups, and the channels to the requests that wait for their replies.
#[derive(Default)]
struct PendingLookups {
    commands: Vec<Cmd>,
    receivers: Vec<oneshot::Sender<LookupResult>>,
}

/// The reply to a lookup, and the time up to which this process knows all invalidations.
type LookupResult = Result<(Value, Stamp), Failure>;

impl Batch {
    /// Makes a batch of one lookup. Returns the channel that receives the reply.
    fn of(command: Cmd) -> (Self, oneshot::Receiver<LookupResult>) {
        let mut lookups = PendingLookups::default();
        let receiver = lookups.add(command);
        (Self(Mutex::new(Some(lookups))), receiver)
    }

    /// Adds a lookup. Returns the command if the batch is full or closed.
    fn add(&self, command: Cmd) -> Result<oneshot::Receiver<LookupResult>, Cmd> {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(lookups) if lookups.commands.len() < MAX_BATCH => Ok(lookups.add(command)),
            Some(_) | None => Err(command),
        }
    }

    fn close(&self) -> PendingLookups {
        let lookups = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        lookups.unwrap_or_default()
    }
}

impl PendingLookups {
    fn add(&mut self, command: Cmd) -> oneshot::Receiver<LookupResult> {
        let (reply_to, receiver) = oneshot::channel();
        self.commands.push(command);
        self.receivers.push(reply_to);
        receiver
    }
}

impl Batches {
    /// Sends a lookup together with the lookups of other requests on this thread. Returns the channel
    /// that receives the result. The channel is closed without a result only if the runtime ends.
    pub(super) fn lookup(
        &self,
        client: &Arc<RedisClient>,
        command: Cmd,
    ) -> Result<oneshot::Receiver<LookupResult>, Failure> {
        if client.breaker.is_open() {
            return Err(Failure::CircuitOpen);
        }
        let mut current = self.0.get_or_default().borrow_mut();
        // The task that is going to send a batch holds a reference to the batch. If there is no
        // such reference, the batch was sent or the runtime has ended.
        let command = if Arc::strong_count(&current) > 1 {
            match current.add(command) {
                Ok(receiver) => return Ok(receiver),
                Err(command) => command,
            }
        } else {
            command
        };
        let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
        let (batch, receiver) = Batch::of(command);
        let batch = Arc::new(batch);
        *current = Arc::clone(&batch);
        let client = Arc::clone(client);
        // The runtime polls this task after all tasks that are ready now, so those tasks can still
        // add lookups.
        runtime.spawn(async move {
            let PendingLookups { commands, receivers } = batch.close();
            respond(receivers, call(&client, ConnectionRole::Lookups, commands).await);
        });
        Ok(receiver)
    }

    /// Sends a lookup whose reply is expected to be large, by a connection of its own.
    pub(super) async fn lookup_alone(client: &Arc<RedisClient>, command: Cmd) -> LookupResult {
        let place = client.place_for_large_lookup();
        let (replies, stamp) = call(client, place.role(), vec![command]).await?;
        Ok((replies.into_iter().next().unwrap_or(Value::Nil), stamp))
    }
}

/// Sends the replies to the requests that wait for them. A request that was canceled has dropped its
/// channel.
fn respond(
    receivers: Vec<oneshot::Sender<LookupResult>>,
    result: Result<(Vec<Value>, Stamp), Failure>,
) {
    match result {
        Ok((replies, stamp)) => {
            for (receiver, reply) in receivers.into_iter().zip(replies) {
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
fn call(
    client: &Arc<RedisClient>,
    role: ConnectionRole,
    commands: Vec<Cmd>,
) -> impl Future<Output = Result<(Vec<Value>, Stamp), Failure>> {
    let sent = monotonic_micros();
    async move {
        let query = |connection| query(client, connection, commands);
        let found = client.call(role, client.timeouts.lookup, query).await?;
        client.table.set_current_at(sent);
        Ok(found)
    }
}

/// Sends lookups, and reads the epoch of the invalidation table.
///
/// A single server reads the epoch after the responses. The nodes of a Cluster read the epoch and
/// the responses at the same time. In both cases, when the call returns, this process knows every
/// invalidation that was confirmed before the call.
fn query(
    client: &Arc<RedisClient>,
    mut connection: Connection,
    commands: Vec<Cmd>,
) -> impl Future<Output = Result<(Vec<Value>, Stamp), Failure>> {
    client.counters.lookups.fetch_add(commands.len() as u64, Ordering::Relaxed);
    let mut pipeline = Pipeline::with_capacity(commands.len() + 1);
    for command in commands {
        pipeline.add_command(command);
    }
    pipeline.add_command(client.table.epoch_command(&client.keys));
    async move {
        let mut replies = if connection.is_single_server() {
            // The errors of single commands are among the replies.
            connection.req_packed_commands(&pipeline, 0, pipeline.len()).await?
        } else {
            Box::pin(query_cluster(&connection, &pipeline)).await?
        };
        let epoch = replies.pop().unwrap_or(Value::Nil);
        let stamp = match client.table.check_epoch(epoch)? {
            EpochCheck::Unchanged(stamp) => stamp,
            EpochCheck::Changed => Box::pin(client.read_table(&mut connection)).await?,
        };
        Ok((replies, stamp))
    }
}

/// Sends all commands at the same time, because their keys may be on several nodes.
async fn query_cluster(
    connection: &Connection,
    commands: &Pipeline,
) -> Result<Vec<Value>, Failure> {
    let replies = commands.cmd_iter().map(|command| {
        let mut connection = connection.clone();
        async move { command.query_async(&mut connection).await.or_else(nil_if_wrong_type) }
    });
    Ok(join_all(replies).await.into_iter().collect::<Result<_, _>>()?)
}
