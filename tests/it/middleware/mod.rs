//! The middlewares of the crate: how they are configured, placed and observed.

mod logging;
mod nested_caches;
mod placement;
mod reporting;
mod rules;
mod set_cache_control;
mod settings;
mod store_access;
