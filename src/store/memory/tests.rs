use std::{sync::atomic::AtomicUsize, thread};

use actix_web::http::header::ACCEPT;
use bytes::Bytes;

use super::*;
use crate::entry::{
    discriminator::{Discriminator, Property, append},
    fixtures::stored,
    tag::TagId,
};

fn key(n: usize) -> CacheKey {
    CacheKey::new("t", "http", "h", &format!("/{n}"), None)
}

fn put(store: &MemoryStore, key: &CacheKey, body: usize) -> Put {
    let fill = store.coordinator().begin_fill(key, store.coordinator().stamp());
    let body = Bytes::from(vec![0; body]);
    store.add(key, Arc::new(StoredResponse { body, ..stored(0, &[]) }), &fill)
}

fn find(store: &MemoryStore, n: usize) -> Lookup {
    store.find_entry(&key(n), &EntryKey::of(&key(n), &[]))
}

/// Stores a response of 1000 bytes to a request with the forwarded host `host`.
fn put_forged(store: &MemoryStore, key: &CacheKey, host: usize) -> Discriminator {
    let mut discriminator = Discriminator::new();
    append(&mut discriminator, Property::ForwardedHost, host.to_string().as_bytes());
    let fill = store.coordinator().begin_fill(key, store.coordinator().stamp());
    let body = Bytes::from(vec![0; 1000]);
    let response =
        StoredResponse { body, discriminator: Box::from(&*discriminator), ..stored(0, &[]) };
    assert_eq!(store.add(key, Arc::new(response), &fill), Put::Stored);
    discriminator
}

#[test]
fn responses_to_forged_requests_do_not_evict_requested_responses() {
    const PAGES: usize = 20;
    let store = MemoryStore::new(200_000);
    for n in 0..PAGES {
        assert_eq!(put(&store, &key(n), 1000), Put::Stored);
    }
    for host in 0..10_000 {
        put_forged(&store, &key(host % PAGES), host);
        assert!(find(&store, host % PAGES).variants.is_some(), "after {host} forged requests");
    }
    assert!(store.len() > 50, "a store with {} entries is full", store.len());
}

#[test]
fn full_store_evicts_by_its_eviction_setting() {
    const REQUESTED: usize = 20;
    const NEWEST: usize = 10_000;
    // The number of requested pages that a store holds after many new pages, and how many of the
    // last fifty pages. TinyLFU estimates how often a page is requested, so some of them may stay.
    for (eviction, requested, last) in
        [(Eviction::TinyLfu, REQUESTED, 0..=25), (Eviction::Lru, 0, 50..=50)]
    {
        let store = MemoryStore::builder().max_bytes(200_000).eviction(eviction).build().unwrap();
        for n in (0..REQUESTED).chain(1000..1200) {
            put(&store, &key(n), 1000);
        }
        for _ in 0..20 {
            for n in 0..REQUESTED {
                if find(&store, n).variants.is_none() {
                    put(&store, &key(n), 1000);
                }
            }
            store.0.entries.cache.run_pending_tasks();
        }
        for n in NEWEST - 1000..=NEWEST {
            put(&store, &key(n), 1000);
            store.0.entries.cache.run_pending_tasks();
        }
        let is_held = |n: &usize| find(&store, *n).variants.is_some();
        assert_eq!((0..REQUESTED).filter(is_held).count(), requested, "{eviction:?}");
        let held = (NEWEST - 49..=NEWEST).filter(is_held).count();
        assert!(last.contains(&held), "{eviction:?}: {held}");
    }
}

#[test]
fn removal_of_a_key_removes_responses_to_forged_requests_too() {
    let store = MemoryStore::new(1 << 20);
    put(&store, &key(1), 1);
    let forged = put_forged(&store, &key(1), 1);
    put_forged(&store, &key(2), 1);
    let entry = |n| EntryKey::of(&key(n), &forged);
    assert!(store.find_entry(&key(1), &entry(1)).variants.is_some());
    assert_eq!(store.remove_entries_of(&key(1)), 2);
    assert!(find(&store, 1).variants.is_none());
    assert!(store.find_entry(&key(1), &entry(1)).variants.is_none());
    assert!(store.find_entry(&key(2), &entry(2)).variants.is_some());
    assert_eq!(store.remove_keys_of(key(2).url()), 1);
}

#[test]
fn builder_refuses_a_limit_that_is_too_small() {
    for bytes in [0, 1, 5120] {
        let error = MemoryStore::builder().max_bytes(bytes).build().unwrap_err();
        assert!(error.to_string().contains("at least 5128 bytes"), "{error}");
    }
    assert!(MemoryStore::builder().max_bytes(64 * 1024).build().is_ok());
}

#[test]
#[should_panic(expected = "set at least")]
fn new_panics_if_the_limit_is_too_small() {
    let _ = MemoryStore::new(0);
}

#[test]
fn response_larger_than_an_eighth_of_the_store_is_not_stored() {
    let store = MemoryStore::new(1024 * 1024);
    assert_eq!(put(&store, &key(1), 128 * 1024), Put::TooLarge);
    assert!(find(&store, 1).variants.is_none());
    assert_eq!(put(&store, &key(1), 100 * 1024), Put::Stored);
    assert!(find(&store, 1).variants.is_some());
}

#[test]
fn purged_entry_is_freed_on_lookup() {
    let store = MemoryStore::new(16 * 1024 * 1024);
    let tag = TagId::tag("t", "a");
    let tagged =
        |accept| StoredResponse { tags: Box::new([tag]), ..stored(0, &[(ACCEPT, Some(accept))]) };
    let add = |key: &CacheKey, response: StoredResponse| {
        let stamp = store.coordinator().stamp();
        let fill = store.coordinator().begin_fill(key, stamp);
        store.add(key, Arc::new(StoredResponse { stamp, ..response }), &fill)
    };
    for n in 0..1000 {
        assert_eq!(add(&key(n), stored(0, &[(ACCEPT, Some("fr"))])), Put::Stored);
        assert_eq!(add(&key(n), tagged("de")), Put::Stored);
    }
    for n in 1000..2000 {
        assert_eq!(add(&key(n), tagged("de")), Put::Stored);
    }
    store.0.entries.cache.run_pending_tasks();
    let (full, count) = (store.bytes(), store.len());
    store.coordinator().invalidate(&Invalidation::PurgeTags(vec![tag]));
    for n in 0..2000 {
        let found = find(&store, n).variants;
        assert_eq!(found.map(|found| found.responses().len()), (n < 1000).then_some(1), "{n}");
    }
    store.0.entries.cache.run_pending_tasks();
    assert_eq!((store.len(), count), (1000, 2000));
    assert!(store.bytes() < full * 6 / 10, "{} of {full} bytes", store.bytes());
    assert_eq!(add(&key(0), tagged("es")), Put::Stored);
}

#[test]
fn store_stays_within_its_limit() {
    let store = MemoryStore::new(1024 * 1024);
    for n in 0..10_000 {
        put(&store, &key(n), 100);
    }
    store.0.entries.cache.run_pending_tasks();
    assert!(store.bytes() <= 1024 * 1024, "{} bytes", store.bytes());
    assert!(store.len() > 500, "{} entries", store.len());
    for n in 0..100 {
        put(&store, &key(n), 100 * 1024);
        assert!(store.bytes() <= 1024 * 1024 + 110 * 1024, "{} bytes", store.bytes());
    }
}

#[test]
fn change_of_a_hot_entry_is_seen_at_once() {
    let store = MemoryStore::new(1 << 20);
    let body = || find(&store, 1).variants.map(|found| found.responses()[0].body().len());
    type Change = fn(&MemoryStore);
    let changes: [(&str, Change); 4] = [
        ("purge of the URL", |store| assert_eq!(store.remove_keys_of(key(1).url()), 1)),
        ("purge of the key", |store| assert_eq!(store.remove_entries_of(&key(1)), 1)),
        ("purge of all", MemoryStore::clear),
        ("new response", |store| assert_eq!(put(store, &key(1), 7), Put::Stored)),
    ];
    for (case, change) in changes {
        for length in [5, 6] {
            put(&store, &key(1), length);
            for lookup in 0..100 {
                assert_eq!(body(), Some(length), "{case}: lookup {lookup}");
            }
            change(&store);
            let want = (case == "new response").then_some(7);
            assert_eq!(body(), want, "{case}");
        }
    }
}

/// A lookup that begins after a purge has returned does not find the purged response.
#[test]
fn hot_entry_is_not_found_after_a_purge_by_another_thread() {
    const ROUNDS: usize = 300;

    /// Ends the reader, even if an assertion of the other thread fails.
    struct EndReader<'a>(&'a AtomicUsize);

    impl Drop for EndReader<'_> {
        fn drop(&mut self) {
            self.0.store(ROUNDS, Ordering::Release);
        }
    }

    let store = MemoryStore::new(1 << 20);
    // The length of the body is the number of the round.
    let (purged, read) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while purged.load(Ordering::Acquire) < ROUNDS {
                let before = purged.load(Ordering::Acquire);
                let found = find(&store, 1).variants;
                if let Some(found) = found {
                    let round = found.responses()[0].body().len();
                    assert!(round > before, "a response of round {round} after {before}");
                    read.store(round, Ordering::Release);
                }
            }
        });
        let end_reader = EndReader(&purged);
        for round in 1..=ROUNDS {
            put(&store, &key(1), round);
            while read.load(Ordering::Acquire) < round && !reader.is_finished() {
                thread::yield_now();
            }
            // The other thread now looks up the entry again and again.
            for _ in 0..20 {
                assert!(find(&store, 1).variants.is_some());
                thread::yield_now();
            }
            assert_eq!(store.remove_keys_of(key(1).url()), 1);
            purged.store(round, Ordering::Release);
        }
        drop(end_reader);
        reader.join().unwrap();
    });
}
