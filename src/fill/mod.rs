//! A handler's response on its way into the store.
//!
//! `decide` asks the policy and RFC 9111 whether the response may be stored, `annotate` completes
//! its fields, and `store` writes it: at once where the body is complete, through `tee` where it is
//! still being received.

pub(crate) mod annotate;
pub(crate) mod candidate;
pub(crate) mod decide;
pub(crate) mod store;
pub(crate) mod tee;
pub(crate) mod write;
