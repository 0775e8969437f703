//! Settings of a policy: functions that refuse to store responses, the fields that are not stored,
//! and entity tags that the cache makes.

use actix_web::HttpRequest;

use super::{
    super::{
        store_if::{StorableResponse, StoreDecision, StoreTest},
        values::ContentTags,
    },
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

    /// Stores responses without these response fields. Only the client whose request the handler
    /// answers gets them.
    ///
    /// Names are compared without regard to case. A trailing `*` matches any suffix: `X-Debug-*`.
    /// Several calls add up. Default: the fields about one request in the table of the
    /// [defaults](Self#defaults), such as `X-RateLimit-Remaining` and `X-Request-Id`. They are left
    /// out besides these fields, except in the preset [`rfc9111`](Self::rfc9111).
    ///
    /// A field that makes a response unusable for other clients, such as `Set-Cookie`, still prevents
    /// that the response is stored.
    ///
    /// # Errors
    ///
    /// [`CacheBuilder::build`](crate::CacheBuilder::build) refuses fields without which a stored
    /// response would mean something else: `Content-*`, `Cache-Control`, `Expires`, `Vary`, `ETag`,
    /// `Last-Modified`, `Date`, `Age`, `Location`, `WWW-Authenticate`, and the
    /// [targeted fields](Self::targeted_fields). It also refuses `Set-Cookie`, unless
    /// [`replay_set_cookie`](Self::replay_set_cookie) is set.
    pub fn leave_out(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.left_out.extend(names.into_iter().map(Into::into));
        self
    }
    /// Makes no entity tags: a response has only the `ETag` that its handler sends.
    ///
    /// Default: a stored response with status 200 that has neither `ETag` nor `Last-Modified` gets a
    /// weak `ETag`, a hash of its body, `Content-Type`, `Content-Encoding` and `Content-Language`. A
    /// client that has received the response then gets a 304 as long as the content is the same,
    /// also from another process, and after the handler has made the response again. If the
    /// handler streams the body, the first client gets no tag, and the hits have it. The preset
    /// [`rfc9111`](Self::rfc9111) includes this setting.
    ///
    /// The tag is only for clients. It does not make a response with `no-cache` storable, it does not
    /// keep a stale response for [`keep_stale`](Self::keep_stale), and the cache does not send it to
    /// the handler to validate a stored response. Because it is weak, it never selects a range
    /// (`If-Range`), and stays right if `Compress` outside of the cache encodes the response. By a
    /// weak tag, no client can protect a resource from concurrent changes (`If-Match`): a handler
    /// that does so must send tags of its own.
    ///
    /// Policies with and without this setting share stored responses. A stored response that has a
    /// tag keeps it.
    pub fn no_content_tags(mut self) -> Self {
        self.content_tags = ContentTags::NotMade;
        self
    }
}
