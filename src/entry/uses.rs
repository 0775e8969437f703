//! Counts how often a stored response was used, for the choice of the variant that is dropped.

use std::sync::atomic::{AtomicU8, Ordering};

/// The largest count. A response with this count is only read, so that the threads of the process
/// do not write the same memory at each hit.
const MAX: u8 = 15;

/// The number of recent uses of a stored response, from 0 to 15.
#[derive(Debug, Default)]
pub(crate) struct Uses(AtomicU8);

impl Uses {
    /// Counts a use. Two uses at the same time may count as one.
    pub(crate) fn add(&self) {
        let uses = self.get();
        if uses < MAX {
            self.0.store(uses + 1, Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes over the uses of the response that a new response replaces.
    pub(crate) fn take_over(&self, replaced: &Self) {
        self.0.store(self.get().max(replaced.get()), Ordering::Relaxed);
    }

    /// Halves the count, so that earlier uses count less than later ones.
    pub(crate) fn halve(&self) {
        self.0.store(self.get() / 2, Ordering::Relaxed);
    }
}

impl Clone for Uses {
    fn clone(&self) -> Self {
        Self(AtomicU8::new(self.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_counted_up_to_a_bound_and_halved() {
        let uses = Uses::default();
        for want in [1, 2, 3] {
            uses.add();
            assert_eq!(uses.get(), want);
        }
        for _ in 0..300 {
            uses.add();
        }
        assert_eq!(uses.get(), MAX);
        uses.halve();
        assert_eq!((uses.get(), uses.clone().get()), (7, 7));
        let newer = Uses::default();
        newer.take_over(&uses);
        newer.take_over(&Uses::default());
        assert_eq!(newer.get(), 7);
    }
}
