//! The fixtures of the Redis tests: real and fake servers, and a proxy that injects faults.

use std::{
    env, fs,
    io::{self, ErrorKind, Read as _, Write as _},
    mem::ManuallyDrop,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    thread,
    time::Duration,
};

use crate::support::{
    End, FakeRedis, FakeReply, Fault, FaultyProxy, RedisCluster, RedisReply, RedisSentinel,
    RedisServer, RedisWire, block_until, command_name, handshake_reply, refusing_addr, secs,
};

/// A read time-out for replies that must not come.
const SHORT: Duration = Duration::from_millis(50);

fn is_time_out(result: io::Result<RedisReply>) -> bool {
    // The kind of a read time-out depends on the operating system.
    result.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn frozen_server_keeps_connections_and_replies_when_thawed() {
    let server = RedisServer::start();
    let mut wire = server.wire();
    wire.command(&["SET", "a", "1"]);
    server.freeze();
    wire.send(&["GET", "a"]).unwrap();
    wire.set_patience(SHORT);
    assert!(is_time_out(wire.receive()));
    server.thaw();
    wire.set_patience(secs(10));
    assert_eq!(wire.receive().unwrap(), RedisReply::Bytes(b"1".to_vec()));
}

#[test]
fn restarted_server_keeps_port_and_settings_and_is_empty() {
    let server = RedisServer::with(&["--maxmemory", "3mb"]);
    let addr = server.addr();
    let mut wire = server.wire();
    wire.command(&["SET", "a", "1"]);
    server.kill();
    assert!(wire.receive().is_err());
    assert_eq!(server.ask(&["PING"]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    server.restart();
    assert_eq!(server.addr(), addr);
    assert_eq!(server.command(&["DBSIZE"]), "0");
    assert_eq!(server.info("maxmemory").unwrap(), (3 * 1024 * 1024).to_string());
}

#[test]
fn dropped_server_refuses_connections() {
    let server = RedisServer::start();
    server.freeze();
    let addr = server.addr();
    drop(server);
    assert_eq!(RedisWire::open(addr).err().unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn server_counts_and_monitors_commands() {
    let server = RedisServer::start();
    server.forget_calls();
    let mut monitor = server.monitor();
    server.command(&["SET", "a", "b c"]);
    server.command(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "a"]);
    let commands = monitor.so_far();
    assert_eq!(commands[0], r#""SET" "a" "b c""#);
    assert_eq!(commands.last().unwrap(), r#"lua "GET" "a""#);
    assert_eq!(monitor.so_far(), Vec::<String>::new());
    let calls = server.calls();
    assert_eq!((calls["set"], calls["get"], calls["eval"]), (1, 1, 1));
    assert!(!calls.contains_key("ping"));
}

#[test]
fn unused_address_refuses_connections() {
    assert_eq!(
        TcpStream::connect(refusing_addr()).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

/// A server that answers each read with `reply` and keeps the connection until the client closes
/// it.
fn constant_server(reply: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut bytes = [0; 64];
            while client.read(&mut bytes).is_ok_and(|read| read > 0) {
                let _ = client.write_all(reply);
            }
        }
    });
    addr
}

/// Sends one byte through the proxy.
fn request(proxy: &FaultyProxy) -> TcpStream {
    let mut client = TcpStream::connect(proxy.addr()).unwrap();
    client.set_read_timeout(Some(secs(10))).unwrap();
    client.write_all(b"?").unwrap();
    client
}

#[test]
fn proxy_cuts_replies_after_exact_number_of_bytes() {
    let proxy = FaultyProxy::of(constant_server(b"0123456789"));
    for after in 0..=10 {
        proxy.set(Fault::Cut(after, End::Close));
        let mut got = Vec::new();
        request(&proxy).read_to_end(&mut got).unwrap();
        assert_eq!(got, b"0123456789"[..after]);

        proxy.set(Fault::Cut(after, End::Reset));
        let mut got = Vec::new();
        let error = request(&proxy).read_to_end(&mut got).unwrap_err();
        assert_eq!(
            (got.as_slice(), error.kind()),
            (&b"0123456789"[..after], ErrorKind::ConnectionReset)
        );
    }
    assert_eq!(proxy.accepted(), 22);
    assert_eq!(proxy.requested(), 22);
    assert_eq!(proxy.replied(), 2 * (0..=10).sum::<u64>());
    block_until("all connections are closed", || proxy.open() == 0);
}

#[test]
fn proxy_counts_bytes_from_when_cut_is_set() {
    let proxy = FaultyProxy::of(constant_server(b"0123456789"));
    let mut client = request(&proxy);
    let mut got = [0; 10];
    client.read_exact(&mut got).unwrap();
    proxy.set(Fault::Cut(3, End::Close));
    client.write_all(b"?").unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"012");
}

#[test]
fn proxy_holds_traffic_until_black_hole_or_mute_ends() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::of(server.addr());
    for (fault, request_passes) in [(Fault::BlackHole, false), (Fault::Mute, true)] {
        proxy.set(fault);
        let mut wire = RedisWire::open(proxy.addr()).unwrap();
        wire.send(&["INCR", "a"]).unwrap();
        wire.set_patience(SHORT);
        assert!(is_time_out(wire.receive()));
        let exists = || server.command(&["EXISTS", "a"]);
        if request_passes {
            block_until("the request reaches the server", || exists() == "1");
        } else {
            assert_eq!(exists(), "0");
        }
        assert!(is_time_out(wire.receive()));
        proxy.set(Fault::None);
        wire.set_patience(secs(10));
        assert_eq!(wire.receive().unwrap(), RedisReply::Integer(1));
        server.command(&["FLUSHALL"]);
    }
}

#[test]
fn proxy_refuses_new_connections_and_drops_open_ones_on_demand() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::of(server.addr());
    let mut wire = RedisWire::open(proxy.addr()).unwrap();
    wire.command(&["PING"]);
    proxy.set(Fault::Refuse);
    assert!(RedisWire::open(proxy.addr()).unwrap().ask(&["PING"]).is_err());
    wire.command(&["PING"]);
    proxy.drop_connections();
    block_until("the connection is closed", || proxy.open() == 0);
    assert!(wire.ask(&["PING"]).is_err());
    assert_eq!(proxy.accepted(), 2);
}

#[test]
fn proxy_delays_replies_as_a_whole_or_byte_by_byte() {
    let proxy = FaultyProxy::of(constant_server(b"0123456789"));
    let timed = |fault| {
        proxy.set(fault);
        let begin = tokio::time::Instant::now();
        let mut got = [0; 10];
        request(&proxy).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"0123456789");
        begin.elapsed()
    };
    assert!(timed(Fault::Delay(SHORT)) >= SHORT);
    assert!(timed(Fault::Drip(SHORT / 10)) >= SHORT);
}

#[test]
fn server_ends_with_the_process_that_started_it() {
    // Set in the child process: the file that gets the address of the server it leaves behind.
    const ADDRESS_FILE: &str = "ACTIX_WEB_CACHE_TEST_ADDRESS_FILE";
    if let Some(file) = env::var_os(ADDRESS_FILE) {
        let server = ManuallyDrop::new(RedisServer::start());
        server.freeze();
        fs::write(file, server.addr().to_string()).unwrap();
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let ran = Command::new(env::current_exe().unwrap())
        .args(["redis::fixtures::server_ends_with_the_process_that_started_it", "--exact"])
        .env(ADDRESS_FILE, file.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let addr: SocketAddr = fs::read_to_string(file.path()).unwrap().parse().unwrap();
    block_until("the server has ended", || TcpStream::connect(addr).is_err());
}

#[actix_web::test]
async fn cluster_replies_moved_and_ask_while_slots_move() {
    let cluster = RedisCluster::start();
    let keys: Vec<_> = (0..3).map(|node| cluster.key_on(node)).collect();
    let moved = error_of(cluster.node(0).ask(&["GET", &keys[1]]));
    assert!(moved.starts_with("MOVED ") && moved.ends_with(&cluster.node(1).addr().to_string()));

    // Move the slot of node 1's key to node 2.
    let slot = cluster.slot_of(&keys[1]);
    cluster.node(1).command(&["SET", &keys[1], "here"]);
    let moving = cluster.begin_slot_move(slot, 1, 2);
    assert_eq!(cluster.node(1).command(&["GET", &keys[1]]), "here");
    moving.move_keys();
    let ask = error_of(cluster.node(1).ask(&["GET", &keys[1]]));
    assert_eq!(ask, format!("ASK {slot} {}", cluster.node(2).addr()));
    let mut asking = cluster.node(2).wire();
    asking.command(&["ASKING"]);
    assert_eq!(asking.command(&["GET", &keys[1]]), "here");
    assert_eq!(cluster.node_of(&keys[1]), 1);
    moving.finish().await;
    assert_eq!(cluster.node_of(&keys[1]), 2);
    assert_eq!(cluster.node(2).command(&["GET", &keys[1]]), "here");
    assert!(error_of(cluster.node(1).ask(&["GET", &keys[1]])).starts_with("MOVED "));
    assert_eq!([0, 2].map(|node| cluster.node_of(&keys[node])), [0, 2]);
}

#[test]
fn restarted_node_keeps_slots_and_is_empty() {
    let cluster = RedisCluster::start();
    let key = cluster.key_on(1);
    cluster.node(1).command(&["SET", &key, "1"]);
    cluster.node(1).restart();
    assert!(error_of(cluster.node(1).ask(&["GET", &key])).starts_with("CLUSTERDOWN "));
    cluster.settle();
    assert_eq!(cluster.node_of(&key), 1);
    assert_eq!(cluster.node(1).ask(&["GET", &key]).unwrap(), RedisReply::Nil);
}

/// The text of an error reply.
fn error_of(reply: io::Result<RedisReply>) -> String {
    reply.unwrap().accepted().expect_err("an error reply").to_string()
}

#[test]
fn sentinel_promotes_the_replica() {
    let sentinel = RedisSentinel::start();
    let (former, replica) = (sentinel.master().port(), sentinel.other().port());
    assert!(error_of(sentinel.other().ask(&["SET", "a", "1"])).starts_with("READONLY "));
    sentinel.failover();
    assert_eq!((sentinel.master().port(), sentinel.other().port()), (replica, former));
    sentinel.settle();
    assert_eq!(sentinel.other().info("role").unwrap(), "slave");
    sentinel.master().kill();
    sentinel.await_master_after(replica);
    assert_eq!(sentinel.master().port(), former);
    assert_eq!(sentinel.master().command(&["SET", "a", "1"]), "OK");
}

#[test]
fn fake_server_replies_to_each_command_of_a_pipeline() {
    let fake = FakeRedis::new(|command| match command_name(command).as_str() {
        "GET" => FakeReply::bulk(&command[1]),
        "SET" => FakeReply::Nothing,
        "TYPE" => FakeReply::Last(b"$100\r\nhalf".to_vec()),
        _ => FakeReply::error("LOADING Redis is loading the dataset in memory"),
    });
    let mut wire = RedisWire::open(fake.addr()).unwrap();
    for command in
        [&["PING"][..], &["GET", "a"], &["SET", "a", "1"], &["KEYS", "*"], &["TYPE", "a"]]
    {
        wire.send(command).unwrap();
    }
    assert_eq!(wire.receive().unwrap().to_string(), "PONG");
    assert_eq!(wire.receive().unwrap().to_string(), "a");
    assert!(error_of(wire.receive()).starts_with("LOADING "));
    assert_eq!(wire.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(fake.heard()[2], ["SET", "a", "1"]);
    assert_eq!(fake.accepted(), 1);
}

#[test]
fn fake_server_can_reject_the_handshake() {
    let fake = FakeRedis::from_the_start(|command| match command_name(command).as_str() {
        "AUTH" => FakeReply::error("WRONGPASS invalid username-password pair or user is disabled."),
        _ => handshake_reply(command).unwrap_or(FakeReply::Nothing),
    });
    assert!(
        error_of(RedisWire::open(fake.addr()).unwrap().ask(&["AUTH", "x"])).contains("WRONGPASS")
    );
    assert_eq!(RedisWire::open(fake.addr()).unwrap().command(&["PING", "7"]), "7");
}

#[actix_web::test]
async fn redis_client_accepts_the_fake_server() {
    use ::redis::{AsyncCommands as _, Client, ErrorKind, RedisError, ServerErrorKind};

    let fake = FakeRedis::new(|command| match command[1].as_slice() {
        b"busy" => FakeReply::error("LOADING Redis is loading the dataset in memory"),
        b"down" => FakeReply::error("MASTERDOWN Link with MASTER is down"),
        b"invalid" => FakeReply::Bytes(b"@invalid\r\n".to_vec()),
        key => FakeReply::bulk(key),
    });
    for query in ["", "3", "?protocol=resp3"] {
        let client = Client::open(fake.url() + query).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut get = async |key| connection.get::<_, String>(key).await;
        assert_eq!(get("a").await.unwrap(), "a");
        let kind = |reply: Result<_, RedisError>| reply.map(drop).unwrap_err().kind();
        assert_eq!(kind(get("busy").await), ErrorKind::Server(ServerErrorKind::BusyLoading));
        assert_eq!(kind(get("down").await), ErrorKind::Server(ServerErrorKind::MasterDown));
        assert_eq!(kind(get("invalid").await), ErrorKind::Parse);
    }
}
