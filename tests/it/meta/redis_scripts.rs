//! Scripts for Redis access only the keys that they declare, as Redis Cluster and servers with the
//! protocol of Redis require.

use std::fs;

#[test]
fn redis_scripts_access_only_declared_keys() {
    let folder = super::repository().join("src/store/redis");
    let mut scripts = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "lua") {
            scripts += 1;
            let problems = undeclared_keys(&fs::read_to_string(&path).unwrap());
            assert!(problems.is_empty(), "{}: {problems:?}", path.display());
        }
    }
    assert!(scripts > 0, "no script found");
}

#[test]
fn undeclared_key_of_a_script_is_reported() {
    for script in [
        "redis.call('GET', ARGV[1])",
        "redis.call('GET', 'key')",
        "redis.call('GET', KEYS[1] .. ':x')",
        "redis.call('GET', key)",
        "redis.call(command, KEYS[1])",
        "redis.pcall('GET', KEYS[1])",
        "redis.call('UNLINK', KEYS[1], key)",
    ] {
        assert_eq!(undeclared_keys(script).len(), 1, "{script}");
    }
    for script in [
        "redis.call('TIME')",
        "if redis.call('GET', KEYS[1]) == ARGV[1] then return end",
        "redis.call('UNLINK', KEYS[1], KEYS[2])",
        "redis.call('HSET', KEYS[1], 'n', names)",
    ] {
        assert_eq!(undeclared_keys(script), [""; 0], "{script}");
    }
}

/// Returns the calls of a script whose first argument is not a declared key. All arguments of
/// `UNLINK` and `DEL` are keys.
fn undeclared_keys(script: &str) -> Vec<String> {
    let calls = script.split("redis.").skip(1).map(|rest| rest.lines().next().unwrap());
    calls.filter(|call| !is_declared(call)).map(str::to_owned).collect()
}

fn is_declared(call: &str) -> bool {
    let Some((command, rest)) = call.strip_prefix("call('").and_then(|rest| rest.split_once('\''))
    else {
        return false;
    };
    if command == "TIME" {
        return rest.starts_with(')');
    }
    let mut arguments = rest.split(')').next().unwrap().trim_start_matches(", ").split(", ");
    let is_key = |argument: &str| {
        let number = argument.strip_prefix("KEYS[").and_then(|rest| rest.strip_suffix(']'));
        number.is_some_and(|number| number.parse::<u8>().is_ok())
    };
    match command {
        "UNLINK" | "DEL" => arguments.all(is_key),
        _ => arguments.next().is_some_and(is_key),
    }
}
