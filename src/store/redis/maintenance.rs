//! The maintenance thread of a Redis store. The thread probes Redis while the circuit breaker is
//! open, sends queued invalidations, and reads the invalidations of other processes for tiered
//! stores.
//!
//! Because maintenance has a thread of its own, a slow handler does not delay maintenance, and the
//! end of a worker thread does not stop it. The maintenance thread starts with the first call of
//! the store, and ends when the store is dropped.

use std::{
    future::{Future, pending},
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock, Weak},
    thread,
    time::Duration,
};

use deadpool_redis::redis::aio::PubSubStream;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{
    runtime::Builder,
    select,
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    client::RedisClient, connection::Connection, failure::Failure,
    invalidation_table::encode_members,
};
use crate::backoff::Backoff;

/// The delay between a failed probe and the next probe. With each failure, the delay doubles, from
/// 50 ms to at most 1 s.
const PROBE_BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1), 2.0);

/// The time that a probe may take, including the time to connect and to send queued invalidations.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The time that each step of reading the invalidation table may take. The steps are to subscribe
/// to announcements, to connect, and to read. The first read, of the whole table, may take
/// [`PROBE_TIMEOUT`] with all other steps.
const READ_TIMEOUT: Duration = Duration::from_millis(500);

/// Starts the maintenance thread of a store. Only the first call of [`start`](Self::start) starts
/// it.
#[derive(Debug, Default)]
pub(super) struct Maintenance(OnceLock<()>);

impl Maintenance {
    pub(super) fn start(&self, client: &Arc<RedisClient>) {
        self.0.get_or_init(|| {
            let worker = Worker { client: Arc::downgrade(client), wake: Arc::clone(&client.wake) };
            let thread = thread::Builder::new().name("redis-cache".to_owned());
            if let Err(error) = thread.spawn(move || worker.run()) {
                log::warn!(
                    "cannot start the maintenance thread for Redis: after an outage, Redis is not \
                     called again until this process restarts: {error}"
                );
            }
        });
    }
}

struct Worker {
    client: Weak<RedisClient>,
    wake: Arc<Notify>,
}

/// The connections that the maintenance thread keeps while Redis works.
#[derive(Default)]
struct Connections {
    /// The generation of connections for which they were made.
    generation: u64,
    table: Option<Connection>,
    announcements: Option<PubSubStream>,
}

impl Worker {
    fn run(self) {
        match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(self.work()),
            Err(error) => log::warn!(
                "maintenance thread for Redis cannot start a runtime: after an outage, Redis is not \
                 called again until this process restarts: {error}"
            ),
        }
    }

    async fn work(self) {
        let mut connections = Connections::default();
        let mut backoff = PROBE_BACKOFF;
        while let Some(client) = self.client.upgrade() {
            if client.breaker.is_open() {
                connections = Connections::default();
                match guarded(PROBE_TIMEOUT, probe(&client)).await {
                    // If an invalidation was queued during the probe, the breaker stays open, and
                    // the next probe sends the invalidation at once.
                    Ok(()) => {
                        if client.retry_queue.close_if_empty(&client.breaker) {
                            log::info!("Redis answers again");
                            backoff.reset();
                            client.replace_in_table();
                        }
                    }
                    Err(failure) => {
                        log::debug!("Redis still fails: {failure}");
                        drop(client);
                        sleep(backoff.next_delay()).await;
                    }
                }
                continue;
            }
            let Some(interval) = client.table_interval() else {
                drop(client);
                self.wake.notified().await;
                continue;
            };
            let generation = client.generation();
            if connections.generation != generation {
                connections = Connections { generation, ..Connections::default() };
            }
            if let Err(failure) =
                guarded(PROBE_TIMEOUT, update_table(&client, &mut connections)).await
            {
                connections = Connections::default();
                // Open the circuit breaker at once, so that no request waits for Redis.
                client.open_circuit(&failure);
            }
            drop(client);
            self.wait(&mut connections, interval).await;
        }
    }

    /// Waits for an announcement of an invalidation, a notification of `wake`, or the end of the
    /// interval.
    async fn wait(&self, connections: &mut Connections, interval: Duration) {
        let Connections { announcements, .. } = connections;
        let announcement = async {
            match announcements {
                Some(announcements) => announcements.next().await,
                None => pending().await,
            }
        };
        select! {
            () = sleep(interval) => {}
            () = self.wake.notified() => {}
            message = announcement => {
                if message.is_none() {
                    log::debug!("Redis closed the connection for announcements of invalidations");
                    connections.announcements = None;
                }
            }
        }
    }
}

/// Awaits `work` for at most `limit`, and turns a panic into a failure. A panic must not end the
/// maintenance thread, because only this thread closes the circuit breaker.
async fn guarded<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match AssertUnwindSafe(in_time(limit, work)).catch_unwind().await {
        Ok(result) => result,
        Err(_) => Err(Failure::Panicked),
    }
}

async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(limit, work).await.unwrap_or(Err(Failure::TimedOut))
}

/// Connects to Redis, sends all queued invalidations, and reads the invalidation table.
async fn probe(client: &Arc<RedisClient>) -> Result<(), Failure> {
    let mut connection = client.connector.connect().await?;
    let RedisClient { table, keys, coordinator, retry_queue, .. } = &**client;
    while let Some(queued) = retry_queue.first() {
        let members = encode_members(queued.invalidation());
        table.add(&mut connection, keys, coordinator, &members).await?;
        retry_queue.remove(&queued);
    }
    client.read_table(&mut connection).await?;
    Ok(())
}

/// Reads the invalidation table. Subscribes to announcements of invalidations before the read, so
/// that no invalidation after the read is missed.
async fn update_table(
    client: &Arc<RedisClient>,
    connections: &mut Connections,
) -> Result<(), Failure> {
    if connections.announcements.is_none() {
        match in_time(READ_TIMEOUT, client.connector.subscribe(&client.keys.table)).await {
            Ok(subscription) => connections.announcements = Some(subscription.into_on_message()),
            Err(failure) => {
                log::debug!(
                    "cannot subscribe to announcements of invalidations in Redis: {failure}"
                );
            }
        }
    }
    let connection = match &mut connections.table {
        Some(connection) => connection,
        None => {
            let connection = in_time(READ_TIMEOUT, client.connector.connect()).await?;
            connections.table.insert(connection)
        }
    };
    if client.table.is_known() {
        in_time(READ_TIMEOUT, client.read_table(connection)).await?;
    } else {
        client.read_table_first(connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_web::test]
    async fn endless_work_and_a_panic_become_failures() {
        let result = guarded(PROBE_TIMEOUT, async { Ok(1) }).await;
        assert_eq!(result.ok(), Some(1));
        let endless = guarded::<()>(Duration::from_millis(1), pending()).await;
        assert!(matches!(endless, Err(Failure::TimedOut)));
        let panics = guarded::<()>(PROBE_TIMEOUT, async { panic!("expected") }).await;
        assert!(matches!(panics, Err(Failure::Panicked)));
    }
}
