//! Collapses requests of several processes: of all processes that share a store, one calls the
//! handler.
//!
//! A leader is the request for whose response other requests of its process (the followers) wait.
//! The leader asks the store for a lease, which permits one process to call the handler while the
//! other processes wait. While another process has the lease, the leader looks up the store again
//! and again for the response of that process. The followers continue to wait.
//!
//! ```text
//! granted         the leader looks up the store once more, and calls the handler
//! taken           the leader looks up the store and asks again, every few ms, until
//!                   the response is stored    the response answers this request, too
//!                   the lease has ended       the lease is granted
//!                   the deadline has passed   the leader serves a stale response if one may
//!                                               answer, or calls the handler without a lease
//! not storable    the leader and its followers call the handler, and for ten seconds
//!                   requests do not wait (hit-for-miss)
//! store fails     the leader calls the handler without a lease
//! ```

use std::{
    pin::{Pin, pin},
    time::Duration,
};

use actix_web::{
    body::MessageBody,
    dev::ServiceRequest,
    rt::time::{Sleep, sleep},
};
use futures_util::future::{Either, select};

use super::{
    after_wait::Next,
    context::{OriginRequest, Purpose, RequestContext},
};
use crate::{
    backoff::Backoff,
    coordination::{flights::FlightEnd, leader::Leader, lease::Lease},
    entry::key::CacheKey,
    poll_once::within,
};

/// The delay before the leader asks for the lease again. Each further delay is 1.5 times as long as
/// the one before, up to [`LONGEST_DELAY`]. Jitter then shortens each delay by up to a half.
const FIRST_DELAY: Duration = Duration::from_millis(5);

/// The longest delay before the leader asks for the lease again.
const LONGEST_DELAY: Duration = Duration::from_millis(50);

/// The fraction of [`Policy::wait_limit`](crate::Policy::wait_limit) for which a leader waits for
/// other processes. In the rest of the time, the followers in the leader's own process may still
/// get the leader's response.
const LEASE_SHARE: f64 = 0.75;

impl RequestContext {
    /// Starts a timer for the longest time that a request waits for other processes. Returns `None`
    /// if the store grants no leases.
    pub(super) fn lease_deadline(&self) -> Option<Pin<Box<Sleep>>> {
        let limit = || self.policy().wait_limit().mul_f64(LEASE_SHARE);
        self.shared.store.supports_leases().then(|| Box::pin(sleep(limit())))
    }

    /// Waits until this process has the lease, until another process has stored a response, or
    /// until the deadline. Returns the next step of the leader.
    pub(super) async fn wait_for_lease<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        mut origin: Box<OriginRequest>,
        mut leader: Leader,
        deadline: &mut Pin<Box<Sleep>>,
    ) -> Next<B> {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY, 1.5);
        loop {
            let key = &origin.cache_request.key;
            let granted = match self.lease(key, leader.collapse_key()).await {
                Lease::Unneeded => return Next::Fetch(origin, Some(leader)),
                Lease::Unstorable => {
                    let coordinator = self.shared.store.coordinator();
                    leader.mark_hit_for_miss(coordinator, key, origin.cache_request.now);
                    leader.set_end_on_drop(FlightEnd::NotStored);
                    return Next::Fetch(origin, None);
                }
                Lease::Granted(lease) => {
                    leader.hold_lease(lease);
                    true
                }
                Lease::Taken => {
                    let delay = pin!(sleep(backoff.next_delay()));
                    if let Either::Left(_) = select(deadline.as_mut(), delay).await {
                        return self.proceed_without_lease(request, origin, leader);
                    }
                    false
                }
            };
            match self.lookup_before_fetch(request, *origin, leader).await {
                Next::Fetch(next, Some(still)) if !granted => (origin, leader) = (next, still),
                next @ (Next::Respond(..) | Next::Fetch(..) | Next::Bypass(_) | Next::Retry(_)) => {
                    return next;
                }
            }
        }
    }

    /// Ends the wait for other processes after the deadline. The cache serves a stale response if
    /// one is allowed, or else calls the handler without a lease.
    fn proceed_without_lease<B: MessageBody>(
        &self,
        request: &ServiceRequest,
        origin: Box<OriginRequest>,
        mut leader: Leader,
    ) -> Next<B> {
        log::debug!("waited too long for the response of another process");
        if origin.purpose == Purpose::Refresh {
            return Next::Fetch(origin, Some(leader));
        }
        match self.stale_for_follower(request, &origin) {
            Some((response, outcome)) => {
                leader.set_end_on_drop(FlightEnd::Overdue);
                Next::Respond(response, outcome)
            }
            None => Next::Fetch(origin, Some(leader)),
        }
    }

    async fn lease(&self, key: &CacheKey, collapse_key: &[u8]) -> Lease {
        let limit = self.shared.settings.lookup_timeout;
        match within(limit, self.shared.store.lease(key, collapse_key)).await {
            Some(Ok(lease)) => lease,
            Some(Err(error)) => {
                self.shared.warn_about_store(&error);
                Lease::Unneeded
            }
            None => {
                log::debug!("asking for a lease took longer than {limit:?}");
                Lease::Unneeded
            }
        }
    }
}
