//! Counting the uses of variants in Redis, which lookups do not wait for.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use actix_web_cache::{Policy, RedisStore, store::Store as _};

use crate::{
    redis::{cache_builder, get_until_hit},
    support::{
        FakeRedis, FakeReply, RedisReply, RedisServer, fills_ended, requested_response, secs,
        test_app,
    },
};

const COUNT_USE: &str = include_str!("../../../src/store/redis/count_use.lua");

/// The largest number of uses that are being counted at the same time.
const MAX_COUNTING: usize = 32;

fn encoded(reply: &RedisReply) -> Vec<u8> {
    match reply {
        RedisReply::Nil => b"$-1\r\n".to_vec(),
        RedisReply::Integer(number) => format!(":{number}\r\n").into_bytes(),
        RedisReply::Bytes(bytes) => {
            [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
        }
        RedisReply::List(items) => {
            let length = format!("*{}\r\n", items.len()).into_bytes();
            length.into_iter().chain(items.iter().flat_map(encoded)).collect()
        }
        RedisReply::Error(error) => format!("-{error}\r\n").into_bytes(),
    }
}

/// A server that never answers the script which counts uses, and passes all other commands to
/// `redis`.
fn without_counts(redis: &RedisServer, counts: Arc<AtomicUsize>) -> FakeRedis {
    let wire = Mutex::new(redis.wire());
    FakeRedis::new(move |command| {
        if command.get(1).is_some_and(|script| script == COUNT_USE.as_bytes()) {
            counts.fetch_add(1, Ordering::SeqCst);
            return FakeReply::Nothing;
        }
        FakeReply::Bytes(encoded(&wire.lock().unwrap().ask(command).unwrap()))
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
