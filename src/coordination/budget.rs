//! Limits that all caches over one store share: a limit on the memory for response bodies that are
//! being received, and a limit on the number of writes to the store at one time.
//!
//! A fill is one call of a handler whose response may be stored.
//!
//! # The memory of response bodies
//!
//! The cache keeps the bytes of a body until the body is stored, and until all its readers have read
//! them. A client that reads slowly, or not at all, must not take this memory from the fills of
//! other clients. The budget therefore has two halves. Bytes that no client has read yet may fill
//! one half. While this half is full, a fill receives a body only as fast as its fastest client
//! reads it. The other half remains for the bytes that a client has read already, and that the cache
//! keeps because it is going to store the body.
//!
//! If the budget is full, the bodies that no client reads are dropped first. Then come the bodies
//! whose clients have stopped reading, and then the largest body. These bodies are not stored, but
//! their clients still receive them completely.

use std::{
    cmp::Reverse,
    fmt, mem, ptr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Waker,
    time::Duration,
};

use slab::Slab;

use crate::clock::{Clock, Timestamp};

/// The largest number of bytes of response bodies that all fills of one store together may hold.
pub(super) const FILL_BUDGET: usize = 64 * 1024 * 1024;

/// The part of [`FILL_BUDGET`] that bytes may fill which no client has read yet.
pub(super) const UNREAD_BUDGET: usize = FILL_BUDGET / 2;

/// The time without progress after which a fill makes room for other fills if the budget is full.
const STALLED_AFTER: Duration = Duration::from_millis(250);

/// A body whose bytes the budget counts, and which can give its memory to other bodies.
pub(super) trait CountedBody: fmt::Debug + Send + Sync {
    /// Drops the body if no client reads it. Returns whether the body was dropped.
    fn abort_if_unread(&self) -> bool;

    fn usage(&self) -> Usage;

    /// Drops all bytes that the clients of the body have read. The body is not stored any more.
    fn revoke(&self);
}

/// The memory that a body uses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// The number of bytes of the body that are in memory.
    pub(super) held: usize,
    /// The time at which a client last made progress in reading the body.
    pub(super) progressed: Timestamp,
}

/// The memory budget for the response bodies that fills receive. Clones share one budget.
#[derive(Debug, Clone, Default)]
pub(super) struct FillBudget(Arc<Budget>);

#[derive(Debug, Default)]
struct Budget {
    /// The number of bytes that all fills hold.
    held: AtomicUsize,
    /// The number of these bytes that no client has read yet.
    unread: AtomicUsize,
    /// The bodies that are being received.
    bodies: Mutex<Slab<Registration>>,
    /// Whether the task of any body is paused.
    has_paused: AtomicBool,
}

#[derive(Debug)]
struct Registration {
    body: Weak<dyn CountedBody>,
    /// The task that receives the body, while it waits until the bytes that no client has read take
    /// less of the budget.
    paused: Option<Waker>,
}

impl FillBudget {
    /// Returns the number of bytes that all fills hold.
    pub(super) fn held(&self) -> usize {
        self.0.held.load(Ordering::Relaxed)
    }

    /// Returns whether the budget has room for a further byte.
    pub(super) fn has_room(&self) -> bool {
        self.held() < FILL_BUDGET
    }

    /// Returns whether the budget has room for a further byte that no client has read yet.
    pub(super) fn has_room_unread(&self) -> bool {
        self.0.unread.load(Ordering::Relaxed) < UNREAD_BUDGET
    }

    /// Returns whether the budget has room for `more` further bytes that no client has read yet.
    pub(super) fn fits_unread(&self, more: usize) -> bool {
        let (held, unread) = (self.held(), self.0.unread.load(Ordering::Relaxed));
        unread.saturating_add(more) <= UNREAD_BUDGET && held.saturating_add(more) <= FILL_BUDGET
    }

    /// Begins to count the bytes of a body.
    pub(super) fn charge(&self) -> Charge {
        Charge { budget: self.clone(), held: 0, unread: 0 }
    }

    /// Adds a body to the bodies that can be dropped if the budget is full. Returns its slot.
    pub(super) fn register(&self, body: Weak<dyn CountedBody>) -> usize {
        self.bodies().insert(Registration { body, paused: None })
    }

    pub(super) fn unregister(&self, slot: usize) {
        let registration = self.bodies().try_remove(slot);
        drop(registration);
    }

    /// Drops the bodies that no client reads. If the budget is still full, takes the memory of the
    /// bodies whose clients have stopped reading, beginning with the client that stopped first, and
    /// then of bodies that are larger than `asking`, beginning with the largest. `asking` keeps its
    /// memory. Returns whether the budget has room now.
    pub(super) fn make_room(&self, asking: &dyn CountedBody) -> bool {
        self.has_room() || self.make_room_at(asking, Clock::system().now())
    }

    pub(super) fn make_room_at(&self, asking: &dyn CountedBody, now: Timestamp) -> bool {
        self.drop_unread();
        let others = self.open_bodies();
        let others: Vec<_> = others
            .iter()
            .filter(|body| !ptr::addr_eq(Arc::as_ptr(body), asking))
            .map(|body| (body.usage(), body))
            .collect();
        let is_stalled = |usage: &Usage| now.since(usage.progressed) >= STALLED_AFTER;
        let mut stalled: Vec<_> = others.iter().filter(|(usage, _)| is_stalled(usage)).collect();
        stalled.sort_by_key(|(usage, _)| usage.progressed.monotonic());
        let size = asking.usage().held;
        let mut larger: Vec<_> = others.iter().filter(|(usage, _)| usage.held > size).collect();
        larger.sort_by_key(|(usage, _)| Reverse(usage.held));
        for (_, body) in stalled.into_iter().chain(larger) {
            if self.has_room() {
                break;
            }
            body.revoke();
        }
        self.has_room()
    }

    /// Drops the bodies that no client reads.
    pub(super) fn drop_unread(&self) {
        for body in self.open_bodies() {
            body.abort_if_unread();
        }
    }

    /// Wakes the task that receives the body in this slot, once the bytes that no client has read
    /// take less of the budget.
    pub(super) fn wake_when_read(&self, slot: usize, waker: &Waker) {
        let waker = waker.clone();
        let previous = self.bodies().get_mut(slot).and_then(|body| body.paused.replace(waker));
        // A waker may own a task. It is dropped after the lock is released.
        drop(previous);
        self.0.has_paused.store(true, Ordering::Release);
    }

    fn wake_paused(&self) {
        self.0.has_paused.store(false, Ordering::Release);
        let paused: Vec<_> =
            self.bodies().iter_mut().filter_map(|(_, body)| body.paused.take()).collect();
        paused.into_iter().for_each(Waker::wake);
    }

    fn open_bodies(&self) -> Vec<Arc<dyn CountedBody>> {
        // Collect the bodies first, so that no lock of a body is taken while this lock is held.
        self.bodies().iter().filter_map(|(_, registration)| registration.body.upgrade()).collect()
    }

    fn bodies(&self) -> MutexGuard<'_, Slab<Registration>> {
        self.0.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of one body, as the fill budget counts them. Dropping the charge returns the bytes to
/// the budget.
#[derive(Debug)]
pub(super) struct Charge {
    pub(super) budget: FillBudget,
    held: usize,
    unread: usize,
}

impl Charge {
    /// Sets the number of bytes of the body in memory, and the number of these bytes that no client
    /// has read yet.
    pub(super) fn set(&mut self, held: usize, unread: usize) {
        let budget = &self.budget.0;
        count(&budget.held, mem::replace(&mut self.held, held), held);
        let before = mem::replace(&mut self.unread, unread);
        let all_unread = count(&budget.unread, before, unread);
        // Wait until much of the half is free, so that the paused tasks are not woken for each
        // chunk that is read.
        if unread < before
            && all_unread < UNREAD_BUDGET / 2
            && budget.has_paused.load(Ordering::Acquire)
        {
            self.budget.wake_paused();
        }
    }

    /// Returns whether the budget has room for this body to grow to `unread` bytes that no client
    /// has read yet.
    pub(super) fn may_grow_unread(&self, unread: usize) -> bool {
        self.budget.fits_unread(unread.saturating_sub(self.unread))
    }
}

/// Replaces `before` by `after` in a sum. Returns the new sum.
fn count(sum: &AtomicUsize, before: usize, after: usize) -> usize {
    if after > before {
        sum.fetch_add(after - before, Ordering::Relaxed) + (after - before)
    } else if before > after {
        sum.fetch_sub(before - after, Ordering::Relaxed) - (before - after)
    } else {
        sum.load(Ordering::Relaxed)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

/// The largest number of writes in progress.
const MAX_WRITES: usize = 256;

/// The largest number of bytes of the bodies of all writes in progress. A store outside of the
/// process makes up to three further copies of each body.
const MAX_WRITE_BYTES: usize = 16 * 1024 * 1024;

/// The size of a body up to which its write may use all of [`MAX_WRITE_BYTES`]. The writes of larger
/// bodies use a quarter of it, so that they do not keep smaller bodies from being stored.
const SMALL_WRITE: usize = 256 * 1024;

/// The writes to the store that are in progress. A write may continue after its request has ended,
/// so a limit on requests would not limit the writes.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenWrites(Arc<Mutex<WriteCounts>>);

#[derive(Debug, Default)]
struct WriteCounts {
    writes: usize,
    /// The number of bytes of the bodies.
    bytes: usize,
}

impl OpenWrites {
    /// Permits one more write, of a body with this length. Returns `None` if too many writes are in
    /// progress.
    pub(super) fn try_begin(&self, length: usize) -> Option<WritePermit> {
        let mut counts = self.counts();
        let limit = if length <= SMALL_WRITE { MAX_WRITE_BYTES } else { MAX_WRITE_BYTES / 4 };
        // A body that is as long as all others together is permitted too. Otherwise, only one very
        // long body at a time could be stored.
        let fits = counts.bytes.saturating_add(length) <= limit || counts.bytes <= length;
        if !fits || counts.writes >= MAX_WRITES {
            return None;
        }
        counts.writes += 1;
        counts.bytes += length;
        Some(WritePermit { writes: self.clone(), length })
    }

    fn counts(&self) -> MutexGuard<'_, WriteCounts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A permit for one write to the store. The permit is dropped when the write has ended.
#[derive(Debug)]
pub(crate) struct WritePermit {
    writes: OpenWrites,
    length: usize,
}

impl Drop for WritePermit {
    fn drop(&mut self) {
        let mut counts = self.writes.counts();
        counts.writes -= 1;
        counts.bytes -= self.length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_budget_is_shared_and_returned_on_drop() {
        let budget = FillBudget::default();
        let (mut one, mut two) = (budget.charge(), budget.clone().charge());
        one.set(UNREAD_BUDGET, UNREAD_BUDGET - 1);
        assert!(budget.has_room() && budget.has_room_unread() && budget.fits_unread(1));
        assert!(!budget.fits_unread(2));
        two.set(UNREAD_BUDGET, 1);
        assert!(!budget.has_room() && !budget.has_room_unread() && !budget.fits_unread(1));
        two.set(UNREAD_BUDGET - 1, 0);
        assert!(budget.has_room() && budget.has_room_unread());
        drop((one, two));
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn writes_that_outlive_requests_are_limited() {
        let writes = OpenWrites::default();
        let all: Vec<_> = (0..).map_while(|_| writes.try_begin(1)).collect();
        assert_eq!(all.len(), MAX_WRITES);
        drop(all);
        assert!(writes.try_begin(1).is_some());
    }

    #[test]
    fn bytes_of_writes_are_limited() {
        let writes = OpenWrites::default();
        let large: Vec<_> = (0..).map_while(|_| writes.try_begin(2 * SMALL_WRITE)).collect();
        assert_eq!(large.len(), MAX_WRITE_BYTES / 4 / (2 * SMALL_WRITE));
        let small: Vec<_> = (0..).map_while(|_| writes.try_begin(SMALL_WRITE)).collect();
        assert_eq!(small.len(), MAX_WRITE_BYTES / 4 * 3 / SMALL_WRITE);
        drop((large, small));
        let long = [2, 2].map(|n| writes.try_begin(n * MAX_WRITE_BYTES));
        assert!(long.iter().all(Option::is_some));
        assert!(writes.try_begin(2 * MAX_WRITE_BYTES).is_none() && writes.try_begin(1).is_none());
    }
}
