//! A server whose handler waits at a gate and has bodies that the test sends chunk by chunk.

use std::sync::Arc;

use actix_web::{App, HttpRequest, dev::Service as _, http::header::HeaderName, web};
use actix_web_cache::{
    Cache, MemoryStore, Policy,
    store::{Coordinator, Store as _},
};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{Method, Response, body::Incoming};
use tokio::{
    sync::{Semaphore, mpsc::UnboundedReceiver},
    task::JoinHandle,
    time::timeout,
};

use crate::support::{
    Answer, BodySender, Client, Counter, Protocol, Server, SharedLines, conditions, fills_ended,
    manual_bodies, secs, serve, store, wait_until,
};

/// The server, its counters, and the gate of its handler.
pub(super) struct FillServer {
    pub(super) server: Server,
    pub(super) bodies: UnboundedReceiver<BodySender>,
    /// Requests that have arrived at the cache.
    pub(super) arrived: Counter,
    /// Runs of the handler that have begun.
    pub(super) runs: Counter,
    /// Runs of the handler that were dropped before they returned a response.
    pub(super) dropped: Counter,
    /// One permit lets one run of the handler respond.
    pub(super) gate: Arc<Semaphore>,
    /// The conditions and ranges of the requests that reached the handler.
    pub(super) conditions: SharedLines,
    pub(super) coordinator: Coordinator,
}

/// Counts a run of the handler that is dropped before it responds.
struct DropCount(Option<Counter>);

impl DropCount {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for DropCount {
    fn drop(&mut self) {
        if let Some(counter) = &self.0 {
            counter.count();
        }
    }
}

/// A server over a new store. The bodies have a declared length if `length` is given.
pub(super) fn fill_server(workers: usize, length: Option<u64>, policy: Policy) -> FillServer {
    fill_server_over(&store(), workers, length, policy)
}

/// A server like [`fill_server`] over `store`. A request field `want-NAME` becomes the field `NAME`
/// of the response.
pub(super) fn fill_server_over(
    store: &MemoryStore,
    workers: usize,
    length: Option<u64>,
    policy: Policy,
) -> FillServer {
    let cache = Cache::builder(store.clone()).policy(policy).build().unwrap();
    fill_server_with(&cache, store.coordinator(), workers, length)
}

/// A server like [`fill_server_over`], with this cache.
pub(super) fn fill_server_with(
    cache: &Cache,
    coordinator: &Coordinator,
    workers: usize,
    length: Option<u64>,
) -> FillServer {
    let cache = cache.clone();
    let (handlers, bodies) = manual_bodies();
    let conditions = SharedLines::default();
    let (arrived, runs, dropped) = (Counter::default(), Counter::default(), Counter::default());
    let gate = Arc::new(Semaphore::new(0));
    let shared = (handlers, arrived.clone(), runs.clone(), dropped.clone(), Arc::clone(&gate));
    let recorded = conditions.clone();
    let server = serve(workers, move || {
        let (handlers, arrived, runs, dropped, gate) = shared.clone();
        let recorded = recorded.clone();
        let handler = move |request: HttpRequest| {
            recorded.add(self::conditions(&request));
            let (handlers, gate) = (handlers.clone(), Arc::clone(&gate));
            let drop_count = DropCount(Some(dropped.clone()));
            runs.count();
            async move {
                gate.acquire().await.unwrap().forget();
                drop_count.disarm();
                let mut response = handlers.response(length);
                for (name, value) in request.headers() {
                    if let Some(name) = name.as_str().strip_prefix("want-") {
                        let name: HeaderName = name.parse().unwrap();
                        response.headers_mut().insert(name, value.clone());
                    }
                }
                response
            }
        };
        App::new().default_service(web::to(handler)).wrap(cache.clone()).wrap_fn(
            move |request, inner| {
                arrived.count();
                inner.call(request)
            },
        )
    });
    let coordinator = coordinator.clone();
    FillServer { server, bodies, arrived, runs, dropped, gate, conditions, coordinator }
}

impl FillServer {
    pub(super) fn client(&self, protocol: Protocol) -> Client {
        Client::new(self.server.addr, protocol)
    }

    /// Sends a request by each of `count` clients, and waits until all have arrived at the cache.
    pub(super) async fn followers(
        &self,
        protocol: Protocol,
        count: usize,
    ) -> Vec<JoinHandle<Answer>> {
        let before = self.arrived.get();
        let requests: Vec<_> = (0..count)
            .map(|_| {
                let client = self.client(protocol);
                tokio::task::spawn_local(async move { client.get("/").await })
            })
            .collect();
        wait_until("all requests have arrived", || self.arrived.get() == before + count).await;
        requests
    }

    /// Sends a GET request, and lets its run of the handler respond. Returns the head of the
    /// response, and the test's end of its body.
    pub(super) async fn begin(
        &mut self,
        client: &Client,
        path: &str,
        fields: &[(&str, &str)],
    ) -> (Response<Incoming>, BodySender) {
        self.gate.add_permits(1);
        let request = client.start(Method::GET, path, fields, "");
        let (response, sender) = tokio::join!(request, self.next_feed());
        (response.unwrap(), sender)
    }

    /// Lets one run of the handler respond, and returns the test's end of its body.
    pub(super) async fn sender(&mut self) -> BodySender {
        self.gate.add_permits(1);
        self.next_feed().await
    }

    /// The test's end of the body of a run that the gate has let respond already.
    pub(super) async fn next_feed(&mut self) -> BodySender {
        timeout(secs(20), self.bodies.recv()).await.expect("the handler responds").unwrap()
    }

    /// Waits until the handler has run this often.
    pub(super) async fn ran(&self, runs: usize) {
        wait_until("the handler runs", || self.runs.get() == runs).await;
    }

    /// Waits until no fill is open and no request waits for another.
    pub(super) async fn fills_ended(&self) {
        fills_ended(&self.coordinator).await;
        wait_until("no request waits", || self.coordinator.open_flights() == 0).await;
    }
}

/// The next chunk of a body.
pub(super) async fn next_chunk(body: &mut Incoming) -> Bytes {
    let frame = timeout(secs(20), body.frame()).await.expect("a chunk in time");
    frame.expect("another chunk").unwrap().into_data().unwrap()
}
