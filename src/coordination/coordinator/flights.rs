//! Methods of [`Coordinator`] for flights, and for responses that cannot be stored.

use super::Coordinator;
use crate::{
    clock::Timestamp,
    coordination::flights::{CollapseKey, FlightRole},
    entry::key::CacheKey,
};

/// Methods for flights and hit-for-miss.
impl Coordinator {
    /// Joins the open flight for a cache key and a collapse key, or opens one. Requests for one cache
    /// key with different collapse keys cannot share a response in progress.
    pub(crate) fn join(&self, key: &CacheKey, collapse_key: CollapseKey) -> FlightRole {
        self.0.flights.join(key, collapse_key)
    }

    /// Returns the number of flights that ended with a stored response. If the number has grown
    /// since a lookup, the store may have a response that this lookup did not find.
    pub(crate) fn stored_count(&self) -> u64 {
        self.0.flights.stored()
    }

    /// Marks a key as hit-for-miss because its response cannot be stored. For some seconds,
    /// requests with this key and collapse key do not wait for each other.
    pub(crate) fn mark_hit_for_miss(&self, key: &CacheKey, collapse_key: &[u8], now: Timestamp) {
        self.0.hits_for_miss.mark((key.as_bytes(), collapse_key), now);
    }

    /// Returns whether the key was marked as hit-for-miss within the last few seconds.
    pub(crate) fn is_hit_for_miss(
        &self,
        key: &CacheKey,
        collapse_key: &[u8],
        now: Timestamp,
    ) -> bool {
        self.0.hits_for_miss.is_marked((key.as_bytes(), collapse_key), now)
    }
}

/// Methods for responses that turned out to be too large.
impl Coordinator {
    /// Marks a key because its response is too large to be stored, which the cache noticed only
    /// while it received or stored the body. For some seconds, the cache does not try to store a
    /// response for the key.
    pub(crate) fn mark_too_large(&self, key: &CacheKey, now: Timestamp) {
        self.0.too_large.mark(key.as_bytes(), now);
    }

    /// Returns whether a response for the key was too large within the last few seconds.
    pub(crate) fn was_too_large(&self, key: &CacheKey, now: Timestamp) -> bool {
        self.0.too_large.is_marked(key.as_bytes(), now)
    }
}
