//! Copies count toward the limit of a memory store.

use actix_web::{HttpRequest, HttpResponse};
use actix_web_cache::{Cache, MemoryStore};

use super::{CODINGS, CountingStore, get_coded, page, policy, streamed};
use crate::support::{test_app, wait_until};

const MIB: usize = 1024 * 1024;

fn numbered_page(request: &HttpRequest, _: usize) -> HttpResponse {
    let body = format!("{}{}", page(), request.path());
    HttpResponse::Ok().content_type("text/html").body(body)
}

/// 300 pages of 50 KB, each with three copies, would take more than 16 MiB.
#[actix_web::test]
async fn pages_with_copies_stay_within_the_bytes_of_the_store() {
    let store = MemoryStore::new(8 * MIB);
    let cache = Cache::builder(store.clone()).policy(policy()).build().unwrap();
    let app = test_app(&cache, numbered_page);
    let mut most = 0;
    for n in 0..300 {
        let path = format!("/{n}");
        for coding in CODINGS {
            app.client.get_with(&path, &[("accept-encoding", coding)]).await;
        }
        // The store evicts entries in passes.
        let _ = store.len();
        most = most.max(store.bytes());
    }
    assert!(most <= 8 * MIB as u64, "{most} bytes");
    // Few pages were evicted, so the store is nearly full.
    assert!(most > 6 * MIB as u64, "{most} bytes");
}

/// The bytes of a copy are those of the store, until its page is purged.
#[actix_web::test]
async fn copies_are_counted_and_freed_with_their_page() {
    let store = MemoryStore::new(64 * MIB);
    let cache = Cache::builder(store.clone()).policy(policy()).build().unwrap();
    let app = test_app(&cache, numbered_page);
    let bytes = || {
        let _ = store.len();
        store.bytes()
    };
    app.client.get("/").await;
    let plain = bytes();
    let mut copies = 0;
    for coding in CODINGS {
        copies += get_coded(&app.client, "/", coding).await.body.len() as u64;
    }
    let grown = bytes() - plain;
    assert!(grown >= copies && grown < copies + 600, "{grown} for copies of {copies}");
    let url = format!("http://{}/", app.server.addr);
    cache.handle().purge_url(&url).await.unwrap();
    assert_eq!(bytes(), 0);
}

/// An eighth of the store is the limit of a page with all its copies.
#[actix_web::test]
async fn copy_that_is_too_large_for_the_store_is_not_kept_and_the_page_is_coded_for_each_client() {
    // A page of 51 KB fits into an eighth, but not with a copy of 7 KB.
    let inner = MemoryStore::new(8 * (page().len() + 4000));
    let store = CountingStore { inner, ..CountingStore::default() };
    let cache = Cache::builder(store.clone()).policy(policy()).build().unwrap();
    let app = test_app(&cache, numbered_page);
    for round in 0..10 {
        let answer = app.client.get_with("/", &[("accept-encoding", "gzip")]).await;
        assert_eq!(answer.is_hit(), round > 0);
        let body = streamed(&answer, "gzip", "no copy");
        assert!(body == format!("{}/", page()).as_bytes());
        wait_until("the copy was made once", || store.copies.get() == 1).await;
    }
}
