//! The leader of a collapsed request: the one request that calls the handler for its followers.

use actix_web::http::header::HeaderName;

use super::{
    coordinator::Coordinator,
    flights::{FlightEnd, FlightLeader, ResponseInProgress},
    lease::{LeaseEnd, LeaseGuard},
};
use crate::{clock::Timestamp, entry::key::CacheKey};

/// The values that requests for one cache key must have in common to share a response.
#[derive(Debug)]
pub(crate) struct CollapseKey {
    /// The encoded values that must be equal.
    text: Box<[u8]>,
    /// The request fields whose values are part of `text`.
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

/// A request that calls the handler while followers may wait for its response.
///
/// Dropping it ends the flight: followers learn the end that was set last, by default that the
/// leader went away without a response.
pub(crate) struct Leader {
    flight: FlightLeader,
    collapse_key: CollapseKey,
    /// Held while requests in other processes wait as well.
    lease: Option<LeaseGuard>,
}

impl Leader {
    pub(crate) const fn new(flight: FlightLeader, collapse_key: CollapseKey) -> Self {
        Self { flight, collapse_key, lease: None }
    }

    /// The end that followers learn unless the response is stored.
    pub(crate) const fn set_end_on_drop(&mut self, end: FlightEnd) {
        self.flight.set_end_on_drop(end);
    }

    /// Lets followers read the body while it is received.
    pub(crate) fn publish_head(&self, response: ResponseInProgress) {
        self.flight.publish_head(response);
    }

    /// Lets followers call the handler themselves: the response takes too long.
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

    /// Remembers for a while that responses to such requests cannot be stored, so that later requests
    /// do not wait for each other, in any process (hit-for-miss).
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

    /// Keeps a lease until the flight ends: from now on requests in other processes wait, too.
    pub(crate) fn hold_lease(&mut self, lease: LeaseGuard) {
        self.lease = Some(lease);
    }

    pub(crate) fn collapse_key(&self) -> &[u8] {
        self.collapse_key.as_bytes()
    }

    /// Whether a field in `selecting_fields` is not part of the collapse key: then this flight's
    /// requests may turn out to want different variants.
    pub(crate) fn ignores_any_of(&self, selecting_fields: &[HeaderName]) -> bool {
        !selecting_fields.iter().all(|name| self.collapse_key.fields.contains(name))
    }
}
