//! Measures hits by several threads, with many cache keys, and during purges. There are no sockets, so
//! that the threads use the whole processor for the work that the bench compares.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench scale -- [--threads 2] [--keys 1000000] [--laps 9]
//! ```
//!
//! * Threads: the gain from further threads, for hits and for a handler that sends the same header
//!   fields. All threads request one page, or random pages of 10,000.
//! * Keys: the time of a hit on a random page of 10,000, and of as many pages as `--keys` says.
//! * Purges: the hits while a thread purges a thousand pages a second, by URL and by tag in turn. The
//!   bench fails if a request that begins after a purge gets the purged response.

#![allow(missing_docs, clippy::disallowed_methods, clippy::expect_used, clippy::print_stdout)]

mod support;

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use actix_service::Service;
use actix_web::{
    App, Error, HttpResponse,
    body::MessageBody,
    dev::ServiceResponse,
    http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, HeaderValue},
    rt::System,
    test::{TestRequest, init_service},
    web,
};
use actix_web_cache::{Cache, MemoryStore, Policy, PurgeTarget, ResponseOptions};

use crate::support::{argument, median};

const LAP: Duration = Duration::from_millis(300);

/// The number of different pages of a site, unless `--keys` says another one.
const PAGES: u64 = 10_000;

const PURGES_PER_SECOND: u32 = 1000;

const SECONDS_OF_PURGES: u32 = 5;

fn main() {
    let laps = argument("--laps", 9);
    compare_threads(argument("--threads", 2), laps);
    compare_keys(argument("--keys", 1_000_000) as u64, laps);
    purge_while_reading();
}

/// A site whose pages name their latest change.
#[derive(Clone)]
struct Site {
    /// `None` if the site has no cache.
    cache: Option<Cache>,
    /// The number of the latest change of each page.
    changes: Arc<[AtomicU64]>,
    /// The number of the latest change of each page after which the page was purged.
    purged: Arc<[AtomicU64]>,
}

/// Requests of one thread.
#[derive(Clone, Copy)]
enum Work<'a> {
    /// One request for each page.
    Each,
    /// Requests for random pages during this time, from the moment at which all threads wait for
    /// `start`.
    Random { time: Duration, start: &'a Barrier, seed: u64 },
    /// Requests for random pages until `end`. Each response must have the change that was purged last
    /// when the request began, or a later one.
    Checked { end: &'a AtomicBool },
}

impl Site {
    fn new(pages: u64) -> Self {
        let zeros = || (0..pages).map(|_| AtomicU64::new(0)).collect();
        Self { cache: None, changes: zeros(), purged: zeros() }
    }

    fn cached(pages: u64) -> Self {
        let bytes = usize::try_from(pages * 4096).expect("a size") + (64 << 20);
        let policy = Policy::new().default_ttl(Duration::from_secs(86_400));
        let cache = Cache::builder(MemoryStore::new(bytes)).policy(policy).build();
        let site = Self { cache: Some(cache.expect("a cache")), ..Self::new(pages) };
        site.visit(Work::Each);
        site
    }

    /// Does this work on this thread, and returns the number of requests.
    fn visit(&self, work: Work<'_>) -> u64 {
        System::new().block_on(async {
            let changes = Arc::clone(&self.changes);
            let route = web::get().to(move |n: web::Path<usize>| {
                let change = changes.get(*n).map_or(0, |change| change.load(Ordering::SeqCst));
                async move { page(*n, change) }
            });
            match &self.cache {
                Some(cache) => {
                    let app = App::new().wrap(cache.clone()).route("/{n}", route);
                    self.request(&init_service(app).await, work).await
                }
                None => {
                    self.request(&init_service(App::new().route("/{n}", route)).await, work).await
                }
            }
        })
    }

    async fn request<B: MessageBody>(
        &self,
        app: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
        work: Work<'_>,
    ) -> u64 {
        let pages = self.changes.len() as u64;
        let mut requests = 0;
        match work {
            Work::Each => {
                for n in 0..pages {
                    request(app, n).await;
                }
                requests = pages;
            }
            Work::Random { time, start, mut seed } => {
                start.wait();
                let end = Instant::now() + time;
                while Instant::now() < end {
                    for _ in 0..64 {
                        request(app, random(&mut seed) % pages).await;
                    }
                    requests += 64;
                }
            }
            Work::Checked { end } => {
                let mut seed = 1;
                while !end.load(Ordering::SeqCst) {
                    let n = random(&mut seed) % pages;
                    let least = self.purged.get(n as usize).expect("a page");
                    let least = least.load(Ordering::SeqCst);
                    let response = request(app, n).await;
                    let tag = response.headers().get(ETAG).expect("a tag");
                    let tag = tag.to_str().expect("a tag").trim_matches(['W', '/', '"']);
                    let found: u64 = tag.parse().expect("a change");
                    assert!(found >= least, "a purged response was served");
                    requests += 1;
                }
            }
        }
        requests
    }
}

/// Makes a page with the header fields of a hit.
fn page(n: usize, change: u64) -> HttpResponse {
    let text = HeaderValue::from_static;
    let mut response = HttpResponse::Ok();
    response.extensions_mut().insert(ResponseOptions::new().tag(format!("page {n}")));
    response
        .insert_header((CONTENT_TYPE, text("text/html; charset=utf-8")))
        .insert_header((ETAG, format!("\"{change}\"")))
        .insert_header((CACHE_CONTROL, text("max-age=86400")))
        .insert_header((EXPIRES, text("Thu, 01 Jan 2099 00:00:00 GMT")))
        .insert_header((AGE, text("0")))
        .body("Hello, world!")
}

async fn request<B: MessageBody>(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    n: u64,
) -> ServiceResponse<B> {
    let request = TestRequest::get()
        .uri(&format!("/{n}"))
        .insert_header(("host", "localhost"))
        .insert_header(("accept", "text/html"))
        .insert_header(("accept-encoding", "gzip, deflate, br, zstd"));
    app.call(request.to_request()).await.expect("a response")
}

/// Returns the next number of a linear congruential generator.
const fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Returns the time of a request by each of several threads that request random pages at once.
fn time_of_request(site: &Site, threads: usize) -> f64 {
    let start = &Barrier::new(threads);
    let requests: u64 = thread::scope(|scope| {
        let visits: Vec<_> = (0..threads as u64)
            .map(|seed| scope.spawn(move || site.visit(Work::Random { time: LAP, start, seed })))
            .collect();
        visits.into_iter().map(|visit| visit.join().expect("requests")).sum()
    });
    LAP.as_secs_f64() * 1e9 * threads as f64 / requests as f64
}

/// Prints the gain from several threads, beside that of a handler in the same lap.
fn compare_threads(threads: usize, laps: usize) {
    let sites = [
        ("a handler", Site::new(PAGES)),
        ("hits on one page", Site::cached(1)),
        ("hits on 10,000 pages", Site::cached(PAGES)),
    ];
    let mut gains = sites.each_ref().map(|_| Vec::new());
    let mut times = sites.each_ref().map(|_| (Vec::new(), Vec::new()));
    for lap in 0..=laps {
        for (((_, site), gains), times) in sites.iter().zip(&mut gains).zip(&mut times) {
            let (alone, together) = (time_of_request(site, 1), time_of_request(site, threads));
            // The first lap warms up.
            if lap > 0 {
                gains.push(threads as f64 * alone / together);
                times.0.push(alone);
                times.1.push(together);
            }
        }
    }
    let [of_handler, ..] = &gains;
    for (((name, _), of_site), (alone, together)) in sites.iter().zip(&gains).zip(&times) {
        let relative = of_site.iter().zip(of_handler).map(|(gain, base)| gain / base).collect();
        println!(
            "threads   {name:21} {:6.0} ns alone, {:6.0} ns on {threads} threads: {:.3} times the \
             gain of the handler",
            median(alone.clone()),
            median(together.clone()),
            median(relative)
        );
    }
}

/// Prints the time of a hit on random pages of few and of many.
fn compare_keys(keys: u64, laps: usize) {
    let sites = [Site::cached(PAGES), Site::cached(keys)];
    let mut times = sites.each_ref().map(|_| Vec::new());
    for _ in 0..laps {
        for (site, times) in sites.iter().zip(&mut times) {
            times.push(time_of_request(site, 1));
        }
    }
    let [few, many] = times.map(median);
    println!(
        "keys      {PAGES} pages {few:.0} ns, {keys} pages {many:.0} ns: {:.2} times",
        many / few
    );
}

/// Purges changed pages at a steady rate while a thread requests pages, and prints the rate of requests
/// before and meanwhile.
fn purge_while_reading() {
    let site = Site::cached(PAGES);
    let handle = site.cache.as_ref().expect("a cache").handle();
    let end = &AtomicBool::new(false);
    let before = 1e9 / time_of_request(&site, 1);
    let started = Instant::now();
    let (requests, purges) = thread::scope(|scope| {
        let visit = scope.spawn(|| site.visit(Work::Checked { end }));
        let purges = PURGES_PER_SECOND * SECONDS_OF_PURGES;
        System::new().block_on(async {
            let mut seed = 2;
            for number in 0..purges {
                let due = started + Duration::from_secs(1) * number / PURGES_PER_SECOND;
                actix_web::rt::time::sleep_until(due.into()).await;
                let n = (random(&mut seed) % PAGES) as usize;
                let target = if number % 2 == 0 {
                    PurgeTarget::url(format!("http://localhost/{n}"))
                } else {
                    PurgeTarget::tag(format!("page {n}"))
                };
                let change = site.changes.get(n).expect("a page");
                let latest = change.fetch_add(1, Ordering::SeqCst) + 1;
                handle.purge(target).await.expect("a purge");
                site.purged.get(n).expect("a page").store(latest, Ordering::SeqCst);
            }
        });
        end.store(true, Ordering::SeqCst);
        (visit.join().expect("requests"), purges)
    });
    let during = requests as f64 / started.elapsed().as_secs_f64();
    println!(
        "purges    {before:.0} requests a second before, {during:.0} during {purges} purges in \
         {SECONDS_OF_PURGES} s: {:.2} times",
        during / before
    );
}
