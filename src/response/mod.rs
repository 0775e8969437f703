//! Responses to clients: stored responses whole, in part, or as 304, and their bodies.

pub(crate) mod body;
pub(crate) mod cached;
pub(crate) mod conditional;
pub(crate) mod range;
