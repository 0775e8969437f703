//! Many write and many read at once: whoever reads after a write was acknowledged never sees what was
//! before it.
//!
//! `INVALIDATION_OPERATIONS` tells how many reads and writes there are of each kind of purge; the
//! schedule of waits is made of `INVALIDATION_SEED`.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use actix_web::{App, HttpResponse, web};
use actix_web_cache::{Cache, CacheHandle, Overrides, Pages, Policy, PurgeError, Rule, Store as _};
use hyper::Method;

use crate::support::{Client, Counter, Protocol, Server, serve, settled, store};

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
        response.extensions_mut().insert(Overrides::new().tag(format!("learnt:{page}")));
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
            Kind::Url => Some(Pages::url(format!("/pages/{page}/text"))),
            Kind::Known => Some(Pages::tag(format!("known:{page}"))),
            Kind::Learnt => Some(Pages::tags(["other".to_owned(), format!("learnt:{page}")])),
            Kind::Prefix => Some(Pages::prefix(format!("/pages/{page}"))),
            Kind::All => Some(Pages::all()),
        };
        if let Some(pages) = pages {
            cache.purge(pages).await?;
        }
        Ok(answer.body(version.to_string()))
    }

    fn serve(&self, kind: Kind, cache: &Cache) -> Server {
        let (site, cache) = (self.clone(), cache.clone());
        serve(4, move || {
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

#[actix_web::test]
async fn no_reader_that_began_after_an_acknowledgement_sees_what_was_before_it() {
    let operations = number("INVALIDATION_OPERATIONS", 10_000);
    let seed = number("INVALIDATION_SEED", 1);
    let workers: Vec<_> = KINDS.into_iter().map(|kind| race(kind, operations, seed)).collect();
    for worker in workers {
        worker.await;
    }
}

async fn race(kind: Kind, operations: u64, seed: u64) {
    let store = store();
    let policy = Policy::new().stale_while_revalidate(std::time::Duration::from_secs(60));
    let rule = Rule::pattern("/pages/{page}/{part}").tag("known:{page}");
    let cache = Cache::builder(store.clone()).policy(policy).rule(rule).build().unwrap();
    let site = Site { versions: Arc::default(), dice: Dice::new(seed) };
    let server = site.serve(kind, &cache);
    let acknowledged: Arc<[AtomicUsize; PAGES]> = Arc::default();
    let (left, hits) = (Arc::new(AtomicU64::new(operations)), Counter::default());
    let mut tasks = Vec::new();
    for number in 0..READERS + WRITERS {
        let client = Client::new(server.addr, Protocol::Http1);
        let dice = Dice::new(seed ^ (number as u64) << 32);
        let (left, acknowledged) = (Arc::clone(&left), Arc::clone(&acknowledged));
        let hits = hits.clone();
        tasks.push(tokio::spawn(async move {
            let one_less = |left: u64| left.checked_sub(1);
            while left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less).is_ok() {
                let page = usize::try_from(dice.roll(PAGES as u64)).unwrap();
                dice.dawdle().await;
                if number < WRITERS {
                    let (method, path) = match kind {
                        Kind::Change => (Method::PUT, format!("/pages/{page}/text")),
                        _ => (Method::POST, format!("/write/{page}")),
                    };
                    let answer = client.send(method, &path, &[]).await;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    let version = answer.text().parse().unwrap();
                    acknowledged[page].fetch_max(version, Ordering::SeqCst);
                } else {
                    let least = acknowledged[page].load(Ordering::SeqCst);
                    let answer = client.get(&format!("/pages/{page}/text")).await;
                    let seen: usize = answer.text().parse().unwrap();
                    assert!(
                        seen >= least,
                        "{kind:?}: version {seen} of page {page} was seen after {least} was \
                         acknowledged: {}",
                        answer.cache_status()
                    );
                    if answer.is_hit() {
                        hits.count();
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    settled(store.commons()).await;
    assert!(hits.get() > 0, "{kind:?}: nothing was ever answered from the store");
    assert_eq!(store.commons().open_flights(), 0);
}
