//! Records that are not what they should be, and clocks that are not: what cannot be trusted is a
//! miss, and replaced.

use std::collections::HashSet;

use actix_web_cache::{Cache, ManualClock, RedisStore, TieredStore, store::Store as _};

use crate::{
    redis_store::{store_at, until_hit},
    support::{
        RedisReply, RedisServer, RedisWire, START, Shop, Site, assert_all_expires, eventually,
        obey, resources, secs, site,
    },
};

/// A record in Redis, as whoever can write there reaches it.
struct Record {
    wire: RedisWire,
    name: String,
    field: Vec<u8>,
    bytes: Vec<u8>,
}

impl Record {
    /// Of a page that is being stored for the first time.
    async fn of(redis: &RedisServer, shop: &Shop, path: &str) -> Self {
        let known: HashSet<_> = resources(redis).into_iter().collect();
        shop.until_hit(path).await;
        let name = resources(redis).into_iter().find(|name| !known.contains(name)).unwrap();
        let mut wire = redis.wire();
        let RedisReply::List(fields) = wire.ask(&["HKEYS", &name]).unwrap() else { panic!() };
        let field = fields.into_iter().map(bytes).find(|field| field.len() == 16).unwrap();
        let mut record = Self { wire, name, field, bytes: Vec::new() };
        record.bytes = record.read();
        record
    }

    fn read(&mut self) -> Vec<u8> {
        let ask = [b"HGET", self.name.as_bytes(), &self.field];
        bytes(self.wire.ask(&ask).unwrap())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.set(&self.field.clone(), bytes);
    }

    /// Those of all variants.
    fn damage_all(&mut self) {
        let RedisReply::List(fields) = self.wire.ask(&["HKEYS", &self.name]).unwrap() else {
            panic!("no hash")
        };
        for field in fields.into_iter().map(bytes).filter(|field| field.len() == 16) {
            self.set(&field, b"damaged");
        }
    }

    fn set(&mut self, field: &[u8], bytes: &[u8]) {
        self.wire.command(&[b"HSET", self.name.as_bytes(), field, bytes]);
    }
}

fn bytes(reply: RedisReply) -> Vec<u8> {
    let RedisReply::Bytes(bytes) = reply else { panic!("{reply:?}") };
    bytes
}

#[actix_web::test]
async fn a_damaged_record_is_a_miss_is_counted_and_is_replaced() {
    let redis = RedisServer::start();
    let store = store_at(&redis.url());
    let shop = Shop::over(store.clone());
    let mut record = Record::of(&redis, &shop, "/a").await;
    let mut other = Record::of(&redis, &shop, "/b").await;
    let good = record.bytes.clone();
    let cut = (0..good.len()).map(|end| (format!("cut at {end}"), good[..end].to_vec()));
    let flipped = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        (format!("a bit of byte {at}"), bytes)
    });
    let mut newer = good.clone();
    newer[2] += 1;
    let whole = [
        ("another version".to_owned(), newer),
        ("something after its end".to_owned(), [good.as_slice(), b"x"].concat()),
        ("another page's".to_owned(), other.read()),
        ("another's".to_owned(), b"{\"json\": true}".to_vec()),
    ];
    for (case, damaged) in cut.chain(flipped).chain(whole) {
        let before = store.stats().unreadable;
        record.write(&damaged);
        assert!(!shop.get("/a").await.is_hit, "{case}");
        assert_eq!(store.stats().unreadable, before + 1, "{case}");
        shop.until_hit("/a").await;
        // Its hit may come before it is known here that it is stored; who asks then looks twice.
        eventually("the page is stored", || store.coordinator().open_flights() == 0).await;
        assert_ne!(record.read(), damaged, "{case}");
    }
    assert!(shop.get("/b").await.is_hit);
    assert!(shop.warnings().is_empty(), "a damaged record is no trouble of the store's");
    assert!(!store.stats().is_open && store.stats().failed == 0);
}

#[actix_web::test]
async fn what_stands_beside_a_record_may_be_damaged_too() {
    let redis = RedisServer::start();
    let store = store_at(&redis.url());
    let shop = Shop::over(store.clone());
    let mut record = Record::of(&redis, &shop, "/a").await;
    let odd: [&[u8]; 7] =
        [b"", b"accept", b"accept,accept", b"\xff\x00", b"a b", b",", &[b'x'; 99]];
    for field in [&b"n"[..], b"i"] {
        for odd in odd {
            // The records as well, so that another is written beside what is odd.
            record.damage_all();
            record.set(field, odd);
            assert!(!shop.get("/a").await.is_hit, "{}", odd.escape_ascii());
            shop.until_hit("/a").await;
        }
    }
    assert_all_expires(&redis);
}

#[actix_web::test]
async fn what_is_no_resource_under_a_resources_name_is_a_miss_and_is_replaced() {
    let redis = RedisServer::start();
    let store = store_at(&redis.url());
    let shop = Shop::over(store.clone());
    let mut record = Record::of(&redis, &shop, "/a").await;
    for foreign in [
        &["LPUSH", "", "x"][..],
        &["SET", "", "x"],
        &["ZADD", "", "1", "x"],
        &["SADD", "", "x"],
        &["XADD", "", "*", "a", "b"],
        &["HSET", "", "x", "y"],
    ] {
        let mut command = foreign.to_vec();
        command[1] = &record.name;
        record.wire.command(&["DEL", &record.name]);
        record.wire.command(&command);
        assert!(!shop.get("/a").await.is_hit, "{foreign:?}");
        shop.until_hit("/a").await;
        assert_eq!(record.wire.command(&["TYPE", &record.name]), "hash", "{foreign:?}");
        // It can be purged as well.
        record.wire.command(&["DEL", &record.name]);
        record.wire.command(&command);
        shop.handle().purge_url(&shop.url("/a")).await.unwrap();
        shop.until_hit("/a").await;
    }
    assert_all_expires(&redis);
    assert!(shop.warnings().is_empty() && store.stats().failed == 0);
}

const HOUR: u64 = 60 * 60;
const DAY: u64 = 24 * HOUR;

/// Two machines, the clock of the second of which shows the right time.
#[actix_web::test]
async fn a_machine_whose_clock_is_wrong_makes_nothing_younger_for_others() {
    let redis = RedisServer::start();
    for (n, (wrong, seconds)) in
        [(-1, HOUR), (1, HOUR), (-1, DAY), (1, DAY)].into_iter().enumerate()
    {
        let case = format!("{wrong} × {seconds} s");
        let right = ManualClock::at(START);
        let other = ManualClock::at(START.saturating_add_signed(wrong * seconds.cast_signed()));
        let make = |clock: &ManualClock| {
            let store = RedisStore::builder(redis.url()).namespace(format!("skew-{n}"));
            let cache = Cache::builder(store.build().unwrap()).clock(clock.clock());
            site(&cache.build().unwrap(), obey)
        };
        let (reader, writer) = (make(&right), make(&other));
        for (path, lifetime) in [("/minute", 60), ("/days", 3 * DAY)] {
            let answer = format!("cache-control: max-age={lifetime}");
            let fields = [("answer", answer.as_str()), ("host", "h")];
            until_hit(&writer.client, path, &fields).await;
            for clock in [&right, &other] {
                clock.advance(secs(50));
            }
            let answer = reader.client.get_with(path, &fields).await;
            if wrong > 0 || lifetime < seconds {
                assert!(!answer.is_hit(), "{case}: {path} {}", answer.cache_status());
                // And what is stored instead is as old as it is, for both.
                until_hit(&reader.client, path, &fields).await;
            } else {
                assert!(answer.is_hit(), "{case}: {path} {}", answer.cache_status());
                assert_eq!(age(&answer), seconds + 50, "{case}");
            }
            let answer = writer.client.get_with(path, &fields).await;
            assert!(!answer.is_hit() || age(&answer) >= 50 || wrong > 0, "{case}: {path}");
        }
    }
}

fn age(answer: &crate::support::Answer) -> u64 {
    answer.field("age").expect("an age").parse().unwrap()
}

/// One machine, whose copies in memory are judged by both of its clocks.
#[actix_web::test]
async fn a_clock_that_is_set_or_a_machine_that_slept_makes_no_copy_in_memory_younger() {
    let redis = RedisServer::start();
    let fields = [("answer", "cache-control: max-age=60"), ("host", "h")];
    let make = || {
        let clock = ManualClock::at(START);
        let store = TieredStore::new(store_at(&redis.url()));
        let cache = Cache::builder(store.clone()).clock(clock.clock()).build().unwrap();
        (store, clock, site(&cache, obey))
    };
    async fn near_hit(store: &TieredStore, site: &Site, fields: &[(&str, &str)]) {
        let from_memory = async {
            let before = store.stats().near_hits;
            while store.stats().near_hits == before {
                until_hit(&site.client, "/a", fields).await;
            }
        };
        tokio::time::timeout(secs(10), from_memory).await.expect("a hit in memory");
    }

    // The clock is set back: the time that has passed since counts.
    let (store, clock, site) = make();
    near_hit(&store, &site, &fields).await;
    clock.set_wall(START - HOUR);
    clock.advance(secs(59));
    let old = site.client.get_with("/a", &fields).await;
    assert!(old.is_hit() && age(&old) == 59, "{}", old.cache_status());
    clock.advance(secs(1));
    assert!(!site.client.get_with("/a", &fields).await.is_hit(), "an hour was won");

    // It is set forward, or the machine slept: what it shows counts.
    let (store, clock, site) = make();
    near_hit(&store, &site, &fields).await;
    clock.set_wall(START + 59);
    let old = site.client.get_with("/a", &fields).await;
    assert!(old.is_hit() && age(&old) == 59, "{}", old.cache_status());
    clock.set_wall(START + HOUR);
    assert!(!site.client.get_with("/a", &fields).await.is_hit(), "a nap made it younger");
}
