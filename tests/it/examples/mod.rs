//! The example programs: each is started, and its responses are what its output promises.

mod programs;
mod redis;
mod runner;

/// The tests of this example run here, because cargo does not run the tests of examples.
#[path = "../../../examples/custom_store.rs"]
#[allow(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod custom_store;
