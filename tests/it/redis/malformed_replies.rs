//! Redis replies that are truncated, errors or not valid RESP are misses.

use std::time::Duration;

use actix_web_cache::store::Store as _;

use crate::{
    redis::{own_store, own_store_with_defaults, shop},
    support::{
        End, FakeRedis, FakeReply, Fault, FaultyProxy, PageServer, RedisServer, assert_all_expires,
        command_name, fills_ended,
    },
};

#[actix_web::test]
async fn reply_truncated_at_any_byte_is_a_miss() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let store = own_store(proxy.url());
    let site = shop(store.clone());
    site.get_until_hit("/a").await;
    // A response can be found before the reply to the confirmation of its write.
    fills_ended(store.coordinator()).await;
    let before = proxy.replied();
    assert!(site.get("/a").await.is_hit);
    let length = usize::try_from(proxy.replied() - before).unwrap();
    assert!(length > 200, "{length} bytes are too few for a page");
    for end in [End::Close, End::Reset] {
        for cut in 0..length {
            proxy.set(Fault::Cut(cut, end));
            let answer = site.get("/a").await;
            assert!(!answer.is_hit, "hit from {cut} of {length} bytes, {end:?}");
            proxy.set(Fault::None);
            site.get_until_hit("/a").await;
            fills_ended(store.coordinator()).await;
        }
    }
    assert_eq!(store.stats().unreadable_records, 0, "a truncated reply was decoded as a record");
}

#[actix_web::test]
async fn write_with_truncated_reply_leaves_a_complete_record_or_none() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let store = own_store(proxy.url());
    let site = shop(store.clone());
    site.get_until_hit("/a").await;
    let mut unwritten = 0;
    for cut in 0..150 {
        let path = format!("/{cut}");
        proxy.set(Fault::Cut(cut, End::Close));
        site.get(&path).await;
        fills_ended(store.coordinator()).await;
        proxy.set(Fault::None);
        unwritten = store.stats().writes_failed;
        site.get_until_hit(&path).await;
    }
    assert!(unwritten > 0, "no write failed");
    assert_eq!(store.stats().unreadable_records, 0);
    assert_all_expires(&redis);
}

#[actix_web::test]
async fn lookup_of_two_round_trips_shares_one_time_limit() {
    let redis = RedisServer::start();
    let proxy = FaultyProxy::of(redis.addr());
    let store = own_store_with_defaults(proxy.url());
    let site = PageServer::over(store.clone());
    site.get_until_hit("/a").await;
    let before = store.stats();
    // No plain record exists, so the lookup asks for the selecting fields in a second round trip.
    proxy.set(Fault::Delay(Duration::from_millis(30)));
    assert!(!site.get("/b").await.is_hit);
    // The cache gives up after 50 ms, and the store knows of it before.
    assert_eq!(store.stats().lookups_failed, before.lookups_failed + 1);
}

/// The replies of a server that has no records and accepts all writes.
fn empty_server(name: &str, command: &[Vec<u8>]) -> FakeReply {
    match name {
        "HGET" => FakeReply::nil(),
        "ZRANGE" if command.iter().any(|part| part.ends_with(b":removals")) => {
            FakeReply::Bytes(b"*0\r\n".to_vec())
        }
        "ZSCORE" => FakeReply::bulk("1000"),
        "ZRANGE" => FakeReply::Bytes(b"*2\r\n$1\r\ne\r\n$4\r\n1000\r\n".to_vec()),
        "MULTI" => FakeReply::ok(),
        "EXEC" => FakeReply::Bytes(b"*3\r\n:1\r\n:1\r\n:1\r\n".to_vec()),
        _ => FakeReply::Bytes(b"+QUEUED\r\n".to_vec()),
    }
}

/// Error replies that are rare, and replies that no server should send, with their names.
fn unexpected_replies() -> Vec<(&'static str, FakeReply)> {
    let mut replies: Vec<_> = [
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
    .map(|error| (error, FakeReply::error(error)))
    .into();
    replies.extend([
        ("no reply", FakeReply::Nothing),
        ("incomplete string", FakeReply::Bytes(b"$100\r\nabc".to_vec())),
        ("incomplete string and close", FakeReply::Last(b"$100\r\nabc".to_vec())),
        ("incomplete list and close", FakeReply::Last(b"*2\r\n$1\r\ne\r\n".to_vec())),
        ("close", FakeReply::Last(Vec::new())),
        ("integer", FakeReply::integer(7)),
        ("string", FakeReply::bulk("e")),
        ("nil", FakeReply::nil()),
        ("empty list", FakeReply::Bytes(b"*0\r\n".to_vec())),
        ("list of three", FakeReply::Bytes(b"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n".to_vec())),
        (
            "list of an integer and a list",
            FakeReply::Bytes(b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n".to_vec()),
        ),
        ("unknown type", FakeReply::Bytes(b"@what\r\n".to_vec())),
        ("length that is no number", FakeReply::Bytes(b"$x\r\nabc\r\n".to_vec())),
        ("negative length", FakeReply::Bytes(b"$-7\r\nabc\r\n".to_vec())),
        ("HTTP", FakeReply::Last(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("five replies", FakeReply::Bytes(b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n".to_vec())),
    ]);
    replies
}

#[actix_web::test]
async fn unexpected_reply_fails_no_request_and_is_no_hit() {
    for (kind, reply) in unexpected_replies() {
        // The empty name stands for all commands.
        for target in ["HGET", "ZSCORE", "ZRANGE", "HSET", "EXEC", ""] {
            let case = format!("{kind:?} to {}", if target.is_empty() { "all" } else { target });
            let reply = reply.clone();
            let fake = FakeRedis::new(move |command| {
                let name = command_name(command);
                if target.is_empty() || name == target {
                    reply.clone()
                } else {
                    empty_server(&name, command)
                }
            });
            let store = own_store_with_defaults(fake.url());
            let site = PageServer::over(store.clone());
            let times = site.load(1, 8, |n| format!("/{}", n % 2)).await;
            times.assert_within_budget(&case);
            assert_eq!(site.runs.get(), 8, "{case}");
            // A reply to another command makes the table look lost, as often as a connection takes
            // it for the reply to a read of the table.
            let warnings = site.warnings();
            let is_lost = |warning: &&String| warning.starts_with("Redis lost the table");
            let lost = warnings.iter().filter(is_lost).count();
            assert!(lost <= 8 && warnings.len() - lost <= 1, "{case}: {warnings:?}");
            assert!(fake.accepted() > 0, "{case}");
        }
    }
}

/// An unexpected reply to the handshake means that there is no connection at all.
#[actix_web::test]
async fn unexpected_handshake_reply_fails_no_request() {
    for (kind, reply) in unexpected_replies() {
        let fake = FakeRedis::from_the_start(move |_| reply.clone());
        let store = own_store_with_defaults(format!("{}?protocol=resp3", fake.url()));
        let site = PageServer::over(store.clone());
        site.load(4, 40, |n| format!("/{}", n % 2)).await.assert_within_budget(kind);
        assert_eq!(site.runs.get(), 40, "{kind}");
        assert!(site.warnings().len() <= 1, "{kind}");
    }
}
