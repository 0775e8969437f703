//! Only headers: nothing is stored here, but browsers and caches in between are told what they
//! may keep.

use std::{env, io, time::Duration};

use actix_web::{App, HttpServer, Responder, web};
use actix_web_cache::{NeverCache, SetCacheControl};

async fn page() -> impl Responder {
    "a page\n"
}

#[actix_web::main]
async fn main() -> io::Result<()> {
    let server = HttpServer::new(|| {
        let assets = SetCacheControl::new()
            .public()
            .max_age(Duration::from_secs(300))
            .stale_while_revalidate(Duration::from_secs(60));
        App::new()
            .service(web::scope("/assets").wrap(assets).route("/logo", web::get().to(page)))
            .service(web::scope("/account").wrap(NeverCache).route("", web::get().to(page)))
            .route("/", web::get().to(page))
    })
    .bind(("127.0.0.1", port()))?;
    for addr in server.addrs() {
        println!("listening on http://{addr}");
        println!("What everybody may keep for five minutes, and what nobody may keep:");
        println!("  curl -i http://{addr}/assets/logo   # Cache-Control: public, max-age=300");
        println!("  curl -i http://{addr}/account       # Cache-Control: no-store");
    }
    server.run().await
}

/// From the environment, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
