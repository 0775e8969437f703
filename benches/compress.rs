//! Measures hits that are sent compressed: by the cache, by actix's `Compress`, and by nginx.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --all-features --bench compress -- [--laps 9] [--millis 1000]
//!     [--connections 64]
//! ```
//!
//! The page has 51 KB. Each server is a process with one worker, all of whose threads run on the first
//! processor, while the clients run on the second one. (`Compress` compresses on further threads, which
//! would use the processor of the clients as well.) In each lap, the bench measures all servers in
//! turn. It prints the medians, and the medians of the ratios within a lap. nginx serves the same page
//! from a file that was compressed before (`gzip_static`), if it is installed. It sends `Vary`, as the
//! cache does.

#![allow(missing_docs, clippy::disallowed_methods, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::{
    env, fs, io,
    net::TcpListener,
    path::Path,
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use actix_web::{App, HttpResponse, Route, middleware::Compress, web};
use actix_web_cache::{Cache, Compression, MemoryStore, Policy};
use bytes::Bytes;

use crate::support::{Connection, Load, Server, argument, median, requested_server};

/// Starts a program on the first processor.
const ON_FIRST: [&str; 3] = ["taskset", "--cpu-list", "0"];

/// The names of the servers, the coding for which the clients ask, and a description.
const SERVERS: [(&str, &str, &str); 9] = [
    ("handler-br", "br", "Compress around the handler, br"),
    ("compress-br", "br", "Compress around the cache, br"),
    ("compress-gzip", "gzip", "Compress around the cache, gzip"),
    ("coded-br", "br", "Policy::compress, br"),
    ("coded-gzip", "gzip", "Policy::compress, gzip"),
    ("both-gzip", "gzip", "Compress around the cache with Policy::compress, gzip"),
    ("same-br", "br", "a hit that no coding makes smaller, as large as the copy in br"),
    ("same-gzip", "gzip", "a hit that no coding makes smaller, as large as the copy in gzip"),
    ("plain-gzip", "gzip", "a handler without a middleware, as large as the copy in gzip"),
];

/// The environment variable with the length of the body of a server that sends no copies.
const LENGTH: &str = "BENCH_LENGTH";

fn main() -> io::Result<ExitCode> {
    if let Some(name) = requested_server() {
        serve(&name)?;
        return Ok(ExitCode::SUCCESS);
    }
    run_on_second_processor()?;
    let laps = argument("--laps", 9);
    let time = Duration::from_millis(argument("--millis", 1000) as u64);
    let load = Load::new(argument("--connections", 64));
    let mut servers: Vec<(Server, _, _)> = Vec::new();
    for (name, coding, what) in SERVERS {
        let coded = format!("coded-{coding}");
        let length = match servers.iter().find(|(server, ..)| server.name == coded) {
            Some((server, ..)) => load.block_on(coded_length(server, coding)),
            None => 0,
        };
        let variables = [(LENGTH, length.to_string())];
        servers.push((Server::start_under(&ON_FIRST, name, &variables), coding, what));
    }
    let folder = env::temp_dir().join(format!("bench-compress-{}", std::process::id()));
    match nginx(&folder) {
        Ok(server) => servers.push((server, "gzip", "nginx with gzip_static, gzip")),
        Err(error) => println!("nginx is not measured: {error}"),
    }
    let mut costs = vec![Vec::new(); servers.len()];
    let mut rates = costs.clone();
    for lap in 0..=laps {
        for ((server, coding, _), (costs, rates)) in
            servers.iter().zip(costs.iter_mut().zip(&mut rates))
        {
            let before = server.cpu();
            let answered = load.requests_for_time(server.addr, time, request(coding));
            // The first lap warms up, and lets the cache make its copies.
            if lap > 0 {
                let cost = (server.cpu() - before).as_secs_f64() * 1e6;
                costs.push(cost / answered as f64);
                rates.push(answered as f64 / time.as_secs_f64());
            }
        }
    }
    for ((server, _, what), (costs, rates)) in servers.iter().zip(costs.iter().zip(&rates)) {
        let (cost, rate) = (median(costs.clone()), median(rates.clone()));
        println!("{:14} {cost:8.2} us CPU {rate:9.0} req/s   {what}", server.name);
    }
    fs::remove_dir_all(folder).ok();
    let of = |name: &str| servers.iter().position(|(server, ..)| server.name == name);
    let ratio = |values: &[Vec<f64>], name, base| {
        let pairs = values[of(name)?].iter().zip(&values[of(base)?]);
        Some(median(pairs.map(|(value, base)| value / base).collect()))
    };
    let mut code = ExitCode::SUCCESS;
    for (what, got, least) in [
        ("throughput of coded-br / compress-br", ratio(&rates, "coded-br", "compress-br"), 100.0),
        ("throughput of coded-gzip / nginx", ratio(&rates, "coded-gzip", "nginx"), 1.0),
        ("CPU of same-br / coded-br", ratio(&costs, "same-br", "coded-br"), 0.97),
    ] {
        let Some(got) = got else { continue };
        let verdict = if got >= least { "" } else { "   TOO LOW" };
        println!("{what}: {got:.3} (wanted: at least {least}){verdict}");
        if got < least {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Lets the threads of this process run on the second processor.
fn run_on_second_processor() -> io::Result<()> {
    let process = std::process::id().to_string();
    let arguments = ["--all-tasks", "--cpu-list", "--pid", "1", &process];
    let status = Command::new("taskset").args(arguments).stdout(Stdio::null()).status()?;
    if !status.success() {
        return Err(io::Error::other("the bench needs two processors"));
    }
    Ok(())
}

fn request(coding: &'static str) -> impl Fn(u64) -> String + Clone {
    move |_| format!("GET /page HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n\r\n")
}

/// A page of 51 KB, as applications send them.
fn page() -> Bytes {
    let row = |n: usize| {
        format!("<tr class=\"row\"><td>{n}</td><td>item {}</td></tr>\n", n * 7919 % 10_007)
    };
    let rows: String = (0..1060).map(row).collect();
    format!("<!doctype html><title>Items</title><table>\n{rows}</table>\n").into()
}

/// Returns a body that no coding makes smaller. Its bytes are in an order that looks random, from a
/// linear congruential generator.
fn noise(length: usize) -> Bytes {
    let mut state = 1_u64;
    let byte = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(byte).collect()
}

/// Returns the length of the copy that a server makes of the page. Until the copy is made, the page is
/// coded while it is sent, without a length.
async fn coded_length(server: &Server, coding: &'static str) -> usize {
    let mut connection = Connection::open(server.addr).await;
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < end, "no copy in {coding} within twenty seconds");
        let head = connection.send(&request(coding)(0)).await;
        let text = String::from_utf8_lossy(head).to_ascii_lowercase();
        let value = |name| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if value("content-encoding:") == Some(coding)
            && let Some(length) = value("content-length:")
        {
            return length.parse().expect("a length");
        }
    }
}

fn serve(name: &str) -> io::Result<()> {
    if name == "handler-br" {
        return support::serve(1, || {
            App::new().route("/page", route(page())).wrap(Compress::default())
        });
    }
    let length = env::var(LENGTH).ok().and_then(|length| length.parse().ok()).unwrap_or_default();
    if name == "plain-gzip" {
        return support::serve(1, move || App::new().route("/page", route(noise(length))));
    }
    let policy = Policy::new().default_ttl(Duration::from_secs(86_400));
    let policy = match name.split_once('-') {
        Some(("compress", _)) => policy,
        Some(("both", _)) => policy.compress(Compression::new()),
        _ => policy.compress(Compression::new()).no_compress_outside(),
    };
    let store = MemoryStore::new(64 * 1024 * 1024);
    let cache = Cache::builder(store).policy(policy).build().expect("a cache");
    let body = if name.starts_with("same") { noise(length) } else { page() };
    let app = move || App::new().route("/page", route(body.clone())).wrap(cache.clone());
    if name.starts_with("compress") || name.starts_with("both") {
        return support::serve(1, move || app().wrap(Compress::default()));
    }
    support::serve(1, app)
}

fn route(body: Bytes) -> Route {
    web::get().to(move || {
        let body = body.clone();
        async move { HttpResponse::Ok().content_type("text/html").body(body) }
    })
}

/// Starts nginx with one process and the page in `folder`.
fn nginx(folder: &Path) -> io::Result<Server> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join("page"), page())?;
    let gzip = Command::new("gzip").args(["--keep", "-6"]).arg(folder.join("page")).status()?;
    assert!(gzip.success(), "gzip failed");
    // nginx cannot choose a free port itself.
    let addr = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let folder = folder.display();
    let configuration = format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error crit;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000;\n\
         default_type text/html; open_file_cache max=100;\n\
         client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;\n\
         scgi_temp_path {folder}/scgi;\n\
         server {{ listen {addr}; root {folder}; gzip_static on; gzip_vary on; }} }}\n"
    );
    fs::write(format!("{folder}/nginx.conf"), configuration)?;
    let program = Command::new("nginx").arg("-v").output();
    program.map_err(|_| io::Error::other("it is not installed"))?;
    let start = format!("echo {addr}; exec {} nginx -c {folder}/nginx.conf", ON_FIRST.join(" "));
    let mut server = Server::run("sh", &["-c", &start]);
    server.name = "nginx";
    Ok(server)
}
