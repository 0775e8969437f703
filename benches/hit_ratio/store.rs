//! The real `MemoryStore`, in a cache in front of a handler.

use std::{
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use actix_service::Service;
use actix_web::{
    App, HttpResponse,
    body::MessageBody,
    rt::System,
    test::{TestRequest, init_service},
    web,
};
use actix_web_cache::{Cache, MemoryStore, Policy};
use bytes::Bytes;

use crate::replay::{Hits, Load};

/// The bytes of bodies are equal, so that a body is a part of one static array.
static BODY: [u8; 2 * 1024 * 1024] = [b'x'; 2 * 1024 * 1024];

/// The number of requests that the handler answered, which are those without a hit, and the bytes
/// of their bodies.
#[derive(Default)]
struct Misses {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Returns the bytes that `MemoryStore` counts for an entry besides the body.
pub(crate) fn measure_overhead() -> u32 {
    let store = MemoryStore::new(1024 * 1024);
    let load = [(0, 1000)];
    request_all(store.clone(), load.into_iter());
    assert_eq!(store.len(), 1, "the response is stored");
    (store.bytes() - 1000) as u32
}

/// Returns the hits of a `MemoryStore` of `capacity` bytes.
pub(crate) fn replay(load: &Load, capacity: u64) -> Hits {
    let trace = &load.trace;
    let sizes = trace.requests.iter().map(|&page| (page, trace.sizes[page as usize]));
    let (requests, bytes) = request_all(MemoryStore::new(capacity as usize), sizes);
    Hits {
        requests: trace.requests.len() as f64 - requests as f64,
        bytes: load.bytes() as f64 - bytes as f64,
    }
}

/// Requests pages of these sizes from a cache with this store. Returns the number of requests that
/// the handler has answered, and the bytes of their bodies.
fn request_all(store: MemoryStore, pages: impl Iterator<Item = (u32, u32)>) -> (u64, u64) {
    // The tag of a content is a digest of the whole body, which takes time. No request needs it.
    let policy = Policy::new().default_ttl(Duration::from_secs(86_400)).no_content_tags();
    let cache = Cache::builder(store).policy(policy).build().expect("a valid policy");
    let misses = web::Data::new(Misses::default());
    System::new().block_on(async {
        let app = App::new()
            .app_data(web::Data::clone(&misses))
            .wrap(cache)
            .route("/{page}/{size}", web::get().to(page));
        let service = init_service(app).await;
        for (page, size) in pages {
            let request = TestRequest::get().uri(&format!("/{page:07}/{size:07}")).to_request();
            let response = service.call(request).await.expect("a response");
            finish(response.into_body()).await;
        }
    });
    (misses.requests.load(Ordering::Relaxed), misses.bytes.load(Ordering::Relaxed))
}

async fn page(path: web::Path<(u32, u32)>, misses: web::Data<Misses>) -> HttpResponse {
    let size = path.1;
    misses.requests.fetch_add(1, Ordering::Relaxed);
    misses.bytes.fetch_add(size.into(), Ordering::Relaxed);
    HttpResponse::Ok().body(Bytes::from_static(&BODY[..size as usize]))
}

/// Reads a body to its end, so that the cache stores the response.
async fn finish(body: impl MessageBody) {
    let mut body = pin!(body);
    while let Some(part) = poll_fn(|context| body.as_mut().poll_next(context)).await {
        assert!(part.is_ok(), "the body is complete");
    }
}
