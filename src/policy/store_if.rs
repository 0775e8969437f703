//! `Policy::store_if`: functions of the application that can refuse to store a response.

use std::{fmt, sync::Arc};

use actix_web::{
    HttpRequest,
    http::{StatusCode, header::HeaderMap},
};
use bytes::Bytes;

/// A response that the cache is about to store, for the functions of
/// [`Policy::store_if`](crate::Policy::store_if).
#[derive(Debug, Clone, Copy)]
pub struct StorableResponse<'a> {
    status: StatusCode,
    headers: &'a HeaderMap,
    body: Option<&'a Bytes>,
}

impl<'a> StorableResponse<'a> {
    pub(crate) const fn new(
        status: StatusCode,
        headers: &'a HeaderMap,
        body: Option<&'a Bytes>,
    ) -> Self {
        Self { status, headers, body }
    }

    /// Returns the status code of the response.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the header fields of the response as the handler sent them. If a 304 or a response to
    /// `HEAD` updates a stored response, these are the updated fields.
    #[must_use]
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// Returns the body of the response, or `None` if the handler streams the body: a streamed body
    /// has not arrived yet.
    #[must_use]
    pub const fn body(&self) -> Option<&'a Bytes> {
        self.body
    }
}

/// The answer of a function of [`Policy::store_if`](crate::Policy::store_if).
///
/// The reason of a refusal is the value of `detail` in `Cache-Status`, so **clients can read it**.
/// The cache writes a reason such as `empty-list` as a token, and any other text as a quoted string.
/// In place of an empty text, or of one with characters other than printable ASCII, the cache
/// writes `application`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreDecision {
    /// The response is stored.
    Store,
    /// The response is not stored, for this reason. The client gets the response.
    DoNotStore(&'static str),
    /// The response is an error, whatever its status code says, and is not stored for this reason.
    ///
    /// The response counts as a failure of the handler. The stored response stays, and answers within
    /// its stale windows. The client gets the stored response if its `stale-if-error` window, or that
    /// of the policy, allows this, and the response of the handler otherwise. The next refresh in
    /// the background waits as after any other failure.
    ///
    /// If the handler validated the stored response (by a 304 or a response to `HEAD`), this value
    /// has the effect of [`DoNotStore`](Self::DoNotStore): the body is the stored one.
    KeepStored(&'static str),
}

type Decide = dyn Fn(&HttpRequest, &StorableResponse<'_>) -> StoreDecision + Send + Sync;

/// A function of the application that decides whether a response is stored.
#[derive(Clone)]
pub(super) struct StoreTest(Arc<Decide>);

impl StoreTest {
    pub(super) fn new(
        decide: impl Fn(&HttpRequest, &StorableResponse<'_>) -> StoreDecision + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(decide))
    }

    /// Returns a value that only clones of this function have.
    pub(super) fn identity(&self) -> *const () {
        Arc::as_ptr(&self.0).cast()
    }

    /// Calls the function with a response and its request.
    pub(super) fn decide(
        &self,
        request: &HttpRequest,
        response: &StorableResponse<'_>,
    ) -> StoreDecision {
        (self.0)(request, response)
    }
}

impl fmt::Debug for StoreTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("function")
    }
}
