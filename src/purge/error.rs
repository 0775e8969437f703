//! Errors of purges.

use std::fmt;

use actix_web::{ResponseError, error::UrlGenerationError, http::StatusCode};

use crate::store::interface::StoreError;

/// A purge was not carried out, or not confirmed.
#[derive(Debug)]
#[non_exhaustive]
pub enum PurgeError {
    /// The URL, or the path of a prefix, is not valid.
    Url(String),
    /// The target has no host, and the handle has none either.
    MissingHost,
    /// There is no resource of that name, or it has other parameters.
    Route(UrlGenerationError),
    /// A field of the variant is not a valid request field.
    Field(String),
    /// The store failed: it is not known whether the responses are purged.
    Store(StoreError),
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(
                f,
                "invalid URL to purge {url:?}: expected \"/path?query\" or \
                 \"https://host/path?query\", percent-encoded; a prefix has no query"
            ),
            Self::MissingHost => f.write_str(
                "the purge has no host: outside of a request use \"https://host/path?query\", or \
                 on_host()",
            ),
            Self::Route(_) => f.write_str("no URL for the route to purge"),
            Self::Field(field) => {
                write!(f, "invalid request field {field:?} in the variant to purge")
            }
            Self::Store(_) => f.write_str("purge not confirmed"),
        }
    }
}

impl std::error::Error for PurgeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Store(error) => Some(error),
            // `UrlGenerationError` of actix-web implements `Error` from version 4 on.
            Self::Route(error) => Some(error),
            Self::Url(_) | Self::MissingHost | Self::Field(_) => None,
        }
    }
}

impl From<StoreError> for PurgeError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Status 503 where the store failed, 500 otherwise.
impl ResponseError for PurgeError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Url(_) | Self::MissingHost | Self::Route(_) | Self::Field(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
