//! Purging and expiring stored responses.

pub(crate) mod execute;
pub(crate) mod handle;
pub(crate) mod target;
