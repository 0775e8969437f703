//! Measures the effect of unsafe requests for invented URLs on the stored responses of other URLs.
//!
//! The bench stores some pages, sends many `POST` requests with different queries, and then counts
//! how many of the pages are still hits. It does so for caches with and without key parts.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench url_floods -- [--posts 100000] [--redis redis://127.0.0.1:6379]
//! ```
//!
//! The bench fails if a page is no hit any more.

#![allow(missing_docs, clippy::expect_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use actix_service::Service;
use actix_web::{
    App, Error, HttpResponse,
    body::{MessageBody, to_bytes},
    dev::ServiceResponse,
    http::{Method, header::HeaderMap},
    test::{TestRequest, init_service},
    web,
};
use actix_web_cache::{Cache, MemoryStore, Policy, RedisStore};
use futures_util::future::join_all;

/// The number of stored pages.
const PAGES: usize = 1000;

/// The number of tenants of one URL.
const TENANTS: usize = 10_000;

fn main() -> ExitCode {
    let argument = |name: &str| std::env::args().skip_while(|argument| argument != name).nth(1);
    let posts = argument("--posts").and_then(|posts| posts.parse().ok()).unwrap_or(100_000);
    let redis = argument("--redis");
    actix_web::rt::System::new().block_on(async move {
        let mut good = true;
        for parts in ["no key parts", "key parts"] {
            let store = MemoryStore::new(1 << 30);
            good &= flood(&format!("memory, {parts}"), cache(Cache::builder(store), parts), posts)
                .await;
            if let Some(url) = &redis {
                // Each run has a namespace of its own.
                let namespace = format!("flood-{}-{parts}", std::process::id());
                let store = RedisStore::new(url.as_str(), namespace).expect("a store");
                good &=
                    flood(&format!("Redis, {parts}"), cache(Cache::builder(store), parts), posts)
                        .await;
            }
        }
        tenants(cache(Cache::builder(MemoryStore::new(1 << 30)), "key parts")).await;
        if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    })
}

fn cache(builder: actix_web_cache::CacheBuilder, parts: &str) -> Cache {
    let policy = Policy::new().default_ttl(Duration::from_secs(3600));
    let policy = if parts == "key parts" { policy.key_header("x-tenant") } else { policy };
    let generous = Duration::from_secs(5);
    builder
        .policy(policy)
        .lookup_timeout(generous)
        .store_timeout(generous)
        .build()
        .expect("a cache")
}

async fn flood(case: &str, cache: Cache, posts: usize) -> bool {
    let page = || async { HttpResponse::Ok().body("page") };
    let app = App::new().wrap(cache).default_service(web::to(page));
    let app = init_service(app).await;
    for _ in 0..2 {
        for n in 0..PAGES {
            send(&app, Method::GET, &format!("/{n}"), "").await;
        }
    }
    let begin = Instant::now();
    for first in (0..posts).step_by(50) {
        join_all((first..posts.min(first + 50)).map(|n| {
            let app = &app;
            async move { send(app, Method::POST, &format!("/0?{n}"), "").await }
        }))
        .await;
    }
    let per_post = begin.elapsed() / u32::try_from(posts.max(1)).unwrap_or(u32::MAX);
    let mut hits = 0;
    for n in 0..PAGES {
        hits += usize::from(is_hit(&send(&app, Method::GET, &format!("/{n}"), "").await));
    }
    println!("{case}: {posts} POSTs of {per_post:?} each; {hits} of {PAGES} pages are still hits");
    hits == PAGES
}

async fn tenants(cache: Cache) {
    let page = || async { HttpResponse::Ok().body("page") };
    let handle = cache.handle();
    let app = init_service(App::new().wrap(cache).default_service(web::to(page))).await;
    for pages in ["one URL for all", "a URL for each"] {
        let path =
            |n: usize| if pages == "one URL for all" { "/".to_owned() } else { format!("/{n}") };
        let mut times = Vec::new();
        for _ in 0..2 {
            let begin = Instant::now();
            for n in 0..TENANTS {
                send(&app, Method::GET, &path(n), &n.to_string()).await;
            }
            times.push(begin.elapsed() / u32::try_from(TENANTS).expect("a number"));
        }
        println!("{TENANTS} tenants, {pages}: first each a miss, then a hit: {times:?}");
    }
    let begin = Instant::now();
    let purged = handle.purge_url("http://localhost:8080/").await.expect("a purge");
    println!("purge of the URL of all tenants: {:?}, {purged}", begin.elapsed());
}

async fn send<B: MessageBody>(
    app: &impl Service<actix_http::Request, Response = ServiceResponse<B>, Error = Error>,
    method: Method,
    path: &str,
    tenant: &str,
) -> HeaderMap {
    let request = TestRequest::with_uri(path)
        .method(method)
        .insert_header(("host", "localhost:8080"))
        .insert_header(("x-tenant", tenant));
    let response = app.call(request.to_request()).await.expect("a response");
    let fields = response.headers().clone();
    drop(to_bytes(response.into_body()).await);
    fields
}

fn is_hit(fields: &HeaderMap) -> bool {
    let status = fields.get("cache-status").and_then(|status| status.to_str().ok());
    status.is_some_and(|status| status.contains("; hit"))
}
