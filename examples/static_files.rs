//! Static files, as a site that was built for production has them: names with a hash, which browsers
//! keep for a year, and pages, which they revalidate at each visit.

use std::{env, path::Path, time::Duration};

use actix_files::Files;
use actix_web::{App, HttpServer, web};
use actix_web_cache::{
    Cache, ClientHeaders, Compression, CompressionLevel, MemoryStore, Policy, SetCacheControl,
};

const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = env::var("SITE").unwrap_or_else(|_| sample_site().display().to_string());
    let files = Path::new(&folder).to_owned();
    // Each file is coded once for each coding, so the smallest copies are worth their time.
    let smallest = Compression::new().level(CompressionLevel::Smallest);
    // The cache compresses, so there is no `Compress` outside of it.
    let policy = Policy::new().compress(smallest).no_compress_outside();
    let assets = Cache::builder(MemoryStore::new(256 * 1024 * 1024))
        .policy(policy.max_body_size(16 * 1024 * 1024))
        .build()?;
    // After ten seconds, the cache asks `Files` whether the page has changed: one look at the file
    // system, whatever the number of visits. Browsers ask the cache at each visit.
    let pages = assets.with(|policy| {
        policy.default_ttl(Duration::from_secs(10)).client_headers(ClientHeaders::Untouched)
    });
    let server = HttpServer::new(move || {
        // Inside of the cache: the cache obeys this lifetime, too.
        let forever = SetCacheControl::new().public().max_age(YEAR).immutable();
        let hashed = Files::new("/", files.join("assets"));
        // Outside of the cache: only browsers and other caches obey it.
        let revalidate = SetCacheControl::new().no_cache();
        let html = Files::new("/", &files).index_file("index.html");
        App::new()
            .service(web::scope("/assets").service(hashed).wrap(forever).wrap(assets.clone()))
            .service(web::scope("").service(html).wrap(pages.clone()).wrap(revalidate))
    })
    .bind(("127.0.0.1", port()))?;
    for addr in server.addrs() {
        println!("listening on http://{addr}");
        println!("Files of {folder} with lifetimes, compressed if the client accepts it:");
        println!("  curl -i http://{addr}/");
        println!("  curl -i --compressed http://{addr}/");
        println!("  curl -si --compressed http://{addr}/assets/site.5f2c.css | head -20");
    }
    server.run().await?;
    Ok(())
}

/// Returns the folder of a small site beside this example.
fn sample_site() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/static_files"))
}

/// Returns the port in the environment variable `PORT`, or 8080.
fn port() -> u16 {
    env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(8080)
}
