//! The trait of a far store: the store behind the memory of a tiered store.

use std::time::Duration;

use crate::store::interface::Store;

/// A store that several processes share, and that can be behind the memory of a
/// [`TieredStore`](crate::TieredStore).
///
/// A process can tell whether a response in its memory is still valid only if the process knows the
/// invalidations (purges and expiries) that other processes made. A far store learns these
/// invalidations with each lookup, and reports them to
/// [`Coordinator::record_remote`](crate::store::Coordinator::record_remote). But a hit in memory
/// makes no lookup in the far store. So the far store must also learn invalidations in the
/// background. [`is_current`](Self::is_current) returns whether the known invalidations are recent
/// enough.
///
/// [`invalidate`](Store::invalidate) of a far store must record the invalidation in the coordinator
/// of the store before the call returns, even if the server that the processes share cannot be
/// reached. The invalidation then applies to the responses in the memory of this process.
pub trait FarStore: Store {
    /// Starts to learn the invalidations of other processes in the background, at least once in
    /// `interval`.
    ///
    /// The builder of the tiered store calls this method once, possibly outside of a tokio runtime.
    /// The method must not block. The background work must end when the last clone of the store is
    /// dropped.
    fn keep_current(&self, interval: Duration);

    /// Returns whether this process knows all invalidations that were made more than `max_age` ago.
    ///
    /// The tiered store calls this method for each lookup, so the method must not block. If the
    /// method returns `false`, the tiered store reads the response from the far store instead of
    /// from memory.
    fn is_current(&self, max_age: Duration) -> bool;
}
