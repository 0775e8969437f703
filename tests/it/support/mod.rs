//! What the tests share: servers, clients, clocks, caches.

#![allow(dead_code, reason = "each helper is used by some rooms, none by all while they grow")]

mod client;
mod origin;
mod server;
mod watched;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web_cache::{Cache, CacheBuilder, ManualClock, MemoryStore};

pub(crate) use self::{
    client::{Answer, Client, Protocol, raw},
    origin::{Reply, serve_replies, who},
    server::{Server, serve},
    watched::{Stop, Watched},
};

/// A moment long after 1970 and long before now.
pub(crate) const START: u64 = 1_700_000_000;

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A store large enough for any test.
pub(crate) fn store() -> MemoryStore {
    MemoryStore::new(64 * 1024 * 1024)
}

/// A builder over a store of its own, and the clock it goes by.
pub(crate) fn builder() -> (CacheBuilder, ManualClock) {
    let clock = ManualClock::at(START);
    (Cache::builder(store()).clock(clock.clock()), clock)
}

/// A default cache, and the clock it goes by.
pub(crate) fn cache() -> (Cache, ManualClock) {
    let (builder, clock) = builder();
    (builder.build().unwrap(), clock)
}

/// Counts runs of a handler, on all threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// Counts one, and tells which one it was, from 1.
    pub(crate) fn count(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Every protocol and number of workers that servers are tested with.
pub(crate) const SETUPS: [(Protocol, usize); 4] =
    [(Protocol::Http1, 1), (Protocol::Http1, 4), (Protocol::Http2, 1), (Protocol::Http2, 4)];
