//! Runs a server with a cache under a mixed load for a long time, while Redis restarts again and
//! again.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --features redis --bench soak -- [--seconds 600]
//!     [--store redis|tiered|memory]
//! ```
//!
//! The bench kills redis-server every 20 seconds, and starts an empty one on the same port two
//! seconds later. Clients check each byte that they receive: its URL, its user, and the handler call
//! that made it. After a purge, they check that the handler was called after the purge.
//!
//! The bench fails at the first wrong byte, and if an honest client gets an incomplete response. It
//! also fails if the load leaves more than 16 open descriptors behind, or if the resident memory of
//! the last quarter exceeds that of the second quarter by more than 10 % and 16 MiB.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod app;
mod clients;
mod connection;
mod page;
mod purges;
mod restarts;
#[path = "../support/mod.rs"]
mod support;
mod watch;

use std::{io, process::ExitCode, sync::Arc, time::Duration};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};

use crate::{
    app::{REDIS_URL, STORE},
    clients::{Clients, Counters},
    restarts::RestartedRedis,
    support::{Server, argument, requested_server, text_argument},
    watch::{Samples, mib},
};

/// The number of descriptors that may stay open after the load, such as connections to Redis.
const MAX_OPEN_DESCRIPTORS: usize = 16;

/// The longest time in which the server must become idle. It exceeds the time that the cache gives
/// to a body without a client.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

fn main() -> io::Result<ExitCode> {
    if requested_server().is_some() {
        return app::serve().map(|()| ExitCode::SUCCESS);
    }
    let time = Duration::from_secs(argument("--seconds", 600) as u64);
    let store = text_argument("--store").unwrap_or_else(|| "redis".to_owned());
    if !app::STORES.contains(&&*store) {
        let stores = app::STORES.join(", ");
        return Err(io::Error::other(format!("unknown --store {store:?}: use one of {stores}")));
    }
    let redis = if store == "memory" { None } else { Some(RestartedRedis::start()?) };
    let url = redis.as_ref().map(|redis| redis.url.clone()).unwrap_or_default();
    let server = Server::start_with("soak", &[(STORE, store), (REDIS_URL, url)]);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let verdict = runtime.block_on(run(&server, time));
    match verdict {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(problem) => {
            println!("FAILED: {problem}");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Puts the server under load for some time. Returns the first problem.
async fn run(server: &Server, time: Duration) -> Result<(), String> {
    let before = server.open_descriptors();
    let counters = Arc::new(Counters::default());
    let mut clients = Clients::begin(server.addr, &counters);
    let samples = tokio::select! {
        samples = Samples::take(server, time, &counters) => samples,
        problem = clients.first_problem() => return Err(problem),
    };
    clients.leave().await;
    let problems = [wait_until_idle(server, before).await, samples.check(), counters.check()];
    let problems: Vec<_> = problems.into_iter().filter_map(Result::err).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

/// Waits until the server has about as few open descriptors as before the load.
async fn wait_until_idle(server: &Server, before: usize) -> Result<(), String> {
    let started = Instant::now();
    let most = before + MAX_OPEN_DESCRIPTORS;
    while server.open_descriptors() > most && started.elapsed() < IDLE_LIMIT {
        sleep(Duration::from_millis(100)).await;
    }
    let after = server.open_descriptors();
    println!(
        "{before} open descriptors before the load, {after} at {:.1} s after it (wanted: at most \
         {most}); {} MiB resident",
        started.elapsed().as_secs_f64(),
        mib(server.resident())
    );
    if after <= most { Ok(()) } else { Err(format!("{after} descriptors stay open")) }
}
