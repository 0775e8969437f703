//! The suite that any [`Store`] must pass; for authors of stores.
//!
//! Each check wants a fresh, empty store and panics with what it missed. They spawn tasks, so run
//! them in a tokio runtime, best one with several threads:
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

/// Runs all checks, each on a store that `make` makes.
///
/// # Panics
///
/// With what the store missed.
pub async fn check<S: Store>(make: impl Fn() -> S) {
    let fresh = || Arc::new(make());
    finds_nothing_at_first(&*fresh()).await;
    finds_what_was_put(&*fresh()).await;
    compares_whole_keys(&*fresh()).await;
    keeps_variants_apart(&*fresh()).await;
    refuses_what_knows_too_little(&*fresh()).await;
    removes_all_variants(&*fresh()).await;
    stores_nothing_overtaken(&*fresh()).await;
    serves_nothing_invalidated(&*fresh()).await;
    keeps_what_is_stale(&*fresh()).await;
    loses_no_variant_to_another(fresh()).await;
    lets_no_fill_survive_a_removal(fresh()).await;
}

/// An empty store finds nothing, removes nothing, and says its time.
///
/// # Panics
///
/// If it does not.
pub async fn finds_nothing_at_first<S: Store>(store: &S) {
    let lookup = look_up(store, &key("/"), None).await;
    assert!(lookup.variants.is_none(), "an empty store found something");
    let removed = store.remove(&key("/")).await.expect("remove from an empty store");
    assert_eq!(removed, 0, "an empty store removed something");
}

/// What was put is found, unchanged; by [`Store::lookup_now`] too, if that answers.
///
/// # Panics
///
/// If it is not.
pub async fn finds_what_was_put<S: Store>(store: &S) {
    let key = key("/a");
    let put = Response::new(1).tag(b"t");
    assert_eq!(put.put(store, &key).await, Put::Stored);
    let found = only(found(store, &key).await);
    let want = put.made(store.coordinator().stamp());
    assert_eq!(found.status(), want.status(), "status");
    assert_eq!(found.body(), want.body(), "body");
    assert_eq!(found.fields, want.fields, "fields, their lines and order");
    // Of when it was made, the wall clock alone can be written down.
    let made = (found.lifetime.response.wall(), want.lifetime.response.wall());
    assert_eq!(made.0, made.1, "when the response was made");
    let lifetime = Lifetime { response: want.lifetime.response, ..found.lifetime };
    assert_eq!(lifetime, want.lifetime, "lifetime");
    assert_eq!(found.stated, want.stated, "stated lifetime");
    assert_eq!(found.client_ttl, want.client_ttl, "lifetime for clients");
    assert_eq!(found.original_fields, want.original_fields, "fields as the handler sent them");
    assert_eq!(
        found.discriminator, want.discriminator,
        "what tells requests apart beside their fields"
    );
    assert_eq!(found.tags(), want.tags(), "tags");
    assert_eq!(found.stamp(), want.stamp(), "stamp");
    assert_eq!(found.selecting, want.selecting, "selecting fields");
    let request = Request(None);
    if let Some(at_once) = store.lookup_now(&key, &request.selector()) {
        let variants = at_once.expect("look up at once").variants.expect("found at once");
        assert_eq!(variants.responses().len(), 1, "lookup_now does not agree with lookup");
    }
}

/// Keys that differ in a single byte or part never meet.
///
/// # Panics
///
/// If they do.
pub async fn compares_whole_keys<S: Store>(store: &S) {
    let mut parted = key("/a");
    parted.push_part("x", Some(b""));
    let mut absent = key("/a");
    absent.push_part("x", None);
    let keys = [
        key("/a"),
        key("/b"),
        key("/a/"),
        CacheKey::new("other", "http", "host", "/a", None),
        CacheKey::new("conformance", "https", "host", "/a", None),
        CacheKey::new("conformance", "http", "host", "/a", Some("")),
        parted,
        absent,
    ];
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(Response::new(n).put(store, key).await, Put::Stored);
    }
    for (n, key) in keys.iter().enumerate() {
        let response = only(found(store, key).await);
        assert_eq!(*response.body(), Response::new(n).body, "another key's response was found");
    }
}

/// Variants stand side by side, the newest first, and replace their equals.
///
/// # Panics
///
/// If they do not.
pub async fn keeps_variants_apart<S: Store>(store: &S) {
    let key = key("/a");
    for (n, accept) in [(1, "de"), (2, "fr"), (3, "de")] {
        assert_eq!(Response::new(n).accept(accept).put(store, &key).await, Put::Stored);
    }
    for (accept, want) in [("de", Some(3)), ("fr", Some(2)), ("es", None)] {
        let found = found_for(store, &key, Some(accept)).await;
        let body = found.map(|response| response.body().clone());
        assert_eq!(body, want.map(|n| Response::new(n).body), "Accept: {accept}");
    }
    let variants = look_up(store, &key, Some("es")).await.variants.expect("the key's variants");
    assert_eq!(variants.selecting_fields(), [ACCEPT], "the fields that select");
}

/// A response that has no record of a field the resource is selected by is not stored.
///
/// # Panics
///
/// If it is.
pub async fn refuses_what_knows_too_little<S: Store>(store: &S) {
    let key = key("/a");
    assert_eq!(Response::new(1).accept("de").put(store, &key).await, Put::Stored);
    assert_eq!(Response::new(2).put(store, &key).await, Put::Outdated);
    let kept = found_for(store, &key, Some("de")).await.expect("what was there before");
    assert_eq!(*kept.body(), Response::new(1).body);
}

/// A removal takes all variants and counts them, and leaves other keys alone.
///
/// # Panics
///
/// If it does not.
pub async fn removes_all_variants<S: Store>(store: &S) {
    for (n, accept) in [(1, "de"), (2, "fr")] {
        assert_eq!(Response::new(n).accept(accept).put(store, &key("/a")).await, Put::Stored);
    }
    assert_eq!(Response::new(3).put(store, &key("/b")).await, Put::Stored);
    assert_eq!(store.remove(&key("/a")).await.expect("remove"), 2, "the number of variants");
    for accept in ["de", "fr"] {
        let left = found_for(store, &key("/a"), Some(accept)).await;
        assert!(left.is_none(), "something is left after a removal");
    }
    assert_eq!(found(store, &key("/b")).await.len(), 1, "another key was removed");
}

/// A fill that was overtaken stores nothing.
///
/// # Panics
///
/// If it does.
pub async fn stores_nothing_overtaken<S: Store>(store: &S) {
    let key = key("/a");
    let fill = begin(store, &key).await;
    store.coordinator().invalidate_fills(&key);
    store.remove(&key).await.expect("remove");
    let put = store.put(&key, Arc::new(Response::new(1).made(fill.stamp())), &fill).await;
    assert_eq!(put.expect("put"), Put::Outdated);
    assert!(found(store, &key).await.is_empty(), "an overtaken fill was stored");
    assert_eq!(
        Response::new(2).put(store, &key).await,
        Put::Stored,
        "later fills are not overtaken"
    );
}

/// What began before an invalidation of its tag, or of everything, is not valid after it: neither
/// what was stored nor what is stored only now.
///
/// # Panics
///
/// If it is.
pub async fn serves_nothing_invalidated<S: Store>(store: &S) {
    let keys = |n: usize| (key(&format!("/{n}/before")), key(&format!("/{n}/during")));
    let urls = [TagId::url(keys(1).0.url()), TagId::url(keys(1).1.url())];
    let all = [
        Invalidation::PurgeTags(vec![TagId::url(b"t")]),
        // What nothing carries, for the key implies it.
        Invalidation::PurgeTags(Vec::from(urls)),
        Invalidation::PurgeAll,
    ];
    for (n, what) in all.into_iter().enumerate() {
        let (before, during) = keys(n);
        let tagged = Response::new(1).tag(b"t");
        assert_eq!(tagged.put(store, &before).await, Put::Stored);
        let fill = begin(store, &during).await;
        store.invalidate(&what).await.expect("invalidate");
        let late = tagged.made(fill.stamp());
        store.put(&during, Arc::new(late), &fill).await.expect("put");
        for key in [&before, &during] {
            assert!(found(store, key).await.is_empty(), "valid after {what:?}");
        }
        assert_eq!(tagged.put(store, &before).await, Put::Stored);
        assert_eq!(found(store, &before).await.len(), 1, "what began after {what:?} is not valid");
    }
}

/// What was made stale is found all the same, and known to be stale; what began after it is not.
///
/// # Panics
///
/// If it is gone, or fresh.
pub async fn keeps_what_is_stale<S: Store>(store: &S) {
    let (now, second) = (Clock::system().now(), Duration::from_secs(1));
    let since = Timestamp::new(now.wall() + second, now.monotonic() + second);
    let tags = vec![TagId::url(b"t")];
    for what in [Invalidation::ExpireTags { tags, since }, Invalidation::ExpireAll { since }] {
        let tagged = Response::new(1).tag(b"t");
        assert_eq!(tagged.put(store, &key("/a")).await, Put::Stored);
        store.invalidate(&what).await.expect("make stale");
        let stale = only(found(store, &key("/a")).await);
        let validity = store.coordinator().validity(&key("/a"), &stale);
        // The monotonic clock of the process that said it may not be ours, and what is written down
        // may be short of a millisecond.
        let told = validity.expired_since().map(|since| since.wall().as_millis());
        assert_eq!(told, Some(since.wall().as_millis()), "after {what:?}");
        assert_eq!(tagged.put(store, &key("/a")).await, Put::Stored);
        let fresh = only(found(store, &key("/a")).await);
        let validity = store.coordinator().validity(&key("/a"), &fresh);
        assert_eq!(validity, Validity::Valid, "what began after {what:?} is stale");
    }
}

/// Responses put at the same time are all kept.
///
/// # Panics
///
/// If one is lost.
pub async fn loses_no_variant_to_another<S: Store>(store: Arc<S>) {
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                Response::new(n).accept(&n.to_string()).put(&*store, &key("/a")).await
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.expect("a put"), Put::Stored);
    }
    for n in 0..32 {
        let found = found_for(&*store, &key("/a"), Some(&n.to_string())).await;
        assert!(found.is_some(), "puts of one key lost each other");
    }
}

/// After a removal nothing is found that a fill from before it made, however they interleave.
///
/// # Panics
///
/// If something is.
pub async fn lets_no_fill_survive_a_removal<S: Store>(store: Arc<S>) {
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
        // A fill of our own from before the removal, so that each round tests something.
        let fill = begin(&*store, &key("/a")).await;
        let old = Arc::new(Response::new(0).made(fill.stamp()));
        let race = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.put(&key("/a"), old, &fill).await })
        };
        store.coordinator().invalidate_fills(&key("/a"));
        store.remove(&key("/a")).await.expect("remove");
        let after = found(&*store, &key("/a")).await;
        let survived = |responses: &[Arc<StoredResponse>]| {
            responses.iter().any(|response| *response.body() == Response::new(0).body)
        };
        assert!(!survived(&after), "a fill survived a removal");
        race.await.expect("a put").expect("put");
        let later = found(&*store, &key("/a")).await;
        assert!(!survived(&later), "a fill from before a removal was stored after it");
    }
    done.store(true, Ordering::Release);
    for filler in fillers {
        filler.await.expect("a filler");
    }
    assert_eq!(store.coordinator().open_fills(), 0, "fills that ended are still open");
}

fn key(path: &str) -> CacheKey {
    CacheKey::new("conformance", "http", "host", path, None)
}

async fn begin<S: Store>(store: &S, key: &CacheKey) -> Fill {
    let stamp = look_up(store, key, None).await.stamp;
    store.coordinator().begin_fill(key, stamp)
}

async fn look_up<S: Store>(store: &S, key: &CacheKey, accept: Option<&str>) -> Lookup {
    // A store that others keep busy may be late now and then.
    let patient = async {
        loop {
            if let Ok(found) = store.lookup(key, &Request(accept).selector()).await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), patient).await.expect("look up")
}

/// The valid responses that a lookup finds under a key whose responses nothing selects.
async fn found<S: Store>(store: &S, key: &CacheKey) -> Vec<Arc<StoredResponse>> {
    let variants = look_up(store, key, None).await.variants;
    let responses = variants.as_deref().map_or(&[][..], Variants::responses);
    responses
        .iter()
        .filter(|response| store.coordinator().is_valid(key, response))
        .cloned()
        .collect()
}

/// The valid response under a key that an `Accept` selects.
async fn found_for<S: Store>(
    store: &S,
    key: &CacheKey,
    accept: Option<&str>,
) -> Option<Arc<StoredResponse>> {
    let variants = look_up(store, key, accept).await.variants?;
    let selects = |response: &&Arc<StoredResponse>| {
        let recorded = response.selecting.first().and_then(|(_, value)| value.as_deref());
        recorded == accept.map(str::as_bytes) && store.coordinator().is_valid(key, response)
    };
    variants.responses().iter().find(selects).cloned()
}

const SPLIT: &[u8] = b"split";

/// A request with an `Accept`, or without.
struct Request<'a>(Option<&'a str>);

impl Request<'_> {
    fn selector(&self) -> Selector<'_> {
        Selector::new(self, SPLIT, Clock::system().now())
    }
}

impl Selects for Request<'_> {
    fn value(&self, name: &HeaderName) -> Option<Cow<'_, [u8]>> {
        self.0.filter(|_| *name == ACCEPT).map(|accept| Cow::Borrowed(accept.as_bytes()))
    }
}

fn only(mut responses: Vec<Arc<StoredResponse>>) -> Arc<StoredResponse> {
    assert_eq!(responses.len(), 1, "one response was put");
    responses.remove(0)
}

/// A response to be stored.
#[derive(Clone)]
struct Response {
    body: Bytes,
    accept: Option<String>,
    tags: Box<[TagId]>,
    at: Timestamp,
}

impl Response {
    fn new(n: usize) -> Self {
        // Timestamp, for a store may let go of what is old.
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

    fn made(&self, stamp: Stamp) -> StoredResponse {
        let hour = Duration::from_secs(3600);
        let line = |text| (LINK, HeaderValue::from_static(text));
        let accept = self.accept.as_ref().map(|accept| Bytes::from(accept.clone()));
        StoredResponse {
            status: StatusCode::OK,
            fields: Box::new([
                line("<b>"),
                line("<a>"),
                (HeaderName::from_static("x-empty"), HeaderValue::from_static("")),
            ]),
            body: self.body.clone(),
            lifetime: Lifetime {
                response: self.at,
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
            discriminator: Box::from(SPLIT),
            tags: self.tags.clone(),
            stamp,
            client_ttl: Some(Duration::from_secs(5)),
            original_fields: Some(Box::new([(CACHE_CONTROL, HeaderValue::from_static("public"))])),
            validity_check: ValidityCheck::default(),
            received: self.at.monotonic(),
        }
    }

    /// By a fill of its own.
    async fn put<S: Store>(&self, store: &S, key: &CacheKey) -> Put {
        let fill = begin(store, key).await;
        let response = Arc::new(self.made(fill.stamp()));
        store.put(key, response, &fill).await.expect("put")
    }
}
