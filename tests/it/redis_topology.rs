//! A Cluster whose slots move and whose servers end, and a primary that Sentinels replace.

use std::sync::atomic::{AtomicBool, Ordering};

use actix_web_cache::RedisStore;
use futures_util::future::join;

use crate::{
    redis_store::store_at,
    support::{RedisCluster, RedisSentinel, RedisServer, Shop, eventually, resources},
};

fn some(n: usize) -> String {
    format!("/{}", n % 10)
}

fn sorted(server: &RedisServer) -> Vec<String> {
    let mut names = resources(server);
    names.sort_unstable();
    names
}

fn host_of(server: &RedisServer) -> String {
    server.addr().to_string()
}

fn store_on(cluster: &RedisCluster) -> RedisStore {
    let nodes: Vec<_> = (0..3).map(|node| host_of(cluster.node(node))).collect();
    store_at(&format!("redis-cluster://{}", nodes.join(",")))
}

#[actix_web::test]
async fn a_cluster_is_followed_while_its_slots_move() {
    let cluster = RedisCluster::start();
    let store = store_on(&cluster);
    let shop = Shop::over(store.clone());
    for n in 0..10 {
        shop.until_hit(&some(n)).await;
    }
    slots_move_under_load(&cluster, &store, &shop).await;
}

#[actix_web::test]
async fn a_cluster_is_followed_while_its_servers_end() {
    let cluster = RedisCluster::start();
    let store = store_on(&cluster);
    let shop = Shop::over(store.clone());
    a_server_ends(&cluster, &store, &shop).await;
}

/// Those of all resources and of the table itself, each to the next server, while clients ask.
async fn slots_move_under_load(cluster: &RedisCluster, store: &RedisStore, shop: &Shop) {
    let moved = AtomicBool::new(false);
    let moves = async {
        for from in 0..3 {
            let mut keys = resources(cluster.node(from));
            let tables = cluster.node(from).command(&["KEYS", "*{invalidations}"]);
            keys.extend(tables.lines().map(str::to_owned));
            for key in keys {
                // It may have been moved here a moment ago.
                if cluster.node_of(&key) != from {
                    continue;
                }
                let slot = cluster.begin_slot_move(cluster.slot_of(&key), from, (from + 1) % 3);
                // Some are asked for while the slot is open.
                tokio::task::yield_now().await;
                slot.move_keys();
                tokio::task::yield_now().await;
                slot.move_keys();
                slot.finish().await;
            }
        }
        moved.store(true, Ordering::SeqCst);
    };
    let load = async {
        let mut rounds = 0;
        while !moved.load(Ordering::SeqCst) || rounds < 3 {
            shop.load(4, 40, some).await;
            rounds += 1;
        }
    };
    join(load, moves).await;
    for n in 0..10 {
        shop.until_hit(&some(n)).await;
    }
    let before = shop.until_hit("/1").await.run;
    shop.handle().purge_url(&shop.url("/1")).await.unwrap();
    assert!(shop.until_hit("/1").await.run > before);
    assert!(!store.stats().is_open, "{:?}", store.stats());
}

/// One after the other; each comes back empty, with the slots that it had.
async fn a_server_ends(cluster: &RedisCluster, store: &RedisStore, shop: &Shop) {
    let purged = shop.until_hit("/1").await.run;
    shop.handle().purge_url(&shop.url("/1")).await.unwrap();
    for node in 0..3 {
        let server = cluster.node(node);
        server.kill();
        shop.load(4, 60, some).await.assert_within_budget("a server is down");
        let survivor = cluster.node((node + 1) % 3);
        eventually("the others say that the Cluster is down", || {
            survivor.command(&["CLUSTER", "INFO"]).contains("cluster_state:fail")
        })
        .await;
        shop.load(4, 60, some).await.assert_within_budget("the Cluster is down");
        server.restart();
        eventually("the Cluster is well", || {
            (0..3).all(|node| {
                cluster.node(node).command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            })
        })
        .await;
        for n in 0..10 {
            shop.until_hit(&some(n)).await;
        }
        assert!(shop.get("/1").await.run > purged, "a purged page is back");
    }
    assert!(!store.stats().is_open);
    assert!(shop.warnings().len() <= 1);
}

#[actix_web::test]
async fn a_new_primary_is_found_by_its_sentinel() {
    let house = RedisSentinel::start();
    let name = RedisSentinel::MASTER;
    let store = store_at(&format!("redis-sentinel://{}/{name}", host_of(house.sentinel())));
    let shop = Shop::over(store.clone());
    let old = shop.until_hit("/1").await.run;
    shop.handle().purge_url(&shop.url("/1")).await.unwrap();

    // By order.
    house.failover();
    shop.load(4, 60, some).await.assert_within_budget("a failover");
    for n in 0..10 {
        shop.until_hit(&format!("/new/{n}")).await;
    }
    assert!(shop.until_hit("/1").await.run > old, "a purged page is back");
    shop.handle().purge_tag("page").await.unwrap();
    eventually("the former primary follows", || {
        // It is being restarted as such, which ends connections.
        let info = house.other().ask(&["INFO", "replication"]);
        info.is_ok_and(|info| info.to_string().contains("master_link_status:up"))
    })
    .await;

    // By a crash.
    let before = shop.until_hit("/1").await.run;
    eventually("the replica has it", || sorted(house.other()) == sorted(house.master())).await;
    let crashed = house.master().port();
    house.master().kill();
    shop.load(4, 60, some).await.assert_within_budget("a crash");
    house.await_master_after(crashed);
    let after = shop.until_hit("/1").await.run;
    assert!(after >= before);
    shop.until_hit("/new/after").await;
    shop.handle().purge_url(&shop.url("/1")).await.unwrap();
    assert!(shop.until_hit("/1").await.run > after);
    assert!(shop.warnings().len() <= 1);
}
