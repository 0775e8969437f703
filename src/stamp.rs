//! Logical time of a store: what orders fills and invalidations.

/// A store's logical time.
///
/// A fill carries the stamp that was current before its handler ran. An invalidation has a stamp
/// of its own, younger than every one handed out before it. A response is valid only while no
/// invalidation of anything it carries is younger than its stamp; so whatever began before a
/// purge is never served after it, in whichever order the two reach the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// Before every invalidation.
    pub const ZERO: Self = Self(0);

    /// A stamp from a store's own clock. Later stamps are larger numbers.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number, for stores that write stamps down.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}
