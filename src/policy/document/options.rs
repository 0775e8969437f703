//! `ResponseOptions` in a file.

use serde::{Deserialize, Deserializer};

use super::values::{Enabled, Texts, Time};
use crate::options::ResponseOptions;

/// The reason why responses are not stored, for the log.
const NO_STORE: &str = "the configuration forbids it";

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename = "options")]
struct Fields {
    ttl: Option<Time>,
    tags: Texts,
    no_store: Option<Enabled>,
}

/// The keys are `ttl`, `tags` and `no_store`. With `no_store = true`, the responses are not stored.
impl<'de> Deserialize<'de> for ResponseOptions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { ttl, tags, no_store } = Fields::deserialize(deserializer)?;
        let mut options = tags.0.into_iter().fold(Self::new(), Self::tag);
        if let Some(Time(ttl)) = ttl {
            options = options.ttl(ttl);
        }
        Ok(if no_store.is_some() { options.no_store(NO_STORE) } else { options })
    }
}
