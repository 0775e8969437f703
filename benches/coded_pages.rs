//! Measures the memory of a server with many pages in each content coding.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --all-features --bench coded_pages -- [--pages 10000]
//!     [--store-mib 256]
//! ```
//!
//! Each page has about 50 KB, and is requested until its copies in `br`, `zstd` and `gzip` are made.
//! The bench fails if the bytes of the store exceed its limit, or if the memory of the process grows by
//! more than 1.25 times the limit, the fill budget and 16 MiB.

#![allow(missing_docs, clippy::expect_used)]

mod support;

use std::{io, process::ExitCode, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, Compression, CompressionLevel, MemoryStore, Policy, Rule};
use tokio::runtime::Builder;

use crate::support::{Connection, Server, argument, requested_server};

const MIB: u64 = 1024 * 1024;
const FILL_BUDGET: u64 = 64 * MIB;
const STORE: &str = "BENCH_STORE_MIB";
const CODINGS: [&str; 3] = ["br", "zstd", "gzip"];

fn main() -> io::Result<ExitCode> {
    if requested_server().is_some() {
        return serve().map(|()| ExitCode::SUCCESS);
    }
    let pages = argument("--pages", 10_000);
    let limit = argument("--store-mib", 256) as u64;
    let server = Server::start_with("pages", &[(STORE, limit.to_string())]);
    let before = server.resident();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut most, mut copies) = (0, 0_u64);
    runtime.block_on(async {
        let mut connection = Connection::open(server.addr).await;
        for page in 0..pages {
            for coding in CODINGS {
                copies += u64::from(is_coded(&mut connection, page, coding).await);
            }
            if page % 500 == 499 {
                most = most.max(stored_bytes(&mut connection).await);
            }
        }
    });
    let grown = server.peak().saturating_sub(before);
    println!("{pages} pages, {copies} copies: {} MiB in a store of {limit} MiB", most / MIB);
    let most_memory = limit * MIB * 5 / 4 + FILL_BUDGET + 16 * MIB;
    println!("memory grew by {} MiB (wanted: at most {})", grown / MIB, most_memory / MIB);
    let all_coded = copies == pages as u64 * CODINGS.len() as u64;
    let holds = all_coded && most <= limit * MIB && grown <= most_memory;
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Requests a page until it is a copy in the coding. Returns whether it is one after many requests.
async fn is_coded(connection: &mut Connection, page: usize, coding: &str) -> bool {
    let request = format!(
        "GET /page/{page} HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n\r\n"
    );
    let line = format!("content-encoding: {coding}\r\n");
    for _ in 0..100_000 {
        let head = connection.send(&request).await;
        if String::from_utf8_lossy(head).contains(&line) {
            return true;
        }
    }
    false
}

/// Returns the number of bytes in the store, which the server tells in a response field.
async fn stored_bytes(connection: &mut Connection) -> u64 {
    let head = connection.get("/bytes").await;
    let head = String::from_utf8_lossy(head);
    let line = head.lines().find_map(|line| line.strip_prefix("x-bytes: "));
    line.expect("the bytes").parse().expect("a number")
}

fn serve() -> io::Result<()> {
    let limit: usize = std::env::var(STORE).expect("a limit").parse().expect("a number");
    let store = MemoryStore::new(limit * MIB as usize);
    let compression = Compression::new().level(CompressionLevel::Fast);
    let policy = Policy::new().default_ttl(Duration::from_secs(86_400)).compress(compression);
    let builder = Cache::builder(store.clone()).policy(policy.no_compress_outside());
    let cache = builder.rule(Rule::path("/bytes").bypass()).build().expect("a cache");
    support::serve(1, move || {
        let store = store.clone();
        let bytes = move || {
            let bytes = store.bytes();
            async move { HttpResponse::Ok().insert_header(("x-bytes", bytes)).finish() }
        };
        App::new().wrap(cache.clone()).route("/bytes", web::get().to(bytes)).default_service(
            web::to(|request: HttpRequest| async move {
                HttpResponse::Ok().content_type("text/html").body(page(request.path()))
            }),
        )
    })
}

/// A page of about 50 KB, which differs for each path.
fn page(path: &str) -> String {
    let row = |n: usize| format!("<tr><td>{n}</td><td>{path} {}</td></tr>\n", n * 7919 % 10_007);
    (0..1150).map(row).collect()
}
