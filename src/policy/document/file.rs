//! `CacheFile`: the policy, the rules and the named options of a cache in a file.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::policy_changes::PolicyChanges;
use crate::{options::ResponseOptions, policy::rule::Rule};

/// The policy, the rules and the named options of a cache in a file, for
/// [`CacheBuilder::file`](crate::CacheBuilder::file).
///
/// Read it by any format of serde, such as TOML or JSON. All parts of the file are optional:
///
/// | key | value |
/// |---|---|
/// | `policy` | [`PolicyChanges`] for the policy of the cache |
/// | `rules` | a list of [rules](Rule#in-a-file), of which the first that matches applies |
/// | `rules_only` | `true` lets requests that no rule matches bypass the cache |
/// | `options` | a table of [named options](crate::CacheBuilder::options), each with `ttl`, `tags` and `no_store` |
///
/// ```toml
/// [policy]
/// default_ttl = "5m"
/// stale_if_error = "1h"
/// query = { tracking_parameters = true }
///
/// [[rules]]
/// path = "/health"
/// bypass = true
///
/// [[rules]]
/// pattern = "/posts/{id}"
/// policy = { default_ttl = "1h 30m", tag = "post:{id}" }
///
/// [options.minutes]
/// ttl = "5m"
/// tags = ["news"]
/// ```
///
/// # Errors
///
/// Deserialization returns an error for an unknown key, with the known ones, and for a value that
/// cannot be read. [`CacheBuilder::build`](crate::CacheBuilder::build) checks the settings, as if the
/// setters had been called.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CacheFile {
    pub(crate) policy: PolicyChanges,
    pub(crate) rules: Vec<Rule>,
    pub(crate) rules_only: bool,
    pub(crate) options: BTreeMap<String, ResponseOptions>,
}
