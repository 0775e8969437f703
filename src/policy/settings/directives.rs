//! Settings of a policy: directives and fields of requests and responses.

use super::{
    super::values::{ClientDirectives, DownstreamFields, HeadMisses},
    Policy,
};
use crate::semantics::{compression::OuterCompression, storing::Qualified};

impl Policy {
    /// Honors `no-cache`, `max-age`, `max-stale`, `min-fresh` and `only-if-cached` in requests
    /// (RFC 9111 section 5.2.1).
    ///
    /// Default: the cache ignores these directives, because any client could use them to send all
    /// of its requests to the handler: 50 concurrent requests with `no-cache` are 50 calls of the
    /// handler. The directives never affect requests without them.
    pub fn honor_request_directives(mut self) -> Self {
        self.client_directives = ClientDirectives::Honored;
        self
    }

    /// Calls the handler with `GET` for a `HEAD` request that no stored response answers. The cache
    /// stores the complete response, and sends it without its body.
    ///
    /// Requests for `HEAD` and `GET` then wait for one call of the handler together. An application
    /// needs no route for `HEAD`. `Range` in a `HEAD` request is ignored (RFC 9110 section 14.2).
    /// Inside the cache, and in the request of the response that middlewares and the
    /// [observer](crate::CacheBuilder::observer) get, the method is `GET`.
    ///
    /// Each `HEAD` request for a response that is not stored costs as much as a `GET` request. Do not
    /// use the setting for a cache around a single route that answers only `HEAD`, because its
    /// response without a body would be stored for `GET`. If an outer middleware keeps a clone of the
    /// request ([`Cache`](crate::Cache)), or if the request has `no-store`, the handler gets the `HEAD`
    /// request.
    ///
    /// Default: the handler gets the `HEAD` request. Its response is not stored, but updates a stored
    /// response (RFC 9111 section 4.3.5).
    pub fn fetch_on_head(mut self) -> Self {
        self.head_misses = HeadMisses::Fetched;
        self
    }

    /// Sets the targeted fields that this cache obeys, in order of precedence (RFC 9213).
    ///
    /// A targeted field is a response field such as `CDN-Cache-Control`, which gives directives to
    /// some caches only. The first field of this list that is present and valid in a response
    /// replaces `Cache-Control` and `Expires`. Default: none, because `CDN-Cache-Control` addresses
    /// a CDN in front of the application.
    ///
    /// Clients also receive the targeted fields, unless
    /// [`remove_targeted_fields`](Self::remove_targeted_fields) is set.
    pub fn targeted_fields(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.targeted_fields = names.into_iter().map(Into::into).collect();
        self
    }

    /// Removes the [`targeted_fields`](Self::targeted_fields) from responses to clients.
    ///
    /// Default: the fields are kept, because they may also address a cache in front of the
    /// application.
    pub fn remove_targeted_fields(mut self) -> Self {
        self.targeted_downstream = DownstreamFields::Removed;
        self
    }

    /// Applies `private="field"` and `no-cache="field"` only to the fields that they name (RFC 9111
    /// sections 5.2.2.4 and 5.2.2.7).
    ///
    /// The cache stores the response without these fields.
    ///
    /// Default: `private="field"` has the effect of `private`, and `no-cache="field"` has the
    /// effect of `no-cache`.
    pub fn honor_qualified_directives(mut self) -> Self {
        self.choices.qualified = Qualified::ByField;
        self
    }

    /// Serves ranges of all stored responses, **which corrupts resumed downloads if a `Compress`
    /// middleware is registered outside of the cache**. Set it if there is none, for example because
    /// the cache compresses ([`compress`](Self::compress)).
    ///
    /// `Compress` encodes a response and leaves its strong entity tag as it is. A client that
    /// resumes the download of the encoded response by `Range` and `If-Range` would get a part of
    /// the stored, plain response.
    ///
    /// Default: a request that accepts a content coding of `Compress` gets the complete response
    /// instead of a range, unless the stored response has a `Content-Encoding`, or is a video or an
    /// image other than SVG, which `Compress` does not encode. The preset
    /// [`rfc9111`](Self::rfc9111) includes this setting.
    pub fn no_compress_outside(mut self) -> Self {
        self.outer_compression = OuterCompression::Absent;
        self
    }
}
