//! The leader of a flight. A flight is one handler call whose response several requests may share.
//! Its leader is the request that calls the handler, and its followers are the requests that wait
//! for the response.

use actix_web::http::header::HeaderName;
use bytes::Bytes;

use super::{
    coordinator::Coordinator,
    flights::{FlightEnd, FlightLeader, ResponseInProgress},
    lease::{LeaseEnd, LeaseGuard},
};
use crate::{clock::Timestamp, entry::key::CacheKey};

/// The leader of a flight: a request that calls the handler, while followers may wait for its
/// response.
///
/// Dropping the leader ends the flight. Followers then receive the [`FlightEnd`] that
/// [`set_end_on_drop`](Self::set_end_on_drop) set last. The default is [`FlightEnd::Abandoned`].
pub(crate) struct Leader {
    flight: FlightLeader,
    /// The lease that the store granted, if any. While the leader holds a lease, requests in other
    /// processes also wait for its response.
    lease: Option<LeaseGuard>,
}

impl Leader {
    pub(crate) const fn new(flight: FlightLeader) -> Self {
        Self { flight, lease: None }
    }

    /// Sets the [`FlightEnd`] that followers receive if the leader is dropped before its response
    /// is stored.
    pub(crate) const fn set_end_on_drop(&mut self, end: FlightEnd) {
        self.flight.set_end_on_drop(end);
    }

    /// Sends the head of the response to the followers. From then on, followers can read the body
    /// while it arrives from the handler.
    pub(crate) fn publish_head(&self, response: ResponseInProgress) {
        self.flight.publish_head(response);
    }

    /// Ends the wait of the followers, because the handler takes too long. The leader continues to
    /// wait.
    pub(crate) fn release_followers(&self) {
        self.flight.release_followers();
    }

    pub(crate) fn has_followers(&self) -> bool {
        self.flight.has_followers()
    }

    /// Ends the flight and the lease, because the response is stored. `body` is the body of the
    /// response, if this flight has stored it.
    pub(crate) fn finish_stored(self, body: Option<Bytes>) {
        if let Some(lease) = self.lease {
            lease.end(LeaseEnd::Stored);
        }
        self.flight.stored(body);
    }

    /// Marks the cache key as hit-for-miss for requests with the leader's collapse key, because the
    /// response cannot be stored. For some seconds, such requests do not wait for each other. If
    /// the leader holds a lease, this applies to all processes that share the store.
    pub(crate) fn mark_hit_for_miss(
        &mut self,
        coordinator: &Coordinator,
        key: &CacheKey,
        now: Timestamp,
    ) {
        coordinator.mark_hit_for_miss(key, self.flight.collapse_key(), now);
        if let Some(lease) = self.lease.take() {
            lease.end(LeaseEnd::Unstorable);
        }
    }

    /// Keeps a lease until the flight ends. While the leader holds the lease, requests in other
    /// processes wait for its response.
    pub(crate) fn hold_lease(&mut self, lease: LeaseGuard) {
        self.lease = Some(lease);
    }

    pub(crate) fn collapse_key(&self) -> &[u8] {
        self.flight.collapse_key()
    }

    /// Returns whether one of the `selecting_fields` is not part of the collapse key. Selecting
    /// fields are the request fields that choose the variant. If the collapse key lacks one,
    /// followers of this flight may select other variants than the leader.
    pub(crate) fn ignores_any_of(&self, selecting_fields: &[HeaderName]) -> bool {
        !selecting_fields.iter().all(|name| self.flight.compared_fields().contains(name))
    }
}
