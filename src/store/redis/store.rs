//! The store in Redis: lookups, writes and invalidations of stored responses.

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
use tokio::{runtime::Handle, sync::Semaphore};

use super::{
    batch::Batches,
    client::{RedisClient, Timeouts},
    connector::Connector,
    counters::{RedisStats, count},
    decoded_records::DecodedRecords,
    failure::Failure,
    invalidation_table::{MAX_FILL_AGE, MAX_RETENTION},
    keys::{EntryKey, Keys},
    large_records::LargeRecords,
    lease,
    maintenance::Maintenance,
    records::{self, FoundRecord, NewRecord, SelectingFields, Verdict, WantedRecord},
    worker_connections::ConnectionRole,
};
use crate::{
    clock::Timestamp,
    coordination::{coordinator::Coordinator, fills::Fill, lease::Lease},
    entry::{
        codec,
        coded_copy::CodedCopy,
        content_coding::ContentCoding,
        discriminator::is_chosen_by_client,
        invalidation::Invalidation,
        key::{CacheKey, UrlKey},
        response::StoredResponse,
        selector::{Selector, VariantId},
        stamp::Stamp,
        tag::TagId,
        variants::Variants,
    },
    store::{
        interface::{Lookup, Put, Store, StoreError},
        remote::deadline::Deadline,
        tiered::far_store::FarStore,
    },
};

/// The maximum number of cache keys whose selecting fields a process remembers.
const REMEMBERED_KEYS: u64 = 10_000;

/// The age of this process's copy of the invalidation table beyond which the process reads the table
/// before it stores a response. The table keeps a removal for much longer than this time.
const MAX_TABLE_AGE: Duration = Duration::from_millis(500);

/// One of this many lookups that find a variant counts as a use of the variant in Redis.
const LOOKUPS_PER_USE: u8 = 16;

/// The maximum number of uses that are being counted at the same time. Others are not counted.
const MAX_COUNTING: usize = 32;

/// A store in Redis (6.2 or later) or Valkey, which several processes can share.
///
/// A hit costs one round trip, even if the response has tags or varies by request fields (`Vary`).
/// A purge applies in every process once the call of the purge has returned. Clones of a store
/// share connections and counters.
///
/// ```no_run
/// use actix_web::{App, HttpServer};
/// use actix_web_cache::{Cache, RedisStore};
///
/// #[actix_web::main]
/// async fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let cache = Cache::new(RedisStore::new("redis://127.0.0.1:6379", "shop")?);
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
/// If a lookup in Redis fails, the handler answers the request. By default, a lookup fails after 45
/// ms at the latest. A circuit breaker opens after five failed calls in a row. While the breaker is
/// open, only probes call Redis. A probe begins at most a second after the previous probe has
/// failed. The breaker closes once a probe succeeds.
///
/// After a failover, the server may be a replica, which answers lookups and refuses writes. The
/// store then looks for the primary by a new connection, at most once a second.
///
/// A purge that does not reach Redis returns an error. The process that purged sends the purge
/// again before it reads anything from Redis. Until the purge reaches Redis, other processes may
/// serve the purged responses.
///
/// # Guarantees across processes
///
/// A request that begins after a purge has returned never gets a response whose handler ran before
/// the purge. This guarantee applies in every process, even to a response that is stored after the
/// purge. If Redis loses its table of invalidations, by a restart without persistence or by
/// eviction, all stored responses become invalid.
///
/// A failover may lead to a replica that does not have a purge yet. The process that purged notices
/// such a failover, and so does every process that called Redis after the purge. All stored
/// responses then become invalid. The purge is lost only if all these processes end before they
/// notice the failover.
///
/// Synchronize the clocks of the machines. If the clock of a process is more than two seconds
/// ahead, other processes do not serve its responses.
///
/// A `RedisStore` does not store responses to `POST`, even with
/// [`Policy::rfc9111`](crate::Policy::rfc9111).
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    client: Arc<RedisClient>,
    maintenance: Maintenance,
    batches: Batches,
    /// The selecting fields of cache keys (request fields whose values choose the variant, such as
    /// those in `Vary`). The map key is the digest of the cache key. Cache keys without selecting
    /// fields are not in the map.
    selecting: Cache<u64, SelectingFields>,
    /// Whether `selecting` ever had an entry. In an application without selecting fields, lookups
    /// skip the access to `selecting`.
    any_selecting: AtomicBool,
    no_selecting: SelectingFields,
    /// The keys of large responses, whose lookups use connections of their own.
    large: LargeRecords,
    decoded: DecodedRecords,
    /// The permits to count uses of variants.
    counting: Arc<Semaphore>,
    max_record: usize,
    lease: Option<Duration>,
}

/// The checked settings of a store.
pub(super) struct Settings {
    pub(super) connector: Connector,
    pub(super) namespace: String,
    pub(super) timeouts: Timeouts,
    pub(super) max_record: usize,
    pub(super) lease: Option<Duration>,
}

impl RedisStore {
    pub(super) fn from_settings(settings: Settings) -> Self {
        let Settings { connector, namespace, timeouts, max_record, lease } = settings;
        Self(Arc::new(Inner {
            client: Arc::new(RedisClient::new(Keys::new(&namespace), connector, timeouts)),
            maintenance: Maintenance::default(),
            batches: Batches::default(),
            selecting: Cache::new(REMEMBERED_KEYS),
            any_selecting: AtomicBool::new(false),
            no_selecting: SelectingFields::from([]),
            large: LargeRecords::default(),
            decoded: DecodedRecords::default(),
            counting: Arc::new(Semaphore::new(MAX_COUNTING)),
            max_record,
            lease,
        }))
    }

    /// Returns the counters of this process since the store was built.
    #[must_use]
    pub fn stats(&self) -> RedisStats {
        let client = &self.0.client;
        RedisStats {
            circuit_open: client.breaker.is_open(),
            invalidations_queued: client.retry_queue.len() as u64,
            ..client.counters.read()
        }
    }

    /// Returns the client for a call. The first call starts the maintenance thread.
    pub(super) fn client(&self) -> &Arc<RedisClient> {
        self.0.maintenance.start(&self.0.client);
        &self.0.client
    }

    async fn find(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, Failure> {
        let Inner { batches, selecting, any_selecting, no_selecting, large, .. } = &*self.0;
        let client = self.client();
        let deadline = Deadline::after(client.timeouts.lookup);
        let entry = client.keys.entry(key);
        let any = any_selecting.load(Ordering::Relaxed);
        let guessed = if any { selecting.get(&entry.digest) } else { None };
        let guessed = guessed.unwrap_or_else(|| Arc::clone(no_selecting));
        let wanted = WantedRecord::new(key, &entry, &guessed, selector);
        let (reply, stamp) = if large.contains(entry.digest) {
            // Boxed, so that the future of other lookups stays small.
            Box::pin(Batches::lookup_alone(client, wanted.command())).await?
        } else {
            let reply = batches.lookup(client, wanted.command())?;
            reply.await.unwrap_or(Err(Failure::NoRuntime))?
        };
        if let Some(record) = records::parse_record(reply)? {
            large.note(entry.digest, record.size());
            let found = self.found(&wanted, Some(record), stamp);
            let mut responses = found.variants.iter().flat_map(|variants| variants.responses());
            // A key whose only response answers all requests has no other variants to drop.
            if responses.any(|response| !guessed.is_empty() || !response.discriminator.is_empty()) {
                self.count_use(&entry, wanted.variant);
            }
            return Ok(found);
        }
        // Either nothing is stored, or the guessed selecting fields are wrong. All round trips of a
        // lookup share one deadline. The future is boxed, so that the future of a hit stays small.
        let retry = Box::pin(self.find_by_stored_fields(key, selector, &entry, guessed, stamp));
        Ok(deadline.run(retry).await?)
    }

    /// Counts some of the uses of a variant, in the background. Redis drops the variants with the
    /// fewest uses first if a key has too many.
    fn count_use(&self, entry: &EntryKey, variant: VariantId) {
        if fastrand::u8(..LOOKUPS_PER_USE) != 0 {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let Ok(permit) = Arc::clone(&self.0.counting).try_acquire_owned() else { return };
        let (client, entry) = (Arc::clone(self.client()), entry.clone());
        runtime.spawn(async move {
            let _permit = permit;
            let timeout = client.timeouts.write;
            // Lookups work without the count, so a failure does not open the circuit breaker.
            let counted =
                client.call_apart(ConnectionRole::Writes, timeout, |mut connection| async move {
                    records::count_use(&mut connection, &entry, variant).await
                });
            if let Err(failure) = counted.await {
                log::debug!("use of a stored response not counted in Redis: {failure}");
            }
        });
    }

    /// Looks up a key by the selecting fields that Redis has for the key. The cache calls this
    /// method if the selecting fields that this process guessed lead to no variant.
    async fn find_by_stored_fields(
        &self,
        key: &CacheKey,
        selector: &Selector<'_>,
        entry: &EntryKey,
        guessed: SelectingFields,
        stamp: Stamp,
    ) -> Result<Lookup, Failure> {
        let client = self.client();
        let timeout = client.timeouts.lookup;
        let stored = client
            .call(ConnectionRole::Lookups, timeout, |mut connection| {
                let guessed = &guessed;
                async move { records::read_selecting_fields(&mut connection, entry, guessed).await }
            })
            .await?;
        let Some(stored) = stored else { return Ok(Lookup { variants: None, stamp }) };
        let wanted = WantedRecord::new(key, entry, &stored, selector);
        if Arc::ptr_eq(&stored, &guessed) {
            return Ok(self.found(&wanted, None, stamp));
        }
        self.0.selecting.insert(entry.digest, Arc::clone(&stored));
        self.0.any_selecting.store(true, Ordering::Relaxed);
        let reply = self.0.batches.lookup(client, wanted.command())?;
        let (reply, stamp) = reply.await.unwrap_or(Err(Failure::NoRuntime))?;
        let record = records::parse_record(reply)?;
        Ok(self.found(&wanted, record, stamp))
    }

    /// Makes the result of a lookup from the record (the encoded response), if there is one.
    fn found(
        &self,
        wanted: &WantedRecord<'_>,
        record: Option<FoundRecord>,
        stamp: Stamp,
    ) -> Lookup {
        let Inner { client, decoded, .. } = &*self.0;
        let WantedRecord { key, selecting, now, .. } = *wanted;
        let none = || Arc::new(Variants::new(selecting, None));
        let Some(record) = record else { return Lookup { variants: Some(none()), stamp } };
        // The memory of a tiered store has its own copies, whose age begins when they are decoded.
        let is_far = client.table_interval().is_some();
        let known = if is_far { None } else { decoded.find(wanted, &record, stamp) };
        if let Some(variants) = known.filter(|known| !known.useful_for(now).is_zero()) {
            count(&client.counters.found);
            return Lookup { variants: Some(variants), stamp };
        }
        let Some(response) = self.decoded(&record, key, now) else {
            return Lookup { variants: Some(none()), stamp };
        };
        let variants = Arc::new(Variants::new(selecting, [Arc::new(response)]));
        if !is_far {
            decoded.add(wanted, record, stamp, Arc::clone(&variants));
        }
        Lookup { variants: Some(variants), stamp }
    }

    /// Decodes a record and its copy. Returns `None` if the response cannot be used.
    fn decoded(
        &self,
        found: &FoundRecord,
        key: &CacheKey,
        now: Timestamp,
    ) -> Option<StoredResponse> {
        let RedisClient { counters, coordinator, .. } = &*self.0.client;
        match codec::decode(found.record.clone(), key, now) {
            // Redis keeps the record until the last response in the hash has expired.
            Ok(response) if response.useful_for(now).is_zero() => None,
            Ok(mut response) => {
                count(&counters.found);
                coordinator.held_bodies().share(key, &mut response.body);
                Some(match found.copy.as_ref().and_then(|copy| self.decoded_copy(copy)) {
                    Some(copy) => response.with_coded_copy(copy),
                    None => response,
                })
            }
            Err(error) => {
                count(&counters.unreadable_records);
                log::debug!("stored response in Redis not used: {error}");
                None
            }
        }
    }

    /// Decodes a coded copy. A copy that cannot be read counts as missing, and is made again.
    fn decoded_copy(&self, record: &Bytes) -> Option<CodedCopy> {
        let decoded = codec::decode_coded_copy(record).inspect_err(|error| {
            count(&self.0.client.counters.unreadable_records);
            log::debug!("coded copy in Redis not used: {error}");
        });
        decoded.ok()
    }

    async fn write_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        copy: CodedCopy,
    ) -> Result<(), Failure> {
        let client = self.client();
        let mut record = codec::encode_coded_copy(&copy);
        if record.len() > self.0.max_record {
            record = codec::encode_coded_copy(&copy.without_bytes());
        }
        let (entry, variant, coding) = (client.keys.entry(key), response.variant(), copy.coding());
        let timeout = client.timeouts.write;
        client
            .call(ConnectionRole::Writes, timeout, |mut connection| async move {
                records::write_copy(&mut connection, &entry, variant, coding, &record).await
            })
            .await
    }

    async fn read_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        coding: ContentCoding,
    ) -> Result<Option<CodedCopy>, Failure> {
        let client = self.client();
        let (entry, variant) = (client.keys.entry(key), response.variant());
        let timeout = client.timeouts.write;
        let found = client
            .call(ConnectionRole::Writes, timeout, |mut connection| async move {
                records::read_copy(&mut connection, &entry, variant, coding).await
            })
            .await?;
        let copy = found.and_then(|record| self.decoded_copy(&record));
        Ok(copy.filter(|copy| copy.coding() == coding && copy.belongs_to(response)))
    }

    async fn write(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        fill: &Fill,
    ) -> Result<Put, Failure> {
        let client = self.client();
        if fill.is_invalidated()
            || fill.age() > MAX_FILL_AGE
            || !client.coordinator.is_valid(key, response)
        {
            return Ok(Put::Outdated);
        }
        let Ok(record) = codec::encode(key, response) else { return Ok(Put::TooLarge) };
        if record.len() > self.0.max_record {
            return Ok(Put::TooLarge);
        }
        let entry = client.keys.entry(key);
        let new = NewRecord {
            key: &entry,
            variant: response.variant(),
            selecting: response.selecting.iter().map(|(name, _)| name).collect(),
            record: &record,
            is_chosen_by_client: is_chosen_by_client(&response.discriminator),
            retention: response.useful_for(response.lifetime.response_time).min(MAX_RETENTION),
        };
        let timeout = client.timeouts.write;
        let is_valid = || !fill.is_invalidated() && client.coordinator.is_valid(key, response);
        let written = client
            .call(ConnectionRole::Writes, timeout, |mut connection| async move {
                let connection = &mut connection;
                if !client.table.is_current(MAX_TABLE_AGE) {
                    client.update_table(connection).await?;
                }
                if !is_valid() {
                    return Ok(false);
                }
                let written = records::write(connection, &new).await?;
                if !written.is_stored {
                    return Ok(false);
                }
                // A removal may have run during the write, in this process or in another one.
                client.update_table(connection).await?;
                let verdict = if is_valid() { Verdict::Valid } else { Verdict::Invalidated };
                records::settle(connection, &new, &written, verdict).await?;
                Ok(verdict == Verdict::Valid)
            })
            .await;
        if written.as_ref().is_err_and(Failure::is_refused_write) {
            client.find_primary(&entry.name);
        }
        count(match written {
            Ok(_) => &client.counters.writes,
            Err(_) => &client.counters.writes_failed,
        });
        Ok(if written? { Put::Stored } else { Put::Outdated })
    }

    async fn remove_entry(&self, key: &CacheKey) -> Result<usize, Failure> {
        let (client, key) = (Arc::clone(self.client()), key.clone());
        run_to_end(async move {
            let entry = client.keys.entry(&key);
            client
                .remove(TagId::key(&key), |mut connection| async move {
                    records::remove(&mut connection, &entry).await
                })
                .await
        })
        .await
    }

    async fn remove_hashes(&self, url: UrlKey<'_>) -> Result<usize, Failure> {
        let client = Arc::clone(self.client());
        let (tag, hashes) = (TagId::url(url), client.keys.hashes(url).collect::<Vec<_>>());
        run_to_end(async move {
            client
                .remove(tag, |connection| async move {
                    records::remove_hashes(&connection, &hashes).await
                })
                .await
        })
        .await
    }
}

/// Runs `work` in a task of its own, so that `work` completes even if the caller is canceled.
async fn run_to_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let runtime = Handle::try_current().map_err(|_| Failure::NoRuntime)?;
    runtime.spawn(work).await.unwrap_or(Err(Failure::NoRuntime))
}

impl Store for RedisStore {
    fn coordinator(&self) -> &Coordinator {
        &self.0.client.coordinator
    }

    async fn lookup(&self, key: &CacheKey, selector: &Selector<'_>) -> Result<Lookup, StoreError> {
        let found = self.find(key, selector).await;
        if found.is_err() {
            count(&self.0.client.counters.lookups_failed);
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
        self.remove_entry(key).await.map_err(Failure::of_invalidation)
    }

    async fn remove_url(&self, url: UrlKey<'_>) -> Result<usize, StoreError> {
        self.remove_hashes(url).await.map_err(Failure::of_invalidation)
    }

    async fn invalidate(&self, invalidation: &Invalidation) -> Result<(), StoreError> {
        let (client, invalidation) = (Arc::clone(self.client()), invalidation.clone());
        let sent = run_to_end(async move { client.invalidate(&invalidation).await }).await;
        sent.map(drop).map_err(Failure::of_invalidation)
    }

    fn supports_coded_copies(&self) -> bool {
        true
    }

    async fn put_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        copy: CodedCopy,
    ) -> Result<(), StoreError> {
        Ok(self.write_copy(key, response, copy).await?)
    }

    async fn find_coded_copy(
        &self,
        key: &CacheKey,
        response: &StoredResponse,
        coding: ContentCoding,
    ) -> Result<Option<CodedCopy>, StoreError> {
        Ok(self.read_copy(key, response, coding).await?)
    }

    fn max_body_size(&self) -> usize {
        self.0.max_record
    }

    fn supports_leases(&self) -> bool {
        self.0.lease.is_some()
    }

    async fn lease(&self, key: &CacheKey, collapse_key: &[u8]) -> Result<Lease, StoreError> {
        let Some(duration) = self.0.lease else { return Ok(Lease::Unneeded) };
        Ok(lease::acquire(self.client(), key, collapse_key, duration).await?)
    }
}

/// The maintenance thread learns the invalidations of other processes in the background. The thread
/// reads the invalidation table, and listens to announcements.
impl FarStore for RedisStore {
    fn keep_current(&self, interval: Duration) {
        self.0.client.keep_table_current(interval);
    }

    fn is_current(&self, max_age: Duration) -> bool {
        self.client().table.is_current(max_age)
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
