//! Servers, clients, clocks and caches for the tests.

mod background;
mod captured_log;
mod client;
mod entity_tag;
mod fake_redis;
mod faulty_proxy;
mod gated_app;
mod held_request;
mod hold_point;
mod hooked_store;
mod http2;
mod manual_bodies;
mod origin;
mod own_process;
mod page_server;
mod ports;
mod program;
mod random_cases;
mod random_replies;
mod redis;
mod replies;
mod server;
mod shared_lines;
mod simulated_processes;
mod test_app;
pub(crate) mod validators;
mod wait;
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
    background::BackgroundRuntime,
    captured_log::CapturedLog,
    client::{Answer, Client, Protocol, raw},
    entity_tag::with_entity_tag,
    fake_redis::{FakeRedis, FakeReply, command_name, handshake_reply},
    faulty_proxy::{End, Fault, FaultyProxy},
    gated_app::{CLIENTS, GatedApp},
    held_request::hold,
    hold_point::HoldPoint,
    hooked_store::{HookedStore, StoreCall, StoreEvent, StoreFault},
    http2::body_over_http2,
    manual_bodies::{BodySender, ManualBodies, manual_bodies},
    origin::{Origin, RawMessage, ask, connect, get},
    own_process::{peak_resident_bytes, resident_bytes, runs_in_own_process},
    page_server::{PageServer, assert_all_expires, resources},
    ports::{free_port, refusing_addr},
    program::{Program, Proxy, example},
    random_cases::{Tally, random_cases, random_cases_of_fixed_seed},
    random_replies::{
        BodyKind, Directive, ENTITY_TAG, Meaning, RandomReply, Value, directive, passed_field,
        random_reply,
    },
    redis::{RedisCluster, RedisReply, RedisSentinel, RedisServer, RedisWire},
    replies::{Reply, identity_fields, serve_replies},
    server::{Server, serve},
    shared_lines::{SharedLines, conditions},
    simulated_processes::{LeaseAnswer, SimulatedProcesses},
    test_app::{TestApp, recording_app, requested_response, test_app},
    wait::{block_until, wait_until},
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

/// Waits until no fill is open and no body bytes are in fills.
pub(crate) async fn fills_ended(coordinator: &Coordinator) {
    wait_until("all fills ended", || {
        coordinator.open_fills() == 0 && coordinator.bytes_in_fills() == 0
    })
    .await;
}

/// The stored response for `http://t/`, served by an application that has no handler.
pub(crate) fn hit_without_handler(store: MemoryStore) -> Message {
    let cache = Cache::new(store);
    let server = serve(1, move || App::new().wrap(cache.clone()));
    let message = Wire::open(server.addr).get("/", "");
    assert!(message.is_hit(), "{}", message.head);
    message
}
