//! The crate as its users meet it: real servers on real sockets, real clients.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, missing_docs)]

mod backpressure;
mod beside;
mod conformance;
mod examples;
mod extras;
mod failing_store;
mod framing;
mod headers_only;
mod hits;
mod keys;
mod layers;
mod logging;
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
mod real_files;
mod reverse_proxy;
mod reverse_proxy_trouble;
mod review;
mod robustness;
mod rules;
mod seed_bugs;
mod seed_parity;
mod settings;
mod streaming;
mod support;
mod unclean;
