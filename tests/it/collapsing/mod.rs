//! Concurrent requests for one response, and what they share.

mod abandoned_fills;
mod concurrent_requests;
mod mixed_load;
mod never_fresh;
mod requests_without_key;
