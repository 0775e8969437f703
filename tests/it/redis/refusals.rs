//! Redis refuses commands: it is out of memory, is a replica, or rejects the credentials.
//!
//! Lookups go on where Redis allows them, no request fails, and a log message says what to change.

use crate::{
    redis::{own_store, own_store_with_defaults, page_path, shop},
    support::{PageServer, RedisServer, resources, wait_until},
};

#[actix_web::test]
async fn full_redis_is_read_but_not_written() {
    let redis = RedisServer::with(&["--maxmemory-policy", "noeviction"]);
    let store = own_store(redis.url());
    let site = shop(store.clone());
    site.get_until_hit("/a").await;
    redis.command(&["CONFIG", "SET", "maxmemory", "2mb"]);
    let mut n = 0;
    while store.stats().writes_failed == 0 {
        n += 1;
        assert!(n < 100, "all writes fit into memory");
        site.get(&format!("/large/{n}")).await;
        wait_until("the write succeeds or is refused", || {
            let stats = store.stats();
            stats.writes + stats.writes_failed > n
        })
        .await;
    }
    // Now even small writes are refused.
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for n in 0..20 {
        assert!(site.get("/a").await.is_hit);
        assert!(!site.get(&format!("/large/more/{n}")).await.is_hit);
    }
    wait_until("all writes are refused", || store.stats().writes_failed > 20).await;
    let stats = store.stats();
    assert!(
        !stats.circuit_open && stats.circuit_openings == 0 && stats.lookups_failed == 0,
        "{stats:?}"
    );
    let warnings = site.warnings();
    let [warning] = warnings.as_slice() else { panic!("not one warning: {warnings:?}") };
    assert!(warning.contains("OOM: raise maxmemory"), "{warning}");

    // Redis cannot record purges, either: they fail, and apply in this process.
    let before = site.get("/a").await.run;
    assert!(site.handle().purge_url(&site.url("/a")).await.is_err());
    assert!(site.get("/a").await.run > before);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(site.get_until_hit("/a").await.run > before);
    site.get_until_hit("/large/new").await;
}

#[actix_web::test]
async fn purged_page_stays_purged_when_redis_evicts_the_invalidations() {
    let redis = RedisServer::with(&["--maxmemory-policy", "allkeys-lru"]);
    let store = own_store(redis.url());
    let site = shop(store.clone());
    for round in 0..3 {
        let before = site.get_until_hit("/a").await.run;
        site.handle().purge_tag("page").await.unwrap();
        let table = redis.command(&["KEYS", "*{invalidations}"]);
        let names = resources(&redis);
        // Fill the memory, as another application on the same server could.
        let mut wire = redis.wire();
        wire.command(&["CONFIG", "SET", "maxmemory", "3mb"]);
        let large = "x".repeat(64 * 1024);
        for n in 0.. {
            assert!(n < 2000, "the table of invalidations is not evicted");
            if wire.command(&["EXISTS", &table]) == "0" {
                break;
            }
            // The store uses the table most, and Redis evicts the least recently used keys: keep
            // the records in use, so that the table is evicted.
            for name in &names {
                wire.command(&["TOUCH", name]);
            }
            let _ = wire.ask(&["SET", &format!("other-{}", n % 100), &large]).unwrap();
        }
        wire.command(&["CONFIG", "SET", "maxmemory", "0"]);
        assert!(site.get("/a").await.run > before, "round {round}");
        assert!(site.get_until_hit("/a").await.run > before, "round {round}");
    }
    assert!(
        store.stats().table_losses >= 3 && store.stats().lookups_failed == 0,
        "{:?}",
        store.stats()
    );
}

#[actix_web::test]
async fn demoted_primary_is_written_again_when_promoted() {
    let (redis, other) = (RedisServer::start(), RedisServer::start());
    let follow = |one: &RedisServer, of: &RedisServer| {
        one.command(&["REPLICAOF", "127.0.0.1", &of.port().to_string()]);
    };
    let is_linked =
        |server: &RedisServer| server.info("master_link_status").as_deref() == Some("up");
    follow(&other, &redis);
    wait_until("replication is up", || is_linked(&other)).await;
    let store = own_store(redis.url());
    let site = shop(store.clone());
    // Replication has caught up with the last write.
    let in_sync = || redis.info("master_repl_offset") == other.info("slave_repl_offset");
    let mut before = site.get_until_hit("/a").await.run;
    for round in 0..2 {
        wait_until("the replica is in sync", in_sync).await;
        other.command(&["REPLICAOF", "NO", "ONE"]);
        follow(&redis, &other);
        wait_until("replication is up", || is_linked(&redis)).await;
        site.get_until_hit("/a").await;
        let unwritten = store.stats().writes_failed;
        for n in 0..10 {
            assert!(!site.get(&format!("/new/{round}/{n}")).await.is_hit);
        }
        wait_until("all writes are refused", || store.stats().writes_failed >= unwritten + 10)
            .await;
        assert!(site.get("/a").await.is_hit && !store.stats().circuit_open);
        if round == 0 {
            let warnings = site.warnings();
            let is_named =
                warnings.iter().any(|line| line.contains("READONLY: the server is a replica"));
            assert!(is_named && warnings.len() == 1, "{warnings:?}");
        }
        // A purge fails, and is sent when the server accepts writes again.
        assert!(site.handle().purge_url(&site.url("/a")).await.is_err());
        assert!(site.get("/a").await.run > before);
        redis.command(&["REPLICAOF", "NO", "ONE"]);
        follow(&other, &redis);
        let after = site.get_until_hit("/a").await.run;
        assert!(after > before, "purged page served");
        site.get_until_hit(&format!("/new/{round}/0")).await;
        before = after;
        wait_until("replication is up", || is_linked(&other)).await;
    }
    assert!(site.warnings().is_empty());
}

/// Serves under load from a Redis that refuses the store. Returns the only warning.
async fn warning_when_refused(url: &str, case: &str) -> String {
    let store = own_store_with_defaults(url);
    let site = PageServer::over(store.clone());
    site.load(4, 60, page_path).await.assert_within_budget(case);
    wait_until("all lookups or writes have failed", || {
        let stats = store.stats();
        stats.lookups_failed + stats.writes_failed >= 60
    })
    .await;
    assert_eq!(site.runs.get(), 60, "{case}");
    let warnings = site.warnings();
    let [warning] = warnings.as_slice() else { panic!("{case}: not one warning: {warnings:?}") };
    for secret in ["secret", "redis://", "alice", "127.0.0.1"] {
        assert!(!warning.contains(secret), "{case}: {warning}");
    }
    warning.clone()
}

#[actix_web::test]
async fn rejected_credentials_or_permissions_are_logged_without_secrets() {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "requirepass", "secret-one"]);
    let url = |user: &str| redis.url().replace("redis://", &format!("redis://{user}@"));
    let mut wire = redis.wire();
    wire.command(&["AUTH", "secret-one"]);
    for (case, user, advice) in [
        ("no password", "", "check user and password"),
        ("wrong password", ":secret-two", "check"),
        ("unknown user", "alice:secret-two", "check"),
    ] {
        let url = if user.is_empty() { redis.url() } else { url(user) };
        let warning = warning_when_refused(&url, case).await;
        assert!(warning.contains(advice), "{case}: {warning}");
    }
    for command in ["eval", "hset", "hget", "zrange", "pexpire"] {
        let user = format!("alice-without-{command}");
        let rules = [">secret-three", "on", "~*", "&*", "+@all"];
        let mut set_user = vec!["ACL", "SETUSER", &user];
        set_user.extend(rules);
        let without = format!("-{command}");
        set_user.push(&without);
        wire.command(&set_user);
        let warning = warning_when_refused(&url(&format!("{user}:secret-three")), command).await;
        let has_advice =
            warning.contains("NOPERM: the user needs more") && warning.contains("ACL LOG");
        assert!(has_advice, "{command}: {warning}");
    }
}

#[actix_web::test]
async fn password_change_at_runtime_fails_no_request() {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "requirepass", "secret-one"]);
    let url = redis.url().replace("redis://", "redis://:secret-one@");
    let store = own_store(url);
    let site = shop(store.clone());
    site.get_until_hit("/a").await;
    let mut wire = redis.wire();
    wire.command(&["AUTH", "secret-one"]);
    wire.command(&["CONFIG", "SET", "requirepass", "secret-two"]);
    for _ in 0..10 {
        assert!(site.get("/a").await.is_hit, "an authenticated connection stays valid");
    }
    wire.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    site.load(4, 60, page_path).await.assert_within_budget("changed password");
    assert!(store.stats().circuit_open);
    let warnings = site.warnings();
    assert!(warnings.len() == 1 && !warnings[0].contains("secret"), "{warnings:?}");
    wire.command(&["CONFIG", "SET", "requirepass", "secret-one"]);
    site.get_until_hit("/a").await;
}
