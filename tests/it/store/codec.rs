//! A store that keeps encoded records passes the conformance suite, and clients cannot tell it from
//! a store that keeps responses in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use actix_web_cache::{
    Cache, Clock, ManualClock, Policy, Rule,
    store::{
        CacheKey, Coordinator, Fill, Invalidation, Lookup, Put, Selector, Stamp, Store, StoreError,
        StoredResponse, UrlKey, Variants, codec, conformance,
    },
};
use bytes::Bytes;
use hyper::header::HeaderValue;

use crate::support::{
    Answer, START, TestApp, fills_ended, requested_response, secs, store, test_app,
};

/// A store that keeps the encoded variants of each cache key, the newest first.
#[derive(Clone)]
struct EncodedStore {
    records: Arc<Mutex<HashMap<Vec<u8>, Vec<Bytes>>>>,
    /// The invalidations that outlive the process.
    invalidations: Arc<Mutex<Vec<(Stamp, Invalidation)>>>,
    coordinator: Arc<Coordinator>,
    clock: Clock,
}

impl EncodedStore {
    fn new(clock: Clock) -> Self {
        let coordinator = Arc::new(Coordinator::new());
        Self { records: Arc::default(), invalidations: Arc::default(), coordinator, clock }
    }

    /// Opens the store again, as after a restart of the process.
    fn reopen(&self) -> Self {
        let invalidations = self.invalidations.lock().unwrap();
        let highest = invalidations.iter().map(|(stamp, _)| *stamp).max().unwrap_or_default();
        let coordinator = Coordinator::resume(highest);
        coordinator.record_remote(&invalidations, highest);
        Self { coordinator: Arc::new(coordinator), ..self.clone() }
    }

    /// Decodes records. Those that cannot be decoded are skipped.
    fn decode(&self, key: &CacheKey, records: &[Bytes]) -> Option<Variants> {
        let now = self.clock.now();
        let decoded =
            records.iter().rev().filter_map(|record| codec::decode(record.clone(), key, now).ok());
        decoded.fold(None, |variants, response| {
            Variants::add(variants.as_ref(), Arc::new(response), usize::MAX).or(variants)
        })
    }
}

impl Store for EncodedStore {
    fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    async fn lookup(&self, key: &CacheKey, _: &Selector<'_>) -> Result<Lookup, StoreError> {
        let stamp = self.coordinator.stamp();
        let records = self.records.lock().unwrap().get(key.as_bytes()).cloned();
        let variants = records.and_then(|records| self.decode(key, &records)).map(Arc::new);
        Ok(Lookup::new(variants, stamp))
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        let mut all = self.records.lock().unwrap();
        if fill.is_invalidated() || !self.coordinator.is_valid(key, &response) {
            return Ok(Put::Outdated);
        }
        let existing = all.get(key.as_bytes()).and_then(|records| self.decode(key, records));
        let Some(variants) = Variants::add(existing.as_ref(), response, usize::MAX) else {
            return Ok(Put::Outdated);
        };
        let encoded = variants.responses().iter().map(|response| codec::encode(key, response));
        let Ok(records) = encoded.map(|record| record.map(Bytes::from)).collect() else {
            return Ok(Put::TooLarge);
        };
        all.insert(key.as_bytes().to_vec(), records);
        Ok(Put::Stored)
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        let removed = self.records.lock().unwrap().remove(key.as_bytes());
        Ok(removed.map_or(0, |records| records.len()))
    }

    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        let mut all = self.records.lock().unwrap();
        let removed = all.extract_if(|key, _| url.contains_bytes(key));
        Ok(removed.map(|(_, records)| records.len()).sum())
    }

    async fn invalidate(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        self.coordinator.invalidate(invalidation);
        let record = (self.coordinator.stamp(), invalidation.clone());
        self.invalidations.lock().unwrap().push(record);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn encoded_store_passes_conformance_suite() {
    conformance::check(|| EncodedStore::new(Clock::system())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn purges_of_a_reopened_store_reach_earlier_responses() {
    let store = EncodedStore::new(Clock::system());
    conformance::purges_outlive_the_process(|| store.reopen()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[should_panic(expected = "a purged response came back")]
async fn store_that_forgets_its_invalidations_fails_the_check() {
    let store = EncodedStore::new(Clock::system());
    conformance::purges_outlive_the_process(|| {
        let coordinator = Arc::new(Coordinator::resume(Stamp::ZERO));
        EncodedStore { coordinator, ..store.clone() }
    })
    .await;
}

#[test]
fn logical_time_of_a_resumed_coordinator_is_later_than_all_written_stamps() {
    for highest in [0, 57, u64::MAX - 1] {
        let coordinator = Coordinator::resume(Stamp::new(highest));
        assert!(coordinator.stamp() > Stamp::new(highest));
        let present = Clock::system().now().wall().as_micros();
        let before = u128::from(coordinator.stamp().get()) + 60_000_000;
        assert!(before > present, "the present time in microseconds, or later");
    }
}

/// An application whose cache has settings for freshness lifetimes and tags, which are stored with
/// responses.
fn app_over<S: Store>(store: S, clock: &ManualClock) -> TestApp {
    let policy = Policy::new().default_ttl(secs(60)).client_ttl(secs(20)).tag("all");
    let cache = Cache::builder(store).clock(clock.clock()).policy(policy);
    test_app(
        &cache.rule(Rule::any().with(|policy| policy.status_ttl(404, secs(5)))).build().unwrap(),
        requested_response,
    )
}

/// One request: seconds since the request before, path, fields, and a part of the `Cache-Status` of
/// the response.
type Step<'a> = (u64, &'a str, &'a [(&'a str, &'a str)], &'a str);

/// Status, field lines and body of a response, with the lines in the order of their names.
fn parts(answer: &Answer) -> (u16, Vec<(String, HeaderValue)>, Bytes) {
    let lines = answer.headers.iter();
    let mut lines: Vec<_> = lines.map(|(name, value)| (name.to_string(), value.clone())).collect();
    // A stable sort: lines with the same name keep their order.
    lines.sort_by(|(one, _), (other, _)| one.cmp(other));
    (answer.status.as_u16(), lines, answer.body.clone())
}

#[actix_web::test]
async fn encoded_and_memory_stores_give_identical_responses() {
    let (clock, memory) = (ManualClock::at(START), store());
    let records = EncodedStore::new(clock.clock());
    let sites = [app_over(records.clone(), &clock), app_over(memory.clone(), &clock)];
    let tagged = [("answer", "etag: \"a\""), ("answer", "cache-control: max-age=30")];
    let varying = |language| {
        [
            ("accept-language", language),
            ("answer", "vary: accept-language"),
            ("answer", "link: <a>"),
        ]
    };
    let missing = [("answer-status", "404")];
    let empty = [("answer-status", "204"), ("answer", "cache-control: max-age=90")];
    let unchanged = [("answer-status", "304"), ("answer", "etag: \"a\"")];
    let steps: [Step<'_>; 15] = [
        (0, "/", &[("answer", "x-a: 1"), ("answer", "x-a: 2")], "stored"),
        (1, "/", &[], "hit"),
        (0, "/tagged", &tagged, "stored"),
        (0, "/tagged", &[("if-none-match", "\"a\"")], "hit"),
        (0, "/language", &varying("de"), "stored"),
        (0, "/language", &varying("fr"), "stored"),
        (5, "/language", &[("accept-language", "de")], "hit"),
        (0, "/language", &[("accept-language", "fr")], "hit"),
        (0, "/none", &missing, "stored"),
        (0, "/none", &[], "hit"),
        (0, "/empty", &empty, "stored"),
        (25, "/empty", &[], "hit"),
        (5, "/tagged", &unchanged, "stored"),
        (1, "/tagged", &[("range", "bytes=1-2")], "hit"),
        (60, "/", &[], "stored"),
    ];
    for (n, (seconds, path, fields, want)) in steps.into_iter().enumerate() {
        clock.advance(secs(seconds));
        let [encoded, in_memory] = &sites;
        let answers = [
            encoded.client.get_with(path, fields).await,
            in_memory.client.get_with(path, fields).await,
        ];
        fills_ended(records.coordinator()).await;
        fills_ended(memory.coordinator()).await;
        assert!(answers[0].cache_status().contains(want), "step {n}: {:?}", answers[0]);
        assert_eq!(parts(&answers[0]), parts(&answers[1]), "step {n}: {path}");
    }
}

#[actix_web::test]
async fn record_of_another_process_keeps_its_age() {
    // The servers have different ports; this field gives their pages the same cache key.
    let host = [("host", "t")];
    let clock = ManualClock::at(START);
    let records = EncodedStore::new(clock.clock());
    let first = app_over(records.clone(), &clock);
    assert!(first.client.get_with("/", &host).await.is_stored());
    fills_ended(records.coordinator()).await;
    // A process whose monotonic clock and logical time start anew.
    let clock = ManualClock::at(START + 30);
    let later =
        EncodedStore { records: Arc::clone(&records.records), ..EncodedStore::new(clock.clock()) };
    let second = app_over(later, &clock);
    let hit = second.client.get_with("/", &host).await;
    assert_eq!((hit.cache_status(), hit.text()), ("hit; ttl=30".to_owned(), "run 1"));
    assert_eq!(hit.field("age").as_deref(), Some("30"));
    // A process whose clock is an hour slow cannot know the age, so it does not use the record.
    let clock = ManualClock::at(START - 3600);
    let behind =
        EncodedStore { records: Arc::clone(&records.records), ..EncodedStore::new(clock.clock()) };
    let third = app_over(behind, &clock);
    assert!(third.client.get_with("/", &host).await.is_stored());
}

#[actix_web::test]
async fn damaged_record_is_a_miss_and_is_replaced() {
    let clock = ManualClock::at(START);
    let records = EncodedStore::new(clock.clock());
    let app = app_over(records.clone(), &clock);
    for run in 1..4 {
        let miss = app.client.get("/").await;
        assert!(miss.is_stored(), "{miss:?}");
        fills_ended(records.coordinator()).await;
        let hit = app.client.get("/").await;
        assert_eq!((hit.is_hit(), hit.text()), (true, &*format!("run {run}")));
        let mut all = records.records.lock().unwrap();
        let record = &mut all.values_mut().next().unwrap()[0];
        let mut bytes = record.to_vec();
        match run {
            1 => bytes[200] ^= 1,
            _ => bytes.truncate(100),
        }
        *record = bytes.into();
    }
}
