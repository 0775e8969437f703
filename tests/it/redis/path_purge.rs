//! Purges of a path with every query, in processes that share a Redis or a Redis Cluster.

use actix_web_cache::{Policy, store::Store};
use hyper::Method;

use crate::{
    redis::{cache_builder, cluster_url, get_until_hit, own_namespace, store_in, tiered_store},
    support::{RedisCluster, RedisServer, TestApp, requested_response, secs, test_app},
};

const PAGES: [&str; 4] = ["/page", "/page?q=1", "/page?", "/page?q=2"];

fn serve(store: impl Store) -> TestApp {
    let policy = Policy::new().purge_paths_by_requests();
    test_app(&cache_builder(store).policy(policy).build().unwrap(), requested_response)
}

/// Purges `/page` in one process, and checks the responses in both.
async fn check(own: &TestApp, other: &TestApp) {
    let host = [("host", "h")];
    for app in [own, other] {
        for path in PAGES.iter().chain(&["/other"]) {
            get_until_hit(&app.client, path, &host).await;
        }
    }
    assert_eq!(own.client.send(Method::PUT, "/page?q=9", &host).await.status, 200);
    let (for_own, for_other) = PAGES.split_at(2);
    for path in for_own {
        assert!(!own.client.get_with(path, &host).await.is_hit(), "{path}");
    }
    // Memory in another process follows within some milliseconds.
    let fresh = async {
        for path in for_other {
            while other.client.get_with(path, &host).await.is_hit() {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::time::timeout(secs(10), fresh).await.expect("the copies in memory are purged");
    for app in [own, other] {
        assert!(app.client.get_with("/other", &host).await.is_hit());
    }
}

#[actix_web::test]
async fn path_purge_reaches_other_processes() {
    let redis = RedisServer::start();
    let namespace = own_namespace();
    let store = || store_in(redis.url(), &namespace);
    check(&serve(store()), &serve(store())).await;
    check(&serve(tiered_store(store())), &serve(tiered_store(store()))).await;
}

#[actix_web::test]
async fn path_purge_reaches_all_nodes_of_a_cluster() {
    let cluster = RedisCluster::start();
    let namespace = own_namespace();
    let store = || store_in(cluster_url(&cluster), &namespace);
    check(&serve(store()), &serve(store())).await;
}
