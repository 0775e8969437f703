//! Ports that no other test uses, also while nothing listens on them.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// The range is below the ephemeral ports, so that no outgoing connection occupies a port while its server
/// restarts. The cluster buses of Redis use the ten thousand ports above the range.
const FIRST: u32 = 10_000;
const COUNT: u32 = 10_000;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// Returns a free port, and each port only once.
pub(crate) fn free_port() -> u16 {
    // Test processes that run at the same time begin with different ports.
    let begin = process::id().wrapping_mul(131);
    (0..COUNT)
        .map(|_| begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("a free port")
}

/// An address at which connections are refused.
pub(crate) fn refusing_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}
