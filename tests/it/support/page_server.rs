//! An application for tests of failing stores. It measures response times and captures the log.

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

use super::{CapturedLog, Client, Counter, Protocol, RedisServer, Server, secs, serve};

/// The longest median response time with a failing store: twice the default `lookup_timeout`, as the
/// machine may be busy.
const BUDGET: Duration = Duration::from_millis(100);

/// The longest median response time of requests that do not wait for the store. Those that do take 45 ms
/// or more.
const SHORT: Duration = Duration::from_millis(40);

/// The longest response time of a single request on a busy machine.
const MOST: Duration = Duration::from_millis(500);

/// The number of the next handler call, of all servers.
static RUNS: AtomicUsize = AtomicUsize::new(1);

/// A server with one worker, a captured log, and pages that name their path and their handler call.
pub(crate) struct PageServer {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) runs: Counter,
    pub(crate) lines: CapturedLog,
    cache: Cache,
}

/// A complete and correct response for a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageAnswer {
    /// The number of the handler call that made it.
    pub(crate) run: usize,
    pub(crate) is_hit: bool,
    pub(crate) time: Duration,
}

/// Response times in ascending order.
#[derive(Debug, Clone)]
pub(crate) struct ResponseTimes(Vec<Duration>);

/// The body of a page. Paths that begin with `/large` have about 100 KiB.
fn page(path: &str, run: usize) -> String {
    let line = format!("{path} run {run}.\n");
    let lines = if path.starts_with("/large") { 100 * 1024 / line.len() } else { 1 };
    line.repeat(lines)
}

impl PageServer {
    pub(crate) fn over(store: impl Store) -> Self {
        Self::with(Cache::new(store))
    }

    pub(crate) fn with(cache: Cache) -> Self {
        let (runs, lines) = (Counter::default(), CapturedLog::default());
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

    /// Requests a page and checks that the response is complete.
    pub(crate) async fn get(&self, path: &str) -> PageAnswer {
        self.get_as(path, &self.server.addr.to_string()).await
    }

    /// Requests a page by a given host name, so that several servers share their cache keys.
    pub(crate) async fn get_as(&self, path: &str, host: &str) -> PageAnswer {
        let started = Instant::now();
        let answer = self.client.get_with(path, &[("host", host)]).await;
        let time = started.elapsed();
        assert_eq!(answer.status, 200, "{path}");
        let run = answer.text().lines().next().and_then(|line| line.split_once(" run "));
        let run = run.and_then(|(_, run)| run.trim_end_matches('.').parse().ok());
        let run = run.unwrap_or_else(|| panic!("no page of {path}: {}", answer.text()));
        assert!(answer.text() == page(path, run), "incomplete page for {path}: {}", answer.text());
        PageAnswer { run, is_hit: answer.is_hit(), time }
    }

    /// Repeats the request until the response is from the store.
    pub(crate) async fn get_until_hit(&self, path: &str) -> PageAnswer {
        self.get_as_until_hit(path, &self.server.addr.to_string()).await
    }

    pub(crate) async fn get_as_until_hit(&self, path: &str, host: &str) -> PageAnswer {
        let hit = async {
            loop {
                let answer = self.get_as(path, host).await;
                if answer.is_hit {
                    return answer;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(secs(10), hit).await {
            Ok(answer) => answer,
            Err(_) => {
                // The last thirty different messages, the latest first.
                let mut messages = self.lines.take(Level::Trace);
                let mut before = HashSet::new();
                messages.reverse();
                messages.retain(|line| before.insert(line.clone()));
                messages.truncate(30);
                panic!(
                    "{path} is no hit within ten seconds; latest log messages first: {messages:#?}"
                );
            }
        }
    }

    /// Sends `requests` requests from `clients` clients. Each client waits for its response before its next
    /// request.
    pub(crate) async fn load(
        &self,
        clients: usize,
        requests: usize,
        path: impl Fn(usize) -> String,
    ) -> ResponseTimes {
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
        ResponseTimes(times)
    }

    /// The warnings since the last call.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.lines.take(Level::Warn)
    }
}

impl ResponseTimes {
    pub(crate) fn median(&self) -> Duration {
        self.0[self.0.len() / 2]
    }

    /// Asserts that requests did not wait longer for the store than documented.
    pub(crate) fn assert_within_budget(&self, case: &str) {
        let (median, most) = (self.median(), self.0.last().copied().unwrap_or_default());
        assert!(median <= BUDGET && most <= MOST, "{case}: median {median:?}, most {most:?}");
    }

    /// Asserts that most requests did not wait for the store at all.
    pub(crate) fn assert_short(&self, case: &str) {
        self.assert_within_budget(case);
        assert!(self.median() <= SHORT, "{case}: median {:?}", self.median());
    }
}

/// The names of all keys in Redis except the invalidation log.
pub(crate) fn resources(redis: &RedisServer) -> Vec<String> {
    let keys = redis.command(&["KEYS", "*"]);
    keys.lines().filter(|key| !key.contains("{invalidations}")).map(str::to_owned).collect()
}

/// Asserts that all keys in Redis expire except the invalidation log.
pub(crate) fn assert_all_expires(redis: &RedisServer) {
    let mut wire = redis.wire();
    for key in resources(redis) {
        let left: i64 = wire.command(&["PTTL", &key]).parse().unwrap();
        // -2: the key has expired in the meantime.
        assert!(left > 0 || left == -2, "{key} never expires");
    }
}
