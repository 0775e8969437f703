//! Memory in front of Redis: what is asked for often costs no round trip, and a purge by one process
//! still reaches all.

use std::{env, error::Error, process};

use actix_web::{App, HttpResponse, HttpServer, get, put, web};
use actix_web_cache::{
    Cache, CacheHandle, CacheOptions, PurgeError, RedisStore, Rule, TieredStore,
};

/// From Redis at first, then from memory.
#[get("/price/{item}")]
async fn price(item: web::Path<String>, cache: CacheOptions) -> String {
    cache.tag("prices");
    format!("{item} is 5, says process {}\n", process::id())
}

/// Other processes serve nothing of it some milliseconds later, a second at most.
#[put("/prices")]
async fn change(cache: CacheHandle) -> Result<HttpResponse, PurgeError> {
    cache.purge_tag("prices").await?;
    Ok(HttpResponse::Ok().body("changed\n"))
}

/// `near_hits` are those from memory, `far` tells what Redis was asked.
#[get("/stats")]
async fn stats(store: web::Data<TieredStore<RedisStore>>) -> String {
    format!("{:#?}\n", store.stats())
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let redis = env::var("REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1:6379".to_owned());
    let store =
        TieredStore::builder(RedisStore::new(redis, "example")?).near_bytes(16 << 20).build()?;
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
        println!("Start it again by PORT=8081, and ask both for one host, as a balancer does:");
        println!(
            "  curl -i -H 'Host: shop' http://{addr}/price/tea   # Cache-Status: fwd=uri-miss; stored"
        );
        println!("  curl -i -H 'Host: shop' http://{addr}/price/tea   # Cache-Status: hit");
        println!("  curl -X PUT http://{addr}/prices");
        println!("  curl http://{addr}/stats   # near_hits grow, lookups do not");
    }
    Ok(server.run().await?)
}

/// From the environment, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
