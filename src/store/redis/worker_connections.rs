//! The connections of each worker thread to Redis.
//!
//! Threads share no connections, because a connection does its I/O in the runtime that made it. If
//! threads shared a connection, a slow handler on one thread would delay the requests of the other
//! threads. A thread has several connections, so that no lookup waits behind the transfer of a large
//! response.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use thread_local::ThreadLocal;
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{connection::Connection, failure::Failure};

/// The time that connecting may take. If the request for which a thread connects times out earlier,
/// connecting continues for later requests.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The kind of calls that a connection serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionRole {
    /// Lookups, invalidations, removals and leases, whose commands are small.
    Lookups,
    /// Writes of responses, whose commands can be large.
    Writes,
    /// A lookup whose reply is expected to be large, by the connection with this number.
    LargeLookup(usize),
}

/// The maximum number of connections that a thread makes for large lookups. Only a thread that waits
/// for so many large replies at the same time makes all of them.
const LARGE_LOOKUPS: usize = 4;

/// The connections of all threads.
#[derive(Default)]
pub(super) struct WorkerConnections(ThreadLocal<ThreadConnections>);

/// The connections of one thread.
#[derive(Default)]
struct ThreadConnections {
    lookups: RefCell<Slot>,
    writes: RefCell<Slot>,
    large_lookups: [RefCell<Slot>; LARGE_LOOKUPS],
    /// The number of large lookups in progress by each connection.
    in_progress: Arc<[AtomicUsize; LARGE_LOOKUPS]>,
}

/// The place of a large lookup on one of the connections of its thread. Dropping it ends the lookup.
pub(super) struct LargeLookupPlace {
    number: usize,
    in_progress: Arc<[AtomicUsize; LARGE_LOOKUPS]>,
}

impl LargeLookupPlace {
    pub(super) const fn role(&self) -> ConnectionRole {
        ConnectionRole::LargeLookup(self.number)
    }
}

impl Drop for LargeLookupPlace {
    fn drop(&mut self) {
        if let Some(lookups) = self.in_progress.get(self.number) {
            lookups.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
enum Slot {
    #[default]
    Empty,
    Connecting(watch::Receiver<Option<ConnectResult>>),
    Connected {
        connection: Connection,
        /// The generation of connections (`RedisClient::generation`)
        /// for which the connection was made.
        generation: u64,
    },
}

type ConnectResult = Result<Connection, Failure>;

impl WorkerConnections {
    /// Returns the connection of this thread for `role`, if there is one of this `generation`.
    pub(super) fn current(&self, role: ConnectionRole, generation: u64) -> Option<Connection> {
        match &*self.slot(role).borrow() {
            Slot::Connected { connection, generation: made_for } if *made_for == generation => {
                Some(connection.clone())
            }
            Slot::Empty | Slot::Connected { .. } | Slot::Connecting(_) => None,
        }
    }

    /// Returns the connection of this thread for `role`, and connects if there is none.
    ///
    /// Calls `connect` if there is no connection of this `generation`: the server may have been
    /// replaced since. Several requests can wait for one new connection. If the requests time out,
    /// connecting continues for later requests.
    pub(super) async fn get<F>(
        &self,
        role: ConnectionRole,
        generation: u64,
        connect: impl FnOnce() -> F,
    ) -> ConnectResult
    where
        F: Future<Output = ConnectResult> + Send + 'static,
    {
        let mut receiver = {
            let slot = &mut *self.slot(role).borrow_mut();
            match slot {
                Slot::Connected { connection, generation: made_for } if *made_for == generation => {
                    return Ok(connection.clone());
                }
                // The channel is closed if the runtime that was connecting has ended.
                Slot::Connecting(receiver) if receiver.has_changed().is_ok() => receiver.clone(),
                Slot::Empty | Slot::Connected { .. } | Slot::Connecting(_) => {
                    let receiver = spawn_connect(connect())?;
                    *slot = Slot::Connecting(receiver.clone());
                    receiver
                }
            }
        };
        let result = match receiver.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Err(Failure::TimedOut)),
            Err(_) => Err(Failure::TimedOut),
        };
        let slot = &mut *self.slot(role).borrow_mut();
        if matches!(slot, Slot::Connecting(current) if current.same_channel(&receiver)) {
            *slot = match &result {
                Ok(connection) => Slot::Connected { connection: connection.clone(), generation },
                Err(_) => Slot::Empty,
            };
        }
        result
    }

    /// Removes the connection of this thread for `role`. Calls in progress continue to use the
    /// connection.
    pub(super) fn remove(&self, role: ConnectionRole) {
        let slot = &mut *self.slot(role).borrow_mut();
        if matches!(slot, Slot::Connected { .. }) {
            *slot = Slot::Empty;
        }
    }

    /// Chooses the connection of this thread with the fewest large lookups in progress.
    pub(super) fn place_for_large_lookup(&self) -> LargeLookupPlace {
        let in_progress = Arc::clone(&self.0.get_or_default().in_progress);
        let lookups = in_progress.iter().map(|lookups| lookups.load(Ordering::Relaxed));
        let least = lookups.enumerate().min_by_key(|(_, lookups)| *lookups);
        let number = least.map_or(0, |(number, _)| number);
        if let Some(lookups) = in_progress.get(number) {
            lookups.fetch_add(1, Ordering::Relaxed);
        }
        LargeLookupPlace { number, in_progress }
    }

    fn slot(&self, role: ConnectionRole) -> &RefCell<Slot> {
        let connections = self.0.get_or_default();
        match role {
            ConnectionRole::Lookups => &connections.lookups,
            ConnectionRole::Writes => &connections.writes,
            ConnectionRole::LargeLookup(number) => {
                connections.large_lookups.get(number).unwrap_or(&connections.lookups)
            }
        }
    }
}

/// Runs `connect` in a task of its own. Returns a channel that receives the result.
fn spawn_connect(
    connect: impl Future<Output = ConnectResult> + Send + 'static,
) -> Result<watch::Receiver<Option<ConnectResult>>, Failure> {
    let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
    let (sender, receiver) = watch::channel(None);
    let connect = timeout(CONNECT_TIMEOUT, connect);
    runtime.spawn(async move {
        let result = connect.await.unwrap_or(Err(Failure::TimedOut));
        sender.send_replace(Some(result));
        // A dropped sender means that the runtime has ended, so keep the sender until all receivers
        // are gone.
        sender.closed().await;
    });
    Ok(receiver)
}
