//! The scripts, called as the store calls them: Redis keys of another type are no errors, because
//! Redis 6.2 gives such an error no code of its own, and damaged indexes leave no records behind.

use crate::support::{RedisReply, RedisServer};

const COUNT_USE: &str = include_str!("../../../src/store/redis/count_use.lua");
const INDEX_VARIANT: &str = include_str!("../../../src/store/redis/index_variant.lua");
const RELEASE_LEASE: &str = include_str!("../../../src/store/redis/release_lease.lua");
const REMOVE: &str = include_str!("../../../src/store/redis/remove.lua");
const REPLACE: &str = include_str!("../../../src/store/redis/replace.lua");
const SETTLE_WRITE: &str = include_str!("../../../src/store/redis/settle_write.lua");

const ID: &str = "iiiiiiiiiiiiiiii";
const OTHER_ID: &str = "oooooooooooooooo";
const VARIANT: &str = "vvvvvvvvvvvvvvvv";
const OTHER_VARIANT: &str = "wwwwwwwwwwwwwwww";
const TOKEN: &str = "0000000000000001";

/// The arguments of the script that indexes a variant, after the ids.
const INDEXED: [&str; 6] = ["accept", "600000", "64", TOKEN, "", "o"];

fn call(redis: &RedisServer, script: &str, arguments: &[&str]) -> RedisReply {
    redis.ask(&[&["EVAL", script, "1", "key"], arguments].concat()).unwrap()
}

#[test]
fn scripts_ignore_a_key_of_another_type() {
    let redis = RedisServer::start();
    let index = [&[ID, VARIANT], &INDEXED[..]].concat();
    for foreign in [["LPUSH", "key", "a"], ["SADD", "key", "a"]] {
        redis.command(&foreign);
        for (script, arguments) in [
            (COUNT_USE, &[ID, VARIANT][..]),
            (INDEX_VARIANT, &index),
            (RELEASE_LEASE, &["token"]),
            (REMOVE, &[ID]),
            (REMOVE, &[""]),
            (REPLACE, &["1", "f", "pa"]),
            (SETTLE_WRITE, &[TOKEN, ID, VARIANT]),
        ] {
            let reply = call(&redis, script, arguments);
            let is_nothing = matches!(reply, RedisReply::Nil | RedisReply::Integer(0));
            assert!(is_nothing, "{reply:?}: {script}");
        }
        assert_eq!(redis.command(&["EXISTS", "key"]), "1");
        redis.command(&["DEL", "key"]);
    }
}

fn write(redis: &RedisServer, id: &str, variant: &str) {
    redis.command(&["HSET", "key", &format!("{id}{variant}"), "record"]);
    let arguments = [&[id, variant], &INDEXED[..]].concat();
    assert_eq!(call(redis, INDEX_VARIANT, &arguments), RedisReply::Integer(1));
}

fn damage(redis: &RedisServer, damage: Option<&str>) {
    let field = format!("m{ID}");
    match damage {
        Some(text) => redis.command(&["HSET", "key", &field, text]),
        None => redis.command(&["HDEL", "key", &field]),
    };
}

/// Returns the numbers of records of the two cache keys.
fn records(redis: &RedisServer) -> [usize; 2] {
    let fields = redis.command(&["HKEYS", "key"]);
    let records =
        |id| fields.lines().filter(move |field: &&str| field.len() == 32 && field.starts_with(id));
    [records(ID).count(), records(OTHER_ID).count()]
}

#[test]
fn removal_reaches_records_that_a_damaged_index_does_not_name() {
    for text in [None, Some(""), Some("garbage"), Some("accept 1\n"), Some("accept 1\nvvvv")] {
        let redis = RedisServer::start();
        for id in [ID, OTHER_ID] {
            write(&redis, id, VARIANT);
            write(&redis, id, OTHER_VARIANT);
        }
        damage(&redis, text);
        assert_eq!(call(&redis, REMOVE, &[ID]), RedisReply::Integer(2), "{text:?}");
        assert_eq!(records(&redis), [0, 2], "{text:?}");
        assert_eq!(redis.command(&["HEXISTS", "key", &format!("m{ID}")]), "0", "{text:?}");
    }
}

#[test]
fn write_over_a_damaged_index_removes_the_other_records() {
    for text in ["", "garbage", "accept 1\nvvvv"] {
        let redis = RedisServer::start();
        for id in [ID, OTHER_ID] {
            write(&redis, id, VARIANT);
        }
        damage(&redis, Some(text));
        write(&redis, ID, OTHER_VARIANT);
        assert_eq!(records(&redis), [1, 1], "{text:?}");
        let new = format!("{ID}{OTHER_VARIANT}");
        assert_eq!(redis.command(&["HEXISTS", "key", &new]), "1", "{text:?}");
    }
}

#[test]
fn member_that_replaces_others_is_kept() {
    let redis = RedisServer::start();
    redis.command(&["ZADD", "key", "9", "e", "1", "pa", "2", "pb", "5", "pc", "3", "root"]);
    call(&redis, REPLACE, &["4", "root", "pa", "root", "pb", "pc"]);
    let members = redis.command(&["ZRANGE", "key", "0", "-1", "WITHSCORES"]);
    assert_eq!(members.lines().collect::<Vec<_>>(), ["root", "4", "pc", "5", "e", "9"]);
}
