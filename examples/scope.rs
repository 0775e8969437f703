//! Lifetimes that the application, a scope, a route and a handler set.

use std::{env, io, time::Duration};

use actix_web::{App, HttpRequest, HttpServer, Responder, get, web};
use actix_web_cache::{Cache, CacheOptions, CachePolicy, MemoryStore};

/// Sets no options: the policy of the cache decides.
async fn list() -> impl Responder {
    "a list\n"
}

/// The route sets the lifetime.
#[get("/about", wrap = "CachePolicy::ttl(Duration::from_secs(86400))")]
async fn about() -> impl Responder {
    "about us\n"
}

/// The handler sets the lifetime, or prevents that the response is stored.
#[get("/news")]
async fn news(request: HttpRequest, cache: CacheOptions) -> impl Responder {
    if request.query_string() == "breaking" {
        cache.no_store("breaking news change every second");
        return "breaking news\n";
    }
    cache.ttl(Duration::from_secs(30));
    "news\n"
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let cache = Cache::new(MemoryStore::new(64 * 1024 * 1024));
    // A cache over the same store with a changed policy. The innermost cache around a handler stores
    // its responses.
    let hour = cache.with(|policy| policy.default_ttl(Duration::from_secs(3600)));
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
        println!("Lifetimes of the application, a scope, a route and a handler:");
        println!("  curl -i http://{addr}/                # Cache-Control: max-age=60");
        println!("  curl -i http://{addr}/api/list        # Cache-Control: max-age=3600");
        println!("  curl -i http://{addr}/about           # Cache-Control: max-age=86400");
        println!("  curl -i http://{addr}/news            # Cache-Control: max-age=30");
        println!("  curl -i http://{addr}/news?breaking   # Cache-Status: detail=handler");
    }
    server.run().await
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
