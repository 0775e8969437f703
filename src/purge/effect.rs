//! The difference between purging and expiring.

use crate::{
    clock::Timestamp,
    entry::{invalidation::Invalidation, tag::TagId},
};

/// The effect of an invalidation on the responses that it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// They are never served again.
    Purge,
    /// They are stale from then on.
    Expire { since: Timestamp },
}

impl Effect {
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::Expire { .. } => "expire",
        }
    }

    pub(super) const fn on_all(self) -> Invalidation {
        match self {
            Self::Purge => Invalidation::PurgeAll,
            Self::Expire { since } => Invalidation::ExpireAll { since },
        }
    }

    pub(super) const fn on_tags(self, tags: Vec<TagId>) -> Invalidation {
        match self {
            Self::Purge => Invalidation::PurgeTags(tags),
            Self::Expire { since } => Invalidation::ExpireTags { tags, since },
        }
    }
}
