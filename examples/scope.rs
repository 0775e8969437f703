//! Who says how long: the application, a scope, a route, a handler.

use std::{env, io, time::Duration};

use actix_web::{App, HttpRequest, HttpServer, Responder, get, web};
use actix_web_cache::{Cache, CacheOptions, CachePolicy, MemoryStore, Policy};

/// Says nothing: the policy around it decides.
async fn list() -> impl Responder {
    "a list\n"
}

/// The route says it where it is declared.
#[get("/about", wrap = "CachePolicy::ttl(Duration::from_secs(86400))")]
async fn about() -> impl Responder {
    "about us\n"
}

/// The handler says it once it knows.
#[get("/news")]
async fn news(request: HttpRequest, cache: CacheOptions) -> impl Responder {
    if request.query_string() == "breaking" {
        cache.no_store("it changes while we speak");
        return "breaking news\n";
    }
    cache.ttl(Duration::from_secs(30));
    "news\n"
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let cache = Cache::new(MemoryStore::new(64 * 1024 * 1024));
    // The same store under another policy. The innermost cache around a handler is responsible.
    let hour = cache.with_policy(Policy::new().default_ttl(Duration::from_secs(3600)));
    let server = HttpServer::new(move || {
        App::new()
            .service(web::scope("/api").wrap(hour.clone()).route("/list", web::get().to(list)))
            .service(about)
            .service(news)
            .route("/", web::get().to(list))
            .wrap(cache.clone())
    })
    .bind(("127.0.0.1", port()))?;
    for addr in server.addrs() {
        println!("listening on http://{addr}");
        println!("The application, a scope, a route and a handler choose lifetimes:");
        println!("  curl -i http://{addr}/                # Cache-Control: max-age=60");
        println!("  curl -i http://{addr}/api/list        # Cache-Control: max-age=3600");
        println!("  curl -i http://{addr}/about           # Cache-Control: max-age=86400");
        println!("  curl -i http://{addr}/news            # Cache-Control: max-age=30");
        println!("  curl -i http://{addr}/news?breaking   # Cache-Status: detail=handler");
    }
    server.run().await
}

/// From the environment, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
