//! Processes that share responses through Redis: start this twice, and a response that one process made
//! is a hit in the other.

use std::{env, error::Error, process};

use actix_web::{App, HttpResponse, HttpServer, get, post, web};
use actix_web_cache::{Cache, CacheHandle, CacheOptions, PurgeError, RedisStore, Rule};

/// Runs once for all processes, until the tag is purged.
#[get("/news")]
async fn news(cache: CacheOptions) -> String {
    cache.tag("news");
    format!("news, made by process {}\n", process::id())
}

/// Purges the news. Once this has answered, no process serves the old news.
#[post("/publish")]
async fn publish(cache: CacheHandle) -> Result<HttpResponse, PurgeError> {
    cache.purge_tag("news").await?;
    Ok(HttpResponse::Ok().body("published\n"))
}

/// Shows the counters of this process.
#[get("/stats")]
async fn stats(store: web::Data<RedisStore>) -> String {
    format!("{:#?}\n", store.stats())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let store = RedisStore::new(url, "example")?;
    let cache = Cache::builder(store.clone()).rule(Rule::path("/stats").bypass()).build()?;
    let store = web::Data::new(store);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(store.clone())
            .service(news)
            .service(publish)
            .service(stats)
            .wrap(cache.clone())
    })
    .bind(("127.0.0.1", port()))?;
    for addr in server.addrs() {
        println!("listening on http://{addr}");
        println!("Start a second process with PORT=8081. Use one host name for both:");
        println!(
            "  curl -i -H 'Host: shop' http://{addr}/news   # Cache-Status: fwd=uri-miss; stored"
        );
        println!("  curl -i -H 'Host: shop' http://{addr}/news   # Cache-Status: hit");
        println!("  curl -X POST http://{addr}/publish");
        println!("  curl http://{addr}/stats");
    }
    Ok(server.run().await?)
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
