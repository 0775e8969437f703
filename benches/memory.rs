//! Measures the memory of a server with a memory store while clients send floods of requests.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench memory -- [--store-mib 64] [--urls 1000000]
//!     [--agents 1000000 [--pages 1000]] [--hanging 100000 [--seconds 8]]
//! ```
//!
//! Each option starts a flood with a server of its own. Without an option, the bench requests a
//! million URLs.
//!
//! * `--urls`: requests for different URLs.
//! * `--agents`: requests with different `User-Agent` fields for one page with `Vary: User-Agent`,
//!   and then for as many such pages as `--pages` says.
//! * `--hanging`: requests for different URLs over HTTP/2, a hundred on each connection, whose
//!   handlers never answer. The bench also prints the growth of a server without a cache.
//!
//! The bench fails if the memory grows by more than 1.25 times the limit of the store, the fill
//! budget and 16 MiB. For `--hanging`, the limit is 1.25 times the limit of the store and the fill
//! budget, and 128 KiB for each request.

#![allow(missing_docs, clippy::expect_used)]

mod support;

use std::{env, future, io, net::SocketAddr, process::ExitCode, time::Duration};

use actix_web::{App, HttpResponse, HttpServer, middleware::Condition, rt::System, web};
use actix_web_cache::{Cache, MemoryStore};
use futures_util::future::try_join_all;
use h2::{client, client::ResponseFuture};
use tokio::{net::TcpStream, runtime::Builder, task::JoinSet, time::sleep};

use crate::support::{Load, Server, argument, requested_server, serve, text_argument};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const FILL_BUDGET: u64 = 64 * MIB;
const STORE: &str = "BENCH_STORE_MIB";

/// The number of requests on each HTTP/2 connection.
const STREAMS: u64 = 100;

/// The name of a server whose handlers never answer.
const HANGING: &str = "hanging";

/// The name of such a server without a cache.
const HANGING_WITHOUT_CACHE: &str = "hanging-without-cache";

fn main() -> io::Result<ExitCode> {
    if let Some(name) = requested_server() {
        return run_server(&name).map(|()| ExitCode::SUCCESS);
    }
    let flood = Flood { store: argument("--store-mib", 64) as u64 };
    let named = |option: &str| text_argument(option).map(|_| argument(option, 0) as u64);
    let (mut urls, agents, hanging) = (named("--urls"), named("--agents"), named("--hanging"));
    if (urls, agents, hanging) == (None, None, None) {
        urls = Some(1_000_000);
    }
    let mut holds = true;
    if let Some(urls) = urls {
        holds &= flood.urls(urls);
    }
    if let Some(agents) = agents {
        holds &= flood.agents(agents, 1);
        holds &= flood.agents(agents, argument("--pages", 1000) as u64);
    }
    if let Some(hanging) = hanging {
        holds &= flood.hanging(hanging, Duration::from_secs(argument("--seconds", 8) as u64))?;
    }
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Flood {
    /// The limit of the store, in MiB.
    store: u64,
}

impl Flood {
    /// Requests different URLs. Returns whether the memory stays within the limit.
    fn urls(&self, urls: u64) -> bool {
        self.load(&format!("{urls} URLs"), urls, |n| get(&format!("/page/{n}?cb={n}"), "bench"))
    }

    /// Sends requests with different `User-Agent` fields. Returns whether the memory stays within
    /// the limit.
    fn agents(&self, agents: u64, pages: u64) -> bool {
        let name = format!("{agents} agents for {}", pages_text(pages));
        self.load(&name, agents, move |n| {
            get(&format!("/varying/{}", n % pages.max(1)), &format!("Agent/{n}"))
        })
    }

    fn load(
        &self,
        name: &str,
        count: u64,
        request: impl Fn(u64) -> String + Clone + Send + 'static,
    ) -> bool {
        let server = self.start("memory");
        let load = Load::new(64);
        // First send requests to a route without a cache, so that memory for connections does not
        // count as growth.
        load.for_count(server.addr, 20_000, |_| "/idle".to_owned());
        let idle = server.resident();
        load.requests_for_count(server.addr, count, request);
        let growth = server.peak().saturating_sub(idle);
        let most = self.store * MIB * 5 / 4 + FILL_BUDGET + 16 * MIB;
        self.report(name, growth, idle, most)
    }

    /// Sends requests to handlers that never answer, and measures the memory after `time`. Returns
    /// whether it stays within the limit.
    fn hanging(&self, requests: u64, time: Duration) -> io::Result<bool> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let grow = |name| {
            let server = self.start(name);
            let idle = server.resident();
            let open = runtime.block_on(async {
                let open = HangingRequests::send(server.addr, requests).await?;
                sleep(time).await;
                io::Result::Ok(open)
            })?;
            let growth = server.peak().saturating_sub(idle);
            runtime.block_on(open.close());
            io::Result::Ok((growth, idle))
        };
        let (without, _) = grow(HANGING_WITHOUT_CACHE)?;
        let (growth, idle) = grow(HANGING)?;
        let most = (self.store * MIB + FILL_BUDGET) * 5 / 4 + requests * 128 * KIB;
        let name = format!("{requests} requests without an answer");
        let holds = self.report(&name, growth, idle, most);
        println!(
            "    {} KiB for each request; {} KiB without a cache",
            growth / KIB / requests.max(1),
            without / KIB / requests.max(1)
        );
        Ok(holds)
    }

    fn start(&self, name: &'static str) -> Server {
        Server::start_with(name, &[(STORE, self.store.to_string())])
    }

    /// Prints a measurement. Returns whether the growth stays within the limit.
    fn report(&self, name: &str, growth: u64, idle: u64, most: u64) -> bool {
        let verdict = if growth <= most { "" } else { "   TOO HIGH" };
        println!(
            "{name}, a store of {} MiB: memory grew by {} MiB from {} MiB (wanted: at most {} \
             MiB){verdict}",
            self.store,
            growth / MIB,
            idle / MIB,
            most / MIB
        );
        growth <= most
    }
}

fn get(path: &str, agent: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: {agent}\r\nAccept: */*\r\n\
         Accept-Encoding: gzip, deflate, br, zstd\r\n\r\n"
    )
}

fn pages_text(pages: u64) -> String {
    if pages == 1 { "one page".to_owned() } else { format!("{pages} pages") }
}

/// Open HTTP/2 connections with requests in progress.
struct HangingRequests {
    connections: JoinSet<()>,
    _responses: Vec<Vec<ResponseFuture>>,
}

impl HangingRequests {
    async fn send(server: SocketAddr, requests: u64) -> io::Result<Self> {
        let mut connections = JoinSet::new();
        let mut responses = Vec::new();
        for first in (0..requests).step_by(STREAMS as usize) {
            let stream = TcpStream::connect(server).await?;
            let (sender, connection) = client::handshake(stream).await.map_err(io::Error::other)?;
            connections.spawn(async move { drop(connection.await) });
            let numbers = first..requests.min(first + STREAMS);
            let sent = numbers.map(|n| {
                let sender = sender.clone();
                async move {
                    let mut sender = sender.ready().await?;
                    let url = format!("http://localhost/page/{n}");
                    let request = http::Request::get(url).body(()).expect("a request");
                    sender.send_request(request, true).map(|(response, _)| response)
                }
            });
            responses.push(try_join_all(sent).await.map_err(io::Error::other)?);
        }
        Ok(Self { connections, _responses: responses })
    }

    async fn close(mut self) {
        self.connections.shutdown().await;
    }
}

fn run_server(name: &str) -> io::Result<()> {
    let mib: usize = env::var(STORE).ok().and_then(|mib| mib.parse().ok()).unwrap_or(64);
    let cache = Cache::new(MemoryStore::new(mib * 1024 * 1024));
    if [HANGING, HANGING_WITHOUT_CACHE].contains(&name) {
        return serve_hanging(name == HANGING, cache);
    }
    serve(2, move || {
        App::new()
            .service(web::scope("/page").wrap(cache.clone()).route("/{n}", web::get().to(page)))
            .service(
                web::scope("/varying").wrap(cache.clone()).route("/{n}", web::get().to(varying)),
            )
            .route("/idle", web::get().to(async || "idle"))
    })
}

/// Serves pages that never answer, by HTTP/1 and by HTTP/2 without TLS.
fn serve_hanging(is_cached: bool, cache: Cache) -> io::Result<()> {
    System::new().block_on(async move {
        let hang = async || future::pending::<HttpResponse>().await;
        let app = move || {
            let cache = Condition::new(is_cached, cache.clone());
            App::new().wrap(cache).default_service(web::to(hang))
        };
        let server = HttpServer::new(app).workers(2).bind_auto_h2c(("127.0.0.1", 0))?;
        println!("{}", server.addrs().first().expect("an address"));
        server.run().await
    })
}

/// Returns a body of 200 bytes, the size of a small API response.
async fn page(n: web::Path<u64>) -> HttpResponse {
    HttpResponse::Ok().body(format!("{n:0>200}"))
}

/// Returns such a body, which depends on the client's program.
async fn varying(n: web::Path<u64>) -> HttpResponse {
    HttpResponse::Ok().insert_header(("vary", "user-agent")).body(format!("{n:0>200}"))
}
