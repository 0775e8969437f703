//! A streaming, caching reverse proxy in front of any HTTP origin:
//!
//! ```sh
//! cargo run --release --example reverse_proxy -- --listen 127.0.0.1:8080 --origin http://127.0.0.1:8000
//! ```
//!
//! `--help` lists the options. The modules: `args` parses the command line, `store` makes the chosen
//! store, `hop_by_hop` removes the header fields of single connections, `forward` is the handler, and
//! `origin` is its HTTP client.

use std::{error::Error, io, process::ExitCode};

use actix_web::{App, HttpServer, middleware::from_fn, web};
use actix_web_cache::Cache;

use self::args::Args;

mod args;
mod forward;
mod hop_by_hop;
mod origin;
mod store;

#[actix_web::main]
async fn main() -> ExitCode {
    // Logs errors to stderr. RUST_LOG=actix_web_cache=debug logs each decision of the cache.
    env_logger::init();
    match prepare() {
        Ok(Some((cache, args))) => match serve(cache, args).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("reverse_proxy: {error}");
                ExitCode::FAILURE
            }
        },
        Ok(None) => {
            print!("{}", args::HELP);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("reverse_proxy: {error}\n{}", args::USAGE);
            ExitCode::from(2)
        }
    }
}

/// Builds the cache from the command line. Returns `None` if the command line asks for help.
fn prepare() -> Result<Option<(Cache, Args)>, Box<dyn Error>> {
    let Some(args) = Args::read()? else { return Ok(None) };
    let cache = store::cache_over(&args.store)?.policy(args.policy.clone()).build()?;
    Ok(Some((cache, args)))
}

async fn serve(cache: Cache, args: Args) -> io::Result<()> {
    let origin = web::Data::new(args.origin);
    let mut server = HttpServer::new(move || {
        App::new()
            .app_data(origin.clone())
            .wrap(cache.clone())
            // Outside of the cache, so that the cache reads each request as the origin gets it.
            .wrap(from_fn(hop_by_hop::strip))
            .default_service(web::to(forward::forward))
    });
    if let Some(workers) = args.workers {
        server = server.workers(workers.get());
    }
    let server = server.bind_auto_h2c(args.listen)?;
    for addr in server.addrs() {
        println!("listening on {addr}");
    }
    server.run().await
}
