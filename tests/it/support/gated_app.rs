//! An application whose handler waits until the test lets it continue, and many concurrent clients.

use std::{
    future::{Future as _, poll_fn},
    mem,
    sync::Arc,
};

use actix_web::{App, HttpRequest, HttpResponse, dev::Service as _, web};
use actix_web_cache::Cache;
use futures_util::future::join_all;
use tokio::{sync::Semaphore, time::timeout};

use super::{Answer, Client, Counter, Protocol, Server, secs, serve, wait_until};

/// The number of concurrent clients.
pub(crate) const CLIENTS: usize = 200;

/// The state that a handler shares with its test.
#[derive(Clone)]
pub(crate) struct GatedApp {
    /// The number of requests that have reached the cache.
    entered: Counter,
    /// The number of these requests that have been polled once.
    pub(crate) arrived: Counter,
    /// The number of handler calls that have begun.
    pub(crate) runs: Counter,
    /// Each permit lets one handler call end.
    pub(crate) gate: Arc<Semaphore>,
}

impl GatedApp {
    pub(crate) fn new() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        let (entered, arrived, runs) = <(Counter, Counter, Counter)>::default();
        Self { entered, arrived, runs, gate }
    }

    /// Counts a handler call, waits for a permit, and returns the number of the call.
    pub(crate) async fn pass_gate(&self) -> usize {
        let run = self.runs.count();
        timeout(secs(20), self.gate.acquire()).await.unwrap().unwrap().forget();
        run
    }

    /// Starts a server. Each worker calls `cache` for its cache.
    pub(crate) fn serve(
        &self,
        workers: usize,
        cache: impl Fn() -> Cache + Clone + Send + 'static,
        handler: impl AsyncFn(&Self, HttpRequest) -> HttpResponse + Clone + Send + 'static,
    ) -> Server {
        let state = self.clone();
        serve(workers, move || {
            let (entered, arrived) = (state.entered.clone(), state.arrived.clone());
            let (state, handler) = (state.clone(), handler.clone());
            let page = web::to(move |request: HttpRequest| {
                let (state, handler) = (state.clone(), handler.clone());
                async move { handler(&state, request).await }
            });
            App::new().default_service(page).wrap(cache()).wrap_fn(move |request, inner| {
                let arrived = arrived.clone();
                entered.count();
                let mut counted = false;
                let mut answer = Box::pin(inner.call(request));
                // A request that was polled once has looked up the store and waits where it must.
                poll_fn(move |cx| {
                    let polled = answer.as_mut().poll(cx);
                    if !mem::replace(&mut counted, true) {
                        arrived.count();
                    }
                    polled
                })
            })
        })
    }

    /// Waits until all earlier requests have arrived, and returns their number. A request whose
    /// handler runs already may not have been counted yet.
    async fn arrived_before(&self) -> usize {
        wait_until("the earlier requests have arrived", || {
            self.arrived.get() == self.entered.get()
        })
        .await;
        self.arrived.get()
    }

    /// Sends a request from each of [`CLIENTS`] clients at once. Lets one handler call end once all
    /// requests have reached the cache.
    pub(crate) async fn send_all_at_once(
        &self,
        server: &Server,
        protocol: Protocol,
        fields: &[&[(&str, &str)]],
    ) -> Vec<Answer> {
        self.send_all_at_once_to(&[server], protocol, fields).await
    }

    /// Like [`send_all_at_once`](Self::send_all_at_once), with the clients spread over several servers.
    pub(crate) async fn send_all_at_once_to(
        &self,
        servers: &[&Server],
        protocol: Protocol,
        fields: &[&[(&str, &str)]],
    ) -> Vec<Answer> {
        let before = self.arrived_before().await;
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let server = servers[n % servers.len()];
                let fields = fields[n / servers.len() % fields.len()];
                (Client::new(server.addr, protocol), fields)
            })
            .collect();
        let answers = join_all(clients.iter().map(|(client, fields)| client.get_with("/", fields)));
        let release = async {
            wait_until("all requests have reached the cache", || {
                self.arrived.get() == before + CLIENTS
            })
            .await;
            self.gate.add_permits(1);
        };
        futures_util::join!(answers, release).0
    }

    /// Sends a request from each client at once. `generations` has the numbers of handler calls that
    /// run at once: each generation ends before the next one can begin.
    pub(crate) async fn send_in_generations(
        &self,
        case: &str,
        clients: &[Client],
        fields: &[(&str, &str)],
        generations: &[usize],
    ) -> Vec<Answer> {
        let (arrived, runs) = (self.arrived_before().await, self.runs.get());
        let answers = join_all(clients.iter().map(|client| client.get_with("/", fields)));
        let release = async {
            wait_until("all requests have reached the cache", || {
                self.arrived.get() == arrived + clients.len()
            })
            .await;
            let mut begun = runs;
            for size in generations {
                begun += size;
                let condition =
                    format!("{case}: {size} handler calls of {generations:?} run at once");
                wait_until(&condition, || self.runs.get() == begun).await;
                self.gate.add_permits(*size);
            }
        };
        let (answers, ()) = futures_util::join!(answers, release);
        assert_eq!(self.runs.get(), runs + generations.iter().sum::<usize>(), "{case}");
        answers
    }
}
