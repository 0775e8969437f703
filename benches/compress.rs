//! Measures hits that are sent compressed: by the cache, by `Compress` around the cache, and by nginx.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --all-features --bench compress -- [--laps 9] [--millis 1000]
//!     [--connections 64]
//! ```
//!
//! The page has 51 KB. Each server is a process with one worker, and in each lap, the bench measures
//! all servers in turn. It prints the medians, and the medians of the ratios within a lap. nginx serves
//! the same page from a file that was compressed before (`gzip_static`), if it is installed.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

mod support;

use std::{
    fs, io,
    net::TcpListener,
    path::Path,
    process::{Command, ExitCode},
    time::Duration,
};

use actix_web::{App, HttpResponse, Route, middleware::Compress, web};
use actix_web_cache::{Cache, Compression, MemoryStore, Policy};

use crate::support::{Load, Server, argument, median, requested_server};

/// The names of the servers, the coding for which the clients ask, and a description.
const SERVERS: [(&str, &str, &str); 6] = [
    ("handler-br", "br", "Compress around the handler, br"),
    ("compress-br", "br", "Compress around the cache, br"),
    ("compress-gzip", "gzip", "Compress around the cache, gzip"),
    ("coded-br", "br", "Compress around the cache with Policy::compress, br"),
    ("coded-gzip", "gzip", "Compress around the cache with Policy::compress, gzip"),
    ("same-size", "br", "a hit that is not coded, as large as the copy in br"),
];

fn main() -> io::Result<ExitCode> {
    if let Some(name) = requested_server() {
        serve(&name)?;
        return Ok(ExitCode::SUCCESS);
    }
    let laps = argument("--laps", 9);
    let time = Duration::from_millis(argument("--millis", 1000) as u64);
    let load = Load::new(argument("--connections", 64));
    let mut servers: Vec<_> =
        SERVERS.iter().map(|&(name, coding, what)| (Server::start(name), coding, what)).collect();
    let folder = std::env::temp_dir().join(format!("bench-compress-{}", std::process::id()));
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
        ("CPU of same-size / coded-br", ratio(&costs, "same-size", "coded-br"), 0.97),
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

fn request(coding: &'static str) -> impl Fn(u64) -> String + Clone {
    move |_| format!("GET /page HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: {coding}\r\n\r\n")
}

/// A page of 51 KB, as applications send them.
fn page() -> String {
    let row = |n: usize| {
        format!("<tr class=\"row\"><td>{n}</td><td>item {}</td></tr>\n", n * 7919 % 10_007)
    };
    let rows: String = (0..1060).map(row).collect();
    format!("<!doctype html><title>Items</title><table>\n{rows}</table>\n")
}

/// The length of the copy of [`page`] in `br`.
const CODED_LENGTH: usize = 7_000;

fn serve(name: &str) -> io::Result<()> {
    if name == "handler-br" {
        return support::serve(1, || {
            App::new().route("/page", route(page(), "text/html")).wrap(Compress::default())
        });
    }
    let policy = Policy::new().default_ttl(Duration::from_secs(86_400));
    let is_coded = name.starts_with("coded") || name == "same-size";
    let policy = if is_coded { policy.compress(Compression::new()) } else { policy };
    let store = MemoryStore::new(64 * 1024 * 1024);
    let cache = Cache::builder(store).policy(policy).build().expect("a cache");
    let (body, media_type) = match name {
        // An image is not coded.
        "same-size" => ("x".repeat(CODED_LENGTH), "image/png"),
        _ => (page(), "text/html"),
    };
    support::serve(1, move || {
        App::new()
            .route("/page", route(body.clone(), media_type))
            .wrap(cache.clone())
            .wrap(Compress::default())
    })
}

fn route(body: String, media_type: &'static str) -> Route {
    web::get().to(move || {
        let body = body.clone();
        async move { HttpResponse::Ok().content_type(media_type).body(body) }
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
         server {{ listen {addr}; root {folder}; gzip_static on; }} }}\n"
    );
    fs::write(format!("{folder}/nginx.conf"), configuration)?;
    let program = Command::new("nginx").arg("-v").output();
    program.map_err(|_| io::Error::other("it is not installed"))?;
    let start = format!("echo {addr}; exec nginx -c {folder}/nginx.conf");
    let mut server = Server::run("sh", &["-c", &start]);
    server.name = "nginx";
    Ok(server)
}
