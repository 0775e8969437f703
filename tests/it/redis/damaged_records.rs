//! Records in Redis that are damaged, foreign or of another version are misses and are replaced.

use std::collections::HashSet;

use actix_web_cache::store::Store as _;

use crate::{
    redis::{bulk, own_store, shop},
    support::{
        PageServer, RedisReply, RedisServer, RedisWire, assert_all_expires, resources, wait_until,
    },
};

/// A record in Redis, read and written past the store.
struct Record {
    wire: RedisWire,
    name: String,
    field: Vec<u8>,
    bytes: Vec<u8>,
}

impl Record {
    /// Stores the page at `path` for the first time, and finds its record.
    async fn of(redis: &RedisServer, site: &PageServer, path: &str) -> Self {
        let known: HashSet<_> = resources(redis).into_iter().collect();
        site.get_until_hit(path).await;
        let name = resources(redis).into_iter().find(|name| !known.contains(name)).unwrap();
        let mut wire = redis.wire();
        let RedisReply::List(fields) = wire.ask(&["HKEYS", &name]).unwrap() else { panic!() };
        let field = fields.into_iter().map(bulk).find(|field| field.len() == 32).unwrap();
        let mut record = Self { wire, name, field, bytes: Vec::new() };
        record.bytes = record.read();
        record
    }

    fn read(&mut self) -> Vec<u8> {
        let command = [b"HGET", self.name.as_bytes(), &self.field];
        bulk(self.wire.ask(&command).unwrap())
    }

    fn write(&mut self, bytes: &[u8]) {
        self.set(&self.field.clone(), bytes);
    }

    /// Damages the records of all variants.
    fn damage_all(&mut self) {
        let RedisReply::List(fields) = self.wire.ask(&["HKEYS", &self.name]).unwrap() else {
            panic!("not a hash")
        };
        for field in fields.into_iter().map(bulk).filter(|field| field.len() == 32) {
            self.set(&field, b"damaged");
        }
    }

    fn set(&mut self, field: &[u8], bytes: &[u8]) {
        self.wire.command(&[b"HSET", self.name.as_bytes(), field, bytes]);
    }
}

#[actix_web::test]
async fn damaged_record_is_a_miss_and_is_counted_and_replaced() {
    let redis = RedisServer::start();
    let store = own_store(redis.url());
    let site = shop(store.clone());
    let mut record = Record::of(&redis, &site, "/a").await;
    let mut other = Record::of(&redis, &site, "/b").await;
    let good = record.bytes.clone();
    let cut = (0..good.len()).map(|end| (format!("cut at {end}"), good[..end].to_vec()));
    let flipped = (0..good.len()).map(|at| {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        (format!("flipped bit in byte {at}"), bytes)
    });
    let mut newer = good.clone();
    newer[2] += 1;
    let foreign = [
        ("newer version".to_owned(), newer),
        ("trailing byte".to_owned(), [good.as_slice(), b"x"].concat()),
        ("record of another page".to_owned(), other.read()),
        ("JSON".to_owned(), b"{\"json\": true}".to_vec()),
    ];
    for (case, damaged) in cut.chain(flipped).chain(foreign) {
        let before = store.stats().unreadable_records;
        record.write(&damaged);
        assert!(!site.get("/a").await.is_hit, "{case}");
        assert_eq!(store.stats().unreadable_records, before + 1, "{case}");
        site.get_until_hit("/a").await;
        // A hit may come before the fill has ended. A request that joins the fill looks up a second
        // time, and would count the damaged record twice.
        wait_until("the fill has ended", || store.coordinator().open_flights() == 0).await;
        assert_ne!(record.read(), damaged, "{case}");
    }
    assert!(site.get("/b").await.is_hit);
    assert!(site.warnings().is_empty(), "a damaged record is not a store failure");
    assert!(!store.stats().circuit_open && store.stats().lookups_failed == 0);
}

#[actix_web::test]
async fn damaged_fields_beside_a_record_cause_a_miss() {
    let redis = RedisServer::start();
    let store = own_store(redis.url());
    let site = shop(store.clone());
    let mut record = Record::of(&redis, &site, "/a").await;
    let damaged: [&[u8]; 11] = [
        b"",
        b"accept",
        b"accept\n",
        b"accept,accept\n",
        b"\xff\x00",
        b"a b\n",
        b",\n",
        b"\n1234567890123456nan",
        b"0a:99;",
        b"99999999999999999999",
        &[b'x'; 99],
    ];
    let index = [&b"m"[..], &record.field[..16]].concat();
    for field in [&index[..], b"x", b"u"] {
        for damaged in damaged {
            // The records are damaged as well, so that a new one is written beside the damaged
            // field.
            record.damage_all();
            record.set(field, damaged);
            assert!(!site.get("/a").await.is_hit, "{}", damaged.escape_ascii());
            site.get_until_hit("/a").await;
        }
    }
    assert_all_expires(&redis);
}

#[actix_web::test]
async fn value_of_another_type_is_a_miss_and_is_replaced() {
    let redis = RedisServer::start();
    let store = own_store(redis.url());
    let site = shop(store.clone());
    let mut record = Record::of(&redis, &site, "/a").await;
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
        assert!(!site.get("/a").await.is_hit, "{foreign:?}");
        site.get_until_hit("/a").await;
        assert_eq!(record.wire.command(&["TYPE", &record.name]), "hash", "{foreign:?}");
        // A value of another type does not stop a purge, either.
        record.wire.command(&["DEL", &record.name]);
        record.wire.command(&command);
        site.handle().purge_url(&site.url("/a")).await.unwrap();
        site.get_until_hit("/a").await;
    }
    assert_all_expires(&redis);
    assert!(site.warnings().is_empty() && store.stats().lookups_failed == 0);
}
