//! Response bodies: stored, streamed and served from the store.

mod backpressure;
mod fill_server;
mod framing;
mod held_bodies;
mod hit_fidelity;
mod hits;
mod idle_client;
mod ranges_during_fills;
mod ready_chunks;
mod real_files;
mod shared_body;
mod shared_body_limits;
mod shutdown;
mod slow_readers;
mod streaming;
mod unread_bodies;
