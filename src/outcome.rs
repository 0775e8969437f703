//! The outcome of each request to the cache, and the reason for the outcome.
//!
//! `Cache-Status`, the log line and the argument of the [observer](crate::CacheBuilder::observer)
//! are all made from one [`Outcome`].

use std::{fmt, time::Duration};

use actix_web::http::StatusCode;

/// The outcome of a request: the kind of response that answered the request, and the reason.
///
/// The cache reports the outcome once, when the header fields of the response are complete. If the
/// body then ends early, the response is not stored, although the reported outcome has
/// [`Stored::Yes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A fresh stored response answered the request.
    #[non_exhaustive]
    Hit {
        /// The age of the response (RFC 9111 section 4.2.3).
        age: Duration,
        /// The remaining freshness lifetime of the response.
        ttl: Duration,
    },
    /// A stale stored response answered the request without a call of the handler. The response is
    /// in its `stale-while-revalidate` window, or the client accepts stale responses (`max-stale`).
    #[non_exhaustive]
    StaleHit {
        /// The age of the response.
        age: Duration,
        /// The time since the freshness lifetime of the response ended.
        over: Duration,
    },
    /// The request waited for the response to another request, and this response answered both
    /// requests (RFC 9211 section 2.6).
    #[non_exhaustive]
    Collapsed {
        /// The reason why no stored response answered the request before it waited.
        reason: Forward,
        /// The age of the response.
        age: Duration,
    },
    /// A stored response answered the request after the handler had validated it (RFC 9111 section
    /// 4.3).
    #[non_exhaustive]
    Revalidated {
        /// The reason why the handler was called.
        reason: Forward,
        /// Whether the cache updated the stored response with the fields of the 304 (RFC 9111
        /// section 4.3.4).
        stored: Stored,
    },
    /// The handler failed or took too long, and a stale stored response answered the request
    /// instead (RFC 5861 section 4).
    #[non_exhaustive]
    StaleIfError {
        /// The reason why the handler was called.
        reason: Forward,
        /// The status code of the response of the handler. `None` if the handler returned an error
        /// or took too long.
        status: Option<StatusCode>,
    },
    /// The handler answered the request.
    #[non_exhaustive]
    Forward {
        /// The reason why no stored response answered the request.
        reason: Forward,
        /// Whether the handler's response is being stored.
        stored: Stored,
    },
    /// The client accepts only a stored response (`only-if-cached`), and no stored response may
    /// answer the request. The cache answered with 504 (RFC 9111 section 5.2.1.7).
    OnlyIfCached,
}

/// The reason why a handler was called (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forward {
    /// The request bypasses the cache, for this reason.
    Bypass(Bypass),
    /// The cache does not store responses to this method: it is none of `GET`, `HEAD`, `QUERY`
    /// ([`cache_queries`](crate::Policy::cache_queries)), and `POST` under a rule with
    /// [`cache_posts_by_body`](crate::Policy::cache_posts_by_body).
    Method,
    /// No response is stored under the cache key of the request.
    UriMiss,
    /// Responses are stored under the cache key, but the selecting fields of the request match none
    /// of them. Selecting fields are the request fields that `Vary` names.
    VaryMiss,
    /// The stored response is stale, or has `no-cache` and is validated before every use, or is
    /// refreshed shortly before it becomes stale ([`refresh_ahead`](crate::Policy::refresh_ahead)).
    Stale,
    /// A response is stored, but the directives of the request demand a validated or fresher
    /// response, or the stored response must not answer a request with these credentials.
    Request,
}

/// The reason why a request bypasses the cache: the cache passes it to the handler, does not answer
/// it from the store, and (except for [`SlowClients`](Self::SlowClients) and
/// [`AcceptEncoding`](Self::AcceptEncoding)) does not store the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bypass {
    /// A rule excludes the request from the cache, or the cache handles only requests that a rule
    /// matches ([`rules_only`](crate::CacheBuilder::rules_only)).
    Rule,
    /// The request is a `GET` or `HEAD` with a body.
    RequestBody,
    /// The body of the request is larger than
    /// [`cache_queries`](crate::Policy::cache_queries) or
    /// [`cache_posts_by_body`](crate::Policy::cache_posts_by_body) permits.
    RequestBodySize,
    /// The body of the request did not arrive within
    /// [`request_body_limit`](crate::Policy::request_body_limit).
    RequestBodyTime,
    /// The body of the request ended with an error, for example because the client disconnected.
    RequestBodyError,
    /// The bodies of requests take too much memory
    /// ([`bytes_in_requests`](crate::store::Coordinator::bytes_in_requests)).
    RequestBodyMemory,
    /// The request asks for a protocol upgrade.
    Upgrade,
    /// The request has conditions that only the handler can evaluate: `If-Match`,
    /// `If-Unmodified-Since`, or any condition in a `POST`.
    Condition,
    /// The request has several lines of `Host`, or an HTTP/1 request target in absolute form
    /// (`GET http://example.com/`), or two hosts in HTTP/2.
    Host,
    /// The request has `X-Forwarded-Host`, `X-Forwarded-Proto` or `Forwarded` (with a host or a
    /// protocol), and comes from none of the [trusted proxies](crate::Policy::trusted_proxies).
    UntrustedProxy,
    /// The request carries credentials, and the policy caches only requests without credentials
    /// ([`anonymous_only`](crate::Policy::anonymous_only)).
    Credentials,
    /// The lookup in the store failed or took too long.
    StoreError,
    /// The cache did not look up the store, because an inner cache (nested inside this cache) had
    /// handled the latest requests for the cache key. But no inner cache has handled this request.
    /// The next requests for the key are looked up.
    NoInnerCache,
    /// The stored response has a body of more than 64 KiB, and clients that read slowly keep too
    /// many bytes of such bodies in memory
    /// ([`bytes_in_hits`](crate::store::Coordinator::bytes_in_hits)). The cache stores the response
    /// of the handler again.
    SlowClients,
    /// The client refuses a response without a content coding (`identity;q=0` in `Accept-Encoding`),
    /// and no coding that the client accepts makes the stored response smaller
    /// ([`Policy::compress`](crate::Policy::compress)).
    AcceptEncoding,
    /// The cache is being drained by [`Cache::drain`](crate::Cache::drain).
    Draining,
    /// The mode of the cache is [`Mode::Bypass`](crate::Mode::Bypass).
    Mode,
}

/// Whether a response is being stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stored {
    /// The response is stored once its body is complete.
    Yes,
    /// The response is not stored.
    No(NotStored),
}

/// The reason why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotStored {
    /// The cache did not try to store the response. The outcome's [`Forward`] has the reason.
    NotAttempted,
    /// The request is a `HEAD`. Its response has no body to store.
    Head,
    /// The request has `Range`, and the cache has no stored response from which it could cut the
    /// range.
    Range,
    /// The request has `Cache-Control: no-store`.
    RequestNoStore,
    /// Responses with this status code are not stored. Responses with 1xx, 206 or 304 are never
    /// stored. The policy decides whether responses with another status code are stored.
    Status,
    /// The response has `Cache-Control: no-store`.
    NoStore,
    /// The response has `Cache-Control: private`.
    Private,
    /// The response has `Cache-Control: no-cache` and no validator, or has `Pragma: no-cache` and
    /// states no lifetime.
    NoCache,
    /// The response has `Set-Cookie`.
    SetCookie,
    /// The `Content-Security-Policy` of the response has a nonce, and the response states no
    /// lifetime. A nonce is for one response only.
    Nonce,
    /// The response has `Vary: *`, or a `Vary` that is not valid, or the responses of its URL vary on
    /// more than 32 request fields.
    Vary,
    /// `Connection` of the response names a field that is essential for a stored response, such as
    /// `Cache-Control`, `Vary` or `Content-Encoding`. A cache does not store fields that
    /// `Connection` names.
    Connection,
    /// The handler forbade the cache to store the response, for this reason
    /// ([`no_store`](crate::ResponseOptions::no_store)).
    Handler(&'static str),
    /// A function of the application refused to store the response, for this reason
    /// ([`Policy::store_if`](crate::Policy::store_if)).
    Application(&'static str),
    /// The route refers to options by this name, and the cache does not have them
    /// ([`CachePolicy::named`](crate::CachePolicy::named)).
    UnknownOptions(&'static str),
    /// Neither the response nor the policy sets a freshness lifetime, or the lifetime is zero and
    /// the response can neither be revalidated nor served stale.
    NoLifetime,
    /// The response was stale when it arrived from the handler.
    Stale,
    /// The request has `Authorization`, and the response does not permit sharing by `public`,
    /// `s-maxage`, or a lifetime with `must-revalidate`.
    Authorization,
    /// The request has cookies, and the response does not permit sharing by `public`, `s-maxage` or
    /// `Vary: Cookie`.
    Cookie,
    /// The request has [credentials](crate::Policy::credentials) other than cookies and
    /// `Authorization`, such as `X-Api-Key`. The response states no lifetime and has neither `public`
    /// nor `s-maxage`, so it may be meant for this client only.
    Credentials,
    /// The request has a session of actix-session with entries, or the handler changed its session
    /// (feature `session`).
    Session,
    /// The body or the header fields of the response exceed
    /// [`max_body_size`](crate::Policy::max_body_size) or the limit of the store.
    TooLarge,
    /// The response has more than 64 tags, or a tag of more than 256 bytes.
    Tags,
    /// The memory for bodies that are being stored is full, or the limit of background tasks is
    /// reached.
    Busy,
    /// The body is a stream of a media type that usually does not end: `text/event-stream` or
    /// `multipart/x-mixed-replace`.
    Endless,
    /// The response lacks the body that its status code requires, or has a body that its status
    /// code forbids.
    NoBody,
    /// A middleware between the cache and the handler changed a request field that `Vary` names.
    RequestChanged,
    /// A middleware between the cache and the handler changed the path or the query of the request,
    /// as `NormalizePath` does. The rules of the cache and the cache key apply to the URL that the
    /// client sent. Wrap such a middleware around the cache.
    PathRewritten,
    /// The response has another `No-Vary-Search` than the last response of its path, or none, so it
    /// may not answer the queries for which it would be stored. The next request for the path is
    /// looked up by the new one.
    NoVarySearch,
    /// The resource was purged, or changed by an unsafe request such as `PUT`, while the handler
    /// ran.
    Invalidated,
}

impl Forward {
    /// The token of the reason in the `fwd` parameter of `Cache-Status` (RFC 9211 section 2.2).
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Bypass(_) => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Stale => "stale",
            Self::Request => "request",
        }
    }
}

impl Bypass {
    /// The token of the reason in the `detail` parameter of `Cache-Status`.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::RequestBody => "request-body",
            Self::RequestBodySize => "request-body-size",
            Self::RequestBodyTime => "request-body-time",
            Self::RequestBodyError => "request-body-error",
            Self::RequestBodyMemory => "request-body-memory",
            Self::Upgrade => "upgrade",
            Self::Condition => "condition",
            Self::Host => "host",
            Self::UntrustedProxy => "untrusted-proxy",
            Self::Credentials => "credentials",
            Self::StoreError => "store-error",
            Self::NoInnerCache => "no-inner-cache",
            Self::SlowClients => "slow-clients",
            Self::AcceptEncoding => "accept-encoding",
            Self::Draining => "draining",
            Self::Mode => "mode",
        }
    }
}

impl NotStored {
    /// The token of the reason in the `detail` parameter of `Cache-Status`. `None` for
    /// [`NotAttempted`](Self::NotAttempted), because the `fwd` parameter has the reason.
    ///
    /// For [`Application`](Self::Application), this is the text of the application, which can be other
    /// than a token: `Cache-Status` has it as a quoted string then. In place of an empty text, or of
    /// one with characters other than printable ASCII, this is `application`.
    #[must_use]
    pub const fn token(self) -> Option<&'static str> {
        Some(match self {
            Self::NotAttempted => return None,
            Self::Head => "head",
            Self::Range => "range",
            Self::RequestNoStore => "request-no-store",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::NoCache => "no-cache",
            Self::SetCookie => "set-cookie",
            Self::Nonce => "nonce",
            Self::Vary => "vary",
            Self::Connection => "connection",
            Self::Handler(_) => "handler",
            Self::Application(reason) if is_printable(reason) => reason,
            Self::Application(_) => "application",
            Self::UnknownOptions(_) => "unknown-options",
            Self::NoLifetime => "no-lifetime",
            Self::Stale => "stale",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::Credentials => "credentials",
            Self::Session => "session",
            Self::TooLarge => "too-large",
            Self::Tags => "tags",
            Self::Busy => "busy",
            Self::Endless => "endless",
            Self::NoBody => "no-body",
            Self::RequestChanged => "request-changed",
            Self::PathRewritten => "path-rewritten",
            Self::NoVarySearch => "no-vary-search",
            Self::Invalidated => "overtaken",
        })
    }
}

/// Constructors of outcomes, for tests and tools. There is one for each variant with fields.
impl Outcome {
    /// Makes an [`Outcome::Hit`].
    #[must_use]
    pub const fn hit(age: Duration, ttl: Duration) -> Self {
        Self::Hit { age, ttl }
    }

    /// Makes an [`Outcome::StaleHit`].
    #[must_use]
    pub const fn stale_hit(age: Duration, over: Duration) -> Self {
        Self::StaleHit { age, over }
    }

    /// Makes an [`Outcome::Collapsed`].
    #[must_use]
    pub const fn collapsed(reason: Forward, age: Duration) -> Self {
        Self::Collapsed { reason, age }
    }

    /// Makes an [`Outcome::Revalidated`].
    #[must_use]
    pub const fn revalidated(reason: Forward, stored: Stored) -> Self {
        Self::Revalidated { reason, stored }
    }

    /// Makes an [`Outcome::StaleIfError`].
    #[must_use]
    pub const fn stale_if_error(reason: Forward, status: Option<StatusCode>) -> Self {
        Self::StaleIfError { reason, status }
    }

    /// Makes an [`Outcome::Forward`].
    #[must_use]
    pub const fn forward(reason: Forward, stored: Stored) -> Self {
        Self::Forward { reason, stored }
    }
}

impl Outcome {
    /// Returns the outcome of a request that waited for the response to another request. `self` is
    /// the outcome of the lookup after the wait. `reason` is the reason why no stored response
    /// answered the request before it waited.
    pub(crate) const fn after_waiting(self, reason: Forward) -> Self {
        match self {
            Self::Hit { age, .. } | Self::StaleHit { age, .. } => Self::Collapsed { reason, age },
            other => other,
        }
    }

    /// Returns whether a stored response answered the request without a call of the handler.
    #[must_use]
    pub const fn is_hit(&self) -> bool {
        matches!(self, Self::Hit { .. } | Self::StaleHit { .. })
    }

    /// Whether the handler's response is being stored.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        matches!(
            self,
            Self::Forward { stored: Stored::Yes, .. }
                | Self::Revalidated { stored: Stored::Yes, .. }
        )
    }

    /// Returns whether the store has a fresh response after a request with this outcome.
    pub(crate) const fn leaves_fresh_response(&self) -> bool {
        self.is_stored() || matches!(self, Self::Hit { .. } | Self::Collapsed { .. })
    }

    /// Returns the value of the `detail` parameter of `Cache-Status`; `None` if the outcome has no
    /// such parameter.
    #[must_use]
    pub const fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Hit { .. } | Self::StaleHit { .. } | Self::Collapsed { .. } => None,
            Self::Forward { reason: Forward::Bypass(bypass), .. } => Some(bypass.token()),
            Self::Forward { stored, .. } | Self::Revalidated { stored, .. } => match stored {
                Stored::Yes => None,
                Stored::No(reason) => reason.token(),
            },
            Self::StaleIfError { .. } => Some("stale-if-error"),
            Self::OnlyIfCached => Some("only-if-cached"),
        }
    }
}

/// Returns the seconds of a lifetime as they are written: at most 2³¹, as RFC 9111 section 1.2.2
/// recommends. A damaged or forged record in a store can have any age, and an integer in a
/// structured field has at most 15 digits (RFC 9651 section 3.3.1).
pub(crate) fn written_seconds(lifetime: Duration) -> u64 {
    lifetime.as_secs().min(1 << 31)
}

/// Returns whether a text consists of printable ASCII characters, so that a string of a structured
/// field can contain it (RFC 9651 section 3.3.3).
const fn is_printable(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let [byte, after @ ..] = rest {
        if !matches!(byte, b' '..=b'~') {
            return false;
        }
        rest = after;
    }
    !text.is_empty()
}

/// Returns whether a text is a token of a structured field (RFC 9651 section 3.3.4).
fn is_token(text: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '*')
        && text.bytes().all(is_allowed)
}

/// Formats the parameters that this cache writes into `Cache-Status` (RFC 9211 section 2).
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit { ttl, .. } => write!(f, "hit; ttl={}", written_seconds(*ttl))?,
            // RFC 9211 section 2.4: a stale response has a negative ttl.
            Self::StaleHit { over, .. } => write!(f, "hit; ttl=-{}", written_seconds(*over))?,
            Self::Forward { reason, .. } => write!(f, "fwd={}", reason.token())?,
            // RFC 9211 section 2.6: `collapsed` marks a request that shared the response of another
            // request.
            Self::Collapsed { reason, .. } => write!(f, "fwd={}; collapsed", reason.token())?,
            Self::Revalidated { reason, .. } => {
                write!(f, "fwd={}; fwd-status=304", reason.token())?;
            }
            Self::StaleIfError { reason, status } => {
                write!(f, "fwd={}", reason.token())?;
                if let Some(status) = status {
                    write!(f, "; fwd-status={}", status.as_u16())?;
                }
            }
            // The request was not forwarded to the handler, so there is no `fwd`.
            Self::OnlyIfCached => return f.write_str("detail=only-if-cached"),
        }
        if self.is_stored() {
            f.write_str("; stored")?;
        }
        match self.detail() {
            None => Ok(()),
            Some(detail) if is_token(detail) => write!(f, "; detail={detail}"),
            // RFC 9211 section 2.8: the value is a token or a string.
            Some(detail) => {
                write!(f, "; detail=\"{}\"", detail.replace('\\', r"\\").replace('"', "\\\""))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_formats_as_rfc_9211_parameters() {
        let hit = Outcome::Hit { age: Duration::from_secs(3), ttl: Duration::from_millis(57_900) };
        let forward = |reason, stored| Outcome::Forward { reason, stored };
        let application =
            |reason| forward(Forward::UriMiss, Stored::No(NotStored::Application(reason)));
        for (outcome, want) in [
            (hit, "hit; ttl=57"),
            (forward(Forward::UriMiss, Stored::Yes), "fwd=uri-miss; stored"),
            (
                forward(Forward::VaryMiss, Stored::No(NotStored::SetCookie)),
                "fwd=vary-miss; detail=set-cookie",
            ),
            (forward(Forward::Method, Stored::No(NotStored::NotAttempted)), "fwd=method"),
            (application("empty-list"), "fwd=uri-miss; detail=empty-list"),
            (application("an empty list"), "fwd=uri-miss; detail=\"an empty list\""),
            (application("2nd"), "fwd=uri-miss; detail=\"2nd\""),
            (application(r#"a"b\c"#), r#"fwd=uri-miss; detail="a\"b\\c""#),
            (application(""), "fwd=uri-miss; detail=application"),
            (application("a\r\nb: c"), "fwd=uri-miss; detail=application"),
            (application("caf\u{e9}"), "fwd=uri-miss; detail=application"),
            (
                forward(Forward::Bypass(Bypass::Rule), Stored::No(NotStored::NotAttempted)),
                "fwd=bypass; detail=rule",
            ),
            (
                Outcome::StaleHit { age: Duration::ZERO, over: Duration::from_millis(7_900) },
                "hit; ttl=-7",
            ),
            (
                Outcome::StaleHit { age: Duration::ZERO, over: Duration::MAX },
                "hit; ttl=-2147483648",
            ),
            (hit.after_waiting(Forward::UriMiss), "fwd=uri-miss; collapsed"),
            (
                Outcome::Revalidated { reason: Forward::Stale, stored: Stored::Yes },
                "fwd=stale; fwd-status=304; stored",
            ),
            (
                Outcome::Revalidated {
                    reason: Forward::Request,
                    stored: Stored::No(NotStored::SetCookie),
                },
                "fwd=request; fwd-status=304; detail=set-cookie",
            ),
            (
                Outcome::StaleIfError {
                    reason: Forward::Stale,
                    status: Some(StatusCode::SERVICE_UNAVAILABLE),
                },
                "fwd=stale; fwd-status=503; detail=stale-if-error",
            ),
            (
                Outcome::StaleIfError { reason: Forward::Stale, status: None },
                "fwd=stale; detail=stale-if-error",
            ),
            (Outcome::OnlyIfCached, "detail=only-if-cached"),
        ] {
            assert_eq!(outcome.to_string(), want);
        }
    }
}
