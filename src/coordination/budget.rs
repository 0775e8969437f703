//! Limits that all caches over one store share: a limit on the memory for response bodies that are
//! being received, and a limit on the number of writes to the store at one time.
//!
//! A fill is one call of a handler whose response may be stored.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The largest number of bytes that all fills of one store together may reserve for response
/// bodies.
const FILL_BUDGET: usize = 64 * 1024 * 1024;

/// The memory budget for the response bodies that fills receive. Clones share one budget.
#[derive(Debug, Clone, Default)]
pub(super) struct FillBudget(Arc<AtomicUsize>);

impl FillBudget {
    /// Returns the number of bytes that are reserved now.
    pub(super) fn reserved(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Reserves bytes. Returns `None` if the budget has too few bytes left.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }
}

/// Bytes reserved from the fill budget. Dropping the reservation returns the bytes to the budget.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: FillBudget,
    bytes: usize,
}

impl Reservation {
    /// Reserves more bytes. If the budget has too few bytes left, `grow` reserves none and returns
    /// `false`.
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let reserved = &self.budget.0;
        let result = reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| {
            bytes.checked_add(more).filter(|&sum| sum <= FILL_BUDGET)
        });
        if result.is_ok() {
            self.bytes += more;
        }
        result.is_ok()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The number of writes to the store that are in progress. A write may continue after its request
/// has ended, so a limit on requests would not limit the writes.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenWrites(Arc<AtomicUsize>);

impl OpenWrites {
    /// Permits one more write. Returns `None` if `limit` writes are in progress.
    pub(super) fn try_begin(&self, limit: usize) -> Option<WritePermit> {
        let admitted = self.0.fetch_add(1, Ordering::Relaxed) < limit;
        // The permit is made even if the write is not admitted, because dropping the permit undoes
        // the addition.
        let permit = WritePermit(self.clone());
        admitted.then_some(permit)
    }
}

/// A permit for one write to the store. The permit is dropped when the write has ended.
#[derive(Debug)]
pub(crate) struct WritePermit(OpenWrites);

impl Drop for WritePermit {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_budget_is_shared_and_returned_on_drop() {
        let budget = FillBudget::default();
        let mut one = budget.reserve(FILL_BUDGET / 2).unwrap();
        let two = budget.clone().reserve(FILL_BUDGET / 2).unwrap();
        assert!(budget.reserve(1).is_none() && !one.grow(1));
        drop(two);
        assert!(one.grow(1));
        drop(one);
        assert_eq!(budget.reserved(), 0);
    }

    #[test]
    fn writes_that_outlive_requests_are_limited() {
        let writes = OpenWrites::default();
        let one = writes.try_begin(1);
        assert!(one.is_some() && writes.try_begin(1).is_none());
        drop(one);
        assert!(writes.try_begin(1).is_some());
    }
}
