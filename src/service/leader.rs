//! The steps of a leader before it calls the handler: a second lookup if needed, and a lease if the
//! store grants leases.
//!
//! A leader is the request for whose response other requests (the followers) wait. A lease permits
//! one process to call the handler, while the other processes that share the store wait.

use std::pin::Pin;

use actix_web::{body::MessageBody, dev::ServiceRequest, rt::time::Sleep};

use super::{
    after_wait::Next,
    context::{OriginRequest, RequestContext},
};
use crate::{coordination::leader::Leader, outcome::Forward};

impl RequestContext {
    /// Returns whether a further lookup may find a response that the latest lookup of the request did
    /// not find: another leader has stored a response since, perhaps for the same key.
    pub(super) fn may_find_response(&self, origin: &OriginRequest) -> bool {
        self.shared.store.coordinator().stored_count() != origin.cache_request.stored_count
    }

    /// Returns the next step of a leader. `lease_deadline` ends the wait for other processes. It is
    /// present if the store grants leases.
    pub(super) async fn lead<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        origin: Box<OriginRequest>,
        leader: Leader,
        lease_deadline: Option<&mut Pin<Box<Sleep>>>,
    ) -> Next<B> {
        let (origin, leader) = if self.may_find_response(&origin) {
            match self.lookup_before_fetch(request, *origin, leader).await {
                Next::Fetch(origin, Some(leader)) => (origin, leader),
                next @ (Next::Respond(..) | Next::Fetch(..) | Next::Bypass(_) | Next::Retry(_)) => {
                    return next;
                }
            }
        } else {
            (origin, leader)
        };
        match lease_deadline {
            // This large future is in a box, because most stores grant no leases and do not need
            // it.
            // If responses hold too many bodies in this process, no process can help.
            Some(deadline) if !matches!(origin.reason, Forward::Bypass(_)) => {
                Box::pin(self.wait_for_lease(request, origin, leader, deadline)).await
            }
            Some(_) | None => Next::Fetch(origin, Some(leader)),
        }
    }
}
