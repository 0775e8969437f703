//! What a store's limit means for the process: a million URLs, each asked for once.
//!
//! ```sh
//! cargo bench --bench memory -- [--urls 1000000] [--store-mib 64]
//! ```
//!
//! It fails if the server grew by more than 1.25 times the store's limit, the fill budget and
//! 16 MiB.

#![allow(missing_docs, clippy::expect_used)]

mod support;

use std::{env, io, process::ExitCode};

use actix_web::{App, HttpResponse, web};
use actix_web_cache::{Cache, MemoryStore};

use crate::support::{Load, Server, argument, serve, serve_if_asked};

const MIB: u64 = 1024 * 1024;
const FILL_BUDGET: u64 = 64 * MIB;
const STORE: &str = "BENCH_STORE_MIB";

fn main() -> io::Result<ExitCode> {
    if serve_if_asked().is_some() {
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
    // Idle, but with everything in place that serving takes.
    load.for_count(server.addr, 20_000, |_| "/idle".to_owned());
    let idle = server.resident();
    let answered = load.for_count(server.addr, urls, |n| format!("/page/{n}?cb={n}"));
    let grown = server.peak().saturating_sub(idle);
    let most = store * MIB * 5 / 4 + FILL_BUDGET + 16 * MIB;
    let verdict = if grown <= most { "" } else { "   TOO MUCH" };
    println!(
        "{answered} URLs through a store of {store} MiB: grown by {} MiB over {} MiB idle \
         (wanted: at most {} MiB){verdict}",
        grown / MIB,
        idle / MIB,
        most / MIB
    );
    Ok(if grown <= most { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As large as a small page of an API.
async fn page(n: web::Path<u64>) -> HttpResponse {
    HttpResponse::Ok().body(format!("{n:0>200}"))
}
