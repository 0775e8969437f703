//! What a Redis that is gone costs: the 99th percentile of requests to a handler behind a cache whose
//! Redis is left alone, beside that of the same handler without a cache.
//!
//! ```sh
//! cargo bench --features redis,test-util --bench outage -- [--laps 5] [--requests 2000] [--connections 8]
//! ```
//!
//! Each server is a process of one worker. Nothing listens where its Redis should be, and at the other's
//! connections are taken and nothing is said. Laps are interleaved; the median of the differences within
//! a lap is printed.

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

use crate::support::{Load, Server, argument, median, serve_if_asked};

/// Where the servers look for Redis.
const URL: &str = "BENCH_REDIS_URL";

/// Milliseconds that the 99th percentile may be above that without a store.
const MOST: f64 = 2.0;

const SERVERS: [(&str, &str); 4] = [
    ("bare", "no store"),
    ("gone", "nothing listens"),
    ("silent", "nothing is answered"),
    ("tiered", "nothing is answered, pages of a second in memory"),
];

fn main() -> io::Result<ExitCode> {
    if let Some(name) = serve_if_asked() {
        serve(&name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let gone = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    // The system takes connections on its behalf.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let silent_addr = silent.local_addr()?;
    let laps = argument("--laps", 5);
    let count = argument("--requests", 2000);
    let load = Load::new(argument("--connections", 8));
    let servers = SERVERS.map(|(name, _)| {
        let addr = if name == "gone" { gone } else { silent_addr };
        Server::start_with(name, &[(URL, format!("redis://{addr}/"))])
    });
    let mut above: [Vec<f64>; SERVERS.len()] = Default::default();
    for lap in 0..=laps {
        let p99 = servers.each_ref().map(|server| {
            let mut times = load.times(server.addr, count, "/page");
            times.sort_unstable();
            times[times.len() * 99 / 100].as_secs_f64() * 1e3
        });
        // In the first lap it is found out that Redis is gone.
        if lap > 0 {
            for (above, own) in above.iter_mut().zip(p99) {
                above.push(own - p99[0]);
            }
        }
    }
    let mut code = ExitCode::SUCCESS;
    for ((name, what), above) in SERVERS.iter().zip(above).skip(1) {
        let above = median(above);
        let verdict = if above <= MOST { "" } else { "   TOO MUCH" };
        println!(
            "{name:7} {above:+.3} ms at the 99th percentile (at most {MOST})   {what}{verdict}"
        );
        if above > MOST {
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
    if name == "bare" {
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
