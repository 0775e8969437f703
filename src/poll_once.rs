//! Futures that are mostly ready at their first poll.
//!
//! Stores in memory never wait. Polling their futures once before a timer is armed or a task is
//! spawned spares both, and lets such a store be used on threads without a runtime.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;

/// Polls a future once, within the task that calls this.
pub(crate) async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Calls `start` with the context of the current task.
pub(crate) async fn with_context(start: impl FnOnce(&mut Context<'_>)) {
    let mut start = Some(start);
    poll_fn(|cx| {
        if let Some(start) = start.take() {
            start(cx);
        }
        Poll::Ready(())
    })
    .await;
}

/// The future's output; `None` if it takes longer than `limit`. No timer is armed for a future
/// that is ready at once.
pub(crate) async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    match poll_once(future.as_mut()).await {
        Poll::Ready(output) => Some(output),
        Poll::Pending => timeout(limit, future).await.ok(),
    }
}

/// Runs a future to its end, even if the caller goes away. A future that is ready at once runs in
/// the caller's task, any other in a task of its own.
pub(crate) async fn to_completion(future: impl Future<Output = ()> + Send + 'static) {
    let mut future = Box::pin(future);
    if poll_once(future.as_mut()).await.is_pending() {
        // The runtime reports a panic of the task.
        drop(tokio::spawn(future).await);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::pending,
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
        // The first poll spawns the task, and dropping the future does not end it.
        assert!(to_completion(work).now_or_never().is_none());
        done.notified().await;
        assert!(ended.load(Ordering::SeqCst));
    }
}
