//! Leading a flight: the last checks before a leader calls the handler.

use std::pin::Pin;

use actix_web::{dev::ServiceRequest, rt::time::Sleep};

use super::{
    context::{OriginRequest, RequestContext},
    next_step::Next,
};
use crate::coordination::leader::Leader;

impl RequestContext {
    /// The next step of a leader. `lease_deadline` is present if the store gives out leases.
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
            // Another leader has stored a response since this request's lookup.
            match self.lookup_before_fetch(request, *origin, leader).await {
                Next::Fetch(origin, Some(leader)) => (origin, leader),
                next @ (Next::Respond(..) | Next::Fetch(..) | Next::Bypass(_) | Next::Retry(_)) => {
                    return next;
                }
            }
        };
        match lease_deadline {
            // In an allocation of its own, for its size: most stores give out no leases.
            Some(deadline) => {
                Box::pin(self.wait_for_lease(request, origin, leader, deadline)).await
            }
            None => Next::Fetch(origin, Some(leader)),
        }
    }
}
