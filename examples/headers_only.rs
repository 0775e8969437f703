//! Header fields only: the application stores nothing, but tells browsers and other caches how long
//! they may keep its responses.

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
        println!("A response that caches may keep for five minutes, and one they must not keep:");
        println!("  curl -i http://{addr}/assets/logo   # Cache-Control: public, max-age=300");
        println!("  curl -i http://{addr}/account       # Cache-Control: no-store");
    }
    server.run().await
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
