//! With the feature `session`, the cache reads the [`Session`](actix_session::Session) of a request
//! before and after the call of the handler.

use std::collections::HashMap;

use actix_session::{SessionExt as _, SessionStatus};
use actix_web::{HttpRequest, dev::ServiceRequest};

use crate::semantics::requester::Sharing;

/// The entries of the session of a request before its handler is called.
pub(crate) struct SessionBefore(HashMap<String, String>);

impl SessionBefore {
    /// Reads the session of a request. A request without a session has no entries.
    pub(crate) fn of(request: &ServiceRequest) -> Self {
        Self(request.get_session().entries().clone())
    }

    /// Returns whether the response to the request must not be stored. A response for one person may
    /// depend on the session of this person, but the session must not have changed.
    pub(crate) fn forbids_storing(&self, request: &HttpRequest, sharing: &Sharing) -> bool {
        let session = request.get_session();
        let entries = session.entries();
        if session.status() != SessionStatus::Unchanged {
            return true;
        }
        match sharing {
            Sharing::Everybody | Sharing::Authorized => !self.0.is_empty() || !entries.is_empty(),
            Sharing::User(_) => self.0 != *entries,
        }
    }
}

/// Returns whether the request has a session with entries.
pub(crate) fn has_entries(request: &ServiceRequest) -> bool {
    !request.get_session().entries().is_empty()
}
