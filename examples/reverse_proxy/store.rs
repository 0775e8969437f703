//! Makes the store that the command line names.
//!
//! Each kind of store has its own type, but a `CacheBuilder` has the same type with any store.

use std::{error::Error, time::Duration};

use actix_web_cache::{Cache, CacheBuilder, MemoryStore};

/// The options of the command line that concern the store.
pub(crate) struct Choice {
    /// `memory`, a URL, or `tiered+` and a URL.
    pub(crate) store: String,
    pub(crate) memory_bytes: usize,
    pub(crate) namespace: Option<String>,
    pub(crate) lease: Option<Duration>,
}

/// Makes a cache with the chosen store. Errors do not contain the URL: it may have a password.
pub(crate) fn cache_over(choice: &Choice) -> Result<CacheBuilder, Box<dyn Error>> {
    let scheme = choice.store.split(':').next().unwrap_or_default();
    if scheme == "memory" {
        let store = MemoryStore::builder().max_bytes(choice.memory_bytes).build()?;
        return Ok(Cache::builder(store));
    }
    let (kind, url) = match choice.store.strip_prefix("tiered+") {
        Some(url) => (Kind::Tiered, url),
        None => (Kind::Redis, choice.store.as_str()),
    };
    if !url.starts_with("redis") {
        return Err(format!(
            "unknown store {scheme:?}: expected memory, redis://HOST:PORT or \
             tiered+redis://HOST:PORT"
        )
        .into());
    }
    over_redis(kind, url, choice)
}

/// The kinds of stores that use Redis.
enum Kind {
    /// Redis alone.
    Redis,
    /// Memory in front of Redis.
    Tiered,
}

#[cfg(feature = "redis")]
fn over_redis(kind: Kind, url: &str, choice: &Choice) -> Result<CacheBuilder, Box<dyn Error>> {
    use actix_web_cache::{RedisStore, TieredStore};

    let namespace = choice.namespace.as_deref().unwrap_or("reverse-proxy");
    let mut redis = RedisStore::builder(url, namespace);
    if let Some(lease) = choice.lease {
        redis = redis.lease(lease);
    }
    let redis = redis.build()?;
    Ok(match kind {
        Kind::Redis => Cache::builder(redis),
        Kind::Tiered => {
            Cache::builder(TieredStore::builder(redis).near_bytes(choice.memory_bytes).build()?)
        }
    })
}

#[cfg(not(feature = "redis"))]
fn over_redis(_: Kind, _: &str, _: &Choice) -> Result<CacheBuilder, Box<dyn Error>> {
    Err("this store needs a feature: cargo run --features redis --example reverse_proxy".into())
}
