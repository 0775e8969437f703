//! Replacements in the invalidation table: if this process has replaced many invalidations in its
//! memory by one, it does so in Redis, in the background.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::Cmd;
use tokio::runtime::Handle;

use super::{
    client::RedisClient,
    failure::Failure,
    invalidation_table::{monotonic_micros, replace_commands},
    worker_connections::ConnectionRole,
};
use crate::coordination::replacements::ReplacedInvalidations;

/// The time after a failure in which no replacement is sent.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The replacements that Redis does not have yet.
#[derive(Debug, Default)]
pub(super) struct TableReplacements {
    /// The replacements that could not be sent. No further ones are taken from the coordinator until
    /// these are sent, so their number is bounded.
    unsent: Mutex<Vec<ReplacedInvalidations>>,
    is_sending: AtomicBool,
    /// The time of the monotonic clock, in microseconds, before which nothing is sent.
    paused_until: AtomicU64,
}

impl TableReplacements {
    fn unsent(&self) -> MutexGuard<'_, Vec<ReplacedInvalidations>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to send. Returns `None` if replacements are being sent already, or if sending has
    /// failed a short while ago.
    fn begin(client: &Arc<RedisClient>) -> Option<Sending> {
        let Self { is_sending, paused_until, .. } = &client.replacements;
        let is_paused = monotonic_micros() < paused_until.load(Ordering::Relaxed);
        if is_paused || client.breaker.is_open() || is_sending.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(Sending(Arc::clone(client)))
    }
}

/// The task that sends replacements. There is at most one.
struct Sending(Arc<RedisClient>);

impl Sending {
    /// Returns whether there are replacements to send: those that could not be sent, or new ones.
    /// They stay in the list until they are sent, because this task may end with its runtime at any
    /// time.
    fn has_next(&self) -> bool {
        let mut unsent = self.0.replacements.unsent();
        if unsent.is_empty() {
            *unsent = self.0.coordinator.take_replaced();
        }
        !unsent.is_empty()
    }

    async fn run(self) {
        while self.has_next() {
            while let Some(commands) = self.commands() {
                if let Err(failure) = self.send(&commands).await {
                    let until = monotonic_micros() + RETRY_INTERVAL.as_micros() as u64;
                    self.0.replacements.paused_until.store(until, Ordering::Relaxed);
                    return log::debug!(
                        "invalidations in Redis not replaced by one yet: {failure}"
                    );
                }
                self.0.replacements.unsent().pop();
            }
        }
    }

    /// Returns the commands for the last replacement in the list.
    fn commands(&self) -> Option<Vec<Cmd>> {
        let unsent = self.0.replacements.unsent();
        unsent.last().map(|replaced| replace_commands(&self.0.keys, replaced))
    }

    async fn send(&self, commands: &[Cmd]) -> Result<(), Failure> {
        let client = &self.0;
        for command in commands {
            let timeout = client.timeouts.write;
            let call =
                |mut connection| async move { Ok(command.exec_async(&mut connection).await?) };
            client.call(ConnectionRole::Writes, timeout, call).await?;
        }
        Ok(())
    }
}

/// The task may end with its runtime, and another one then sends the rest.
impl Drop for Sending {
    fn drop(&mut self) {
        self.0.replacements.is_sending.store(false, Ordering::Release);
    }
}

impl RedisClient {
    /// Replaces many invalidations in Redis by one, in the background, if this process has done so
    /// in its memory. If this fails, a later call sends the replacement again.
    pub(super) fn replace_in_table(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else { return };
        if let Some(sending) = TableReplacements::begin(self) {
            if sending.has_next() {
                runtime.spawn(sending.run());
            }
        }
    }
}
