//! Memory in front of Redis: a popular response costs no round trip, and a purge by one process still
//! reaches all processes.

use std::{env, error::Error, process};

use actix_web::{App, HttpResponse, HttpServer, get, put, web};
use actix_web_cache::{
    Cache, CacheHandle, CacheOptions, PurgeError, RedisStore, Rule, TieredStore,
};

/// Answered from Redis at first, then from memory.
#[get("/price/{item}")]
async fn price(item: web::Path<String>, cache: CacheOptions) -> String {
    cache.tag("prices");
    format!("{item} is 5, says process {}\n", process::id())
}

/// Purges the prices. Other processes stop serving them some milliseconds later, or after a second if
/// the announcement is lost.
#[put("/prices")]
async fn change(cache: CacheHandle) -> Result<HttpResponse, PurgeError> {
    cache.purge_tag("prices").await?;
    Ok(HttpResponse::Ok().body("changed\n"))
}

/// Shows the counters of this process: `near_hits` are hits in memory, `lookups` go to Redis.
#[get("/stats")]
async fn stats(store: web::Data<TieredStore<RedisStore>>) -> String {
    format!("{:#?}\n{:#?}\n", store.stats(), store.far().stats())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let redis = RedisStore::new(url, "example")?;
    let store = TieredStore::builder(redis).near_bytes(16 << 20).build()?;
    let cache = Cache::builder(store.clone()).rule(Rule::path("/stats").bypass()).build()?;
    let store = web::Data::new(store);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(store.clone())
            .service(price)
            .service(change)
            .service(stats)
            .wrap(cache.clone())
    })
    .bind(("127.0.0.1", port()))?;
    for addr in server.addrs() {
        println!("listening on http://{addr}");
        println!("Start a second process with PORT=8081. Use one host name for both:");
        println!(
            "  curl -i -H 'Host: shop' http://{addr}/price/tea   # Cache-Status: fwd=uri-miss; stored"
        );
        println!("  curl -i -H 'Host: shop' http://{addr}/price/tea   # Cache-Status: hit");
        println!("  curl -X PUT http://{addr}/prices");
        println!("  curl http://{addr}/stats   # near_hits grows, lookups does not");
    }
    Ok(server.run().await?)
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
