//! The crate as its users meet it: real servers on real sockets, real clients.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used, missing_docs)]

mod bodies;
mod collapsing;
mod compression;
mod examples;
mod meta;
mod middleware;
mod privacy;
mod purge;
mod recipes;
mod redis;
mod reverse_proxy;
mod semantics;
mod store;
mod support;
