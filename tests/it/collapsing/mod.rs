//! Concurrent requests share one run of the handler.

mod abandoned_fills;
mod concurrent_requests;
mod mixed_load;
