//! Redis answers, but refuses: it has no memory, is a replica, or does not know us. Reading goes on
//! where it can, nothing fails, and whoever reads the log learns what to do.

use actix_web_cache::RedisStore;

use crate::{
    redis_store::store_at,
    support::{RedisServer, Shop, eventually, resources},
};

fn some(n: usize) -> String {
    format!("/{}", n % 10)
}

#[actix_web::test]
async fn a_full_redis_is_read_and_not_written() {
    let redis = RedisServer::with(&["--maxmemory-policy", "noeviction"]);
    let store = store_at(&redis.url());
    let shop = Shop::over(store.clone());
    shop.until_hit("/a").await;
    redis.command(&["CONFIG", "SET", "maxmemory", "2mb"]);
    let mut n = 0;
    while store.stats().unwritten == 0 {
        n += 1;
        assert!(n < 100, "there is room for all");
        shop.get(&format!("/large/{n}")).await;
        eventually("it is written or not", || {
            let stats = store.stats();
            stats.writes + stats.unwritten > n
        })
        .await;
    }
    // Not even what is small fits any more.
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for n in 0..20 {
        assert!(shop.get("/a").await.is_hit);
        assert!(!shop.get(&format!("/large/more/{n}")).await.is_hit);
    }
    eventually("all are refused", || store.stats().unwritten > 20).await;
    let stats = store.stats();
    assert!(!stats.is_open && stats.opened == 0 && stats.failed == 0, "{stats:?}");
    let warnings = shop.warnings();
    let [warning] = warnings.as_slice() else { panic!("one warning: {warnings:?}") };
    assert!(warning.contains("OOM: give it memory"), "{warning}");

    // It cannot note purges either: they fail, and count here.
    let before = shop.get("/a").await.run;
    assert!(shop.handle().purge_url(&shop.url("/a")).await.is_err());
    assert!(shop.get("/a").await.run > before);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert!(shop.until_hit("/a").await.run > before);
    shop.until_hit("/large/new").await;
}

#[actix_web::test]
async fn a_redis_that_evicts_anything_brings_nothing_back_that_was_purged() {
    let redis = RedisServer::with(&["--maxmemory-policy", "allkeys-lru"]);
    let store = store_at(&redis.url());
    let shop = Shop::over(store.clone());
    for round in 0..3 {
        let before = shop.until_hit("/a").await.run;
        shop.handle().purge_tag("page").await.unwrap();
        let table = redis.command(&["KEYS", "*{invalidations}"]);
        let names = resources(&redis);
        // As another user of the same Redis would.
        let mut wire = redis.wire();
        wire.command(&["CONFIG", "SET", "maxmemory", "3mb"]);
        let large = "x".repeat(64 * 1024);
        for n in 0.. {
            assert!(n < 2000, "the table is never evicted");
            if wire.command(&["EXISTS", &table]) == "0" {
                break;
            }
            // It is what is used most, so the rest is kept in use.
            for name in &names {
                wire.command(&["TOUCH", name]);
            }
            let _ = wire.ask(&["SET", &format!("other-{}", n % 100), &large]).unwrap();
        }
        wire.command(&["CONFIG", "SET", "maxmemory", "0"]);
        assert!(shop.get("/a").await.run > before, "round {round}");
        assert!(shop.until_hit("/a").await.run > before, "round {round}");
    }
    assert!(store.stats().lost >= 3 && store.stats().failed == 0, "{:?}", store.stats());
}

#[actix_web::test]
async fn a_primary_that_becomes_a_replica_is_written_again_when_it_is_one_no_more() {
    let (redis, other) = (RedisServer::start(), RedisServer::start());
    let follow = |one: &RedisServer, of: &RedisServer| {
        one.command(&["REPLICAOF", "127.0.0.1", &of.port().to_string()]);
    };
    let is_linked =
        |server: &RedisServer| server.info("master_link_status").as_deref() == Some("up");
    follow(&other, &redis);
    eventually("it follows", || is_linked(&other)).await;
    let store = store_at(&redis.url());
    let shop = Shop::over(store.clone());
    // What was written last is there, too.
    let in_step = || redis.info("master_repl_offset") == other.info("slave_repl_offset");
    let mut before = shop.until_hit("/a").await.run;
    for round in 0..2 {
        eventually("it has everything", in_step).await;
        other.command(&["REPLICAOF", "NO", "ONE"]);
        follow(&redis, &other);
        eventually("it follows", || is_linked(&redis)).await;
        shop.until_hit("/a").await;
        let unwritten = store.stats().unwritten;
        for n in 0..10 {
            assert!(!shop.get(&format!("/new/{round}/{n}")).await.is_hit);
        }
        eventually("all are refused", || store.stats().unwritten >= unwritten + 10).await;
        assert!(shop.get("/a").await.is_hit && !store.stats().is_open);
        if round == 0 {
            let warnings = shop.warnings();
            let told = warnings.iter().any(|line| line.contains("READONLY: this is a replica"));
            assert!(told && warnings.len() == 1, "{warnings:?}");
        }
        // A purge is an error, and made up for once that can be done.
        assert!(shop.handle().purge_url(&shop.url("/a")).await.is_err());
        assert!(shop.get("/a").await.run > before);
        redis.command(&["REPLICAOF", "NO", "ONE"]);
        follow(&other, &redis);
        let after = shop.until_hit("/a").await.run;
        assert!(after > before, "a purged page is back");
        shop.until_hit(&format!("/new/{round}/0")).await;
        before = after;
        eventually("it follows", || is_linked(&other)).await;
    }
    assert!(shop.warnings().is_empty());
}

/// Serves a while, and tells the one warning.
async fn refused(url: &str, case: &str) -> String {
    let store = store_at(url);
    let shop = Shop::over(store.clone());
    shop.load(4, 60, some).await.assert_within_budget(case);
    eventually("all is written or not", || {
        let stats = store.stats();
        stats.failed + stats.unwritten >= 60
    })
    .await;
    assert_eq!(shop.runs.get(), 60, "{case}");
    let warnings = shop.warnings();
    let [warning] = warnings.as_slice() else { panic!("{case}: one warning: {warnings:?}") };
    for secret in ["secret", "redis://", "somebody", "127.0.0.1"] {
        assert!(!warning.contains(secret), "{case}: {warning}");
    }
    warning.clone()
}

#[actix_web::test]
async fn whoever_redis_does_not_know_is_told_so_in_the_log_without_the_password() {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "requirepass", "secret-one"]);
    let url = |user: &str| redis.url().replace("redis://", &format!("redis://{user}@"));
    let mut wire = redis.wire();
    wire.command(&["AUTH", "secret-one"]);
    for (case, user, advice) in [
        ("no password", "", "check name and password"),
        ("a wrong one", ":secret-two", "check"),
        ("nobody", "somebody:secret-two", "check"),
    ] {
        let url = if user.is_empty() { redis.url() } else { url(user) };
        let warning = refused(&url, case).await;
        assert!(warning.contains(advice), "{case}: {warning}");
    }
    for command in ["eval", "hset", "hget", "zrange", "pexpire"] {
        let user = format!("somebody-without-{command}");
        let rules = [">secret-three", "on", "~*", "&*", "+@all"];
        let mut set = vec!["ACL", "SETUSER", &user];
        set.extend(rules);
        let without = format!("-{command}");
        set.push(&without);
        wire.command(&set);
        let warning = refused(&url(&format!("{user}:secret-three")), command).await;
        let advised = warning.contains("NOPERM: its user may not") && warning.contains("ACL LOG");
        assert!(advised, "{command}: {warning}");
    }
}

#[actix_web::test]
async fn a_password_may_be_changed_while_the_store_runs() {
    let redis = RedisServer::start();
    redis.command(&["CONFIG", "SET", "requirepass", "secret-one"]);
    let url = redis.url().replace("redis://", "redis://:secret-one@");
    let store = RedisStore::new(url).unwrap();
    let shop = Shop::over(store.clone());
    shop.until_hit("/a").await;
    let mut wire = redis.wire();
    wire.command(&["AUTH", "secret-one"]);
    wire.command(&["CONFIG", "SET", "requirepass", "secret-two"]);
    for _ in 0..10 {
        assert!(shop.get("/a").await.is_hit, "who is known stays known");
    }
    wire.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    shop.load(4, 60, some).await.assert_within_budget("another password");
    assert!(store.stats().is_open);
    let warnings = shop.warnings();
    assert!(warnings.len() == 1 && !warnings[0].contains("secret"), "{warnings:?}");
    wire.command(&["CONFIG", "SET", "requirepass", "secret-one"]);
    shop.until_hit("/a").await;
}
