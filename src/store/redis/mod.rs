//! A store in Redis or Valkey, shared by all processes that use it.

use std::{fmt, sync::Arc, time::Duration};

use deadpool_redis::redis::{RedisError, Value, pipe};
use futures_util::future::join;
use moka::sync::Cache;
use tokio::runtime::Handle;

use super::{Commons, Fill, Invalidation, Lookup, Put, Store, StoreError};
use crate::{
    codec,
    key::Key,
    selector::Selector,
    stamp::Stamp,
    stored::{StoredResponse, Variants},
    tag::TagId,
};

mod breaker;
mod builder;
mod connection;
mod control;
mod counters;
mod failure;
mod keys;
mod lanes;
mod link;
mod queue;
mod resource;
mod table;

pub use self::{
    builder::{RedisSource, RedisStoreBuilder, RedisStoreError},
    counters::RedisStats,
};
use self::{
    connection::{Connector, Wire},
    control::Control,
    counters::count,
    failure::Failure,
    keys::{Keys, Resource},
    lanes::Lane,
    link::{ASK_LIMIT, Link, STORE_LIMIT},
    resource::{Draft, Found, Names},
    table::{FILL_LIMIT, LONGEST, News},
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

    async fn find(&self, key: &Key, selector: &Selector<'_>) -> Result<Lookup, Failure> {
        let link = self.link();
        let resource = link.keys.resource(key);
        let guessed = self.0.names.get(&resource.digest);
        let mut names = guessed.unwrap_or_else(|| Arc::clone(&self.0.no_names));
        let asked = link.now();
        let (found, stamp) = link
            .call(Lane::Ask, ASK_LIMIT, |mut wire| async move {
                count(&link.counters.lookups);
                let (mut found, stamp) = self.ask(&mut wire, &resource, &names, selector).await?;
                // Twice, if the names change in between.
                for _ in 0..2 {
                    let Found::Otherwise(others) = found else { break };
                    self.0.names.insert(resource.digest, Arc::clone(&others));
                    names = others;
                    (found, _) = self.ask(&mut wire, &resource, &names, selector).await?;
                }
                Ok((found, stamp))
            })
            .await?;
        link.is_current_since(asked);
        let Found::Variant { names, record } = found else {
            return Ok(Lookup { variants: None, stamp });
        };
        let read = record.and_then(|record| match codec::decode(record, key, selector.now()) {
            Ok(response) => Some(Arc::new(response)),
            Err(error) => {
                count(&link.counters.unreadable);
                log::debug!("a record in Redis is not used: {error}");
                None
            }
        });
        if read.is_some() {
            count(&link.counters.found);
        }
        Ok(Lookup { variants: Some(Arc::new(Variants::new(&names, read))), stamp })
    }

    /// One round trip: a variant, and what is new in the table.
    async fn ask(
        &self,
        wire: &mut Wire,
        resource: &Resource,
        names: &Names,
        selector: &Selector<'_>,
    ) -> Result<(Found, Stamp), Failure> {
        let link = &self.0.link;
        let ask = resource::ask(resource, selector.variant(names));
        let (news, since) = link.table.ask(&link.keys);
        let (found, news) = if wire.is_one_server() {
            let mut both = pipe();
            both.add_command(ask).add_command(news).ignore_errors();
            let mut replies: Vec<Value> = both.query_async(wire).await?;
            let news = replies.pop().unwrap_or(Value::Nil);
            (replies.pop().unwrap_or(Value::Nil), news)
        } else {
            // They may be on two servers, which are asked at the same time.
            let mut other = wire.clone();
            let (found, news) = join(ask.query_async(wire), news.query_async(&mut other)).await;
            let found = found.or_else(|error: RedisError| match error.code() {
                Some("WRONGTYPE") => Ok(Value::Nil),
                _ => Err(error),
            });
            (found?, news?)
        };
        if let Value::ServerError(error) = news {
            return Err(RedisError::from(error).into());
        }
        match link.table.learn(since, &news, &link.commons) {
            News::Until(until) => Ok((resource::read(found, names)?, until)),
            News::Lost => Ok((Found::Nothing, link.pull(wire).await?)),
        }
    }

    async fn write(
        &self,
        key: &Key,
        response: &StoredResponse,
        fill: &Fill,
    ) -> Result<Put, Failure> {
        let link = self.link();
        if fill.is_overtaken() || fill.age() > FILL_LIMIT || !link.commons.is_valid(key, response) {
            return Ok(Put::Overtaken);
        }
        let Ok(record) = codec::encode(key, response) else { return Ok(Put::TooLarge) };
        if record.len() > self.0.max_record {
            return Ok(Put::TooLarge);
        }
        let resource = link.keys.resource(key);
        let kept = response.useful_for(response.lifetime.response).min(LONGEST);
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
        Ok(if written? { Put::Stored } else { Put::Overtaken })
    }

    /// To its end, even if whoever asked for it goes away.
    async fn forget(&self, key: &Key) -> Result<usize, Failure> {
        let (link, key) = (Arc::clone(self.link()), key.clone());
        to_its_end(async move {
            // What remembers the removal first: what a fill from before it writes is not served.
            let mark = Invalidation::Tags([TagId::key(&key)].into_iter().collect());
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
    fn commons(&self) -> &Commons {
        &self.0.link.commons
    }

    async fn lookup(&self, key: &Key, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        let found = self.find(key, selector).await;
        if found.is_err() {
            count(&self.0.link.counters.failed);
        }
        Ok(found?)
    }

    async fn put(
        &self,
        key: &Key,
        response: Arc<StoredResponse>,
        fill: &Fill,
    ) -> Result<Put, StoreError> {
        Ok(self.write(key, &response, fill).await?)
    }

    async fn remove(&self, key: &Key) -> Result<usize, StoreError> {
        Ok(self.forget(key).await?)
    }

    async fn invalidate(&self, what: &Invalidation) -> Result<(), StoreError> {
        let (link, what) = (Arc::clone(self.link()), what.clone());
        to_its_end(async move { link.invalidate(&what).await }).await?;
        Ok(())
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
