//! The errors of purges and expiries.

use std::fmt;

use actix_web::{HttpResponse, ResponseError, error::UrlGenerationError, http::StatusCode};

use crate::store::interface::StoreError;

/// The reason why a purge or an expiry failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum PurgeError {
    /// The URL or the path prefix of the target is not valid. The value is this URL or prefix.
    Url(String),
    /// The target names no host, and the handle belongs to no request whose host could be used.
    MissingHost,
    /// The application has no resource with the given name, or the resource has more parameters
    /// than the call gave values.
    Route(UrlGenerationError),
    /// A header field that was given to [`PurgeTarget::variant`](crate::PurgeTarget::variant) is
    /// not valid. The value is the name of the field.
    Field(String),
    /// [`PurgeTarget::variant`](crate::PurgeTarget::variant) was called for a target that is not a
    /// URL.
    VariantWithoutUrl,
    /// The store failed, and has queued the invalidation: the store sends the invalidation again by
    /// itself.
    ///
    /// Until then, this process does not serve the purged responses, but other processes may serve
    /// them. The purge is lost only if this process ends before the store can be reached. There is
    /// no need to repeat the purge.
    Queued(StoreError),
    /// The store failed, and does not repeat the invalidation. The responses may still be stored
    /// and served. Repeat the purge.
    Store(StoreError),
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(
                f,
                "invalid URL to purge {url:?}: expected \"/path?query\" or \
                 \"https://host/path?query\", percent-encoded; purge_path and \
                 purge_prefix take no query"
            ),
            Self::MissingHost => f.write_str(
                "the purge has no host: outside of a request use \"https://host/path?query\", or \
                 on_host()",
            ),
            Self::Route(_) => f.write_str("no URL for the route to purge"),
            Self::Field(field) => {
                write!(f, "invalid request field {field:?} in the variant to purge")
            }
            Self::VariantWithoutUrl => f.write_str(
                "variant() limits PurgeTarget::url and route only: remove it to purge all variants \
                 of the target",
            ),
            Self::Queued(_) => f.write_str(
                "purge not confirmed yet: the store failed, and repeats the purge by itself",
            ),
            Self::Store(_) => f.write_str("purge not confirmed: the store failed, so repeat it"),
        }
    }
}

impl std::error::Error for PurgeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Queued(error) | Self::Store(error) => Some(error),
            Self::Route(error) => Some(error),
            Self::Url(_) | Self::MissingHost | Self::Field(_) | Self::VariantWithoutUrl => None,
        }
    }
}

impl From<StoreError> for PurgeError {
    fn from(error: StoreError) -> Self {
        if error.is_queued() { Self::Queued(error) } else { Self::Store(error) }
    }
}

/// The status code is 503 if the store failed, and 500 for all other errors. The response has no
/// body, because the text of the error is not meant for clients.
impl ResponseError for PurgeError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Url(_)
            | Self::MissingHost
            | Self::Route(_)
            | Self::Field(_)
            | Self::VariantWithoutUrl => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Queued(_) | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status_code())
    }
}
