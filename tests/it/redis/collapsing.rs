//! Requests of several processes that share Redis collapse into one run of the handler, also when
//! one of the processes or Redis fails.

use std::{
    any::Any,
    future::{Future, pending, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, rt, web};
use actix_web_cache::{
    CacheBuilder, ManualClock, Policy, RedisStore,
    redis::RedisStats,
    store::{CacheKey, Lease, LeaseEnd, Store},
};
use futures_util::{
    future::{Either, join_all, select},
    join,
};
use tokio::{
    sync::Barrier,
    time::{Instant, sleep, timeout},
};

use crate::{
    redis::{cache_builder, cluster_url, leasing_store, shared_store, tiered_store},
    support::{
        Answer, CLIENTS, Client, Fault, FaultyProxy, GatedApp, Protocol, Proxy, RedisCluster,
        RedisServer, START, Server, SimulatedProcesses, secs, serve, wait_until,
    },
};

/// The servers have different addresses; this field gives their pages the same cache key.
const HOST: (&str, &str) = ("host", "shop");

const LEASE: Duration = secs(60);

/// How long a test of proxy processes is repeated on a machine that is too busy for lookups within their
/// time limit, which is the default.
const RETRY_LIMIT: Duration = secs(120);

/// The store that two processes share.
#[derive(Debug, Clone, Copy)]
enum Kind {
    TestDouble,
    Redis,
    Tiered,
    Cluster,
}

/// The caches of two processes over a shared store with leases.
struct Caches {
    caches: [CacheBuilder; 2],
    /// Counts the failures of the stores so far.
    failures: Box<dyn Fn() -> u64>,
    redis: Box<dyn Any>,
}

impl Caches {
    fn over<S: Store + Clone>(
        redis: impl Any,
        store: impl Fn() -> S,
        stats: impl Fn(&S) -> RedisStats + 'static,
    ) -> Self {
        let stores = [store(), store()];
        let caches = stores.clone().map(cache_builder);
        let failures = move || {
            stores
                .iter()
                .map(&stats)
                .map(|s| s.lookups_failed + s.timeouts + s.leases_failed + s.writes_failed)
                .sum()
        };
        Self { caches, failures: Box::new(failures), redis: Box::new(redis) }
    }
}

impl Kind {
    fn caches(self) -> Caches {
        match self {
            Self::TestDouble => {
                let simulated = SimulatedProcesses::default();
                Caches::over((), || simulated.store(), |_| RedisStats::default())
            }
            Self::Redis => {
                let redis = RedisServer::start();
                let url = redis.url();
                Caches::over(redis, || leasing_store(url.as_str(), LEASE), RedisStore::stats)
            }
            Self::Tiered => {
                let redis = RedisServer::start();
                let url = redis.url();
                let store = || tiered_store(leasing_store(url.as_str(), LEASE));
                Caches::over(redis, store, |store| store.far().stats())
            }
            Self::Cluster => {
                let cluster = RedisCluster::start();
                let url = cluster_url(&cluster);
                Caches::over(cluster, || leasing_store(url.as_str(), LEASE), RedisStore::stats)
            }
        }
    }
}

/// The servers of two processes, and the state that their handlers share.
struct Processes {
    handlers: GatedApp,
    servers: [Server; 2],
    clock: ManualClock,
    _redis: Box<dyn Any>,
}

impl Processes {
    /// Sends the requests of [`CLIENTS`] clients to both servers in turn.
    async fn rush(&self, fields: &[&[(&str, &str)]]) -> Vec<Answer> {
        let [one, other] = &self.servers;
        self.handlers.send_all_at_once_to(&[one, other], Protocol::Http1, fields).await
    }

    /// Waits for this many runs of the handler.
    async fn ran(&self, runs: usize) {
        wait_until("the handler runs", || self.handlers.runs.get() >= runs).await;
    }
}

/// Runs a scenario with two processes, in which no store may fail.
async fn without_store_failures<T>(
    kind: Kind,
    policy: &Policy,
    handler: impl AsyncFn(&GatedApp, HttpRequest) -> HttpResponse + Clone + Send + 'static,
    scenario: impl AsyncFn(&Processes) -> T,
) -> (Processes, T) {
    let (handlers, clock) = (GatedApp::new(), ManualClock::at(START));
    let Caches { caches, failures, redis } = kind.caches();
    let caches = caches.map(|cache| cache.policy(policy.clone()).clock(clock.clock()));
    let servers = open(&handlers, caches, handler).await;
    let processes = Processes { handlers, servers, clock, _redis: redis };
    let before = failures();
    let output = scenario(&processes).await;
    assert_eq!(failures(), before, "{kind:?}: calls to the store failed");
    (processes, output)
}

/// Opens a server for each cache, and waits until its store is connected, so that connecting plays
/// no part in a test.
async fn open<const N: usize>(
    handlers: &GatedApp,
    caches: [CacheBuilder; N],
    handler: impl AsyncFn(&GatedApp, HttpRequest) -> HttpResponse + Clone + Send + 'static,
) -> [Server; N] {
    let servers = caches.map(|cache| {
        let (cache, handler) = (cache.build().unwrap(), handler.clone());
        handlers.serve(
            1,
            move || cache.clone(),
            async move |handlers, request| {
                if request.path() == "/warm-up" {
                    return HttpResponse::Ok().body("warm");
                }
                handler(handlers, request).await
            },
        )
    });
    for server in &servers {
        warm_up(server.addr).await;
    }
    servers
}

/// Waits until the store of a server is connected: until it has a hit.
async fn warm_up(addr: SocketAddr) {
    let client = Client::new(addr, Protocol::Http1);
    let hit = async {
        while !client.get_with("/warm-up", &[HOST]).await.is_hit() {
            tokio::task::yield_now().await;
        }
    };
    timeout(secs(20), hit).await.expect("the store is connected");
}

async fn get(server: &Server) -> Answer {
    Client::new(server.addr, Protocol::Http1).get_with("/", &[HOST]).await
}

/// The keys of leases and of hit-for-miss marks in Redis.
fn leases(redis: &RedisServer) -> Vec<String> {
    let names = redis.command(&["KEYS", "*:lease:*"]);
    names.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// A policy under which requests wait for the one run longer than a busy machine takes for all
/// requests to arrive.
fn waiting_policy() -> Policy {
    Policy::new().wait_limit(secs(60))
}

/// A page with the number of its run.
async fn run_page(handlers: &GatedApp, _: HttpRequest) -> HttpResponse {
    HttpResponse::Ok().body(format!("run {}", handlers.pass_gate().await))
}

#[actix_web::test]
async fn two_hundred_requests_to_two_processes_run_the_handler_once() {
    for kind in [Kind::TestDouble, Kind::Redis, Kind::Tiered, Kind::Cluster] {
        let scenario = async |processes: &Processes| processes.rush(&[&[HOST]]).await;
        let (processes, answers) =
            without_store_failures(kind, &waiting_policy(), run_page, scenario).await;
        assert_eq!(processes.handlers.runs.get(), 1, "{kind:?}");
        assert!(answers.iter().all(|answer| answer.text() == "run 1"), "{kind:?}");
        let leaders = answers.iter().filter(|answer| answer.is_stored()).count();
        assert_eq!(leaders, 1, "{kind:?}");
    }
}

#[actix_web::test]
async fn each_process_runs_the_handler_without_leases() {
    let (redis, handlers) = (RedisServer::start(), GatedApp::new());
    let caches = [0, 1].map(|_| cache_builder(shared_store(redis.url())));
    let [one, other] = &open(&handlers, caches, run_page).await;
    let both_run = async {
        wait_until("each process runs the handler", || handlers.runs.get() >= 2).await;
        handlers.gate.add_permits(2);
    };
    let (first, second, ()) = join!(get(one), get(other), both_run);
    assert_ne!(first.text(), second.text());
    assert_eq!(redis.calls().get("set"), None);
}

#[actix_web::test]
async fn each_variant_runs_the_handler_once_across_processes() {
    let handler = async |handlers: &GatedApp, request: HttpRequest| {
        handlers.pass_gate().await;
        let language = request.headers().get("accept-language").unwrap().to_str().unwrap();
        HttpResponse::Ok().insert_header(("vary", "accept-language")).body(language.to_owned())
    };
    for kind in [Kind::TestDouble, Kind::Redis, Kind::Tiered] {
        let scenario = async |processes: &Processes| {
            let languages = ["de", "fr"].map(|language| [HOST, ("accept-language", language)]);
            let second = async {
                processes.ran(2).await;
                processes.handlers.gate.add_permits(1);
            };
            let fields: [&[(&str, &str)]; 2] = [&languages[0], &languages[1]];
            join!(processes.rush(&fields), second).0
        };
        let (processes, answers) =
            without_store_failures(kind, &waiting_policy(), handler, scenario).await;
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer.text(), ["de", "fr"][n / 2 % 2], "{kind:?}");
        }
        assert_eq!(processes.handlers.runs.get(), 2, "{kind:?}");
    }
}

#[actix_web::test]
async fn stale_response_is_refreshed_once_across_processes() {
    let policy = waiting_policy().stale_while_revalidate(secs(600));
    for kind in [Kind::TestDouble, Kind::Redis, Kind::Tiered] {
        let scenario = async |processes: &Processes| {
            processes.handlers.gate.add_permits(1);
            let mut answers = vec![get(&processes.servers[0]).await];
            // The response is written to the store in the background.
            while !get(&processes.servers[1]).await.is_hit() {
                sleep(Duration::from_millis(1)).await;
            }
            processes.clock.advance(secs(65));
            // The refresh waits at the gate, so both processes serve the stale response.
            for server in &processes.servers {
                answers.push(get(server).await);
            }
            processes.ran(2).await;
            processes.handlers.gate.add_permits(1);
            for server in &processes.servers {
                let refreshed = async {
                    while get(server).await.text() == "run 1" {
                        sleep(Duration::from_millis(1)).await;
                    }
                };
                timeout(secs(20), refreshed).await.expect("the page is refreshed");
            }
            answers
        };
        let (processes, answers) = without_store_failures(kind, &policy, run_page, scenario).await;
        assert!(answers[0].is_stored());
        for answer in &answers[1..] {
            assert!(answer.cache_status().starts_with("hit; ttl=-"), "{kind:?}");
        }
        assert_eq!(processes.handlers.runs.get(), 2, "{kind:?}");
    }
}

#[actix_web::test]
async fn hit_for_miss_of_one_process_lets_requests_pass_in_the_other() {
    const REQUESTS: usize = 30;
    let (redis, handlers) = (RedisServer::start(), GatedApp::new());
    let stores = [0, 1].map(|_| leasing_store(redis.url(), LEASE));
    let all_run = Arc::new(Barrier::new(REQUESTS));
    let caches = stores.clone().map(cache_builder);
    let servers = open(&handlers, caches, async move |handlers, _| {
        if handlers.runs.count() > 1 {
            timeout(secs(20), all_run.wait()).await.expect("all requests run the handler");
        }
        HttpResponse::Ok().insert_header(("cache-control", "no-store")).body("page")
    });
    let [one, other] = &servers.await;
    assert_eq!(get(one).await.text(), "page");
    let is_hit_for_miss = |name: &String| redis.command(&["GET", name]) == "n";
    wait_until("hit-for-miss is in Redis", || leases(&redis).iter().any(is_hit_for_miss)).await;
    let answers = join_all((0..REQUESTS).map(|_| get(other))).await;
    assert!(answers.iter().all(|answer| answer.text() == "page"));
    assert_eq!((handlers.runs.get(), stores[1].stats().leases_taken), (1 + REQUESTS, 0));
    let name = leases(&redis).into_iter().find(is_hit_for_miss).unwrap();
    let left: i64 = redis.command(&["PTTL", &name]).parse().unwrap();
    assert!((1..=10_000).contains(&left), "{left} ms");
}

#[actix_web::test]
async fn ended_lease_is_deleted_from_redis_unless_another_process_holds_it() {
    let (redis, handlers) = (RedisServer::start(), GatedApp::new());
    let store = leasing_store(redis.url(), LEASE);
    let [server] = open(&handlers, [cache_builder(store.clone())], run_page).await;
    wait_until("no lease is left", || leases(&redis).is_empty()).await;
    let before = store.stats();
    let watch = async {
        wait_until("the handler runs", || handlers.runs.get() == 1).await;
        let [name] = leases(&redis).try_into().unwrap();
        let left: u128 = redis.command(&["PTTL", &name]).parse().unwrap();
        assert!((1..=LEASE.as_millis()).contains(&left), "{left} ms");
        handlers.gate.add_permits(1);
    };
    let (answer, ()) = join!(get(&server), watch);
    assert!(answer.is_stored());
    wait_until("no lease is left", || leases(&redis).is_empty()).await;

    let key = CacheKey::new("", "http", "shop", "/other", None);
    let Ok(Lease::Granted(lease)) = store.lease(&key, b"").await else {
        panic!("the lease is not granted")
    };
    assert!(matches!(store.lease(&key, b"").await, Ok(Lease::Taken)));
    assert!(matches!(store.lease(&key, b"another").await, Ok(Lease::Granted(_))));
    let name = || {
        let names = leases(&redis);
        names.into_iter().find(|name| redis.command(&["GET", name]) == "another's")
    };
    for taken in leases(&redis) {
        redis.command(&["SET", &taken, "another's"]);
    }
    let evals = || redis.calls().get("eval").copied();
    let evals_before = evals();
    lease.end(LeaseEnd::Stored);
    wait_until("the release script runs", || evals() > evals_before).await;
    assert!(name().is_some());
    let stats = store.stats();
    let since = (
        stats.leases_granted - before.leases_granted,
        stats.leases_taken - before.leases_taken,
        stats.leases_failed,
    );
    assert_eq!(since, (3, 1, before.leases_failed));
}

#[actix_web::test]
async fn lease_call_dropped_at_any_poll_leaves_no_lease() {
    let redis = RedisServer::start();
    let store = leasing_store(redis.url(), LEASE);
    let key = CacheKey::new("", "http", "shop", "/", None);
    let (mut polls, mut granted) = (0, false);
    while !granted {
        polls += 1;
        let mut left = polls;
        let mut call = pin!(store.lease(&key, b""));
        let call = poll_fn(|cx| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            call.as_mut().poll(cx).map(Some)
        });
        match call.await {
            None => {}
            Some(lease) => granted = matches!(lease, Ok(Lease::Granted(_))),
        }
        assert!(polls < 50);
        wait_until("no lease is left", || leases(&redis).is_empty()).await;
    }
    assert!(polls > 1, "no call was dropped before its lease was granted");
}

#[actix_web::test]
async fn process_cut_off_from_redis_delays_others_only_until_its_lease_expires() {
    let (redis, handlers) = (RedisServer::start(), GatedApp::new());
    let proxy = FaultyProxy::of(redis.addr());
    let store = |url: String| leasing_store(url, Duration::from_millis(700));
    let policy = Policy::new().wait_limit(secs(60));
    let caches =
        [proxy.url(), redis.url()].map(|url| cache_builder(store(url)).policy(policy.clone()));
    let servers = open(&handlers, caches, async |handlers, _| {
        if handlers.runs.count() == 1 {
            return pending().await;
        }
        HttpResponse::Ok().body("page")
    });
    let [cut_off, other] = servers.await;
    let holder = rt::spawn(async move { get(&cut_off).await });
    wait_until("the first process runs the handler", || handlers.runs.get() == 1).await;
    proxy.set(Fault::BlackHole);
    let others = join_all((0..20).map(|_| get(&other)));
    let answers = timeout(secs(20), others).await.expect("responses when the lease has expired");
    assert!(answers.iter().all(|answer| answer.text() == "page"));
    assert_eq!(handlers.runs.get(), 2);
    holder.abort();
}

#[actix_web::test]
async fn waiting_requests_run_handlers_when_redis_dies() {
    let (redis, handlers) = (RedisServer::start(), GatedApp::new());
    let stores = [0, 1].map(|_| leasing_store(redis.url(), LEASE));
    let policy = Policy::new().wait_limit(secs(60));
    let caches = stores.clone().map(|store| cache_builder(store).policy(policy.clone()));
    let servers = open(&handlers, caches, async |handlers, _| {
        if handlers.runs.count() == 1 {
            timeout(secs(20), handlers.gate.acquire()).await.unwrap().unwrap().forget();
        }
        HttpResponse::Ok().body("page")
    });
    let [holder, other] = &servers.await;
    let holds = async {
        let answer = get(holder).await;
        assert_eq!(answer.text(), "page");
    };
    let others = async {
        wait_until("the first process runs the handler", || handlers.runs.get() == 1).await;
        let requests = join_all((0..50).map(|_| get(other)));
        let end = async {
            wait_until("the second process waits for the lease", || {
                stores[1].stats().leases_taken > 0
            })
            .await;
            redis.kill();
        };
        let (answers, ()) =
            timeout(secs(20), async { join!(requests, end) }).await.expect("all responses");
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.text() == "page"));
        handlers.gate.add_permits(1);
    };
    join!(holds, others);
}

/// An origin whose first `hangs` runs never end, and whose other runs wait at the gate.
fn origin(handlers: &GatedApp, hangs: usize) -> Server {
    let handlers = handlers.clone();
    serve(1, move || {
        let handlers = handlers.clone();
        let page = move |request: HttpRequest| {
            let handlers = handlers.clone();
            async move {
                match request.path() {
                    "/warm-up" => HttpResponse::Ok().body("warm"),
                    _ if handlers.runs.get() < hangs => {
                        handlers.runs.count();
                        pending().await
                    }
                    _ => HttpResponse::Ok().body(format!("run {}", handlers.pass_gate().await)),
                }
            }
        };
        App::new().default_service(web::to(page))
    })
}

/// Two processes of the reverse proxy example over one Redis.
async fn proxies(origin: &Server, redis: &RedisServer, lease: &str) -> [Proxy; 2] {
    let options = ["--store", &redis.url(), "--lease-ms", lease];
    let proxies = [0, 1].map(|_| Proxy::of(origin.addr, &options));
    for proxy in &proxies {
        warm_up(proxy.addr).await;
    }
    wait_until("no lease is left", || leases(redis).is_empty()).await;
    proxies
}

/// Runs a scenario with two proxy processes, until the handler runs no more than `runs` times.
///
/// On a machine that is too busy for replies of Redis within the default time-out, handlers run as if
/// there was no store, and the scenario shows nothing. The statistics of a proxy process cannot be read
/// from here.
async fn until_runs_at_most(
    runs: usize,
    scenario: impl AsyncFn(&RedisServer, &GatedApp) -> Vec<Answer>,
) -> Vec<Answer> {
    let until = Instant::now() + RETRY_LIMIT;
    while Instant::now() < until {
        let (redis, handlers) = (RedisServer::start(), GatedApp::new());
        let excess = async {
            while handlers.runs.get() <= runs {
                sleep(Duration::from_millis(2)).await;
            }
            // Let all runs end.
            handlers.gate.add_permits(2 * CLIENTS);
        };
        let answers = match select(pin!(scenario(&redis, &handlers)), pin!(excess)).await {
            Either::Left((answers, _)) => answers,
            Either::Right(((), scenario)) => scenario.await,
        };
        if handlers.runs.get() <= runs {
            return answers;
        }
    }
    panic!("the machine is too busy for Redis: the handler ran too often in all attempts");
}

#[actix_web::test]
async fn two_proxy_processes_send_one_request_to_the_origin() {
    let scenario = async |redis: &RedisServer, handlers: &GatedApp| {
        let origin = origin(handlers, 0);
        let [one, other] = proxies(&origin, redis, "60000").await;
        redis.forget_calls();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| Client::new([one.addr, other.addr][n % 2], Protocol::Http1))
            .collect();
        let answers = join_all(clients.iter().map(|client| client.get_with("/", &[HOST])));
        let both_ask = async {
            // One process is granted the lease, the other is not.
            let both = || redis.calls().get("set").is_some_and(|&calls| calls > 1);
            wait_until("both ask for the lease", || both() || handlers.runs.get() > 1).await;
            handlers.gate.add_permits(1);
        };
        join!(answers, both_ask).0
    };
    let answers = until_runs_at_most(1, scenario).await;
    assert!(answers.iter().all(|answer| answer.text() == "run 1"));
}

#[actix_web::test]
async fn dead_proxy_process_delays_others_only_until_its_lease_expires() {
    let scenario = async |redis: &RedisServer, handlers: &GatedApp| {
        let origin = origin(handlers, 1);
        let [one, other] = proxies(&origin, redis, "1500").await;
        let (first, second) = (one.addr, other.addr);
        let fails = rt::spawn(async move {
            let client = Client::new(first, Protocol::Http1);
            client.send_body(hyper::Method::GET, "/", &[HOST], "").await.is_err()
        });
        wait_until("the first process runs the handler", || handlers.runs.get() == 1).await;
        handlers.gate.add_permits(1);
        drop(one);
        assert!(fails.await.unwrap());
        let clients: Vec<_> = (0..20).map(|_| Client::new(second, Protocol::Http1)).collect();
        join_all(clients.iter().map(|client| client.get_with("/", &[HOST]))).await
    };
    let answers = until_runs_at_most(2, scenario).await;
    assert!(answers.iter().all(|answer| answer.text() == "run 2"));
}
