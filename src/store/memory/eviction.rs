//! `Eviction`: the choice of the responses that a full memory store evicts.

use moka::policy::EvictionPolicy;

/// The way in which a full [`MemoryStore`](crate::MemoryStore) chooses the responses that it evicts
/// ([`MemoryStoreBuilder::eviction`](crate::store::MemoryStoreBuilder::eviction)).
///
/// The guide has [measured hit ratios] of both ways.
///
/// [measured hit ratios]: https://github.com/actix-web-cache/actix-web-cache/blob/main/docs/hit-ratio.md
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Eviction {
    /// The store keeps the responses that are requested most often for their size (TinyLFU). This
    /// is the default.
    ///
    /// The store estimates how often each cache key was requested lately. It stores a new response
    /// in place of others only if the new one was requested more often than all of these others
    /// together. Crawlers and clients that request ever new URLs thus evict few requested
    /// responses. On the other hand, the store may drop the response to the first requests for a
    /// new page.
    #[default]
    TinyLfu,
    /// The store evicts the response that was not requested for the longest time (LRU).
    ///
    /// The store keeps each new response at first. Choose this way if most requests are for new
    /// pages, the store is large, and the bytes that the handlers produce matter more than the
    /// number of their calls. A crawler, or a client that requests ever new URLs, evicts all other
    /// responses.
    Lru,
}

impl Eviction {
    pub(super) fn policy(self) -> EvictionPolicy {
        match self {
            Self::TinyLfu => EvictionPolicy::tiny_lfu(),
            Self::Lru => EvictionPolicy::lru(),
        }
    }
}
