//! Calls to Redis with time-outs, a circuit breaker, and a retry queue for invalidations.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use deadpool_redis::redis::cmd;
use futures_util::FutureExt as _;
use tokio::{runtime::Handle, sync::Notify, time::timeout};

use super::{
    connection::Connection,
    connector::Connector,
    counters::{Counters, count},
    failure::Failure,
    first_read::FirstRead,
    invalidation_table::{
        EpochCheck, InvalidationTable, TableRead, encode_members, encode_removal, monotonic_micros,
    },
    keys::Keys,
    primary_search::{PrimarySearch, SEARCH_INTERVAL},
    table_replacements::{Sending, TableReplacements},
    worker_connections::{ConnectionRole, LargeLookupPlace, WorkerConnections},
};
use crate::{
    coordination::coordinator::Coordinator,
    entry::{invalidation::Invalidation, stamp::Stamp, tag::TagId},
    store::remote::{circuit_breaker::CircuitBreaker, deadline::Deadline, retry_queue::RetryQueue},
};

/// The time-outs of calls to Redis, including the time to connect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// The time-out of lookups and lease requests.
    pub(super) lookup: Duration,
    /// The time-out of writes, invalidations, removals and lease releases.
    pub(super) write: Duration,
}

/// The client of one store. All threads of the process share the client.
pub(super) struct RedisClient {
    pub(super) keys: Keys,
    pub(super) timeouts: Timeouts,
    pub(super) coordinator: Coordinator,
    pub(super) table: InvalidationTable,
    pub(super) counters: Counters,
    pub(super) connector: Connector,
    pub(super) breaker: CircuitBreaker,
    pub(super) retry_queue: RetryQueue,
    replacements: Arc<TableReplacements>,
    first_read: FirstRead,
    primary_search: PrimarySearch,
    connections: WorkerConnections,
    /// Wakes the maintenance thread.
    pub(super) wake: Arc<Notify>,
    /// The longest time between two reads of the invalidation table by the maintenance thread. The
    /// time is set only if the store is the far store of a tiered store. Otherwise the thread need
    /// not read the table.
    table_interval: OnceLock<Duration>,
}

impl RedisClient {
    pub(super) fn new(keys: Keys, connector: Connector, timeouts: Timeouts) -> Self {
        Self {
            keys,
            timeouts,
            coordinator: Coordinator::new(),
            table: InvalidationTable::default(),
            counters: Counters::default(),
            connector,
            breaker: CircuitBreaker::default(),
            retry_queue: RetryQueue::default(),
            replacements: Arc::default(),
            first_read: FirstRead::default(),
            primary_search: PrimarySearch::default(),
            connections: WorkerConnections::default(),
            wake: Arc::default(),
            table_interval: OnceLock::new(),
        }
    }

    /// Runs `call` on this thread's connection within `timeout`, unless the circuit breaker is
    /// open.
    ///
    /// This function and [`call_apart`](Self::call_apart) are no `async fn`s, whose futures would have
    /// space for `call` twice.
    pub(super) fn call<T, F>(
        self: &Arc<Self>,
        role: ConnectionRole,
        timeout: Duration,
        call: impl FnOnce(Connection) -> F,
    ) -> impl Future<Output = Result<T, Failure>>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.call_apart(role, timeout, call).inspect(|result| match result {
            Ok(_) => self.breaker.record_success(),
            Err(failure) => self.record_failure(failure),
        })
    }

    /// Does the same as [`call`](Self::call), but the circuit breaker does not count the result.
    pub(super) fn call_apart<T, F>(
        self: &Arc<Self>,
        role: ConnectionRole,
        timeout: Duration,
        call: impl FnOnce(Connection) -> F,
    ) -> impl Future<Output = Result<T, Failure>>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let deadline = Deadline::after(timeout);
        async move {
            if self.breaker.is_open() {
                return Err(Failure::CircuitOpen);
            }
            let generation = self.generation();
            let result = deadline.run(async {
                let connection = match self.connections.current(role, generation) {
                    Some(connection) => connection,
                    None => {
                        let connect = || Arc::clone(self).connect();
                        Box::pin(self.connections.get(role, generation, connect)).await?
                    }
                };
                call(connection).await
            });
            let result = result.await.map_err(Failure::from);
            if result.as_ref().is_err_and(Failure::ends_connection) {
                self.connections.remove(role);
            }
            result
        }
    }

    /// Chooses the connection of this thread for a lookup whose reply is expected to be large.
    pub(super) fn place_for_large_lookup(&self) -> LargeLookupPlace {
        self.connections.place_for_large_lookup()
    }

    /// Returns the generation of connections that calls may use. Connections of earlier generations
    /// may lead to a server that has been replaced.
    pub(super) fn generation(&self) -> u64 {
        self.breaker.openings() + self.primary_search.found()
    }

    fn record_failure(&self, failure: &Failure) {
        if matches!(failure, Failure::TimedOut) {
            count(&self.counters.timeouts);
            if self.first_read.is_running() {
                return;
            }
        }
        if failure.is_outage() && self.breaker.record_failure() {
            self.start_probing(failure);
        }
    }

    /// Opens the circuit breaker at once.
    pub(super) fn open_circuit(&self, failure: &Failure) {
        if self.breaker.open() {
            self.start_probing(failure);
        }
    }

    /// Wakes the maintenance thread, so that it probes Redis. Called when the circuit breaker has
    /// opened.
    fn start_probing(&self, failure: &Failure) {
        count(&self.counters.circuit_openings);
        log::debug!("Redis is not called until a probe succeeds: {failure}");
        self.wake.notify_one();
    }

    /// Looks for the primary in the background, unless such a search began less than a second ago.
    /// The caller could not write the Redis key `refused`, because the server is a replica.
    pub(super) fn find_primary(self: &Arc<Self>, refused: &str) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.primary_search.is_due(monotonic_micros()) {
            return;
        }
        // In a Cluster, this key is on the node that refused the write. No store writes this key.
        let (client, unused) = (Arc::clone(self), format!("{refused}:unused"));
        runtime.spawn(async move {
            let search = timeout(SEARCH_INTERVAL, client.connect_and_write(&unused)).await;
            match search.unwrap_or(Err(Failure::TimedOut)) {
                Ok(()) => {
                    client.primary_search.record_found();
                    client.wake.notify_one();
                    log::debug!("a new connection to Redis accepts writes");
                }
                Err(failure) => log::debug!("Redis still refuses writes: {failure}"),
            }
        });
    }

    /// Makes a connection, and sends a write that changes nothing.
    async fn connect_and_write(&self, unused: &str) -> Result<(), Failure> {
        let mut connection = self.connector.connect().await?;
        count(&self.counters.connections);
        Ok(cmd("UNLINK").arg(unused).exec_async(&mut connection).await?)
    }

    /// Makes a connection. If this process has not read the invalidation table yet, it reads the
    /// table by this connection before any lookup. Lookups that time out meanwhile do not stop the
    /// read, and the circuit breaker does not count them.
    pub(super) async fn connect(self: Arc<Self>) -> Result<Connection, Failure> {
        let mut connection = self.connector.connect().await?;
        count(&self.counters.connections);
        if !self.table.is_known() {
            self.read_table_first(&mut connection).await?;
        }
        Ok(connection)
    }

    /// Reads the table, unless this process has read it. If this takes too long, opens the circuit
    /// breaker.
    pub(super) async fn read_table_first(
        self: &Arc<Self>,
        connection: &mut Connection,
    ) -> Result<(), Failure> {
        let read = async { self.read_table(connection).await.map(drop) };
        let read = self.first_read.run(|| self.table.is_known(), read).await;
        if let Err(failure @ Failure::TimedOut) = &read {
            self.open_circuit(failure);
        }
        read
    }

    /// Reads all new invalidations from the invalidation table in Redis. Returns the time up to
    /// which this process knows all invalidations.
    pub(super) async fn read_table(
        self: &Arc<Self>,
        connection: &mut Connection,
    ) -> Result<Stamp, Failure> {
        let read = self.table.read(connection, &self.keys, &self.coordinator).await?;
        self.replace_in_table();
        match read {
            TableRead::Continued(until) => Ok(until),
            TableRead::Created(until) => {
                count(&self.counters.table_losses);
                Ok(until)
            }
            TableRead::Recreated(until) => {
                count(&self.counters.table_losses);
                log::warn!(
                    "Redis lost the table of invalidations, or another program changed it: all \
                     stored responses are invalid"
                );
                Ok(until)
            }
        }
    }

    /// Reads the epoch, and the new invalidations if the epoch has changed.
    pub(super) async fn update_table(
        self: &Arc<Self>,
        connection: &mut Connection,
    ) -> Result<(), Failure> {
        let sent = monotonic_micros();
        let epoch = self.table.epoch_command(&self.keys).query_async(connection).await?;
        if self.table.check_epoch(epoch)? == EpochCheck::Changed {
            self.read_table(connection).await?;
        }
        self.table.set_current_at(sent);
        Ok(())
    }

    /// Sends an invalidation. If this fails, the invalidation is queued. This process then sends
    /// the queued invalidation before it reads anything from Redis again.
    pub(super) async fn invalidate(
        self: &Arc<Self>,
        invalidation: &Invalidation,
    ) -> Result<Stamp, Failure> {
        let result = self.send_members(&encode_members(invalidation)).await;
        match &result {
            Ok(_) => {
                count(&self.counters.invalidations);
                self.replace_in_table();
            }
            Err(failure) => self.queue(invalidation.clone(), failure),
        }
        result
    }

    /// Records the removal of the cache key or the URL with this tag, and then removes its
    /// responses by `remove`. If either fails, a purge of the tag is queued. The purge needs no
    /// removal, because the table keeps the purge for longer than all responses.
    pub(super) async fn remove<F>(
        self: &Arc<Self>,
        tag: TagId,
        remove: impl FnOnce(Connection) -> F,
    ) -> Result<usize, Failure>
    where
        F: Future<Output = Result<usize, Failure>>,
    {
        // The record comes first. It also applies to a fill that stores its response later.
        let result = match self.send_members(&[encode_removal(tag)]).await {
            Ok(_) => self.call(ConnectionRole::Lookups, self.timeouts.write / 2, remove).await,
            Err(failure) => Err(failure),
        };
        match &result {
            Ok(_) => count(&self.counters.invalidations),
            Err(failure) => self.queue(Invalidation::PurgeTags(vec![tag]), failure),
        }
        result
    }

    /// Queues an invalidation that did not reach Redis.
    fn queue(&self, invalidation: Invalidation, failure: &Failure) {
        count(&self.counters.invalidations_failed);
        // Copies in this process, such as those of a tiered store, become invalid at once.
        self.coordinator.invalidate(&invalidation);
        if self.retry_queue.push(invalidation, &self.breaker) {
            self.start_probing(failure);
        }
    }

    /// Adds members to the invalidation table. The server may have closed the idle connection, or
    /// may have become a replica. The client notices this only when it uses the connection, so it
    /// tries once more with a new connection.
    async fn send_members(self: &Arc<Self>, members: &[Vec<u8>]) -> Result<Stamp, Failure> {
        match self.send_once(members).await {
            Err(failure) if failure.is_refused_write() => {
                self.connections.remove(ConnectionRole::Lookups);
                self.send_once(members).await
            }
            Err(failure) if failure.ends_connection() && !matches!(failure, Failure::TimedOut) => {
                self.send_once(members).await
            }
            result => result,
        }
    }

    /// Adds members to the table within half of the write time-out. The other half is for a second
    /// attempt.
    async fn send_once(self: &Arc<Self>, members: &[Vec<u8>]) -> Result<Stamp, Failure> {
        let timeout = self.timeouts.write / 2;
        self.call(ConnectionRole::Lookups, timeout, |mut connection| async move {
            self.table.add(&mut connection, &self.keys, &self.coordinator, members).await
        })
        .await
    }

    /// Replaces many invalidations in Redis by one, in the background, if this process has done so
    /// in its memory. If this fails, a later call sends the replacement again.
    pub(super) fn replace_in_table(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.breaker.is_open()
            && let Some(sending) = self.replacements.begin()
            && sending.has_next(&self.coordinator)
        {
            let client = Arc::clone(self);
            runtime.spawn(async move {
                if let Err(failure) = client.send_replacements(&sending).await {
                    sending.pause();
                    log::debug!("invalidations in Redis not replaced by one yet: {failure}");
                }
            });
        }
    }

    async fn send_replacements(self: &Arc<Self>, sending: &Sending) -> Result<(), Failure> {
        while sending.has_next(&self.coordinator) {
            for command in sending.commands(&self.keys) {
                let command = &command;
                let call =
                    |mut connection| async move { Ok(command.exec_async(&mut connection).await?) };
                self.call(ConnectionRole::Writes, self.timeouts.write, call).await?;
            }
            sending.end_replacement();
        }
        Ok(())
    }

    /// Makes the maintenance thread read the invalidation table from now on, at least once in
    /// `interval`.
    pub(super) fn keep_table_current(&self, interval: Duration) {
        if self.table_interval.set(interval).is_ok() {
            self.wake.notify_one();
        }
    }

    pub(super) fn table_interval(&self) -> Option<Duration> {
        self.table_interval.get().copied()
    }
}

impl Drop for RedisClient {
    fn drop(&mut self) {
        // Wake the maintenance thread: it ends if it cannot upgrade its weak pointer to the client.
        self.wake.notify_one();
    }
}

impl fmt::Debug for RedisClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisClient").field("keys", &self.keys).finish_non_exhaustive()
    }
}
