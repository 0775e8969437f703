//! The policies from which an application starts: the defaults, and the preset for reverse proxies.

use std::time::Duration;

use super::{
    credential_fields::CREDENTIAL_FIELDS,
    settings::Policy,
    values::{
        AuthorizedRequests, ClientConditions, ClientDirectives, ContentTags, DownstreamFields,
        HeadMisses, NoVarySearchField, OfferedTags, PersonalRequests, PostResponses,
        WaitingRequests,
    },
};
use crate::semantics::{
    client_lifetime::ClientLifetimes,
    compression::{InnerCompression, OuterCompression},
    cookies::CookieRules,
    invalidation::InvalidationChoices,
    requester::CookieMeaning,
    storing::{AnyStatus, OneRequestFields, PolicyChoices},
    vary::{Codings, Languages},
};

pub(super) const REQUEST_BODY_LIMIT: Duration = Duration::from_secs(5);
pub(super) const WAIT_LIMIT: Duration = Duration::from_secs(5);
pub(super) const BACKGROUND_LIMIT: Duration = Duration::from_secs(30);
pub(super) const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// The default of [`Policy::max_body_size`], in bytes.
pub(crate) const DEFAULT_MAX_BODY_SIZE: usize = 2 * 1024 * 1024;

/// The default of [`Policy::cache_queries`], in bytes.
const DEFAULT_QUERY_BODY: usize = 64 * 1024;

impl Policy {
    /// Creates a policy with the [defaults](Self#defaults).
    pub fn new() -> Self {
        Self {
            default_ttl: Some(Duration::from_secs(60)),
            status_ttls: Vec::new(),
            override_ttl: None,
            override_status_ttls: Vec::new(),
            unstored_statuses: Vec::new(),
            choices: PolicyChoices {
                retention: Duration::from_secs(60 * 60),
                ..PolicyChoices::default()
            },
            targeted_fields: Vec::new(),
            targeted_downstream: DownstreamFields::Kept,
            tags: Vec::new(),
            tag_fields: Vec::new(),
            tags_downstream: DownstreamFields::Kept,
            emitted_tag_fields: Vec::new(),
            client_directives: ClientDirectives::Ignored,
            client_conditions: ClientConditions::Evaluated,
            offered_tags: OfferedTags::Selected,
            outer_compression: OuterCompression::Possible,
            inner_compression: InnerCompression::Possible,
            waiting_requests: WaitingRequests::Answered,
            invalidation: InvalidationChoices::default(),
            post_responses: PostResponses::NotStored,
            head_misses: HeadMisses::Passed,
            query_body: Some(DEFAULT_QUERY_BODY),
            post_body: None,
            request_body_limit: REQUEST_BODY_LIMIT,
            max_body_size: DEFAULT_MAX_BODY_SIZE,
            wait_limit: WAIT_LIMIT,
            background_limit: BACKGROUND_LIMIT,
            drain_limit: DRAIN_LIMIT,
            refresh_ahead: None,
            jitter: None,
            client_lifetimes: ClientLifetimes::default(),
            query: None,
            no_vary_search: NoVarySearchField::Honored,
            cookies: CookieRules::default(),
            cookie_meaning: CookieMeaning::Identity,
            languages: Languages::AsSent,
            codings: Codings::AsSent,
            credentials: CREDENTIAL_FIELDS.map(str::to_owned).into(),
            credentials_when: Vec::new(),
            per_user: None,
            authorized_requests: AuthorizedRequests::ByResponse,
            personal_requests: PersonalRequests::ByResponse,
            trusted_proxies: None,
            key_headers: Vec::new(),
            key_parts: Vec::new(),
            store_tests: Vec::new(),
            left_out: Vec::new(),
            content_tags: ContentTags::Made,
            compression: None,
        }
    }

    /// Creates a policy for a reverse proxy: a shared cache according to RFC 9111.
    ///
    /// The fields of an origin's response alone decide whether several clients may get the
    /// response. The main differences from the [defaults](Self#defaults) are:
    ///
    /// * A response with any final status code except 206 and 304 is stored if it states a
    ///   lifetime. Heuristic lifetimes are used (RFC 9111 section 4.2.2). There is no default
    ///   lifetime.
    /// * `CDN-Cache-Control` takes precedence over `Cache-Control` (RFC 9213).
    /// * The cache honors the `Cache-Control` directives of clients (RFC 9111 section 5.2.1). On a
    ///   miss, the cache forwards a client's conditions, such as `If-None-Match`, to the origin.
    /// * A validation request lists the entity tags of all stored variants (RFC 9111 section
    ///   4.3.1), except variants with `Content-Encoding` and variants that depend on credentials.
    /// * The cache makes no entity tags ([`no_content_tags`](Self::no_content_tags)).
    /// * `Accept-Language` is compared without regard to case.
    /// * A stale response is served for up to a day if the origin fails, unless the response
    ///   forbids it (RFC 5861 section 4). A response with `ETag` or `Last-Modified` is kept for a
    ///   day after its lifetime.
    /// * `private="field"` and `no-cache="field"` apply only to the fields that they name (RFC 9111
    ///   sections 5.2.2.4 and 5.2.2.7).
    /// * A response to `POST` answers later `GET` requests for its URL, if it states a lifetime and
    ///   its `Content-Location` is this URL (RFC 9110 section 9.3.3).
    /// * All fields of a response are stored (RFC 9111 section 3.1), even those about one request,
    ///   such as `X-Request-Id`; see [`leave_out`](Self::leave_out).
    /// * Cookies in requests have no effect unless the response names `Cookie` in `Vary` (RFC 9111
    ///   section 7.3). Responses to requests with cookies are stored, and such requests are
    ///   answered from the store. **`Set-Cookie` is stored and sent to other clients.** An origin
    ///   with sessions must therefore send `private` or `no-store`.
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
        policy.choices.one_request_fields = OneRequestFields::Stored;
        policy.client_conditions = ClientConditions::Forwarded;
        policy.content_tags = ContentTags::NotMade;
        policy.offered_tags = OfferedTags::AllVariants;
        policy.outer_compression = OuterCompression::Absent;
        policy.inner_compression = InnerCompression::Absent;
        policy.waiting_requests = WaitingRequests::Validated;
        policy.post_responses = PostResponses::Stored;
        policy
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}
