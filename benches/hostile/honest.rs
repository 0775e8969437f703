//! The honest clients, and the part of their responses that come from the cache.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::support::Connection;

/// The number of pages that honest clients request.
pub(crate) const PAGES: u64 = 100;

const CLIENTS: u64 = 8;

/// The measurements of honest clients.
pub(crate) struct Measured {
    /// The part of the responses that were hits.
    pub(crate) hits: f64,
    /// The response time that 99 % of the responses do not exceed.
    pub(crate) p99: Duration,
}

/// Sends requests for the pages, one after another on each connection, for some time.
pub(crate) async fn measure(server: SocketAddr, time: Duration) -> Measured {
    let started = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(async move {
            let mut connection = Connection::open(server).await;
            let (mut hits, mut times) = (0, Vec::new());
            for n in (0..).map(|n: u64| (n * CLIENTS + client) % PAGES) {
                let sent = Instant::now();
                if sent.duration_since(started) > time {
                    break;
                }
                let head = connection.get(&format!("/page/{n}")).await;
                let head = std::str::from_utf8(head).expect("text");
                let is_hit = head.contains("; hit") || head.contains("collapsed");
                hits += usize::from(is_hit);
                times.push(sent.elapsed());
            }
            (hits, times)
        });
    }
    let (hits, times): (Vec<_>, Vec<_>) = clients.join_all().await.into_iter().unzip();
    let mut times = times.concat();
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    Measured { hits: hits.iter().sum::<usize>() as f64 / times.len() as f64, p99 }
}
