//! Stores of several simulated processes, which share entries and leases. Each store has a coordinator of
//! its own. Leases do not time out; the test ends them.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web_cache::store::{
    CacheKey, Coordinator, FarStore, Fill, Lease, LeaseEnd, LeaseGuard, Lookup, Put, Selector,
    Store, StoreError, StoredResponse, UrlKey, Variants,
};
use tokio::task::yield_now;

use super::Counter;

/// The entries and leases that all stores share, and the test's handle to them.
#[derive(Clone, Default)]
pub(crate) struct SimulatedProcesses(Arc<Inner>);

#[derive(Default)]
struct Inner {
    stored: Mutex<HashMap<CacheKey, Arc<Variants>>>,
    leases: Mutex<HashMap<(CacheKey, Vec<u8>), Held>>,
    ends: Mutex<Vec<LeaseEnd>>,
    answers: Mutex<VecDeque<LeaseAnswer>>,
    lease_requests: Counter,
    refused_lease_requests: Counter,
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
pub(crate) enum LeaseAnswer {
    Unneeded,
    Taken,
    Fails,
    Panics,
    Hangs,
    /// Another process holds the lease. All later lookups fail.
    Breaks,
}

impl SimulatedProcesses {
    /// The store of another process.
    pub(crate) fn store(&self) -> ProcessStore {
        ProcessStore { processes: self.clone(), coordinator: Coordinator::new(), leases: true }
    }

    /// Sets the result of the next request for a lease. Further calls set those of the requests after it.
    pub(crate) fn answer_next(&self, answer: LeaseAnswer) {
        self.0.answers.lock().unwrap().push_back(answer);
    }

    /// Returns whether all results were used that the test set.
    pub(crate) fn all_answers_used(&self) -> bool {
        self.0.answers.lock().unwrap().is_empty()
    }

    /// Ends all leases, as if their time was over.
    pub(crate) fn expire_leases(&self) {
        self.0.leases.lock().unwrap().clear();
    }

    /// Takes the ends of the leases that were given up since the last call.
    pub(crate) fn take_ends(&self) -> Vec<LeaseEnd> {
        mem::take(&mut *self.0.ends.lock().unwrap())
    }

    /// The number of leases that were given up since the last call of [`Self::take_ends`].
    pub(crate) fn ends(&self) -> usize {
        self.0.ends.lock().unwrap().len()
    }

    pub(crate) fn held_leases(&self) -> usize {
        self.0.leases.lock().unwrap().values().filter(|held| **held != Held::Unstorable).count()
    }

    /// The number of requests for a lease.
    pub(crate) fn lease_requests(&self) -> usize {
        self.0.lease_requests.get()
    }

    /// The number of requests for a lease that another process held.
    pub(crate) fn refused_lease_requests(&self) -> usize {
        self.0.refused_lease_requests.get()
    }

    fn grant(&self, key: &CacheKey, rest: &[u8]) -> Lease {
        let name = (key.clone(), rest.to_vec());
        let held = Held::By(self.0.lease_requests.count());
        let mut leases = self.0.leases.lock().unwrap();
        match leases.get(&name) {
            Some(Held::Unstorable) => return Lease::Unstorable,
            Some(Held::By(_)) => {
                self.0.refused_lease_requests.count();
                return Lease::Taken;
            }
            None => leases.insert(name.clone(), held),
        };
        let processes = self.clone();
        Lease::Granted(LeaseGuard::new(move |end| {
            let mut leases = processes.0.leases.lock().unwrap();
            if end == LeaseEnd::Unstorable {
                leases.insert(name, Held::Unstorable);
            } else if leases.get(&name) == Some(&held) {
                leases.remove(&name);
            }
            processes.0.ends.lock().unwrap().push(end);
        }))
    }
}

/// The store of one process.
#[derive(Clone)]
pub(crate) struct ProcessStore {
    processes: SimulatedProcesses,
    coordinator: Coordinator,
    leases: bool,
}

impl ProcessStore {
    /// Returns the store without support for leases.
    pub(crate) fn without_leases(self) -> Self {
        Self { leases: false, ..self }
    }
}

impl Store for ProcessStore {
    fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    async fn lookup(&self, key: &CacheKey, _: &Selector<'_>) -> Result<Lookup, StoreError> {
        let stamp = self.coordinator.stamp();
        yield_now().await;
        if self.processes.0.broken.load(Ordering::SeqCst) {
            return Err(StoreError::new("injected fault"));
        }
        Ok(Lookup::new(self.processes.0.stored.lock().unwrap().get(key).cloned(), stamp))
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        yield_now().await;
        let mut stored = self.processes.0.stored.lock().unwrap();
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
        let removed = self.processes.0.stored.lock().unwrap().remove(key);
        Ok(removed.map_or(0, |variants| variants.responses().len()))
    }

    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        let mut stored = self.processes.0.stored.lock().unwrap();
        let removed = stored.extract_if(|key, _| url.contains(key));
        Ok(removed.map(|(_, variants)| variants.responses().len()).sum())
    }

    fn supports_leases(&self) -> bool {
        self.leases
    }

    async fn lease(&self, key: &CacheKey, rest: &[u8]) -> Result<Lease, StoreError> {
        assert!(self.leases, "a store without leases was asked for one");
        yield_now().await;
        let answer = self.processes.0.answers.lock().unwrap().pop_front();
        match answer {
            None => Ok(self.processes.grant(key, rest)),
            Some(LeaseAnswer::Unneeded) => Ok(Lease::Unneeded),
            Some(LeaseAnswer::Taken) => {
                self.processes.0.refused_lease_requests.count();
                Ok(Lease::Taken)
            }
            Some(LeaseAnswer::Fails) => Err(StoreError::new("injected fault")),
            Some(LeaseAnswer::Panics) => panic!("the test makes the store panic"),
            Some(LeaseAnswer::Hangs) => pending().await,
            Some(LeaseAnswer::Breaks) => {
                self.processes.0.broken.store(true, Ordering::SeqCst);
                Ok(Lease::Taken)
            }
        }
    }
}

/// Processes learn the purges of other processes at once: the store that they share has no purged
/// response.
impl FarStore for ProcessStore {
    fn keep_current(&self, _: Duration) {}

    fn is_current(&self, _: Duration) -> bool {
        true
    }
}
