//! A store in Redis or Valkey, shared by all processes that use it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use moka::sync::Cache;
use tokio::{runtime::Handle, time::timeout};

use super::{Coordinator, Fill, Invalidation, Lease, Lookup, Put, Store, StoreError};
use crate::{
    clock::Timestamp,
    entry::{
        codec, key::CacheKey, response::StoredResponse, selector::Selector, stamp::Stamp,
        tag::TagId, variants::Variants,
    },
};

mod batch;
mod breaker;
mod builder;
mod connection;
mod control;
mod counters;
mod failure;
mod keys;
mod lanes;
mod lease;
mod link;
mod queue;
mod resource;
mod table;

pub use self::{
    builder::{RedisSource, RedisStoreBuilder, RedisStoreError},
    counters::RedisStats,
};
use self::{
    connection::Connector,
    control::Control,
    counters::count,
    failure::Failure,
    keys::{Keys, Resource},
    lanes::Lane,
    link::{ASK_LIMIT, Link, STORE_LIMIT},
    resource::{Draft, Names},
    table::{FILL_LIMIT, LONGEST},
};

/// Resources of which it is remembered which fields select.
const REMEMBERED: u64 = 10_000;

/// Keeps responses in Redis (6.2 or later) or Valkey, shared by all processes that use it.
///
/// A cheap handle: clones share their connections. A hit costs one round trip, also where `Vary`
/// selects and whatever tags it has; a purge reaches every process before its call returns.
///
/// ```no_run
/// use actix_web::{App, HttpServer};
/// use actix_web_cache::{Cache, RedisStore};
///
/// #[actix_web::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let cache = Cache::new(RedisStore::new("redis://127.0.0.1:6379")?);
///     HttpServer::new(move || App::new().wrap(cache.clone()))
///         .bind(("127.0.0.1", 8080))?
///         .run()
///         .await?;
///     Ok(())
/// }
/// ```
///
/// # When Redis fails
///
/// No request fails or waits for longer than 50 ms because of it: its handler answers. After five
/// failures in a row Redis is left alone, and asked by one probe at a time, at most a second apart,
/// whether it is back. A purge that does not reach it returns an error; it is made up for before
/// anything is read from Redis again, by this process; so long, others may serve what it is about.
///
/// # What it promises across processes
///
/// Whoever asks for a page after a purge of it has returned, in whatever process, does not get what
/// was made before the purge began, even if that is stored only later. If Redis loses what it knew
/// of purges (it is restarted empty, or evicts it), everything that is stored is invalid. A failover
/// to a replica that had not heard of a purge yet is noticed by the process that purged, and by
/// every process that had asked since; only if all of these end first is the purge forgotten.
///
/// Processes should keep their clocks together: what a clock that is more than two seconds ahead
/// stores is not served by the others.
///
/// Answers to `POST` ([`Policy`](crate::Policy)'s `stores_posts`) are not kept here.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    link: Arc<Link>,
    control: Control,
    names: Cache<u64, Names>,
    /// Whether anything was ever remembered: most applications' pages are selected by nothing.
    any_names: AtomicBool,
    no_names: Names,
    max_record: usize,
    lease: Option<Duration>,
}

impl RedisStore {
    /// A store with the default settings.
    ///
    /// # Errors
    ///
    /// If the source cannot be understood.
    pub fn new(source: impl Into<RedisSource>) -> Result<Self, RedisStoreError> {
        Self::builder(source).build()
    }

    /// A store to be configured.
    pub fn builder(source: impl Into<RedisSource>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(source.into())
    }

    fn make(
        connector: Connector,
        namespace: &str,
        max_record: usize,
        lease: Option<Duration>,
    ) -> Self {
        Self(Arc::new(Inner {
            link: Arc::new(Link::new(Keys::new(namespace), connector)),
            control: Control::default(),
            names: Cache::new(REMEMBERED),
            any_names: AtomicBool::new(false),
            no_names: Names::from([]),
            max_record,
            lease,
        }))
    }

    /// What happened so far, in this process.
    #[must_use]
    pub fn stats(&self) -> RedisStats {
        let link = &self.0.link;
        RedisStats { is_open: link.is_open(), queued: link.queued() as u64, ..link.counters.read() }
    }

    /// Has what others invalidate known here without a request, after so long at most.
    pub(super) fn keep_current(&self, heartbeat: Duration) {
        self.0.link.keep_current(heartbeat);
    }

    /// Whether all is known here that others invalidated until so long ago.
    pub(super) fn is_current(&self, limit: Duration) -> bool {
        self.link().is_current(limit)
    }

    /// The way to Redis; whoever is about to use it has it watched over.
    fn link(&self) -> &Arc<Link> {
        self.0.control.start(&self.0.link);
        &self.0.link
    }

    async fn find(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, Failure> {
        let Inner { names, no_names, .. } = &*self.0;
        let link = self.link();
        let begun = link.now();
        let resource = link.keys.resource(key);
        let any = self.0.any_names.load(Ordering::Relaxed);
        let guessed = if any { names.get(&resource.digest) } else { None };
        let guessed = guessed.unwrap_or_else(|| Arc::clone(no_names));
        let (reply, stamp) = link.ask(resource::ask(&resource, selector.variant(&guessed))).await?;
        if let Some(record) = resource::read(reply)? {
            return Ok(self.found(key, &guessed, Some(record), stamp, selector.now()));
        }
        // Nothing is there, or others select than was guessed. All calls together take no longer than
        // one may; apart, for no hit needs the room and the timer.
        let spent = Duration::from_micros(link.now().saturating_sub(begun));
        let again = Box::pin(self.find_otherwise(key, selector, &resource, guessed, stamp));
        timeout(ASK_LIMIT.saturating_sub(spent), again).await.unwrap_or(Err(Failure::Late))
    }

    /// By the fields that select there, which were not guessed.
    async fn find_otherwise(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
        resource: &Resource,
        guessed: Names,
        stamp: Stamp,
    ) -> Result<Lookup, Failure> {
        let link = self.link();
        let selecting = link
            .call(Lane::Ask, ASK_LIMIT, |mut wire| {
                let guessed = &guessed;
                async move { resource::names(&mut wire, resource, guessed).await }
            })
            .await?;
        let Some(selecting) = selecting else { return Ok(Lookup::new(None, stamp)) };
        if Arc::ptr_eq(&selecting, &guessed) {
            return Ok(self.found(key, &guessed, None, stamp, selector.now()));
        }
        self.0.names.insert(resource.digest, Arc::clone(&selecting));
        self.0.any_names.store(true, Ordering::Relaxed);
        let (reply, stamp) =
            link.ask(resource::ask(resource, selector.variant(&selecting))).await?;
        let record = resource::read(reply)?;
        Ok(self.found(key, &selecting, record, stamp, selector.now()))
    }

    fn found(
        &self,
        key: &CacheKey,
        names: &Names,
        record: Option<Bytes>,
        stamp: Stamp,
        now: Timestamp,
    ) -> Lookup {
        let counters = &self.0.link.counters;
        let response = record.and_then(|record| match codec::decode(record, key, now) {
            Ok(response) => {
                count(&counters.found);
                Some(Arc::new(response))
            }
            Err(error) => {
                count(&counters.unreadable);
                log::debug!("a record in Redis is not used: {error}");
                None
            }
        });
        Lookup::new(Some(Arc::new(Variants::new(names, response))), stamp)
    }

    async fn write(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        fill: &Fill,
    ) -> Result<Put, Failure> {
        let link = self.link();
        if fill.is_invalidated()
            || fill.age() > FILL_LIMIT
            || !link.coordinator.is_valid(key, response)
        {
            return Ok(Put::Outdated);
        }
        let Ok(record) = codec::encode(key, response) else { return Ok(Put::TooLarge) };
        if record.len() > self.0.max_record {
            return Ok(Put::TooLarge);
        }
        let resource = link.keys.resource(key);
        let kept = response.useful_for(response.lifetime.response_time).min(LONGEST);
        let draft = Draft {
            resource: &resource,
            variant: response.variant(),
            names: response.selecting.iter().map(|(name, _)| name).collect(),
            record: &record,
            kept,
        };
        let written = link
            .call(Lane::Store, STORE_LIMIT, |mut wire| async move {
                resource::write(&mut wire, &draft).await
            })
            .await;
        count(match written {
            Ok(_) => &link.counters.writes,
            Err(_) => &link.counters.unwritten,
        });
        Ok(if written? { Put::Stored } else { Put::Outdated })
    }

    /// To its end, even if whoever asked for it goes away.
    async fn forget(&self, key: &CacheKey) -> Result<usize, Failure> {
        let (link, key) = (Arc::clone(self.link()), key.clone());
        to_its_end(async move {
            // What remembers the removal first: what a fill from before it writes is not served.
            let mark = Invalidation::PurgeTags([TagId::key(&key)].into_iter().collect());
            link.invalidate(&mark).await?;
            let resource = link.keys.resource(&key);
            // From here on only memory hangs on it.
            let removed = link.call(Lane::Ask, STORE_LIMIT / 2, |mut wire| async move {
                resource::remove(&mut wire, &resource).await
            });
            Ok(removed.await.unwrap_or_default())
        })
        .await
    }
}

async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
    runtime.spawn(work).await.unwrap_or(Err(Failure::NoRuntime))
}

impl Store for RedisStore {
    fn coordinator(&self) -> &Coordinator {
        &self.0.link.coordinator
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        let found = self.find(key, selector).await;
        if found.is_err() {
            count(&self.0.link.counters.failed);
        }
        Ok(found?)
    }

    async fn put(
        &self,
        key: &CacheKey,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        Ok(self.write(key, &response, fill).await?)
    }

    async fn remove(&self, key: &CacheKey) -> Result<usize, StoreError> {
        Ok(self.forget(key).await?)
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        let (link, what) = (Arc::clone(self.link()), what.clone());
        to_its_end(async move { link.invalidate(&what).await }).await?;
        Ok(())
    }

    fn supports_leases(&self) -> bool {
        self.0.lease.is_some()
    }

    async fn lease(&self, key: &CacheKey, rest: &[u8]) -> Result<Lease, StoreError> {
        let Some(time) = self.0.lease else { return Ok(Lease::Unneeded) };
        Ok(lease::ask(self.link(), key, rest, time).await?)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
