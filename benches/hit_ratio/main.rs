//! Compares the hit ratios of eviction policies at equal bytes, on random traces.
//!
//! ```sh
//! cargo bench -p actix-web-cache-benches --bench hit_ratio -- [--requests 500000] [--trace news]
//! ```
//!
//! The bench replays each trace against moka (the library of `MemoryStore`) with each of its
//! eviction policies, and against quick_cache. As a check, it also requests the trace from a cache
//! with the real `MemoryStore`, at one capacity, because this takes longer. The bench prints tables
//! in Markdown: the traces, and the hit ratios by requests and by bytes, with an upper bound. The
//! capacities are shares of the bytes of all pages that the trace requests. All engines weigh a
//! page in the same way, as `MemoryStore` does.

#![allow(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

#[path = "../support/mod.rs"]
mod support;

mod bound;
mod engines;
mod published;
mod replay;
mod store;
mod tables;
mod traces;

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use moka::policy::EvictionPolicy;

use crate::{
    bound::upper_bound,
    engines::{MokaEngine, QuickCacheEngine},
    replay::{Hits, Load},
    support::{argument, text_argument},
    tables::{Row, print_ratios, print_traces},
    traces::MODELS,
};

/// The capacities, in percent of the bytes of all requested pages.
const CAPACITIES: [u64; 3] = [1, 10, 30];

/// The capacity at which the bench replays the trace against `MemoryStore`.
const CHECKED_CAPACITY: u64 = 10;

/// The columns of the tables of hit ratios.
#[derive(Clone, Copy)]
enum Column {
    TinyLfu,
    Lru,
    QuickCache,
    MemoryStore,
    UpperBound,
}

const COLUMNS: [(Column, &str); 5] = [
    (Column::TinyLfu, "moka TinyLFU"),
    (Column::Lru, "moka LRU"),
    (Column::QuickCache, "quick_cache"),
    (Column::MemoryStore, "`MemoryStore`"),
    (Column::UpperBound, "upper bound"),
];

impl Column {
    /// Replays a trace at a capacity in percent. Returns `None` for a cell that stays empty.
    fn replay(self, load: &Load, percent: u64) -> Option<Hits> {
        let capacity = load.distinct * percent / 100;
        let moka = |policy| load.replay(capacity, &mut MokaEngine::new(capacity, policy));
        Some(match self {
            Self::TinyLfu => moka(EvictionPolicy::tiny_lfu()),
            Self::Lru => moka(EvictionPolicy::lru()),
            Self::QuickCache => {
                let mut engine = QuickCacheEngine::new(capacity, load.mean_weight());
                load.replay(capacity, &mut engine)
            }
            Self::MemoryStore if percent != CHECKED_CAPACITY => return None,
            Self::MemoryStore => store::replay(load, capacity),
            Self::UpperBound => upper_bound(load, capacity),
        })
    }
}

fn main() {
    let requests = argument("--requests", 500_000);
    let wanted = text_argument("--trace");
    let overhead = store::measure_overhead();
    println!("The store counts {overhead} bytes for an entry besides the body.\n");
    let (mut loads, mut rows) = (Vec::new(), Vec::new());
    for model in MODELS {
        if wanted.as_ref().is_none_or(|wanted| wanted == model.name) {
            let load = Load::new(model.draw(requests), overhead);
            rows.extend(replay_all(&load));
            loads.push(load);
        }
    }
    let names: Vec<&str> = COLUMNS.iter().map(|(_, name)| *name).collect();
    print_traces(&loads);
    print_ratios("Hit ratio by requests, in percent", &names, &rows, |row| &row.requests);
    print_ratios("Hit ratio by bytes, in percent", &names, &rows, |row| &row.bytes);
}

/// Replays a trace for each capacity and each column, on two threads. Returns the rows of the
/// tables.
fn replay_all(load: &Load) -> Vec<Row> {
    let cells: Vec<(u64, Column)> = CAPACITIES
        .iter()
        .flat_map(|&percent| COLUMNS.iter().map(move |&(column, _)| (percent, column)))
        .collect();
    let results = Mutex::new(vec![None; cells.len()]);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let work = || {
            loop {
                let cell = next.fetch_add(1, Ordering::Relaxed);
                let Some(&(percent, column)) = cells.get(cell) else { return };
                let hits = column.replay(load, percent);
                results.lock().unwrap_or_else(PoisonError::into_inner)[cell] = hits;
            }
        };
        scope.spawn(work);
        scope.spawn(work);
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let rows = CAPACITIES.iter().zip(results.chunks(COLUMNS.len()));
    rows.map(|(&percent, hits)| Row::new(load, percent, hits)).collect()
}
