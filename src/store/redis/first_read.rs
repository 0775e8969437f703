//! The first read of the invalidation table in this process. A large table takes longer than a
//! lookup may take, so lookups that time out meanwhile are no sign of an outage.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{sync::Mutex, time::timeout};

use super::failure::Failure;

/// The time that the first read may take.
const LIMIT: Duration = Duration::from_millis(1500);

/// The first read of the table, which only one thread makes.
#[derive(Debug, Default)]
pub(super) struct FirstRead {
    turn: Mutex<()>,
    /// The number of connections that wait for the first read.
    waiting: AtomicUsize,
}

/// A connection that waits for the first read.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FirstRead {
    /// Awaits `read`, unless the table is known. Threads that connect at the same time wait for one
    /// read.
    pub(super) async fn run(
        &self,
        is_known: impl Fn() -> bool,
        read: impl Future<Output = Result<(), Failure>>,
    ) -> Result<(), Failure> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let in_turn = async {
            let _turn = self.turn.lock().await;
            if is_known() { Ok(()) } else { read.await }
        };
        timeout(LIMIT, in_turn).await.unwrap_or(Err(Failure::TimedOut))
    }

    /// Returns whether a connection waits for the first read.
    pub(super) fn is_running(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use futures_util::future::join;

    use super::*;

    #[actix_web::test]
    async fn connections_wait_for_one_read() {
        let (first, reads) = (FirstRead::default(), Cell::new(0));
        let read = || async {
            assert!(first.is_running());
            reads.set(reads.get() + 1);
            tokio::task::yield_now().await;
            Ok(())
        };
        let run = || first.run(|| reads.get() > 0, read());
        let (one, other) = join(run(), run()).await;
        assert!(one.is_ok() && other.is_ok());
        assert_eq!((reads.get(), first.is_running()), (1, false));
    }

    #[actix_web::test]
    async fn read_that_does_not_end_times_out() {
        let first = FirstRead::default();
        let read = first.run(|| false, pending()).await;
        assert!(matches!(read, Err(Failure::TimedOut)) && !first.is_running());
    }
}
