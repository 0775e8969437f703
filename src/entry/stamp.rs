//! Stamps, by which a store orders fills and invalidations.
//!
//! A fill is one call of a handler whose response may be stored. An invalidation is a purge or an
//! expiry (soft purge). The logical time of a store is a number that grows with each invalidation.
//! A stamp is one reading of the logical time.

/// A reading of the logical time of a store. The logical time is a number that grows with each
/// invalidation (purge or soft purge).
///
/// A fill (one call of a handler whose response may be stored) carries the stamp that was read
/// before the handler ran. An invalidation increases the logical time of the store. The stamp of
/// the invalidation is therefore later than every stamp that the store returned before. A response
/// is valid while no invalidation of one of its tags is later than the stamp of the response. If a
/// fill began before a purge of one of its tags, its response is never served after that purge,
/// even if the response reaches the store after the purge.
///
/// A store that only one process uses takes stamps from
/// [`Coordinator::stamp`](crate::store::Coordinator::stamp). A store that several processes share
/// makes its own stamps, from a number that grows with each invalidation
/// ([`Coordinator::record_remote`](crate::store::Coordinator::record_remote)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(u64);

impl Stamp {
    /// The first stamp. Every invalidation has a later stamp.
    pub const ZERO: Self = Self(0);

    /// Makes a stamp from the number that a store keeps. A larger number is a later stamp.
    #[must_use]
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Returns the number of the stamp, for stores that write stamps to disk or to the network.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}
