//! What an invalidation reaches, and whether it purges or expires.

use crate::{clock::Timestamp, entry::tag::TagId};

/// What to invalidate: of what began before, everything or what has certain tags. Tags are those that
/// a response carries, and those that its key and its variant imply; [`Coordinator::is_valid`] knows
/// both.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalidation {
    /// Everything is gone.
    PurgeAll,
    /// Whatever has one of these tags is gone.
    PurgeTags(Vec<TagId>),
    /// Everything is stale.
    ExpireAll {
        /// From when on.
        since: Timestamp,
    },
    /// Whatever has one of these tags is stale.
    ExpireTags {
        /// The tags.
        tags: Vec<TagId>,
        /// From when on.
        since: Timestamp,
    },
}
