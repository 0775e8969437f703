//! The middlewares of the crate: how they are configured, placed and observed.

mod actix_middleware;
mod compress;
mod configuration_file;
mod cors;
mod handler_requests;
mod inner_errors;
mod logging;
mod modes_and_versions;
mod named_options;
mod nested_caches;
mod options_from_anywhere;
mod placement;
mod problems;
mod relative_rules;
mod reporting;
mod rule_policies;
mod rules;
mod served_files;
mod set_cache_control;
mod settings;
mod store_access;
mod store_if;
