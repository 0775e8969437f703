//! Purges stored responses, or expires them (soft purge).

mod effect;
pub(crate) mod error;
pub(crate) mod execute;
pub(crate) mod handle;
pub(crate) mod purged;
pub(crate) mod report;
pub(crate) mod target;
pub(crate) mod target_tags;
mod variant;
