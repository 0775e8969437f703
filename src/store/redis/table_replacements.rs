//! The replacements that the invalidation table lacks: if this process has replaced many
//! invalidations in its memory by one, it does so in Redis, too.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use deadpool_redis::redis::Cmd;

use super::{
    invalidation_table::{monotonic_micros, replace_commands},
    keys::Keys,
};
use crate::coordination::{coordinator::Coordinator, replacements::ReplacedInvalidations};

/// The time after a failure in which no replacement is sent.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The replacements that Redis does not have yet.
#[derive(Debug, Default)]
pub(super) struct TableReplacements {
    /// The replacements that are not sent yet. No further ones are taken from the coordinator until
    /// these are sent, so their number is bounded.
    unsent: Mutex<Vec<ReplacedInvalidations>>,
    is_sending: AtomicBool,
    /// The time of the monotonic clock, in microseconds, before which nothing is sent.
    paused_until: AtomicU64,
}

impl TableReplacements {
    /// Begins to send. Returns `None` if another task is sending, or if sending has failed a short
    /// while ago.
    pub(super) fn begin(self: &Arc<Self>) -> Option<Sending> {
        let is_paused = monotonic_micros() < self.paused_until.load(Ordering::Relaxed);
        if is_paused || self.is_sending.swap(true, Ordering::Acquire) {
            return None;
        }
        Some(Sending(Arc::clone(self)))
    }

    fn unsent(&self) -> MutexGuard<'_, Vec<ReplacedInvalidations>> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to send replacements, which at most one task has.
pub(super) struct Sending(Arc<TableReplacements>);

impl Sending {
    /// Returns whether there are replacements to send. Takes new ones from the coordinator if all
    /// earlier ones are sent.
    pub(super) fn has_next(&self, coordinator: &Coordinator) -> bool {
        let mut unsent = self.0.unsent();
        if unsent.is_empty() {
            *unsent = coordinator.take_replaced();
        }
        !unsent.is_empty()
    }

    /// Returns the commands for the next replacement. The replacement stays in the list until
    /// [`end_replacement`](Self::end_replacement), because the task that sends it may end with its
    /// runtime at any time.
    pub(super) fn commands(&self, keys: &Keys) -> Vec<Cmd> {
        let unsent = self.0.unsent();
        unsent.last().map(|replaced| replace_commands(keys, replaced)).unwrap_or_default()
    }

    /// Removes the replacement whose commands were sent.
    pub(super) fn end_replacement(&self) {
        self.0.unsent().pop();
    }

    /// Sends nothing for some time, because Redis has refused a command.
    pub(super) fn pause(&self) {
        let until = monotonic_micros().saturating_add(RETRY_INTERVAL.as_micros() as u64);
        self.0.paused_until.store(until, Ordering::Relaxed);
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.is_sending.store(false, Ordering::Release);
    }
}
