//! HTTP response caching for actix-web 4, as a middleware.
//!
//! [`Cache`] answers `GET` and `HEAD` from a [`Store`](store::Store) where RFC 9111 and the application's
//! [`Policy`] allow, and stores what handlers answer otherwise.
//!
//! ```no_run
//! use actix_web::{App, HttpServer, web};
//! use actix_web_cache::{Cache, MemoryStore};
//!
//! # async fn slow_page() -> &'static str { "page" }
//! #[actix_web::main]
//! async fn main() -> std::io::Result<()> {
//!     let store = MemoryStore::new(64 * 1024 * 1024); // bytes
//!     HttpServer::new(move || {
//!         App::new().wrap(Cache::new(store.clone())).route("/", web::get().to(slow_page))
//!     })
//!     .bind(("127.0.0.1", 8080))?
//!     .run()
//!     .await
//! }
//! ```
//!
//! # Where to look
//!
//! | task | item |
//! |---|---|
//! | wrap an application, a scope, a route | [`Cache`], [`Cache::with_policy`] |
//! | lifetimes, stale windows, limits, cookies, credentials, keys; the defaults and why | [`Policy`] |
//! | exceptions by path, status or predicate | [`Rule`] |
//! | which parameters of a query count | [`QueryKey`] |
//! | a handler's or a route's own word | [`CacheOptions`], [`CachePolicy`], [`ResponseOptions`] |
//! | forget what is stored: the kinds of purges, their costs and guarantees | [`CacheHandle`], [`PurgeTarget`] |
//! | name what is to be forgotten together | [`Rule::tag`], [`Policy::tag`], [`CacheOptions::tag`], `Cache-Groups` |
//! | see what happens | [`Outcome`], [`CacheBuilder::observer`], `Cache-Status` in responses |
//! | end in good order | [`Cache::drain`] |
//! | only write headers | [`SetCacheControl`], [`NeverCache`] |
//! | share pages between processes | `RedisStore` (feature `redis`); `docs/deployment.md` in the repository |
//! | memory in front of a store that processes share | [`TieredStore`] |
//! | keep responses elsewhere | [`Store`](store::Store), [`Selector`](store::Selector), [`store::codec`] for stores of bytes, [`store::remote`] for remote servers, and `conformance` (feature `test-util`) |
//!
//! # What a handler must know
//!
//! On a hit no handler runs: what it counts, logs or checks does not happen. Authorisation belongs
//! outside of the cache, or its answers need `private` or `no-store`. Whatever a page depends on
//! beside its URL must be said: by `Vary`, by a part of the key ([`Policy::key_header`],
//! [`Policy::vary_cookie`], [`Policy::key_with`]), or by refusing to be stored. That holds for
//! guards too: two handlers of one path, told apart by a guard on a request field, are two pages of
//! one URL.
//!
//! Many requests at once for a page that is not stored, or no longer fresh, are one run of its
//! handler; the others wait for it for up to [`Policy::wait_limit`], and read along where its body is
//! streamed. The cache reads that body on its own account: a client that is slow or leaves holds up
//! nobody. Where the answer cannot be stored, they all run the handler in parallel, and for ten seconds
//! nobody waits for that URL. `docs/concurrent-requests.md` in the repository has the whole of it.
//!
//! A stored `GET` answers `HEAD`, also where no route for `HEAD` exists. A `HEAD` stores nothing; it
//! updates what is stored if its answer says that this still holds.
//!
//! Only complete responses are stored, and parts are cut from them. What a handler answers to
//! `Range` by itself (206) passes: storing and combining parts would be a second kind of stored
//! response, for little use inside an application.
//!
//! # Features
//!
//! * `regex`: `Rule::regex`.
//! * `redis`: `RedisStore`, shared by processes on one Redis or Valkey server.
//! * `redis-cluster`, `redis-sentinel`: the same on a Cluster, or on a primary that Sentinels watch.
//! * `redis-rustls`, `redis-native-tls`: `rediss://` URLs, by rustls or by the system's TLS library. If
//!   both are enabled, rustls is used.
//! * `test-util`: `ManualClock`, and `conformance`, the suite that any store must pass.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod cache_control;
mod clock;
mod coordination;
mod entry;
mod fill;
#[cfg(fuzzing)]
pub mod fuzzing;
mod middleware;
mod options;
pub mod outcome;
mod policy;
mod poll_once;
mod purge;
mod response;
mod semantics;
mod service;
mod shared;
pub mod store;

#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub mod redis {
    //! The settings, errors and counters of [`RedisStore`].

    pub use crate::store::redis::{
        RedisSource, RedisStats, RedisStore, RedisStoreBuilder, RedisStoreError,
    };
}

#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub use crate::clock::ManualClock;
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use crate::redis::RedisStore;
#[doc(inline)]
pub use crate::{
    cache_control::{NeverCache, SetCacheControl},
    clock::Clock,
    middleware::{Cache, CacheBuilder, DrainError},
    options::{CacheOptions, CachePolicy, ResponseOptions},
    outcome::Outcome,
    policy::{ConfigError, Policy, QueryKey, Rule},
    purge::{
        error::PurgeError,
        handle::{CacheHandle, CacheNotConfigured},
        purged::Purged,
        target::PurgeTarget,
    },
    shared::Mode,
    store::{memory::MemoryStore, tiered::TieredStore},
};
// Named by the `Transform` implementations only: nothing that an application needs to name.
#[doc(hidden)]
pub use crate::{
    cache_control::{HeadersFuture, HeadersMiddleware},
    options::CachePolicyMiddleware,
    response::body::CacheBody,
    service::middleware::{CacheFuture, CacheMiddleware},
};

/// The README's code compiles; some of it is about Redis.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../README.md")]
struct Readme;
