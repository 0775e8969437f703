//! Rules: other policies for some paths. The first rule that matches applies.

use std::{env, io, time::Duration};

use actix_web::{App, HttpRequest, HttpServer, Responder, web};
use actix_web_cache::{Cache, ConfigError, MemoryStore, Policy, QueryKey, Rule};

fn cache(store: MemoryStore) -> Result<Cache, ConfigError> {
    let secs = Duration::from_secs;
    Cache::builder(store)
        .policy(
            Policy::new()
                .query(QueryKey::ignoring(QueryKey::tracking_parameters()))
                .status_ttl(404, secs(30)),
        )
        .rule(Rule::path("/health").bypass())
        .rule(Rule::pattern("/posts/{id}").with(move |policy| {
            policy.default_ttl(secs(600)).stale_while_revalidate(secs(3600)).tag("post:{id}")
        }))
        .rule(
            Rule::prefix("/search")
                .with(|policy| policy.query(QueryKey::only(["q", "page"]).then_sorted())),
        )
        .build()
}

/// The handler of all routes.
async fn page(request: HttpRequest) -> impl Responder {
    format!("page {}\n", request.path())
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let store = MemoryStore::new(64 * 1024 * 1024);
    // An invalid configuration is refused at start-up. This path lacks its slash:
    if let Err(error) = Cache::builder(store.clone()).rule(Rule::path("health").bypass()).build() {
        println!("An invalid rule gives this error: {error}");
    }
    let cache = cache(store).map_err(io::Error::other)?;
    let server = HttpServer::new(move || {
        let routes = ["/", "/health", "/posts/{id}", "/search"];
        let app = App::new().wrap(cache.clone());
        routes.into_iter().fold(app, |app, path| app.route(path, web::get().to(page)))
    })
    .bind(("127.0.0.1", port()))?;
    for addr in server.addrs() {
        println!("listening on http://{addr}");
        println!("Rules by path, pattern and prefix, and queries that share one response:");
        println!("  curl -i http://{addr}/health                   # Cache-Status: fwd=bypass");
        println!("  curl -i http://{addr}/posts/1                  # Cache-Control: max-age=600");
        println!("  curl -i http://{addr}/nothing                  # Cache-Control: max-age=30");
        println!("  curl -i 'http://{addr}/search?q=a&page=2'      # Cache-Status: stored");
        println!("  curl -i 'http://{addr}/search?page=2&q=a&x=1'  # Cache-Status: hit");
        println!("  curl -i 'http://{addr}/search?page=3&q=a'      # Cache-Status: stored");
        println!("  curl -i 'http://{addr}/'                       # Cache-Status: stored");
        println!("  curl -i 'http://{addr}/?utm_source=mail'       # Cache-Status: hit");
    }
    server.run().await
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
