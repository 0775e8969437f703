//! Stores in Redis and Valkey, alone and with memory in front.

mod cancellation;
mod check;
mod clock_skew;
mod collapsing;
mod content_tags;
mod damaged_records;
mod fixtures;
mod foreign_keys;
mod keyed_bodies;
mod large_responses;
mod leases;
mod linearizability;
mod malformed_replies;
mod no_vary_search;
mod outage;
mod path_purge;
mod permissions;
mod refusals;
mod scripts;
mod stale_responses;
mod store;
mod table_size;
mod tiered;
mod tls;
mod topology;
mod url_removal;
mod use_counts;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use actix_web_cache::{
    Cache, CacheBuilder, RedisStore, TieredStore,
    redis::{RedisSource, RedisStoreBuilder, RedisStoreError},
    store::{Store, TieredStoreBuilder},
};

use crate::support::{Answer, Client, PageServer, RedisCluster, RedisWire, secs};

/// A time-out that no call exceeds, even on a busy machine. All stores and caches here have it, but
/// those of tests about the default time-outs.
const GENEROUS: Duration = secs(5);

/// The address of a Redis: a URL, or a source with settings of its own.
trait Source: TryInto<RedisSource, Error: Into<RedisStoreError>> {}

impl<S: TryInto<RedisSource, Error: Into<RedisStoreError>>> Source for S {}

/// A builder of a store in `namespace`.
fn store_builder(source: impl Source, namespace: &str) -> RedisStoreBuilder {
    RedisStore::builder(source, namespace).lookup_timeout(GENEROUS).write_timeout(GENEROUS)
}

/// A builder of a cache.
fn cache_builder(store: impl Store) -> CacheBuilder {
    Cache::builder(store).lookup_timeout(GENEROUS).store_timeout(GENEROUS)
}

/// A cache with the default policy.
fn cache(store: impl Store) -> Cache {
    cache_builder(store).build().unwrap()
}

/// An application over [`cache`].
fn shop(store: impl Store) -> PageServer {
    PageServer::with(cache(store))
}

/// A store in `namespace`.
fn store_in(source: impl Source, namespace: &str) -> RedisStore {
    store_builder(source, namespace).build().unwrap()
}

/// A store in the namespace that all stores made by this function share.
fn shared_store(source: impl Source) -> RedisStore {
    store_in(source, "shared")
}

/// A store like [`shared_store`], with leases of this length.
fn leasing_store(source: impl Source, lease: Duration) -> RedisStore {
    store_builder(source, "shared").lease(lease).build().unwrap()
}

/// A store in a namespace that no other store uses.
fn own_store(source: impl Source) -> RedisStore {
    store_in(source, &own_namespace())
}

/// A store like [`own_store`], with the default time-outs.
fn own_store_with_defaults(source: impl Source) -> RedisStore {
    RedisStore::new(source, own_namespace()).unwrap()
}

/// A namespace that no other store uses.
fn own_namespace() -> String {
    static STORES: AtomicUsize = AtomicUsize::new(0);
    format!("test-{}", STORES.fetch_add(1, Ordering::Relaxed))
}

/// A builder of a store with memory in front of `redis`.
fn tiered_builder(redis: RedisStore) -> TieredStoreBuilder<RedisStore> {
    TieredStore::builder(redis)
}

/// A store with memory in front of `redis`, with the default settings.
fn tiered_store(redis: RedisStore) -> TieredStore<RedisStore> {
    TieredStore::new(redis)
}

/// The URL of a Cluster, which names all its nodes.
fn cluster_url(cluster: &RedisCluster) -> String {
    let nodes: Vec<_> = (0..3).map(|node| cluster.node(node).addr().to_string()).collect();
    format!("redis-cluster://{}", nodes.join(","))
}

/// The path of one of ten pages.
fn page_path(n: usize) -> String {
    format!("/{}", n % 10)
}

/// The names of those fields of a hash that contain the records of variants.
fn record_fields(wire: &mut RedisWire, key: &str) -> Vec<Vec<u8>> {
    let names = wire.hash(key).into_iter().map(|(name, _)| name);
    names.filter(|name| name.len() == 32).collect()
}

/// Requests `path` until the response is a hit.
pub(crate) async fn get_until_hit(client: &Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    let requests = async {
        loop {
            let answer = client.get_with(path, fields).await;
            if answer.is_hit() {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let hit = tokio::time::timeout(secs(10), requests).await;
    hit.unwrap_or_else(|_| panic!("no hit within 10 s: {path} {fields:?}"))
}
