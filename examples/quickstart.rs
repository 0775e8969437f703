//! A slow handler that runs once a minute, however many requests arrive.

use std::{
    env, io,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use actix_web::{App, HttpServer, Responder, get, rt::time::sleep};
use actix_web_cache::{Cache, MemoryStore};

static RUNS: AtomicUsize = AtomicUsize::new(0);

/// Responds with the number of times that it ran.
#[get("/")]
async fn page() -> impl Responder {
    let run = RUNS.fetch_add(1, Ordering::Relaxed) + 1;
    sleep(Duration::from_millis(500)).await; // stands for slow work
    format!("made by run {run} of the handler\n")
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    // The store is made outside of the closure, which runs once for each worker thread. So all threads
    // share it.
    let store = MemoryStore::new(64 * 1024 * 1024); // bytes
    let server = HttpServer::new(move || App::new().wrap(Cache::new(store.clone())).service(page))
        .bind(("127.0.0.1", port()))?;
    for addr in server.addrs() {
        println!("listening on http://{addr}");
        println!("The first response takes half a second, the second does not:");
        println!("  curl -i http://{addr}/   # Cache-Status: fwd=uri-miss; stored");
        println!("  curl -i http://{addr}/   # Cache-Status: hit");
    }
    server.run().await
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
