//! Limits on resources that all requests of a process share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The most bytes of bodies that fills hold at once.
const FILL_BUDGET: usize = 64 * 1024 * 1024;

/// The bytes of bodies that fills hold.
#[derive(Debug, Clone, Default)]
pub(super) struct FillBudget(Arc<AtomicUsize>);

impl FillBudget {
    /// The bytes that are reserved.
    pub(super) fn reserved(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Reserves bytes; `None` if the budget does not have them.
    pub(super) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }
}

/// Reserved bytes of the fill budget, returned to it on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: FillBudget,
    bytes: usize,
}

impl Reservation {
    /// Reserves more bytes. Returns `false` and changes nothing if the budget does not have them.
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

/// The number of writes to the store that outlive their request.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenWrites(Arc<AtomicUsize>);

impl OpenWrites {
    /// Begins a write; `None` if `limit` writes are open.
    pub(super) fn try_begin(&self, limit: usize) -> Option<WritePermit> {
        let admitted = self.0.fetch_add(1, Ordering::Relaxed) < limit;
        // The permit is made before the check: dropping it undoes the addition.
        let permit = WritePermit(self.clone());
        admitted.then_some(permit)
    }
}

/// Permits one write that outlives its request.
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
