//! Many write and many read at once: whoever reads after a write was acknowledged never sees what was
//! before it.
//!
//! `INVALIDATION_OPERATIONS` tells how many reads and writes there are of each kind of purge; the
//! schedule of waits is made of `INVALIDATION_SEED`.

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
    Cache, CacheHandle, Policy, PurgeError, PurgeTarget, RedisStore, ResponseOptions, Rule,
    TieredStore, store::Store,
};
use hyper::Method;
use tokio::time::Instant;

use crate::support::{Client, Counter, Protocol, RedisServer, Server, serve, settled, store};

/// Pages, each with a version that writers count up.
const PAGES: usize = 8;

const READERS: usize = 12;

const WRITERS: usize = 4;

/// How a write purges the page that it changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Url,
    /// By the unsafe request itself.
    Change,
    /// By a tag that a rule gives before the handler runs.
    Known,
    /// By a tag that comes with the answer.
    Learnt,
    /// By `Cache-Group-Invalidation`.
    Group,
    Prefix,
    All,
}

const KINDS: [Kind; 7] =
    [Kind::Url, Kind::Change, Kind::Known, Kind::Learnt, Kind::Group, Kind::Prefix, Kind::All];

/// Numbers that look random and are the same each time (splitmix64).
#[derive(Clone)]
struct Dice(Arc<AtomicU64>);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seed)))
    }

    fn roll(&self, sides: u64) -> u64 {
        let state = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    /// Lets others go first, more or less often.
    async fn dawdle(&self) {
        for _ in 0..self.roll(12) {
            tokio::task::yield_now().await;
        }
    }
}

/// What the pages are made of.
#[derive(Clone)]
struct Site {
    versions: Arc<[AtomicUsize; PAGES]>,
    dice: Dice,
}

impl Site {
    /// Waits before it reads, and after.
    async fn page(self, page: usize) -> HttpResponse {
        self.dice.dawdle().await;
        let version = self.versions[page].load(Ordering::SeqCst);
        self.dice.dawdle().await;
        let mut response = HttpResponse::Ok();
        response.extensions_mut().insert(ResponseOptions::new().tag(format!("learnt:{page}")));
        response.insert_header(("cache-groups", format!("\"group {page}\"")));
        response.body(version.to_string())
    }

    /// Changes, purges, and only then answers with the new version.
    async fn write(
        self,
        kind: Kind,
        page: usize,
        cache: CacheHandle,
    ) -> Result<HttpResponse, PurgeError> {
        let version = self.versions[page].fetch_add(1, Ordering::SeqCst) + 1;
        self.dice.dawdle().await;
        let mut answer = HttpResponse::Ok();
        let pages = match kind {
            Kind::Change => None,
            Kind::Group => {
                let group = format!("\"other\", \"group {page}\"");
                answer.insert_header(("cache-group-invalidation", group));
                None
            }
            Kind::Url => Some(PurgeTarget::url(format!("/pages/{page}/text"))),
            Kind::Known => Some(PurgeTarget::tag(format!("known:{page}"))),
            Kind::Learnt => Some(PurgeTarget::tags(["other".to_owned(), format!("learnt:{page}")])),
            Kind::Prefix => Some(PurgeTarget::prefix(format!("/pages/{page}"))),
            Kind::All => Some(PurgeTarget::all()),
        };
        if let Some(pages) = pages {
            cache.purge(pages).await?;
        }
        Ok(answer.body(version.to_string()))
    }

    fn serve(&self, kind: Kind, cache: &Cache, workers: usize) -> Server {
        let (site, cache) = (self.clone(), cache.clone());
        serve(workers, move || {
            let (reading, writing) = (site.clone(), site.clone());
            let read = move |page: web::Path<usize>| reading.clone().page(*page);
            let write = move |page: web::Path<usize>, handle: CacheHandle| {
                writing.clone().write(kind, *page, handle)
            };
            let pages = web::resource("/pages/{page}/text").get(read).put(write.clone());
            App::new()
                .wrap(cache.clone())
                .service(pages)
                .route("/write/{page}", web::post().to(write))
        })
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What was acknowledged of a page.
#[derive(Default)]
struct Acknowledged {
    /// By each process, the newest version.
    newest: [AtomicUsize; 2],
    /// When each version was, by whichever process.
    log: Mutex<Vec<(Instant, usize)>>,
}

impl Acknowledged {
    fn add(&self, process: usize, version: usize) {
        self.newest[process].fetch_max(version, Ordering::SeqCst);
        self.log.lock().unwrap().push((Instant::now(), version));
    }

    /// The version that a reader at a process sees at least, where it may not have heard of what was
    /// acknowledged elsewhere within `bound`.
    fn least(&self, process: usize, bound: Duration) -> usize {
        let known = Instant::now() - bound;
        let log = self.log.lock().unwrap();
        let elsewhere = log.iter().filter(|(at, _)| *at <= known).map(|&(_, version)| version);
        let here = self.newest[process].load(Ordering::SeqCst);
        elsewhere.max().unwrap_or_default().max(here)
    }
}

/// What is put to the test.
#[derive(Clone, Copy)]
struct Race {
    operations: u64,
    seed: u64,
    /// How old it may be what a process knows of the others.
    bound: Duration,
}

impl Race {
    /// `operations` of each kind, unless the environment says how many.
    fn of(operations: u64) -> Self {
        Self {
            operations: number("INVALIDATION_OPERATIONS", operations),
            seed: number("INVALIDATION_SEED", 1),
            bound: Duration::ZERO,
        }
    }

    /// Every kind of purge, over stores that `processes` makes: one for each process.
    async fn run<S: Store + Clone>(self, processes: impl Fn() -> Vec<S>) {
        for kind in KINDS {
            self.run_kind(kind, processes()).await;
        }
    }

    async fn run_kind<S: Store + Clone>(self, kind: Kind, processes: Vec<S>) {
        let site = Site { versions: Arc::default(), dice: Dice::new(self.seed) };
        let caches: Vec<_> = processes.iter().cloned().map(cache).collect();
        let workers = 4 / caches.len();
        let servers: Vec<_> = caches.iter().map(|cache| site.serve(kind, cache, workers)).collect();
        let acknowledged: Arc<[Acknowledged; PAGES]> = Arc::default();
        let (left, hits) = (Arc::new(AtomicU64::new(self.operations)), Counter::default());
        let mut tasks = Vec::new();
        for number in 0..READERS + WRITERS {
            let process = number % servers.len();
            let task = Task {
                race: self,
                kind,
                process,
                client: Client::new(servers[process].addr, Protocol::Http1),
                dice: Dice::new(self.seed ^ (number as u64) << 32),
                acknowledged: Arc::clone(&acknowledged),
                hits: hits.clone(),
            };
            let left = Arc::clone(&left);
            tasks.push(tokio::spawn(async move {
                let one_less = |left: u64| left.checked_sub(1);
                while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                    task.one(number < WRITERS).await;
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for store in &processes {
            settled(store.coordinator()).await;
            assert_eq!(store.coordinator().open_flights(), 0);
        }
        assert!(hits.get() > 0, "{kind:?}: nothing was ever answered from the store");
    }
}

fn cache<S: Store>(store: S) -> Cache {
    let policy = Policy::new().stale_while_revalidate(Duration::from_secs(60));
    let rule = Rule::pattern("/pages/{page}/{part}").tag("known:{page}");
    Cache::builder(store).policy(policy).rule(rule).build().unwrap()
}

/// One that reads or writes at one process.
struct Task {
    race: Race,
    kind: Kind,
    process: usize,
    client: Client,
    dice: Dice,
    acknowledged: Arc<[Acknowledged; PAGES]>,
    hits: Counter,
}

impl Task {
    async fn one(&self, writes: bool) {
        // The same for all processes.
        const HOST: [(&str, &str); 1] = [("host", "site")];
        let Self { race, kind, process, client, .. } = self;
        let page = usize::try_from(self.dice.roll(PAGES as u64)).unwrap();
        let acknowledged = &self.acknowledged[page];
        self.dice.dawdle().await;
        if writes {
            let (method, path) = match kind {
                Kind::Change => (Method::PUT, format!("/pages/{page}/text")),
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
            "{kind:?}: version {seen} of page {page} was seen after {least} was acknowledged: {}",
            answer.cache_status()
        );
        if answer.is_hit() {
            self.hits.count();
        }
    }
}

#[actix_web::test]
async fn no_reader_that_began_after_an_acknowledgement_sees_what_was_before_it() {
    Race::of(10_000).run(|| vec![store()]).await;
}

#[actix_web::test]
async fn nor_does_one_at_another_process() {
    let redis = RedisServer::start();
    let processes = || (0..2).map(|_| RedisStore::new(redis.url()).unwrap()).collect();
    Race::of(3_000).run(processes).await;
}

#[actix_web::test]
async fn nor_does_one_at_another_process_with_memory_of_its_own_beyond_the_bound() {
    let redis = RedisServer::start();
    let bound = Duration::from_millis(50);
    let process = |_| {
        let redis = RedisStore::new(redis.url()).unwrap();
        TieredStore::builder(redis).max_staleness(bound).build().unwrap()
    };
    let race = Race { bound, ..Race::of(3_000) };
    race.run(|| (0..2).map(process).collect()).await;
}
