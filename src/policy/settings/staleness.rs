//! Settings of a policy: the use of stale responses, and refreshes.

use std::time::Duration;

use super::Policy;

impl Policy {
    /// Sets how long a stale response without `stale-while-revalidate` is served while the cache
    /// refreshes it in the background (RFC 5861 section 3).
    ///
    /// Default: zero. The window does not apply to responses with `must-revalidate`,
    /// `proxy-revalidate`, `s-maxage` or `no-cache`.
    ///
    /// To refresh a response, the cache calls the handler with the client's own request. The cache
    /// removes the client's conditions from this request, and keeps the extensions that outer
    /// middlewares inserted. The `ServiceResponse` of the stale response contains a copy of the
    /// request. This copy has no extensions, so outer middlewares find none in it.
    ///
    /// A [personal request](Self#personal-requests) gets the stale response but does not start a
    /// refresh, because the refreshed response could contain data of its user.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.choices.windows.while_revalidate = window;
        self
    }

    /// Sets how long a stale response without `stale-if-error` is served if the handler fails (RFC
    /// 5861 section 4).
    ///
    /// Default: zero. A handler fails if it answers 500, 502, 503 or 504, returns an `Err` with
    /// such a status, or does not answer within [`wait_limit`](Self::wait_limit). A handler that
    /// exceeds this limit continues in the background, and the cache stores the response if the
    /// policy allows it.
    ///
    /// The window does not apply to responses with `must-revalidate`, `proxy-revalidate`,
    /// `s-maxage` or `no-cache`.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.choices.windows.if_error = window;
        self
    }

    /// Refreshes a stored response in the background if it is requested in the last `percent` of
    /// its lifetime.
    ///
    /// If clients request a response often, the cache thus replaces the response before it becomes
    /// stale.
    ///
    /// `percent` is from 1 to 99. Default: the cache refreshes no response before the end of its
    /// lifetime. [`stale_while_revalidate`](Self::stale_while_revalidate) describes how a refresh
    /// works.
    pub fn refresh_ahead(mut self, percent: u8) -> Self {
        self.refresh_ahead = Some(percent);
        self
    }

    /// Sets how long a response with `ETag` or `Last-Modified` is kept after its lifetime.
    ///
    /// The handler can revalidate such a response with 304 instead of sending the body again.
    ///
    /// Default: one hour.
    pub fn keep_stale(mut self, time: Duration) -> Self {
        self.choices.retention = time;
        self
    }
}
