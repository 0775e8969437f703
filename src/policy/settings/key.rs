//! Settings of a policy: the cache key, and the comparison of request fields that `Vary` names.

use actix_web::dev::ServiceRequest;

use super::{
    super::{
        query::QueryKey,
        values::{KeyPart, NoVarySearchField, RequestText},
    },
    Policy,
};
use crate::semantics::vary::{Codings, Languages};

impl Policy {
    /// Sets which parameters of the query are part of the cache key.
    ///
    /// Default: every byte of the query is part of the cache key, unless responses have
    /// `No-Vary-Search` ([`ignore_no_vary_search`](Self::ignore_no_vary_search)).
    pub fn query(mut self, query: QueryKey) -> Self {
        self.query = Some(query);
        self
    }

    /// Ignores `No-Vary-Search` of responses.
    ///
    /// Default: a response with this field answers all requests for its path whose queries are
    /// equivalent by the field, such as all orders of parameters after `No-Vary-Search: key-order`
    /// (draft-ietf-httpbis-no-vary-search). [`query`](Self::query) applies first. The field also
    /// lets browsers reuse responses, so clients receive it in any case.
    ///
    /// Each process learns the field of a path from a response. The first response is therefore
    /// stored for its own query only. A process remembers up to 16384 paths. If a handler changes the
    /// field, the next response is not stored (`detail=no-vary-search`), and the one after it is. A
    /// field with more than 64 names, or of more than 2048 bytes, is ignored.
    ///
    /// A purge of a URL also purges all responses of its path that answer several queries.
    pub fn ignore_no_vary_search(mut self) -> Self {
        self.no_vary_search = NoVarySearchField::Ignored;
        self
    }

    /// Makes the value of a cookie part of the cache key.
    ///
    /// The cache stores separate responses for each value of the cookie. The cookie therefore does
    /// not make a request [personal](Self#personal-requests). The cache adds `Vary: Cookie` to
    /// responses, for clients and other caches. Several calls add up.
    ///
    /// `*` in `name` is an error, because it matches no other names. A cookie whose name matches a
    /// pattern of [`ignore_cookies`](Self::ignore_cookies) is still part of the cache key.
    pub fn vary_cookie(mut self, name: impl Into<String>) -> Self {
        self.cookies.keyed.push(name.into());
        self
    }

    /// Makes a request field part of the cache key.
    ///
    /// The cache stores separate responses for each value of the field. If the field carries
    /// credentials, it therefore does not make a request [personal](Self#personal-requests). The
    /// cache adds the field to `Vary` in responses, for clients and other caches. Several calls add
    /// up.
    pub fn key_header(mut self, name: impl Into<String>) -> Self {
        self.key_headers.push(name.into());
        self
    }

    /// Makes a value that the application computes part of the cache key, such as a tenant, a
    /// language or a user group. `name` distinguishes this value from other computed values.
    ///
    /// The cache calls the function `value` for every request, before the lookup. The request has
    /// the extensions that outer middlewares inserted. The cache does not know which request fields
    /// `value` reads, so handlers must name these fields in `Vary` for clients and other caches.
    ///
    /// Caches over one store whose functions differ must use different names, or different
    /// namespaces. The rules of one cache may use equal names.
    pub fn key_with(
        mut self,
        name: impl Into<String>,
        value: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key_parts.push(KeyPart { name: name.into(), value: RequestText::new(value) });
        self
    }

    /// Compares `Accept-Language` without regard to case, if a response names the field in `Vary`
    /// (RFC 5646 section 2.1.1).
    ///
    /// Default: the field values are compared as sent.
    pub fn fold_language_case(mut self) -> Self {
        self.languages = Languages::CaseFolded;
        self
    }

    /// Compares `Accept-Language` by the best match among these languages, if a response names the
    /// field in `Vary` (RFC 4647 section 3.4).
    ///
    /// The cache then stores one variant for each language instead of one for each field value.
    /// Pass all languages of the handlers, in the handlers' order of preference. `*` in a request
    /// matches the first language. The list must not be empty, and has language tags such as `de`
    /// or `pt-BR`. Default: the field values are compared as sent.
    pub fn vary_languages(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.languages = Languages::Best(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Compares `Accept-Encoding` only by which of these codings the client accepts, if a response
    /// names the field in `Vary`.
    ///
    /// Other codings in the field have no effect. Weights have no effect either, except that a
    /// coding with the weight zero is not accepted.
    ///
    /// Pass all codings of the handlers, by their registered names, such as `br`, `gzip` and `zstd`.
    /// The handlers must choose a coding by their own order of
    /// preference, not by the client's weights. Default: the field values are compared as sent.
    pub fn vary_codings(mut self, codings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let lowercase = |coding: String| coding.to_ascii_lowercase();
        let codings = codings.into_iter().map(Into::into).map(lowercase);
        self.codings = Codings::Offered(codings.collect());
        self
    }
}
