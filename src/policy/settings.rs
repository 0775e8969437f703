//! `Policy`: the settings of a cache for lifetimes, limits, the cache key and personal requests. A
//! request is personal if it carries credentials, so that its response may be meant for one client
//! only.

use std::time::Duration;

use actix_web::dev::ServiceRequest;

use super::{
    query::QueryKey,
    tagging::Tagging,
    values::{
        ClientConditions, ClientDirectives, DownstreamFields, KeyPart, OfferedTags, PostResponses,
        RequestTest, RequestText, WaitingRequests,
    },
};
use crate::semantics::{
    compression::{InnerCompression, OuterCompression},
    cookies::CookieRules,
    invalidation::{InvalidationChoices, LocationField, Redirects},
    requester::CookieMeaning,
    storing::{Heuristics, PolicyChoices, Qualified, SetCookie},
    vary::{Codings, Languages},
};

/// The settings by which a cache stores and reuses responses, unless a [`Rule`](crate::Rule) makes
/// an exception.
///
/// # Defaults
///
/// The defaults are safe for an application whose handlers were written without a cache in mind. If
/// it is not clear whether a response may be stored or reused, the cache calls the handler and does
/// not store the response.
///
/// | subject | default | reason |
/// |---|---|---|
/// | lifetime of a response that states none | 60 s with status 200, 203, 301 or 308; other responses are not stored | A lifetime of one minute takes most of the load off a handler. A stored response that the application forgot to purge is soon replaced. |
/// | lifetime that a response states | followed for status 200, 203, 204, 300, 301, 302, 307, 308, 404, 405, 410, 414 and 501; ignored for other status codes, such as 403 and 500: their responses are stored only if the application sets a lifetime | A response with another status code is seldom useful for a second request. |
/// | response with `no-store`, `private`, `Set-Cookie`, `Vary: *` or status 1xx, 206 or 304 | never stored | The response is meant for one client or one request. |
/// | response with `no-cache` | stored if the response has `ETag` or `Last-Modified`, and revalidated before every use | RFC 9111 section 5.2.2.4 |
/// | response with `Pragma: no-cache` | not stored, unless the response states a lifetime | RFC 9111 section 5.4 does not define `Pragma` for responses, but a handler that sends it does not want its response cached. |
/// | stale response | kept for one hour if it has `ETag` or `Last-Modified`, so that the handler can revalidate it with 304; served stale only within the `stale-while-revalidate` and `stale-if-error` windows that it states | RFC 9111 section 4.2.4, RFC 5861 |
/// | request with `Authorization` | the response is stored only if it has `public` or `s-maxage`, or states a lifetime and has `must-revalidate`; a stored response answers the request only if it states a lifetime or has `public` | RFC 9111 section 3.5 |
/// | request with cookies | the response is stored only if it has `public`, `s-maxage` or `Vary: Cookie`; a stored response answers the request only if it states a lifetime, or has `public` or `Vary: Cookie` | A handler that reads a session seldom marks its response as `private`. |
/// | request with other [credentials](Self::credentials) | the response is stored, and a stored response answers the request, only if it states a lifetime or has `public` | RFC 9111 does not know these fields, so a handler seldom marks its response as `private`. |
/// | `Cache-Control` of a request | `no-store` is honored, other directives are ignored | RFC 9111 section 5.2.1 makes the directives advisory. If the cache honored them, any client could send all of its requests to the handler. |
/// | query of the URL | every byte is part of the cache key | Requests with different queries never share a stored response. |
/// | response body | stored up to a size of 2 MiB | A large body displaces many small ones. |
///
/// # Personal requests
///
/// A request is personal if it carries credentials: cookies, `Authorization`, or another field that
/// [`credentials`](Self::credentials) names. The response to a personal request may be meant for
/// one client only. Ignored cookies do not make a request personal. Cookies and fields that are
/// part of the cache key do not either, because requests with other values share no stored
/// response.
///
/// # Example
///
/// ```
/// # use std::time::Duration;
/// # use actix_web_cache::{Policy, QueryKey};
/// let policy = Policy::new()
///     .default_ttl(Duration::from_secs(300))
///     .status_ttl(404, Duration::from_secs(10))
///     .stale_if_error(Duration::from_secs(3600))
///     .ignore_cookies(["_ga*"])
///     .query(QueryKey::ignoring(["utm_*"]));
/// ```
///
/// # Errors
///
/// The setters accept every value. [`CacheBuilder::build`](crate::CacheBuilder::build) returns a
/// [`ConfigError`](crate::ConfigError) if a value is invalid.
#[derive(Debug, Clone)]
#[must_use]
pub struct Policy {
    pub(super) default_ttl: Option<Duration>,
    pub(super) status_ttls: Vec<(u16, Duration)>,
    pub(super) choices: PolicyChoices,
    pub(super) targeted_fields: Vec<String>,
    pub(super) targeted_downstream: DownstreamFields,
    pub(super) tags: Vec<Tagging>,
    pub(super) tag_fields: Vec<String>,
    pub(super) tags_downstream: DownstreamFields,
    pub(super) client_directives: ClientDirectives,
    pub(super) client_conditions: ClientConditions,
    pub(super) offered_tags: OfferedTags,
    pub(super) outer_compression: OuterCompression,
    pub(super) inner_compression: InnerCompression,
    pub(super) waiting_requests: WaitingRequests,
    pub(super) invalidation: InvalidationChoices,
    pub(super) post_responses: PostResponses,
    pub(super) max_body_size: usize,
    pub(super) wait_limit: Duration,
    pub(super) background_limit: Duration,
    pub(super) drain_limit: Duration,
    pub(super) refresh_ahead: Option<u8>,
    pub(super) client_ttl: Option<Duration>,
    pub(super) query: Option<QueryKey>,
    pub(super) cookies: CookieRules,
    pub(super) cookie_meaning: CookieMeaning,
    pub(super) languages: Languages,
    pub(super) codings: Codings,
    pub(super) credentials: Vec<String>,
    pub(super) credentials_when: Vec<RequestTest>,
    pub(super) trusted_proxies: Option<Vec<String>>,
    pub(super) key_headers: Vec<String>,
    pub(super) key_parts: Vec<KeyPart>,
}

impl Policy {
    /// Sets the lifetime of responses that state none and have status 200, 203, 301 or 308.
    ///
    /// Default: 60 s. With zero, such responses are stale at once. The cache then stores a response
    /// only if it can be revalidated or served stale.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// Sets the lifetime of responses that state none and have this status code.
    ///
    /// A lifetime that the response states takes precedence over `ttl`. In a policy from
    /// [`new`](Self::new), this is so only for the status codes whose stated lifetime the
    /// [defaults](Self#defaults) follow. For other status codes, such as 500, `ttl` replaces the
    /// stated lifetime.
    ///
    /// Default: [`default_ttl`](Self::default_ttl) for 200, 203, 301 and 308; no lifetime for other
    /// status codes.
    pub fn status_ttl(mut self, status: u16, ttl: Duration) -> Self {
        self.status_ttls.retain(|(known, _)| *known != status);
        self.status_ttls.push((status, ttl));
        self
    }

    /// Stores a response only if it states a lifetime, or if a rule, the handler or
    /// [`status_ttl`](Self::status_ttl) sets one.
    ///
    /// This setter removes the [`default_ttl`](Self::default_ttl).
    pub fn explicit_only(mut self) -> Self {
        self.default_ttl = None;
        self
    }

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

    /// Derives a lifetime from `Last-Modified` if a response states none (RFC 9111 section
    /// 4.2.2).
    ///
    /// The lifetime is a tenth of the time since the last modification, and one day at most.
    ///
    /// Default: the cache derives no lifetime, because handlers seldom send `Last-Modified` for
    /// this purpose.
    pub fn heuristic_freshness(mut self) -> Self {
        self.choices.heuristics = Heuristics::On;
        self
    }

    /// Sets how long a stale response without `stale-while-revalidate` is served while the cache
    /// refreshes it in the background (RFC 5861 section 3).
    ///
    /// Default: zero. The window does not apply to responses with `must-revalidate`,
    /// `proxy-revalidate`, `s-maxage` or `no-cache`.
    ///
    /// To refresh a response, the cache calls the handler with the client's own request. The cache
    /// removes the client's conditions from this request, and keeps the extensions that outer
    /// middlewares inserted. The `ServiceResponse` of the stale response contains a copy of the
    /// request. This copy has no extensions, so outer middlewares find none in it.
    ///
    /// A [personal request](Self#personal-requests) gets the stale response but does not start a
    /// refresh, because the refreshed response could contain data of its user.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.choices.windows.while_revalidate = window;
        self
    }

    /// Sets how long a stale response without `stale-if-error` is served if the handler fails (RFC
    /// 5861 section 4).
    ///
    /// Default: zero. A handler fails if it answers 500, 502, 503 or 504, returns an `Err` with
    /// such a status, or does not answer within [`wait_limit`](Self::wait_limit). A handler that
    /// exceeds this limit continues in the background, and the cache stores the response if the
    /// policy allows it.
    ///
    /// The window does not apply to responses with `must-revalidate`, `proxy-revalidate`,
    /// `s-maxage` or `no-cache`.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.choices.windows.if_error = window;
        self
    }

    /// Refreshes a stored response in the background if it is requested in the last `percent` of
    /// its lifetime.
    ///
    /// If clients request a response often, the cache thus replaces the response before it becomes
    /// stale.
    ///
    /// `percent` is from 1 to 99. Default: the cache refreshes no response before the end of its
    /// lifetime. [`stale_while_revalidate`](Self::stale_while_revalidate) describes how a refresh
    /// works.
    pub fn refresh_ahead(mut self, percent: u8) -> Self {
        self.refresh_ahead = Some(percent);
        self
    }

    /// Sets how long a request waits for its handler, or for the response to another request.
    ///
    /// A follower, which is a request that waits for the response to another request, calls the
    /// handler itself after this time. A request whose handler is slow gets a stale response after
    /// this time if [`stale_if_error`](Self::stale_if_error) allows it, and waits on otherwise.
    ///
    /// Default: 5 s, because most handlers answer within this time and few clients wait longer. The
    /// limit must not be zero.
    pub fn wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = limit;
        self
    }

    /// Sets how long a background refresh may take, including the response body.
    ///
    /// Default: 30 s. The cache drops a refresh that takes longer, and a later request starts
    /// another refresh. The limit must not be zero.
    pub fn background_limit(mut self, limit: Duration) -> Self {
        self.background_limit = limit;
        self
    }

    /// Sets how long the cache continues to read a response body from the handler after all clients
    /// that wait for the body have disconnected.
    ///
    /// Default: 30 s. The cache stores a body that ends within this time, and drops a body that
    /// does not. A body of unknown length is dropped as soon as no client waits for it, because it
    /// may never end. The limit must not be zero.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.drain_limit = limit;
        self
    }

    /// Sets how long a response with `ETag` or `Last-Modified` is kept after its lifetime.
    ///
    /// The handler can revalidate such a response with 304 instead of sending the body again.
    ///
    /// Default: one hour.
    pub fn keep_stale(mut self, time: Duration) -> Self {
        self.choices.retention = time;
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

    /// Stores responses with `Set-Cookie`, **and sends the cookies to every client that gets the
    /// stored response** (RFC 9111 section 7.3).
    ///
    /// Default: responses with `Set-Cookie` are never stored.
    pub fn replay_set_cookie(mut self) -> Self {
        self.choices.set_cookie = SetCookie::Stored;
        self
    }

    /// Treats requests with cookies like requests without cookies, **although handlers see the
    /// cookies**.
    ///
    /// With this setting, the handler must send `private`, `no-store` or `Vary: Cookie` with each
    /// response that depends on cookies. Otherwise, other users get this response. Default: a
    /// request with cookies is [personal](Self#personal-requests).
    pub fn share_despite_cookies(mut self) -> Self {
        self.cookie_meaning = CookieMeaning::Ordinary;
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
    /// matches the first language. Default: the field values are compared as sent.
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
    /// Pass all codings of the handlers. The handlers must choose a coding by their own order of
    /// preference, not by the client's weights. Default: the field values are compared as sent.
    pub fn vary_codings(mut self, codings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let lowercase = |coding: String| coding.to_ascii_lowercase();
        let codings = codings.into_iter().map(Into::into).map(lowercase);
        self.codings = Codings::Offered(codings.collect());
        self
    }

    /// Purges nothing if an unsafe request, such as a `POST`, is answered with a redirect (3xx).
    ///
    /// Without this setting, each login that redirects to the home page purges the stored home
    /// page, and a middleware inside the cache that redirects `http` to `https` purges although no
    /// handler ran. With this setting, handlers that change a resource and answer with a redirect
    /// must purge by [`CacheHandle`](crate::CacheHandle).
    ///
    /// Default: a redirect purges the URL of the request, and the URLs in `Location` and
    /// `Content-Location`, as RFC 9111 section 4.4 requires of a response that is no error.
    pub fn no_purge_by_redirects(mut self) -> Self {
        self.invalidation.redirects = Redirects::Ignored;
        self
    }

    /// Does not purge the URL in `Location` of the response to an unsafe request.
    ///
    /// A client can often choose the URL in `Location`, for example by a parameter `next` of a
    /// login page. The client could thus purge any page of the same host.
    ///
    /// Default: the URL is purged if it is on the host of the request. RFC 9111 section 4.4 permits
    /// a cache to purge this URL, but does not require it.
    pub fn no_purge_by_location(mut self) -> Self {
        self.invalidation.location = LocationField::Ignored;
        self
    }

    /// Serves ranges of all stored responses, **which corrupts resumed downloads if a `Compress`
    /// middleware is registered outside of the cache**.
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

    /// Sets the size of the largest body that is stored, in bytes.
    ///
    /// Default: 2 MiB. A larger body reaches its client unchanged and is not stored. The size must
    /// not be zero. The limit of the store applies as well: a [`MemoryStore`](crate::MemoryStore)
    /// stores no body of more than an eighth of its size.
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.max_body_size = bytes;
        self
    }

    /// Sets the longest time for which clients may keep a response. The limit applies only if the
    /// policy, a rule or the handler set the lifetime of the response.
    ///
    /// Default: the remaining lifetime of the response. Purges do not reach browsers. If the
    /// lifetime is long in this cache and short in browsers, users soon see the effect of a purge.
    pub fn client_ttl(mut self, ttl: Duration) -> Self {
        self.client_ttl = Some(ttl);
        self
    }

    /// Sets which parameters of the query are part of the cache key.
    ///
    /// Default: every byte of the query is part of the cache key.
    pub fn query(mut self, query: QueryKey) -> Self {
        self.query = Some(query);
        self
    }

    /// Ignores cookies that have no effect on any response, such as analytics cookies.
    ///
    /// A request that has only ignored cookies is treated like a request without cookies. A
    /// trailing `*` in a name matches any suffix, and `*` alone matches all cookies. Several calls
    /// add up. Default: none.
    ///
    /// Handlers still see the ignored cookies. Do not ignore a cookie on which a response depends:
    /// all clients would get the response that was made for the first client's value of the cookie.
    pub fn ignore_cookies(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.cookies.ignored.extend(names.into_iter().map(Into::into));
        self
    }

    /// Makes the value of a cookie part of the cache key.
    ///
    /// The cache stores separate responses for each value of the cookie. The cookie therefore does
    /// not make a request [personal](Self#personal-requests). The cache adds `Vary: Cookie` to
    /// responses, for clients and other caches. Several calls add up.
    pub fn vary_cookie(mut self, name: impl Into<String>) -> Self {
        self.cookies.keyed.push(name.into());
        self
    }

    /// Adds request fields that carry credentials, besides `Authorization` and `Cookie`. A request
    /// with one of these fields is [personal](Self#personal-requests).
    ///
    /// Default: the fields in which common proxies and APIs carry tokens, users and client
    /// certificates, such as `X-Api-Key`, `X-Forwarded-User` and `Cf-Access-Jwt-Assertion`. The
    /// [list](https://github.com/actix-web-cache/actix-web-cache/blob/main/src/policy/credential_fields.rs)
    /// has them all. The new names are added to these.
    pub fn credentials(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.credentials.extend(names.into_iter().map(Into::into));
        self
    }

    /// Removes request fields from those that carry [credentials](Self::credentials), because no
    /// handler answers by their value.
    pub fn ignore_credentials(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        for name in names {
            self.credentials.retain(|known| !known.eq_ignore_ascii_case(name.as_ref()));
        }
        self
    }

    /// Makes a request [personal](Self#personal-requests) if the function `test` returns true. Use
    /// it for credentials that are in no request field, such as the client certificate of the
    /// connection ([`HttpRequest::conn_data`](actix_web::HttpRequest::conn_data)).
    ///
    /// The cache calls `test` for every request, before the lookup. Several calls add up: a request
    /// is personal if any of the functions returns true.
    pub fn credentials_when(
        mut self,
        test: impl Fn(&ServiceRequest) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.credentials_when.push(RequestTest::new(test));
        self
    }

    /// Names the proxies in front of the application whose `X-Forwarded-Host`, `X-Forwarded-Proto`
    /// and `Forwarded` can be trusted: IP addresses, networks such as `10.0.0.0/8`, or `unix:` for
    /// all connections over a Unix domain socket. Several calls add up.
    ///
    /// actix makes absolute links from these fields ([`url_for`](actix_web::HttpRequest::url_for),
    /// [`ConnectionInfo`](actix_web::dev::ConnectionInfo)), so a response may depend on them. With
    /// this setting, a request that comes from another peer bypasses the cache if it has one of
    /// these fields. `Forwarded` counts if it has a host or a protocol, or if it cannot be read. An
    /// empty list trusts no peer.
    ///
    /// Default: every request may have these fields. Requests with different values never share a
    /// response. Responses to requests with such fields do not displace a page that other clients
    /// request.
    pub fn trusted_proxies(mut self, proxies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let known = self.trusted_proxies.get_or_insert_with(Vec::new);
        known.extend(proxies.into_iter().map(Into::into));
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
    pub fn key_with(
        mut self,
        name: impl Into<String>,
        value: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key_parts.push(KeyPart { name: name.into(), value: RequestText::new(value) });
        self
    }

    /// Gives all responses a tag (surrogate key) for
    /// [`CacheHandle::purge_tag`](crate::CacheHandle::purge_tag).
    ///
    /// A response also has the tags that rules, its handler and its fields give. A response with
    /// more than 64 tags, or with a tag of more than 256 bytes, is not stored.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(Tagging::Text(tag.into()));
        self
    }

    /// Gives all responses a tag that the function `tag` computes from the request, such as a
    /// tenant or a shop. `None` adds no tag.
    ///
    /// The cache calls `tag` before it calls the handler, and does not call `tag` on a hit.
    pub fn tag_with(
        mut self,
        tag: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(Tagging::Computed(RequestText::new(tag)));
        self
    }

    /// Sets the response fields that list tags, such as `Cache-Tag` or `Surrogate-Key`.
    ///
    /// White space separates the tags in `Surrogate-Key` and `xkey`, and commas separate the tags
    /// in all other fields. Default: none. Besides these fields, the cache always reads
    /// `Cache-Groups` (RFC 9875), which lists the [groups](crate::CacheHandle::purge_group) of a
    /// response.
    ///
    /// Clients also receive the tag fields, unless [`remove_tag_fields`](Self::remove_tag_fields)
    /// is set.
    pub fn tag_fields(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tag_fields = names.into_iter().map(Into::into).collect();
        self
    }

    /// Removes the [`tag_fields`](Self::tag_fields) from responses to clients.
    ///
    /// Default: the fields are kept, because a cache in front of the application may use them.
    pub fn remove_tag_fields(mut self) -> Self {
        self.tags_downstream = DownstreamFields::Removed;
        self
    }
}
