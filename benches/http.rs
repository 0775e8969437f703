//! Measures the CPU time of a request end to end, with a cache and without.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench http -- [--laps 9] [--millis 1000] [--connections 64]
//!     [--servers NAME,NAME...]
//! ```
//!
//! Each server is a process with one worker. In each lap, the bench measures all servers in turn.
//! It prints the median of the ratios within a lap, so that a changing load of the machine has
//! little effect.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::{convert::Infallible, io, net::SocketAddr, process::ExitCode, time::Duration};

use actix_web::{
    App, HttpResponse, Route,
    body::SizedStream,
    http::header::{CACHE_CONTROL, ETAG, EXPIRES},
    web,
};
use actix_web_cache::{Cache, MemoryStore, Policy, Rule};
use futures_util::{StreamExt as _, stream};

use crate::support::{Load, Server, argument, median, requested_server};

/// The names and descriptions of the servers.
const SERVERS: [(&str, &str); 14] = [
    ("handler", "a handler, 2 KiB"),
    ("fields", "a handler that sends the header fields of a cache, 2 KiB"),
    ("hit", "a hit, 2 KiB"),
    ("hit-rules", "a hit under the last of 50 rules, 2 KiB"),
    ("bypass", "a bypassed request, 2 KiB"),
    ("miss", "a miss that is stored, 2 KiB"),
    ("keys", "hits on 10,000 URLs, 2 KiB"),
    ("fields-13", "a handler that sends the header fields of a cache, 13 bytes"),
    ("hit-13", "a hit, 13 bytes"),
    ("handler-1m", "a handler, 1 MiB"),
    ("hit-1m", "a hit, 1 MiB"),
    ("miss-1m", "a miss whose body is streamed and stored, 1 MiB"),
    ("handler-16m", "a handler, 16 MiB"),
    ("hit-16m", "a hit, 16 MiB"),
];

/// Pairs of servers to compare, and the highest accepted ratio of their CPU times.
const RATIOS: [(&str, &str, f64); 9] = [
    ("hit", "fields", 1.3),
    ("hit-13", "fields-13", 1.3),
    ("hit-rules", "hit", 1.03),
    ("keys", "fields", 1.5),
    ("bypass", "handler", 1.1),
    ("miss", "handler", 4.0),
    ("hit-1m", "handler-1m", 1.05),
    ("hit-16m", "handler-16m", 1.05),
    ("miss-1m", "handler-1m", 5.0),
];

/// The length of the chunks of a streamed body.
const CHUNK: usize = 16 * 1024;

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
    let wanted = text_argument("--servers");
    let is_wanted = |name| wanted.as_ref().is_none_or(|names| names.split(',').any(|n| n == name));
    let servers = SERVERS.into_iter().filter(|(name, _)| is_wanted(*name)).collect::<Vec<_>>();
    let what = servers.iter().map(|(_, what)| *what).collect::<Vec<_>>();
    let servers = servers.iter().map(|(name, _)| Server::start(name)).collect::<Vec<_>>();
    let mut costs = vec![Vec::new(); servers.len()];
    let mut rates = costs.clone();
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
    for ((server, what), (costs, rates)) in servers.iter().zip(&what).zip(costs.iter().zip(&rates))
    {
        let (cost, rate) = (median(costs.clone()), median(rates.clone()));
        println!("{:11} {cost:8.2} us CPU {rate:9.0} req/s   {what}", server.name);
    }
    let of = |name| servers.iter().position(|server| server.name == name);
    let mut code = ExitCode::SUCCESS;
    for (name, base, most) in RATIOS {
        let (Some(of_name), Some(of_base)) = (of(name), of(base)) else { continue };
        let pairs = costs[of_name].iter().zip(&costs[of_base]);
        let ratio = median(pairs.map(|(cost, base)| cost / base).collect());
        let verdict = if ratio <= most { "" } else { "   TOO HIGH" };
        println!("{name:11} / {base:11} {ratio:.3} CPU (wanted: at most {most}){verdict}");
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
        "miss" | "miss-1m" => (true, u64::MAX),
        "keys" => (true, 10_000),
        _ => (false, 1),
    };
    move |n| if distinct { format!("/page/{}", n % spread) } else { "/page/1".to_owned() }
}

fn serve(name: &str) -> io::Result<()> {
    let length = match name.rsplit_once('-') {
        Some((_, "13")) => 13,
        Some((_, "1m")) => 1024 * 1024,
        Some((_, "16m")) => 16 * 1024 * 1024,
        _ => 2048,
    };
    let body = web::Bytes::from(vec![b'x'; length]);
    match name {
        "handler" | "handler-1m" | "handler-16m" => {
            support::serve(1, move || App::new().route("/page/{n}", page(&body, Fields::Own)))
        }
        "fields" | "fields-13" => {
            support::serve(1, move || App::new().route("/page/{n}", page(&body, Fields::Cache)))
        }
        _ => {
            let size = if name == "hit-16m" { 256 } else { 64 };
            let builder = Cache::builder(MemoryStore::new(size * 1024 * 1024));
            let builder = match name {
                "bypass" => builder.rule(Rule::any().bypass()),
                "hit-rules" => builder.rules(rules()),
                _ => builder.policy(
                    // A lifetime longer than the bench runs, so that no stored response becomes
                    // stale.
                    Policy::new()
                        .default_ttl(Duration::from_secs(86_400))
                        .max_body_size(16 * 1024 * 1024),
                ),
            };
            let cache = builder.build().expect("a cache");
            let fields = if name == "miss-1m" { Fields::OwnStreamed } else { Fields::Own };
            support::serve(1, move || {
                App::new().wrap(cache.clone()).route("/page/{n}", page(&body, fields))
            })
        }
    }
}

/// Rules as an application with many sections has them. The last one applies.
fn rules() -> impl Iterator<Item = Rule> {
    let day = |policy: Policy| policy.default_ttl(Duration::from_secs(86_400));
    let others = (0..49).map(move |n| match n % 3 {
        0 => Rule::path(format!("/section-{n}/about")).bypass(),
        1 => Rule::prefix(format!("/section-{n}")).with(day),
        _ => Rule::pattern(format!("/section-{n}/{{id}}/{{part}}")).with(day),
    });
    others.chain([Rule::prefix("/page").with(day)])
}

/// The header fields that a handler sends.
#[derive(Clone, Copy, PartialEq)]
enum Fields {
    /// The handler's own fields.
    Own,
    /// The handler's own fields, before a body that is streamed in chunks of 16 KiB.
    OwnStreamed,
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
            if fields == Fields::OwnStreamed {
                let length = body.len();
                let starts = stream::iter((0..length).step_by(CHUNK));
                let chunks = starts
                    .map(move |at| Ok::<_, Infallible>(body.slice(at..length.min(at + CHUNK))));
                return response.body(SizedStream::new(length as u64, chunks));
            }
            response.body(body)
        }
    })
}
