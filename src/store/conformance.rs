//! The conformance suite: checks that every [`Store`] must pass.
//!
//! Each check takes a new, empty store, and panics if the store fails the check. The checks spawn
//! tasks, so run them in a tokio runtime. Use a runtime with several threads, so that the checks
//! can also find races.
//!
//! A [`Fill`](crate::store::Fill) is one call of a handler whose response may be stored. A fill is invalidated if its
//! key is purged before the response is stored. The selecting fields of a key are the request
//! fields whose values choose the variant, for example those in `Vary`.
//!
//! ```
//! # #[cfg(feature = "test-util")] {
//! use actix_web_cache::{MemoryStore, store::conformance};
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! conformance::check(|| MemoryStore::new(1024 * 1024)).await;
//! # });
//! # }
//! ```

mod responses;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::http::header::ACCEPT;
use bytes::Bytes;

use self::responses::{
    Request, Response, begin, found, found_for, found_with_copy, key, lookup, only, tag_id,
};
use super::interface::{Put, Store};
use crate::{
    clock::{Clock, Timestamp},
    entry::{
        coded_copy::{CodedCopy, ContentDigest},
        content_coding::ContentCoding,
        invalidation::Invalidation,
        key::CacheKey,
        lifetime::Lifetime,
        response::StoredResponse,
        tag::TagId,
        validity::Validity,
    },
};

/// Runs all checks, each on a new store that `make` returns.
///
/// # Panics
///
/// If the store fails a check.
pub async fn check<S: Store>(make: impl Fn() -> S) {
    let store = || Arc::new(make());
    empty_store_finds_nothing(&*store()).await;
    stored_response_is_found_unchanged(&*store()).await;
    whole_keys_are_compared(&*store()).await;
    variants_are_kept_apart(&*store()).await;
    response_without_a_selecting_field_is_refused(&*store()).await;
    removal_removes_all_variants_of_a_key(&*store()).await;
    removal_of_a_url_removes_all_its_keys(&*store()).await;
    invalidated_fill_is_not_stored(&*store()).await;
    purged_responses_are_not_valid(&*store()).await;
    expired_responses_are_kept_as_stale(&*store()).await;
    coded_copies_are_kept_with_their_response(&*store()).await;
    coded_copies_are_kept_with_their_response(&*store()).await;
    concurrent_puts_are_all_kept(store()).await;
    removal_applies_to_concurrent_fills(store()).await;
}

/// Checks that an empty store finds and removes nothing.
///
/// # Panics
///
/// If the store finds or removes a response.
pub async fn empty_store_finds_nothing<S: Store>(store: &S) {
    let lookup = lookup(store, &key("/"), None).await;
    assert!(lookup.variants.is_none(), "an empty store found a response");
    let removed = store.remove(&key("/")).await.expect("remove from an empty store");
    assert_eq!(removed, 0, "an empty store removed a response");
}

/// Checks that a lookup returns a stored response unchanged, and that [`Store::lookup_now`] finds
/// it too if the store implements this method. If the store implements [`Store::put_now`], this
/// method stores the response, and [`Store::put`] stores another one.
///
/// # Panics
///
/// If the response is not found, or is changed.
pub async fn stored_response_is_found_unchanged<S: Store>(store: &S) {
    let key = key("/a");
    let put = Response::new(1).tag(b"t");
    assert_eq!(put.put(store, &key).await, Put::Stored);
    assert_eq!(Response::new(2).put_later(store, &self::key("/b")).await, Put::Stored);
    let other = only(self::found(store, &self::key("/b")).await);
    assert_eq!(*other.body(), Response::new(2).body, "body of a response that `put` stored");
    let found = only(found(store, &key).await);
    let want = put.stored(store.coordinator().stamp());
    assert_eq!(found.status(), want.status(), "status");
    assert_eq!(found.body(), want.body(), "body");
    assert_eq!(found.fields, want.fields, "fields, their lines and order");
    // Compare only wall-clock times. A store does not keep monotonic times, because they have no
    // meaning in another process.
    assert_eq!(
        found.lifetime.response_time.wall(),
        want.lifetime.response_time.wall(),
        "time of the response"
    );
    let lifetime = Lifetime { response_time: want.lifetime.response_time, ..found.lifetime };
    assert_eq!(lifetime, want.lifetime, "lifetime");
    assert_eq!(found.stated, want.stated, "stated lifetime");
    assert_eq!(found.client_ttl, want.client_ttl, "lifetime for clients");
    assert_eq!(found.original_fields, want.original_fields, "fields as the handler sent them");
    assert_eq!(found.discriminator, want.discriminator, "discriminator");
    assert_eq!(found.tags(), want.tags(), "tags");
    assert_eq!(found.stamp(), want.stamp(), "stamp");
    assert_eq!(found.selecting, want.selecting, "selecting fields");
    let request = Request(None);
    if let Some(found) = store.lookup_now(&key, &request.selector()) {
        let variants = found.expect("lookup_now").variants.expect("lookup_now finds the key");
        assert_eq!(variants.responses().len(), 1, "lookup_now and lookup disagree");
    }
}

/// Checks that each cache key has its own response, even if two keys differ in only one part.
///
/// # Panics
///
/// If a lookup finds another key's response.
pub async fn whole_keys_are_compared<S: Store>(store: &S) {
    let mut with_empty_part = key("/a");
    with_empty_part.push_part("x", Some(b""));
    let mut with_absent_part = key("/a");
    with_absent_part.push_part("x", None);
    let keys = [
        key("/a"),
        key("/b"),
        key("/a/"),
        CacheKey::new("other", "http", "host", "/a", None),
        CacheKey::new("conformance", "https", "host", "/a", None),
        CacheKey::new("conformance", "http", "host", "/a", Some("")),
        with_empty_part,
        with_absent_part,
    ];
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(Response::new(n).put(store, key).await, Put::Stored);
    }
    for (n, key) in keys.iter().enumerate() {
        let response = only(found(store, key).await);
        assert_eq!(
            *response.body(),
            Response::new(n).body,
            "the response of another key was found"
        );
    }
}

/// Checks that a new variant replaces only the stored variant with the same values of the selecting
/// fields.
///
/// # Panics
///
/// If a variant is lost, or not replaced.
pub async fn variants_are_kept_apart<S: Store>(store: &S) {
    let key = key("/a");
    for (n, accept) in [(1, "de"), (2, "fr"), (3, "de")] {
        assert_eq!(Response::new(n).accept(accept).put(store, &key).await, Put::Stored);
    }
    for (accept, want) in [("de", Some(3)), ("fr", Some(2)), ("es", None)] {
        let found = found_for(store, &key, Some(accept)).await;
        let body = found.map(|response| response.body().clone());
        assert_eq!(body, want.map(|n| Response::new(n).body), "Accept: {accept}");
    }
    let variants = lookup(store, &key, Some("es")).await.variants.expect("variants of the key");
    assert_eq!(variants.selecting_fields(), [ACCEPT], "selecting fields");
}

/// Checks that a store refuses a response whose list of selecting fields omits a field by which the
/// stored variants of its key are selected.
///
/// # Panics
///
/// If the store keeps the response.
pub async fn response_without_a_selecting_field_is_refused<S: Store>(store: &S) {
    let key = key("/a");
    assert_eq!(Response::new(1).accept("de").put(store, &key).await, Put::Stored);
    assert_eq!(Response::new(2).put(store, &key).await, Put::Outdated);
    let kept = found_for(store, &key, Some("de")).await.expect("the first response");
    assert_eq!(*kept.body(), Response::new(1).body);
}

/// Checks that the removal of a key removes and counts all its variants, and removes no other key.
///
/// # Panics
///
/// If a variant is left or not counted, or another key is removed.
pub async fn removal_removes_all_variants_of_a_key<S: Store>(store: &S) {
    for (n, accept) in [(1, "de"), (2, "fr")] {
        assert_eq!(Response::new(n).accept(accept).put(store, &key("/a")).await, Put::Stored);
    }
    assert_eq!(Response::new(3).put(store, &key("/b")).await, Put::Stored);
    assert_eq!(store.remove(&key("/a")).await.expect("remove"), 2, "the number of variants");
    for accept in ["de", "fr"] {
        let left = found_for(store, &key("/a"), Some(accept)).await;
        assert!(left.is_none(), "a variant is left after the removal");
    }
    assert_eq!(found(store, &key("/b")).await.len(), 1, "another key was removed");
}

/// Checks that the removal of a URL removes and counts the variants of all its keys: of both
/// schemes, and with any further parts. The removal removes no key of another URL.
///
/// # Panics
///
/// If a variant is left or not counted, or another URL is removed.
pub async fn removal_of_a_url_removes_all_its_keys<S: Store>(store: &S) {
    let url = key("/a");
    let none = store.remove_url(url.url()).await.expect("remove a URL without responses");
    assert_eq!(none, 0, "a response was removed from an empty store");
    let mut keys = vec![url.clone(), CacheKey::new("conformance", "https", "host", "/a", None)];
    for tenant in 0..20 {
        let mut key = url.clone();
        key.push_part("tenant", Some(&[tenant]));
        keys.push(key);
    }
    let others =
        [key("/a/"), key("/"), key("/b"), CacheKey::new("other", "http", "host", "/a", None)];
    for (n, key) in keys.iter().chain(&others).enumerate() {
        assert_eq!(Response::new(n).accept("de").put(store, key).await, Put::Stored);
    }
    assert_eq!(Response::new(1).accept("fr").put(store, &url).await, Put::Stored);
    let removed = store.remove_url(url.url()).await.expect("remove a URL");
    assert_eq!(removed, keys.len() + 1, "the number of variants");
    for key in &keys {
        let left = found_for(store, key, Some("de")).await;
        assert!(left.is_none(), "a key of the URL is left after its removal");
    }
    for key in &others {
        assert!(found_for(store, key, Some("de")).await.is_some(), "another URL was removed");
    }
    assert_eq!(Response::new(2).accept("de").put(store, &url).await, Put::Stored);
}

/// Checks that a response is not stored if its fill was invalidated: its key was purged after its
/// handler was called.
///
/// # Panics
///
/// If the store keeps the response.
pub async fn invalidated_fill_is_not_stored<S: Store>(store: &S) {
    let key = key("/a");
    let fill = begin(store, &key).await;
    store.coordinator().invalidate_fills(&key);
    store.remove(&key).await.expect("remove");
    let put = store.put(&key, Arc::new(Response::new(1).stored(fill.stamp())), &fill).await;
    assert_eq!(put.expect("put"), Put::Outdated);
    assert!(found(store, &key).await.is_empty(), "the response of an invalidated fill was stored");
    assert_eq!(Response::new(2).put(store, &key).await, Put::Stored, "a later fill was refused");
}

/// Checks that a purge applies to each response with the purged tag whose handler was called before
/// the purge, even if the response is stored after the purge.
///
/// # Panics
///
/// If a response is valid although its handler was called before the purge, or invalid although its
/// handler was called after the purge.
pub async fn purged_responses_are_not_valid<S: Store>(store: &S) {
    let keys = |n: usize| (key(&format!("/{n}/before")), key(&format!("/{n}/during")));
    let implied = [TagId::url(keys(1).0.url()), TagId::url(keys(1).1.url())];
    let all = [
        Invalidation::PurgeTags(vec![tag_id(b"t")]),
        // These tags are not stored with a response. The tag of a URL follows from the cache key.
        Invalidation::PurgeTags(Vec::from(implied)),
        Invalidation::PurgeAll,
    ];
    for (n, invalidation) in all.into_iter().enumerate() {
        let (before, during) = keys(n);
        let tagged = Response::new(1).tag(b"t");
        assert_eq!(tagged.put(store, &before).await, Put::Stored);
        let fill = begin(store, &during).await;
        store.invalidate(&invalidation).await.expect("invalidate");
        let late = tagged.stored(fill.stamp());
        store.put(&during, Arc::new(late), &fill).await.expect("put");
        for key in [&before, &during] {
            assert!(found(store, key).await.is_empty(), "valid after {invalidation:?}");
        }
        assert_eq!(tagged.put(store, &before).await, Put::Stored);
        assert_eq!(
            found(store, &before).await.len(),
            1,
            "the response of a later fill is not valid after {invalidation:?}"
        );
    }
}

/// Checks a store whose responses outlive the process, such as a store on disk. The first call of
/// `open` must return an empty store. Each later call must return a store with the responses of the
/// store before it, as after a restart of the process. This check is not part of [`check`].
///
/// # Panics
///
/// If a response is lost when the store is opened again, if a purged or removed response comes
/// back, or if a purge does not apply to a response of an earlier process.
pub async fn purges_outlive_the_process<S: Store>(open: impl Fn() -> S) {
    let (purged, removed, expired, kept) = (key("/p"), key("/r"), key("/e"), key("/k"));
    let store = open();
    // The logical time moves on, so that the stamps of the responses are not the first ones.
    for tag in [b"x", b"y"] {
        let tags = vec![tag_id(tag)];
        store.invalidate(&Invalidation::PurgeTags(tags)).await.expect("invalidate");
    }
    for (key, tag) in [(&purged, b"p"), (&removed, b"r"), (&expired, b"e"), (&kept, b"k")] {
        assert_eq!(Response::new(1).tag(tag).put(&store, key).await, Put::Stored);
    }
    let purge = |tag: &[u8]| Invalidation::PurgeTags(vec![tag_id(tag)]);
    store.invalidate(&purge(b"p")).await.expect("invalidate");
    let (tags, since) = (vec![tag_id(b"e")], Clock::system().now());
    store.invalidate(&Invalidation::ExpireTags { tags, since }).await.expect("expire");
    store.remove(&removed).await.expect("remove");
    drop(store);

    let store = open();
    assert!(found(&store, &purged).await.is_empty(), "a purged response came back");
    assert!(found(&store, &removed).await.is_empty(), "a removed response came back");
    let stale = only(found(&store, &expired).await);
    let validity = store.coordinator().validity(&expired, &stale);
    assert!(validity.expired_since().is_some(), "an expired response became fresh");
    only(found(&store, &kept).await);
    store.invalidate(&purge(b"k")).await.expect("invalidate");
    assert!(
        found(&store, &kept).await.is_empty(),
        "the purge did not reach a response of an earlier process: open with Coordinator::resume"
    );
    assert_eq!(Response::new(2).tag(b"k").put(&store, &kept).await, Put::Stored);
    only(found(&store, &kept).await);
    drop(store);

    let store = open();
    assert_eq!(only(found(&store, &kept).await).body(), "body 2", "the response after the purge");
    store.invalidate(&Invalidation::PurgeAll).await.expect("invalidate");
    drop(store);
    let store = open();
    for key in [&purged, &removed, &expired, &kept] {
        assert!(found(&store, key).await.is_empty(), "a response came back after a purge of all");
    }
}

/// Checks that a lookup still finds an expired (soft-purged) response, and that the response counts
/// as stale from the time of the soft purge.
///
/// # Panics
///
/// If the expired response is removed or fresh, or a response is stale although its handler was
/// called after the expiry.
pub async fn expired_responses_are_kept_as_stale<S: Store>(store: &S) {
    let (now, second) = (Clock::system().now(), Duration::from_secs(1));
    let since = Timestamp::new(now.wall() + second, now.monotonic() + second);
    let tags = vec![tag_id(b"t")];
    for invalidation in
        [Invalidation::ExpireTags { tags, since }, Invalidation::ExpireAll { since }]
    {
        let tagged = Response::new(1).tag(b"t");
        assert_eq!(tagged.put(store, &key("/a")).await, Put::Stored);
        store.invalidate(&invalidation).await.expect("expire");
        let stale = only(found(store, &key("/a")).await);
        let validity = store.coordinator().validity(&key("/a"), &stale);
        // Compare wall-clock times in milliseconds: another process may have recorded the expiry by
        // its own monotonic clock, and a store may keep only milliseconds.
        let expired = validity.expired_since().map(|since| since.wall().as_millis());
        assert_eq!(expired, Some(since.wall().as_millis()), "after {invalidation:?}");
        assert_eq!(tagged.put(store, &key("/a")).await, Put::Stored);
        let fresh = only(found(store, &key("/a")).await);
        let validity = store.coordinator().validity(&key("/a"), &fresh);
        assert_eq!(
            validity,
            Validity::Valid,
            "the response of a later fill is stale after {invalidation:?}"
        );
    }
}

/// Checks that a store that keeps coded copies returns each copy with the response from whose body it
/// was made, and with no other one. Other stores pass the check.
///
/// # Panics
///
/// If a copy is lost, or is returned with another response.
pub async fn coded_copies_are_kept_with_their_response<S: Store>(store: &S) {
    if !store.supports_coded_copies() {
        return;
    }
    let (key, gzip, br) = (key("/coded"), ContentCoding::Gzip, ContentCoding::Brotli);
    assert_eq!(Response::new(1).codable().put(store, &key).await, Put::Stored);
    let response = only(found(store, &key).await);
    let add = async |n: usize| {
        let content = ContentDigest::of(&Response::new(n).body);
        let copy = CodedCopy::new(gzip, content, Bytes::from(format!("coded {n}")));
        store.put_coded_copy(&key, &response, copy).await.expect("put_coded_copy");
    };
    let find = async |coding| {
        let found = store.find_coded_copy(&key, &response, coding).await;
        found.expect("find_coded_copy").and_then(|copy| copy.bytes().cloned())
    };
    let look_up = async || {
        let responses = found_with_copy(store, &key, gzip).await;
        let copy = responses.first().and_then(|found| Some(found.usable_copy(gzip)?.bytes.clone()));
        (responses.len(), copy)
    };
    let first = Bytes::from_static(b"coded 1");
    assert_eq!(look_up().await, (1, None), "a copy that was not made");
    add(2).await;
    assert_eq!(look_up().await, (1, None), "a copy of another body");
    add(1).await;
    assert_eq!(look_up().await, (1, Some(first.clone())), "the copy, with its response");
    assert_eq!(find(gzip).await, Some(first.clone()), "the copy by itself");
    assert_eq!(find(br).await, None, "a copy in another coding");
    assert_eq!(Response::new(1).codable().put(store, &key).await, Put::Stored);
    assert_eq!(look_up().await, (1, Some(first)), "after a response with the same body");
    assert_eq!(Response::new(2).codable().put(store, &key).await, Put::Stored);
    assert_eq!(look_up().await, (1, None), "after a response with another body");
    assert_eq!(store.remove(&key).await.expect("remove"), 1, "copies are no variants");
    add(1).await;
    assert_eq!(look_up().await, (0, None), "a copy of a response that was removed");
}

/// Checks that concurrent puts of one key lose no variant.
///
/// # Panics
///
/// If a variant is lost.
pub async fn concurrent_puts_are_all_kept<S: Store>(store: Arc<S>) {
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                Response::new(n).accept(&n.to_string()).put(&*store, &key("/a")).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("the task of a put"), Put::Stored);
    }
    for n in 0..32 {
        let found = found_for(&*store, &key("/a"), Some(&n.to_string())).await;
        assert!(found.is_some(), "concurrent puts of one key lost a variant");
    }
}

/// Checks that a lookup after a removal never finds a response whose fill (the call of its handler)
/// began before the removal, in whatever order the calls run.
///
/// # Panics
///
/// If a lookup after a removal finds a response whose fill began before the removal.
pub async fn removal_applies_to_concurrent_fills<S: Store>(store: Arc<S>) {
    let done = Arc::new(AtomicBool::new(false));
    let fillers: Vec<_> = (0..4)
        .map(|_| {
            let (store, done) = (Arc::clone(&store), Arc::clone(&done));
            tokio::spawn(async move {
                while !done.load(Ordering::Acquire) {
                    Response::new(1).put(&*store, &key("/a")).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for n in 0..200 {
        // This fill always begins before the removal.
        let fill = begin(&*store, &key("/a")).await;
        let old = Arc::new(Response::new(0).stored(fill.stamp()));
        let put = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.put(&key("/a"), old, &fill).await })
        };
        let removed = key("/a");
        if n % 2 == 0 {
            store.coordinator().invalidate_fills(&removed);
            store.remove(&removed).await.expect("remove");
        } else {
            store.coordinator().invalidate_fills_of_url(removed.url(), None);
            store.remove_url(removed.url()).await.expect("remove a URL");
        }
        let after = found(&*store, &key("/a")).await;
        let has_earlier_response = |responses: &[Arc<StoredResponse>]| {
            responses.iter().any(|response| *response.body() == Response::new(0).body)
        };
        assert!(
            !has_earlier_response(&after),
            "the response of an earlier fill was found after a removal"
        );
        put.await.expect("the task of a put").expect("put");
        let later = found(&*store, &key("/a")).await;
        assert!(
            !has_earlier_response(&later),
            "the response of an earlier fill was stored after a removal"
        );
    }
    done.store(true, Ordering::Release);
    for filler in fillers {
        filler.await.expect("the task of a filler");
    }
    assert_eq!(store.coordinator().open_fills(), 0, "ended fills are still open");
}
