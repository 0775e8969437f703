//! Stores the responses of handlers. A fill is one call of a handler whose response may be stored.
//!
//! `decide` decides by the policy and by RFC 9111 whether a response may be stored. `annotate`
//! completes the header fields of a response that will be stored. `begin` makes the response for
//! the client. If the body is complete, `write` stores the response at once. If the body is still
//! arriving, `tee` receives the body, sends it to the clients, and stores the response at the end.

pub(crate) mod annotate;
pub(crate) mod begin;
pub(crate) mod candidate;
pub(crate) mod coded_copies;
pub(crate) mod decide;
pub(crate) mod emit;
pub(crate) mod judge;
pub(crate) mod tee;
mod whole_body;
pub(crate) mod write;
