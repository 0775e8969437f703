//! What authors of stores need: the trait, what stores keep, and the conformance suite.

mod erased;
pub(crate) mod interface;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;
pub mod remote;
pub(crate) mod tiered;

#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
#[expect(clippy::expect_used, reason = "its checks panic, as tests do")]
pub mod conformance;

pub(crate) use self::erased::DynStore;
pub use self::{
    interface::{Lookup, Put, Store, StoreError},
    memory::{MemoryStore, MemoryStoreBuilder, MemoryStoreError},
    tiered::{FarStore, TieredStats, TieredStore, TieredStoreBuilder, TieredStoreError},
};
pub use crate::{
    clock::Timestamp,
    coordination::{Coordinator, Fill, Lease, LeaseEnd, LeaseGuard},
    entry::{
        codec,
        invalidation::Invalidation,
        key::CacheKey,
        response::{Lifetime, LifetimeSource, Staleness, StoredResponse, Validation, Variants},
        selector::{Selector, VariantId},
        stamp::Stamp,
        tag::TagId,
    },
};
