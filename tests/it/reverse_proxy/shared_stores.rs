//! Two reverse proxies over one store on Redis.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{Origin, Proxy, RawMessage, RedisCluster, RedisServer, ask, block_until};

/// An origin whose responses are numbered.
fn origin() -> Origin {
    let responses = AtomicUsize::new(0);
    Origin::start(move |_| {
        let body = format!("response {}", responses.fetch_add(1, Ordering::SeqCst));
        let length = body.len();
        format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .into_bytes()
    })
}

/// Requests `path` until the response is a hit.
fn until_hit(proxy: &Proxy, path: &str) -> RawMessage {
    let mut answer = proxy.get(path);
    block_until("the response is a hit", || {
        answer = proxy.get(path);
        answer.cache_status().starts_with("hit")
    });
    answer
}

/// A miss of one proxy is a hit of the other, and an unsafe request to one invalidates the page in
/// both (RFC 9111, section 4.4).
fn check_shared_store(store: &str) {
    let origin = origin();
    // A namespace for each pair of proxies.
    let namespace = format!("at-{}", origin.addr.port());
    let args = ["--store", store, "--namespace", &namespace];
    let [one, other] = [(); 2].map(|()| Proxy::of(origin.addr, &args));
    // On a busy machine a call of the store may exceed its time limit, so that a proxy asks the
    // origin again: then try another page.
    let shared = (0..20).find_map(|n| {
        let path = format!("/page/{n}");
        let requests = origin.requests().len();
        let first = until_hit(&one, &path);
        let second = until_hit(&other, &path);
        (origin.requests().len() == requests + 1).then_some((path, first, second))
    });
    let (path, first, second) = shared.expect("a page for which the proxies ask the origin once");
    assert_eq!(second.body, first.body, "{store}");
    let request =
        format!("DELETE {path} HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n");
    assert_eq!(ask(other.addr, request).expect("a response").status(), "200");
    let is_purged = |proxy: &Proxy| proxy.get(&path).body != first.body;
    assert!(is_purged(&other), "{store}: purged page served by the proxy that purged it");
    if store.starts_with("tiered+") {
        block_until("the purge reaches the other proxy", || is_purged(&one));
    } else {
        assert!(is_purged(&one), "{store}: purged page served by the other proxy");
    }
}

#[test]
fn proxies_share_redis() {
    let redis = RedisServer::start();
    check_shared_store(redis.url().as_str());
}

#[test]
fn proxies_with_memory_share_redis() {
    let redis = RedisServer::start();
    check_shared_store(&format!("tiered+{}", redis.url()));
}

#[test]
fn proxies_share_cluster() {
    let cluster = RedisCluster::start();
    let nodes: Vec<_> = (0..3).map(|index| cluster.node(index).addr().to_string()).collect();
    check_shared_store(&format!("redis-cluster://{}", nodes.join(",")));
    check_shared_store(&format!("tiered+redis-cluster://{}", nodes.join(",")));
}
