//! Counts the allocations of a hit, and of a handler that sends the same header fields.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench allocations
//! ```

#![allow(missing_docs, clippy::expect_used)]

use std::alloc::System;

use actix_service::Service;
use actix_web::{
    App, Error, HttpResponse,
    body::{MessageBody, to_bytes},
    dev::ServiceResponse,
    http::header::{CACHE_CONTROL, ETAG, EXPIRES},
    test::{TestRequest, init_service},
    web,
};
use actix_web_cache::{Cache, MemoryStore};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const ROUNDS: usize = 10_000;

fn main() {
    actix_web::rt::System::new().block_on(async {
        let fields =
            init_service(App::new().route("/page", web::get().to(page_with_cache_fields))).await;
        let cache = Cache::new(MemoryStore::new(64 * 1024 * 1024));
        let cached = init_service(App::new().wrap(cache).route("/page", web::get().to(page))).await;
        let (fields, hit) = (count(&fields).await, count(&cached).await);
        println!("fields {:6.2} allocations {:8.0} bytes per request", fields.0, fields.1);
        println!("hit    {:6.2} allocations {:8.0} bytes per request", hit.0, hit.1);
    });
}

/// Returns the mean numbers of allocations and of allocated bytes for a request and its response.
async fn count<B: MessageBody>(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
) -> (f64, f64) {
    let request = || {
        TestRequest::get()
            .uri("/page")
            .insert_header(("host", "localhost"))
            .insert_header(("accept-language", "en-US,en;q=0.5"))
            .insert_header(("accept-encoding", "gzip, deflate, br"))
            .to_request()
    };
    // Subtract the allocations of making requests, because the service does not make requests.
    let region = Region::new(ALLOCATOR);
    for _ in 0..ROUNDS {
        drop(request());
    }
    let requests = region.change();
    for _ in 0..100 {
        drop(app.call(request()).await);
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..ROUNDS {
        let response = app.call(request()).await.expect("a response");
        assert_eq!(to_bytes(response.into_body()).await.ok().map(|body| body.len()), Some(2048));
    }
    let all = region.change();
    let mean = |all: usize, requests: usize| (all as f64 - requests as f64) / ROUNDS as f64;
    (
        mean(all.allocations, requests.allocations),
        mean(all.bytes_allocated, requests.bytes_allocated),
    )
}

async fn page() -> HttpResponse {
    HttpResponse::Ok().insert_header((ETAG, "\"0123456789abcdef\"")).body(&[b'x'; 2048][..])
}

async fn page_with_cache_fields() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((ETAG, "\"0123456789abcdef\""))
        .insert_header((CACHE_CONTROL, "max-age=60"))
        .insert_header((EXPIRES, "Sun, 06 Nov 1994 08:49:37 GMT"))
        .insert_header(("age", "7"))
        .insert_header(("cache-status", "actix-web-cache; hit; ttl=53"))
        .body(&[b'x'; 2048][..])
}
