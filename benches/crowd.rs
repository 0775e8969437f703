//! Measures concurrent requests for pages that are not stored.
//!
//! First, a thousand clients request one page, with a cache and without a cache. Then 200 clients
//! request ten thousand pages of 2 MiB, and the fills must stay within their memory budget.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench crowd
//! ```

#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::{
    io,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, body::SizedStream, web};
use actix_web_cache::{Cache, MemoryStore, store::Store as _};
use bytes::Bytes;
use futures_util::{future::join_all, stream};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Builder,
};

mod support;

use support::{Server, median, requested_server};

const CLIENTS: usize = 1000;
const LAPS: u64 = 5;
const SLOW: Duration = Duration::from_millis(100);
/// The highest accepted ratio of the times until the last response is complete, with a cache to
/// without a cache.
const MAX_RATIO: f64 = 1.3;

const PAGES: u64 = 10_000;
const PAGE_BYTES: u64 = 2 * 1024 * 1024;
/// The number of clients that request the [`PAGES`] pages concurrently.
const READERS: u64 = 200;
const BUDGET: u64 = 64 * 1024 * 1024;
const STORE: u64 = 64 * 1024 * 1024;

fn main() -> io::Result<ExitCode> {
    if let Some(name) = requested_server() {
        return serve(&name).map(|()| ExitCode::SUCCESS);
    }
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let collapsed = runtime.block_on(uncached_page());
    let bounded = runtime.block_on(uncached_pages());
    Ok(if collapsed && bounded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn uncached_page() -> bool {
    let servers = ["handler", "cache"].map(Server::start);
    let mut times: [Vec<f64>; 2] = Default::default();
    let mut one_run = true;
    for lap in 0..=LAPS {
        for (server, times) in servers.iter().zip(&mut times) {
            let connections = join_all((0..CLIENTS).map(|_| TcpStream::connect(server.addr))).await;
            let connections: Vec<_> = connections
                .into_iter()
                .map(|connection| connection.expect("a connection"))
                .collect();
            let started = Instant::now();
            let path = format!("/slow/{lap}");
            let answers =
                join_all(connections.into_iter().map(|connection| get(connection, &path))).await;
            let time = started.elapsed().as_secs_f64();
            let mut runs: Vec<_> = answers.iter().map(|answer| body_of(answer)).collect();
            runs.sort_unstable();
            runs.dedup();
            one_run &= server.name == "handler" || runs.len() == 1;
            // The first lap warms up.
            if lap > 0 {
                times.push(time);
            }
        }
    }
    let ratios = times[1].iter().zip(&times[0]).map(|(cache, handler)| cache / handler);
    let ratio = median(ratios.collect());
    let [handler, cache] = times.map(median);
    println!(
        "{CLIENTS} clients of one uncached page, whose handler takes {} ms:",
        SLOW.as_millis()
    );
    println!(
        "without a cache {:.0} ms, with one {:.0} ms: {ratio:.2} (wanted: at most {MAX_RATIO})",
        handler * 1e3,
        cache * 1e3
    );
    println!("one handler call for all clients: {one_run}");
    one_run && ratio <= MAX_RATIO
}

async fn uncached_pages() -> bool {
    let server = Server::start("large");
    let idle = server.resident();
    let readers = (0..READERS).map(|reader| {
        let addr = server.addr;
        async move {
            for n in (reader..PAGES).step_by(usize::try_from(READERS).expect("it fits")) {
                let connection = TcpStream::connect(addr).await.expect("a connection");
                assert!(
                    count(connection, &format!("/large/{n}")).await > PAGE_BYTES,
                    "a complete page"
                );
            }
        }
    });
    let watch = async {
        let mut most = 0;
        loop {
            let connection = TcpStream::connect(server.addr).await.expect("a connection");
            let answer = get(connection, "/bytes-in-fills").await;
            most = most.max(body_of(&answer).parse::<u64>().expect("a number"));
            tokio::task::yield_now().await;
            if most > BUDGET {
                return most;
            }
            MOST_IN_FILLS.store(most, Ordering::Relaxed);
        }
    };
    tokio::select! {
        _ = join_all(readers) => {}
        most = watch => println!("{most} bytes in fills"),
    }
    let most = MOST_IN_FILLS.load(Ordering::Relaxed);
    let grown = server.peak().saturating_sub(idle);
    let mib = |bytes: u64| bytes / (1024 * 1024);
    println!("{PAGES} uncached pages of {} MiB, {READERS} at a time:", mib(PAGE_BYTES));
    println!("at most {} MiB in fills (wanted: at most {})", mib(most), mib(BUDGET));
    println!("memory grew by {} MiB, of which the store may use {}", mib(grown), mib(STORE));
    most <= BUDGET
}

static MOST_IN_FILLS: AtomicU64 = AtomicU64::new(0);

async fn get(mut connection: TcpStream, path: &str) -> Vec<u8> {
    ask(&mut connection, path).await;
    let mut all = Vec::new();
    connection.read_to_end(&mut all).await.expect("an answer");
    all
}

async fn count(mut connection: TcpStream, path: &str) -> u64 {
    ask(&mut connection, path).await;
    let (mut all, mut piece) = (0, vec![0; 64 * 1024]);
    loop {
        match connection.read(&mut piece).await.expect("an answer") {
            0 => return all,
            read => all += read as u64,
        }
    }
}

async fn ask(connection: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("a request");
}

fn body_of(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    text.split_once("\r\n\r\n").expect("a head").1.to_owned()
}

async fn slow() -> HttpResponse {
    static RUNS: AtomicU64 = AtomicU64::new(0);
    let run = RUNS.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(SLOW).await;
    HttpResponse::Ok().body(format!("run {run:08}"))
}

async fn large() -> HttpResponse {
    static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
    let pieces = (0..PAGE_BYTES / PIECE.len() as u64)
        .map(|_| Ok::<_, io::Error>(Bytes::from_static(&PIECE)));
    HttpResponse::Ok().body(SizedStream::new(PAGE_BYTES, stream::iter(pieces)))
}

fn serve(name: &str) -> io::Result<()> {
    if name == "handler" {
        return support::serve(4, || App::new().route("/slow/{n}", web::get().to(slow)));
    }
    let store = MemoryStore::new(usize::try_from(STORE).expect("it fits"));
    support::serve(4, move || {
        let coordinator = store.coordinator().clone();
        let bytes_in_fills = move || {
            let bytes = coordinator.bytes_in_fills();
            async move {
                HttpResponse::Ok()
                    .insert_header(("cache-control", "no-store"))
                    .body(bytes.to_string())
            }
        };
        App::new()
            .wrap(Cache::new(store.clone()))
            .route("/slow/{n}", web::get().to(slow))
            .route("/large/{n}", web::get().to(large))
            .route("/bytes-in-fills", web::get().to(bytes_in_fills))
    })
}
