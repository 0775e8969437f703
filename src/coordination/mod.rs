//! The state that all caches with the same store share within a process.

pub(crate) mod budget;
mod cache_list;
pub(crate) mod coordinator;
pub(crate) mod copy_jobs;
pub(crate) mod fills;
pub(crate) mod flights;
pub(crate) mod held_bodies;
pub(crate) mod inner_caches;
pub(crate) mod invalidation_log;
mod key_marks;
pub(crate) mod leader;
pub(crate) mod lease;
mod overflow;
mod places;
pub(crate) mod problems;
mod record_table;
mod records;
pub(crate) mod refreshes;
pub(crate) mod removals;
pub(crate) mod replacements;
pub(crate) mod request_bodies;
pub(crate) mod search_variances;
pub(crate) mod shared_body;
mod warnings;
