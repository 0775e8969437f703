//! The connections of each worker thread, kept while they work.
//!
//! A thread shares no connection with others. A connection is driven by the runtime that made it, so
//! one thread's slow handler would delay the requests of all threads that share its connection. A
//! thread has two connections, so that no look-up waits behind the transfer of a large response.

use std::{cell::RefCell, time::Duration};

use thread_local::ThreadLocal;
use tokio::{runtime::Handle, sync::watch, time::timeout};

use super::{connection::Connection, failure::Failure};

/// The time that connecting may take. Requests wait for less; connecting goes on without them.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The use of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionRole {
    /// Look-ups, invalidations and leases, which are small.
    Lookups,
    /// Writes of responses.
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
        /// The openings of the circuit breaker at the time of connecting.
        openings: u64,
    },
}

type ConnectResult = Result<Connection, Failure>;

impl WorkerConnections {
    /// Returns this thread's connection.
    ///
    /// Calls `connect` if there is none, or if the circuit breaker opened since it was made. Several
    /// requests can wait for one new connection. Connecting goes on if none of them waits any more.
    pub(super) async fn get<F>(
        &self,
        role: ConnectionRole,
        openings: u64,
        connect: impl FnOnce() -> F,
    ) -> ConnectResult
    where
        F: Future<Output = ConnectResult> + Send + 'static,
    {
        let mut receiver = {
            let mut slots = self.0.get_or_default().borrow_mut();
            let slot = slot(&mut slots, role);
            match slot {
                Slot::Connected { connection, openings: then } if *then == openings => {
                    return Ok(connection.clone());
                }
                // The sender is gone without a result if its runtime has ended.
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
                Ok(connection) => Slot::Connected { connection: connection.clone(), openings },
                Err(_) => Slot::Empty,
            };
        }
        result
    }

    /// Removes this thread's connection. Calls that use it now keep it to their end.
    pub(super) fn remove(&self, role: ConnectionRole) {
        let mut slots = self.0.get_or_default().borrow_mut();
        let slot = slot(&mut slots, role);
        if matches!(slot, Slot::Connected { .. }) {
            *slot = Slot::Empty;
        }
    }
}

/// Connects in a task of its own.
fn spawn_connect(
    connect: impl Future<Output = ConnectResult> + Send + 'static,
) -> Result<watch::Receiver<Option<ConnectResult>>, Failure> {
    let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
    let (sender, receiver) = watch::channel(None);
    let connect = timeout(CONNECT_TIMEOUT, connect);
    runtime.spawn(async move {
        let result = connect.await.unwrap_or(Err(Failure::TimedOut));
        sender.send_replace(Some(result));
        // A dropped sender means that the runtime has ended, so keep it until all receivers are gone.
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
