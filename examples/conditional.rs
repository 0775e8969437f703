//! Conditional requests: a handler that can say by 304 that a page has not changed, and one that
//! knows nothing of that.

use std::{env, io};

use actix_web::{
    App, HttpRequest, HttpResponse, HttpServer, get,
    http::header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH},
};
use actix_web_cache::{Cache, MemoryStore};

/// What a real handler would take from a row's version or a file's time, cheaply.
const VERSION: &str = "\"version-1\"";

/// Looks at the condition before it does the work. It says `no-cache`: what is stored is used only
/// after asking. The cache asks with the stored entity tag, and a 304 is all it needs.
#[get("/report")]
async fn report(request: HttpRequest) -> HttpResponse {
    let known = request.headers().get(IF_NONE_MATCH).is_some_and(|tag| tag == VERSION);
    if known {
        println!("report: not modified");
        return HttpResponse::NotModified().insert_header((ETAG, VERSION)).finish();
    }
    println!("report: made");
    HttpResponse::Ok()
        .insert_header((ETAG, VERSION))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .body("a report that took long to make\n")
}

/// Knows nothing of conditions. Browsers are answered with 304 all the same.
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
        println!("The same body twice, made once:");
        println!("  curl -i http://{addr}/report   # Cache-Status: fwd=uri-miss; stored");
        println!(
            "  curl -i http://{addr}/report   # Cache-Status: fwd=stale; fwd-status=304; stored"
        );
        println!("What a browser gets that has the page:");
        println!("  curl -i -H 'If-None-Match: {VERSION}' http://{addr}/page");
    }
    server.run().await
}

/// From the environment, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
