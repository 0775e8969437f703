//! `QueryKey` in a file.

use serde::{Deserialize, Deserializer, de::Error};

use super::values::{Enabled, Texts};
use crate::policy::query::QueryKey;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename = "query")]
struct Fields {
    only: Option<Texts>,
    ignoring: Option<Texts>,
    tracking_parameters: Option<Enabled>,
    sorted: Option<Enabled>,
}

/// The keys are `only`, `ignoring`, `tracking_parameters` and `sorted`. With
/// `tracking_parameters = true`, the parameters of
/// [`tracking_parameters`](QueryKey::tracking_parameters) are ignored, besides those of `ignoring`.
impl<'de> Deserialize<'de> for QueryKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Fields { only, ignoring, tracking_parameters, sorted } =
            Fields::deserialize(deserializer)?;
        let tracking = tracking_parameters.map(|Enabled| Self::tracking_parameters());
        let is_ignoring = ignoring.is_some() || tracking.is_some();
        let ignored = ignoring.unwrap_or_default().0.into_iter();
        let ignored = ignored.chain(tracking.into_iter().flatten().map(str::to_owned));
        let query = match (only, is_ignoring, sorted) {
            (Some(_), true, _) => {
                return Err(Error::custom(
                    "`only` excludes `ignoring` and `tracking_parameters`: remove one of them",
                ));
            }
            (None, false, None) => {
                return Err(Error::custom(
                    "the query needs `only`, `ignoring`, `tracking_parameters` or `sorted`",
                ));
            }
            (Some(only), false, _) => Self::only(only.0),
            (None, true, _) => Self::ignoring(ignored),
            (None, false, Some(Enabled)) => Self::sorted(),
        };
        Ok(if sorted.is_some() { query.then_sorted() } else { query })
    }
}
