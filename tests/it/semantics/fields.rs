//! The response fields that tests of several topics compare.

use crate::support::Answer;

/// The fields `Cache-Control`, `Expires`, `X-Cache` and `Age` of a response, if present.
pub(crate) fn cache_fields(answer: &Answer) -> Vec<String> {
    ["cache-control", "expires", "x-cache", "age"]
        .iter()
        .filter_map(|name| Some(format!("{name}: {}", answer.field(name)?)))
        .collect()
}

/// All fields of a response in a fixed order, except `Age` and `Cache-Status`.
pub(crate) fn fields_without_report(answer: &Answer) -> Vec<(String, String)> {
    let mut fields: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| !["age", "cache-status"].contains(&name.as_str()))
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    // The sort is stable, so lines of one field keep their order.
    fields.sort_by(|(one, _), (other, _)| one.cmp(other));
    fields
}
