//! A handler that many ask at once, and a gate in it.

use std::sync::Arc;

use actix_web::{App, HttpRequest, HttpResponse, dev::Service as _, web};
use actix_web_cache::Cache;
use futures_util::future::join_all;
use tokio::{sync::Semaphore, time::timeout};

use super::{Answer, Client, Counter, Protocol, Server, eventually, secs, serve};

/// How many ask at once.
pub(crate) const CLIENTS: usize = 200;

/// What the handlers of a test share with it.
#[derive(Clone)]
pub(crate) struct House {
    /// Requests that have come to the cache.
    pub(crate) arrived: Counter,
    /// Runs of the handler that have begun.
    pub(crate) runs: Counter,
    /// One permit lets one run end.
    pub(crate) gate: Arc<Semaphore>,
}

impl House {
    pub(crate) fn new() -> Self {
        let gate = Arc::new(Semaphore::new(0));
        Self { arrived: Counter::default(), runs: Counter::default(), gate }
    }

    /// Counts a run, and waits to be let through.
    pub(crate) async fn run(&self) -> usize {
        let run = self.runs.count();
        timeout(secs(20), self.gate.acquire()).await.unwrap().unwrap().forget();
        run
    }

    /// A server whose caches `cache` makes, one for each worker.
    pub(crate) fn open(
        &self,
        workers: usize,
        cache: impl Fn() -> Cache + Clone + Send + 'static,
        handler: impl AsyncFn(&Self, HttpRequest) -> HttpResponse + Clone + Send + 'static,
    ) -> Server {
        let house = self.clone();
        serve(workers, move || {
            let (house, handler, arrived) = (house.clone(), handler.clone(), house.arrived.clone());
            let page = web::to(move |request: HttpRequest| {
                let (house, handler) = (house.clone(), handler.clone());
                async move { handler(&house, request).await }
            });
            App::new().default_service(page).wrap(cache()).wrap_fn(move |request, inner| {
                arrived.count();
                inner.call(request)
            })
        })
    }

    /// Asks by so many clients at once; lets one run through when all have come.
    pub(crate) async fn rush(
        &self,
        server: &Server,
        protocol: Protocol,
        fields: &[&[(&str, &str)]],
    ) -> Vec<Answer> {
        self.rush_at(&[server], protocol, fields).await
    }

    /// The same, at several servers in turn.
    pub(crate) async fn rush_at(
        &self,
        servers: &[&Server],
        protocol: Protocol,
        fields: &[&[(&str, &str)]],
    ) -> Vec<Answer> {
        let before = self.arrived.get();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let server = servers[n % servers.len()];
                let fields = fields[n / servers.len() % fields.len()];
                (Client::new(server.addr, protocol), fields)
            })
            .collect();
        let answers = join_all(clients.iter().map(|(client, fields)| client.get_with("/", fields)));
        let door = async {
            eventually("as many as are awaited", || self.arrived.get() == before + CLIENTS).await;
            self.gate.add_permits(1);
        };
        futures_util::join!(answers, door).0
    }
}
