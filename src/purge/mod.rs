//! Purges stored responses, or expires them (soft purge).

mod effect;
pub(crate) mod error;
pub(crate) mod execute;
pub(crate) mod handle;
pub(crate) mod purged;
pub(crate) mod tags;
pub(crate) mod target;
mod variant;
