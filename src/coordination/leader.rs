//! The leader of a flight: the one request that calls the handler, while other requests (followers)
//! wait for its response.

use actix_web::http::header::HeaderName;

use super::{
    coordinator::Coordinator,
    flights::{FlightEnd, FlightLeader, ResponseInProgress},
    lease::{LeaseEnd, LeaseGuard},
};
use crate::{clock::Timestamp, entry::key::CacheKey};

/// The values that must be equal in two requests with one cache key, so that the requests may share
/// a response.
#[derive(Debug)]
pub(crate) struct CollapseKey {
    /// The encoded values.
    text: Box<[u8]>,
    /// The names of the request fields whose values are in `text`.
    fields: Box<[HeaderName]>,
}

impl CollapseKey {
    pub(crate) const fn new(text: Box<[u8]>, fields: Box<[HeaderName]>) -> Self {
        Self { text, fields }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

/// The leader of a flight: a request that calls the handler, while followers may wait for its
/// response.
///
/// Dropping the leader ends the flight. Followers learn the end that
/// [`set_end_on_drop`](Self::set_end_on_drop) set last. The default is that the leader left before
/// there was a response.
pub(crate) struct Leader {
    flight: FlightLeader,
    collapse_key: CollapseKey,
    /// The lease of the store, which lets requests in other processes wait for this leader, too.
    lease: Option<LeaseGuard>,
}

impl Leader {
    pub(crate) const fn new(flight: FlightLeader, collapse_key: CollapseKey) -> Self {
        Self { flight, collapse_key, lease: None }
    }

    /// Sets the end that followers learn if the response is not stored.
    pub(crate) const fn set_end_on_drop(&mut self, end: FlightEnd) {
        self.flight.set_end_on_drop(end);
    }

    /// Sends followers the head of the response. From then on, they read the body while it arrives.
    pub(crate) fn publish_head(&self, response: ResponseInProgress) {
        self.flight.publish_head(response);
    }

    /// Lets followers call the handler themselves, because the handler takes too long.
    pub(crate) fn release_followers(&self) {
        self.flight.release_followers();
    }

    pub(crate) fn has_followers(&self) -> bool {
        self.flight.has_followers()
    }

    /// Ends the flight with a stored response.
    pub(crate) fn finish_stored(self) {
        if let Some(lease) = self.lease {
            lease.end(LeaseEnd::Stored);
        }
        self.flight.stored();
    }

    /// Marks the key as hit-for-miss for this collapse key, because the response cannot be stored.
    /// For some seconds, such requests do not wait for each other in any process.
    pub(crate) fn mark_hit_for_miss(
        &mut self,
        coordinator: &Coordinator,
        key: &CacheKey,
        now: Timestamp,
    ) {
        coordinator.mark_hit_for_miss(key, self.collapse_key.as_bytes(), now);
        if let Some(lease) = self.lease.take() {
            lease.end(LeaseEnd::Unstorable);
        }
    }

    /// Keeps a lease until the flight ends. The lease makes requests in other processes wait for
    /// this leader.
    pub(crate) fn hold_lease(&mut self, lease: LeaseGuard) {
        self.lease = Some(lease);
    }

    pub(crate) fn collapse_key(&self) -> &[u8] {
        self.collapse_key.as_bytes()
    }

    /// Whether `selecting_fields` contains a field that is not part of the collapse key. In that
    /// case, the followers of this flight may select other variants than the leader.
    pub(crate) fn ignores_any_of(&self, selecting_fields: &[HeaderName]) -> bool {
        !selecting_fields.iter().all(|name| self.collapse_key.fields.contains(name))
    }
}
