//! The configuration of a cache: the policy, its rules, and their compiled form.
//!
//! An application builds a [`Policy`] (`settings`) and [`Rule`]s. A cache checks both at start-up
//! and compiles them into a [`CompiledPolicy`], which the service asks for each request and
//! response: which rules match, what the cache key is, on which terms a response is stored, and
//! which tags it has.

mod cache_key;
mod check;
pub(crate) mod compiled;
mod compiled_rule;
pub(crate) mod discriminator;
pub(crate) mod error;
mod fingerprint;
pub(crate) mod matched;
mod parameter_regex;
mod path_pattern;
pub(crate) mod query;
pub(crate) mod request_url;
pub(crate) mod response_tags;
pub(crate) mod rule;
pub(crate) mod settings;
mod tagging;
mod values;

pub use self::{error::ConfigError, query::QueryKey, rule::Rule, settings::Policy};
