//! Invalidations: purges, and expiries (soft purges).

use crate::{clock::Timestamp, entry::tag::TagId};

/// A purge or an expiry of stored responses.
///
/// An invalidation applies to a response if the call of the handler that made the response began
/// before the invalidation. Unless the invalidation is for all responses, the response must also
/// have one of the tags that the invalidation names. Some tags are stored with the response, and
/// others follow from its key and its variant.
/// [`Coordinator::is_valid`](crate::store::Coordinator::is_valid) checks both kinds of tags.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalidation {
    /// Purges every response.
    PurgeAll,
    /// Purges the responses that have at least one of these tags.
    PurgeTags(Vec<TagId>),
    /// Expires every response (soft purge). An expired response is stale: the cache validates it
    /// before reuse, unless the response, the client or the policy allows the cache to serve it
    /// stale.
    ExpireAll {
        /// The time since which the responses are stale.
        since: Timestamp,
    },
    /// Expires the responses that have at least one of these tags.
    ExpireTags {
        /// The tags. Responses with at least one of them are expired.
        tags: Vec<TagId>,
        /// The time since which the responses are stale.
        since: Timestamp,
    },
}
