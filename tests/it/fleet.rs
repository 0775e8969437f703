//! One run of the handler in a fleet of processes that share what is in Redis, and what becomes of the
//! others where one of them, or Redis, goes wrong.

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
    Cache, CacheBuilder, ManualClock, Policy, RedisStore, TieredStore,
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

use crate::support::{
    Answer, CLIENTS, Client, Fault, FaultyProxy, Fleet, House, Protocol, Proxy, RedisCluster,
    RedisServer, START, Server, patiently, secs, serve,
};

/// Several addresses, one host.
const SHOP: (&str, &str) = ("host", "shop");

const LEASE: Duration = secs(60);

/// How long a machine may be too busy for Redis.
const BUSY: Duration = secs(120);

/// What two processes share.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Double,
    Redis,
    Tiered,
    Cluster,
}

/// Two processes over a store that lends, and what that needs.
struct Two {
    caches: [CacheBuilder; 2],
    /// How often the store was in trouble so far.
    trouble: Box<dyn Fn() -> u64>,
    redis: Box<dyn Any>,
}

impl Two {
    fn over<S: Store + Clone>(
        redis: impl Any,
        store: impl Fn() -> S,
        stats: impl Fn(&S) -> RedisStats + 'static,
    ) -> Self {
        let stores = [store(), store()];
        let caches = stores.clone().map(Cache::builder);
        let trouble = move || {
            stores.iter().map(&stats).map(|s| s.failed + s.late + s.unleased + s.unwritten).sum()
        };
        Self { caches, trouble: Box::new(trouble), redis: Box::new(redis) }
    }
}

impl Kind {
    fn two(self) -> Two {
        match self {
            Self::Double => {
                let fleet = Fleet::default();
                Two::over((), || fleet.member(), |_| RedisStats::default())
            }
            Self::Redis => {
                let redis = RedisServer::start();
                let url = redis.url();
                Two::over(redis, || leased(&url), RedisStore::stats)
            }
            Self::Tiered => {
                let redis = RedisServer::start();
                let url = redis.url();
                Two::over(redis, || TieredStore::new(leased(&url)), |store| store.stats().far)
            }
            Self::Cluster => {
                let cluster = RedisCluster::start();
                let nodes: Vec<_> = (0..3).map(|n| cluster.node(n).addr().to_string()).collect();
                let url = format!("redis-cluster://{}", nodes.join(","));
                Two::over(cluster, || leased(&url), RedisStore::stats)
            }
        }
    }
}

fn leased(url: &str) -> RedisStore {
    RedisStore::builder(url).lease(LEASE).build().unwrap()
}

/// Two processes that serve.
struct Stage {
    house: House,
    servers: [Server; 2],
    clock: ManualClock,
    _redis: Box<dyn Any>,
}

impl Stage {
    /// Asks both, by many.
    async fn rush(&self, fields: &[&[(&str, &str)]]) -> Vec<Answer> {
        let [one, other] = &self.servers;
        self.house.rush_at(&[one, other], Protocol::Http1, fields).await
    }

    async fn ran(&self, runs: usize) {
        patiently("as many runs as are awaited", || self.house.runs.get() >= runs).await;
    }
}

/// Goes through something with two processes. Once more, if the store was in trouble meanwhile, as it
/// is where the machine is too busy for an answer within 45 ms: then handlers run as if there was no
/// store, which is not what is to be shown here.
async fn calmly<T>(
    kind: Kind,
    policy: &Policy,
    handler: impl AsyncFn(&House, HttpRequest) -> HttpResponse + Clone + Send + 'static,
    scene: impl AsyncFn(&Stage) -> T,
) -> (Stage, T) {
    let until = Instant::now() + BUSY;
    while Instant::now() < until {
        let (house, clock) = (House::new(), ManualClock::at(START));
        let Two { caches, trouble, redis } = kind.two();
        let caches = caches.map(|cache| cache.policy(policy.clone()).clock(clock.clock()));
        let servers = open(&house, caches, handler.clone()).await;
        let stage = Stage { house, servers, clock, _redis: redis };
        let before = trouble();
        let watch = async {
            while trouble() == before {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let shown = match select(pin!(scene(&stage)), pin!(watch)).await {
            Either::Left((shown, _)) => shown,
            Either::Right(((), scene)) => {
                // Nobody is kept any longer.
                stage.house.gate.add_permits(100 * CLIENTS);
                scene.await
            }
        };
        if trouble() == before {
            return (stage, shown);
        }
    }
    panic!("the machine is too busy for Redis");
}

/// The servers of processes, which have asked their store for something already: what they connect for
/// the first time takes no part in what is shown.
async fn open<const N: usize>(
    house: &House,
    caches: [CacheBuilder; N],
    handler: impl AsyncFn(&House, HttpRequest) -> HttpResponse + Clone + Send + 'static,
) -> [Server; N] {
    let servers = caches.map(|cache| {
        let (cache, handler) = (cache.build().unwrap(), handler.clone());
        house.open(
            1,
            move || cache.clone(),
            async move |house, request| {
                if request.path() == "/warm" {
                    return HttpResponse::Ok().body("warm");
                }
                handler(house, request).await
            },
        )
    });
    for server in &servers {
        warm(server.addr).await;
    }
    servers
}

async fn warm(addr: SocketAddr) {
    let client = Client::new(addr, Protocol::Http1);
    let warm = async {
        while !client.get_with("/warm", &[SHOP]).await.is_hit() {
            tokio::task::yield_now().await;
        }
    };
    timeout(secs(20), warm).await.expect("the store is connected");
}

async fn ask(server: &Server) -> Answer {
    Client::new(server.addr, Protocol::Http1).get_with("/", &[SHOP]).await
}

/// Leases and notes that are in Redis.
fn leases(redis: &RedisServer) -> Vec<String> {
    let names = redis.command(&["KEYS", "*:lease:*"]);
    names.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

async fn counted(house: &House, _: HttpRequest) -> HttpResponse {
    HttpResponse::Ok().body(format!("run {}", house.run().await))
}

#[actix_web::test]
async fn two_hundred_clients_of_two_processes_are_one_run_of_the_handler() {
    for kind in [Kind::Double, Kind::Redis, Kind::Tiered, Kind::Cluster] {
        let (stage, answers) =
            calmly(kind, &Policy::new(), counted, async |stage| stage.rush(&[&[SHOP]]).await).await;
        assert_eq!(stage.house.runs.get(), 1, "{kind:?}");
        assert!(answers.iter().all(|answer| answer.text() == "run 1"), "{kind:?}");
        let led = answers.iter().filter(|answer| answer.is_stored()).count();
        assert_eq!(led, 1, "{kind:?}");
    }
}

#[actix_web::test]
async fn without_leases_each_process_asks_for_itself() {
    let (redis, house) = (RedisServer::start(), House::new());
    let caches = [0, 1].map(|_| Cache::builder(RedisStore::new(redis.url()).unwrap()));
    let [one, other] = &open(&house, caches, counted).await;
    let door = async {
        patiently("each process runs it", || house.runs.get() >= 2).await;
        house.gate.add_permits(2);
    };
    let (first, second, ()) = join!(ask(one), ask(other), door);
    assert_ne!(first.text(), second.text());
    assert_eq!(redis.calls().get("set"), None);
}

#[actix_web::test]
async fn each_variant_is_one_run_of_the_fleet() {
    let handler = async |house: &House, request: HttpRequest| {
        house.run().await;
        let language = request.headers().get("accept-language").unwrap().to_str().unwrap();
        HttpResponse::Ok().insert_header(("vary", "accept-language")).body(language.to_owned())
    };
    for kind in [Kind::Double, Kind::Redis, Kind::Tiered] {
        let scene = async |stage: &Stage| {
            let languages = ["de", "fr"].map(|language| [SHOP, ("accept-language", language)]);
            let second = async {
                stage.ran(2).await;
                stage.house.gate.add_permits(1);
            };
            let fields: [&[(&str, &str)]; 2] = [&languages[0], &languages[1]];
            join!(stage.rush(&fields), second).0
        };
        let (stage, answers) = calmly(kind, &Policy::new(), handler, scene).await;
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(answer.text(), ["de", "fr"][n / 2 % 2], "{kind:?}");
        }
        assert_eq!(stage.house.runs.get(), 2, "{kind:?}");
    }
}

#[actix_web::test]
async fn what_is_stale_is_renewed_once() {
    let policy = Policy::new().stale_while_revalidate(secs(600));
    for kind in [Kind::Double, Kind::Redis, Kind::Tiered] {
        let scene = async |stage: &Stage| {
            stage.house.gate.add_permits(1);
            let mut answers = vec![ask(&stage.servers[0]).await];
            // It is stored beside the answer.
            while !ask(&stage.servers[1]).await.is_hit() {
                sleep(Duration::from_millis(1)).await;
            }
            stage.clock.advance(secs(65));
            // No run can end meanwhile.
            for server in &stage.servers {
                answers.push(ask(server).await);
            }
            stage.ran(2).await;
            stage.house.gate.add_permits(1);
            for server in &stage.servers {
                let renewed = async {
                    while ask(server).await.text() == "run 1" {
                        sleep(Duration::from_millis(1)).await;
                    }
                };
                timeout(secs(20), renewed).await.expect("it is renewed");
            }
            answers
        };
        let (stage, answers) = calmly(kind, &policy, counted, scene).await;
        assert!(answers[0].is_stored());
        for answer in &answers[1..] {
            assert!(answer.cache_status().starts_with("hit; ttl=-"), "{kind:?}");
        }
        assert_eq!(stage.house.runs.get(), 2, "{kind:?}");
    }
}

#[actix_web::test]
async fn what_cannot_be_stored_is_waited_for_in_no_process() {
    const WAVE: usize = 30;
    let (redis, house) = (RedisServer::start(), House::new());
    let stores = [0, 1].map(|_| leased(&redis.url()));
    let all = Arc::new(Barrier::new(WAVE));
    let caches = stores.clone().map(Cache::builder);
    let servers = open(&house, caches, async move |house, _| {
        if house.runs.count() > 1 {
            timeout(secs(20), all.wait()).await.expect("all of the wave run at once");
        }
        HttpResponse::Ok().insert_header(("cache-control", "no-store")).body("page")
    });
    let [one, other] = &servers.await;
    assert_eq!(ask(one).await.text(), "page");
    let is_noted = |name: &String| redis.command(&["GET", name]) == "n";
    patiently("it is noted", || leases(&redis).iter().any(is_noted)).await;
    let answers = join_all((0..WAVE).map(|_| ask(other))).await;
    assert!(answers.iter().all(|answer| answer.text() == "page"));
    assert_eq!((house.runs.get(), stores[1].stats().taken), (1 + WAVE, 0));
    let name = leases(&redis).into_iter().find(is_noted).unwrap();
    let left: i64 = redis.command(&["PTTL", &name]).parse().unwrap();
    assert!((1..=10_000).contains(&left), "{left} ms");
}

#[actix_web::test]
async fn nothing_of_a_lease_stays_in_redis_and_nobody_elses_is_taken_away() {
    let (redis, house) = (RedisServer::start(), House::new());
    let store = leased(&redis.url());
    let [server] = open(&house, [Cache::builder(store.clone())], counted).await;
    patiently("it is given up", || leases(&redis).is_empty()).await;
    let before = store.stats();
    let watch = async {
        patiently("it is held", || house.runs.get() == 1).await;
        let [name] = leases(&redis).try_into().unwrap();
        let left: u128 = redis.command(&["PTTL", &name]).parse().unwrap();
        assert!((1..=LEASE.as_millis()).contains(&left), "{left} ms");
        house.gate.add_permits(1);
    };
    let (answer, ()) = join!(ask(&server), watch);
    assert!(answer.is_stored());
    patiently("it is given up", || leases(&redis).is_empty()).await;

    let key = CacheKey::new("", "http", "shop", "/other", None);
    let Ok(Lease::Granted(lease)) = store.lease(&key, b"").await else { panic!("it is free") };
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
    let asked = evals();
    lease.end(LeaseEnd::Stored);
    patiently("it is given up", || evals() > asked).await;
    assert!(name().is_some());
    let stats = store.stats();
    let since = (stats.leases - before.leases, stats.taken - before.taken, stats.unleased);
    assert_eq!(since, (3, 1, before.unleased));
}

#[actix_web::test]
async fn who_goes_away_while_asking_for_a_lease_leaves_none_behind() {
    let redis = RedisServer::start();
    let store = leased(&redis.url());
    let key = CacheKey::new("", "http", "shop", "/", None);
    let (mut polls, mut granted) = (0, false);
    while !granted {
        polls += 1;
        let mut left = polls;
        let mut asked = pin!(store.lease(&key, b""));
        let asked = poll_fn(|cx| {
            if left == 0 {
                return Poll::Ready(None);
            }
            left -= 1;
            asked.as_mut().poll(cx).map(Some)
        });
        match asked.await {
            None => {}
            Some(lease) => granted = matches!(lease, Ok(Lease::Granted(_))),
        }
        assert!(polls < 50);
        patiently("none is left", || leases(&redis).is_empty()).await;
    }
    assert!(polls > 1, "it was given up before it was granted");
}

#[actix_web::test]
async fn a_process_that_redis_no_longer_hears_of_delays_nobody_beyond_its_lease() {
    let (redis, house) = (RedisServer::start(), House::new());
    let proxy = FaultyProxy::of(redis.addr());
    let store =
        |url: String| RedisStore::builder(url).lease(Duration::from_millis(700)).build().unwrap();
    let policy = Policy::new().wait_limit(secs(60));
    let caches =
        [proxy.url(), redis.url()].map(|url| Cache::builder(store(url)).policy(policy.clone()));
    let servers = open(&house, caches, async |house, _| {
        if house.runs.count() == 1 {
            return pending().await;
        }
        HttpResponse::Ok().body("page")
    });
    let [dead, other] = servers.await;
    let dies = rt::spawn(async move { ask(&dead).await });
    patiently("it holds the lease", || house.runs.get() == 1).await;
    proxy.set(Fault::BlackHole);
    let others = join_all((0..20).map(|_| ask(&other)));
    let answers = timeout(secs(20), others).await.expect("they wait for the lease's end only");
    assert!(answers.iter().all(|answer| answer.text() == "page"));
    assert_eq!(house.runs.get(), 2);
    dies.abort();
}

#[actix_web::test]
async fn where_redis_ends_while_they_wait_all_are_answered_by_handlers() {
    let (redis, house) = (RedisServer::start(), House::new());
    let stores = [0, 1].map(|_| leased(&redis.url()));
    let policy = Policy::new().wait_limit(secs(60));
    let caches = stores.clone().map(|store| Cache::builder(store).policy(policy.clone()));
    let servers = open(&house, caches, async |house, _| {
        if house.runs.count() == 1 {
            timeout(secs(20), house.gate.acquire()).await.unwrap().unwrap().forget();
        }
        HttpResponse::Ok().body("page")
    });
    let [holder, other] = &servers.await;
    let holds = async {
        let answer = ask(holder).await;
        assert_eq!(answer.text(), "page");
    };
    let others = async {
        patiently("it holds the lease", || house.runs.get() == 1).await;
        let asked = join_all((0..50).map(|_| ask(other)));
        let end = async {
            patiently("they wait", || stores[1].stats().taken > 0).await;
            redis.kill();
        };
        let (answers, ()) = timeout(secs(20), async { join!(asked, end) }).await.expect("answers");
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.text() == "page"));
        house.gate.add_permits(1);
    };
    join!(holds, others);
}

/// An origin that counts, and answers when it is let.
fn origin(house: &House, hangs: usize) -> Server {
    let house = house.clone();
    serve(1, move || {
        let house = house.clone();
        let page = move |request: HttpRequest| {
            let house = house.clone();
            async move {
                match request.path() {
                    "/warm" => HttpResponse::Ok().body("warm"),
                    _ if house.runs.get() < hangs => {
                        house.runs.count();
                        pending().await
                    }
                    _ => HttpResponse::Ok().body(format!("run {}", house.run().await)),
                }
            }
        };
        App::new().default_service(web::to(page))
    })
}

/// Two processes of the operating system over one Redis.
async fn proxies(origin: &Server, redis: &RedisServer, lease: &str) -> [Proxy; 2] {
    let options = ["--store", &redis.url(), "--lease-ms", lease];
    let proxies = [0, 1].map(|_| Proxy::of(origin.addr, &options));
    for proxy in &proxies {
        warm(proxy.addr).await;
    }
    patiently("nobody has a lease", || leases(redis).is_empty()).await;
    proxies
}

#[actix_web::test]
async fn two_processes_of_the_system_ask_the_origin_once() {
    let until = Instant::now() + BUSY;
    while Instant::now() < until {
        let (redis, house) = (RedisServer::start(), House::new());
        let origin = origin(&house, 0);
        let [one, other] = proxies(&origin, &redis, "60000").await;
        redis.forget_calls();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| Client::new([one.addr, other.addr][n % 2], Protocol::Http1))
            .collect();
        let answers = join_all(clients.iter().map(|client| client.get_with("/", &[SHOP])));
        let door = async {
            // One has it, the other asks for it in vain.
            let both = || redis.calls().get("set").is_some_and(|&asked| asked > 1);
            patiently("both ask", || both() || house.runs.get() > 1).await;
            house.gate.add_permits(1);
        };
        let answers = async { join!(answers, door).0 };
        let more = async {
            while house.runs.get() < 2 {
                sleep(Duration::from_millis(2)).await;
            }
            house.gate.add_permits(CLIENTS);
        };
        let answers = match select(pin!(answers), pin!(more)).await {
            Either::Left((answers, _)) => answers,
            Either::Right(((), answers)) => answers.await,
        };
        // The machine may have been too busy for Redis, which shows from outside in part only.
        if house.runs.get() > 1 {
            continue;
        }
        assert!(answers.iter().all(|answer| answer.text() == "run 1"));
        return;
    }
    panic!("the machine is too busy for Redis");
}

#[actix_web::test]
async fn a_process_that_dies_delays_the_others_no_longer_than_its_lease() {
    let (redis, house) = (RedisServer::start(), House::new());
    let origin = origin(&house, 1);
    let [one, other] = proxies(&origin, &redis, "1500").await;
    let (first, second) = (one.addr, other.addr);
    let dies = rt::spawn(async move {
        let client = Client::new(first, Protocol::Http1);
        client.send_body(hyper::Method::GET, "/", &[SHOP], "").await.is_err()
    });
    patiently("it holds the lease", || house.runs.get() == 1).await;
    house.gate.add_permits(1);
    drop(one);
    assert!(dies.await.unwrap());
    let clients: Vec<_> = (0..20).map(|_| Client::new(second, Protocol::Http1)).collect();
    let answers = join_all(clients.iter().map(|client| client.get_with("/", &[SHOP]))).await;
    assert!(answers.iter().all(|answer| answer.text() == "run 2"));
    assert_eq!(house.runs.get(), 2);
}
