//! HTTP response caching for actix-web 4.

mod clock;
mod key;
mod outcome;
mod policy;
mod semantics;
mod stamp;
mod store;
mod stored;
mod tag;
mod time;

#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub use crate::{clock::ManualClock, store::conformance};
pub use crate::{
    clock::Clock,
    key::Key,
    outcome::{Bypass, Forward, NotStored, Outcome, Stored},
    policy::{ConfigError, Policy, Query, Rule, TRACKING},
    stamp::Stamp,
    store::{
        Commons, Fill, Invalidation, Lookup, MemoryStore, MemoryStoreBuilder, MemoryStoreError, Put,
        Store, StoreError,
    },
    stored::{Basis, Lifetime, StoredResponse, Variants},
    tag::TagId,
    time::Now,
};
