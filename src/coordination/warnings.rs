//! Limits on how often a warning is logged.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::clock::Timestamp;

/// The shortest time between two warnings about a failing store.
const STORE_WARNING_INTERVAL: Duration = Duration::from_secs(30);

/// The warnings that the caches over one store have logged.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    last_store_warning: Mutex<Option<Timestamp>>,
    pub(super) encoding: WarningOnce,
    pub(super) rewritten_paths: WarningOnce,
}

impl Warnings {
    /// Returns whether a warning about a failing store is due. Returns `true` at most once in an
    /// interval.
    pub(super) fn is_store_warning_due(&self, now: Timestamp) -> bool {
        let mut last = self.last_store_warning.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.since(last) >= STORE_WARNING_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }
}

/// A warning that is logged once.
#[derive(Debug, Default)]
pub(super) struct WarningOnce(AtomicBool);

impl WarningOnce {
    /// Returns `true` only at the first call.
    pub(super) fn is_due(&self) -> bool {
        !self.0.swap(true, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::fixtures::at;

    #[test]
    fn store_warning_is_due_at_most_once_an_interval() {
        let warnings = Warnings::default();
        let due = [0, 1, 29, 30, 31].map(|second| warnings.is_store_warning_due(at(second)));
        assert_eq!(due, [true, false, false, true, false]);
    }

    #[test]
    fn other_warning_is_due_once() {
        let warnings = Warnings::default();
        assert_eq!([(); 2].map(|()| warnings.encoding.is_due()), [true, false]);
        assert!(warnings.rewritten_paths.is_due(), "each warning has its own count");
    }
}
