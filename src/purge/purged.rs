//! Results of purges.

use std::fmt;

/// The result of a purge or an expiry that was carried out.
///
/// A response that was made before the purge and that the purge reaches is never served as fresh
/// afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// The number of stored responses, where they were looked up one by one: for a URL or a
    /// variant.
    ///
    /// `None` for an invalidation that the store records without looking at the responses it
    /// reaches: by tag, group or prefix, of everything, or of a URL with several cache keys.
    pub responses: Option<usize>,
}

impl Purged {
    /// The result of an invalidation that was recorded.
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
