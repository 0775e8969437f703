//! Leases: permits by which a shared store lets one process call a handler while the other
//! processes wait for the response.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The answer of a store to a request for a lease ([`Store::lease`](crate::store::Store::lease)).
#[derive(Debug)]
#[non_exhaustive]
pub enum Lease {
    /// The store has no leases. Every process may call the handler.
    Unneeded,
    /// This process has the lease and may call the handler. Other processes wait until the guard is
    /// dropped or the lease expires.
    Granted(LeaseGuard),
    /// Another process has the lease.
    Taken,
    /// Another process had the lease a short while ago, and the response that it received could not
    /// be stored. This process therefore calls the handler without waiting.
    Unstorable,
}

/// The result with which a lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// The response of the handler is stored.
    Stored,
    /// The response cannot be stored, and the next response probably cannot be stored either. For
    /// some seconds, no process waits for another process to respond to a request that needs the
    /// same lease.
    Unstorable,
    /// No response was stored, for a reason that may not apply to the next request: for example,
    /// the handler failed. Another process may take the lease.
    Abandoned,
}

/// A guard that holds a lease. The store makes the guard. The cache keeps the guard until the
/// response of the handler is stored or rejected.
///
/// Dropping the guard ends the lease with [`LeaseEnd::Abandoned`].
///
/// ```
/// use actix_web_cache::store::{LeaseEnd, LeaseGuard};
/// use std::sync::mpsc;
///
/// let (sender, ends) = mpsc::channel();
/// let guard = LeaseGuard::new(move |end| {
///     let _ = sender.send(end);
/// });
/// guard.end(LeaseEnd::Stored);
/// assert_eq!(ends.recv(), Ok(LeaseEnd::Stored));
/// ```
#[must_use = "dropping the guard ends the lease"]
pub struct LeaseGuard(Option<Release>);

type Release = Box<dyn FnOnce(LeaseEnd) + Send>;

impl LeaseGuard {
    /// Makes a guard that calls `release` once, when the lease ends. The thread that ends the lease
    /// or drops the guard makes this call, so `release` must not block.
    pub fn new(release: impl FnOnce(LeaseEnd) + Send + 'static) -> Self {
        Self(Some(Box::new(release)))
    }

    /// Ends the lease with this result.
    pub fn end(mut self, end: LeaseEnd) {
        self.release(end);
    }

    /// Drops the guard without calling `release`. A store calls this method if it made the guard
    /// too early and the lease was not granted after all.
    #[cfg(feature = "redis")]
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }

    fn release(&mut self, end: LeaseEnd) {
        if let Some(release) = self.0.take() {
            // The guard may be dropped while a panic unwinds the stack. A second panic would then
            // abort the process.
            let call = AssertUnwindSafe(|| release(end));
            if catch_unwind(call).is_err() {
                log::warn!("the cache store panicked while it released a lease");
            }
        }
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        self.release(LeaseEnd::Abandoned);
    }
}

impl fmt::Debug for LeaseGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseGuard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::{Arc, Mutex},
        thread,
    };

    use super::*;

    #[test]
    fn guard_releases_its_lease_once_however_it_ends() {
        let released = Arc::new(Mutex::new(Vec::new()));
        let guard = || {
            let released = Arc::clone(&released);
            LeaseGuard::new(move |end| released.lock().unwrap().push(end))
        };
        type Finish = dyn Fn(LeaseGuard);
        let ends: [(&str, &Finish, LeaseEnd); 5] = [
            ("stored", &|guard| guard.end(LeaseEnd::Stored), LeaseEnd::Stored),
            ("unstorable", &|guard| guard.end(LeaseEnd::Unstorable), LeaseEnd::Unstorable),
            ("dropped", &drop, LeaseEnd::Abandoned),
            (
                "dropped on another thread",
                &|guard| thread::spawn(|| drop(guard)).join().unwrap(),
                LeaseEnd::Abandoned,
            ),
            (
                "dropped by a panic",
                &|guard| {
                    let panics = AssertUnwindSafe(|| {
                        let _guard = guard;
                        panic!("a handler's panic");
                    });
                    assert!(catch_unwind(panics).is_err());
                },
                LeaseEnd::Abandoned,
            ),
        ];
        for (case, finish, want) in ends {
            finish(guard());
            assert_eq!(*released.lock().unwrap(), [want], "{case}");
            released.lock().unwrap().clear();
        }
    }
}
