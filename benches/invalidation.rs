//! Compares the purge of a tag that a million responses have with the purge of a tag that one
//! response has. Also measures the purge of all responses.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench invalidation -- [--urls 1000000]
//! ```
//!
//! The bench fails if the purge of a million responses takes more than twice as long as the purge
//! of one response (medians), or if later lookups do not free the purged responses.

#![allow(missing_docs, clippy::expect_used, clippy::disallowed_methods)]

use std::{
    hint::black_box,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use actix_service::Service;
use actix_web::{
    App, Error, HttpResponse,
    body::MessageBody,
    dev::ServiceResponse,
    test::{TestRequest, init_service},
    web,
};
use actix_web_cache::{Cache, CacheHandle, MemoryStore, Policy};

const ROUNDS: usize = 2001;

/// The number of responses for the purge of all responses.
const ALL: usize = 47_000;

/// The number of purges per measurement. A single purge is too short for the clock to measure.
const PURGES: u32 = 16;

fn main() -> ExitCode {
    let given = std::env::args().skip_while(|argument| argument != "--urls").nth(1);
    let urls = given.and_then(|urls| urls.parse().ok()).unwrap_or(1_000_000);
    actix_web::rt::System::new().block_on(async move {
        let no_store = Arc::new(AtomicBool::new(false));
        let app = async |store: &MemoryStore| {
            let policy = Policy::new().default_ttl(Duration::from_secs(86_400)).tag("all");
            let cache = Cache::builder(store.clone()).policy(policy).build().expect("a cache");
            let no_store = Arc::clone(&no_store);
            let page = move |n: web::Path<u64>| {
                let no_store = no_store.load(Ordering::Relaxed);
                async move {
                    let mut page = HttpResponse::Ok();
                    if no_store {
                        page.insert_header(("cache-control", "no-store"));
                    }
                    page.body(n.to_string())
                }
            };
            let handle = cache.handle();
            (init_service(App::new().wrap(cache).route("/{n}", web::get().to(page))).await, handle)
        };
        let (small, large) = (MemoryStore::new(4 << 30), MemoryStore::new(4 << 30));
        let ((one, purges_one), (many, purges_many)) = (app(&small).await, app(&large).await);
        ask_all(&one, 1).await;
        ask_all(&many, urls).await;
        let bytes = large.bytes();
        let (mut of_one, mut of_many) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            of_one.push(purge(&purges_one).await);
            of_many.push(purge(&purges_many).await);
        }
        let (of_one, of_many) = (median(of_one), median(of_many));
        let ratio = of_many.as_secs_f64() / of_one.as_secs_f64();
        println!("purge_tag   1 response {of_one:?}, {urls} responses {of_many:?}: x {ratio:.2} (wanted: 2)");
        // From now on, handlers send `no-store`, and each lookup frees a purged response.
        no_store.store(true, Ordering::Relaxed);
        let stored = large.len();
        ask_all(&many, urls).await;
        println!("memory      {stored} URLs of {bytes} bytes; after lookups {} of {} bytes are left", large.len(), large.bytes());
        no_store.store(false, Ordering::Relaxed);
        let store = MemoryStore::new(1 << 30);
        let (app, handle) = app(&store).await;
        ask_all(&app, ALL).await;
        let started = Instant::now();
        handle.purge_all().await.expect("a purge");
        println!("purge_all   {ALL} responses {:?}", started.elapsed());
        if ratio <= 2.0 && large.len() < urls as u64 / 100 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}

async fn ask_all<B: MessageBody>(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    urls: usize,
) {
    for n in 0..urls {
        let request = TestRequest::get().uri(&format!("/{n}")).insert_header(("host", "localhost"));
        drop(app.call(request.to_request()).await.expect("a response"));
    }
    // Wait, because the store updates its counts in the background.
    actix_web::rt::time::sleep(Duration::from_secs(3)).await;
}

async fn purge(handle: &CacheHandle) -> Duration {
    let started = Instant::now();
    for _ in 0..PURGES {
        black_box(handle.purge_tag("all").await.expect("a purge"));
    }
    started.elapsed() / PURGES
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
