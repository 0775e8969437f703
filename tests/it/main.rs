//! The crate as its users meet it: real servers on real sockets, real clients.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, missing_docs)]

mod backpressure;
mod bodies;
mod codec;
mod collapsing;
mod conformance;
mod ending;
mod examples;
mod failing_store;
mod fills;
mod fleet;
mod framing;
mod hits;
mod leases;
mod linearizable;
mod memory;
mod meta;
mod middleware;
mod privacy;
mod purge;
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
mod reverse_proxy_stores;
mod reverse_proxy_trouble;
mod semantics;
mod streaming;
mod support;
