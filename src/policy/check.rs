//! Checks of settings that occur in policies or rules: status codes, paths and field names.

use actix_web::http::header::HeaderName;

use super::error::ConfigError;
use crate::entry::limits::may_have_status;

/// Checks that responses with this status code can be stored.
pub(super) fn check_status(status: u16) -> Result<(), ConfigError> {
    // RFC 9110 section 15 defines no status codes above 599.
    if status < 600 && may_have_status(status) {
        Ok(())
    } else {
        Err(ConfigError::StatusNotStorable(status))
    }
}

/// Checks that the path of a rule begins with a slash. Every path that actix routes begins with a
/// slash.
pub(super) fn check_path(path: &str) -> Result<(), ConfigError> {
    if path.starts_with('/') { Ok(()) } else { Err(ConfigError::RelativePath(path.to_owned())) }
}

/// Parses the names of header fields in a setting.
pub(super) fn parse_field_names(names: &[String]) -> Result<Vec<HeaderName>, ConfigError> {
    let parse = |name: &String| {
        HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| ConfigError::InvalidFieldName(name.clone()))
    };
    names.iter().map(parse).collect()
}
