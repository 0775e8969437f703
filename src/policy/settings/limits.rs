//! Settings of a policy: limits of time and size.

use std::time::Duration;

use super::Policy;

impl Policy {
    /// Sets how long a request waits for its handler, or for the response to another request.
    ///
    /// A follower, which is a request that waits for the response to another request, calls the
    /// handler itself after this time. A request whose handler is slow gets a stale response after
    /// this time if [`stale_if_error`](Self::stale_if_error) allows it, and waits on otherwise.
    ///
    /// Default: 5 s, because most handlers answer within this time and few clients wait longer. The
    /// limit must not be zero.
    pub fn wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = limit;
        self
    }

    /// Sets how long a background refresh may take, including the response body.
    ///
    /// Default: 30 s. The cache drops a refresh that takes longer, and a later request starts
    /// another refresh. The limit must not be zero.
    pub fn background_limit(mut self, limit: Duration) -> Self {
        self.background_limit = limit;
        self
    }

    /// Sets how long the cache continues to read a response body from the handler after all clients
    /// that wait for the body have disconnected.
    ///
    /// Default: 30 s. The cache stores a body that ends within this time, and drops a body that
    /// does not. A body of unknown length is dropped as soon as no client waits for it, because it
    /// may never end. The limit must not be zero.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.drain_limit = limit;
        self
    }

    /// Sets the size of the largest body that is stored, in bytes.
    ///
    /// Default: 2 MiB. A larger body reaches its client unchanged and is not stored. The size must
    /// not be zero. The limit of the store applies as well: a [`MemoryStore`](crate::MemoryStore)
    /// stores no body of more than an eighth of its size.
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.max_body_size = bytes;
        self
    }
}
