//! The [`Store`] trait, and the types and functions for implementing a store.
//!
//! A store keeps the responses of a cache. The crate has a store in memory ([`MemoryStore`]) and,
//! with the feature `redis`, a store in Redis. To keep responses elsewhere, implement [`Store`] and
//! check the implementation with the `conformance` suite (feature `test-util`). To turn responses
//! into bytes, for a disk or a network, use [`codec`].

pub(crate) mod boxed;
pub(crate) mod erased;
pub(crate) mod interface;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub mod remote;
pub(crate) mod tiered;

#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
#[expect(clippy::expect_used, reason = "failed checks panic, as in tests")]
pub mod conformance;

pub use self::{
    boxed::BoxedStore,
    interface::{Lookup, Put, Store, StoreError},
    memory::{MemoryStore, MemoryStoreBuilder, MemoryStoreError, eviction::Eviction},
    tiered::{FarStore, TieredStats, TieredStore, TieredStoreBuilder, TieredStoreError},
};
pub use crate::{
    clock::Timestamp,
    coordination::{
        coordinator::Coordinator,
        fills::Fill,
        lease::{Lease, LeaseEnd, LeaseGuard},
        problems::ProblemCounts,
        removals::Removal,
        replacements::ReplacedInvalidations,
    },
    entry::{
        codec,
        coded_copy::CodedCopy,
        invalidation::Invalidation,
        key::{CacheKey, UrlKey},
        lifetime::{Lifetime, LifetimeSource, Staleness, Validation},
        response::StoredResponse,
        selector::{Selector, VariantId},
        stamp::Stamp,
        tag::TagId,
        variants::Variants,
    },
};
