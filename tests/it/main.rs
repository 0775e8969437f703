//! The crate as its users meet it: real servers on real sockets, real clients.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, missing_docs)]

mod backpressure;
mod beside;
mod bodies;
mod changes;
mod codec;
mod collapsing;
mod conformance;
mod ending;
mod examples;
mod extras;
mod failing_store;
mod fills;
mod fleet;
mod framing;
mod hits;
mod keys;
mod layers;
mod leases;
mod linearizable;
mod memory;
mod middleware;
mod mixed_load;
mod model;
mod personal;
mod personal_pairs;
mod personal_sharing;
mod personal_vary;
mod poisoning;
mod privacy;
mod purge;
mod purging;
mod purging_kinds;
mod purging_races;
mod purging_unsafe;
mod real_files;
mod redis_cancelled;
mod redis_fixtures;
mod redis_outage;
mod redis_records;
mod redis_refusals;
mod redis_replies;
mod redis_store;
mod redis_tiers;
mod redis_tls;
mod redis_topology;
mod reverse_proxy;
#[cfg(feature = "redis")]
mod reverse_proxy_stores;
mod reverse_proxy_trouble;
mod review;
mod robustness;
mod semantics;
mod streaming;
mod support;
