//! The event by which the application learns of a purge or an expiry.

use std::borrow::Cow;

use crate::semantics::tags::encode_tag;

/// A purge or an expiry (soft purge) that this process has carried out.
///
/// [`CacheBuilder::on_purge`](crate::CacheBuilder::on_purge) describes the events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct PurgeEvent {
    /// The [namespace](crate::CacheBuilder::namespace) of the cache.
    pub namespace: String,
    /// Whether the responses were purged or expired.
    pub action: PurgeAction,
    /// The code or the request that led to the purge.
    pub cause: PurgeCause,
    /// Whether the store has confirmed the purge.
    pub state: PurgeState,
    /// The stored responses that were purged or expired.
    pub scope: PurgeScope,
}

impl PurgeEvent {
    /// Returns the purged tags as [`Policy::emit_tags`](crate::Policy::emit_tags) writes them into
    /// response fields. The result is empty if something else than tags was purged.
    pub fn emitted_tags(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let tags = match &self.scope {
            PurgeScope::Tags(tags) => &**tags,
            PurgeScope::All
            | PurgeScope::Url { .. }
            | PurgeScope::Variant { .. }
            | PurgeScope::Path { .. }
            | PurgeScope::Prefix { .. }
            | PurgeScope::User(_)
            | PurgeScope::Group { .. } => &[],
        };
        tags.iter().map(|tag| encode_tag(tag))
    }
}

/// The effect on the responses of a [`PurgeEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PurgeAction {
    /// The cache never serves the responses again.
    Purge,
    /// The responses are stale from then on (soft purge).
    Expire,
}

/// The cause of a [`PurgeEvent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PurgeCause {
    /// The application called a method of [`CacheHandle`](crate::CacheHandle).
    Handle,
    /// An unsafe request, such as a `POST`, succeeded (RFC 9111 section 4.4, RFC 9875).
    Request,
}

/// The state of a [`PurgeEvent`] in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PurgeState {
    /// The store has confirmed the purge.
    Confirmed,
    /// The store failed, and repeats the purge by itself
    /// ([`PurgeError::Queued`](crate::PurgeError::Queued)). Until then, other processes may serve the
    /// responses, and a CDN that fetches from them may get the old ones. No second event follows.
    Queued,
}

/// The responses of a [`PurgeEvent`].
///
/// A host is in the form of the `Host` field. `None` stands for all hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PurgeScope {
    /// All responses in the store, in all namespaces.
    All,
    /// All variants of a URL, for `http` and `https`.
    #[non_exhaustive]
    Url {
        /// The host.
        host: Option<String>,
        /// The path with its query, such as `/path?query`.
        path_and_query: String,
    },
    /// The variant of a URL that a request with these fields selects.
    #[non_exhaustive]
    Variant {
        /// The host.
        host: Option<String>,
        /// The path with its query, such as `/path?query`.
        path_and_query: String,
        /// The names and values of the request fields.
        fields: Vec<(String, String)>,
    },
    /// One path with every query.
    #[non_exhaustive]
    Path {
        /// The host.
        host: Option<String>,
        /// The path.
        path: String,
    },
    /// A path and all paths below it, with any query.
    #[non_exhaustive]
    Prefix {
        /// The host.
        host: Option<String>,
        /// The path.
        path: String,
    },
    /// The responses that have at least one of these tags.
    Tags(Vec<String>),
    /// The responses that are kept for the person with this id. A CDN has none of them, because they
    /// are `private`.
    User(String),
    /// The responses of a group on one host (RFC 9875).
    #[non_exhaustive]
    Group {
        /// The host.
        host: String,
        /// The name of the group.
        group: String,
    },
}
