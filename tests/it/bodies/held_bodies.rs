//! Clients that do not read hits take a limited part of the memory, even if the store drops the
//! stored bodies meanwhile.

use std::{net::Ipv4Addr, sync::Arc};

use actix_web::{App, HttpRequest, HttpResponse, dev::Service as _, web};
use actix_web_cache::{
    Cache, CacheHandle, MemoryStore, Policy, RedisStore,
    store::{Coordinator, Store},
};
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::idle_client::IdleClient;
use crate::support::{
    Answer, Client, Counter, Protocol, RedisServer, Server, fills_ended, secs, serve, wait_until,
};

const MIB: usize = 1024 * 1024;

/// The size of the memory store.
const STORE: usize = 192 * MIB;

/// The largest number of bytes that responses to one client hold, with a memory store of this size.
const LIMIT: usize = STORE / 8 / 2;

/// The same with a store that states no size.
const LEAST_LIMIT: usize = 6 * MIB;

/// The length of each page. It is more than the server and the operating system buffer for a client
/// that does not read.
const LENGTH: usize = 6 * MIB;

/// The length of a page that the server copies into the buffer of the connection at once.
const SHORT: usize = 300 * 1024;

/// The number of pages that responses to one client may hold.
const PAGES: usize = LIMIT / LENGTH;

/// The address of a second client.
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn body_of(path: &str) -> Vec<u8> {
    let length = if path.ends_with("/short") { SHORT } else { LENGTH };
    path.bytes().cycle().take(length).collect()
}

struct PageServer {
    server: Server,
    /// Requests that have arrived at the cache.
    arrived: Counter,
    /// Calls of the handler.
    runs: Counter,
    /// One permit lets one call for a page below `/gated` respond.
    gate: Arc<Semaphore>,
    coordinator: Coordinator,
    handle: CacheHandle,
}

/// A server with pages at any path. Pages below `/validated` are validated for each request.
fn page_server(store: impl Store + Clone) -> PageServer {
    let coordinator = store.coordinator().clone();
    let policy = Policy::new().default_ttl(secs(600)).max_body_size(LENGTH);
    let builder = Cache::builder(store).policy(policy);
    let cache = builder.lookup_timeout(secs(20)).store_timeout(secs(20)).build().unwrap();
    let (arrived, runs, handle) = (Counter::default(), Counter::default(), cache.handle());
    let gate = Arc::new(Semaphore::new(0));
    let shared = (arrived.clone(), runs.clone(), Arc::clone(&gate));
    let server = serve(2, move || {
        let (arrived, runs, gate) = shared.clone();
        let handler = move |request: HttpRequest| {
            runs.count();
            let is_validated = request.headers().contains_key("if-none-match");
            let mut response = HttpResponse::Ok();
            response.insert_header(("etag", "\"1\""));
            if request.path().starts_with("/validated") {
                response.insert_header(("cache-control", "no-cache"));
            }
            let response = if is_validated {
                HttpResponse::NotModified().finish()
            } else {
                response.body(body_of(request.path()))
            };
            let gate = request.path().starts_with("/gated").then(|| Arc::clone(&gate));
            async {
                if let Some(gate) = gate {
                    gate.acquire().await.unwrap().forget();
                }
                response
            }
        };
        App::new().default_service(web::to(handler)).wrap(cache.clone()).wrap_fn(
            move |request, inner| {
                arrived.count();
                inner.call(request)
            },
        )
    });
    PageServer { server, arrived, runs, gate, coordinator, handle }
}

impl PageServer {
    /// Stores these pages.
    async fn store(&self, paths: impl Iterator<Item = String>) {
        let client = Client::new(self.server.addr, Protocol::Http1);
        for path in paths {
            assert!(client.get(&path).await.is_stored(), "{path}");
            fills_ended(&self.coordinator).await;
        }
    }

    /// Sends a request for each page from clients at one address. Reads the heads of the responses
    /// only.
    async fn idle_clients(&self, paths: impl Iterator<Item = String>) -> Vec<IdleClient> {
        let clients = paths.map(async |path| {
            let mut client = IdleClient::get(self.server.addr, &path).await;
            let head = client.read_head().await;
            assert!(head.contains("; hit") || head.contains("; fwd-status=304"), "{path}: {head}");
            client
        });
        join_all(clients).await
    }

    /// Gets a page from a client that reads it, and compares the body.
    async fn get(&self, path: &str) -> Answer {
        let answer = Client::new(self.server.addr, Protocol::Http1).get(path).await;
        assert!(answer.body == body_of(path), "{path}: {} bytes", answer.body.len());
        answer
    }

    async fn all_read(&self) {
        wait_until("no response holds a body", || self.coordinator.bytes_in_hits() == 0).await;
    }
}

fn pages(kind: &'static str, count: usize) -> impl Iterator<Item = String> {
    (0..count).map(move |n| format!("/{kind}/{n}"))
}

fn is_refused(answer: &Answer) -> bool {
    answer.cache_status() == "fwd=bypass; stored; detail=slow-clients"
}

async fn check_limit(store: impl Store + Clone, limit: usize) {
    let site = page_server(store);
    let count = limit / LENGTH;
    site.store(pages("page", count + 1)).await;
    let idle = site.idle_clients(pages("page", count)).await;
    assert_eq!(site.coordinator.bytes_in_hits(), limit);

    // A response without a body is within the limit.
    let client = Client::new(site.server.addr, Protocol::Http1);
    let page = format!("/page/{count}");
    for answer in
        [client.get_with(&page, &[("if-none-match", "\"1\"")]).await, client.head(&page).await]
    {
        assert!(answer.is_hit() && answer.body.is_empty(), "{}", answer.cache_status());
    }
    // The handler makes the response that exceeds the limit.
    let (last, runs) = (format!("/page/{count}"), site.runs.get());
    let refused = site.get(&last).await;
    assert!(is_refused(&refused), "{}", refused.cache_status());
    assert_eq!(site.runs.get(), runs + 1);
    // A page counts once, so a further response of it is within the limit.
    assert!(site.get("/page/0").await.is_hit());
    // The limit for one client leaves bytes to another.
    let mut other = IdleClient::get_from(OTHER, site.server.addr, &last, "").await;
    assert!(other.read_head().await.contains("; hit"));
    assert_eq!(site.coordinator.bytes_in_hits(), limit + LENGTH);

    // The bodies count even if the store has dropped them.
    site.handle.purge_all().await.unwrap();
    assert_eq!(site.coordinator.bytes_in_hits(), limit + LENGTH);

    for (client, path) in idle.into_iter().zip(pages("page", count)) {
        assert!(client.read_body().await == body_of(&path), "{path}");
    }
    assert!(other.read_body().await == body_of(&last));
    site.all_read().await;
    site.store([last.clone()].into_iter()).await;
    assert!(site.get(&last).await.is_hit());
}

#[actix_web::test]
async fn concurrent_requests_beyond_the_limit_share_one_call_of_the_handler() {
    for page in ["/gated", "/gated/short"] {
        check_sharing(MemoryStore::new(STORE), page, [1, 5]).await;
        // The page is not stored yet.
        check_sharing(MemoryStore::new(STORE), page, [0, 5]).await;
    }
}

/// `stored` and `requests` are the numbers of requests before and after the limit is reached.
async fn check_sharing(store: MemoryStore, page: &str, [stored, requests]: [usize; 2]) {
    let site = page_server(store);
    site.gate.add_permits(stored);
    site.store(std::iter::repeat_n(page.to_owned(), stored)).await;
    site.store(pages("page", PAGES)).await;
    let idle = site.idle_clients(pages("page", PAGES)).await;
    let (arrived, runs) = (site.arrived.get(), site.runs.get());
    let answers = join_all((0..requests).map(|_| site.get(page)));
    let release = async {
        wait_until("all requests have arrived", || site.arrived.get() == arrived + requests).await;
        site.gate.add_permits(1);
    };
    let (answers, ()) = tokio::join!(answers, release);
    assert_eq!(site.runs.get(), runs + 1, "{page}");
    assert_eq!(answers.iter().filter(|answer| is_refused(answer)).count(), stored, "{page}");
    drop(idle);
    site.all_read().await;
}

fn redis_store(redis: &RedisServer) -> RedisStore {
    let builder = RedisStore::builder(redis.url(), "held");
    builder.lookup_timeout(secs(20)).write_timeout(secs(20)).build().unwrap()
}

#[actix_web::test]
async fn bodies_of_clients_that_do_not_read_are_limited_in_memory() {
    check_limit(MemoryStore::new(STORE), LIMIT).await;
}

#[actix_web::test]
async fn bodies_of_clients_that_do_not_read_are_limited_in_redis() {
    let redis = RedisServer::start();
    check_limit(redis_store(&redis), LEAST_LIMIT).await;
}

#[actix_web::test]
async fn responses_from_redis_with_one_page_hold_one_body() {
    let redis = RedisServer::start();
    let site = page_server(redis_store(&redis));
    site.store(pages("page", 1)).await;
    let idle = site.idle_clients(std::iter::repeat_n("/page/0".to_owned(), 20)).await;
    assert_eq!(site.coordinator.bytes_in_hits(), LENGTH);
    drop(idle);
    site.all_read().await;
}

#[actix_web::test]
async fn ranges_hold_the_body_without_copying_it() {
    let site = page_server(MemoryStore::new(STORE));
    site.store(pages("page", 1)).await;
    let part = 3 * LENGTH / 8;
    for (ranges, length) in [
        (format!("0-{}", LENGTH - 2), LENGTH - 1),
        (format!("0-{},{}-", part - 1, LENGTH - part), 2 * part),
    ] {
        let fields = format!("Range: bytes={ranges}\r\n");
        let client =
            IdleClient::get_from(Ipv4Addr::LOCALHOST, site.server.addr, "/page/0", &fields);
        let mut client = client.await;
        let head = client.read_head().await;
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        assert_eq!(site.coordinator.bytes_in_hits(), LENGTH, "{ranges}");
        let body = client.read_body().await;
        assert!((length..length + 500).contains(&body.len()), "{ranges}: {} bytes", body.len());
        site.all_read().await;
    }
}

#[actix_web::test]
async fn bodies_that_the_handler_validates_are_limited() {
    let site = page_server(MemoryStore::new(STORE));
    site.store(pages("validated", PAGES + 1)).await;
    let runs = site.runs.get();
    let idle = site.idle_clients(pages("validated", PAGES)).await;
    assert_eq!(site.coordinator.bytes_in_hits(), LIMIT);
    assert_eq!(site.runs.get(), runs + PAGES);
    let refused = site.get(&format!("/validated/{PAGES}")).await;
    assert!(is_refused(&refused), "{}", refused.cache_status());
    drop(idle);
    site.all_read().await;
}
