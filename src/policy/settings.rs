//! The settings of a cache: lifetimes, limits, the cache key, and which requests are personal.

use std::time::Duration;

use actix_web::{dev::ServiceRequest, http::header::PROXY_AUTHORIZATION};

use super::{
    check::{check_status, parse_field_names},
    error::ConfigError,
    query::QueryKey,
    tagging::Tagging,
    values::{
        ClientConditions, ClientDirectives, DownstreamFields, KeyPart, OfferedTags, PostResponses,
        RequestText,
    },
};
use crate::semantics::{
    cookies::CookieRules,
    requester::{CookieMeaning, IdentityRules},
    storing::{AnyStatus, Heuristics, PolicyChoices, Qualified, SetCookie},
    vary::{Codings, Comparison, Languages},
};

/// How a cache treats requests and responses, unless a [`Rule`](crate::Rule) says otherwise.
///
/// # Defaults
///
/// The defaults are safe for an application whose handlers were written without a cache in mind.
/// In doubt, the cache calls the handler and does not store the response.
///
/// | subject | default | reason |
/// |---|---|---|
/// | lifetime of a response that states none | 60 s with status 200, 203, 301 or 308; other responses are not stored | A minute takes most of the load off a handler, and an entry that the application forgot to purge corrects itself soon. Errors are not stored unless the response or the application gives them a lifetime. |
/// | `no-store`, `private`, `Set-Cookie`, `Vary: *`, status 1xx, 206 or 304 | never stored | The response is meant for one client or one moment. |
/// | `no-cache` | stored if the response has `ETag` or `Last-Modified`, and revalidated before every use | RFC 9111 section 5.2.2.4 |
/// | `Pragma: no-cache` in a response | not stored, unless the response states a lifetime | RFC 9111 section 5.4 gives it no meaning in responses, but a handler that sends it does not want its response cached. |
/// | stale response | kept for one hour if it has `ETag` or `Last-Modified`, and used after the handler has answered 304; otherwise used only within the windows that it states | RFC 9111 section 4.2.4, RFC 5861 |
/// | request with `Authorization` | its response is stored only with `public`, `s-maxage` or `must-revalidate` | RFC 9111 section 3.5 |
/// | request with cookies | its response is stored only with `public`, `s-maxage` or `Vary: Cookie`; a stored response without a stated lifetime is not used for it | Handlers that read a session seldom say so in the response. |
/// | request with other [credentials](Self::credentials) | its response is stored only if it states a lifetime, or has `public`, `s-maxage` or `must-revalidate`; a stored response without a stated lifetime is not used for it | The HTTP standard does not know these fields, so handlers seldom mark such responses. |
/// | `Cache-Control` of a request | `no-store` is honored, other directives are ignored | RFC 9111 section 5.2.1 makes them advisory, and any client could force every request to the handler. |
/// | query | every byte is part of the cache key | Two queries are never confused. |
/// | size of a body | up to 2 MiB are stored | A large body displaces many small ones. |
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
/// Setters accept every value. [`CacheBuilder::build`](crate::CacheBuilder::build) returns a
/// [`ConfigError`](crate::ConfigError) if a value cannot work.
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
    pub(super) key_headers: Vec<String>,
    pub(super) key_parts: Vec<KeyPart>,
}

const WAIT_LIMIT: Duration = Duration::from_secs(5);
const BACKGROUND_LIMIT: Duration = Duration::from_secs(30);
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

impl Policy {
    /// Creates a policy with the [defaults](Self#defaults).
    pub fn new() -> Self {
        Self {
            default_ttl: Some(Duration::from_secs(60)),
            status_ttls: Vec::new(),
            choices: PolicyChoices {
                retention: Duration::from_secs(60 * 60),
                ..PolicyChoices::default()
            },
            targeted_fields: Vec::new(),
            targeted_downstream: DownstreamFields::Kept,
            tags: Vec::new(),
            tag_fields: Vec::new(),
            tags_downstream: DownstreamFields::Kept,
            client_directives: ClientDirectives::Ignored,
            client_conditions: ClientConditions::Evaluated,
            offered_tags: OfferedTags::Selected,
            post_responses: PostResponses::NotStored,
            max_body_size: 2 * 1024 * 1024,
            wait_limit: WAIT_LIMIT,
            background_limit: BACKGROUND_LIMIT,
            drain_limit: DRAIN_LIMIT,
            refresh_ahead: None,
            client_ttl: None,
            query: None,
            cookies: CookieRules::default(),
            cookie_meaning: CookieMeaning::Identity,
            languages: Languages::AsSent,
            codings: Codings::AsSent,
            credentials: ["x-api-key", "api-key", "x-auth-token", "x-access-token"]
                .map(str::to_owned)
                .into_iter()
                .chain([PROXY_AUTHORIZATION.to_string()])
                .collect(),
            key_headers: Vec::new(),
            key_parts: Vec::new(),
        }
    }

    /// Creates a policy for a reverse proxy: a plain shared cache as RFC 9111 describes it.
    ///
    /// The origin alone decides which responses are shared. In detail:
    ///
    /// * A response of any final status code is stored if it states a lifetime. Heuristic
    ///   lifetimes are used (RFC 9111 section 4.2.2). There is no default lifetime.
    /// * `CDN-Cache-Control` takes precedence over `Cache-Control` (RFC 9213).
    /// * Directives of clients are honored (RFC 9111 section 5.2.1). On a miss, conditions of
    ///   clients are forwarded to the origin.
    /// * Validation requests list the entity tags of all stored variants (RFC 9111 section 4.3.1).
    /// * A stale response is used for up to a day if the origin fails and the response does not
    ///   forbid it (RFC 5861 section 4).
    /// * Qualified `private` and `no-cache` apply to the fields that they name (RFC 9111 sections
    ///   5.2.2.4 and 5.2.2.7).
    /// * A response to `POST` that represents its URL is used for later `GET` requests (RFC 9110
    ///   section 9.3.3).
    /// * Cookies have no effect unless the response says so (RFC 9111 section 7.3). Requests with
    ///   cookies are stored and answered, and **`Set-Cookie` is stored and sent to other clients**.
    ///   An origin with sessions must therefore send `private` or `no-store`.
    pub fn rfc9111() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        let mut policy = Self::new()
            .explicit_only()
            .honor_request_directives()
            .heuristic_freshness()
            .honor_qualified_directives()
            .targeted_fields(["CDN-Cache-Control"])
            .stale_if_error(DAY)
            .keep_stale(DAY)
            .fold_language_case()
            .replay_set_cookie()
            .share_despite_cookies();
        policy.choices.any_status = AnyStatus::Final;
        policy.client_conditions = ClientConditions::Forwarded;
        policy.offered_tags = OfferedTags::AllVariants;
        policy.post_responses = PostResponses::Stored;
        policy
    }

    /// Sets the lifetime of responses with status 200, 203, 301 or 308 that state none.
    ///
    /// Default: 60 s. With zero, such responses are stale at once: they are stored only if they can
    /// be revalidated or used stale.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// Sets the lifetime of responses with this status code that state none.
    ///
    /// Default: [`default_ttl`](Self::default_ttl) for 200, 203, 301 and 308, none for others.
    pub fn status_ttl(mut self, status: u16, ttl: Duration) -> Self {
        self.status_ttls.retain(|(known, _)| *known != status);
        self.status_ttls.push((status, ttl));
        self
    }

    /// Stores only responses that state a lifetime, or get one from a rule or their handler.
    ///
    /// It removes the [`default_ttl`](Self::default_ttl).
    pub fn explicit_only(mut self) -> Self {
        self.default_ttl = None;
        self
    }

    /// Honors `no-cache`, `max-age`, `max-stale`, `min-fresh` and `only-if-cached` in requests
    /// (RFC 9111 section 5.2.1).
    ///
    /// Default: they are ignored, because any client could force every request to the handler.
    pub fn honor_request_directives(mut self) -> Self {
        self.client_directives = ClientDirectives::Honored;
        self
    }

    /// Derives a lifetime from `Last-Modified` if a response states none (RFC 9111 section
    /// 4.2.2).
    ///
    /// The lifetime is a tenth of the time since the last modification, a day at most. Default:
    /// off, because handlers seldom send `Last-Modified` for that purpose.
    pub fn heuristic_freshness(mut self) -> Self {
        self.choices.heuristics = Heuristics::On;
        self
    }

    /// Sets how long a stale response is served while it is refreshed in the background, if it
    /// does not state `stale-while-revalidate` itself (RFC 5861 section 3).
    ///
    /// Default: zero. `must-revalidate`, `proxy-revalidate`, `s-maxage` and `no-cache` in the
    /// response forbid it.
    ///
    /// The refresh sends the client's own request to the handler, without its conditions and with
    /// the extensions that outer middlewares put into it. Outer middlewares see a copy of the
    /// request head without extensions on the way back. Only requests without cookies and
    /// credentials start a refresh; cookies that are ignored, and cookies and credentials that are
    /// part of the cache key, do not count. Other requests get the stale response and start
    /// nothing.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.choices.windows.while_revalidate = window;
        self
    }

    /// Sets how long a stale response is served if the handler fails, if the response does not
    /// state `stale-if-error` itself (RFC 5861 section 4).
    ///
    /// Default: zero. A handler fails if it answers 500, 502, 503 or 504, returns an `Err` with
    /// such a status, or does not answer within [`wait_limit`](Self::wait_limit). A handler that
    /// is too slow continues in the background, and its response is stored if it is storable.
    ///
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage` and `no-cache` in the response forbid it.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.choices.windows.if_error = window;
        self
    }

    /// Refreshes a response in the background if it is requested in the last `percent` of its
    /// lifetime, so that responses in demand never become stale.
    ///
    /// `percent` is from 1 to 99. Default: no refresh before the end of the lifetime. The refresh
    /// works as described at [`stale_while_revalidate`](Self::stale_while_revalidate).
    pub fn refresh_ahead(mut self, percent: u8) -> Self {
        self.refresh_ahead = Some(percent);
        self
    }

    /// Sets how long a request waits for the handler before the cache takes another way.
    ///
    /// Default: 5 s; most handlers are done by then, and few clients wait for longer. The limit
    /// applies twice: a collapsed request that waits for another request's response calls the
    /// handler itself after this time; and a request whose handler is slow gets a stale response
    /// after this time, if [`stale_if_error`](Self::stale_if_error) allows it. Must not be zero.
    pub fn wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = limit;
        self
    }

    /// Sets how long a refresh in the background may take, the body included.
    ///
    /// Default: 30 s. The cache drops a refresh that takes longer, and a later request starts
    /// another one. Must not be zero.
    pub fn background_limit(mut self, limit: Duration) -> Self {
        self.background_limit = limit;
        self
    }

    /// Sets how long the cache continues to read a handler's body after its last reader has left.
    ///
    /// Default: 30 s. A body that ends within this time is stored; the cache drops a body that
    /// takes longer. Must not be zero.
    pub fn drain_limit(mut self, limit: Duration) -> Self {
        self.drain_limit = limit;
        self
    }

    /// Sets how long a response with `ETag` or `Last-Modified` is kept after its lifetime, so that
    /// the handler can revalidate it with 304 instead of sending it again.
    ///
    /// Default: one hour.
    pub fn keep_stale(mut self, time: Duration) -> Self {
        self.choices.retention = time;
        self
    }

    /// Sets the response fields that address this cache, in order of precedence (RFC 9213).
    ///
    /// The first of them that is present and valid replaces `Cache-Control` and `Expires`.
    /// Default: none, because `CDN-Cache-Control` addresses a CDN in front of the application.
    ///
    /// Clients receive these fields, unless
    /// [`remove_targeted_fields`](Self::remove_targeted_fields) is set.
    pub fn targeted_fields(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.targeted_fields = names.into_iter().map(Into::into).collect();
        self
    }

    /// Removes the [`targeted_fields`](Self::targeted_fields) from responses to clients.
    ///
    /// Default: they are kept, because they may also address a cache in front.
    pub fn remove_targeted_fields(mut self) -> Self {
        self.targeted_downstream = DownstreamFields::Removed;
        self
    }

    /// Applies `private="field"` and `no-cache="field"` to the fields that they name (RFC 9111
    /// sections 5.2.2.4 and 5.2.2.7): the response is stored without these fields.
    ///
    /// Default: the qualified forms have the same effect as `private` and `no-cache`.
    pub fn honor_qualified_directives(mut self) -> Self {
        self.choices.qualified = Qualified::ByField;
        self
    }

    /// Stores responses with `Set-Cookie`, **and sends the cookies to every client that is
    /// answered from the store** (RFC 9111 section 7.3).
    ///
    /// Default: responses with `Set-Cookie` are never stored.
    pub fn replay_set_cookie(mut self) -> Self {
        self.choices.set_cookie = SetCookie::Stored;
        self
    }

    /// Treats requests with cookies like requests without, **although handlers see the cookies**.
    ///
    /// Only `private`, `no-store` and `Vary: Cookie` in responses then separate users. Default: a
    /// request with cookies is personal.
    pub fn share_despite_cookies(mut self) -> Self {
        self.cookie_meaning = CookieMeaning::Ordinary;
        self
    }

    /// Compares `Accept-Language` without regard to case, if a response varies by it (RFC 5646
    /// section 2.1.1).
    ///
    /// Default: the values are compared as sent.
    pub fn fold_language_case(mut self) -> Self {
        self.languages = Languages::CaseFolded;
        self
    }

    /// Compares `Accept-Language` by the best match among these languages, if a response varies by
    /// it (RFC 4647 section 3.4).
    ///
    /// The cache then stores one variant per language instead of one per browser. Name all
    /// languages of the handlers, in the handlers' order of preference; `*` matches the first.
    /// Default: the values are compared as sent.
    pub fn vary_languages(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.languages = Languages::Best(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Compares `Accept-Encoding` by which of these codings it accepts, if a response varies by
    /// it. Weights and other codings do not count.
    ///
    /// Name all codings of the handlers. The handlers must choose by their own order of
    /// preference, not by the client's weights. Default: the values are compared as sent.
    pub fn vary_codings(mut self, codings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let lowercase = |coding: String| coding.to_ascii_lowercase();
        let codings = codings.into_iter().map(Into::into).map(lowercase);
        self.codings = Codings::Offered(codings.collect());
        self
    }

    /// Sets the size of the largest body that is stored, in bytes.
    ///
    /// Default: 2 MiB. A larger body reaches its client unchanged and is not stored. Must not be
    /// zero.
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.max_body_size = bytes;
        self
    }

    /// Sets the longest time for which clients may keep a response whose lifetime the policy gave.
    ///
    /// Default: the rest of the lifetime. Purges do not reach browsers, so a long lifetime in this
    /// cache and a short one in browsers makes purges visible soon.
    pub fn client_ttl(mut self, ttl: Duration) -> Self {
        self.client_ttl = Some(ttl);
        self
    }

    /// Sets which parameters of the query are part of the cache key.
    ///
    /// Default: every byte of the query.
    pub fn query(mut self, query: QueryKey) -> Self {
        self.query = Some(query);
        self
    }

    /// Ignores cookies that have no effect on any response, such as cookies of analytics.
    ///
    /// A request with these cookies alone is treated like a request without cookies. A trailing
    /// `*` matches any rest of a name; `*` alone matches all cookies. Several calls add up.
    /// Default: none.
    ///
    /// Handlers still see the cookies. Do not name a cookie that a response depends on: the
    /// response to the first client's value would be sent to all clients.
    pub fn ignore_cookies(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.cookies.ignored.extend(names.into_iter().map(Into::into));
        self
    }

    /// Makes the value of a cookie part of the cache key.
    ///
    /// Each value has its own stored responses, and the cookie no longer makes a request personal.
    /// Responses get `Vary: Cookie`, for clients and other caches. Several calls add up.
    pub fn vary_cookie(mut self, name: impl Into<String>) -> Self {
        self.cookies.keyed.push(name.into());
        self
    }

    /// Adds request fields that carry credentials, beside `Authorization` and `Cookie`.
    ///
    /// Default: `Proxy-Authorization`, `X-Api-Key`, `Api-Key`, `X-Auth-Token` and
    /// `X-Access-Token`; the names are added to these.
    pub fn credentials(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.credentials.extend(names.into_iter().map(Into::into));
        self
    }

    /// Makes a request field part of the cache key.
    ///
    /// Each value has its own stored responses. If the field carries credentials, they no longer
    /// make a request personal. Responses get a `Vary` with the field, for clients and other
    /// caches. Several calls add up.
    pub fn key_header(mut self, name: impl Into<String>) -> Self {
        self.key_headers.push(name.into());
        self
    }

    /// Makes a value that the application computes part of the cache key: a tenant, a language, a
    /// user group.
    ///
    /// The cache calls `value` for every request, before the lookup. `value` sees the request with
    /// the extensions of outer middlewares. The cache does not know which request fields `value`
    /// reads; handlers must name them in `Vary` for clients and other caches.
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
    /// Tags of rules, handlers and response fields are added. A response with more than 64 tags,
    /// or with a tag of more than 256 bytes, is not stored.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(Tagging::Text(tag.into()));
        self
    }

    /// Gives all responses a tag that is computed from the request: a tenant, a shop. `None` adds
    /// no tag.
    ///
    /// The cache calls `tag` before the handler, and not on hits.
    pub fn tag_with(
        mut self,
        tag: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.tags.push(Tagging::Computed(RequestText::new(tag)));
        self
    }

    /// Sets the response fields that list tags, such as `Cache-Tag` or `Surrogate-Key`.
    ///
    /// `Surrogate-Key` and `xkey` separate tags by white space, all other fields by commas.
    /// Default: none. `Cache-Groups` (RFC 9875) is always read and names
    /// [groups](crate::CacheHandle::purge_group).
    ///
    /// Clients receive these fields, unless [`remove_tag_fields`](Self::remove_tag_fields) is set.
    pub fn tag_fields(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tag_fields = names.into_iter().map(Into::into).collect();
        self
    }

    /// Removes the [`tag_fields`](Self::tag_fields) from responses to clients.
    ///
    /// Default: they are kept, because a cache in front may use them.
    pub fn remove_tag_fields(mut self) -> Self {
        self.tags_downstream = DownstreamFields::Removed;
        self
    }

    /// Checks all settings that need no parsing.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.max_body_size == 0 {
            return Err(ConfigError::ZeroMaxBodySize);
        }
        for (setting, limit, default) in [
            ("wait_limit", self.wait_limit, WAIT_LIMIT),
            ("background_limit", self.background_limit, BACKGROUND_LIMIT),
            ("drain_limit", self.drain_limit, DRAIN_LIMIT),
        ] {
            if limit.is_zero() {
                return Err(ConfigError::ZeroLimit { setting, default });
            }
        }
        if let Some(percent) = self.refresh_ahead.filter(|percent| !(1..100).contains(percent)) {
            return Err(ConfigError::InvalidRefreshAhead(percent));
        }
        for &(status, _) in &self.status_ttls {
            check_status(status)?;
        }
        if self.cookies.keyed.iter().chain(&self.cookies.ignored).any(String::is_empty) {
            return Err(ConfigError::EmptyCookieName);
        }
        if self.key_parts.iter().any(|part| part.name.is_empty()) {
            return Err(ConfigError::EmptyKeyPartName);
        }
        Ok(())
    }

    /// Returns which parts of a request make it personal.
    pub(super) fn identity_rules(&self) -> Result<IdentityRules, ConfigError> {
        Ok(IdentityRules {
            cookies: self.cookies.clone(),
            credentials: parse_field_names(&self.credentials)?,
            keyed: parse_field_names(&self.key_headers)?,
            meaning: self.cookie_meaning,
        })
    }

    /// Returns the choices for storing responses.
    pub(super) fn policy_choices(&self) -> Result<PolicyChoices, ConfigError> {
        Ok(PolicyChoices {
            targets: parse_field_names(&self.targeted_fields)?,
            ..self.choices.clone()
        })
    }

    /// Returns how selecting fields are compared.
    pub(super) fn comparison(&self) -> Comparison {
        Comparison {
            cookies: self.cookies.clone(),
            languages: self.languages.clone(),
            codings: self.codings.clone(),
        }
    }

    /// Returns whether no response is ever stored or withheld because of a request's cookies.
    pub(super) fn ignores_all_cookies(&self) -> bool {
        self.cookie_meaning == CookieMeaning::Ordinary
            || self.cookies.ignored.iter().any(|name| name == "*")
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
