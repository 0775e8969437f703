//! Ports of this machine that stay ours while nothing listens there.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below those that systems give to whoever asks for none in particular, so that nobody's
/// connection sits on a port between a server's end and its next start. The buses of clusters have
/// the ten thousand above.
const FIRST: u32 = 10_000;
const COUNT: u32 = 10_000;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port that is not given out twice.
pub(crate) fn free_port() -> u16 {
    // Test processes that run at the same time begin at different places.
    let begin = process::id().wrapping_mul(131);
    (0..COUNT)
        .map(|_| begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .expect("a free port")
}

/// An address at which connections are refused.
pub(crate) fn nothing_listens() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}
