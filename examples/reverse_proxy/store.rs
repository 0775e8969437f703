//! Where responses are kept, as the command line says. Each kind of store is a type of its own, and so
//! chosen here once: a cache is the same type over any of them.

use std::{error::Error, time::Duration};

use actix_web_cache::{Cache, CacheBuilder, MemoryStore};

/// What the command line says of the store.
pub(crate) struct Choice {
    /// `memory`, a URL, or `tiered+` and a URL.
    pub(crate) store: String,
    pub(crate) memory_bytes: usize,
    pub(crate) namespace: Option<String>,
    pub(crate) lease: Option<Duration>,
}

/// A cache over the chosen store. Errors name no URL: there may be a password in it.
pub(crate) fn cache_over(choice: &Choice) -> Result<CacheBuilder, Box<dyn Error>> {
    let scheme = choice.store.split(':').next().unwrap_or_default();
    if scheme == "memory" {
        let store = MemoryStore::builder().max_bytes(choice.memory_bytes).build()?;
        return Ok(Cache::builder(store));
    }
    let (kind, url) = match choice.store.strip_prefix("tiered+") {
        Some(url) => (Kind::Tiered, url),
        None => (Kind::Far, choice.store.as_str()),
    };
    if !url.starts_with("redis") {
        return Err(format!(
            "there is no store {scheme:?}: use memory, redis://HOST:PORT or \
             tiered+redis://HOST:PORT"
        )
        .into());
    }
    over_redis(kind, url, choice)
}

/// What is in Redis.
enum Kind {
    /// All.
    Far,
    /// All, behind memory.
    Tiered,
}

#[cfg(feature = "redis")]
fn over_redis(kind: Kind, url: &str, choice: &Choice) -> Result<CacheBuilder, Box<dyn Error>> {
    use actix_web_cache::{RedisStore, TieredStore};

    let namespace = choice.namespace.as_deref().unwrap_or("reverse-proxy");
    let mut far = RedisStore::builder(url, namespace);
    if let Some(lease) = choice.lease {
        far = far.lease(lease);
    }
    let far = far.build()?;
    Ok(match kind {
        Kind::Far => Cache::builder(far),
        Kind::Tiered => {
            Cache::builder(TieredStore::builder(far).near_bytes(choice.memory_bytes).build()?)
        }
    })
}

#[cfg(not(feature = "redis"))]
fn over_redis(_: Kind, _: &str, _: &Choice) -> Result<CacheBuilder, Box<dyn Error>> {
    Err("this store needs the feature redis: cargo run --features redis --example reverse_proxy"
        .into())
}
