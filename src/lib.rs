//! An HTTP response cache for actix-web 4, as a middleware.
//!
//! [`Cache`] stores the responses of handlers in a [`Store`](store::Store), and answers `GET`,
//! `HEAD` and `QUERY` requests from the store where RFC 9111 and the [`Policy`] of the application
//! allow it.
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
//! The [guide] has a page for each task. The [examples] are programs that you can run.
//!
//! # Contents
//!
//! | task | item |
//! |---|---|
//! | cache an application, a scope or a route | [`Cache`], [`Cache::with`], [`CacheBuilder`] |
//! | set lifetimes, stale windows, limits, credentials and keys; read the defaults | [`Policy`] |
//! | give some requests another policy, or exclude them | [`Rule`] |
//! | store pages of people | [`Policy::per_user`], [`Policy::share_authorized`], [`Policy::anonymous_only`] |
//! | choose which query parameters are part of the cache key | [`QueryKey`] |
//! | set options of one response in its handler, on its route or in its response extensions | [`CacheOptions`], [`CachePolicy`], [`ResponseOptions`] |
//! | let a function refuse to store responses | [`Policy::store_if`], [`StorableResponse`], [`StoreDecision`] |
//! | set options of the response from code that has no request | [`tag`], [`ttl`], [`no_store`] |
//! | purge stored responses | [`CacheHandle`], [`PurgeTarget`], [`Purged`], [`PurgeError`] |
//! | tell a CDN about purges and tags | [`CacheBuilder::on_purge`], [`Policy::emit_tags`] |
//! | tag responses that are purged together | [`Policy::tag`], [`Policy::tag_fields`], [`CacheOptions::tag`] |
//! | observe the outcome of each request | [`Outcome`], [`CacheBuilder::observer`], the `Cache-Status` field |
//! | turn the cache off and on | [`Mode`], [`CacheHandle::set_mode`] |
//! | keep the responses of builds apart | [`CacheBuilder::version`] |
//! | finish storing responses before the server stops | [`Cache::drain`] |
//! | write `Cache-Control` without storing responses | [`SetCacheControl`], [`NeverCache`] |
//! | store responses in memory | [`MemoryStore`] |
//! | share stored responses between processes | `RedisStore` and the module `redis` (feature `redis`), [`TieredStore`] |
//! | choose the store at run time | [`BoxedStore`](store::BoxedStore) |
//! | write a store | [`Store`](store::Store), [`store::codec`], [`store::remote`], `store::conformance` (feature `test-util`) |
//! | control the time in tests | [`Clock`], `ManualClock` (feature `test-util`) |
//!
//! # Requirements on handlers
//!
//! * **No handler runs on a hit.** Code in the handler that counts, logs or checks permissions does
//!   not run either. Put authorization outside of the cache, or send `private` or `no-store`.
//! * **The cache must know all inputs on which a response depends.** The cache knows the URL, the
//!   request fields in `Vary`, and the parts that the application adds to the cache key:
//!   [`Policy::key_header`], [`Policy::vary_cookie`], [`Policy::key_with`]. If guards on a request
//!   field choose between two handlers of one path, both handlers must send `Vary` with this field.
//!   See [responses that depend on the user].
//! * **Concurrent requests share one call of the handler** if the response can be stored. A request
//!   waits for the response of another request for up to [`Policy::wait_limit`]. See [concurrent
//!   requests].
//! * **A stored `GET` response answers `HEAD` requests**, even if there is no route for `HEAD`. A
//!   response to `HEAD` is not stored. With [`Policy::fetch_on_head`], the cache calls the handler
//!   with `GET` instead, and stores the response.
//! * **Only complete responses are stored.** The cache answers range requests with a part of a
//!   stored response. A 206 response of a handler is passed on and not stored.
//!
//! # Order of middlewares
//!
//! Register the cache before CORS and `NormalizePath`. The cache then runs inside these middlewares,
//! and one stored response serves clients with different origins. It also compresses responses
//! ([`Policy::compress`]). If you use `Compress` instead, register it after the cache. With the
//! feature `session`, register the cache before the sessions of actix-session, too. Without this
//! feature, register it after them, so that the cache sees their cookies.
//!
//! # Features
//!
//! No feature is enabled by default.
//!
//! * `regex` adds `Rule::regex`.
//! * `redis` adds `RedisStore`, a store on one Redis or Valkey server. See [many processes].
//! * `redis-cluster` and `redis-sentinel` let `RedisStore` use a Redis Cluster, or a primary that
//!   Sentinels watch.
//! * `redis-rustls` and `redis-native-tls` allow `rediss://` URLs, with rustls or with the TLS
//!   library of the system. If both features are enabled, the cache uses rustls.
//! * `session` lets the cache see the sessions of actix-session. A response that may depend on a
//!   session is then not stored.
//! * `serde` adds `CacheFile`: policies and rules in a file. See [configuration file].
//! * `test-util` adds `ManualClock`, a clock for tests, and `store::conformance`, a test suite that
//!   every store must pass.
//!
//! [guide]: https://github.com/actix-web-cache/actix-web-cache/blob/main/docs/README.md
//! [examples]: https://github.com/actix-web-cache/actix-web-cache/blob/main/examples/README.md
//! [responses that depend on the user]: https://github.com/actix-web-cache/actix-web-cache/blob/main/docs/pages-of-people.md
//! [concurrent requests]: https://github.com/actix-web-cache/actix-web-cache/blob/main/docs/concurrent-requests.md
//! [configuration file]: https://github.com/actix-web-cache/actix-web-cache/blob/main/docs/configuration-file.md
//! [many processes]: https://github.com/actix-web-cache/actix-web-cache/blob/main/docs/many-processes.md

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
mod cache_control;
mod clock;
mod compression;
mod coordination;
mod entry;
mod fill;
#[cfg(any(test, fuzzing))]
#[expect(clippy::indexing_slicing, clippy::unwrap_used, reason = "a finding panics")]
pub mod fuzzing;
mod middleware;
mod named_options;
mod options;
pub mod outcome;
mod policy;
mod poll_once;
mod purge;
mod purge_event;
mod response;
mod semantics;
mod service;
mod session;
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
#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
pub use crate::policy::document::{file::CacheFile, policy_changes::PolicyChanges};
#[cfg(feature = "redis")]
#[cfg_attr(docsrs, doc(cfg(feature = "redis")))]
pub use crate::redis::RedisStore;
#[doc(inline)]
pub use crate::{
    cache_control::{NeverCache, SetCacheControl},
    clock::Clock,
    compression::level::CompressionLevel,
    entry::content_coding::ContentCoding,
    middleware::{Cache, CacheBuilder, DrainError},
    options::{
        CacheOptions, CachePolicy, ResponseOptions,
        scope::{no_store, tag, ttl},
    },
    outcome::Outcome,
    policy::{Compression, ConfigError, Policy, QueryKey, Rule, StorableResponse, StoreDecision},
    purge::{
        error::PurgeError,
        handle::{CacheHandle, CacheNotConfigured},
        purged::Purged,
        target::PurgeTarget,
    },
    purge_event::{PurgeAction, PurgeCause, PurgeEvent, PurgeScope, PurgeState},
    semantics::client_lifetime::ClientHeaders,
    shared::Mode,
    store::{memory::MemoryStore, tiered::TieredStore},
};
// Only the `Transform` implementations name these types. An application need not name them.
#[doc(hidden)]
pub use crate::{
    cache_control::{HeadersFuture, HeadersMiddleware},
    options::CachePolicyMiddleware,
    response::body::CacheBody,
    service::middleware::{CacheFuture, CacheMiddleware},
};

/// The code of the README and the guide, as doc tests. Some of the code needs Redis,
/// `CacheFile` or `ManualClock`.
#[cfg(all(doctest, feature = "redis", feature = "serde", feature = "test-util"))]
mod guide {
    macro_rules! pages {
        ($($name:ident $file:literal)*) => {
            $(#[doc = include_str!(concat!("../", $file))] struct $name;)*
        };
    }

    pages! {
        Readme "README.md"
        CacheARoute "docs/cache-a-route.md"
        PagesOfPeople "docs/pages-of-people.md"
        ConfigurationFile "docs/configuration-file.md"
        Purge "docs/purge.md"
        ConcurrentRequests "docs/concurrent-requests.md"
        BehindACdn "docs/behind-a-cdn.md"
        ManyProcesses "docs/many-processes.md"
        Deploys "docs/deploys.md"
        Compress "docs/compress.md"
        Files "docs/files.md"
        Test "docs/test.md"
        Debug "docs/debug.md"
        Performance "docs/performance.md"
        HitRatio "docs/hit-ratio.md"
        Migrate "docs/migrate.md"
        Recipes "docs/recipes.md"
    }
}
