//! One question to the handlers of all processes over one store, where the store can see to that.
//!
//! What leads within its process asks for the lease of the whole fleet. While another process has
//! it, it looks for that one's answer in the store; those who wait for it within the process wait on.
//!
//! ```text
//! granted            looks once more, and asks
//! taken              looks and asks for it again, each 5 to 50 ms, until
//!                      the answer is stored       that is its answer, too
//!                      the lease is over          granted
//!                      it has waited for too long    asks, as if there were no others
//! cannot be stored   asks, and so does everybody in its process, for ten seconds
//! the store fails    asks, as if there were no others
//! ```

use std::{
    hash::{BuildHasher as _, RandomState},
    pin::{Pin, pin},
    time::Duration,
};

use actix_web::{
    dev::ServiceRequest,
    rt::time::{Sleep, sleep, timeout},
};
use futures_util::future::{Either, select};

use crate::{
    coordination::flights::FlightEnd,
    coordination::lease::Lease,
    entry::key::CacheKey,
    fill::write::warn,
    service::collapse::{CollapseResult, Leader, Look, Waited},
    service::origin::{OriginRequest, Purpose},
    service::{LOOKUP_LIMIT, RequestContext},
};

/// The time between the first two questions; it grows by half from one to the next.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest time between two questions.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

impl RequestContext {
    /// How long a request waits for other processes, if it does.
    ///
    /// A quarter less than for its own: who waits for it may then still have its answer in time.
    pub(crate) fn patience(&self) -> Option<Pin<Box<Sleep>>> {
        let limit = || self.shared.checked.wait_limit().mul_f64(0.75);
        self.shared.store.supports_leases().then(|| Box::pin(sleep(limit())))
    }

    /// Takes the turn of all processes, or waits for the one whose turn it is.
    pub(crate) async fn sail<B>(
        &self,
        request: &ServiceRequest,
        mut inquiry: Box<OriginRequest>,
        mut leading: Leader,
        patience: &mut Pin<Box<Sleep>>,
    ) -> Waited<B> {
        let mut pace = Pace::default();
        loop {
            let granted = match self.lease(&inquiry.asked.key, leading.rest()).await {
                Lease::Unneeded => {
                    return Waited::Ended(CollapseResult::Ask(inquiry, Some(leading)));
                }
                Lease::Unstorable => {
                    let coordinator = self.shared.store.coordinator();
                    leading.mark_hit_for_miss(coordinator, &inquiry.asked.key, inquiry.asked.now);
                    leading.set_end_on_drop(FlightEnd::NotStored);
                    return Waited::Ended(CollapseResult::Ask(inquiry, None));
                }
                Lease::Granted(lease) => {
                    leading.hold(lease);
                    true
                }
                Lease::Taken => {
                    let pause = pin!(sleep(pace.pause()));
                    if let Either::Left(_) = select(patience.as_mut(), pause).await {
                        return self.alone(request, inquiry, leading);
                    }
                    false
                }
            };
            match self.look_once_more(request, inquiry, leading).await {
                Look::Found(turn) => return Waited::Ended(turn),
                Look::Nothing(next, still) => (inquiry, leading) = (next, still),
            }
            if leading.parts(&inquiry.lookup) {
                leading.stored();
                return Waited::Again(inquiry);
            }
            if granted {
                return Waited::Ended(CollapseResult::Ask(inquiry, Some(leading)));
            }
        }
    }

    /// Waits for other processes no longer.
    fn alone<B>(
        &self,
        request: &ServiceRequest,
        inquiry: Box<OriginRequest>,
        mut leading: Leader,
    ) -> Waited<B> {
        log::debug!("waited too long for another process");
        if inquiry.purpose == Purpose::Refresh {
            return Waited::Ended(CollapseResult::Ask(inquiry, Some(leading)));
        }
        Waited::Ended(match self.instead(request, inquiry) {
            Ok(turn) => {
                leading.set_end_on_drop(FlightEnd::Overdue);
                turn
            }
            Err(inquiry) => CollapseResult::Ask(inquiry, Some(leading)),
        })
    }

    async fn lease(&self, key: &CacheKey, rest: &[u8]) -> Lease {
        match timeout(LOOKUP_LIMIT, self.shared.store.lease(key, rest)).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(error)) => {
                warn(&self.shared, &error);
                Lease::Unneeded
            }
            Err(_) => {
                log::debug!("a lease took too long");
                Lease::Unneeded
            }
        }
    }
}

/// When to ask again: less often each time, and not all at the same moment.
#[derive(Default)]
struct Pace {
    pauses: u32,
    dice: RandomState,
}

impl Pace {
    fn pause(&mut self) -> Duration {
        let grown = FIRST_PAUSE.mul_f64(1.5_f64.powi(self.pauses.min(10) as i32));
        let dice = self.dice.hash_one(self.pauses) % 1024;
        self.pauses += 1;
        grown.min(LONGEST_PAUSE).mul_f64(0.5 + dice as f64 / 2048.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ() {
        let pauses = || {
            let mut pace = Pace::default();
            (0..100).map(|_| pace.pause()).collect::<Vec<_>>()
        };
        let (one, other) = (pauses(), pauses());
        assert_ne!(one, other);
        for pauses in [one, other] {
            let (least, most) = (FIRST_PAUSE / 2, LONGEST_PAUSE);
            assert!(pauses[0] <= FIRST_PAUSE && pauses.iter().all(|pause| *pause >= least));
            assert!(pauses.iter().all(|pause| *pause <= most));
            assert!(pauses[10..].iter().all(|pause| *pause >= most / 2));
        }
    }
}
