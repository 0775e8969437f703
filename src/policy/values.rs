//! The types of single settings in a policy.

use std::{fmt, sync::Arc};

use actix_web::dev::ServiceRequest;

/// The effect of a request's `Cache-Control` on lookups (RFC 9111 section 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientDirectives {
    /// Only `no-store` has an effect.
    Ignored,
    /// `no-cache`, `max-age`, `max-stale`, `min-fresh` and `only-if-cached` have an effect too.
    Honored,
}

/// The treatment of a client's conditions (`If-None-Match`, `If-Modified-Since`) on a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientConditions {
    /// The cache removes the conditions from the request, stores the handler's complete response,
    /// and evaluates the conditions itself.
    Evaluated,
    /// The handler receives and evaluates the conditions.
    Forwarded,
}

/// The entity tags that a validation request to the handler lists (RFC 9111 section 4.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OfferedTags {
    /// The entity tag of the selected variant.
    Selected,
    /// The entity tags of all stored variants.
    AllVariants,
}

/// The treatment of responses to `POST`. Later `GET` requests can use a stored response (RFC 9110
/// section 9.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PostResponses {
    /// A response to `POST` is never stored.
    NotStored,
    /// A response to `POST` is stored if it states a lifetime and represents its URL.
    Stored,
}

/// The treatment of response fields that address this cache, in responses to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DownstreamFields {
    /// Clients receive the fields.
    Kept,
    /// The cache removes the fields.
    Removed,
}

/// A function of the application that computes a text from a request.
#[derive(Clone)]
pub(super) struct RequestText(Arc<RequestFunction>);

type RequestFunction = dyn Fn(&ServiceRequest) -> Option<String> + Send + Sync;

impl RequestText {
    pub(super) fn new(
        function: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(function))
    }

    /// Calls the function with a request.
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

/// Whether a response that is never fresh, such as one with `max-age=0`, answers the requests that
/// waited for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum WaitingRequests {
    /// The response answers these requests, unless it forbids stale responses.
    Answered,
    /// Each of these requests validates the response.
    Validated,
}
