//! The types of the settings of a policy.

use std::{fmt, sync::Arc};

use actix_web::dev::ServiceRequest;

/// Whether the cache honors `Cache-Control` in requests (RFC 9111 section 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientDirectives {
    /// The cache honors only `no-store`.
    Ignored,
    /// The cache honors `no-store`, `no-cache`, `max-age`, `max-stale`, `min-fresh` and
    /// `only-if-cached`.
    Honored,
}

/// Whether, on a miss, the cache or the handler evaluates the conditions in a client's request
/// (`If-None-Match`, `If-Modified-Since`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientConditions {
    /// The cache removes the conditions from the request, so that the handler sends a complete
    /// response. The cache stores this response and evaluates the conditions itself. The handler of
    /// a request with credentials still receives the conditions.
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

/// Whether responses to `POST` are stored. A stored response answers later `GET` requests for its
/// URL (RFC 9110 section 9.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PostResponses {
    /// A response to `POST` is never stored.
    NotStored,
    /// A response to `POST` is stored if it states a lifetime, and if its `Content-Location` is the
    /// URL of the request.
    Stored,
}

/// Whether clients receive the response fields that are meant for caches: the targeted fields (such
/// as `CDN-Cache-Control`), or the fields that list tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DownstreamFields {
    /// The cache does not remove these fields from responses to clients.
    Kept,
    /// The cache removes these fields from responses to clients.
    Removed,
}

/// The method by which the cache calls the handler for a HEAD request that no stored response
/// answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadMisses {
    /// The handler gets the HEAD request. Its response is not stored.
    Passed,
    /// The handler gets a GET request. Its response is stored, and answers the HEAD request.
    Fetched,
}

/// A function of the application that computes a text from a request: a tag, or a part of the cache
/// key. The function returns `None` for a request without such a text.
#[derive(Clone)]
pub(super) struct RequestText(Arc<RequestFunction>);

type RequestFunction = dyn Fn(&ServiceRequest) -> Option<String> + Send + Sync;

impl RequestText {
    pub(super) fn new(
        function: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(function))
    }

    /// Returns a value that only clones of this function have.
    pub(super) fn identity(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
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

/// A function that tests a request.
#[derive(Clone)]
pub(super) struct RequestTest(Arc<dyn Fn(&ServiceRequest) -> bool + Send + Sync>);

impl RequestTest {
    pub(super) fn new(function: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    /// Returns a value that only clones of this function have.
    pub(super) fn identity(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }

    /// Calls the function with a request.
    pub(super) fn passes(&self, request: &ServiceRequest) -> bool {
        (self.0)(request)
    }
}

impl fmt::Debug for RequestTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("function")
    }
}

/// Whether stored responses answer requests with credentials that the application has checked outside
/// of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthorizedRequests {
    /// The response must permit it.
    ByResponse,
    /// Requests with the same kinds of credentials share responses.
    Shared,
}

/// Whether the cache handles personal requests at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PersonalRequests {
    /// The request and the response decide.
    ByResponse,
    /// Personal requests bypass the cache.
    Excluded,
}

/// A part of the cache key that the application computes.
#[derive(Debug, Clone)]
pub(super) struct KeyPart {
    pub(super) name: String,
    pub(super) value: RequestText,
}

/// Whether the cache makes entity tags for responses without a validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentTags {
    /// The cache makes a weak entity tag from the content of a response.
    Made,
    /// A response has only the validators that its handler sends.
    NotMade,
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

/// Whether `No-Vary-Search` of a response lets it answer other queries of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoVarySearchField {
    Honored,
    Ignored,
}
