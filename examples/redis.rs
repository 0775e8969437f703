//! Pages that processes share: start it twice, and what one process made answers at the other.

use std::{env, error::Error, process};

use actix_web::{App, HttpResponse, HttpServer, get, post, web};
use actix_web_cache::{Cache, CacheHandle, CacheOptions, PurgeError, RedisStore, Rule};

/// Made once for all processes, and forgotten with all else that has its tag.
#[get("/news")]
async fn news(cache: CacheOptions) -> String {
    cache.tag("news");
    format!("news, made by process {}\n", process::id())
}

/// Changes something, then purges: no process serves the old news once this has answered.
#[post("/publish")]
async fn publish(cache: CacheHandle) -> Result<HttpResponse, PurgeError> {
    cache.purge_tag("news").await?;
    Ok(HttpResponse::Ok().body("published\n"))
}

/// What happened between this process and Redis.
#[get("/stats")]
async fn stats(store: web::Data<RedisStore>) -> String {
    format!("{:#?}\n", store.stats())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let redis = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let store = RedisStore::new(redis, "example")?;
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
        println!("Start it again by PORT=8081, and ask both for one host, as a balancer does:");
        println!(
            "  curl -i -H 'Host: shop' http://{addr}/news   # Cache-Status: fwd=uri-miss; stored"
        );
        println!("  curl -i -H 'Host: shop' http://{addr}/news   # Cache-Status: hit");
        println!("  curl -X POST http://{addr}/publish");
        println!("  curl http://{addr}/stats");
    }
    Ok(server.run().await?)
}

/// From the environment, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
