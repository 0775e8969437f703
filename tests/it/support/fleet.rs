//! The stores of several processes in one: what is stored and who has a lease is one for all, what
//! each process knows is its own. Leases end when they are given up, or when the test says so.

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

/// What all members share, and the test's handle on it.
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
    /// By the one that asked as the n-th.
    By(usize),
    Unstorable,
}

/// What becomes of one question for a lease that is not as usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    Unneeded,
    Taken,
    Fails,
    Panics,
    Hangs,
    /// Another has it; from then on nothing can be looked up.
    Breaks,
}

impl Fleet {
    /// The store of one more process.
    pub(crate) fn member(&self) -> Member {
        Member { fleet: self.clone(), coordinator: Coordinator::new(), leases: true }
    }

    /// The next question for a lease comes to this.
    pub(crate) fn say(&self, says: Says) {
        self.0.says.lock().unwrap().push_back(says);
    }

    /// Whether all came to that which were to.
    pub(crate) fn said(&self) -> bool {
        self.0.says.lock().unwrap().is_empty()
    }

    /// The time of all leases is over.
    pub(crate) fn expire(&self) {
        self.0.leases.lock().unwrap().clear();
    }

    /// How leases were given up since this was asked.
    pub(crate) fn ends(&self) -> Vec<LeaseEnd> {
        mem::take(&mut *self.0.ends.lock().unwrap())
    }

    /// How many leases were given up since then.
    pub(crate) fn ended(&self) -> usize {
        self.0.ends.lock().unwrap().len()
    }

    pub(crate) fn held(&self) -> usize {
        self.0.leases.lock().unwrap().values().filter(|held| **held != Held::Unstorable).count()
    }

    /// Questions for leases so far.
    pub(crate) fn asked(&self) -> usize {
        self.0.asked.get()
    }

    /// Those of them to which the answer was that another has it.
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
    /// The same without leases.
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
        assert!(self.leases, "it was not to be asked");
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
            Some(Says::Panics) => panic!("as a store may"),
            Some(Says::Hangs) => pending().await,
            Some(Says::Breaks) => {
                self.fleet.0.broken.store(true, Ordering::SeqCst);
                Ok(Lease::Taken)
            }
        }
    }
}
