//! HTTP response caching for actix-web 4.

mod body;
mod clock;
mod fill;
mod handle;
mod headers_only;
mod hit;
mod key;
mod middleware;
mod options;
mod outcome;
mod policy;
mod semantics;
mod service;
mod shared;
mod stamp;
mod store;
mod stored;
mod tag;
mod time;

pub use crate::{
    body::CacheBody,
    clock::Clock,
    handle::{CacheHandle, CacheNotConfigured, PurgeError, Purged},
    headers_only::{HeadersFuture, HeadersMiddleware, NeverCache, SetCacheControl},
    key::Key,
    middleware::{Cache, CacheBuilder},
    options::{CacheOptions, CachePolicy, CachePolicyMiddleware, Overrides},
    outcome::{Bypass, Forward, NotStored, Outcome, Stored},
    policy::{ConfigError, Policy, Query, Rule, TRACKING},
    service::{CacheFuture, CacheMiddleware},
    shared::Mode,
    stamp::Stamp,
    store::{
        Commons, Fill, Invalidation, Lookup, MemoryStore, MemoryStoreBuilder, MemoryStoreError,
        Put, Store, StoreError,
    },
    stored::{Basis, Lifetime, StoredResponse, Variants},
    tag::TagId,
    time::Now,
};
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub use crate::{clock::ManualClock, store::conformance};
