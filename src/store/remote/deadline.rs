//! Deadlines: time limits for calls that may make several round trips.

use std::{future::Future, time::Duration};

use futures_util::FutureExt as _;

use super::error::RemoteError;
use crate::{clock::monotonic_now, poll_once::within};

/// The moment at which a call has to end.
///
/// Use one deadline for all round trips of a call, so that the time limit applies to the whole call
/// and not to each round trip. A deadline uses the monotonic clock, so changes of the wall clock do
/// not move the deadline.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    started: Duration,
    budget: Duration,
}

impl Deadline {
    /// Makes the deadline that is `budget` from now.
    #[must_use]
    pub fn after(budget: Duration) -> Self {
        Self { started: monotonic_now(), budget }
    }

    /// Returns the time until the deadline, or zero if the deadline has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.budget.saturating_sub(monotonic_now().saturating_sub(self.started))
    }

    /// Awaits `call` until the deadline, and drops `call` if it is not complete by then.
    ///
    /// A call that has to wait needs a tokio runtime with timers. The workers of actix-web have
    /// one.
    ///
    /// # Errors
    ///
    /// [`RemoteError::TimedOut`] if the deadline comes first, [`RemoteError::Failed`] if the call
    /// fails.
    ///
    /// # Panics
    ///
    /// If the call has to wait and there is no tokio runtime with timers.
    pub fn run<T, E>(
        &self,
        call: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, RemoteError<E>>> {
        // Not an `async fn`, whose future would have space for `call` twice.
        within(self.remaining(), call).map(|result| match result {
            Some(result) => result.map_err(RemoteError::Failed),
            None => Err(RemoteError::TimedOut),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[actix_web::test]
    async fn call_that_ends_in_time_keeps_its_result() {
        let deadline = Deadline::after(Duration::from_secs(60));
        assert_eq!(deadline.run(async { Ok::<_, u8>(1) }).await, Ok(1));
        assert_eq!(deadline.run(async { Err::<u8, _>(2) }).await, Err(RemoteError::Failed(2)));
        assert!(deadline.remaining() > Duration::from_secs(1));
    }

    #[actix_web::test]
    async fn call_times_out_at_the_deadline() {
        let deadline = Deadline::after(Duration::from_millis(1));
        let call = deadline.run(pending::<Result<(), ()>>());
        assert_eq!(call.await, Err(RemoteError::TimedOut));
        assert_eq!(deadline.remaining(), Duration::ZERO);
        let late_call = deadline.run(pending::<Result<(), ()>>());
        assert_eq!(late_call.await, Err(RemoteError::TimedOut));
    }
}
