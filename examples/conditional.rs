//! Conditional requests: a handler that evaluates them and answers 304, and one that does not.

use std::{env, io};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, get,
    http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH},
};
use actix_web_cache::{Cache, MemoryStore};

/// The entity tag. A real handler would make it from the version of a row or the time of a file.
const VERSION: &str = "\"version-1\"";

/// Evaluates the condition before it does the work. With `no-cache`, the cache revalidates the stored
/// response before each use: it sends the stored entity tag, and the handler answers 304.
#[get("/report")]
async fn report(request: HttpRequest) -> HttpResponse {
    let matches = request.headers().get(IF_NONE_MATCH).is_some_and(|tag| tag == VERSION);
    if matches {
        println!("report: not modified");
        return HttpResponse::NotModified().insert_header((ETAG, VERSION)).finish();
    }
    println!("report: made");
    HttpResponse::Ok()
        .insert_header((ETAG, VERSION))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body("a report that takes long to make\n")
}

/// Ignores conditions. The cache evaluates those of browsers, and answers 304.
#[get("/page")]
async fn page() -> HttpResponse {
    println!("page: made");
    HttpResponse::Ok().insert_header((ETAG, VERSION)).body("a page\n")
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let cache = Cache::new(MemoryStore::new(64 * 1024 * 1024));
    let server =
        HttpServer::new(move || App::new().service(report).service(page).wrap(cache.clone()))
            .bind(("127.0.0.1", port()))?;
    for addr in server.addrs() {
        println!("listening on http://{addr}");
        println!("Two responses with one body, which is made once:");
        println!("  curl -i http://{addr}/report   # Cache-Status: fwd=uri-miss; stored");
        println!(
            "  curl -i http://{addr}/report   # Cache-Status: fwd=stale; fwd-status=304; stored"
        );
        println!("A browser that has the page gets 304:");
        println!("  curl -i -H 'If-None-Match: {VERSION}' http://{addr}/page");
    }
    server.run().await
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
