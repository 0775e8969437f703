//! Measures pages that are never fresh (`no-cache`, `max-age=0`), which the handler validates for
//! each request. The cache must not make their clients wait for each other.
//!
//! First, 50 clients request a page at once. Then requests arrive at a steady rate, with and without
//! a cache in turn.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench validation
//! ```

#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::unwrap_used, missing_docs)]

use std::{
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, web};
use actix_web_cache::{Cache, MemoryStore};
use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Builder,
    time::interval,
};

mod support;

use support::{Server, median, requested_server};

/// The time that the handler takes, also for a 304.
const SLOW: Duration = Duration::from_millis(300);
const CLIENTS: usize = 50;
const ROUNDS: usize = 5;
/// The time between two requests of the steady load.
const PERIOD: Duration = Duration::from_millis(50);
const STEADY_REQUESTS: usize = 100;

const PAGES: [&str; 2] = ["no-cache", "max-age=0"];

fn main() -> io::Result<ExitCode> {
    if let Some(name) = requested_server() {
        return serve(&name).map(|()| ExitCode::SUCCESS);
    }
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let good = runtime.block_on(async {
        let mut good = true;
        for page in PAGES {
            good &= measure(page).await;
        }
        good
    });
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(page: &str) -> bool {
    let servers = ["handler", "cache"].map(Server::start);
    let path = format!("/{page}");
    for burst in ["first", "second"] {
        for server in &servers {
            let times = join_all((0..CLIENTS).map(|_| get(server.addr, &path))).await;
            let longest = times.iter().max().expect("a client").as_secs_f64() * 1e3;
            println!(
                "{page}, {burst} burst of {CLIENTS} clients, {}: {longest:.0} ms",
                server.name
            );
        }
    }
    let mut percentiles: [[Vec<f64>; 2]; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (server, percentiles) in servers.iter().zip(&mut percentiles) {
            let mut times = steady(server.addr, &path).await;
            times.sort_unstable();
            for (percent, percentile) in [50, 99].into_iter().zip(percentiles) {
                let index = (times.len() * percent / 100).min(times.len() - 1);
                let time = times.get(index).expect("a response time");
                percentile.push(time.as_secs_f64() * 1e3);
            }
        }
    }
    let [[handler, handler_99], [cache, cache_99]] =
        percentiles.map(|percentiles| percentiles.map(median));
    let wanted = handler * 1.05 + 1.0;
    println!(
        "{page}, steady load: median {handler:.1} ms without a cache, {cache:.1} ms with one \
         (wanted: at most {wanted:.1}); 99 % within {handler_99:.1} and {cache_99:.1} ms"
    );
    cache <= wanted
}

/// The response times of requests at a steady rate.
async fn steady(addr: std::net::SocketAddr, path: &str) -> Vec<Duration> {
    let mut ticks = interval(PERIOD);
    let mut requests = Vec::with_capacity(STEADY_REQUESTS);
    for _ in 0..STEADY_REQUESTS {
        ticks.tick().await;
        let path = path.to_owned();
        requests.push(tokio::spawn(async move { get(addr, &path).await }));
    }
    join_all(requests).await.into_iter().map(|time| time.expect("a response")).collect()
}

async fn get(addr: std::net::SocketAddr, path: &str) -> Duration {
    let started = Instant::now();
    let mut connection = TcpStream::connect(addr).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await.expect("a request");
    let mut all = Vec::new();
    connection.read_to_end(&mut all).await.expect("a response");
    assert!(all.starts_with(b"HTTP/1.1 200") && all.ends_with(b"page"), "a complete page");
    started.elapsed()
}

async fn page(request: HttpRequest) -> HttpResponse {
    tokio::time::sleep(SLOW).await;
    let known = request.headers().contains_key("if-none-match");
    let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    let cache_control = request.path().trim_start_matches('/');
    response.insert_header(("cache-control", cache_control)).insert_header(("etag", "\"a\""));
    if known { response.finish() } else { response.body("page") }
}

fn serve(name: &str) -> io::Result<()> {
    if name == "handler" {
        return support::serve(2, || App::new().default_service(web::to(page)));
    }
    let store = MemoryStore::new(1024 * 1024);
    support::serve(2, move || {
        App::new().wrap(Cache::new(store.clone())).default_service(web::to(page))
    })
}
