//! Processes whose clocks are wrong, set or suspended never make a stored response younger.

use actix_web_cache::{ManualClock, RedisStore, TieredStore};

use crate::{
    redis::{cache_builder, get_until_hit, own_store, store_in, tiered_store},
    support::{Answer, RedisServer, START, TestApp, requested_response, secs, test_app},
};

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// A process with a wrong clock stores responses, and a process with the right time reads them.
///
/// RFC 9111, section 4.2.3: the age of a response comes from its `Date` and the recipient's clock.
#[actix_web::test]
async fn wrong_clock_of_the_storing_process_makes_no_response_younger() {
    let redis = RedisServer::start();
    for (n, (sign, seconds)) in [(-1, HOUR), (1, HOUR), (-1, DAY), (1, DAY)].into_iter().enumerate()
    {
        let case = format!("clock off by {sign} × {seconds} s");
        let right = ManualClock::at(START);
        let wrong = ManualClock::at(START.saturating_add_signed(sign * seconds.cast_signed()));
        let site_with = |clock: &ManualClock| {
            let store = store_in(redis.url(), &format!("skew-{n}"));
            let cache = cache_builder(store).clock(clock.clock());
            test_app(&cache.build().unwrap(), requested_response)
        };
        let (reader, writer) = (site_with(&right), site_with(&wrong));
        for (path, lifetime) in [("/minute", 60), ("/days", 3 * DAY)] {
            let answer = format!("cache-control: max-age={lifetime}");
            let fields = [("answer", answer.as_str()), ("host", "h")];
            get_until_hit(&writer.client, path, &fields).await;
            for clock in [&right, &wrong] {
                clock.advance(secs(50));
            }
            let answer = reader.client.get_with(path, &fields).await;
            if sign > 0 || lifetime < seconds {
                assert!(!answer.is_hit(), "{case}: {path} {}", answer.cache_status());
                // The response that replaces it has the right age for both.
                get_until_hit(&reader.client, path, &fields).await;
            } else {
                assert!(answer.is_hit(), "{case}: {path} {}", answer.cache_status());
                assert_eq!(age(&answer), seconds + 50, "{case}");
            }
            let answer = writer.client.get_with(path, &fields).await;
            assert!(!answer.is_hit() || age(&answer) >= 50 || sign > 0, "{case}: {path}");
        }
    }
}

fn age(answer: &Answer) -> u64 {
    answer.field("age").expect("an Age field").parse().unwrap()
}

/// The age of a copy in memory is the larger one by wall clock and by monotonic clock.
#[actix_web::test]
async fn wall_clock_change_makes_no_copy_in_memory_younger() {
    let redis = RedisServer::start();
    let fields = [("answer", "cache-control: max-age=60"), ("host", "h")];
    let tiered_site = || {
        let clock = ManualClock::at(START);
        let store = tiered_store(own_store(redis.url()));
        let cache = cache_builder(store.clone()).clock(clock.clock()).build().unwrap();
        (store, clock, test_app(&cache, requested_response))
    };
    /// Requests the page until a hit comes from memory.
    async fn until_near_hit(
        store: &TieredStore<RedisStore>,
        site: &TestApp,
        fields: &[(&str, &str)],
    ) {
        let from_memory = async {
            let before = store.stats().near_hits;
            while store.stats().near_hits == before {
                get_until_hit(&site.client, "/a", fields).await;
            }
        };
        tokio::time::timeout(secs(10), from_memory).await.expect("a hit in memory");
    }

    // The wall clock is set back: the monotonic clock counts.
    let (store, clock, site) = tiered_site();
    until_near_hit(&store, &site, &fields).await;
    clock.set_wall(START - HOUR);
    clock.advance(secs(59));
    let hit = site.client.get_with("/a", &fields).await;
    assert!(hit.is_hit() && age(&hit) == 59, "{}", hit.cache_status());
    clock.advance(secs(1));
    assert!(
        !site.client.get_with("/a", &fields).await.is_hit(),
        "stale response served after the clock was set back"
    );

    // The wall clock is set forward, or the machine was suspended: the wall clock counts.
    let (store, clock, site) = tiered_site();
    until_near_hit(&store, &site, &fields).await;
    clock.set_wall(START + 59);
    let hit = site.client.get_with("/a", &fields).await;
    assert!(hit.is_hit() && age(&hit) == 59, "{}", hit.cache_status());
    clock.set_wall(START + HOUR);
    assert!(
        !site.client.get_with("/a", &fields).await.is_hit(),
        "stale response served after the machine was suspended"
    );
}
