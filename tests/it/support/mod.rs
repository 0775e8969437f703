//! Servers, clients, clocks and caches for the tests.

#![allow(dead_code, reason = "each test module uses some of the helpers")]

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

/// The initial time of manual clocks, in seconds since 1970.
pub(crate) const START: u64 = 1_700_000_000;

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A store large enough for any test.
pub(crate) fn store() -> MemoryStore {
    MemoryStore::new(64 * 1024 * 1024)
}

/// A builder with a new store, and the clock that it uses.
pub(crate) fn builder() -> (CacheBuilder, ManualClock) {
    let clock = ManualClock::at(START);
    (Cache::builder(store()).clock(clock.clock()), clock)
}

/// A cache with default settings, and the clock that it uses.
pub(crate) fn cache() -> (Cache, ManualClock) {
    let (builder, clock) = builder();
    (builder.build().unwrap(), clock)
}

/// A counter that threads share, for example of handler calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counter(Arc<AtomicUsize>);

impl Counter {
    /// Increments the counter and returns the new value.
    pub(crate) fn count(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// The combinations of protocol and number of workers that servers are tested with.
pub(crate) const SETUPS: [(Protocol, usize); 4] =
    [(Protocol::Http1, 1), (Protocol::Http1, 4), (Protocol::Http2, 1), (Protocol::Http2, 4)];

/// Waits until a condition holds that another thread brings about. It yields between the checks.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(secs(20), wait).await.is_ok(), "did not happen in time: {what}");
}

/// Waits for a condition like [`eventually`], but sleeps between the checks: for conditions that take
/// longer, so that other threads get the cores.
pub(crate) async fn patiently(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(secs(20), wait).await.is_ok(), "did not happen in time: {what}");
}

/// Waits for a condition that another process brings about. It blocks the thread.
pub(crate) fn within(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + secs(20);
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "did not happen in time: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until no fill is open and no body bytes are in fills.
pub(crate) async fn settled(coordinator: &Coordinator) {
    eventually("all fills ended", || {
        coordinator.open_fills() == 0 && coordinator.bytes_in_fills() == 0
    })
    .await;
}

/// The stored response for `http://t/`, served by an application that has no handler.
pub(crate) fn stored_alone(store: MemoryStore) -> Message {
    let cache = Cache::new(store);
    let server = serve(1, move || App::new().wrap(cache.clone()));
    let message = Wire::open(server.addr).get("/", "");
    assert!(message.is_hit(), "{}", message.head);
    message
}
