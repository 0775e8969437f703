//! The two effects of an invalidation: a purge makes responses unusable, and an expiry makes
//! responses stale.

use crate::{
    clock::Timestamp,
    entry::{invalidation::Invalidation, tag::TagId},
    purge_event::PurgeAction,
};

/// The effect of an invalidation on the stored responses that it applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// The responses are never served again.
    Purge,
    /// The responses are stale from the time `since` on.
    Expire { since: Timestamp },
}

impl Effect {
    pub(super) const fn verb(self) -> &'static str {
        match self {
            Self::Purge => "purge",
            Self::Expire { .. } => "expire",
        }
    }

    pub(super) const fn action(self) -> PurgeAction {
        match self {
            Self::Purge => PurgeAction::Purge,
            Self::Expire { .. } => PurgeAction::Expire,
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
