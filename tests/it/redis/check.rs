//! The check at start-up whether Redis can be used.

use actix_web_cache::{
    RedisStore,
    redis::{RedisSource, RedisStoreError},
};

use crate::{
    redis::{cluster_url, own_store, shop},
    support::{RedisCluster, RedisServer, free_port, refusing_addr},
};

/// Returns the reason why a store cannot be used.
async fn refusal(store: RedisStore) -> String {
    match store.check().await {
        Err(RedisStoreError::Unusable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn check_passes_and_changes_nothing_when_redis_works() {
    let redis = RedisServer::start();
    let store = own_store(redis.url());
    store.check().await.unwrap();
    store.check().await.unwrap();
    let site = shop(store.clone());
    site.get_until_hit("/page").await;
    store.check().await.unwrap();
    assert!(site.get("/page").await.is_hit);
    assert!(!store.stats().circuit_open);
}

#[actix_web::test]
async fn check_passes_for_a_cluster() {
    let cluster = RedisCluster::start();
    own_store(cluster_url(&cluster)).check().await.unwrap();
}

#[actix_web::test]
async fn check_names_the_reason_why_redis_cannot_be_used() {
    let store = own_store(format!("redis://{}", refusing_addr()));
    let reason = refusal(store.clone()).await;
    assert!(reason.contains("cannot be reached"), "{reason}");
    assert!(!store.stats().circuit_open, "a failed check does not stop later calls");

    let redis = RedisServer::start();
    redis.command(&["ACL", "SETUSER", "weak", "on", ">right", "~*", "+ping", "+client"]);
    redis.command(&["ACL", "SETUSER", "strong", "on", ">right", "~*", "&*", "+@all"]);
    let source: RedisSource = redis.url().parse().unwrap();
    for (user, password, want) in [
        ("nobody", "right", Some("check user and password")),
        ("strong", "wrong", Some("check user and password")),
        ("weak", "right", Some("the user needs more permissions")),
        ("strong", "right", None),
    ] {
        let store = own_store(source.clone().username(user).password(password));
        match want {
            Some(want) => {
                let reason = refusal(store).await;
                assert!(reason.contains(want), "{user} {password}: {reason}");
            }
            None => store.check().await.unwrap(),
        }
    }

    let replica = RedisServer::start();
    replica.command(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let reason = refusal(own_store(replica.url())).await;
    assert!(reason.contains("the server is a replica"), "{reason}");
}
