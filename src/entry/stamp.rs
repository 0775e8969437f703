//! The logical time of a store, which orders fills and invalidations.

/// A logical time of a store.
///
/// A fill carries the stamp that was current before its handler ran. An invalidation moves the
/// store's time on and gets a stamp that is later than every stamp handed out before it. A response
/// is valid only while no invalidation of one of its tags is later than its stamp. A response whose
/// fill began before a purge is therefore never served after that purge, in whichever order the two
/// reach the store.
///
/// Stores within one process take stamps from
/// [`Coordinator::stamp`](crate::store::Coordinator::stamp). A store that several processes share
/// makes stamps of its own: any number that grows with each invalidation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// The stamp before every invalidation.
    pub const ZERO: Self = Self(0);

    /// Makes a stamp from the number that a store keeps. Later stamps are larger numbers.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// The number of the stamp, for stores that write stamps down.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}
