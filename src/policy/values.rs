//! The values that settings of a policy take.

use std::{fmt, sync::Arc};

use actix_web::dev::ServiceRequest;

/// The effect of `Cache-Control` in requests on lookups (RFC 9111 section 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientDirectives {
    /// Only `no-store` has an effect.
    Ignored,
    /// All directives have an effect.
    Honored,
}

/// The treatment of a request's conditions (`If-None-Match`, `If-Modified-Since`) on a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientConditions {
    /// The cache removes them, stores the handler's complete response and evaluates them itself.
    Evaluated,
    /// The handler receives and evaluates them.
    Forwarded,
}

/// The entity tags that a validation request to the handler lists (RFC 9111 section 4.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfferedTags {
    /// The tag of the selected variant.
    Selected,
    /// The tags of all stored variants.
    AllVariants,
}

/// The treatment of responses to `POST`, which later `GET` requests can use (RFC 9110 section
/// 9.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PostResponses {
    /// It is never stored.
    NotStored,
    /// It is stored if it states a lifetime and represents its URL.
    Stored,
}

/// The treatment of response fields that are addressed to this cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DownstreamFields {
    /// Clients receive them.
    Kept,
    /// The cache removes them.
    Removed,
}

/// A function of the application that derives a text from a request.
#[derive(Clone)]
pub(super) struct RequestText(Arc<RequestFunction>);

type RequestFunction = dyn Fn(&ServiceRequest) -> Option<String> + Send + Sync;

impl RequestText {
    pub(super) fn new(
        function: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(function))
    }

    /// Calls the function.
    pub(super) fn of(&self, request: &ServiceRequest) -> Option<String> {
        (self.0)(request)
    }
}

impl fmt::Debug for RequestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("function")
    }
}

/// A part of the cache key that the application computes.
#[derive(Debug, Clone)]
pub(super) struct KeyPart {
    pub(super) name: String,
    pub(super) value: RequestText,
}
