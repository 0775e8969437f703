//! Measures the memory of a server with a memory store while it answers requests for a million URLs.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench memory -- [--urls 1000000] [--store-mib 64]
//! ```
//!
//! The bench fails if the memory grows by more than the sum of 1.25 times the limit of the store,
//! the fill budget and 16 MiB.

#![allow(missing_docs, clippy::expect_used)]

mod support;

use std::{env, io, process::ExitCode};

use actix_web::{App, HttpResponse, web};
use actix_web_cache::{Cache, MemoryStore};

use crate::support::{Load, Server, argument, requested_server, serve};

const MIB: u64 = 1024 * 1024;
const FILL_BUDGET: u64 = 64 * MIB;
const STORE: &str = "BENCH_STORE_MIB";

fn main() -> io::Result<ExitCode> {
    if requested_server().is_some() {
        let mib: usize = env::var(STORE).ok().and_then(|mib| mib.parse().ok()).unwrap_or(64);
        let cache = Cache::new(MemoryStore::new(mib * 1024 * 1024));
        return serve(2, move || {
            App::new()
                .service(web::scope("/page").wrap(cache.clone()).route("/{n}", web::get().to(page)))
                .route("/idle", web::get().to(async || "idle"))
        })
        .map(|()| ExitCode::SUCCESS);
    }
    let urls = argument("--urls", 1_000_000) as u64;
    let store = argument("--store-mib", 64) as u64;
    let server = Server::start_with("memory", &[(STORE, store.to_string())]);
    let load = Load::new(64);
    // First send requests to a route without a cache, so that memory for connections does not count
    // as growth.
    load.for_count(server.addr, 20_000, |_| "/idle".to_owned());
    let idle = server.resident();
    let answered = load.for_count(server.addr, urls, |n| format!("/page/{n}?cb={n}"));
    let growth = server.peak().saturating_sub(idle);
    let most = store * MIB * 5 / 4 + FILL_BUDGET + 16 * MIB;
    let verdict = if growth <= most { "" } else { "   TOO HIGH" };
    println!(
        "{answered} URLs through a store of {store} MiB: memory grew by {} MiB from {} MiB \
         (wanted: at most {} MiB){verdict}",
        growth / MIB,
        idle / MIB,
        most / MIB
    );
    Ok(if growth <= most { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns a body of 200 bytes, the size of a small API response.
async fn page(n: web::Path<u64>) -> HttpResponse {
    HttpResponse::Ok().body(format!("{n:0>200}"))
}
