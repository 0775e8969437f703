//! `Policy`: the settings of a cache for lifetimes, limits, the cache key and personal requests. A
//! request is personal if it carries credentials, so that its response may be meant for one client
//! only.

mod compression;
mod credentials;
mod directives;
mod invalidation;
mod key;
mod lifetimes;
mod limits;
mod people;
mod request_bodies;
mod staleness;
mod storing;

use std::time::Duration;

use super::{
    compression::Compression,
    query::QueryKey,
    store_if::StoreTest,
    tagging::Tagging,
    values::{
        AuthorizedRequests, ClientConditions, ClientDirectives, ContentTags, DownstreamFields,
        HeadMisses, KeyPart, NoVarySearchField, OfferedTags, PersonalRequests, PostResponses,
        RequestTest, RequestText, WaitingRequests,
    },
};
use crate::semantics::{
    client_lifetime::ClientLifetimes,
    compression::{InnerCompression, OuterCompression},
    cookies::CookieRules,
    invalidation::InvalidationChoices,
    requester::CookieMeaning,
    storing::PolicyChoices,
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
/// | response with `no-store`, `private`, `Set-Cookie`, `Vary: *` or status 1xx, 206 or 304 | never stored; `private` is stored for one person under [`per_user`](Self::per_user) | The response is meant for one client or one request. |
/// | response with `no-cache` | stored if the response has `ETag` or `Last-Modified`, and revalidated before every use | RFC 9111 section 5.2.2.4 |
/// | response whose `Content-Security-Policy` has a nonce | stored only if the response states a lifetime | All clients would get the same nonce, and an attacker could read it. |
/// | response with `Pragma: no-cache` | not stored, unless the response states a lifetime | RFC 9111 section 5.4 does not define `Pragma` for responses, but a handler that sends it does not want its response cached. |
/// | response with status 200 that has neither `ETag` nor `Last-Modified` | stored with a weak `ETag` that the cache makes from the content | A client that has the content gets a 304. The handler never sees this tag. |
/// | stale response | kept for one hour if it has `ETag` or `Last-Modified`, so that the handler can revalidate it with 304; served stale only within the `stale-while-revalidate` and `stale-if-error` windows that it states | RFC 9111 section 4.2.4, RFC 5861 |
/// | request with `Authorization` | the response is stored only if it has `public` or `s-maxage`, or states a lifetime and has `must-revalidate`; a stored response answers the request only if it states a lifetime or has `public` | RFC 9111 section 3.5 |
/// | request with cookies | the response is stored only if it has `public`, `s-maxage` or `Vary: Cookie`; a stored response answers the request only if it states a lifetime, or has `public` or `Vary: Cookie` | A handler that reads a session seldom marks its response as `private`. |
/// | request with other [credentials](Self::credentials) | the response is stored, and a stored response answers the request, only if it states a lifetime or has `public` | RFC 9111 does not know these fields, so a handler seldom marks its response as `private`. |
/// | `Cache-Control` of a request | `no-store` is honored, other directives are ignored | RFC 9111 section 5.2.1 makes the directives advisory. If the cache honored them, any client could send all of its requests to the handler. |
/// | response field about one request: `RateLimit-*` except `RateLimit-Policy`, `X-RateLimit-*`, `X-Rate-Limit-*`, `Request-Id`, `X-Request-Id`, `X-Correlation-Id`, `X-Trace-Id`, `traceparent`, `tracestate`, `traceresponse`, `X-B3-*`, `X-Amzn-Trace-Id`, `X-Amzn-RequestId`, `X-Amz-Request-Id`, `X-Cloud-Trace-Context`, `Server-Timing`, `X-Response-Time`, `X-Runtime` | the response is stored without the field | The field would mislead other clients: about their own rate limit, or about the request that made the response. |
/// | query of the URL | every byte is part of the cache key, unless a response says by `No-Vary-Search` which differences do not matter | Requests with different queries share a stored response only if its handler says so. |
/// | `QUERY` request | handled as `GET` if its body has at most 64 KiB; the body is part of the cache key | RFC 10008 section 2.7 |
/// | content coding of a response | that of the handler: the cache compresses nothing ([`compress`](Self::compress)) | Some pages must not be compressed: those with a secret beside text that an attacker can choose. |
/// | response body | stored up to a size of 2 MiB | A large body displaces many small ones. |
/// | `HEAD` request | a stored response answers it; otherwise the handler does, and its response is not stored | A response to `HEAD` has no body. |
/// | `Cache-Control` for clients | a response that states no lifetime gets one by `max-age`: the rest of its lifetime in the cache | Clients would otherwise choose a lifetime themselves (RFC 9111 section 4.2.2). |
/// | unsafe request that succeeds, such as `POST` | purges its URL, and the URLs on its host in `Location` and `Content-Location`; a redirect counts as success | RFC 9111 section 4.4 |
/// | request that waits for its handler, or for the response to another request | after 5 s, it gets a stale response if `stale-if-error` allows it; otherwise it waits on for its own handler, or calls the handler if it waited for another request | Most handlers answer within this time, and few clients wait longer. |
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
    pub(in crate::policy) default_ttl: Option<Duration>,
    pub(in crate::policy) status_ttls: Vec<(u16, Duration)>,
    pub(in crate::policy) override_ttl: Option<Duration>,
    pub(in crate::policy) override_status_ttls: Vec<(u16, Duration)>,
    pub(in crate::policy) unstored_statuses: Vec<u16>,
    pub(in crate::policy) choices: PolicyChoices,
    pub(in crate::policy) targeted_fields: Vec<String>,
    pub(in crate::policy) targeted_downstream: DownstreamFields,
    pub(in crate::policy) tags: Vec<Tagging>,
    pub(in crate::policy) tag_fields: Vec<String>,
    pub(in crate::policy) tags_downstream: DownstreamFields,
    pub(in crate::policy) emitted_tag_fields: Vec<String>,
    pub(in crate::policy) client_directives: ClientDirectives,
    pub(in crate::policy) client_conditions: ClientConditions,
    pub(in crate::policy) offered_tags: OfferedTags,
    pub(in crate::policy) outer_compression: OuterCompression,
    pub(in crate::policy) inner_compression: InnerCompression,
    pub(in crate::policy) waiting_requests: WaitingRequests,
    pub(in crate::policy) invalidation: InvalidationChoices,
    pub(in crate::policy) post_responses: PostResponses,
    pub(in crate::policy) head_misses: HeadMisses,
    pub(in crate::policy) query_body: Option<usize>,
    pub(in crate::policy) post_body: Option<usize>,
    pub(in crate::policy) request_body_limit: Duration,
    pub(in crate::policy) max_body_size: usize,
    pub(in crate::policy) wait_limit: Duration,
    pub(in crate::policy) background_limit: Duration,
    pub(in crate::policy) drain_limit: Duration,
    pub(in crate::policy) refresh_ahead: Option<u8>,
    pub(in crate::policy) jitter: Option<u8>,
    pub(in crate::policy) client_lifetimes: ClientLifetimes,
    pub(in crate::policy) query: Option<QueryKey>,
    pub(in crate::policy) no_vary_search: NoVarySearchField,
    pub(in crate::policy) cookies: CookieRules,
    pub(in crate::policy) cookie_meaning: CookieMeaning,
    pub(in crate::policy) languages: Languages,
    pub(in crate::policy) codings: Codings,
    pub(in crate::policy) credentials: Vec<String>,
    pub(in crate::policy) credentials_when: Vec<RequestTest>,
    pub(in crate::policy) per_user: Option<RequestText>,
    pub(in crate::policy) authorized_requests: AuthorizedRequests,
    pub(in crate::policy) personal_requests: PersonalRequests,
    pub(in crate::policy) trusted_proxies: Option<Vec<String>>,
    pub(in crate::policy) key_headers: Vec<String>,
    pub(in crate::policy) key_parts: Vec<KeyPart>,
    pub(in crate::policy) store_tests: Vec<StoreTest>,
    pub(in crate::policy) left_out: Vec<String>,
    pub(in crate::policy) content_tags: ContentTags,
    pub(in crate::policy) compression: Option<Compression>,
}
