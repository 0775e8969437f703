//! The parts that tests of stores on Redis are made with do what they say.

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
    End, FakeRedis, Fault, FaultyProxy, RedisCluster, RedisReply, RedisSentinel, RedisServer,
    RedisWire, Say, greet, name_of, nothing_listens, secs, within,
};

const SOON: Duration = Duration::from_millis(50);

fn is_time_out(result: io::Result<RedisReply>) -> bool {
    // Which of the two it is differs among systems.
    result.is_err_and(|e| matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn a_frozen_server_keeps_its_connections_and_answers_once_it_is_thawed() {
    let server = RedisServer::start();
    let mut wire = server.wire();
    wire.command(&["SET", "a", "1"]);
    server.freeze();
    wire.send(&["GET", "a"]).unwrap();
    wire.set_patience(SOON);
    assert!(is_time_out(wire.receive()));
    server.thaw();
    wire.set_patience(secs(10));
    assert_eq!(wire.receive().unwrap(), RedisReply::Bytes(b"1".to_vec()));
}

#[test]
fn a_restarted_server_has_the_same_port_and_settings_and_nothing_in_it() {
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
fn a_dropped_server_is_gone() {
    let server = RedisServer::start();
    server.freeze();
    let addr = server.addr();
    drop(server);
    assert_eq!(RedisWire::open(addr).err().unwrap().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn a_servers_calls_are_counted_and_listened_to() {
    let server = RedisServer::start();
    server.forget_calls();
    let mut monitor = server.monitor();
    server.command(&["SET", "a", "b c"]);
    server.command(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "a"]);
    let heard = monitor.so_far();
    assert_eq!(heard[0], r#""SET" "a" "b c""#);
    assert_eq!(heard.last().unwrap(), r#""GET" "a""#);
    assert_eq!(monitor.so_far(), Vec::<String>::new());
    let calls = server.calls();
    assert_eq!((calls["set"], calls["get"], calls["eval"]), (1, 1, 1));
    assert!(!calls.contains_key("ping"));
}

#[test]
fn nobody_is_met_where_nothing_listens() {
    assert_eq!(
        TcpStream::connect(nothing_listens()).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

/// A server that says so much to whoever has said something, and waits for the client's end.
fn says(replies: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut bytes = [0; 64];
            while client.read(&mut bytes).is_ok_and(|read| read > 0) {
                let _ = client.write_all(replies);
            }
        }
    });
    addr
}

fn ask(proxy: &FaultyProxy) -> TcpStream {
    let mut client = TcpStream::connect(proxy.addr()).unwrap();
    client.set_read_timeout(Some(secs(10))).unwrap();
    client.write_all(b"?").unwrap();
    client
}

#[test]
fn a_proxy_cuts_replies_after_exactly_so_many_bytes() {
    let proxy = FaultyProxy::of(says(b"0123456789"));
    for after in 0..=10 {
        proxy.set(Fault::Cut(after, End::Close));
        let mut got = Vec::new();
        ask(&proxy).read_to_end(&mut got).unwrap();
        assert_eq!(got, b"0123456789"[..after]);

        proxy.set(Fault::Cut(after, End::Reset));
        let mut got = Vec::new();
        let error = ask(&proxy).read_to_end(&mut got).unwrap_err();
        assert_eq!(
            (got.as_slice(), error.kind()),
            (&b"0123456789"[..after], ErrorKind::ConnectionReset)
        );
    }
    assert_eq!(proxy.accepted(), 22);
    assert_eq!(proxy.requested(), 22);
    assert_eq!(proxy.replied(), 2 * (0..=10).sum::<u64>());
    within("no connection is left", || proxy.open() == 0);
}

#[test]
fn a_proxy_counts_to_the_cut_from_the_moment_at_which_it_is_told() {
    let proxy = FaultyProxy::of(says(b"0123456789"));
    let mut client = ask(&proxy);
    let mut got = [0; 10];
    client.read_exact(&mut got).unwrap();
    proxy.set(Fault::Cut(3, End::Close));
    client.write_all(b"?").unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"012");
}

#[test]
fn a_black_hole_takes_requests_and_gives_nothing_until_it_is_over() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::of(server.addr());
    for (fault, arrives) in [(Fault::BlackHole, "0"), (Fault::Mute, "1")] {
        proxy.set(fault);
        let mut wire = RedisWire::open(proxy.addr()).unwrap();
        wire.send(&["INCR", "a"]).unwrap();
        wire.set_patience(SOON);
        assert!(is_time_out(wire.receive()));
        assert_eq!(server.command(&["EXISTS", "a"]), arrives);
        proxy.set(Fault::None);
        wire.set_patience(secs(10));
        assert_eq!(wire.receive().unwrap(), RedisReply::Integer(1));
        server.command(&["FLUSHALL"]);
    }
}

#[test]
fn a_proxy_refuses_new_connections_and_drops_open_ones_when_told() {
    let server = RedisServer::start();
    let proxy = FaultyProxy::of(server.addr());
    let mut wire = RedisWire::open(proxy.addr()).unwrap();
    wire.command(&["PING"]);
    proxy.set(Fault::Refuse);
    assert!(RedisWire::open(proxy.addr()).unwrap().ask(&["PING"]).is_err());
    wire.command(&["PING"]);
    proxy.drop_connections();
    within("the connection is closed", || proxy.open() == 0);
    assert!(wire.ask(&["PING"]).is_err());
    assert_eq!(proxy.accepted(), 2);
}

#[test]
fn a_proxy_delays_replies_and_lets_them_drip() {
    let proxy = FaultyProxy::of(says(b"0123456789"));
    let timed = |fault| {
        proxy.set(fault);
        let begin = tokio::time::Instant::now();
        let mut got = [0; 10];
        ask(&proxy).read_exact(&mut got).unwrap();
        assert_eq!(&got, b"0123456789");
        begin.elapsed()
    };
    assert!(timed(Fault::Delay(SOON)) >= SOON);
    assert!(timed(Fault::Drip(SOON / 10)) >= SOON);
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    const LEFT_AT: &str = "ACTIX_WEB_CACHE_TEST_LEFT_AT";
    if let Some(file) = env::var_os(LEFT_AT) {
        let server = ManuallyDrop::new(RedisServer::start());
        server.freeze();
        fs::write(file, server.addr().to_string()).unwrap();
        return;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let ran = Command::new(env::current_exe().unwrap())
        .args(["redis_fixtures::a_server_ends_with_the_process_that_started_it", "--exact"])
        .env(LEFT_AT, file.path())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let addr: SocketAddr = fs::read_to_string(file.path()).unwrap().parse().unwrap();
    within("the server is gone", || TcpStream::connect(addr).is_err());
}

#[actix_web::test]
async fn a_cluster_says_moved_and_ask_as_its_slots_go() {
    let cluster = RedisCluster::start();
    let keys: Vec<_> = (0..3).map(|node| cluster.key_on(node)).collect();
    let moved = error(cluster.node(0).ask(&["GET", &keys[1]]));
    assert!(moved.starts_with("MOVED ") && moved.ends_with(&cluster.node(1).addr().to_string()));

    // The slot of node 1's key goes to node 2.
    let slot = cluster.slot_of(&keys[1]);
    cluster.node(1).command(&["SET", &keys[1], "here"]);
    let moving = cluster.begin_slot_move(slot, 1, 2);
    assert_eq!(cluster.node(1).command(&["GET", &keys[1]]), "here");
    moving.move_keys();
    let ask = error(cluster.node(1).ask(&["GET", &keys[1]]));
    assert_eq!(ask, format!("ASK {slot} {}", cluster.node(2).addr()));
    let mut asking = cluster.node(2).wire();
    asking.command(&["ASKING"]);
    assert_eq!(asking.command(&["GET", &keys[1]]), "here");
    assert_eq!(cluster.node_of(&keys[1]), 1);
    moving.finish().await;
    assert_eq!(cluster.node_of(&keys[1]), 2);
    assert_eq!(cluster.node(2).command(&["GET", &keys[1]]), "here");
    assert!(error(cluster.node(1).ask(&["GET", &keys[1]])).starts_with("MOVED "));
    assert_eq!([0, 2].map(|node| cluster.node_of(&keys[node])), [0, 2]);
}

#[test]
fn a_restarted_node_has_its_slots_and_no_keys() {
    let cluster = RedisCluster::start();
    let key = cluster.key_on(1);
    cluster.node(1).command(&["SET", &key, "1"]);
    cluster.node(1).restart();
    assert!(error(cluster.node(1).ask(&["GET", &key])).starts_with("CLUSTERDOWN "));
    cluster.settle();
    assert_eq!(cluster.node_of(&key), 1);
    assert_eq!(cluster.node(1).ask(&["GET", &key]).unwrap(), RedisReply::Nil);
}

fn error(reply: io::Result<RedisReply>) -> String {
    reply.unwrap().accepted().expect_err("an error").to_string()
}

#[test]
fn a_sentinel_makes_the_replica_the_master() {
    let house = RedisSentinel::start();
    let (former, replica) = (house.master().port(), house.other().port());
    assert!(error(house.other().ask(&["SET", "a", "1"])).starts_with("READONLY "));
    house.failover();
    assert_eq!((house.master().port(), house.other().port()), (replica, former));
    house.settle();
    assert_eq!(house.other().info("role").unwrap(), "slave");
    house.master().kill();
    house.await_master_after(replica);
    assert_eq!(house.master().port(), former);
    assert_eq!(house.master().command(&["SET", "a", "1"]), "OK");
}

#[test]
fn a_fake_server_answers_each_command_of_a_pipeline() {
    let fake = FakeRedis::new(|command| match name_of(command).as_str() {
        "GET" => Say::bulk(&command[1]),
        "SET" => Say::Nothing,
        "TYPE" => Say::Last(b"$100\r\nhalf".to_vec()),
        _ => Say::error("LOADING Redis is loading the dataset in memory"),
    });
    let mut wire = RedisWire::open(fake.addr()).unwrap();
    for command in
        [&["PING"][..], &["GET", "a"], &["SET", "a", "1"], &["KEYS", "*"], &["TYPE", "a"]]
    {
        wire.send(command).unwrap();
    }
    assert_eq!(wire.receive().unwrap().to_string(), "PONG");
    assert_eq!(wire.receive().unwrap().to_string(), "a");
    assert!(error(wire.receive()).starts_with("LOADING "));
    assert_eq!(wire.receive().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert_eq!(fake.heard()[2], ["SET", "a", "1"]);
    assert_eq!(fake.accepted(), 1);
}

#[test]
fn a_fake_server_need_not_be_kind_from_the_start() {
    let fake = FakeRedis::from_the_start(|command| match name_of(command).as_str() {
        "AUTH" => Say::error("WRONGPASS invalid username-password pair or user is disabled."),
        _ => greet(command).unwrap_or(Say::Nothing),
    });
    assert!(error(RedisWire::open(fake.addr()).unwrap().ask(&["AUTH", "x"])).contains("WRONGPASS"));
    assert_eq!(RedisWire::open(fake.addr()).unwrap().command(&["PING", "7"]), "7");
}

#[cfg(feature = "redis")]
#[actix_web::test]
async fn clients_take_a_fake_server_for_a_real_one() {
    use deadpool_redis::redis::{
        AsyncCommands as _, Client, ErrorKind, RedisError, ServerErrorKind,
    };

    let fake = FakeRedis::new(|command| match command[1].as_slice() {
        b"busy" => Say::error("LOADING Redis is loading the dataset in memory"),
        b"down" => Say::error("MASTERDOWN Link with MASTER is down"),
        b"strange" => Say::Bytes(b"@what\r\n".to_vec()),
        key => Say::bulk(key),
    });
    for query in ["", "3", "?protocol=resp3"] {
        let client = Client::open(fake.url() + query).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut get = async |key| connection.get::<_, String>(key).await;
        assert_eq!(get("a").await.unwrap(), "a");
        let kind = |reply: Result<_, RedisError>| reply.map(drop).unwrap_err().kind();
        assert_eq!(kind(get("busy").await), ErrorKind::Server(ServerErrorKind::BusyLoading));
        assert_eq!(kind(get("down").await), ErrorKind::Server(ServerErrorKind::MasterDown));
        assert_eq!(kind(get("strange").await), ErrorKind::Parse);
    }
}
