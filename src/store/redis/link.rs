//! The way to Redis: connections, the time that each call may take, and when not to call at all.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::{
    batch::Batches,
    breaker::Breaker,
    connection::{Connector, Wire},
    counters::{Counters, count},
    failure::Failure,
    keys::Keys,
    lanes::{Lane, Lanes},
    queue::Queue,
    table::{Pulled, Table},
};
use crate::{
    clock::Clock, coordination::coordinator::Coordinator, entry::invalidation::Invalidation,
    entry::stamp::Stamp,
};

/// What a request can wait for, the making of a connection included. Caches wait for any store for
/// 50 ms; this is less, so that it is known here what took too long.
pub(super) const ASK_LIMIT: Duration = Duration::from_millis(45);

/// The same of what happens beside requests.
pub(super) const STORE_LIMIT: Duration = Duration::from_millis(200);

/// Everything between a store and its Redis, shared by all threads of the process.
pub(super) struct Link {
    pub(super) keys: Keys,
    pub(super) coordinator: Coordinator,
    pub(super) table: Table,
    pub(super) counters: Counters,
    pub(super) connector: Connector,
    pub(super) batches: Batches,
    lanes: Lanes,
    breaker: Breaker,
    queue: Mutex<Queue>,
    /// Wakes what works in the background.
    pub(super) wake: Arc<Notify>,
    /// When the table was last known to be up to date, in microseconds of the process's clock, and
    /// one.
    current: AtomicU64,
    /// How far apart the table is read although nothing was heard, where it is.
    heartbeat: OnceLock<Duration>,
}

impl Link {
    pub(super) fn new(keys: Keys, connector: Connector) -> Self {
        Self {
            keys,
            coordinator: Coordinator::new(),
            table: Table::default(),
            counters: Counters::default(),
            connector,
            batches: Batches::default(),
            lanes: Lanes::default(),
            breaker: Breaker::default(),
            queue: Mutex::default(),
            wake: Arc::default(),
            current: AtomicU64::new(0),
            heartbeat: OnceLock::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// Does something by this thread's connection, within a limit, unless Redis is left alone.
    pub(super) async fn call<T, F>(
        self: &Arc<Self>,
        lane: Lane,
        limit: Duration,
        work: impl FnOnce(Wire) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        if self.breaker.is_open() {
            return Err(Failure::Open);
        }
        let opened = self.breaker.opened();
        let connect = || Arc::clone(self).connect();
        let work = async {
            let wire = self.lanes.wire(lane, opened, connect).await?;
            work(wire).await
        };
        match timeout(limit, work).await.unwrap_or(Err(Failure::Late)) {
            Ok(done) => {
                self.breaker.succeeded();
                Ok(done)
            }
            Err(failure) => {
                self.failed(lane, &failure);
                Err(failure)
            }
        }
    }

    fn failed(&self, lane: Lane, failure: &Failure) {
        if matches!(failure, Failure::Late) {
            count(&self.counters.late);
        }
        if failure.ends_connection() {
            self.lanes.leave(lane);
        }
        if failure.is_outage() && self.breaker.failed() {
            self.opened(failure);
        }
    }

    /// Leaves Redis alone from now on.
    pub(super) fn trip(&self, failure: &Failure) {
        if self.breaker.trip() {
            self.opened(failure);
        }
    }

    fn opened(&self, failure: &Failure) {
        count(&self.counters.opened);
        log::debug!("{failure}; it is left alone until it answers");
        self.wake.notify_one();
    }

    /// A new connection. The table is read before it is used for anything, where it was not yet.
    async fn connect(self: Arc<Self>) -> Result<Wire, Failure> {
        let mut wire = self.connector.connect().await?;
        count(&self.counters.connects);
        if !self.table.is_known() {
            self.pull(&mut wire).await?;
        }
        Ok(wire)
    }

    /// Brings the copy of the table up to date.
    pub(super) async fn pull(&self, wire: &mut Wire) -> Result<Stamp, Failure> {
        let asked = self.now();
        let until = match self.table.pull(wire, &self.keys, &self.coordinator).await? {
            Pulled::AsExpected(until) => until,
            Pulled::Anew(until) => {
                count(&self.counters.lost);
                log::debug!(
                    "there is no table of invalidations in Redis: all that is stored is invalid"
                );
                until
            }
        };
        self.is_current_since(asked);
        Ok(until)
    }

    /// Microseconds of the process's clock.
    pub(super) fn now(&self) -> u64 {
        let now = Clock::system().now().monotonic();
        u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
    }

    /// The table was asked for what is new at that time, and the answer is known.
    pub(super) fn is_current_since(&self, asked: u64) {
        self.current.fetch_max(asked.saturating_add(1), Ordering::Relaxed);
    }

    /// From now on the table is read at least as often as that, without a request.
    pub(super) fn keep_current(&self, heartbeat: Duration) {
        if self.heartbeat.set(heartbeat).is_ok() {
            self.wake.notify_one();
        }
    }

    pub(super) fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat.get().copied()
    }

    /// Whether nothing is missing in our copy of the table that is older than `limit`.
    pub(super) fn is_current(&self, limit: Duration) -> bool {
        let current = self.current.load(Ordering::Relaxed);
        let age = Duration::from_micros(self.now().saturating_sub(current));
        current != 0 && age <= limit
    }

    /// Invalidates. What cannot be done now is done before anything is read again.
    pub(super) async fn invalidate(
        self: &Arc<Self>,
        what: &Invalidation,
    ) -> Result<Stamp, Failure> {
        let mut result = self.send(what).await;
        // A connection that was closed while nobody used it says so when it is used.
        if matches!(&result, Err(failure) if failure.ends_connection() && !matches!(failure, Failure::Late))
        {
            result = self.send(what).await;
        }
        match &result {
            Ok(_) => count(&self.counters.invalidations),
            Err(failure) => {
                count(&self.counters.uninvalidated);
                self.postpone(what, failure);
            }
        }
        result
    }

    async fn send(self: &Arc<Self>, what: &Invalidation) -> Result<Stamp, Failure> {
        self.call(Lane::Ask, STORE_LIMIT / 2, |mut wire| async move {
            self.table.invalidate(&mut wire, &self.keys, &self.coordinator, what).await
        })
        .await
    }

    /// Nothing is read before the queue was worked off: both under one lock.
    fn postpone(&self, what: &Invalidation, failure: &Failure) {
        let mut queue = self.queue();
        queue.push(what.clone());
        self.trip(failure);
        drop(queue);
        // For what is kept in this process.
        self.coordinator.invalidate(what);
    }

    /// What is first in the queue.
    pub(super) fn postponed(&self) -> Option<Invalidation> {
        self.queue().first()
    }

    /// The first of the queue is done.
    pub(super) fn delivered(&self, what: &Invalidation) {
        self.queue().remove(what);
    }

    /// Asks Redis again from now on, unless there is something in the queue.
    pub(super) fn close(&self) -> bool {
        let queue = self.queue();
        let empty = queue.is_empty();
        if empty {
            self.breaker.close();
        }
        empty
    }

    pub(super) fn queued(&self) -> usize {
        self.queue().len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Whoever works in the background finds us gone.
        self.wake.notify_one();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("keys", &self.keys).finish_non_exhaustive()
    }
}
