//! The conformance suite: checks that every [`Store`] must pass.
//!
//! Each check takes a new, empty store, and panics if the store fails the check. The checks spawn
//! tasks, so run them in a tokio runtime. Use a runtime with several threads, so that the checks
//! can also find races.
//!
//! A [`Fill`] is one call of a handler whose response may be stored. A fill is invalidated if its
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

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use actix_web::http::{
    StatusCode,
    header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue, LINK},
};
use bytes::Bytes;

use super::interface::{Lookup, Put, Store};
use crate::{
    clock::{Clock, Timestamp},
    coordination::fills::Fill,
    entry::{
        invalidation::Invalidation,
        key::CacheKey,
        lifetime::{Lifetime, LifetimeSource, Staleness, Validation},
        response::StoredResponse,
        selector::{Selector, Selects},
        stamp::Stamp,
        tag::TagId,
        validity::{Validity, ValidityCheck},
        variants::Variants,
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
    invalidated_fill_is_not_stored(&*store()).await;
    purged_responses_are_not_valid(&*store()).await;
    expired_responses_are_kept_as_stale(&*store()).await;
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

/// Checks that a stored response is found unchanged, also by [`Store::lookup_now`] if the store
/// implements it.
///
/// # Panics
///
/// If the response is not found, or is changed.
pub async fn stored_response_is_found_unchanged<S: Store>(store: &S) {
    let key = key("/a");
    let put = Response::new(1).tag(b"t");
    assert_eq!(put.put(store, &key).await, Put::Stored);
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

/// Checks that a purge applies to every response whose handler was called before the purge, even if
/// the response is stored after the purge.
///
/// # Panics
///
/// If a response is valid although its handler was called before the purge, or invalid although its
/// handler was called after the purge.
pub async fn purged_responses_are_not_valid<S: Store>(store: &S) {
    let keys = |n: usize| (key(&format!("/{n}/before")), key(&format!("/{n}/during")));
    let implied = [TagId::url(keys(1).0.url()), TagId::url(keys(1).1.url())];
    let all = [
        Invalidation::PurgeTags(vec![TagId::url(b"t")]),
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

/// Checks a store whose responses outlive the process. `open` opens the same stored responses each
/// time, as after a restart of the process; at first, there are none. This check is not part of
/// [`check`].
///
/// # Panics
///
/// If a response is lost when the store is opened again, if a purged or removed response comes
/// back, or if a purge does not reach a response of an earlier process.
pub async fn purges_outlive_the_process<S: Store>(open: impl Fn() -> S) {
    let (purged, removed, expired, kept) = (key("/p"), key("/r"), key("/e"), key("/k"));
    let store = open();
    // The logical time moves on, so that the stamps of the responses are not the first ones.
    for tag in [b"x", b"y"] {
        let tags = vec![TagId::url(tag)];
        store.invalidate(&Invalidation::PurgeTags(tags)).await.expect("invalidate");
    }
    for (key, tag) in [(&purged, b"p"), (&removed, b"r"), (&expired, b"e"), (&kept, b"k")] {
        assert_eq!(Response::new(1).tag(tag).put(&store, key).await, Put::Stored);
    }
    let purge = |tag: &[u8]| Invalidation::PurgeTags(vec![TagId::url(tag)]);
    store.invalidate(&purge(b"p")).await.expect("invalidate");
    let (tags, since) = (vec![TagId::url(b"e")], Clock::system().now());
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
    let tags = vec![TagId::url(b"t")];
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
    for _ in 0..200 {
        // This fill always begins before the removal.
        let fill = begin(&*store, &key("/a")).await;
        let old = Arc::new(Response::new(0).stored(fill.stamp()));
        let put = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.put(&key("/a"), old, &fill).await })
        };
        store.coordinator().invalidate_fills(&key("/a"));
        store.remove(&key("/a")).await.expect("remove");
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

fn key(path: &str) -> CacheKey {
    CacheKey::new("conformance", "http", "host", path, None)
}

async fn begin<S: Store>(store: &S, key: &CacheKey) -> Fill {
    let stamp = lookup(store, key, None).await.stamp;
    store.coordinator().begin_fill(key, stamp)
}

async fn lookup<S: Store>(store: &S, key: &CacheKey, accept: Option<&str>) -> Lookup {
    // A lookup may fail because the store is busy, so try again.
    let repeated = async {
        loop {
            if let Ok(found) = store.lookup(key, &Request(accept).selector()).await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), repeated).await.expect("lookup")
}

/// Returns the valid responses that a request without `Accept` finds for a key.
async fn found<S: Store>(store: &S, key: &CacheKey) -> Vec<Arc<StoredResponse>> {
    let variants = lookup(store, key, None).await.variants;
    let responses = variants.as_deref().map_or(&[][..], Variants::responses);
    responses
        .iter()
        .filter(|response| store.coordinator().is_valid(key, response))
        .cloned()
        .collect()
}

/// Returns the valid response that a request with this `Accept` selects for a key.
async fn found_for<S: Store>(
    store: &S,
    key: &CacheKey,
    accept: Option<&str>,
) -> Option<Arc<StoredResponse>> {
    let variants = lookup(store, key, accept).await.variants?;
    let selects = |response: &&Arc<StoredResponse>| {
        let recorded = response.selecting.first().and_then(|(_, value)| value.as_deref());
        recorded == accept.map(str::as_bytes) && store.coordinator().is_valid(key, response)
    };
    variants.responses().iter().find(selects).cloned()
}

const DISCRIMINATOR: &[u8] = b"discriminator";

/// A request with or without an `Accept`.
struct Request<'a>(Option<&'a str>);

impl Request<'_> {
    fn selector(&self) -> Selector<'_> {
        Selector::new(self, DISCRIMINATOR, Clock::system().now())
    }
}

impl Selects for Request<'_> {
    fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        self.0.filter(|_| *name == ACCEPT).map(|accept| Cow::Borrowed(accept.as_bytes()))
    }
}

fn only(mut responses: Vec<Arc<StoredResponse>>) -> Arc<StoredResponse> {
    assert_eq!(responses.len(), 1, "number of responses");
    responses.remove(0)
}

/// A response that the checks put into the store.
#[derive(Clone)]
struct Response {
    body: Bytes,
    accept: Option<String>,
    tags: Box<[TagId]>,
    at: Timestamp,
}

impl Response {
    fn new(n: usize) -> Self {
        // The time of the response is the present, because a store may drop old responses.
        let at = Clock::system().now();
        Self { body: Bytes::from(format!("body {n}")), accept: None, tags: Box::default(), at }
    }

    fn accept(mut self, accept: &str) -> Self {
        self.accept = Some(accept.to_owned());
        self
    }

    fn tag(mut self, tag: &[u8]) -> Self {
        self.tags = Box::new([TagId::url(tag)]);
        self
    }

    fn stored(&self, stamp: Stamp) -> StoredResponse {
        let hour = Duration::from_secs(3600);
        let link = |text| (LINK, HeaderValue::from_static(text));
        let accept = self.accept.as_ref().map(|accept| Bytes::from(accept.clone()));
        StoredResponse {
            status: StatusCode::OK,
            fields: Box::new([
                link("<b>"),
                link("<a>"),
                (HeaderName::from_static("x-empty"), HeaderValue::from_static("")),
            ]),
            body: self.body.clone(),
            lifetime: Lifetime {
                response_time: self.at,
                initial_age: Duration::from_secs(1),
                freshness: hour,
                source: LifetimeSource::Explicit,
                staleness: Staleness {
                    validation: Validation::Strict,
                    while_revalidate: Some(Duration::from_secs(2)),
                    if_error: None,
                },
                retention: Duration::from_secs(3),
            },
            stated: Some(hour),
            selecting: accept.map(|accept| (ACCEPT, Some(accept))).into_iter().collect(),
            discriminator: Box::from(DISCRIMINATOR),
            tags: self.tags.clone(),
            stamp,
            client_ttl: Some(Duration::from_secs(5)),
            original_fields: Some(Box::new([(CACHE_CONTROL, HeaderValue::from_static("public"))])),
            validity_check: ValidityCheck::default(),
            received: self.at.monotonic(),
        }
    }

    /// Begins a fill, and stores the response by this fill.
    async fn put<S: Store>(&self, store: &S, key: &CacheKey) -> Put {
        let fill = begin(store, key).await;
        let response = Arc::new(self.stored(fill.stamp()));
        store.put(key, response, &fill).await.expect("put")
    }
}
