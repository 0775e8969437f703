//! Replies that are cut off, that are errors, or that no server should give: to clients all of them
//! are misses.

use std::{sync::Arc, time::Duration};

use actix_web_cache::store::Store as _;

use crate::{
    redis_store::store_at,
    support::{
        End, FakeRedis, Fault, FaultyProxy, RedisServer, Say, Shop, assert_all_expires, name_of,
        settled,
    },
};

#[actix_web::test]
async fn a_reply_that_is_cut_off_at_any_byte_is_a_miss() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let store = store_at(&proxy.url());
    let shop = Shop::over(store.clone());
    shop.until_hit("/a").await;
    let before = proxy.replied();
    assert!(shop.get("/a").await.is_hit);
    let whole = usize::try_from(proxy.replied() - before).unwrap();
    assert!(whole > 200, "{whole} bytes are no page");
    for end in [End::Close, End::Reset] {
        for cut in 0..whole {
            proxy.set(Fault::Cut(cut, end));
            let visit = shop.get("/a").await;
            assert!(!visit.is_hit, "a hit by {cut} of {whole} bytes, {end:?}");
            proxy.set(Fault::None);
            shop.until_hit("/a").await;
        }
    }
    assert_eq!(store.stats().unreadable, 0, "a part was taken for a record");
}

#[actix_web::test]
async fn a_write_whose_reply_is_cut_off_leaves_a_whole_record_or_none() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let store = store_at(&proxy.url());
    let shop = Shop::over(store.clone());
    shop.until_hit("/a").await;
    let mut unwritten = 0;
    for cut in 0..150 {
        let path = format!("/{cut}");
        proxy.set(Fault::Cut(cut, End::Close));
        shop.get(&path).await;
        settled(store.coordinator()).await;
        proxy.set(Fault::None);
        unwritten = store.stats().unwritten;
        shop.until_hit(&path).await;
    }
    assert!(unwritten > 0, "no write was cut off");
    assert_eq!(store.stats().unreadable, 0);
    assert_all_expires(&redis);
}

#[actix_web::test]
async fn a_look_up_of_two_calls_that_are_each_in_time_is_late_as_one() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let store = store_at(&proxy.url());
    let shop = Shop::over(store.clone());
    shop.until_hit("/a").await;
    let before = store.stats();
    // Nothing is there, and what selects is asked for then.
    proxy.set(Fault::Delay(Duration::from_millis(30)));
    assert!(!shop.get("/b").await.is_hit);
    // The cache gives up after 50 ms, and the store knows of it before.
    assert_eq!(store.stats().failed, before.failed + 1);
}

/// What a server says that has nothing and stores everything.
fn empty(name: &str) -> Say {
    match name {
        "HGET" => Say::nil(),
        "ZSCORE" => Say::bulk("1000"),
        "ZRANGE" => Say::Bytes(b"*2\r\n$1\r\ne\r\n$4\r\n1000\r\n".to_vec()),
        "MULTI" => Say::ok(),
        "EXEC" => Say::Bytes(b"*3\r\n:1\r\n:1\r\n:1\r\n".to_vec()),
        _ => Say::Bytes(b"+QUEUED\r\n".to_vec()),
    }
}

fn oddities() -> Vec<(&'static str, Say)> {
    let mut oddities: Vec<_> = [
        "LOADING Redis is loading the dataset in memory",
        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "NOSCRIPT No matching script. Please use EVAL.",
        "EXECABORT Transaction discarded because of previous errors.",
        "CLUSTERDOWN The cluster is down",
        "MOVED 1 127.0.0.1:1",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "MISCONF Redis is configured to save RDB snapshots, but it's unable to persist to disk.",
        "ERR",
        "",
    ]
    .map(|error| (error, Say::error(error)))
    .into();
    oddities.extend([
        ("nothing", Say::Nothing),
        ("half a string", Say::Bytes(b"$100\r\nabc".to_vec())),
        ("half a string and the end", Say::Last(b"$100\r\nabc".to_vec())),
        ("half a list and the end", Say::Last(b"*2\r\n$1\r\ne\r\n".to_vec())),
        ("the end", Say::Last(Vec::new())),
        ("another type", Say::integer(7)),
        ("a string", Say::bulk("e")),
        ("nil", Say::nil()),
        ("an empty list", Say::Bytes(b"*0\r\n".to_vec())),
        ("a long list", Say::Bytes(b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n".to_vec())),
        ("a list that is odd inside", Say::Bytes(b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n".to_vec())),
        ("an unknown type", Say::Bytes(b"@what\r\n".to_vec())),
        ("no number", Say::Bytes(b"$x\r\nabc\r\n".to_vec())),
        ("a negative length", Say::Bytes(b"$-7\r\nabc\r\n".to_vec())),
        ("another protocol", Say::Last(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("too much", Say::Bytes(b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n".to_vec())),
    ]);
    oddities
}

#[actix_web::test]
async fn no_reply_of_a_server_fails_a_request_or_is_taken_for_a_page() {
    for (what, odd) in oddities() {
        for to in ["HGET", "ZSCORE", "ZRANGE", "HSET", "EXEC", ""] {
            let case = format!("{what:?} to {}", if to.is_empty() { "all" } else { to });
            let (odd, said) = (odd.clone(), Arc::new(to));
            let fake = FakeRedis::new(move |command| {
                let name = name_of(command);
                if said.is_empty() || name == **said { odd.clone() } else { empty(&name) }
            });
            let store = store_at(&fake.url());
            let shop = Shop::over(store.clone());
            let times = shop.load(1, 8, |n| format!("/{}", n % 2)).await;
            times.assert_within_budget(&case);
            assert_eq!(shop.runs.get(), 8, "{case}");
            let warnings = shop.warnings();
            assert!(warnings.len() <= 1, "{case}: {warnings:?}");
            assert!(fake.accepted() > 0, "{case}");
        }
    }
}

/// With the greeting itself going wrong, there is no connection at all.
#[actix_web::test]
async fn a_server_that_does_not_greet_is_done_without() {
    for (what, odd) in oddities() {
        let fake = FakeRedis::from_the_start(move |_| odd.clone());
        let store = store_at(&format!("{}?protocol=resp3", fake.url()));
        let shop = Shop::over(store.clone());
        shop.load(4, 40, |n| format!("/{}", n % 2)).await.assert_within_budget(what);
        assert_eq!(shop.runs.get(), 40, "{what}");
        assert!(shop.warnings().len() <= 1, "{what}");
    }
}
