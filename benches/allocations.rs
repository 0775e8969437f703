//! What a hit allocates, beside a handler that sends the same fields: counted, not timed.
//!
//! ```sh
//! cargo bench --bench allocations
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
        let limit = init_service(App::new().route("/page", web::get().to(dressed))).await;
        let cache = Cache::new(MemoryStore::new(64 * 1024 * 1024));
        let cached = init_service(App::new().wrap(cache).route("/page", web::get().to(page))).await;
        let (limit, hit) = (count(&limit).await, count(&cached).await);
        println!("limit  {:6.2} allocations {:8.0} bytes a request", limit.0, limit.1);
        println!("hit    {:6.2} allocations {:8.0} bytes a request", hit.0, hit.1);
    });
}

/// Allocations and bytes of one request, its answer read to the end.
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
    // Of requests being made, which is none of the service's doing.
    let region = Region::new(ALLOCATOR);
    for _ in 0..ROUNDS {
        drop(request());
    }
    let made = region.change();
    for _ in 0..100 {
        drop(app.call(request()).await);
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..ROUNDS {
        let answer = app.call(request()).await.expect("an answer");
        assert_eq!(to_bytes(answer.into_body()).await.ok().map(|body| body.len()), Some(2048));
    }
    let all = region.change();
    let each = |all: usize, made: usize| (all as f64 - made as f64) / ROUNDS as f64;
    (each(all.allocations, made.allocations), each(all.bytes_allocated, made.bytes_allocated))
}

async fn page() -> HttpResponse {
    HttpResponse::Ok().insert_header((ETAG, "\"0123456789abcdef\"")).body(&[b'x'; 2048][..])
}

async fn dressed() -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((ETAG, "\"0123456789abcdef\""))
        .insert_header((CACHE_CONTROL, "max-age=60"))
        .insert_header((EXPIRES, "Sun, 06 Nov 1994 08:49:37 GMT"))
        .insert_header(("age", "7"))
        .insert_header(("cache-status", "actix-web-cache; hit; ttl=53"))
        .body(&[b'x'; 2048][..])
}
