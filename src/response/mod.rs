//! What clients get from the cache.

pub(crate) mod body;
pub(crate) mod cached;
