//! The crate as its users meet it: real servers on real sockets, real clients.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, missing_docs)]

mod beside;
mod conformance;
mod examples;
mod framing;
mod hits;
mod keys;
mod layers;
mod memory;
mod nesting;
mod never_stored;
mod never_stored_requests;
mod personal;
mod personal_pairs;
mod personal_sharing;
mod personal_vary;
mod poisoning;
mod purging;
mod purging_races;
mod purging_unsafe;
mod robustness;
mod rules;
mod seed_parity;
mod streaming;
mod support;
