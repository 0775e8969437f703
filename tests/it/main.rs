//! The crate as its users meet it: real servers on real sockets, real clients.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, missing_docs)]

mod backpressure;
mod beside;
mod conformance;
mod examples;
mod extras;
mod failing_store;
mod framing;
mod hits;
mod keys;
mod layers;
mod memory;
mod nesting;
mod personal;
mod purging;
mod robustness;
mod rules;
mod seed_parity;
mod streaming;
mod support;
mod unclean;
