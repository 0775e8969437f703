//! Checks of settings that occur in policies or rules: status codes, paths and field names.

use actix_web::{
    dev::Url,
    http::header::{DATE, ETAG, HeaderName, LAST_MODIFIED, LOCATION, SET_COOKIE},
};

use super::{error::ConfigError, rule::ComparedPath};
use crate::{
    entry::{
        limits::{may_have_field, may_have_status},
        response::ANNOTATED_FIELDS,
    },
    semantics::tags::{CACHE_GROUP_INVALIDATION, CACHE_GROUPS},
};

/// Checks that responses with this status code can be stored.
pub(super) fn check_status(status: u16) -> Result<(), ConfigError> {
    // RFC 9110 section 15 defines no status codes above 599.
    if status < 600 && may_have_status(status) {
        Ok(())
    } else {
        Err(ConfigError::StatusNotStorable(status))
    }
}

/// Checks that the path or pattern of a rule begins with a slash. Every path that actix routes begins
/// with a slash. The part below a scope can also be empty.
pub(super) fn check_slash(path: &str, compared: ComparedPath) -> Result<(), ConfigError> {
    let is_scope = path.is_empty() && compared == ComparedPath::BelowScope;
    if is_scope || path.starts_with('/') {
        Ok(())
    } else {
        Err(ConfigError::RelativePath(path.to_owned()))
    }
}

/// Checks that requests can have the path of a rule: that it begins with a slash, and that it is no
/// pattern and not encoded.
pub(super) fn check_path(path: &str, compared: ComparedPath) -> Result<(), ConfigError> {
    check_slash(path, compared)?;
    let owned = path.to_owned();
    if path.contains('?') {
        Err(ConfigError::QueryInPath(owned))
    } else if path.contains(['{', '}']) {
        Err(ConfigError::BracesInPath(owned))
    } else if has_star(path) {
        Err(ConfigError::StarInPath(owned))
    } else {
        match decoded(path) {
            Some(decoded) => Err(ConfigError::EncodedPath { path: owned, decoded }),
            None => Ok(()),
        }
    }
}

/// Returns whether a path looks as if `*` was meant to match other text: as a whole segment, or at
/// the end.
pub(super) fn has_star(path: &str) -> bool {
    path.ends_with('*') || path.split('/').any(|segment| segment == "*")
}

/// Returns the path that actix makes of a path for routing, if it differs. The path of a rule is
/// compared with the decoded path, so an encoded path would never match.
pub(super) fn decoded(path: &str) -> Option<String> {
    let url = Url::new(path.parse().ok()?);
    // A text that is no path of a request has no decoded form.
    (url.uri().path() == path && url.path() != path).then(|| url.path().to_owned())
}

/// Parses the names of the response fields that list tags for a CDN. A field with another meaning is
/// refused.
pub(super) fn parse_emitted_tag_fields(names: &[String]) -> Result<Vec<HeaderName>, ConfigError> {
    const OTHERS: [HeaderName; 7] =
        [CACHE_GROUPS, CACHE_GROUP_INVALIDATION, DATE, ETAG, LAST_MODIFIED, LOCATION, SET_COOKIE];
    let mut fields = Vec::new();
    for name in parse_field_names(names)? {
        let has_other_meaning = OTHERS.contains(&name)
            || ANNOTATED_FIELDS.contains(&name)
            || !may_have_field(&name)
            || name.as_str().starts_with("content-")
            || name.as_str().ends_with("-control");
        if has_other_meaning {
            return Err(ConfigError::EmittedTagField(name.to_string()));
        }
        if !fields.contains(&name) {
            fields.push(name);
        }
    }
    Ok(fields)
}

/// Parses the names of header fields in a setting.
pub(super) fn parse_field_names(names: &[String]) -> Result<Vec<HeaderName>, ConfigError> {
    let parse = |name: &String| {
        HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| ConfigError::InvalidFieldName(name.clone()))
    };
    names.iter().map(parse).collect()
}
