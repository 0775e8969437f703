//! The configuration of a cache: the policy, its rules, and their compiled form.
//!
//! An application builds a [`Policy`] (in `settings`) and [`Rule`]s. At start-up, a cache checks
//! and compiles them into a [`CompiledPolicy`].
//!
//! For each request, the service asks the [`CompiledPolicy`] for the matching rules and the cache
//! key. For each response of a handler, the service asks the [`CompiledPolicy`] for the tags of the
//! response, and for its terms. The terms are the conditions under which the cache stores the
//! response.

mod cache_key;
mod check;
pub(crate) mod compiled;
mod compiled_rule;
mod credential_fields;
pub(crate) mod discriminator;
pub(crate) mod error;
mod fingerprint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub(crate) mod matched;
mod parameter_regex;
mod parse;
mod path_pattern;
pub(crate) mod presets;
pub(crate) mod query;
pub(crate) mod request_url;
pub(crate) mod response_tags;
pub(crate) mod rule;
pub(crate) mod settings;
mod tagging;
mod trusted_proxies;
mod values;

pub use self::{error::ConfigError, query::QueryKey, rule::Rule, settings::Policy};
