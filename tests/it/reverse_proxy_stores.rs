//! The reverse proxy example over stores that proxies share.

use crate::support::{Origin, Proxy, RawMessage, RedisCluster, RedisServer, ask, within};

/// An origin that tells how often each of its pages was asked for by now.
fn origin() -> Origin {
    let made = std::sync::atomic::AtomicUsize::new(0);
    Origin::start(move |_| {
        let body = format!("answer {}", made.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    })
}

/// What a proxy answers once it has it from the store.
fn hit(proxy: &Proxy, path: &str) -> RawMessage {
    let mut answer = proxy.get(path);
    within("a hit", || {
        answer = proxy.get(path);
        answer.cache_status().starts_with("hit")
    });
    answer
}

/// Two proxies over one store: a miss, a hit at the other, and an unsafe request that both know of.
fn two_share(store: &str) {
    let origin = origin();
    // What an earlier pair stored is not theirs.
    let namespace = format!("at-{}", origin.addr.port());
    let args = ["--store", store, "--namespace", &namespace];
    let [one, other] = [(); 2].map(|()| Proxy::of(origin.addr, &args));
    // Until the store is connected, answers pass; one that is stored is a hit from then on.
    let first = hit(&one, "/page");
    let asked = origin.requests().len();
    assert_eq!(hit(&other, "/page").body, first.body, "{store}");
    assert_eq!(origin.requests().len(), asked, "{store}: the other asks nobody");
    let request = "DELETE /page HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n";
    assert_eq!(ask(other.addr, request).expect("an answer").status(), "200");
    let told = |proxy: &Proxy| proxy.get("/page").body != first.body;
    assert!(told(&other), "{store}: who purged knows");
    if store.starts_with("tiered+") {
        within("the other proxy hears of it", || told(&one));
    } else {
        assert!(told(&one), "{store}: the other knows, too");
    }
}

#[test]
fn proxies_share_what_is_in_redis() {
    let redis = RedisServer::start();
    two_share(redis.url().as_str());
}

#[test]
fn proxies_share_what_is_in_redis_behind_memory() {
    let redis = RedisServer::start();
    two_share(&format!("tiered+{}", redis.url()));
}

#[cfg(feature = "redis-cluster")]
#[test]
fn proxies_share_what_is_in_a_cluster() {
    let cluster = RedisCluster::start();
    let nodes: Vec<_> = (0..3).map(|index| cluster.node(index).addr().to_string()).collect();
    two_share(&format!("redis-cluster://{}", nodes.join(",")));
    two_share(&format!("tiered+redis-cluster://{}", nodes.join(",")));
}
