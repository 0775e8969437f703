//! The reverse proxy example, as a program of its own.

mod failures;
mod forwarding;
mod shared_stores;

/// A complete response of an origin.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
