//! Settings of a policy: lifetimes, and the statuses of stored responses.

use std::time::Duration;

use super::Policy;
use crate::semantics::{client_lifetime::ClientHeaders, storing::Heuristics};

impl Policy {
    /// Sets the lifetime of responses that state none and have status 200, 203, 301 or 308.
    ///
    /// Default: 60 s. With zero, such responses are stale at once. The cache then stores a response
    /// only if it can be revalidated or served stale.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// Sets the lifetime of responses that state none and have this status code.
    ///
    /// A lifetime that the response states takes precedence over `ttl`. In a policy from
    /// [`new`](Self::new), this is so only for the status codes whose stated lifetime the
    /// [defaults](Self#defaults) follow. For other status codes, such as 500, `ttl` replaces the
    /// stated lifetime.
    ///
    /// Default: [`default_ttl`](Self::default_ttl) for 200, 203, 301 and 308; no lifetime for other
    /// status codes.
    pub fn status_ttl(mut self, status: u16, ttl: Duration) -> Self {
        set_status_ttl(&mut self.status_ttls, status, ttl);
        self
    }

    /// Sets the lifetime of responses with status 200, 203, 301 or 308, regardless of the lifetime
    /// that the response states or the handler sets.
    ///
    /// The setting does not override refusals: a response with `no-store`, `private` or
    /// `Set-Cookie`, for example, is not stored. A response with `no-cache` is revalidated before
    /// every use.
    ///
    /// Default: none. The lifetime must not be zero.
    pub fn override_ttl(mut self, ttl: Duration) -> Self {
        self.override_ttl = Some(ttl);
        self
    }

    /// Sets the lifetime of responses with this status code, regardless of the lifetime that the
    /// response states or the handler sets; see [`override_ttl`](Self::override_ttl).
    ///
    /// With zero, such responses are stale at once.
    pub fn override_status_ttl(mut self, status: u16, ttl: Duration) -> Self {
        set_status_ttl(&mut self.override_status_ttls, status, ttl);
        self
    }

    /// Stores a response only if it states a lifetime, or if the handler,
    /// [`status_ttl`](Self::status_ttl) or [`override_ttl`](Self::override_ttl) sets one.
    ///
    /// This setter removes the [`default_ttl`](Self::default_ttl).
    pub fn explicit_only(mut self) -> Self {
        self.default_ttl = None;
        self
    }

    /// Derives a lifetime from `Last-Modified` if a response states none (RFC 9111 section
    /// 4.2.2).
    ///
    /// The lifetime is a tenth of the time since the last modification, and one day at most.
    ///
    /// Default: the cache derives no lifetime, because handlers seldom send `Last-Modified` for
    /// this purpose.
    pub fn heuristic_freshness(mut self) -> Self {
        self.choices.heuristics = Heuristics::On;
        self
    }

    /// Sets the longest time for which clients may keep a response. The limit applies only if the
    /// policy or the handler set the lifetime of the response.
    ///
    /// Default: the remaining lifetime of the response. Purges do not reach browsers. If the
    /// lifetime is long in this cache and short in browsers, users soon see the effect of a purge.
    pub fn client_ttl(mut self, ttl: Duration) -> Self {
        self.client_lifetimes.client_ttl = Some(ttl);
        self
    }

    /// Sets the longest time for which a CDN in front of the application may keep a response, in the
    /// field `CDN-Cache-Control` (RFC 9213).
    ///
    /// The limit applies only if the policy or the handler's options set the lifetime of the
    /// response, and if the handler sends neither `CDN-Cache-Control` nor `private`. The field
    /// repeats the other directives of `Cache-Control`, such as `must-revalidate`. A CDN keeps no
    /// response for longer than this cache does.
    ///
    /// Default: the cache sends no `CDN-Cache-Control`, so a CDN follows `Cache-Control`. With a long
    /// `cdn_ttl` and a short [`client_ttl`](Self::client_ttl), a CDN that learns of purges by
    /// [`CacheBuilder::on_purge`](crate::CacheBuilder::on_purge) can keep responses for longer than
    /// browsers do.
    pub fn cdn_ttl(mut self, ttl: Duration) -> Self {
        self.client_lifetimes.cdn_ttl = Some(ttl);
        self
    }

    /// Sets whether the cache changes the lifetimes that responses state to clients.
    ///
    /// Default: [`ClientHeaders::WithLifetime`]. With [`ClientHeaders::Untouched`], clients receive
    /// `Cache-Control` and `Expires` as the handler sent them. A client or a CDN may then keep a
    /// response for longer than this cache does: after an expiry (soft purge), while the response is
    /// stale, or if it states no lifetime and the client chooses one. [`client_ttl`](Self::client_ttl)
    /// has no effect then, and [`cdn_ttl`](Self::cdn_ttl) still has.
    ///
    /// The cache adds `Age`, `Date` and members of `Vary` in both cases, because other caches would
    /// otherwise send responses to wrong clients, or keep them for too long. For the same reason, a
    /// response that is kept for one person or for authorized requests becomes `private`.
    pub fn client_headers(mut self, headers: ClientHeaders) -> Self {
        self.client_lifetimes.headers = headers;
        self
    }

    /// Shortens lifetimes by up to `percent`, so that responses that were stored at the same time do
    /// not become stale at the same time.
    ///
    /// Such responses are common after a deployment or a purge of all responses, or if a crawler
    /// requests many pages. Without jitter, all of them call their handlers again at the same time.
    ///
    /// The part is computed from the cache key, and is the same in all processes. The jitter applies
    /// to the lifetimes that the policy, the handler or the route sets, also for clients. It does
    /// not apply to lifetimes that responses state or that are derived from `Last-Modified`.
    ///
    /// `percent` is from 1 to 50. Default: lifetimes are not shortened.
    pub fn jitter(mut self, percent: u8) -> Self {
        self.jitter = Some(percent);
        self
    }

    /// Stores no response with one of these status codes. Several calls add up. Default: none.
    pub fn never_store_status(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.unstored_statuses.extend(statuses);
        self
    }
}

/// Sets the lifetime for a status code in a list of lifetimes.
fn set_status_ttl(ttls: &mut Vec<(u16, Duration)>, status: u16, ttl: Duration) {
    ttls.retain(|(known, _)| *known != status);
    ttls.push((status, ttl));
}
