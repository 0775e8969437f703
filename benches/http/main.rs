//! Measures the cost of a request end to end: that of a hit, beside a plain handler that sends the same
//! header fields and beside a middleware that does only the work that no hit can avoid, and that of
//! each other kind of request.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --features redis,compress --bench http -- [--laps 9]
//!     [--millis 1000] [--connections 64] [--workers 1] [--servers NAME,NAME...]
//! scripts/instructions [--servers NAME,NAME...] [--profiles FOLDER]
//! ```
//!
//! Each server is a process, which is started three times. It is built as applications are for
//! production (`profile.bench` in `Cargo.toml`), and the requests have the ten header fields of a
//! browser. In each lap, the bench measures the CPU times of all servers in turn. It prints the
//! median of the ratios within a lap, so that a changing load of the machine has little effect. With
//! `--instructions`, the bench counts instructions instead, and needs valgrind.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

mod cases;
mod fill_floor;
mod floor;
mod instructions;
mod servers;
#[path = "../support/mod.rs"]
mod support;

use std::{env, io, process::ExitCode, time::Duration};

use crate::{
    cases::{BOUNDS, Case, cases},
    servers::{REDIS, WORKERS, serve},
    support::{Connection, Load, Redis, Server, argument, median, requested_server, text_argument},
};

fn main() -> io::Result<ExitCode> {
    if let Some(name) = requested_server() {
        serve(&name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let cases = cases(text_argument("--servers").as_deref());
    let redis = cases.iter().any(Case::needs_redis).then(Redis::start).transpose()?;
    let mut variables = vec![(WORKERS, argument("--workers", 1).to_string())];
    if let Some(redis) = &redis {
        variables.push((REDIS, redis.url.clone()));
    }
    if env::args().any(|argument| argument == "--instructions") {
        count_instructions(&cases, &variables)
    } else {
        Ok(measure_times(&cases, &variables))
    }
}

/// The number of processes of each server. A process can be a fifth slower than another one of the same
/// server, for as long as it runs.
const PROCESSES: usize = 3;

/// Measures the CPU time of the servers, and compares it with the bounds.
fn measure_times(cases: &[Case], variables: &[(&str, String)]) -> ExitCode {
    let laps = argument("--laps", 9).div_ceil(PROCESSES);
    let time = Duration::from_millis(argument("--millis", 1000) as u64);
    let load = Load::new(argument("--connections", 64));
    let mut measured = Measured { costs: vec![Vec::new(); cases.len()], rates: Vec::new() };
    measured.rates.clone_from(&measured.costs);
    for _ in 0..PROCESSES {
        measured.add(cases, variables, &load, laps, time);
    }
    for (case, (costs, rates)) in cases.iter().zip(measured.costs.iter().zip(measured.rates)) {
        let (cost, rate, what) = (median(costs.clone()), median(rates), case.description);
        println!("{:16} {cost:8.2} us CPU {rate:9.0} req/s   {what}", case.name);
    }
    compare(cases, &measured.costs, "CPU", |bound| Some(bound.cpu))
}

/// The CPU time of a request, and the requests a second, of each server in each lap.
struct Measured {
    costs: Vec<Vec<f64>>,
    rates: Vec<Vec<f64>>,
}

impl Measured {
    /// Starts a process of each server, and measures it in each lap.
    fn add(
        &mut self,
        cases: &[Case],
        variables: &[(&str, String)],
        load: &Load,
        laps: usize,
        time: Duration,
    ) {
        let start = |case: &Case| Server::start_with(case.name, variables);
        let servers = cases.iter().map(start).collect::<Vec<_>>();
        for (server, case) in servers.iter().zip(cases) {
            store(load, server, *case);
        }
        for lap in 0..=laps {
            for (index, (server, case)) in servers.iter().zip(cases).enumerate() {
                let (before, case) = (server.cpu(), *case);
                let answered =
                    load.requests_for_time(server.addr, time, move |n| case.request(n)) as f64;
                // The first lap warms up.
                if lap > 0 {
                    self.costs[index].push((server.cpu() - before).as_secs_f64() * 1e6 / answered);
                    self.rates[index].push(answered / time.as_secs_f64());
                }
            }
        }
        for (server, case) in servers.iter().zip(cases) {
            check(load, server, case);
        }
    }
}

/// Stores the responses of a server that are stored before the bench measures.
fn store(load: &Load, server: &Server, case: Case) {
    load.requests_for_count(server.addr, case.stored_urls(), move |n| case.first_request(n));
}

/// Checks that a measured server answers its requests as its case says.
fn check(load: &Load, server: &Server, case: &Case) {
    load.block_on(async {
        let mut connection = Connection::open(server.addr).await;
        case.check(connection.send(&case.request(u64::MAX / 16)).await);
    });
}

/// Counts the instructions of the servers, and compares them with the bounds.
fn count_instructions(cases: &[Case], variables: &[(&str, String)]) -> io::Result<ExitCode> {
    let folder = text_argument("--profiles");
    let mut costs = Vec::new();
    for case in cases.iter().filter(|case| case.is_counted()) {
        let cost = instructions::count(*case, variables, folder.as_deref())?;
        println!("{:16} {cost:9.0} instructions   {}", case.name, case.description);
        costs.push(vec![cost]);
    }
    let counted: Vec<_> = cases.iter().copied().filter(Case::is_counted).collect();
    Ok(compare(&counted, &costs, "instructions", |bound| bound.instructions))
}

/// Prints the ratios of the costs of servers, each with its bound. Fails if one exceeds its bound.
fn compare(
    cases: &[Case],
    costs: &[Vec<f64>],
    unit: &str,
    most: impl Fn(&cases::Bound) -> Option<f64>,
) -> ExitCode {
    let of = |name| cases.iter().position(|case| case.name == name);
    let mut code = ExitCode::SUCCESS;
    for bound in &BOUNDS {
        let (Some(of_name), Some(of_base)) = (of(bound.name), of(bound.base)) else { continue };
        let pairs = costs[of_name].iter().zip(&costs[of_base]);
        let ratio = median(pairs.map(|(cost, base)| cost / base).collect());
        let most = most(bound);
        let is_exceeded = most.is_some_and(|most| ratio > most);
        let wanted = most.map_or(String::new(), |most| format!(" (wanted: at most {most})"));
        let verdict = if is_exceeded { "   TOO HIGH" } else { "" };
        println!("{:16} / {:16} {ratio:.3} {unit}{wanted}{verdict}", bound.name, bound.base);
        if is_exceeded {
            code = ExitCode::FAILURE;
        }
    }
    code
}
