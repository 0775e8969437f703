//! The examples of which two processes share one Redis.

use std::time::Duration;

use hyper::Method;
use tokio::time::{Instant, timeout};

use crate::{
    examples::runner::{Example, Suggestion},
    redis::get_until_hit,
    support::{RedisServer, example, secs},
};

/// The processes have different addresses; this field gives their pages the same cache key.
const HOST: [(&str, &str); 1] = [("host", "shop")];

/// Two processes of an example on one Redis. The page that the example suggests is a hit in both.
async fn start_two(name: &str, redis: &RedisServer) -> [Example; 2] {
    let both =
        [(); 2].map(|()| Example::start_command(example(name).env("REDIS_URL", redis.url()), 2));
    // Only the first suggestion: its response may not be stored yet when the second one is sent.
    let Suggestion { path, text, .. } = &both[0].suggestions[0];
    // On a busy machine a lookup may exceed its time-out: then nothing is stored.
    let first = async {
        loop {
            let answer = both[0].client.get_with(path, &HOST).await;
            if !answer.cache_status().contains("store-error") {
                return answer;
            }
        }
    };
    let first = timeout(secs(10), first).await.expect("a response without a store failure");
    assert!(first.cache_status().contains(text), "{}", first.cache_status());
    for example in &both {
        get_until_hit(&example.client, path, &HOST).await;
        let hit = example.client.get_with(path, &HOST).await;
        assert_eq!(hit.body, first.body, "a page of the other process");
    }
    both
}

#[actix_web::test]
async fn redis_shows_page_and_purge_shared_by_two_processes() {
    let redis = RedisServer::start();
    let [one, other] = start_two("redis", &redis).await;
    assert_eq!(other.client.send(Method::POST, "/publish", &[]).await.text(), "published\n");
    let purged = one.client.get_with("/news", &HOST).await;
    assert!(!purged.is_hit(), "{}", purged.cache_status());
    let stats = one.client.get("/stats").await;
    assert_eq!(stats.cache_status(), "fwd=bypass; detail=rule");
    assert!(stats.text().contains("lookups: ") && stats.text().contains("circuit_open: false"));
}

#[actix_web::test]
async fn tiered_shows_memory_hits_and_purge_of_other_process_within_a_second() {
    let redis = RedisServer::start();
    let [one, other] = start_two("tiered", &redis).await;
    let near_hits = async || {
        let stats = one.client.get("/stats").await.text().to_owned();
        let (_, hits) = stats.split_once("near_hits: ").expect("near_hits");
        hits.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    let before = near_hits().await;
    assert!(one.client.get_with("/price/tea", &HOST).await.is_hit());
    assert!(near_hits().await > before, "the hit did not come from memory");
    assert_eq!(other.client.send(Method::PUT, "/prices", &[]).await.text(), "changed\n");
    // The time at which the last request with a hit was sent: responses may take long on a busy
    // machine.
    let purged = Instant::now();
    let last_hit = async {
        let mut last = Duration::ZERO;
        loop {
            let sent = purged.elapsed();
            if !one.client.get_with("/price/tea", &HOST).await.is_hit() {
                return last;
            }
            last = sent;
            tokio::task::yield_now().await;
        }
    };
    let last_hit = timeout(secs(10), last_hit).await.expect("the purge reaches the other process");
    assert!(last_hit <= secs(1), "purged page served after {last_hit:?}");
}
