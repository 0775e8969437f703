//! Memory use of the memory store: entries take no more memory than they count for.

use std::{future::ready, ops::Range};

use actix_web::{App, HttpRequest, HttpResponse, http::header::HeaderValue, web};
use actix_web_cache::{Cache, MemoryStore, Policy};
use bytes::Bytes;
use futures_util::future::join_all;

use crate::support::{
    Client, Protocol, Wire, peak_resident_bytes, resident_bytes, runs_in_own_process, serve, store,
};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The number at the end of a path.
fn number(request: &HttpRequest) -> usize {
    request.path().rsplit('/').next().unwrap().parse().unwrap()
}

#[actix_web::test]
async fn stored_response_retains_neither_request_head_nor_handler_buffer() {
    if !runs_in_own_process(
        "store::memory::stored_response_retains_neither_request_head_nor_handler_buffer",
    ) {
        return;
    }
    const URLS: usize = 400;
    let cache = Cache::builder(store()).policy(Policy::new().key_header("x-keyed"));
    let cache = cache.build().unwrap();
    let server = serve(1, move || {
        App::new().wrap(cache.clone()).default_service(web::to(|request: HttpRequest| {
            // Field values are slices of the request head, the body is a slice of a large buffer.
            let echoed = request.headers().get("x-varied").unwrap().clone();
            let buffer = Bytes::from(vec![b'x'; 100 * KIB]);
            ready(
                HttpResponse::Ok()
                    .insert_header(("vary", "x-varied"))
                    .insert_header(("x-echoed", echoed))
                    .body(buffer.slice(..8)),
            )
        }))
    });
    let mut wire = Wire::open(server.addr);
    let padding = "p".repeat(100 * KIB);
    let mut get = |n: usize, padding: &str| {
        let fields = format!("x-keyed: {n}\r\nx-varied: {n}\r\nx-padding: {padding}\r\n");
        wire.get(&format!("/{n}"), &fields)
    };
    for n in 0..20 {
        assert!(!get(n, &padding).is_hit());
    }
    let before = resident_bytes();
    for n in 20..URLS {
        assert!(!get(n, &padding).is_hit());
    }
    let grown = resident_bytes().saturating_sub(before);
    // To retain all request heads or all handler buffers would take 37 MiB each.
    assert!(grown <= 10 * MIB, "grown by {grown} bytes");
    for n in 0..URLS {
        let hit = get(n, "");
        assert!(hit.is_hit() && hit.line("x-echoed") == Some(&*n.to_string()), "{n}");
    }
}

#[actix_web::test]
async fn store_size_limit_bounds_process_memory() {
    if !runs_in_own_process("store::memory::store_size_limit_bounds_process_memory") {
        return;
    }
    let store = MemoryStore::new(16 * MIB);
    let cache = Cache::new(store.clone());
    let server = serve(2, move || {
        App::new().wrap(cache.clone()).default_service(web::to(|request: HttpRequest| {
            let length = if request.path().starts_with("/large") { MIB } else { 8 * KIB };
            ready(HttpResponse::Ok().body(vec![b'x'; length]))
        }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    client.get("/large/0").await;
    client.get("/small/0").await;
    let before = resident_bytes();
    // Several times as much as fits into the store.
    for n in 1..100 {
        client.get(&format!("/large/{n}")).await;
    }
    for n in 1..3000 {
        client.get(&format!("/small/{n}")).await;
    }
    let grown = peak_resident_bytes().saturating_sub(before);
    assert!(grown <= 24 * MIB, "grown by {grown} bytes");
    assert!(store.bytes() > 8 * 1024 * 1024, "{} bytes are stored", store.bytes());
    assert!(client.get("/small/2999").await.is_hit());
}

/// The memory of a process for small entries includes the bookkeeping of the store.
#[actix_web::test]
async fn many_small_entries_take_at_most_a_quarter_more_than_the_store_size() {
    if !runs_in_own_process(
        "store::memory::many_small_entries_take_at_most_a_quarter_more_than_the_store_size",
    ) {
        return;
    }
    const SIZE: usize = 16 * MIB;
    let store = MemoryStore::new(SIZE);
    let cache = Cache::new(store.clone());
    let server = serve(2, move || {
        App::new()
            .wrap(cache.clone())
            .default_service(web::to(|| ready(HttpResponse::Ok().body(vec![b'x'; 100]))))
    });
    let mut wires = [(); 2].map(|()| Wire::open(server.addr));
    let mut get_all = |urls: Range<usize>| {
        for n in urls {
            assert!(!wires[n % 2].get(&format!("/{n}?cb={n}"), "").is_hit(), "{n}");
        }
    };
    get_all(0..100);
    let before = resident_bytes();
    // About twice as many entries as fit into the store.
    get_all(100..20_000);
    let grown = peak_resident_bytes().saturating_sub(before);
    assert!(grown <= SIZE + SIZE / 4, "grown by {grown} bytes");
    let stored = usize::try_from(store.bytes()).unwrap();
    assert!(stored > SIZE - SIZE / 8 && stored <= SIZE, "{stored} bytes are stored");
}

/// Two clients fill the store at once. The responses in transit take as much memory before
/// responses are stored.
#[actix_web::test]
async fn concurrent_large_bodies_take_at_most_a_quarter_more_than_the_store_size() {
    if !runs_in_own_process(
        "store::memory::concurrent_large_bodies_take_at_most_a_quarter_more_than_the_store_size",
    ) {
        return;
    }
    const SIZE: usize = 64 * MIB;
    let store = MemoryStore::new(SIZE);
    let cache = Cache::new(store.clone());
    let server = serve(2, move || {
        App::new().wrap(cache.clone()).default_service(web::to(|request: HttpRequest| {
            let is_stored = request.path().starts_with("/stored");
            let cache_control = if is_stored { "max-age=60" } else { "no-store" };
            let mut response = HttpResponse::Ok();
            response.insert_header(("cache-control", cache_control));
            ready(response.body(vec![b'x'; MIB]))
        }))
    });
    let clients = [(); 2].map(|()| Client::new(server.addr, Protocol::Http1));
    let get_all = async |folder: &str| {
        let clients = clients.iter().enumerate().map(|(client, connection)| async move {
            for n in 0..150 {
                let answer = connection.get(&format!("/{folder}/{client}/{n}")).await;
                assert_eq!((answer.body.len(), answer.is_hit()), (MIB, false));
            }
        });
        join_all(clients).await;
        peak_resident_bytes()
    };
    let before = get_all("unstored").await;
    let grown = get_all("stored").await.saturating_sub(before);
    assert!(grown <= SIZE + SIZE / 4, "grown by {grown} bytes");
    assert!(store.bytes() > 48 * 1024 * 1024, "{} bytes are stored", store.bytes());
}

#[actix_web::test]
async fn unstored_responses_of_long_urls_take_little_memory_in_nested_caches() {
    if !runs_in_own_process(
        "store::memory::unstored_responses_of_long_urls_take_little_memory_in_nested_caches",
    ) {
        return;
    }
    let cache = Cache::new(MemoryStore::new(MIB));
    let server = serve(1, move || {
        let page = || async { HttpResponse::NotFound().finish() };
        App::new()
            .service(web::resource("/").route(web::to(page)).wrap(cache.clone()))
            .wrap(cache.clone())
    });
    let mut wire = Wire::open(server.addr);
    let query = "q".repeat(60 * KIB);
    let mut get = |n: usize| assert_eq!(wire.get(&format!("/?{query}{n}"), "").status, 404);
    (0..20).for_each(&mut get);
    let before = resident_bytes();
    (20..220).for_each(&mut get);
    let grown = resident_bytes().saturating_sub(before);
    // The URLs have 12 MiB together.
    assert!(grown <= 4 * MIB, "grown by {grown} bytes");
}

#[actix_web::test]
async fn url_keeps_its_latest_variants() {
    // The number of variants that the store keeps of one URL.
    const KEPT: usize = 64;
    let store = store();
    let cache = Cache::new(store.clone());
    let server = serve(1, move || {
        App::new().wrap(cache.clone()).default_service(web::to(|| {
            ready(
                HttpResponse::Ok().insert_header(("vary", "user-agent")).body(vec![b'x'; 64 * KIB]),
            )
        }))
    });
    let client = Client::new(server.addr, Protocol::Http1);
    let agents: Vec<_> = (0..3 * KEPT).map(|n| format!("agent {n}")).collect();
    for agent in &agents {
        assert!(client.get_with("/", &[("user-agent", agent)]).await.is_stored(), "{agent}");
        assert!(client.get_with("/", &[("user-agent", agent)]).await.is_hit(), "{agent}");
    }
    let kept = usize::try_from(store.bytes()).unwrap();
    assert!(kept >= KEPT * 64 * KIB, "{kept} bytes");
    assert!(kept <= KEPT * 66 * KIB, "{kept} bytes");
    for (index, agent) in agents.iter().enumerate().rev().take(2 * KEPT) {
        // From the newest to the oldest: a miss stores its variant again, which evicts another one.
        let answer = client.get_with("/", &[("user-agent", agent)]).await;
        let is_kept = index >= agents.len() - KEPT;
        assert_eq!(answer.is_hit(), is_kept, "{agent}");
    }
}

#[actix_web::test]
async fn bodies_fields_and_keys_count_toward_store_size() {
    const URLS: usize = 50;
    const WEIGHT: usize = 8 * KIB;
    for kind in ["body", "field", "varied field", "key", "keyed field"] {
        let store = store();
        let policy = Policy::new().key_header("x-keyed");
        let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
        let server = serve(1, move || {
            App::new().wrap(cache.clone()).default_service(web::to(move |request: HttpRequest| {
                let weight = "w".repeat(WEIGHT);
                let mut response = HttpResponse::Ok();
                ready(match (number(&request), kind) {
                    // Large enough that the store updates its size at once.
                    (0, _) => response.body("l".repeat(64 * KIB)),
                    (_, "body") => response.body(weight),
                    (_, "field") => {
                        let value = HeaderValue::from_str(&weight).unwrap();
                        response.insert_header(("x-field", value)).body("")
                    }
                    (_, "varied field") => response.insert_header(("vary", "x-varied")).body(""),
                    _ => response.body(""),
                })
            }))
        });
        let mut wire = Wire::open(server.addr);
        let weight = "w".repeat(WEIGHT);
        for n in (0..=URLS).rev() {
            let (path, fields) = match kind {
                _ if n == 0 => ("/0".to_owned(), String::new()),
                "key" => (format!("/{weight}/{n}"), String::new()),
                "keyed field" => (format!("/{n}"), format!("x-keyed: {weight}\r\n")),
                "varied field" => (format!("/{n}"), format!("x-varied: {weight}\r\n")),
                _ => (format!("/{n}"), String::new()),
            };
            wire.get(&path, &fields);
            assert!(wire.get(&path, &fields).is_hit(), "{kind} {n}");
        }
        let bytes = usize::try_from(store.bytes()).unwrap() - 64 * KIB;
        assert!(bytes >= URLS * WEIGHT, "{kind}: {bytes} bytes");
        assert!(bytes <= URLS * (WEIGHT + 2 * KIB), "{kind}: {bytes} bytes");
    }
}
