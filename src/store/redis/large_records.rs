//! The cache keys whose stored responses are large, as far as this process has seen. A lookup of such
//! a key uses a connection of its own, so that no other lookup waits for the transfer of the response.

use std::sync::atomic::{AtomicU64, Ordering};

/// The size in bytes of a reply above which other lookups should not wait for its transfer.
const LARGE: usize = 64 * 1024;

/// The number of keys that a process remembers. Keys with equal places replace each other.
const PLACES: usize = 4096;

/// The digests of cache keys whose replies were large. A key that is forgotten costs other lookups the
/// wait for one transfer.
pub(super) struct LargeRecords(Box<[AtomicU64]>);

impl Default for LargeRecords {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl LargeRecords {
    /// Returns whether the latest reply for a key was large.
    pub(super) fn contains(&self, digest: u64) -> bool {
        self.place(digest).is_some_and(|place| place.load(Ordering::Relaxed) == digest)
    }

    /// Remembers whether a reply for a key is large.
    pub(super) fn note(&self, digest: u64, bytes: usize) {
        let is_known = self.contains(digest);
        if is_known == (bytes > LARGE) {
            return;
        }
        if let Some(place) = self.place(digest) {
            place.store(if is_known { 0 } else { digest }, Ordering::Relaxed);
        }
    }

    fn place(&self, digest: u64) -> Option<&AtomicU64> {
        self.0.get(digest as usize % PLACES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_of_the_latest_reply_decides() {
        let records = LargeRecords::default();
        let neighbor = 7 + PLACES as u64;
        records.note(7, LARGE);
        assert!(!records.contains(7));
        records.note(7, LARGE + 1);
        assert!(records.contains(7) && !records.contains(neighbor));
        records.note(neighbor, LARGE);
        assert!(records.contains(7), "a small neighbor changes nothing");
        records.note(neighbor, LARGE + 1);
        assert!(records.contains(neighbor) && !records.contains(7));
        records.note(neighbor, 0);
        assert!(!records.contains(neighbor));
    }
}
