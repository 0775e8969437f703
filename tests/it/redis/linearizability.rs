//! Purges are linearizable: a request that begins after a write was acknowledged never gets a
//! version from before that write, with many concurrent readers and writers.
//!
//! The environment variable `INVALIDATION_OPERATIONS` sets the number of reads and writes for each
//! kind of purge, `INVALIDATION_SEED` the seed of the pauses between them.

use std::{
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpResponse, web};
use actix_web_cache::{
    Cache, CacheHandle, Policy, PurgeError, PurgeTarget, ResponseOptions, Rule, store::Store,
};
use hyper::Method;
use tokio::time::Instant;

use crate::{
    redis::{cache_builder, shared_store, tiered_builder},
    support::{Client, Counter, Protocol, RedisServer, Server, fills_ended, serve, store},
};

/// The number of pages. Each has a version that writers increment.
const PAGES: usize = 8;

const READERS: usize = 12;

const WRITERS: usize = 4;

/// How a write purges the page that it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Url,
    /// By the URL of an unsafe request (RFC 9111, section 4.4).
    UnsafeRequest,
    /// By a tag that a rule gives before the handler runs.
    RuleTag,
    /// By a tag that the response gives.
    ResponseTag,
    /// By `Cache-Group-Invalidation` (RFC 9875).
    Group,
    Prefix,
    All,
}

const KINDS: [Kind; 7] = [
    Kind::Url,
    Kind::UnsafeRequest,
    Kind::RuleTag,
    Kind::ResponseTag,
    Kind::Group,
    Kind::Prefix,
    Kind::All,
];

/// Reproducible pseudo-random numbers (splitmix64).
#[derive(Clone)]
struct Random(Arc<AtomicU64>);

impl Random {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    /// A number below `limit`.
    fn below(&self, limit: u64) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// Yields to other tasks up to eleven times.
    async fn pause(&self) {
        for _ in 0..self.below(12) {
            tokio::task::yield_now().await;
        }
    }
}

/// The handlers, and the versions of the pages.
#[derive(Clone)]
struct TestApp {
    versions: Arc<[AtomicUsize; PAGES]>,
    random: Random,
}

impl TestApp {
    /// Returns the version of a page, with pauses before and after reading it.
    async fn read(self, page: usize) -> HttpResponse {
        self.random.pause().await;
        let version = self.versions[page].load(Ordering::SeqCst);
        self.random.pause().await;
        let mut response = HttpResponse::Ok();
        response.extensions_mut().insert(ResponseOptions::new().tag(format!("response:{page}")));
        response.insert_header(("cache-groups", format!("\"group {page}\"")));
        response.body(version.to_string())
    }

    /// Increments the version of a page, purges the page, and then responds with the new version.
    async fn write(
        self,
        kind: Kind,
        page: usize,
        cache: CacheHandle,
    ) -> Result<HttpResponse, PurgeError> {
        let version = self.versions[page].fetch_add(1, Ordering::SeqCst) + 1;
        self.random.pause().await;
        let mut response = HttpResponse::Ok();
        let target = match kind {
            Kind::UnsafeRequest => None,
            Kind::Group => {
                let group = format!("\"other\", \"group {page}\"");
                response.insert_header(("cache-group-invalidation", group));
                None
            }
            Kind::Url => Some(PurgeTarget::url(format!("/pages/{page}/text"))),
            Kind::RuleTag => Some(PurgeTarget::tag(format!("rule:{page}"))),
            Kind::ResponseTag => {
                Some(PurgeTarget::tags(["other".to_owned(), format!("response:{page}")]))
            }
            Kind::Prefix => Some(PurgeTarget::prefix(format!("/pages/{page}"))),
            Kind::All => Some(PurgeTarget::all()),
        };
        if let Some(target) = target {
            cache.purge(target).await?;
        }
        Ok(response.body(version.to_string()))
    }

    fn serve(&self, kind: Kind, cache: &Cache, workers: usize) -> Server {
        let (site, cache) = (self.clone(), cache.clone());
        serve(workers, move || {
            let (reader, writer) = (site.clone(), site.clone());
            let read = move |page: web::Path<usize>| reader.clone().read(*page);
            let write = move |page: web::Path<usize>, handle: CacheHandle| {
                writer.clone().write(kind, *page, handle)
            };
            let pages = web::resource("/pages/{page}/text").get(read).put(write.clone());
            App::new()
                .wrap(cache.clone())
                .service(pages)
                .route("/write/{page}", web::post().to(write))
        })
    }
}

/// A number from the environment.
fn number_of(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// The acknowledged versions of a page.
#[derive(Default)]
struct Acknowledged {
    /// The newest version that each process acknowledged.
    newest: [AtomicUsize; 2],
    /// All versions, with the time of their acknowledgement.
    log: Mutex<Vec<(Instant, usize)>>,
}

impl Acknowledged {
    fn add(&self, process: usize, version: usize) {
        self.newest[process].fetch_max(version, Ordering::SeqCst);
        self.log.lock().unwrap().push((Instant::now(), version));
    }

    /// The oldest version that a request to `process` may get now, if writes of other processes
    /// apply within `bound`.
    fn least(&self, process: usize, bound: Duration) -> usize {
        let applied = Instant::now() - bound;
        let log = self.log.lock().unwrap();
        let others = log.iter().filter(|(at, _)| *at <= applied).map(|&(_, version)| version);
        let own = self.newest[process].load(Ordering::SeqCst);
        others.max().unwrap_or_default().max(own)
    }
}

/// The size of a race between readers and writers, and its bound.
#[derive(Clone, Copy)]
struct Race {
    operations: u64,
    seed: u64,
    /// The time within which a write of one process applies in the others.
    bound: Duration,
}

impl Race {
    /// `operations` for each kind of purge, unless the environment sets another number.
    fn of(operations: u64) -> Self {
        Self {
            operations: number_of("INVALIDATION_OPERATIONS", operations),
            seed: number_of("INVALIDATION_SEED", 1),
            bound: Duration::ZERO,
        }
    }

    /// Runs the race for each kind of purge, with one process for each store.
    async fn run<S: Store + Clone>(self, processes: impl Fn() -> Vec<S>) {
        for kind in KINDS {
            self.run_kind(kind, processes()).await;
        }
    }

    async fn run_kind<S: Store + Clone>(self, kind: Kind, processes: Vec<S>) {
        let site = TestApp { versions: Arc::default(), random: Random::new(self.seed) };
        let caches: Vec<_> = processes.iter().cloned().map(cache).collect();
        let workers = 4 / caches.len();
        let servers: Vec<_> = caches.iter().map(|cache| site.serve(kind, cache, workers)).collect();
        let acknowledged: Arc<[Acknowledged; PAGES]> = Arc::default();
        let (remaining, hits) = (Arc::new(AtomicU64::new(self.operations)), Counter::default());
        let mut tasks = Vec::new();
        for number in 0..READERS + WRITERS {
            let process = number % servers.len();
            let task = Task {
                race: self,
                kind,
                process,
                client: Client::new(servers[process].addr, Protocol::Http1),
                random: Random::new(self.seed ^ (number as u64) << 32),
                acknowledged: Arc::clone(&acknowledged),
                hits: hits.clone(),
            };
            let remaining = Arc::clone(&remaining);
            tasks.push(tokio::spawn(async move {
                let decrement = |remaining: u64| remaining.checked_sub(1);
                while remaining.fetch_update(Ordering::SeqCst, Ordering::SeqCst, decrement).is_ok()
                {
                    task.run_once(number < WRITERS).await;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for store in &processes {
            fills_ended(store.coordinator()).await;
            assert_eq!(store.coordinator().open_flights(), 0);
        }
        assert!(hits.get() > 0, "{kind:?}: no hit in the whole race");
    }
}

fn cache<S: Store>(store: S) -> Cache {
    let policy = Policy::new().stale_while_revalidate(Duration::from_secs(60));
    let rule = Rule::pattern("/pages/{page}/{part}").with(|policy| policy.tag("rule:{page}"));
    cache_builder(store).policy(policy).rule(rule).build().unwrap()
}

/// A client that reads from or writes to one process.
struct Task {
    race: Race,
    kind: Kind,
    process: usize,
    client: Client,
    random: Random,
    acknowledged: Arc<[Acknowledged; PAGES]>,
    hits: Counter,
}

impl Task {
    async fn run_once(&self, writes: bool) {
        // All processes have the same host, so that a page has one cache key.
        const HOST: [(&str, &str); 1] = [("host", "site")];
        let Self { race, kind, process, client, .. } = self;
        let page = usize::try_from(self.random.below(PAGES as u64)).unwrap();
        let acknowledged = &self.acknowledged[page];
        self.random.pause().await;
        if writes {
            let (method, path) = match kind {
                Kind::UnsafeRequest => (Method::PUT, format!("/pages/{page}/text")),
                _ => (Method::POST, format!("/write/{page}")),
            };
            let answer = client.send(method, &path, &HOST).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            acknowledged.add(*process, answer.text().parse().unwrap());
            return;
        }
        let least = acknowledged.least(*process, race.bound);
        let answer = client.get_with(&format!("/pages/{page}/text"), &HOST).await;
        let seen: usize = answer.text().parse().unwrap();
        assert!(
            seen >= least,
            "{kind:?}: got version {seen} of page {page} after version {least} was acknowledged: {}",
            answer.cache_status()
        );
        if answer.is_hit() {
            self.hits.count();
        }
    }
}

#[actix_web::test]
async fn read_after_acknowledged_write_gets_no_older_version() {
    Race::of(10_000).run(|| vec![store()]).await;
}

#[actix_web::test]
async fn read_at_another_process_on_redis_gets_no_older_version() {
    let redis = RedisServer::start();
    let processes = || (0..2).map(|_| shared_store(redis.url())).collect();
    Race::of(3_000).run(processes).await;
}

#[actix_web::test]
async fn read_at_another_process_with_memory_gets_no_older_version_beyond_max_staleness() {
    let redis = RedisServer::start();
    let bound = Duration::from_millis(50);
    let process = |_| {
        let redis = shared_store(redis.url());
        tiered_builder(redis).max_staleness(bound).build().unwrap()
    };
    let race = Race { bound, ..Race::of(3_000) };
    race.run(|| (0..2).map(process).collect()).await;
}
