//! Settings of a policy: requests whose body is part of the cache key.

use std::time::Duration;

use super::Policy;

impl Policy {
    /// Stores responses to `QUERY` requests with a body of at most `max_body` bytes, and answers
    /// equal `QUERY` requests with them (RFC 10008 section 2.7).
    ///
    /// The method, the body, and the fields `Content-Type`, `Content-Encoding`, `Content-Language`
    /// and `Content-Location` are part of the cache key, besides all that is part of the key of a
    /// `GET` request. Bodies are compared byte by byte, so two spellings of one query have two keys.
    /// A response to `QUERY` never answers a `GET` request. Everything else applies to `QUERY` as it
    /// does to `GET`: lifetimes, credentials, collapsing, conditions such as `If-None-Match`, and
    /// purges of the URL. Only `Range` is ignored, unless no stored response can answer. The handler
    /// then gets the request, and its response is not stored.
    ///
    /// The cache reads the body before it looks up the store, and gives it to the handler unchanged.
    /// A request with a larger body, or with a body that takes longer than
    /// [`request_body_limit`](Self::request_body_limit), is passed to the handler as it arrives. The
    /// bodies of the requests over one store take at most 16 MiB of memory
    /// ([`bytes_in_requests`](crate::store::Coordinator::bytes_in_requests)); further requests are
    /// passed to the handler.
    ///
    /// Default: 64 KiB, because `QUERY` is a safe method whose responses a cache may store. The size
    /// must not be zero.
    pub fn cache_queries(mut self, max_body: usize) -> Self {
        self.query_body = Some(max_body);
        self
    }

    /// Passes `QUERY` requests to the handler.
    ///
    /// Default: they are [cached](Self::cache_queries).
    pub fn pass_queries(mut self) -> Self {
        self.query_body = None;
        self
    }

    /// Treats `POST` requests with a body of at most `max_body` bytes as queries: stores their
    /// responses, and answers `POST` requests with an equal body with them.
    ///
    /// **With this setting, the application states that its handlers only read for these requests.**
    /// They purge nothing, whatever the size of their body, and the cache may call the handler again
    /// without a client, for example to refresh a response. If a request changed data, a second equal
    /// request would get the stored response and change nothing. The setting suits `POST` requests
    /// that take a query from the body, such as those of a search API, or GraphQL queries. A GraphQL
    /// mutation needs another path, or a field by which [`Rule::when`](crate::Rule::when) excludes it.
    ///
    /// The setting is allowed only in a [`Rule`](crate::Rule) with the method `POST`:
    ///
    /// ```
    /// # use actix_web::http::Method;
    /// # use actix_web_cache::Rule;
    /// let rule = Rule::path("/search")
    ///     .method(Method::POST)
    ///     .with(|policy| policy.cache_posts_by_body(64 * 1024));
    /// ```
    ///
    /// The cache key and the limits are those of [`cache_queries`](Self::cache_queries). A request
    /// with `If-None-Match` or another condition is passed to the handler, because the answer to such
    /// a `POST` is a 412 and not a 304 (RFC 9110 section 13.1.2). For this reason, the cache does not
    /// revalidate stale responses either, and replaces them by new ones.
    ///
    /// Default: a `POST` request is passed to the handler, and purges its URL if it succeeds. The
    /// size must not be zero.
    pub fn cache_posts_by_body(mut self, max_body: usize) -> Self {
        self.post_body = Some(max_body);
        self
    }

    /// Sets how long the cache waits for the body of a request whose body is part of the cache key.
    ///
    /// After this time, the request is passed to the handler with the part of its body that has
    /// arrived, and with the rest as it arrives.
    ///
    /// Default: 5 s. The limit must not be zero.
    pub fn request_body_limit(mut self, limit: Duration) -> Self {
        self.request_body_limit = limit;
        self
    }
}
