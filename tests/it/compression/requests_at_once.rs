//! Many requests at once for a page without a copy.

use actix_web_cache::Cache;
use futures_util::future::join_all;

use super::{CODINGS, CountingStore, Site, decoded, page, policy, streamed};
use crate::support::{Client, Protocol, secs, wait_until};

/// Each copy is made once, and no client waits for it: all get the page, coded while it is sent, or a
/// copy.
#[actix_web::test]
async fn copy_is_made_once_while_all_clients_get_the_page() {
    let store = CountingStore::default();
    let cache = Cache::builder(store.clone()).policy(policy()).build().unwrap();
    let site = Site::with(&cache, 2, Protocol::Http1);
    site.client.get("/").await;
    let requests = (0..200).map(|n| {
        let (client, coding) = (Client::new(site.server.addr, Protocol::Http1), CODINGS[n % 3]);
        async move { (coding, client.get_with("/", &[("accept-encoding", coding)]).await) }
    });
    for (coding, answer) in join_all(requests).await {
        assert!(answer.is_hit(), "{}", answer.cache_status());
        assert_eq!(answer.field("content-encoding").as_deref(), Some(coding));
        assert!(decoded(coding, &answer.body) == page().as_bytes());
    }
    for coding in CODINGS {
        site.get_coded("/", coding).await;
    }
    assert_eq!((site.runs.get(), store.copies.get()), (1, 3));
}

/// While a copy is being kept from the store, the page is coded for each client.
#[actix_web::test]
async fn no_client_waits_for_a_copy() {
    let store = CountingStore::default();
    let builder = Cache::builder(store.clone()).policy(policy()).store_timeout(secs(60));
    let site = Site::new(&builder.build().unwrap());
    let held = store.hold_copies.clone().acquire_owned().await.unwrap();
    site.get("/", "gzip").await;
    wait_until("the copy is made", || store.copies.get() == 1).await;
    for _ in 0..5 {
        let answer = site.get("/", "gzip").await;
        assert!(answer.is_hit() && streamed(&answer, "gzip", "no copy yet") == page().as_bytes());
    }
    drop(held);
    site.get_coded("/", "gzip").await;
    assert_eq!(store.copies.get(), 1);
}
