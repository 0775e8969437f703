//! The result of a purge or an expiry.

use std::fmt;

/// The result of a successful purge or expiry.
///
/// The target is the set of stored responses that the application purges or expires, such as those
/// of a URL or with a tag. A response is affected if the handler was called for it before the purge
/// or the expiry began. The cache no longer serves such a response after a purge. After an expiry,
/// the cache serves it only as a stale response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// The number of stored responses that were purged or expired, if the cache looked them up. The
    /// cache looks up responses to purge a URL, and to purge or expire one variant.
    ///
    /// `None` if the store recorded the invalidation without looking up responses. The store does
    /// so for these targets:
    ///
    /// * a tag, a group, a path with every query, a path prefix, all responses, or a URL on any host,
    /// * a variant of a URL whose cache keys have computed parts (`Policy::key_with`),
    /// * a URL with all its variants, if the responses are expired,
    /// * a variant, if it is expired while a handler makes a response for its cache key.
    pub responses: Option<usize>,
}

impl Purged {
    /// The result if the store recorded an invalidation without looking up responses.
    pub(super) const RECORDED: Self = Self { responses: None };

    pub(super) const fn counted(responses: usize) -> Self {
        Self { responses: Some(responses) }
    }
}

impl fmt::Display for Purged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.responses {
            Some(1) => f.write_str("1 stored response"),
            Some(responses) => write!(f, "{responses} stored responses"),
            None => f.write_str("all matching responses"),
        }
    }
}
