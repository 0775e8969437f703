//! Counting the uses of variants in Redis, which lookups do not wait for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web_cache::{Policy, RedisStore, store::Store as _};
use tokio::time::timeout;

use crate::{
    redis::{cache_builder, get_until_hit},
    support::{
        FakeRedis, FakeReply, RedisServer, TestApp, fills_ended, requested_response, secs, test_app,
    },
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

const FIELDS: [(&str, &str); 3] = [("host", "h"), ("accept", "a"), ("answer", "vary: accept")];

/// An application over this server, and a stored page.
async fn app_with_a_page(fake: &FakeRedis, write_timeout: Duration) -> (TestApp, RedisStore) {
    let builder = RedisStore::builder(fake.url(), "shop");
    let store = builder.lookup_timeout(secs(60)).write_timeout(write_timeout).build().unwrap();
    let policy = Policy::new().default_ttl(secs(600));
    let cache = cache_builder(store.clone()).policy(policy).build().unwrap();
    let app = test_app(&cache, requested_response);
    get_until_hit(&app.client, "/", &FIELDS).await;
    fills_ended(store.coordinator()).await;
    (app, store)
}

/// Requests the page until the condition holds.
async fn hits_until(app: &TestApp, holds: impl Fn() -> bool) {
    let hits = async {
        while !holds() {
            assert!(app.client.get_with("/", &FIELDS).await.is_hit());
        }
    };
    timeout(secs(30), hits).await.expect("enough uses");
}

#[actix_web::test]
async fn uses_that_redis_does_not_count_are_bounded() {
    let (redis, counts) = (RedisServer::start(), Arc::<AtomicUsize>::default());
    let fake = without_counts(&redis, Arc::clone(&counts));
    let (app, store) = app_with_a_page(&fake, secs(60)).await;
    // One lookup of sixteen counts, so this takes about 500 lookups.
    hits_until(&app, || counts.load(Ordering::SeqCst) == MAX_COUNTING).await;
    for _ in 0..300 {
        assert!(app.client.get_with("/", &FIELDS).await.is_hit());
    }
    assert_eq!(counts.load(Ordering::SeqCst), MAX_COUNTING);
    assert!(!store.stats().circuit_open);
}

#[actix_web::test]
async fn uses_that_redis_does_not_count_do_not_open_the_circuit_breaker() {
    let (redis, counts) = (RedisServer::start(), Arc::<AtomicUsize>::default());
    let fake = without_counts(&redis, Arc::clone(&counts));
    let (app, store) = app_with_a_page(&fake, secs(2)).await;
    // No use is counted beyond the bound until earlier ones have timed out.
    hits_until(&app, || counts.load(Ordering::SeqCst) > MAX_COUNTING).await;
    assert_eq!(store.stats().circuit_openings, 0);
    assert!(app.client.get_with("/", &FIELDS).await.is_hit());
}
