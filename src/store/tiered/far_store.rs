//! The requirements on a store behind the memory of a tiered store.

use std::time::Duration;

use crate::store::interface::Store;

/// A store shared by processes that can sit behind the memory of a
/// [`TieredStore`](crate::TieredStore).
///
/// Responses in memory are valid only if this process knows the invalidations of the others. A far
/// store learns them with each look-up
/// ([`Coordinator::record_remote`](crate::store::Coordinator::record_remote)).
/// As a hit in memory makes no look-up, the far store also has to learn them in the background, and to
/// say how current it is.
///
/// Its [`invalidate`](Store::invalidate) must record each invalidation in the coordinator of this
/// process before it returns, also if the shared server cannot be reached.
pub trait FarStore: Store {
    /// Starts to learn the invalidations of other processes in the background, at least once in
    /// `interval`.
    ///
    /// It is called once, when the tiered store is built, possibly without a runtime. It must not
    /// block, and the work must end when the last handle of the store is dropped.
    fn keep_current(&self, interval: Duration);

    /// Returns whether this process knows all invalidations that were made more than `max_age` ago.
    ///
    /// It is called for each look-up, so it must not block. The tiered store asks the far store for
    /// the response if this is `false`.
    fn is_current(&self, max_age: Duration) -> bool;
}
