//! Asking for all processes at once: who may, who waits, and how it is given up.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Whether one may ask for something that is not stored: see [`Store::lease`](crate::store::Store::lease).
#[derive(Debug)]
#[non_exhaustive]
pub enum Lease {
    /// Whoever wants to may.
    Unneeded,
    /// This process may, and the others wait, for as long as the guard is kept and the lease lasts.
    Granted(LeaseGuard),
    /// Another process may, and has not given it up yet.
    Taken,
    /// Another process asked a short while ago, and what was answered cannot be stored: nobody need
    /// wait for that.
    Unstorable,
}

/// How asking for something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// It is stored.
    Stored,
    /// There is an answer, which cannot be stored, and the next one will hardly be different: for
    /// some seconds nobody need wait for another.
    Unstorable,
    /// It is not stored, for whatever other reason: another may ask.
    Abandoned,
}

/// Made by a store, and kept while the handler is asked. When that is over, it is dropped, and tells
/// the store how it ended.
#[must_use = "dropping it gives the lease up"]
pub struct LeaseGuard(Option<Release>);

type Release = Box<dyn FnOnce(LeaseEnd) + Send>;

impl LeaseGuard {
    /// `release` is called once, on whatever thread the guard is dropped on, so it must not block.
    pub fn new(release: impl FnOnce(LeaseEnd) + Send + 'static) -> Self {
        Self(Some(Box::new(release)))
    }

    /// Gives the lease up. Dropping the guard means [`LeaseEnd::Abandoned`].
    pub fn end(mut self, end: LeaseEnd) {
        self.release(end);
    }

    /// For a lease that turned out not to be held: there is nothing to be given up.
    #[cfg(feature = "redis")]
    pub(crate) fn forgo(mut self) {
        self.0 = None;
    }

    fn release(&mut self, end: LeaseEnd) {
        if let Some(release) = self.0.take() {
            // It may run in the middle of another panic.
            let call = AssertUnwindSafe(|| release(end));
            if catch_unwind(call).is_err() {
                log::warn!("a store panicked when it was given back a lease");
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
    fn a_guard_tells_once_how_it_ended_however_it_ends() {
        let told = Arc::new(Mutex::new(Vec::new()));
        let guard = || {
            let told = Arc::clone(&told);
            LeaseGuard::new(move |end| told.lock().unwrap().push(end))
        };
        type Gives = dyn Fn(LeaseGuard);
        let ends: [(&str, &Gives, LeaseEnd); 5] = [
            ("stored", &|guard| guard.end(LeaseEnd::Stored), LeaseEnd::Stored),
            ("unstorable", &|guard| guard.end(LeaseEnd::Unstorable), LeaseEnd::Unstorable),
            ("dropped", &drop, LeaseEnd::Abandoned),
            (
                "elsewhere",
                &|guard| thread::spawn(|| drop(guard)).join().unwrap(),
                LeaseEnd::Abandoned,
            ),
            (
                "by a panic",
                &|guard| {
                    let dies = AssertUnwindSafe(|| {
                        let _guard = guard;
                        panic!("as a handler may");
                    });
                    assert!(catch_unwind(dies).is_err());
                },
                LeaseEnd::Abandoned,
            ),
        ];
        for (case, finish, want) in ends {
            finish(guard());
            assert_eq!(*told.lock().unwrap(), [want], "{case}");
            told.lock().unwrap().clear();
        }
    }
}
