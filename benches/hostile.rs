//! Measures what clients with bad intentions take from other clients: their hits, and the memory of
//! the server.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench hostile -- [--connections 1000] [--seconds 5]
//!     [--attack NAME]
//! ```
//!
//! For each attack, the bench starts a server and sends requests of honest clients, first without
//! the attack and then during it. It fails if honest clients get fewer than 0.95 times as many hits
//! for each request, or if the memory of the server grows by more than 1.25 times its configured
//! memory and 128 KiB for each connection.

#![allow(missing_docs, clippy::disallowed_methods, clippy::expect_used)]

mod support;

use std::{
    convert::Infallible,
    env, io,
    net::SocketAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, body::SizedStream, web};
use actix_web_cache::{Cache, MemoryStore, Policy};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::join_all, stream};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
    runtime::Builder,
    task::JoinSet,
};

use crate::support::{Connection, Server, argument, requested_server};

const MIB: usize = 1024 * 1024;
const STORE: usize = 64 * MIB;
/// The memory for fills, and for long slices of stored bodies.
const BUDGETS: usize = (64 + 16) * MIB;
const CONNECTION: usize = 128 * 1024;
const HONEST_CLIENTS: u64 = 8;
/// The number of pages of honest clients. A page is stored for a second.
const PAGES: u64 = 100;
const PAGE_LENGTH: usize = 100_000;
const MIN_RATIO: f64 = 0.95;

/// The name of an attack, its description, and the paths that its clients request.
type Attack = (&'static str, &'static str, fn(u64) -> String);

const ATTACKS: [Attack; 5] = [
    ("downloads", "idle readers of different chunked bodies of 8 MiB", |n| format!("/chunked/{n}")),
    ("download", "idle readers of one chunked body of 8 MiB", |_| "/chunked/1".to_owned()),
    ("bodies", "idle readers of different bodies of 1 MiB", |n| format!("/known/{n}")),
    ("page", "idle readers of one stored page of 2 MiB", |_| "/stored".to_owned()),
    ("leave", "clients that leave at once", |n| format!("/known/{n}")),
];

fn main() -> io::Result<ExitCode> {
    if requested_server().is_some() {
        return serve().map(|()| ExitCode::SUCCESS);
    }
    let connections = argument("--connections", 1000) as u64;
    let time = Duration::from_secs(argument("--seconds", 5) as u64);
    let wanted = env::args().skip_while(|argument| argument != "--attack").nth(1);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut code = ExitCode::SUCCESS;
    for attack in ATTACKS {
        if wanted.as_ref().is_some_and(|wanted| wanted != attack.0) {
            continue;
        }
        if !runtime.block_on(run(attack, connections, time)) {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

async fn run((name, what, path): Attack, connections: u64, time: Duration) -> bool {
    let server = Server::start(name);
    let mut warm = Connection::open(server.addr).await;
    warm.get("/stored").await;
    let before = honest_clients(server.addr, time).await;
    let idle = server.resident();
    let open = join_all((0..connections).map(|n| bad_request(server.addr, path(n)))).await;
    let open = if name == "leave" { Vec::new() } else { open };
    let during = honest_clients(server.addr, time).await;
    let grown = usize::try_from(server.peak().saturating_sub(idle)).expect("it fits");
    drop(open);
    let ratio = during.hits / before.hits;
    let most = (STORE + BUDGETS) * 5 / 4 + connections as usize * CONNECTION;
    let holds = ratio >= MIN_RATIO && grown <= most;
    println!(
        "{name:10} hits {:.3} before, {:.3} during ({ratio:.3}); p99 {:.1} and {:.1} ms; memory \
         grew by {} MiB (at most {}){}   {connections} {what}",
        before.hits,
        during.hits,
        before.p99.as_secs_f64() * 1e3,
        during.p99.as_secs_f64() * 1e3,
        grown / MIB,
        most / MIB,
        if holds { "" } else { "   FAILED" },
    );
    holds
}

/// Sends a request on a connection that takes up little of the response.
async fn bad_request(server: SocketAddr, path: String) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("set an option");
    let mut stream = socket.connect(server).await.expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("send");
    stream
}

/// The measurements of honest clients.
struct Measured {
    /// The part of the responses that were hits.
    hits: f64,
    p99: Duration,
}

async fn honest_clients(server: SocketAddr, time: Duration) -> Measured {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..HONEST_CLIENTS {
        clients.spawn(async move {
            let mut connection = Connection::open(server).await;
            let (mut hits, mut times) = (0, Vec::new());
            for n in (0..).map(|n: u64| (n * HONEST_CLIENTS + client) % PAGES) {
                let sent = Instant::now();
                if sent.duration_since(started) > time {
                    break;
                }
                let head = connection.get(&format!("/page/{n}")).await;
                let head = std::str::from_utf8(head).expect("text");
                let is_hit = head.contains("; hit") || head.contains("collapsed");
                hits += usize::from(is_hit);
                times.push(sent.elapsed());
            }
            (hits, times)
        });
    }
    let (hits, times): (Vec<_>, Vec<_>) = clients.join_all().await.into_iter().unzip();
    let mut times = times.concat();
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    Measured { hits: hits.iter().sum::<usize>() as f64 / times.len() as f64, p99 }
}

fn serve() -> io::Result<()> {
    let policy = Policy::new().default_ttl(Duration::from_secs(1)).max_body_size(7 * MIB);
    let cache = Cache::builder(MemoryStore::new(STORE)).policy(policy).build().expect("a cache");
    support::serve(2, move || {
        App::new()
            .wrap(cache.clone())
            .route("/page/{n}", web::get().to(async || sized(PAGE_LENGTH)))
            .route("/known/{n}", web::get().to(async || sized(MIB)))
            .route("/stored", web::get().to(async || sized(2 * MIB)))
            .route(
                "/chunked/{n}",
                web::get().to(async || HttpResponse::Ok().streaming(pieces(8 * MIB))),
            )
    })
}

fn sized(length: usize) -> HttpResponse {
    HttpResponse::Ok().body(SizedStream::new(length as u64, pieces(length)))
}

/// Makes the chunks of a body one by one, as a handler does that reads them from a file.
fn pieces(length: usize) -> impl stream::Stream<Item = Result<Bytes, Infallible>> + 'static {
    const PIECE: usize = 16 * 1024;
    let starts = stream::iter((0..length).step_by(PIECE));
    starts.map(move |at| Ok(Bytes::from(vec![b'x'; PIECE.min(length - at)])))
}
