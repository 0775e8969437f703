//! Stores of several simulated processes. They share entries and leases, and each has a coordinator of its
//! own. Leases do not time out; the test ends them.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web_cache::store::{
    CacheKey, Coordinator, Fill, Lease, LeaseEnd, LeaseGuard, Lookup, Put, Selector, Store,
    StoreError, StoredResponse, Variants,
};
use tokio::task::yield_now;

use super::Counter;

/// The entries and leases that all members share, and the test's handle to them.
#[derive(Clone, Default)]
pub(crate) struct Fleet(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stored: Mutex<HashMap<CacheKey, Arc<Variants>>>,
    leases: Mutex<HashMap<(CacheKey, Vec<u8>), Held>>,
    ends: Mutex<Vec<LeaseEnd>>,
    says: Mutex<VecDeque<Says>>,
    asked: Counter,
    taken: Counter,
    broken: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    /// Held by the request with this number.
    By(usize),
    Unstorable,
}

/// An unusual result of one request for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    Unneeded,
    Taken,
    Fails,
    Panics,
    Hangs,
    /// Another process holds the lease. All later lookups fail.
    Breaks,
}

impl Fleet {
    /// The store of another process.
    pub(crate) fn member(&self) -> Member {
        Member { fleet: self.clone(), coordinator: Coordinator::new(), leases: true }
    }

    /// Sets the result of the next request for a lease. Further calls add to a queue.
    pub(crate) fn say(&self, says: Says) {
        self.0.says.lock().unwrap().push_back(says);
    }

    /// Whether all results of the queue were used.
    pub(crate) fn said(&self) -> bool {
        self.0.says.lock().unwrap().is_empty()
    }

    /// Ends all leases, as if their time was over.
    pub(crate) fn expire(&self) {
        self.0.leases.lock().unwrap().clear();
    }

    /// Takes the ends of the leases that were given up since the last call.
    pub(crate) fn ends(&self) -> Vec<LeaseEnd> {
        mem::take(&mut *self.0.ends.lock().unwrap())
    }

    /// The number of leases that were given up since the last call of [`Self::ends`].
    pub(crate) fn ended(&self) -> usize {
        self.0.ends.lock().unwrap().len()
    }

    pub(crate) fn held(&self) -> usize {
        self.0.leases.lock().unwrap().values().filter(|held| **held != Held::Unstorable).count()
    }

    /// The number of requests for a lease.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.get()
    }

    /// The number of requests for a lease that another process held.
    pub(crate) fn taken(&self) -> usize {
        self.0.taken.get()
    }

    fn lend(&self, key: &CacheKey, rest: &[u8]) -> Lease {
        let name = (key.clone(), rest.to_vec());
        let ours = Held::By(self.0.asked.count());
        let mut leases = self.0.leases.lock().unwrap();
        match leases.get(&name) {
            Some(Held::Unstorable) => return Lease::Unstorable,
            Some(Held::By(_)) => {
                self.0.taken.count();
                return Lease::Taken;
            }
            None => leases.insert(name.clone(), ours),
        };
        let fleet = self.clone();
        Lease::Granted(LeaseGuard::new(move |end| {
            let mut leases = fleet.0.leases.lock().unwrap();
            if end == LeaseEnd::Unstorable {
                leases.insert(name, Held::Unstorable);
            } else if leases.get(&name) == Some(&ours) {
                leases.remove(&name);
            }
            fleet.0.ends.lock().unwrap().push(end);
        }))
    }
}

/// The store of one process.
#[derive(Clone)]
pub(crate) struct Member {
    fleet: Fleet,
    coordinator: Coordinator,
    leases: bool,
}

impl Member {
    /// Returns the store without support for leases.
    pub(crate) fn alone(self) -> Self {
        Self { leases: false, ..self }
    }
}

impl Store for Member {
    fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    async fn lookup(&self, key: &CacheKey, _: &Selector<'_>) -> Result<Lookup, StoreError> {
        let stamp = self.coordinator.stamp();
        yield_now().await;
        if self.fleet.0.broken.load(Ordering::SeqCst) {
            return Err(StoreError::new("out of order"));
        }
        Ok(Lookup::new(self.fleet.0.stored.lock().unwrap().get(key).cloned(), stamp))
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        yield_now().await;
        let mut stored = self.fleet.0.stored.lock().unwrap();
        if fill.is_invalidated() || !self.coordinator.is_valid(key, &response) {
            return Ok(Put::Outdated);
        }
        let before = stored.get(key).map(Arc::as_ref);
        let Some(variants) = Variants::add(before, response, usize::MAX) else {
            return Ok(Put::Outdated);
        };
        stored.insert(key.clone(), Arc::new(variants));
        Ok(Put::Stored)
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        let removed = self.fleet.0.stored.lock().unwrap().remove(key);
        Ok(removed.map_or(0, |variants| variants.responses().len()))
    }

    fn supports_leases(&self) -> bool {
        self.leases
    }

    async fn lease(&self, key: &CacheKey, rest: &[u8]) -> Result<Lease, StoreError> {
        assert!(self.leases, "a store without leases was asked for one");
        yield_now().await;
        let says = self.fleet.0.says.lock().unwrap().pop_front();
        match says {
            None => Ok(self.fleet.lend(key, rest)),
            Some(Says::Unneeded) => Ok(Lease::Unneeded),
            Some(Says::Taken) => {
                self.fleet.0.taken.count();
                Ok(Lease::Taken)
            }
            Some(Says::Fails) => Err(StoreError::new("out of order")),
            Some(Says::Panics) => panic!("the test makes the store panic"),
            Some(Says::Hangs) => pending().await,
            Some(Says::Breaks) => {
                self.fleet.0.broken.store(true, Ordering::SeqCst);
                Ok(Lease::Taken)
            }
        }
    }
}
