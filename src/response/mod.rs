//! Makes the responses to clients: complete responses, partial responses (206), 304 responses, and
//! their bodies.

pub(crate) mod body;
pub(crate) mod cached;
pub(crate) mod conditional;
pub(crate) mod numbers;
pub(crate) mod range;
pub(crate) mod representation;
mod slices;
pub(crate) mod streamed_coding;
