//! What the tests share: servers, clients, clocks, caches.

#![allow(dead_code, reason = "each helper is used by some rooms, none by all while they grow")]

mod alone;
mod background;
mod client;
mod fake_redis;
mod faulty_proxy;
mod feed;
mod fleet;
mod house;
mod logs;
mod notes;
mod origin;
mod ports;
mod program;
mod redis;
mod replies;
mod server;
mod shop;
mod site;
mod spy;
mod tagged;
mod watched;
mod wire;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::App;
use actix_web_cache::{Cache, CacheBuilder, ManualClock, MemoryStore, store::Coordinator};

pub(crate) use self::{
    alone::{is_alone, peak_resident, resident},
    background::Background,
    client::{Answer, Client, Protocol, raw},
    fake_redis::{FakeRedis, Say, greet, name_of},
    faulty_proxy::{End, Fault, FaultyProxy},
    feed::{Feed, Feeds, feeds},
    fleet::{Fleet, Says},
    house::{CLIENTS, House},
    logs::Lines,
    notes::{Notes, conditions},
    origin::{Origin, RawMessage, ask, connect, get},
    ports::{free_port, nothing_listens},
    program::{Program, Proxy, example},
    redis::{RedisCluster, RedisReply, RedisSentinel, RedisServer, RedisWire},
    replies::{Reply, serve_replies, who},
    server::{Server, serve},
    shop::{Shop, assert_all_expires, resources},
    site::{Site, noting, obey, site},
    spy::Spy,
    tagged::tagged,
    watched::{Stop, Watched},
    wire::{Message, Wire},
};

/// A moment long after 1970 and long before now.
pub(crate) const START: u64 = 1_700_000_000;

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A store large enough for any test.
pub(crate) fn store() -> MemoryStore {
    MemoryStore::new(64 * 1024 * 1024)
}

/// A builder over a store of its own, and the clock it goes by.
pub(crate) fn builder() -> (CacheBuilder, ManualClock) {
    let clock = ManualClock::at(START);
    (Cache::builder(store()).clock(clock.clock()), clock)
}

/// A default cache, and the clock it goes by.
pub(crate) fn cache() -> (Cache, ManualClock) {
    let (builder, clock) = builder();
    (builder.build().unwrap(), clock)
}

/// Counts runs of a handler, on all threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// Counts one, and tells which one it was, from 1.
    pub(crate) fn count(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Every protocol and number of workers that servers are tested with.
pub(crate) const SETUPS: [(Protocol, usize); 4] =
    [(Protocol::Http1, 1), (Protocol::Http1, 4), (Protocol::Http2, 1), (Protocol::Http2, 4)];

/// Waits until another thread has brought something about.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(secs(20), wait).await.is_ok(), "never came about: {what}");
}

/// The same, for what takes a while: it leaves the cores to those who bring it about.
pub(crate) async fn patiently(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(secs(20), wait).await.is_ok(), "never came about: {what}");
}

/// The same, for what another process brings about; it blocks its thread.
pub(crate) fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "never came about: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until no fill is open and no body is being copied.
pub(crate) async fn settled(coordinator: &Coordinator) {
    eventually("all fills ended", || {
        coordinator.open_fills() == 0 && coordinator.bytes_in_fills() == 0
    })
    .await;
}

/// What is stored for `http://t/`, as a server with nothing else shows it.
pub(crate) fn stored_alone(store: MemoryStore) -> Message {
    let cache = Cache::new(store);
    let server = serve(1, move || App::new().wrap(cache.clone()));
    let message = Wire::open(server.addr).get("/", "");
    assert!(message.is_hit(), "{}", message.head);
    message
}
