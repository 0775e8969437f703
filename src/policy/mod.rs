//! The configuration of a cache: its policy, its rules, and their compiled form.
//!
//! An application builds a [`Policy`] (in `settings`) and [`Rule`]s. At start-up, a cache checks
//! and compiles them into a [`PolicySet`](policy_set::PolicySet).
//!
//! For each request, the service asks the set for the rule that applies. The
//! [`CompiledPolicy`](compiled::CompiledPolicy) of this rule, or that of the cache, makes the cache
//! key. For each response of a handler, it gives the tags of the response and its terms, which are
//! the conditions under which the cache stores the response.

pub(crate) mod cache_key;
mod cache_name;
mod check;
mod coded_responses;
pub(crate) mod compiled;
mod compiled_rule;
pub(crate) mod compression;
mod credential_fields;
pub(crate) mod discriminator;
#[cfg(feature = "serde")]
pub(crate) mod document;
pub(crate) mod error;
mod fingerprint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod jitter;
mod misplaced_rules;
mod names;
mod parameter_regex;
mod parse;
mod path_matcher;
mod path_pattern;
pub(crate) mod policy_set;
pub(crate) mod presets;
pub(crate) mod query;
mod recent_keys;
pub(crate) mod request_url;
pub(crate) mod response_tags;
pub(crate) mod rule;
mod rule_index;
pub(crate) mod settings;
pub(crate) mod shadowed_rules;
mod sharing;
pub(crate) mod store_if;
mod tagging;
mod trusted_proxies;
mod values;

pub use self::{
    compression::Compression,
    error::ConfigError,
    query::QueryKey,
    rule::Rule,
    settings::Policy,
    store_if::{StorableResponse, StoreDecision},
};
