//! Response bodies: streaming, framing, backpressure, bodies that several clients share, and bodies
//! that end early.

mod backpressure;
mod fill_server;
mod framing;
mod hits;
mod real_files;
mod shared_body;
mod shared_body_limits;
mod shutdown;
mod streaming;
