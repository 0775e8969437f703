//! Settings of a policy: functions that refuse to store responses.

use actix_web::HttpRequest;

use super::{
    super::store_if::{StorableResponse, StoreDecision, StoreTest},
    Policy,
};

impl Policy {
    /// Lets a function of the application refuse to store responses.
    ///
    /// The cache calls the function once for each response that it would store, after all of its own
    /// checks. The function can only refuse: it cannot make the cache store a response. After
    /// several calls of `store_if`, the first answer other than [`StoreDecision::Store`] applies.
    /// Default: none.
    ///
    /// The function receives the request as the handler received it, with the extensions of
    /// middlewares, and the response before the cache changes its fields. The cache removes the
    /// conditions of the client (such as `If-None-Match`) from the request of most handler calls,
    /// and adds conditions of its own to validate a stored response. The function is also called
    ///
    /// * for each refresh in the background,
    /// * for a 304 or a response to `HEAD` that updates a stored response: with the status and the
    ///   body of the stored response, and its updated fields,
    /// * for a response to `POST` that would be stored.
    ///
    /// The function runs on the thread that serves the request. A panic of the function ends the
    /// request like a panic of the handler.
    ///
    /// ```
    /// use actix_web_cache::{Policy, StoreDecision};
    ///
    /// Policy::new().store_if(|request, response| {
    ///     let is_empty = response.body().is_some_and(|body| body.as_ref() == b"[]");
    ///     if response.headers().contains_key("x-upstream-error") {
    ///         StoreDecision::KeepStored("upstream-error")
    ///     } else if is_empty && request.path().starts_with("/search") {
    ///         StoreDecision::DoNotStore("no-results")
    ///     } else {
    ///         StoreDecision::Store
    ///     }
    /// });
    /// ```
    pub fn store_if(
        mut self,
        decide: impl Fn(&HttpRequest, &StorableResponse<'_>) -> StoreDecision + Send + Sync + 'static,
    ) -> Self {
        self.store_tests.push(StoreTest::new(decide));
        self
    }
}
