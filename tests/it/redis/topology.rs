//! Topology changes: a Cluster whose slots move and whose nodes fail, and a Sentinel failover.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use actix_web_cache::{PurgeTarget, RedisStore};
use futures_util::future::join;
use tokio::time::Instant;

use crate::{
    redis::{cluster_url, leasing_store, own_store, own_store_with_defaults, page_path, shop},
    support::{
        FakeRedis, FakeReply, PageServer, RedisCluster, RedisSentinel, RedisServer, command_name,
        resources, secs, wait_until,
    },
};

fn sorted_resources(server: &RedisServer) -> Vec<String> {
    let mut names = resources(server);
    names.sort_unstable();
    names
}

#[actix_web::test]
async fn store_follows_cluster_slots_that_move_under_load() {
    let cluster = RedisCluster::start();
    let store = own_store(cluster_url(&cluster));
    let site = shop(store.clone());
    for n in 0..10 {
        site.get_until_hit(&page_path(n)).await;
    }
    move_slots_under_load(&cluster, &store, &site).await;
}

#[actix_web::test]
async fn store_survives_failure_and_restart_of_each_cluster_node() {
    let cluster = RedisCluster::start();
    let store = own_store_with_defaults(cluster_url(&cluster));
    let site = PageServer::over(store.clone());
    restart_each_node(&cluster, &store, &site).await;
}

/// Moves the slots of all records and of the table of invalidations to the next node, while clients
/// send requests.
async fn move_slots_under_load(cluster: &RedisCluster, store: &RedisStore, site: &PageServer) {
    let moved = AtomicBool::new(false);
    let moves = async {
        for from in 0..3 {
            let mut keys = resources(cluster.node(from));
            let tables = cluster.node(from).command(&["KEYS", "*{invalidations}"]);
            keys.extend(tables.lines().map(str::to_owned));
            for key in keys {
                // A slot that was moved to this node a moment ago is listed but done.
                if cluster.node_of(&key) != from {
                    continue;
                }
                let slot = cluster.begin_slot_move(cluster.slot_of(&key), from, (from + 1) % 3);
                // Let some lookups happen while the slot is migrating.
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
            site.load(4, 40, page_path).await;
            rounds += 1;
        }
    };
    join(load, moves).await;
    for n in 0..10 {
        site.get_until_hit(&page_path(n)).await;
    }
    let before = site.get_until_hit("/1").await.run;
    site.handle().purge_url(&site.url("/1")).await.unwrap();
    assert!(site.get_until_hit("/1").await.run > before);
    assert!(!store.stats().circuit_open, "{:?}", store.stats());
}

/// Kills and restarts one node after the other. A restarted node is empty and keeps its slots.
async fn restart_each_node(cluster: &RedisCluster, store: &RedisStore, site: &PageServer) {
    let purged = site.get_until_hit("/1").await.run;
    site.handle().purge_url(&site.url("/1")).await.unwrap();
    for node in 0..3 {
        let server = cluster.node(node);
        server.kill();
        site.load(4, 60, page_path).await.assert_within_budget("a node is down");
        let survivor = cluster.node((node + 1) % 3);
        wait_until("the other nodes report that the Cluster is down", || {
            survivor.command(&["CLUSTER", "INFO"]).contains("cluster_state:fail")
        })
        .await;
        site.load(4, 60, page_path).await.assert_within_budget("the Cluster is down");
        server.restart();
        wait_until("all nodes report that the Cluster is up", || {
            (0..3).all(|node| {
                cluster.node(node).command(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
            })
        })
        .await;
        for n in 0..10 {
            site.get_until_hit(&page_path(n)).await;
        }
        assert!(site.get("/1").await.run > purged, "purged page served");
    }
    assert!(!store.stats().circuit_open);
    assert_few_warnings(site);
}

#[actix_web::test]
async fn store_finds_the_new_primary_through_sentinel() {
    let sentinel = RedisSentinel::start();
    let name = RedisSentinel::MASTER;
    let url = format!("redis-sentinel://{}/{name}", sentinel.sentinel().addr());
    let site = PageServer::over(own_store_with_defaults(url));
    let old = site.get_until_hit("/1").await.run;
    purge_until_confirmed(&site, PurgeTarget::url(site.url("/1"))).await;

    // A failover by command.
    sentinel.failover();
    site.load(4, 60, page_path).await.assert_within_budget("a failover");
    for n in 0..10 {
        site.get_until_hit(&format!("/new/{n}")).await;
    }
    assert!(site.get_until_hit("/1").await.run > old, "purged page served");
    purge_until_confirmed(&site, PurgeTarget::tag("page")).await;
    wait_until("the former primary replicates", || {
        // Sentinel reconfigures the server, which closes connections.
        let info = sentinel.other().ask(&["INFO", "replication"]);
        info.is_ok_and(|info| info.to_string().contains("master_link_status:up"))
    })
    .await;

    // A failover after a crash.
    let before = site.get_until_hit("/1").await.run;
    wait_until("the replica has all records", || {
        sorted_resources(sentinel.other()) == sorted_resources(sentinel.master())
    })
    .await;
    let crashed = sentinel.master().port();
    sentinel.master().kill();
    site.load(4, 60, page_path).await.assert_within_budget("a crash");
    sentinel.await_master_after(crashed);
    let after = site.get_until_hit("/1").await.run;
    assert!(after >= before);
    site.get_until_hit("/new/after").await;
    purge_until_confirmed(&site, PurgeTarget::url(site.url("/1"))).await;
    assert!(site.get_until_hit("/1").await.run > after);
    assert_few_warnings(&site);
}

/// Asserts that the store warned about failing calls at most once. The server that answers after a
/// failover may lack the last invalidations, which is another warning.
fn assert_few_warnings(site: &PageServer) {
    let warnings = site.warnings();
    let about_calls = warnings.iter().filter(|line| !line.contains("table of invalidations"));
    assert!(about_calls.count() <= 1, "{warnings:?}");
}

/// Purges a target. On a busy machine a call may exceed the default time-outs, so that the purge is
/// queued and reported as an error; it is then repeated once Redis answers again.
async fn purge_until_confirmed(site: &PageServer, target: PurgeTarget) {
    while site.handle().purge(target.clone()).await.is_err() {
        site.get_until_hit("/confirmed").await;
    }
}

/// A frozen server keeps its connections open, and accepts new ones without an answer.
#[actix_web::test]
async fn store_finds_the_new_primary_when_the_old_one_hangs() {
    let sentinel = RedisSentinel::start();
    let url = format!("redis-sentinel://{}/{}", sentinel.sentinel().addr(), RedisSentinel::MASTER);
    let store = own_store_with_defaults(url);
    let site = PageServer::over(store.clone());
    let before = site.get_until_hit("/1").await.run;
    wait_until("the replica has all records", || {
        sorted_resources(sentinel.other()) == sorted_resources(sentinel.master())
    })
    .await;
    let old = sentinel.master();
    old.freeze();
    site.load(4, 60, page_path).await.assert_within_budget("a frozen primary");
    sentinel.await_master_after(old.port());
    site.get_until_hit("/new").await;
    assert!(site.get_until_hit("/1").await.run >= before);
    let purged = site.get_until_hit("/1").await.run;
    purge_until_confirmed(&site, PurgeTarget::url(site.url("/1"))).await;
    assert!(site.get_until_hit("/1").await.run > purged, "purged page served");
    assert!(!store.stats().circuit_open, "{:?}", store.stats());
    // The old primary answers again, and becomes a replica.
    old.thaw();
    site.load(4, 60, page_path).await.assert_within_budget("two primaries");
    wait_until("the old primary is a replica", || old.info("role").as_deref() == Some("slave"))
        .await;
    let purged = site.get_until_hit("/1").await.run;
    purge_until_confirmed(&site, PurgeTarget::url(site.url("/1"))).await;
    assert!(site.get_until_hit("/1").await.run > purged, "purged page served");
    site.get_until_hit("/newest").await;
}

/// A Sentinel that knows one primary, at the address that the test sets.
fn fake_sentinel(primary: &Arc<Mutex<SocketAddr>>) -> FakeRedis {
    let primary = Arc::clone(primary);
    FakeRedis::new(move |command| {
        let list = |words: &[&str]| {
            let words = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len()));
            let words: Vec<_> = words.collect();
            format!("*{}\r\n{}", words.len(), words.concat())
        };
        match command_name(command).as_str() {
            "ROLE" => FakeReply::Bytes(format!("*2\r\n$8\r\nsentinel\r\n{}", list(&["p"])).into()),
            "SENTINEL" => {
                let port = primary.lock().unwrap().port().to_string();
                let entry = ["name", "p", "ip", "127.0.0.1", "port", &port, "flags", "master"];
                FakeReply::Bytes(format!("*1\r\n{}", list(&entry)).into())
            }
            _ => FakeReply::error("ERR unexpected"),
        }
    })
}

/// Makes one server a replica of another one, and waits until it has all records.
async fn replicate(replica: &RedisServer, of: &RedisServer) {
    of.command(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]);
    of.command(&["REPLICAOF", "NO", "ONE"]);
    replica.command(&["REPLICAOF", "127.0.0.1", &of.port().to_string()]);
    wait_until("the replica has all records", || {
        replica.info("master_link_status").as_deref() == Some("up")
            && sorted_resources(replica) == sorted_resources(of)
    })
    .await;
}

/// After a failover, a Sentinel may name the former primary for a while, which refuses all writes.
#[actix_web::test]
async fn store_uses_the_new_primary_once_an_outdated_sentinel_names_it() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let primary = Arc::new(Mutex::new(old.addr()));
    let sentinel = fake_sentinel(&primary);
    let store = own_store_with_defaults(format!("redis-sentinel://{}/p", sentinel.addr()));
    let site = PageServer::over(store.clone());
    let before = site.get_until_hit("/1").await.run;
    replicate(&new, &old).await;
    replicate(&old, &new).await;
    site.load(4, 60, |n| format!("/missing/{n}")).await.assert_within_budget("a demoted primary");
    assert!(resources(&new).len() == 1, "no record was written");
    // A failed purge makes the store look for the primary.
    assert!(site.handle().purge_url(&site.url("/1")).await.is_err());
    assert!(!site.get("/1").await.is_hit);
    *primary.lock().unwrap() = new.addr();
    assert!(site.get_until_hit("/1").await.run > before, "purged page served");
    site.get_until_hit("/missing/1").await;
    assert!(!store.stats().circuit_open, "{:?}", store.stats());
    assert!(resources(&new).len() > 1);
}

/// Requests pages that the server refuses to store, one after the other. Between two refused writes,
/// lookups succeed.
async fn request_pages_that_are_not_written(site: &PageServer, store: &RedisStore) {
    let before = store.stats();
    for n in 1..=100 {
        assert!(!site.get(&format!("/missing/{n}")).await.is_hit);
        assert!(site.get("/1").await.is_hit);
        wait_until("the write is refused", || {
            store.stats().writes_failed >= before.writes_failed + n
        })
        .await;
    }
    let after = store.stats();
    assert!(after.lookups_failed == 0 && after.circuit_openings == 0, "{after:?}");
}

/// Makes one server the primary of the other one, which was a primary before.
async fn demote(old: &RedisServer, new: &RedisServer) {
    replicate(new, old).await;
    replicate(old, new).await;
}

/// The number of connections that the server has accepted, the one of this call included.
fn connections(server: &RedisServer) -> usize {
    server.info("total_connections_received").unwrap().parse().unwrap()
}

/// The largest number of searches for the primary: one, and one more in each second.
fn most_searches(started: Instant) -> usize {
    1 + usize::try_from(started.elapsed().as_secs()).unwrap()
}

/// After a failover, a Sentinel may name the former primary for a while, which refuses all writes.
#[actix_web::test]
async fn outdated_sentinel_causes_few_connections() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let primary = Arc::new(Mutex::new(old.addr()));
    let sentinel = fake_sentinel(&primary);
    let store = own_store(format!("redis-sentinel://{}/p", sentinel.addr()));
    let site = shop(store.clone());
    let before = site.get_until_hit("/1").await.run;
    demote(&old, &new).await;
    let (asked, connected, started) = (sentinel.accepted(), connections(&old), Instant::now());
    request_pages_that_are_not_written(&site, &store).await;
    let (asked, connected) = (sentinel.accepted() - asked, connections(&old) - connected);
    let searches = most_searches(started);
    assert!(asked <= searches && connected <= searches + 1, "{asked} {connected}, {searches}");
    // The store finds the new primary without a failed purge. Lookups use the new primary, too.
    *primary.lock().unwrap() = new.addr();
    site.get_until_hit("/new").await;
    wait_until("the page is written", || resources(&new).len() == 2).await;
    old.kill();
    assert_eq!(site.get_until_hit("/1").await.run, before);
    let stats = store.stats();
    assert!(stats.lookups_failed == 0 && stats.circuit_openings == 0, "{stats:?}");
}

/// A single server that was demoted refuses all writes, too.
#[actix_web::test]
async fn refused_writes_of_a_single_server_cause_few_connections() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let stores = [own_store(old.url()), leasing_store(old.url(), secs(5))];
    let sites = stores.clone().map(shop);
    for site in &sites {
        site.get_until_hit("/1").await;
    }
    demote(&old, &new).await;
    for (store, site) in stores.iter().zip(&sites) {
        let (connected, started) = (connections(&old), Instant::now());
        request_pages_that_are_not_written(site, store).await;
        let connected = connections(&old) - connected;
        let searches = most_searches(started);
        assert!(connected <= searches + 1, "{connected}, {searches}: {:?}", store.stats());
    }
}

/// A store needs the table of invalidations, which a replica without the table cannot make.
#[actix_web::test]
async fn replica_without_the_table_causes_few_connections() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    replicate(&old, &new).await;
    let store = own_store(old.url());
    let site = shop(store.clone());
    let (connected, started) = (connections(&old), Instant::now());
    for n in 0..100 {
        assert!(!site.get(&page_path(n)).await.is_hit);
    }
    let connected = connections(&old) - connected;
    // The first calls, and then the probes, of which the first follow each other faster.
    let most = 20 + usize::try_from(started.elapsed().as_secs()).unwrap();
    assert!(connected <= most, "{connected}, {most}: {:?}", store.stats());
    old.command(&["REPLICAOF", "NO", "ONE"]);
    site.get_until_hit("/1").await;
}
