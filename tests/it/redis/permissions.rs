//! The Redis user with least privilege, exactly as the guide documents it.

use std::fs;

use actix_web_cache::{RedisStore, TieredStore, redis::RedisSource};

use crate::{
    redis::{cluster_url, shop},
    support::{PageServer, RedisCluster, RedisSentinel, RedisServer, secs},
};

/// The command of the guide for this kind of servers, in the namespace `shop`, with further
/// permissions for leases.
fn documented_user(kind: &str) -> Vec<String> {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/many-processes.md");
    let guide = fs::read_to_string(guide).unwrap();
    let section = guide.split("## Restrict the permissions").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let block = section.split("```text\n").nth(1).unwrap().split("```").next().unwrap();
    let mut words: Vec<_> = block.split_whitespace().map(str::to_owned).collect();
    let further = |name: &str| {
        let line = section.lines().find(|line| line.starts_with(&format!("* {name}: "))).unwrap();
        let permissions = line.split('`').skip(1).step_by(2);
        permissions.flat_map(str::split_whitespace).map(str::to_owned).collect::<Vec<_>>()
    };
    words.extend(further("leases"));
    if kind != "single server" {
        words.extend(further(kind));
    }
    words
}

async fn works_within_its_permissions(case: &str, site: &PageServer, nodes: &[&RedisServer]) {
    site.get_until_hit("/page").await;
    site.handle().purge_url(&site.url("/page")).await.unwrap();
    assert!(!site.get("/page").await.is_hit, "{case}: purged");
    site.get_until_hit("/page").await;
    site.handle().purge_tag("page").await.unwrap();
    assert!(!site.get("/page").await.is_hit, "{case}: purged by its tag");
    site.get_until_hit("/page").await;
    for node in nodes {
        assert_eq!(node.command(&["ACL", "LOG"]), "", "{case}: a refused command");
    }
    assert!(site.warnings().is_empty(), "{case}: {:?}", site.warnings());
}

async fn stores_work(case: &str, source: RedisSource, nodes: &[&RedisServer]) {
    for node in nodes {
        node.command(&documented_user(case));
    }
    let source = source.username("cache").password("PASSWORD");
    let store = || RedisStore::builder(source.clone(), "shop").lease(secs(5)).build().unwrap();
    works_within_its_permissions(case, &shop(store()), nodes).await;
    let tiered = TieredStore::new(store());
    works_within_its_permissions(case, &PageServer::over(tiered), nodes).await;
}

#[actix_web::test]
async fn documented_user_suffices_for_a_single_server() {
    let redis = RedisServer::start();
    stores_work("single server", redis.url().parse().unwrap(), &[&redis]).await;
}

#[actix_web::test]
async fn documented_user_suffices_for_a_cluster() {
    let cluster = RedisCluster::start();
    let nodes = [0, 1, 2].map(|node| cluster.node(node));
    stores_work("Cluster", cluster_url(&cluster).parse().unwrap(), &nodes).await;
}

#[actix_web::test]
async fn documented_user_suffices_behind_sentinels() {
    let sentinel = RedisSentinel::start();
    let nodes = [sentinel.master(), sentinel.other()];
    let url = format!("redis-sentinel://{}/{}", sentinel.sentinel().addr(), RedisSentinel::MASTER);
    stores_work("Sentinel", url.parse().unwrap(), &nodes).await;
}
