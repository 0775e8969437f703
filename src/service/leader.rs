//! The steps of a leader before it calls the handler: a second lookup if needed, and a lease if the
//! store grants leases.
//!
//! A leader is the request for whose response other requests (the followers) wait. A lease permits
//! one process to call the handler, while the other processes that share the store wait.

use std::pin::Pin;

use actix_web::{dev::ServiceRequest, rt::time::Sleep};

use super::{
    after_wait::Next,
    context::{OriginRequest, RequestContext},
};
use crate::{coordination::leader::Leader, outcome::Forward};

impl RequestContext {
    /// Returns the next step of a leader. `lease_deadline` ends the wait for other processes. It is
    /// present if the store grants leases.
    pub(super) async fn lead<B>(
        &self,
        request: &ServiceRequest,
        origin: Box<OriginRequest>,
        leader: Leader,
        lease_deadline: Option<&mut Pin<Box<Sleep>>>,
    ) -> Next<B> {
        let stored_count = self.shared.store.coordinator().stored_count();
        let (origin, leader) = if stored_count == origin.cache_request.stored_count {
            (origin, leader)
        } else {
            // Another leader has stored a response, perhaps for this key, since the lookup of this
            // request.
            let next = Box::pin(self.lookup_before_fetch(request, *origin, leader)).await;
            match next {
                Next::Fetch(origin, Some(leader)) => (origin, leader),
                next @ (Next::Respond(..) | Next::Fetch(..) | Next::Bypass(_) | Next::Retry(_)) => {
                    return next;
                }
            }
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
