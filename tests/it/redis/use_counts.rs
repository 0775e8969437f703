//! Counting the uses of variants in Redis, which lookups do not wait for.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use actix_web_cache::{Policy, RedisStore, store::Store as _};

use crate::{
    redis::{cache_builder, get_until_hit},
    support::{FakeRedis, FakeReply, RedisServer, fills_ended, requested_response, secs, test_app},
};

const COUNT_USE: &str = include_str!("../../../src/store/redis/count_use.lua");

/// The largest number of uses that are being counted at the same time.
const MAX_COUNTING: usize = 32;

/// A server that never answers the script which counts uses, and passes all other commands to
/// `redis`.
fn without_counts(redis: &RedisServer, counts: Arc<AtomicUsize>) -> FakeRedis {
    FakeRedis::in_front_of(redis, move |command| {
        let is_count = command.get(1).is_some_and(|script| script == COUNT_USE.as_bytes());
        is_count.then(|| {
            counts.fetch_add(1, Ordering::SeqCst);
            FakeReply::Nothing
        })
    })
}

#[actix_web::test]
async fn uses_that_redis_does_not_count_are_bounded() {
    let (redis, counts) = (RedisServer::start(), Arc::<AtomicUsize>::default());
    let fake = without_counts(&redis, Arc::clone(&counts));
    let builder = RedisStore::builder(fake.url(), "shop");
    let store = builder.lookup_timeout(secs(60)).write_timeout(secs(60)).build().unwrap();
    let policy = Policy::new().default_ttl(secs(600));
    let cache = cache_builder(store.clone()).policy(policy).build().unwrap();
    let app = test_app(&cache, requested_response);
    let fields = [("host", "h"), ("accept", "a"), ("answer", "vary: accept")];
    get_until_hit(&app.client, "/", &fields).await;
    fills_ended(store.coordinator()).await;
    // One lookup of sixteen counts, so this takes about 500 lookups.
    while counts.load(Ordering::SeqCst) < MAX_COUNTING {
        assert!(app.client.get_with("/", &fields).await.is_hit());
    }
    for _ in 0..300 {
        assert!(app.client.get_with("/", &fields).await.is_hit());
    }
    assert_eq!(counts.load(Ordering::SeqCst), MAX_COUNTING);
    assert!(!store.stats().circuit_open);
}

#[actix_web::test]
async fn uses_that_redis_does_not_count_do_not_open_the_circuit_breaker() {
    let (redis, counts) = (RedisServer::start(), Arc::<AtomicUsize>::default());
    let fake = without_counts(&redis, Arc::clone(&counts));
    let builder = RedisStore::builder(fake.url(), "shop");
    let store = builder.lookup_timeout(secs(60)).write_timeout(secs(2)).build().unwrap();
    let policy = Policy::new().default_ttl(secs(600));
    let cache = cache_builder(store.clone()).policy(policy).build().unwrap();
    let app = test_app(&cache, requested_response);
    let fields = [("host", "h"), ("accept", "a"), ("answer", "vary: accept")];
    get_until_hit(&app.client, "/", &fields).await;
    fills_ended(store.coordinator()).await;
    while counts.load(Ordering::SeqCst) < MAX_COUNTING / 2 {
        assert!(app.client.get_with("/", &fields).await.is_hit());
    }
    // All counts time out, without a lookup that succeeds between them.
    actix_web::rt::time::sleep(secs(3)).await;
    assert_eq!(store.stats().circuit_openings, 0);
    assert!(app.client.get_with("/", &fields).await.is_hit());
}
