//! Records in Redis that are damaged, foreign or of another version are misses and are replaced.

use std::collections::HashSet;

use actix_web_cache::store::Store as _;
use hyper::Method;

use crate::{
    redis::{cache, get_until_hit, own_store, record_fields, shop},
    support::{
        PageServer, RedisServer, RedisWire, assert_all_expires, requested_response, resources,
        test_app, wait_until,
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
        Self::written_by(redis, site.get_until_hit(path)).await
    }

    /// Finds the record of the page that `requests` store for the first time.
    async fn written_by<T>(redis: &RedisServer, requests: impl Future<Output = T>) -> Self {
        let known: HashSet<_> = resources(redis).into_iter().collect();
        requests.await;
        let name = resources(redis).into_iter().find(|name| !known.contains(name)).unwrap();
        let mut wire = redis.wire();
        let field = record_fields(&mut wire, &name).remove(0);
        let mut record = Self { wire, name, field, bytes: Vec::new() };
        record.bytes = record.read();
        record
    }

    fn read(&mut self) -> Vec<u8> {
        let command = [b"HGET", self.name.as_bytes(), &self.field];
        self.wire.ask(&command).unwrap().into_bytes()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.set(&self.field.clone(), bytes);
    }

    /// Writes the record with another name of a field. Both names have the same length.
    fn rename_field(&mut self, from: &str, to: &str) {
        let mut bytes = self.bytes.clone();
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).unwrap();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        let checksum = crc32(&bytes[8..]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        self.write(&bytes);
    }

    /// Writes all that belongs to this cache key into the place of another key.
    fn copy_to(&mut self, other: &Self) {
        let (own, others) = (&self.field[..16], &other.field[..16]);
        for (field, value) in self.wire.hash(&self.name) {
            let Some(at) = field.windows(16).position(|part| part == own) else { continue };
            let copied = [&field[..at], others, &field[at + 16..]].concat();
            self.wire.command(&[b"HSET", other.name.as_bytes(), &copied, &value]);
        }
    }

    /// Damages the records of all variants.
    fn damage_all(&mut self) {
        for field in record_fields(&mut self.wire, &self.name) {
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

/// The CRC-32 of gzip (RFC 1952 section 8).
fn crc32(bytes: &[u8]) -> u32 {
    let shift = |crc: u32| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!0, |crc, &byte| (0..8).fold(crc ^ u32::from(byte), |crc, _| shift(crc)))
}

/// A method, the request fields, and the status code of the response of the handler.
type Case<'a> = (Method, &'a [(&'a str, &'a str)], u16);

/// Another program that writes to Redis knows the format of records.
#[actix_web::test]
async fn forged_record_with_a_field_that_is_never_stored_is_a_miss_and_is_replaced() {
    let redis = RedisServer::start();
    let app = test_app(&cache(own_store(redis.url())), requested_response);
    let requests: [Case<'_>; 6] = [
        (Method::GET, &[], 200),
        (Method::HEAD, &[], 200),
        (Method::GET, &[("range", "bytes=0-2")], 200),
        (Method::GET, &[("if-none-match", "\"a\"")], 200),
        (Method::GET, &[("answer-status", "503")], 503),
        (Method::GET, &[("answer-status", "304"), ("answer", "etag: \"a\"")], 304),
    ];
    for (sent, forged, is_used) in [
        ("xet-cookie", "set-cookie", false),
        ("xet-cookie2", "set-cookie2", false),
        ("xatelimit-remaining", "ratelimit-remaining", false),
        ("x-xatelimit-reset", "x-ratelimit-reset", false),
        ("xransfer-encoding", "transfer-encoding", false),
        ("xonnection", "connection", false),
        // The forgery itself succeeds.
        ("xarmless", "harmless", true),
    ] {
        for (method, fields, status) in &requests {
            // No page before has this path.
            let (path, line) = (format!("/{}", app.runs.get()), format!("{sent}: evil"));
            let lines = ["etag: \"a\"", "cache-control: max-age=60, stale-if-error=60", &line];
            let stored = lines.map(|line| ("answer", line));
            let requests = get_until_hit(&app.client, &path, &stored);
            let mut record = Record::written_by(&redis, requests).await;
            record.rename_field(sent, forged);
            let bytes = record.read();
            let answer = app.client.send(method.clone(), &path, fields).await;
            let case = format!("{forged}: {method} {fields:?}");
            assert_eq!(answer.is_hit(), is_used, "{case}: {answer:?}");
            if is_used {
                continue;
            }
            assert_eq!((answer.status.as_u16(), answer.field(forged)), (*status, None), "{case}");
            let hit = get_until_hit(&app.client, &path, &[]).await;
            assert_eq!(hit.field(forged), None, "{case}");
            assert_ne!(record.read(), bytes, "{case}");
        }
    }
}

/// The place of a key in Redis is a digest. A client that finds two keys with equal digests must not
/// get the response for one of them from the other.
#[actix_web::test]
async fn responses_in_the_place_of_another_key_are_misses() {
    let redis = RedisServer::start();
    let store = own_store(redis.url());
    let site = shop(store.clone());
    let mut one = Record::of(&redis, &site, "/a").await;
    let mut other = Record::of(&redis, &site, "/b").await;
    for _ in 0..3 {
        one.copy_to(&other);
        // Each `get` checks that the response is the page of its path.
        assert!(!site.get("/b").await.is_hit);
        site.get_until_hit("/b").await;
        other.copy_to(&one);
        assert!(!site.get("/a").await.is_hit);
        site.get_until_hit("/a").await;
    }
    one.copy_to(&other);
    site.handle().purge_url(&site.url("/a")).await.unwrap();
    assert!(!site.get("/a").await.is_hit && !site.get("/b").await.is_hit);
    site.get_until_hit("/a").await;
    site.get_until_hit("/b").await;
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
