//! The connections of each worker thread to Redis.
//!
//! Threads share no connections, because a connection does its I/O in the runtime that made it. If
//! threads shared a connection, a slow handler on one thread would delay the requests of the other
//! threads. Each thread has two connections, so that no lookup waits behind the transfer of a large
//! response.

use std::{cell::RefCell, time::Duration};

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
}

/// The connections of all threads.
#[derive(Default)]
pub(super) struct WorkerConnections(ThreadLocal<RefCell<[Slot; 2]>>);

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
    /// Returns the connection of this thread for `role`.
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
            let mut slots = self.0.get_or_default().borrow_mut();
            let slot = slot(&mut slots, role);
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
        let mut slots = self.0.get_or_default().borrow_mut();
        let slot = slot(&mut slots, role);
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
        let mut slots = self.0.get_or_default().borrow_mut();
        let slot = slot(&mut slots, role);
        if matches!(slot, Slot::Connected { .. }) {
            *slot = Slot::Empty;
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

fn slot(slots: &mut [Slot; 2], role: ConnectionRole) -> &mut Slot {
    let [lookups, writes] = slots;
    match role {
        ConnectionRole::Lookups => lookups,
        ConnectionRole::Writes => writes,
    }
}
