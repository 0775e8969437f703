//! Compares the 99th percentile of response times while Redis is unavailable, with a cache and
//! without a cache.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --features redis --bench outage -- \
//!     [--laps 5] [--requests 2000] [--connections 8]
//! ```
//!
//! Each server is a process with one worker. Connections to Redis are refused for one server. For
//! the other servers, connections are accepted, and Redis never answers. In each lap, the bench
//! measures all servers in turn. It prints the median of the differences within a lap.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::{
    env, io,
    net::{Ipv4Addr, TcpListener},
    process::ExitCode,
    time::Duration,
};

use actix_web::{App, HttpResponse, web};
use actix_web_cache::{Cache, RedisStore, TieredStore};

use crate::support::{Load, Server, argument, median, requested_server};

/// The environment variable with the Redis URL of a server.
const URL: &str = "BENCH_REDIS_URL";

/// The highest accepted difference of the 99th percentiles, in milliseconds.
const MAX_DIFFERENCE: f64 = 2.0;

const SERVERS: [(&str, &str); 4] = [
    ("handler", "no cache"),
    ("refused", "connections are refused"),
    ("silent", "no reply"),
    ("tiered", "no reply, a second in memory"),
];

fn main() -> io::Result<ExitCode> {
    if let Some(name) = requested_server() {
        serve(&name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let refused = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    // The bench never accepts these connections, but the operating system does, up to the backlog.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let silent_addr = silent.local_addr()?;
    let laps = argument("--laps", 5);
    let count = argument("--requests", 2000);
    let load = Load::new(argument("--connections", 8));
    let servers = SERVERS.map(|(name, _)| {
        let addr = if name == "refused" { refused } else { silent_addr };
        Server::start_with(name, &[(URL, format!("redis://{addr}/"))])
    });
    let mut differences: [Vec<f64>; SERVERS.len()] = Default::default();
    for lap in 0..=laps {
        let p99 = servers.each_ref().map(|server| {
            let mut times = load.times(server.addr, count, "/page");
            times.sort_unstable();
            times[times.len() * 99 / 100].as_secs_f64() * 1e3
        });
        // Skip the first lap, in which the stores notice that Redis is unavailable.
        if lap > 0 {
            for (differences, own) in differences.iter_mut().zip(p99) {
                differences.push(own - p99[0]);
            }
        }
    }
    let mut code = ExitCode::SUCCESS;
    for ((name, what), difference) in SERVERS.iter().zip(differences).skip(1) {
        let difference = median(difference);
        let verdict = if difference <= MAX_DIFFERENCE { "" } else { "   TOO HIGH" };
        println!(
            "{name:7} {difference:+.3} ms at the 99th percentile (wanted: at most {MAX_DIFFERENCE})   {what}{verdict}"
        );
        if difference > MAX_DIFFERENCE {
            code = ExitCode::FAILURE;
        }
    }
    drop(silent);
    Ok(code)
}

fn serve(name: &str) -> io::Result<()> {
    let page = || async {
        let mut response = HttpResponse::Ok();
        response.insert_header(("cache-control", "max-age=1")).body("page")
    };
    if name == "handler" {
        return support::serve(1, move || App::new().route("/page", web::get().to(page)));
    }
    let url = env::var(URL).map_err(io::Error::other)?;
    let redis = RedisStore::new(url, "outage").expect("a store");
    let cache = match name {
        "tiered" => {
            let store = TieredStore::builder(redis).near_lifetime(Duration::from_secs(1));
            Cache::new(store.build().expect("a store"))
        }
        _ => Cache::new(redis),
    };
    support::serve(1, move || App::new().wrap(cache.clone()).route("/page", web::get().to(page)))
}
