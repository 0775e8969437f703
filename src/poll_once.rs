//! Ways to await a future that is usually ready at its first poll.
//!
//! The futures of a memory store are always ready at the first poll. The functions of this module
//! poll a future once before they arm a timer or spawn a task, so a ready future needs neither a
//! timer nor a task. A memory store can therefore be used on a thread without a runtime.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{task::unconstrained, time::sleep};

/// Polls a future once, with the waker of the current task.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Waits for the output of a future. Returns `None` if the future takes longer than `limit`. No
/// timer is armed for a future that is ready at the first poll.
///
/// This function is not an `async fn`, whose future would have space for `future` twice.
pub(crate) const fn within<F: Future>(limit: Duration, future: F) -> Within<F> {
    Within { future, limit, timer: None }
}

pin_project! {
    /// The future that [`within`] returns.
    pub(crate) struct Within<F> {
        #[pin]
        future: F,
        limit: Duration,
        // In a box, so that a future that is ready at once needs no space for the timer.
        timer: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    }
}

impl<F: Future> Future for Within<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        // The timer is not constrained by the budget of its task: a future that uses up the budget at
        // each poll would otherwise keep the timer from ending.
        let timer = this.timer.get_or_insert_with(|| Box::pin(unconstrained(sleep(*this.limit))));
        timer.as_mut().poll(cx).map(|()| None)
    }
}

/// Runs a future to its end, even if the caller is dropped. A future that is pending after its
/// first poll continues in a task of its own.
pub(crate) async fn to_completion(future: impl Future<Output = ()> + Send + 'static) {
    let mut future = Box::pin(future);
    if poll_once(future.as_mut()).await.is_pending() {
        // A panic of the task is not handled here, because the runtime reports it.
        drop(tokio::spawn(future).await);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        future::pending,
        pin::pin,
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
    };

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn future_that_is_ready_at_once_needs_no_runtime() {
        let done = async {
            assert_eq!(within(Duration::ZERO, async { 1 }).await, Some(1));
            to_completion(async {}).await;
        };
        assert!(done.now_or_never().is_some());
    }

    #[tokio::test]
    async fn future_that_takes_longer_than_the_limit_is_dropped() {
        assert_eq!(within(Duration::from_millis(1), pending::<u8>()).await, None);
    }

    #[tokio::test]
    async fn future_that_uses_up_the_budget_of_its_task_is_dropped() {
        let mut polls = 0;
        let greedy = poll_fn(|cx| {
            polls += 1;
            assert!(polls < 100_000, "the timer does not end");
            while let Poll::Ready(()) = pin!(tokio::task::consume_budget()).poll(cx) {}
            Poll::<u8>::Pending
        });
        assert_eq!(within(Duration::from_millis(1), greedy).await, None);
    }

    #[tokio::test]
    async fn pending_future_is_polled_once_until_its_task_is_woken() {
        let polls = Cell::new(0);
        let future = poll_fn(|_| {
            polls.set(polls.get() + 1);
            Poll::<u8>::Pending
        });
        let mut limited = pin!(within(Duration::from_secs(3600), future));
        assert!(poll_once(limited.as_mut()).await.is_pending());
        assert_eq!(polls.get(), 1);
    }

    #[tokio::test]
    async fn future_runs_to_its_end_although_the_caller_goes_away() {
        let (ended, done) =
            (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Notify::new()));
        let work = {
            let (ended, done) = (Arc::clone(&ended), Arc::clone(&done));
            async move {
                tokio::task::yield_now().await;
                ended.store(true, Ordering::SeqCst);
                done.notify_one();
            }
        };
        // The first poll spawns a task. Dropping the future of `to_completion` does not end that
        // task.
        assert!(to_completion(work).now_or_never().is_none());
        done.notified().await;
        assert!(ended.load(Ordering::SeqCst));
    }
}
