//! The engines: moka with its two eviction policies, and quick_cache.

use std::sync::Arc;

use moka::{policy::EvictionPolicy, sync::Cache as Moka};
use quick_cache::{Weighter, sync::Cache as Quick};

use crate::replay::Engine;

/// The smallest weight after whose insert `MemoryStore` lets moka evict at once.
const LARGE: u32 = 64 * 1024;

/// The number of requests between two passes of the maintenance thread of `MemoryStore`, which
/// works once a second: a server with 1,000 requests a second.
const MAINTENANCE_REQUESTS: u32 = 1_000;

/// Keys are as in `MemoryStore`, so that they are hashed in the same way.
type Key = Arc<[u8]>;

pub(crate) struct MokaEngine {
    entries: Moka<Key, u32>,
    requests: u32,
}

impl MokaEngine {
    pub(crate) fn new(capacity: u64, policy: EvictionPolicy) -> Self {
        let entries = Moka::builder()
            .max_capacity(capacity)
            .weigher(|_: &Key, weight: &u32| *weight)
            .eviction_policy(policy)
            .build();
        Self { entries, requests: 0 }
    }
}

impl Engine for MokaEngine {
    fn finds(&mut self, page: u32) -> bool {
        self.requests += 1;
        if self.requests.is_multiple_of(MAINTENANCE_REQUESTS) {
            self.entries.run_pending_tasks();
        }
        self.entries.get(&page.to_be_bytes()[..]).is_some()
    }

    fn insert(&mut self, page: u32, weight: u32) {
        let key: Key = Arc::from(page.to_be_bytes());
        // `MemoryStore` reads the existing variants before each insert. TinyLFU counts this read as a
        // further request, so it admits a new page sooner.
        self.entries.get(&key);
        self.entries.insert(key, weight);
        if weight >= LARGE {
            self.entries.run_pending_tasks();
        }
    }
}

pub(crate) struct QuickCacheEngine(Quick<Key, u32, Weight>);

#[derive(Clone)]
struct Weight;

impl Weighter<Key, u32> for Weight {
    fn weight(&self, _: &Key, weight: &u32) -> u64 {
        u64::from(*weight)
    }
}

impl QuickCacheEngine {
    /// `mean_weight` is the mean weight of an entry, by which quick_cache sizes its list of evicted
    /// keys.
    pub(crate) fn new(capacity: u64, mean_weight: u64) -> Self {
        let entries = (capacity / mean_weight.max(1)) as usize;
        Self(Quick::with_weighter(entries, capacity, Weight))
    }
}

impl Engine for QuickCacheEngine {
    fn finds(&mut self, page: u32) -> bool {
        self.0.get(&page.to_be_bytes()[..]).is_some()
    }

    fn insert(&mut self, page: u32, weight: u32) {
        self.0.insert(Arc::from(page.to_be_bytes()), weight);
    }
}
