//! The reverse proxy example, between raw clients and raw origins.

mod failures;
mod forwarding;
mod shared_stores;

/// A complete response of an origin.
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
