//! What an application wants of its cache.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    dev::ServiceRequest,
    http::{
        StatusCode,
        header::{HeaderName, PROXY_AUTHORIZATION},
    },
};

use crate::semantics::{
    cookies::CookieRules,
    requester::{CookieMeaning, IdentityRules},
    storing::{AnyStatus, Heuristics, PolicyChoices, Qualified, SetCookie},
    vary::{Codings, Comparison, Languages},
};

pub(crate) mod cache_key;
pub(crate) mod compiled;
pub(crate) mod error;
pub(crate) mod query;
pub(crate) mod rule;
pub(crate) mod tagging;

use self::tagging::Tagging;
pub(crate) use self::{
    cache_key::{discriminator_for, scheme, target_urls},
    compiled::{CompiledPolicy, MatchedRules, Unmatched, VaryCookie},
    tagging::{RequestTags, merge_tags},
};
pub use self::{error::ConfigError, query::QueryKey, rule::Rule};

/// What a cache does unless a rule says otherwise: lifetimes, limits, and what is personal.
///
/// The defaults are safe for applications that never thought of caching:
///
/// | what | default | why |
/// |---|---|---|
/// | lifetime of what states none | 60 s for 200, 203, 301, 308 | long enough to take load off, short enough that a forgotten purge heals; errors are never kept unasked |
/// | `no-store`, `private`, `Set-Cookie`, `Vary: *`, 1xx, 206, 304 | never stored | they are meant for one requester or one moment |
/// | `no-cache` | stored with `ETag` or `Last-Modified` only, and its handler asked each time | RFC 9111 section 5.2.2.4 |
/// | stale responses | kept for an hour if they have `ETag` or `Last-Modified`, and used once their handler said 304; otherwise only as they say themselves | RFC 9111 section 4.2.4, RFC 5861 |
/// | `Pragma: no-cache` | not stored, unless a lifetime is stated | who sends it wants no caching |
/// | request with `Authorization` | stored only with `public`, `s-maxage` or `must-revalidate` | RFC 9111 section 3.5 |
/// | request with cookies | stored only with `public` or `s-maxage`; not answered from the store with what states no lifetime | handlers that read a session seldom say so |
/// | request with other credentials | as `Authorization`, for what states no lifetime | the HTTP standard does not know them |
/// | client's `Cache-Control` | `no-store` is honoured, the rest ignored | RFC 9111 section 5.2.1 calls it advice; any client could force every request to the handler |
/// | query | every byte is part of the key | never wrong |
/// | body | up to 2 MiB | larger ones crowd out many small ones |
#[derive(Clone)]
#[must_use]
pub struct Policy {
    default_ttl: Option<Duration>,
    status_ttls: Vec<(u16, Duration)>,
    choices: PolicyChoices,
    targeted_fields: Vec<String>,
    targeted_downstream: DownstreamFields,
    tags: Vec<Tagging>,
    tag_fields: Vec<String>,
    tags_downstream: DownstreamFields,
    client_directives: ClientDirectives,
    client_conditions: ClientConditions,
    offered: Offered,
    posts: Posts,
    max_body_size: usize,
    wait_limit: Duration,
    refresh_ahead: Option<u8>,
    client_ttl: Option<Duration>,
    query: Option<QueryKey>,
    cookies: CookieRules,
    cookie_meaning: CookieMeaning,
    languages: Languages,
    codings: Codings,
    credentials: Vec<String>,
    key_headers: Vec<String>,
    key_parts: Vec<KeyPart>,
}

/// Whether `Cache-Control` of requests counts for look-ups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientDirectives {
    Ignored,
    Honored,
}

/// Where conditions of requests (`If-None-Match`, `If-Modified-Since`) are judged when nothing is
/// stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientConditions {
    /// By the cache, on the handler's complete answer, which is stored.
    Taken,
    /// By the handler.
    Forwarded,
}

/// Whose entity tags a handler is offered when something is validated (RFC 9111 section 4.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Offered {
    /// That of the response which would answer.
    Selected,
    /// Those of other variants, too.
    AllVariants,
}

/// Whether an answer to POST may answer later GETs (RFC 9110 section 9.3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Posts {
    NotStored,
    Stored,
}

/// What becomes of fields that speak to this cache on their way to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum DownstreamFields {
    Kept,
    Removed,
}

/// A part of the key that the application makes.
#[derive(Clone)]
struct KeyPart {
    name: String,
    make: MakePart,
}

/// What the application finds in a request.
type MakePart = Arc<dyn Fn(&ServiceRequest) -> Option<String> + Send + Sync>;

impl Policy {
    /// The defaults.
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
            client_conditions: ClientConditions::Taken,
            offered: Offered::Selected,
            posts: Posts::NotStored,
            max_body_size: 2 * 1024 * 1024,
            wait_limit: Duration::from_secs(5),
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

    /// A plain shared cache as RFC 9111 describes it, for reverse proxies, where the origin says
    /// what may be shared and nothing is added to it:
    ///
    /// * lifetimes that responses state, with any final status code, and heuristic ones; no
    ///   default lifetime, nothing advertised;
    /// * `CDN-Cache-Control` goes before `Cache-Control` (RFC 9213);
    /// * clients' directives are honoured, and their conditions forwarded where nothing is stored;
    /// * a strong `ETag` is taken for that of one page only: the origin is offered those of other
    ///   variants, too;
    /// * what is stale answers for up to a day where the origin fails and nothing forbids it;
    /// * qualified `private` and `no-cache` are about the fields they name;
    /// * an answer to `POST` that represents its URL answers later `GET`s;
    /// * cookies count as the RFC has it: not at all, unless the response says so. **`Set-Cookie`
    ///   is stored and replayed**, and requests with cookies are stored and answered: an origin
    ///   with sessions must say `private` or `no-store`.
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
        policy.offered = Offered::AllVariants;
        policy.posts = Posts::Stored;
        policy
    }

    /// The lifetime of responses with status 200, 203, 301 or 308 that state none. Default 60 s;
    /// zero is as [`explicit_only`](Self::explicit_only).
    pub const fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// The lifetime of responses with this status code that state none. Default: none, save for
    /// those of [`default_ttl`](Self::default_ttl).
    pub fn status_ttl(mut self, status: u16, ttl: Duration) -> Self {
        self.status_ttls.retain(|(known, _)| *known != status);
        self.status_ttls.push((status, ttl));
        self
    }

    /// Stores only what states a lifetime itself, or is given one by a rule or its handler.
    pub const fn explicit_only(mut self) -> Self {
        self.default_ttl = None;
        self
    }

    /// Honours `no-cache`, `max-age`, `max-stale`, `min-fresh` and `only-if-cached` in requests.
    /// Default: not, for any client could force every request to the handler (RFC 9111 section
    /// 5.2.1).
    pub const fn honor_request_directives(mut self) -> Self {
        self.client_directives = ClientDirectives::Honored;
        self
    }

    /// Guesses a lifetime by `Last-Modified` where a response states none: a tenth of the time it
    /// has not changed, a day at most (RFC 9111 section 4.2.2). Default: not, for handlers seldom
    /// mean it.
    pub const fn heuristic_freshness(mut self) -> Self {
        self.choices.heuristics = Heuristics::On;
        self
    }

    /// How long a stale response answers while it is being refreshed, where it does not say so
    /// itself by `stale-while-revalidate` (RFC 5861 section 3). Default: not at all.
    ///
    /// A refresh is the client's request without its conditions, sent to the handler in the
    /// background with the extensions that middlewares further out have put into it; on the
    /// client's side a request with the same head, and without extensions, stands in for it. Only
    /// requests without cookies and credentials refresh (ignored ones and those in the key aside):
    /// others are answered, and start nothing.
    ///
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage` and `no-cache` forbid it.
    pub const fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.choices.windows.while_revalidate = window;
        self
    }

    /// How long a stale response answers where the handler fails (status 500, 502, 503 or 504,
    /// that of an `Err` included) or has not answered within [`wait_limit`](Self::wait_limit), where
    /// it does not say so itself by `stale-if-error` (RFC 5861 section 4). Default: not at all.
    ///
    /// A handler that takes too long goes on in the background, and its answer is stored if it can
    /// be.
    ///
    /// `must-revalidate`, `proxy-revalidate`, `s-maxage` and `no-cache` forbid it.
    pub const fn stale_if_error(mut self, window: Duration) -> Self {
        self.choices.windows.if_error = window;
        self
    }

    /// Refreshes what is asked for in the last `percent` of its lifetime, in the background as for
    /// [`stale_while_revalidate`](Self::stale_while_revalidate), so that pages in demand are never
    /// stale. Default: nothing is refreshed before its time. From 1 to 99.
    pub const fn refresh_ahead(mut self, percent: u8) -> Self {
        self.refresh_ahead = Some(percent);
        self
    }

    /// How long a request waits for the handler's answer to another one before it asks itself, and
    /// how long for its own before something stale answers, where
    /// [`stale_if_error`](Self::stale_if_error) allows. Default five seconds: most handlers are
    /// done by then, and few clients wait for longer.
    pub const fn wait_limit(mut self, limit: Duration) -> Self {
        self.wait_limit = limit;
        self
    }

    /// How long a response with `ETag` or `Last-Modified` is kept after its lifetime, so that its
    /// handler can say by 304 that it still holds. Default one hour.
    pub const fn keep_stale(mut self, time: Duration) -> Self {
        self.choices.retention = time;
        self
    }

    /// Fields that speak to this cache and go before `Cache-Control` and `Expires`, in this order
    /// (RFC 9213): a valid one counts alone, with what it refuses. Default: none, for
    /// `CDN-Cache-Control` is meant for a CDN in front.
    ///
    /// They reach clients and caches in between as they are; see
    /// [`remove_targeted_fields`](Self::remove_targeted_fields).
    pub fn targeted_fields(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.targeted_fields = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        self
    }

    /// Takes the [`targeted_fields`](Self::targeted_fields) out of what clients get. Default: they
    /// stay, for the cache in front may be meant too.
    pub const fn remove_targeted_fields(mut self) -> Self {
        self.targeted_downstream = DownstreamFields::Removed;
        self
    }

    /// Takes `private="field"` and `no-cache="field"` for what they say (RFC 9111 sections 5.2.2.4
    /// and 5.2.2.7): the response is stored without the fields they name. Default: they count as
    /// `private` and `no-cache`.
    pub const fn honor_qualified_directives(mut self) -> Self {
        self.choices.qualified = Qualified::ByField;
        self
    }

    /// Stores responses that set cookies, **and sets these cookies for everybody who is answered
    /// from the store**. Default: they are never stored.
    pub const fn replay_set_cookie(mut self) -> Self {
        self.choices.set_cookie = SetCookie::Stored;
        self
    }

    /// Stores and answers requests with cookies as if they had none, **although handlers see
    /// them**: only what responses say (`private`, `Vary: Cookie`) keeps people apart. Default:
    /// cookies make a request personal.
    pub const fn share_despite_cookies(mut self) -> Self {
        self.cookie_meaning = CookieMeaning::Ordinary;
        self
    }

    /// Compares `Accept-Language`, where a response varies by it, without regard to case. Default:
    /// as sent.
    pub fn fold_language_case(mut self) -> Self {
        self.languages = Languages::CaseFolded;
        self
    }

    /// Compares `Accept-Language`, where a response varies by it, by which of these suits it best
    /// (RFC 4647 section 3.4): one variant for each instead of one for each browser. Default: as
    /// sent.
    ///
    /// Name all languages the handlers have, as they would choose among them; the first is what
    /// `*` gets.
    pub fn vary_languages(mut self, tags: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.languages =
            Languages::Best(tags.into_iter().map(|tag| tag.as_ref().to_owned()).collect());
        self
    }

    /// Compares `Accept-Encoding`, where a response varies by it, by which of these codings it
    /// accepts: weights and all others do not count. Default: as sent.
    ///
    /// Name all codings the handlers have; they must choose by their own order.
    pub fn vary_codings(mut self, codings: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        let owned = codings.into_iter().map(|coding| coding.as_ref().to_ascii_lowercase());
        self.codings = Codings::Offered(owned.collect());
        self
    }

    /// The largest body that is stored, in bytes. Default 2 MiB. Larger ones reach the client as
    /// ever, and are not stored.
    pub const fn max_body_size(mut self, bytes: usize) -> Self {
        self.max_body_size = bytes;
        self
    }

    /// How long clients may keep what this cache gives them, at most, where the lifetime is the
    /// policy's. Default: what is left of it.
    ///
    /// Purges do not reach browsers: a long lifetime here with a short one there lets a purge be
    /// seen soon.
    pub const fn client_ttl(mut self, ttl: Duration) -> Self {
        self.client_ttl = Some(ttl);
        self
    }

    /// Which parameters of the query are part of the key. Default: every byte.
    pub fn query(mut self, query: QueryKey) -> Self {
        self.query = Some(query);
        self
    }

    /// Cookies that mean nothing to the handlers, such as those of analytics: requests with them
    /// count as if without. A trailing `*` stands for any end; `*` alone for all cookies.
    ///
    /// Handlers still see them. Name none that any page depends on: what is made for the first
    /// visitor's value is shown to all.
    pub fn ignore_cookies(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.cookies.ignored.extend(names.into_iter().map(|name| name.as_ref().to_owned()));
        self
    }

    /// Makes the value of a cookie part of the key: each value has pages of its own, and the
    /// cookie no longer keeps requests from the store. Clients and caches downstream are told by
    /// `Vary: Cookie`.
    pub fn vary_cookie(mut self, name: impl Into<String>) -> Self {
        self.cookies.keyed.push(name.into());
        self
    }

    /// Request fields that carry credentials, beside `Authorization` and `Cookie`. Default:
    /// `Proxy-Authorization`, `X-Api-Key`, `Api-Key`, `X-Auth-Token`, `X-Access-Token`;
    /// these are added.
    pub fn credentials(mut self, names: impl IntoIterator<Item = impl AsRef<str>>) -> Self {
        self.credentials.extend(names.into_iter().map(|name| name.as_ref().to_owned()));
        self
    }

    /// Makes a request field part of the key: each value has pages of its own. If it carries
    /// credentials, they no longer keep requests from the store. Clients and caches downstream are
    /// told by `Vary`.
    pub fn key_header(mut self, name: impl Into<String>) -> Self {
        self.key_headers.push(name.into());
        self
    }

    /// Makes what `part` finds in the request part of the key: a tenant, a language, a group. It
    /// sees the request as it reaches the cache, extensions of outer middlewares included, and is
    /// asked on every request. What it looks at is not known here: if that is a field, send `Vary`.
    pub fn key_with(
        mut self,
        name: impl Into<String>,
        part: impl Fn(&ServiceRequest) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key_parts.push(KeyPart { name: name.into(), make: Arc::new(part) });
        self
    }

    /// Field names, read.
    fn names(names: &[String]) -> Result<Vec<HeaderName>, ConfigError> {
        let read = |name: &String| {
            HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| ConfigError::FieldName(name.clone()))
        };
        names.iter().map(read).collect()
    }

    /// What is personal in a request.
    fn personal(&self) -> Result<IdentityRules, ConfigError> {
        Ok(IdentityRules {
            cookies: self.cookies.clone(),
            credentials: Self::names(&self.credentials)?,
            keyed: Self::names(&self.key_headers)?,
            meaning: self.cookie_meaning,
        })
    }

    fn choices(&self) -> Result<PolicyChoices, ConfigError> {
        Ok(PolicyChoices { targets: Self::names(&self.targeted_fields)?, ..self.choices.clone() })
    }

    fn comparison(&self) -> Comparison {
        Comparison {
            cookies: self.cookies.clone(),
            languages: self.languages.clone(),
            codings: self.codings.clone(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.max_body_size == 0 {
            return Err(ConfigError::ZeroBodySize);
        }
        if self.wait_limit.is_zero() {
            return Err(ConfigError::ZeroWaitLimit);
        }
        if let Some(percent) = self.refresh_ahead.filter(|percent| !(1..100).contains(percent)) {
            return Err(ConfigError::RefreshAhead(percent));
        }
        if let Some(&(status, _)) = self.status_ttls.iter().find(|(code, _)| !rule::storable(*code))
        {
            return Err(ConfigError::Status(status));
        }
        if self.cookies.keyed.iter().chain(&self.cookies.ignored).any(String::is_empty) {
            return Err(ConfigError::EmptyName("cookie"));
        }
        if self.key_parts.iter().any(|part| part.name.is_empty()) {
            return Err(ConfigError::EmptyName("key part"));
        }
        Ok(())
    }

    /// Distinguishes policies that may not share what they store: what one takes for the same
    /// page, or for nobody's, is two pages or somebody's to the other.
    ///
    /// Empty for the defaults. Made of configuration only, so its digest need not resist anybody.
    fn fingerprint(&self, rules: &[Rule]) -> String {
        let digest = self.digest(rules);
        if digest == Self::new().digest(&[]) { String::new() } else { format!("{digest:016x}") }
    }

    fn digest(&self, rules: &[Rule]) -> u64 {
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort_unstable();
            names.dedup();
            names
        };
        let queries: Vec<_> = rules.iter().filter_map(|rule| rule.query.as_ref()).collect();
        let PolicyChoices { any_status, set_cookie, qualified, .. } = &self.choices;
        let mut digest = DefaultHasher::new();
        (sorted(&self.cookies.ignored), sorted(&self.credentials)).hash(&mut digest);
        (&self.query, queries).hash(&mut digest);
        (any_status, set_cookie, qualified, &self.targeted_fields).hash(&mut digest);
        (self.cookie_meaning, &self.languages, &self.codings, self.posts).hash(&mut digest);
        // What one stores without a tag, another could not purge by it.
        let named = rules.iter().flat_map(|rule| &rule.tags).chain(&self.tags);
        let named: Vec<_> = named.map(Tagging::known).collect();
        (named, sorted(&self.tag_fields)).hash(&mut digest);
        digest.finish()
    }

    /// Whether the absence of cookies never decides, so that no `Vary: Cookie` is due.
    fn cookies_never_decide(&self) -> bool {
        self.cookie_meaning == CookieMeaning::Ordinary
            || self.cookies.ignored.iter().any(|name| name == "*")
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.key_parts.iter().map(|part| &part.name).collect();
        f.debug_struct("Policy")
            .field("default_ttl", &self.default_ttl)
            .field("status_ttls", &self.status_ttls)
            .field("choices", &self.choices)
            .field("targeted_fields", &self.targeted_fields)
            .field("tags", &self.tags)
            .field("tag_fields", &self.tag_fields)
            .field("client_directives", &self.client_directives)
            .field("client_conditions", &self.client_conditions)
            .field("offered", &self.offered)
            .field("posts", &self.posts)
            .field("max_body_size", &self.max_body_size)
            .field("wait_limit", &self.wait_limit)
            .field("refresh_ahead", &self.refresh_ahead)
            .field("client_ttl", &self.client_ttl)
            .field("query", &self.query)
            .field("cookies", &self.cookies)
            .field("cookie_meaning", &self.cookie_meaning)
            .field("languages", &self.languages)
            .field("codings", &self.codings)
            .field("credentials", &self.credentials)
            .field("key_headers", &self.key_headers)
            .field("key_parts", &parts)
            .finish_non_exhaustive()
    }
}

/// Status codes that have a lifetime although nobody states one.
fn has_default(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 301 | 308)
}
