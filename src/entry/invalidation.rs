//! The scope and the effect of an invalidation.

use crate::{clock::Timestamp, entry::tag::TagId};

/// An invalidation: which responses it applies to, and whether it purges or expires them.
///
/// An invalidation applies to every response whose fill began before it and that has one of the
/// tags. A response has the tags that it carries, and the tags that its key and its variant imply.
/// [`Coordinator::is_valid`](crate::store::Coordinator::is_valid) checks both.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalidation {
    /// Purges every response.
    PurgeAll,
    /// Purges responses that have one of these tags.
    PurgeTags(Vec<TagId>),
    /// Expires every response (a soft purge): it is stale and must be validated before reuse.
    ExpireAll {
        /// The time from which responses are stale.
        since: Timestamp,
    },
    /// Expires responses that have one of these tags.
    ExpireTags {
        /// The tags of the responses.
        tags: Vec<TagId>,
        /// The time from which responses are stale.
        since: Timestamp,
    },
}
