//! Without the feature `session`, the cache knows no sessions.

use actix_web::{HttpRequest, dev::ServiceRequest};

use crate::semantics::requester::Sharing;

/// The session of a request before its handler is called.
pub(crate) struct SessionBefore;

impl SessionBefore {
    pub(crate) const fn of(_: &ServiceRequest) -> Self {
        Self
    }

    #[expect(clippy::unused_self, reason = "the session has no state without the feature")]
    pub(crate) const fn forbids_storing(&self, _: &HttpRequest, _: &Sharing) -> bool {
        false
    }
}

/// Returns whether the request has a session with entries.
pub(crate) const fn has_entries(_: &ServiceRequest) -> bool {
    false
}
