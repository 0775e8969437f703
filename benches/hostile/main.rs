//! Measures what clients with bad intentions take from other clients: their hits, and the memory of
//! the server.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --features redis --bench hostile -- [--connections 1000]
//!     [--seconds 5] [--setup memory|redis|proxy] [--attack NAME] [--proxy PROGRAM]
//! ```
//!
//! For each server and each attack, the bench starts the server and sends requests of honest
//! clients, first without the attack and then during it. It fails if honest clients get fewer than
//! 0.95 times as many hits for each request, or if the memory of the server grows by more than 1.25
//! times its configured memory and 128 KiB for each connection, in the reverse proxy also for each
//! connection to its origin. `--proxy` names the program of the
//! reverse proxy among the examples. Without it, the bench skips the reverse proxy.

#![allow(
    missing_docs,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod app;
mod attacks;
mod honest;
mod setup;
#[path = "../support/mod.rs"]
mod support;

use std::{env, io, process::ExitCode, time::Duration};

use tokio::runtime::Builder;

use crate::{
    attacks::{ATTACKS, Attack},
    setup::{MIB, Setup},
    support::{Connection, argument, requested_server},
};

/// The memory that the server may take for each connection, in bytes.
const CONNECTION: usize = 128 * 1024;

/// The lowest accepted ratio of the hits during an attack to those before it.
const MIN_RATIO: f64 = 0.95;

fn main() -> io::Result<ExitCode> {
    match requested_server().as_deref() {
        Some("uncached") => return app::serve_uncached().map(|()| ExitCode::SUCCESS),
        Some(_) => return app::serve_cached().map(|()| ExitCode::SUCCESS),
        None => {}
    }
    let connections = argument("--connections", 1000) as u64;
    let time = Duration::from_secs(argument("--seconds", 5) as u64);
    let named = |option: &str| env::args().skip_while(|argument| argument != option).nth(1);
    let (attack, setup) = (named("--attack"), named("--setup"));
    let is_wanted =
        |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut code = ExitCode::SUCCESS;
    for setup in Setup::ALL.into_iter().filter(|found| is_wanted(&setup, found.name())) {
        for attack in ATTACKS.iter().filter(|found| is_wanted(&attack, found.name)) {
            if !runtime.block_on(run(setup, attack, connections, time))? {
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Measures one attack on one server. Returns whether the limits hold.
async fn run(setup: Setup, attack: &Attack, connections: u64, time: Duration) -> io::Result<bool> {
    let Some(site) = setup.start()? else { return Ok(true) };
    let server = &site.server;
    let mut warm = Connection::open(server.addr).await;
    warm.get("/stored").await;
    let before = honest::measure(server.addr, time).await;
    let idle = server.resident();
    let running = attack.begin(server.addr, connections).await;
    running.settle(server).await;
    let during = honest::measure(server.addr, time).await;
    let grown = usize::try_from(server.peak().saturating_sub(idle)).expect("it fits");
    let ratio = during.hits / before.hits;
    let connections = running.connections as usize * setup.connections_of_client();
    let most = setup.configured() * 5 / 4 + connections * CONNECTION;
    let holds = ratio >= MIN_RATIO && grown <= most;
    println!(
        "{:6} {:11} hits {:.3} before, {:.3} during ({ratio:.3}); p99 {:.1} and {:.1} ms; memory \
         grew by {} MiB (at most {}){}   {}",
        setup.name(),
        attack.name,
        before.hits,
        during.hits,
        before.p99.as_secs_f64() * 1e3,
        during.p99.as_secs_f64() * 1e3,
        grown / MIB,
        most / MIB,
        if holds { "" } else { "   FAILED" },
        attack.description,
    );
    drop(running);
    Ok(holds)
}
