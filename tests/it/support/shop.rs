//! A site whose store gets into trouble: what its clients notice of that, and what is logged.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, CacheHandle, ResponseOptions, store::Store};
use futures_util::future::join_all;
use log::Level;
use tokio::time::Instant;

use super::{Client, Counter, Lines, Protocol, RedisServer, Server, secs, serve};

/// What a request may wait for a store, and what a busy machine may add to a few of them.
const BUDGET: Duration = Duration::from_millis(60);
const MOST: Duration = Duration::from_millis(500);

/// Each run of a handler has a number of its own, whichever site it is of.
static RUNS: AtomicUsize = AtomicUsize::new(1);

/// One worker, which logs into lines of its own, and pages that tell their path and their run.
pub(crate) struct Shop {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) runs: Counter,
    pub(crate) lines: Lines,
    cache: Cache,
}

/// An answer, known to be a whole page of the path that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Visit {
    /// The run of the handler that made it.
    pub(crate) run: usize,
    pub(crate) is_hit: bool,
    pub(crate) time: Duration,
}

/// How long requests took, the shortest first.
#[derive(Debug, Clone)]
pub(crate) struct Times(Vec<Duration>);

/// Pages under `/large` have about 100 KiB.
fn page(path: &str, run: usize) -> String {
    let line = format!("{path} run {run}.\n");
    let lines = if path.starts_with("/large") { 100 * 1024 / line.len() } else { 1 };
    line.repeat(lines)
}

impl Shop {
    pub(crate) fn over(store: impl Store) -> Self {
        Self::with(Cache::new(store))
    }

    pub(crate) fn with(cache: Cache) -> Self {
        let (runs, lines) = (Counter::default(), Lines::default());
        let (wrapped, counter, here) = (cache.clone(), runs.clone(), lines.clone());
        let server = serve(1, move || {
            here.capture();
            let counter = counter.clone();
            let answer = move |request: HttpRequest| {
                counter.count();
                let body = page(request.path(), RUNS.fetch_add(1, Ordering::SeqCst));
                let mut response = HttpResponse::Ok();
                response.extensions_mut().insert(ResponseOptions::new().tag("page"));
                let response = response.insert_header(("cache-control", "max-age=600")).body(body);
                async move { response }
            };
            App::new().wrap(wrapped.clone()).default_service(web::to(answer))
        });
        let client = Client::new(server.addr, Protocol::Http1);
        Self { server, client, runs, lines, cache }
    }

    pub(crate) fn handle(&self) -> CacheHandle {
        self.cache.handle()
    }

    /// The URL of a page, for purges.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.addr)
    }

    /// Asks for a page. Whatever the store does, a whole one comes.
    pub(crate) async fn get(&self, path: &str) -> Visit {
        self.get_as(path, &self.server.addr.to_string()).await
    }

    /// The same by the name of a host, so that several sites have the same pages.
    pub(crate) async fn get_as(&self, path: &str, host: &str) -> Visit {
        let asked = Instant::now();
        let answer = self.client.get_with(path, &[("host", host)]).await;
        let time = asked.elapsed();
        assert_eq!(answer.status, 200, "{path}");
        let run = answer.text().lines().next().and_then(|line| line.split_once(" run "));
        let run = run.and_then(|(_, run)| run.trim_end_matches('.').parse().ok());
        let run = run.unwrap_or_else(|| panic!("no page of {path}: {}", answer.text()));
        assert!(answer.text() == page(path, run), "{path} is not whole: {}", answer.text());
        Visit { run, is_hit: answer.is_hit(), time }
    }

    /// Asks until the answer is from the store.
    pub(crate) async fn until_hit(&self, path: &str) -> Visit {
        self.until_hit_as(path, &self.server.addr.to_string()).await
    }

    pub(crate) async fn until_hit_as(&self, path: &str, host: &str) -> Visit {
        let asked = async {
            loop {
                let visit = self.get_as(path, host).await;
                if visit.is_hit {
                    return visit;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(secs(10), asked).await {
            Ok(visit) => visit,
            Err(_) => {
                // Each only once, the last of them.
                let mut said = self.lines.take(Level::Trace);
                let mut before = HashSet::new();
                said.reverse();
                said.retain(|line| before.insert(line.clone()));
                said.truncate(30);
                panic!("{path} is no hit within ten seconds; the last things first: {said:#?}");
            }
        }
    }

    /// So many clients ask for so many pages together, each for one at a time.
    pub(crate) async fn load(
        &self,
        clients: usize,
        requests: usize,
        path: impl Fn(usize) -> String,
    ) -> Times {
        let clients = (0..clients).map(|client| {
            let path = &path;
            async move {
                let mut times = Vec::new();
                for n in (client..requests).step_by(clients) {
                    times.push(self.get(&path(n)).await.time);
                }
                times
            }
        });
        let mut times = join_all(clients).await.concat();
        times.sort_unstable();
        Times(times)
    }

    /// The warnings since the last call.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.lines.take(Level::Warn)
    }
}

impl Times {
    pub(crate) fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// That nobody waited for the store for longer than is promised.
    pub(crate) fn assert_within_budget(&self, case: &str) {
        let (median, most) = (self.median(), self.0.last().copied().unwrap_or_default());
        assert!(median <= BUDGET && most <= MOST, "{case}: median {median:?}, most {most:?}");
    }

    /// That nearly nobody waited for the store at all.
    pub(crate) fn assert_short(&self, case: &str) {
        self.assert_within_budget(case);
        assert!(self.median() <= BUDGET / 3, "{case}: median {:?}", self.median());
    }
}

/// The names of all resources that are stored, and nothing else that is in a server.
pub(crate) fn resources(redis: &RedisServer) -> Vec<String> {
    let keys = redis.command(&["KEYS", "*"]);
    keys.lines().filter(|key| !key.contains("{invalidations}")).map(str::to_owned).collect()
}

/// That nothing stays in a server for ever but the table of invalidations.
pub(crate) fn assert_all_expires(redis: &RedisServer) {
    let mut wire = redis.wire();
    for key in resources(redis) {
        let left: i64 = wire.command(&["PTTL", &key]).parse().unwrap();
        // -2: it has expired since.
        assert!(left > 0 || left == -2, "{key} never expires");
    }
}
