//! Measures the CPU time of a request end to end, with a cache and without.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench http -- [--laps 9] [--millis 1000] [--connections 64]
//! ```
//!
//! Each server is a process with one worker. In each lap, the bench measures all servers in turn.
//! It prints the median of the ratios within a lap, so that a changing load of the machine has
//! little effect.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::{io, net::SocketAddr, process::ExitCode, time::Duration};

use actix_web::{
    App, HttpResponse, Route,
    http::header::{CACHE_CONTROL, ETAG, EXPIRES},
    web,
};
use actix_web_cache::{Cache, MemoryStore, Rule};

use crate::support::{Load, Server, argument, median, requested_server};

/// The names and descriptions of the servers.
const SERVERS: [(&str, &str); 8] = [
    ("handler", "a handler, 2 KiB"),
    ("fields", "a handler that sends the header fields of a cache, 2 KiB"),
    ("hit", "a hit, 2 KiB"),
    ("bypass", "a bypassed request, 2 KiB"),
    ("miss", "a miss that is stored, 2 KiB"),
    ("keys", "hits on 10,000 URLs, 2 KiB"),
    ("fields-13", "a handler that sends the header fields of a cache, 13 bytes"),
    ("hit-13", "a hit, 13 bytes"),
];

/// Pairs of servers to compare, and the highest accepted ratio of their CPU times.
const RATIOS: [(&str, &str, f64); 5] = [
    ("hit", "fields", 1.3),
    ("hit-13", "fields-13", 1.3),
    ("keys", "fields", 1.5),
    ("bypass", "handler", 1.1),
    ("miss", "handler", 4.0),
];

fn main() -> io::Result<ExitCode> {
    if let Some(name) = requested_server() {
        serve(&name)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(server) = drive() {
        let count = argument("--count", 1000) as u64;
        let urls = text_argument("--urls-of").unwrap_or_else(|| "hit".to_owned());
        Load::new(1).for_count(server, count, path_of(&urls));
        return Ok(ExitCode::SUCCESS);
    }
    let laps = argument("--laps", 9);
    let time = Duration::from_millis(argument("--millis", 1000) as u64);
    let load = Load::new(argument("--connections", 64));
    let servers = SERVERS.map(|(name, _)| Server::start(name));
    let mut costs: [Vec<f64>; SERVERS.len()] = Default::default();
    let mut rates: [Vec<f64>; SERVERS.len()] = Default::default();
    for lap in 0..=laps {
        for ((server, costs), rates) in servers.iter().zip(&mut costs).zip(&mut rates) {
            let before = server.cpu();
            let answered = load.for_time(server.addr, time, path_of(server.name));
            let cost = (server.cpu() - before).as_secs_f64() * 1e6 / answered as f64;
            // The first lap warms up.
            if lap > 0 {
                costs.push(cost);
                rates.push(answered as f64 / time.as_secs_f64());
            }
        }
    }
    for ((name, what), (costs, rates)) in SERVERS.iter().zip(costs.iter().zip(&rates)) {
        let (cost, rate) = (median(costs.clone()), median(rates.clone()));
        println!("{name:9} {cost:7.2} us CPU {rate:9.0} req/s   {what}");
    }
    let of = |name| SERVERS.iter().position(|(known, _)| *known == name).expect("a known server");
    let mut code = ExitCode::SUCCESS;
    for (name, base, most) in RATIOS {
        let pairs = costs[of(name)].iter().zip(&costs[of(base)]);
        let ratio = median(pairs.map(|(cost, base)| cost / base).collect());
        let verdict = if ratio <= most { "" } else { "   TOO HIGH" };
        println!("{name:9} / {base:9} {ratio:.3} CPU (wanted: at most {most}){verdict}");
        if ratio > most {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Returns the address after `--drive`. The bench then only sends requests to the server at this
/// address, over one connection.
fn drive() -> Option<SocketAddr> {
    text_argument("--drive")?.parse().ok()
}

fn text_argument(name: &str) -> Option<String> {
    std::env::args().skip_while(|argument| argument != name).nth(1)
}

fn path_of(server: &str) -> impl Fn(u64) -> String + Clone + Send + 'static {
    let (distinct, spread) = match server {
        "miss" => (true, u64::MAX),
        "keys" => (true, 10_000),
        _ => (false, 1),
    };
    move |n| if distinct { format!("/page/{}", n % spread) } else { "/page/1".to_owned() }
}

fn serve(name: &str) -> io::Result<()> {
    let body = if name.ends_with("-13") { vec![b'x'; 13] } else { vec![b'x'; 2048] };
    let body = web::Bytes::from(body);
    match name {
        "handler" => {
            support::serve(1, move || App::new().route("/page/{n}", page(&body, Fields::Own)))
        }
        "fields" | "fields-13" => {
            support::serve(1, move || App::new().route("/page/{n}", page(&body, Fields::Cache)))
        }
        _ => {
            let builder = Cache::builder(MemoryStore::new(64 * 1024 * 1024));
            let builder = match name {
                "bypass" => builder.rule(Rule::any().bypass()),
                _ => builder.policy(
                    // A lifetime longer than the bench runs, so that no stored response becomes
                    // stale.
                    actix_web_cache::Policy::new().default_ttl(Duration::from_secs(86_400)),
                ),
            };
            let cache = builder.build().expect("a cache");
            support::serve(1, move || {
                App::new().wrap(cache.clone()).route("/page/{n}", page(&body, Fields::Own))
            })
        }
    }
}

/// The header fields that a handler sends.
#[derive(Clone, Copy, PartialEq)]
enum Fields {
    /// The handler's own fields.
    Own,
    /// The handler's own fields, and the fields that a cache would add.
    Cache,
}

fn page(body: &web::Bytes, fields: Fields) -> Route {
    let body = body.clone();
    web::get().to(move || {
        let body = body.clone();
        async move {
            let mut response = HttpResponse::Ok();
            response
                .content_type("text/html; charset=utf-8")
                .insert_header((ETAG, "\"0123456789abcdef\""));
            if fields == Fields::Cache {
                response
                    .insert_header((CACHE_CONTROL, "max-age=60"))
                    .insert_header((EXPIRES, "Sun, 06 Nov 1994 08:49:37 GMT"))
                    .insert_header(("age", "7"))
                    .insert_header(("cache-status", "actix-web-cache; hit; ttl=53"));
            }
            response.body(body)
        }
    })
}
