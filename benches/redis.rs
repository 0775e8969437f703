//! Compares the throughput of hits in Redis with that of a handler that reads equally many bytes
//! from Redis.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --features redis --bench redis -- \
//!     [--laps 7] [--millis 1000] [--connections 64]
//! ```
//!
//! Each server is a process with one worker. The bench starts redis-server on a free port. In each
//! lap, the bench measures all servers in turn. It prints the median of the ratios within a lap.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::{env, io, process::ExitCode, time::Duration};

use actix_web::{
    App, HttpResponse,
    http::header::{CACHE_CONTROL, ETAG, EXPIRES},
    web,
};
use actix_web_cache::{Cache, CacheBuilder, Policy, RedisStore, TieredStore};
use redis::{AsyncCommands as _, Client, aio::MultiplexedConnection};
use tokio::sync::OnceCell;

use crate::support::{Load, Redis, Server, argument, median, requested_server};

/// The environment variable with the Redis URL of a server.
const URL: &str = "BENCH_REDIS_URL";

const SERVERS: [(&str, &str); 6] = [
    ("get", "a handler that gets 2 KiB from Redis"),
    ("hit", "a hit in Redis, 2 KiB"),
    ("vary", "a hit in Redis where Vary selects, 2 KiB"),
    ("near", "a hit in memory in front of Redis, 2 KiB"),
    ("get-32k", "a handler that gets 32 KiB from Redis"),
    ("hit-32k", "a hit in Redis, 32 KiB"),
];

/// Pairs of servers to compare, and the lowest accepted ratio of their throughput.
const RATIOS: [(&str, &str, f64); 4] =
    [("hit", "get", 0.85), ("vary", "get", 0.8), ("near", "get", 1.1), ("hit-32k", "get-32k", 0.7)];

fn main() -> io::Result<ExitCode> {
    if let Some(name) = requested_server() {
        serve(&name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let redis = Redis::start()?;
    let laps = argument("--laps", 7);
    let time = Duration::from_millis(argument("--millis", 1000) as u64);
    let load = Load::new(argument("--connections", 64));
    let servers = SERVERS.map(|(name, _)| Server::start_with(name, &[(URL, redis.url.clone())]));
    let mut rates: [Vec<f64>; SERVERS.len()] = Default::default();
    let mut costs: [Vec<f64>; SERVERS.len()] = Default::default();
    for lap in 0..=laps {
        for ((server, rates), costs) in servers.iter().zip(&mut rates).zip(&mut costs) {
            let before = server.cpu();
            let answered = load.for_time(server.addr, time, |_| "/page/1".to_owned());
            let cost = (server.cpu() - before).as_secs_f64() * 1e6 / answered as f64;
            costs.push(cost);
            // The first lap warms up.
            if lap > 0 {
                rates.push(answered as f64 / time.as_secs_f64());
            }
        }
    }
    for ((name, what), (rates, costs)) in SERVERS.iter().zip(rates.iter().zip(costs)) {
        println!(
            "{name:8} {:9.0} req/s {:7.2} us CPU   {what}",
            median(rates.clone()),
            median(costs)
        );
    }
    let of = |name| SERVERS.iter().position(|(known, _)| *known == name).expect("a known server");
    let mut code = ExitCode::SUCCESS;
    for (name, base, least) in RATIOS {
        let pairs = rates[of(name)].iter().zip(&rates[of(base)]);
        let ratio = median(pairs.map(|(rate, base)| rate / base).collect());
        let verdict = if ratio >= least { "" } else { "   TOO LOW" };
        println!("{name:8} / {base:8} {ratio:.3} throughput (wanted: at least {least}){verdict}");
        if ratio < least {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

fn serve(name: &str) -> io::Result<()> {
    let url = env::var(URL).map_err(io::Error::other)?;
    let length = if name.ends_with("-32k") { 32 * 1024 } else { 2048 };
    if name.starts_with("get") {
        return support::serve(1, move || {
            let connection = WorkerConnection { redis: OnceCell::new(), url: url.clone(), length };
            App::new().app_data(web::Data::new(connection)).route("/page/{n}", web::get().to(get))
        });
    }
    let redis = RedisStore::new(url, name).expect("a store");
    let builder = match name {
        "near" => Cache::builder(TieredStore::new(redis)),
        _ => Cache::builder(redis),
    };
    let cache = with_long_lifetime(builder).build().expect("a cache");
    let varies = name == "vary";
    support::serve(1, move || {
        let page = move || async move {
            let mut response = HttpResponse::Ok();
            response.content_type("text/html; charset=utf-8");
            response.insert_header((ETAG, "\"0123456789abcdef\""));
            if varies {
                response.insert_header(("vary", "accept-language"));
            }
            response.body(vec![b'x'; length])
        };
        App::new().wrap(cache.clone()).route("/page/{n}", web::get().to(page))
    })
}

/// Sets a freshness lifetime longer than the bench runs, so that all requests are hits.
fn with_long_lifetime(builder: CacheBuilder) -> CacheBuilder {
    builder.policy(Policy::new().default_ttl(Duration::from_secs(86_400)))
}

/// The connection of a worker to Redis. The first request of the worker opens the connection.
struct WorkerConnection {
    redis: OnceCell<MultiplexedConnection>,
    url: String,
    length: usize,
}

impl WorkerConnection {
    async fn connect(&self) -> MultiplexedConnection {
        let client = Client::open(self.url.as_str()).expect("a URL");
        let mut redis = client.get_multiplexed_async_connection().await.expect("Redis");
        let () = redis.set(self.length, vec![b'x'; self.length]).await.expect("SET");
        redis
    }
}

/// Reads the body from Redis by one GET, and sends the header fields that a cache would add.
async fn get(worker: web::Data<WorkerConnection>) -> HttpResponse {
    let mut redis = worker.redis.get_or_init(|| worker.connect()).await.clone();
    let body: web::Bytes = redis.get(worker.length).await.expect("GET");
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((ETAG, "\"0123456789abcdef\""))
        .insert_header((CACHE_CONTROL, "max-age=60"))
        .insert_header((EXPIRES, "Sun, 06 Nov 1994 08:49:37 GMT"))
        .insert_header(("age", "7"))
        .insert_header(("cache-status", "actix-web-cache; hit; ttl=53"))
        .body(body)
}
