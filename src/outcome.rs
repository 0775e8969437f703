//! The outcome of each request to the cache, and the reason for the outcome.
//!
//! `Cache-Status`, the log line and the argument of the observer are all made from one [`Outcome`].

use std::{fmt, time::Duration};

use actix_web::http::StatusCode;

/// The outcome of a request: which response answered it, and why.
///
/// The cache reports the outcome once, when the header fields of the response are complete. If the
/// body ends early after that, the response is not stored, although the outcome has
/// [`Stored::Yes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A fresh stored response answered the request.
    #[non_exhaustive]
    Hit {
        /// The age of the response (RFC 9111 section 4.2.3).
        age: Duration,
        /// The rest of the freshness lifetime of the response.
        ttl: Duration,
    },
    /// A stale stored response answered the request, because the client accepts stale responses or
    /// because the response is being refreshed.
    #[non_exhaustive]
    StaleHit {
        /// The age of the response.
        age: Duration,
        /// The time since the freshness lifetime of the response ended.
        over: Duration,
    },
    /// The request waited for another request, which called the handler, and the response of the
    /// handler answered both (RFC 9211 section 2.6).
    #[non_exhaustive]
    Collapsed {
        /// The reason why no stored response answered before the wait.
        reason: Forward,
        /// The age of the response.
        age: Duration,
    },
    /// The stored response answered the request, after the handler had validated it (RFC 9111
    /// section 4.3).
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
    /// The client accepts only a stored response (`only-if-cached`), and none is stored. The cache
    /// answered with 504 (RFC 9111 section 5.2.1.7).
    OnlyIfCached,
}

/// The reason why a handler was called (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forward {
    /// The cache passes the request to the handler and takes no further part in it.
    Bypass(Bypass),
    /// The method is neither `GET` nor `HEAD`.
    Method,
    /// No response is stored for the URL.
    UriMiss,
    /// Responses are stored for the URL, but none for the values of the selecting fields in the
    /// request. Selecting fields are the request fields that choose the variant.
    VaryMiss,
    /// The stored response is stale, or the cache refreshes it shortly before it becomes stale
    /// ([`refresh_ahead`](crate::Policy::refresh_ahead)).
    Stale,
    /// A response is stored, but the client wants it validated, or the request may not be answered
    /// from the store.
    Request,
}

/// The reason why the cache only passes a request to its handler. The cache neither answers such a
/// request from the store nor stores the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bypass {
    /// A rule or the policy excludes the request from the cache.
    Rule,
    /// The request has a body.
    RequestBody,
    /// The request asks for a protocol upgrade.
    Upgrade,
    /// The request has conditions that only the handler can evaluate (`If-Match`,
    /// `If-Unmodified-Since`).
    Condition,
    /// The request names several hosts, for example in `Host` and in the request target.
    Host,
    /// The lookup in the store failed or took too long.
    StoreError,
    /// The cache is being drained by [`Cache::drain`](crate::Cache::drain).
    Draining,
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
    /// The cache did not try to store the response. The reason for the call of the handler explains
    /// this.
    NotAttempted,
    /// The request is a `HEAD`. Its response has no body to store.
    Head,
    /// The request has `Range`, and no complete response is stored from which to cut the range.
    Range,
    /// The request has `Cache-Control: no-store`.
    RequestNoStore,
    /// Responses with this status code are not stored. Responses with 1xx, 206 and 304 never are.
    /// The policy decides about the other status codes.
    Status,
    /// The response has `Cache-Control: no-store`.
    NoStore,
    /// The response has `Cache-Control: private`.
    Private,
    /// The response has `Cache-Control: no-cache` and no validator, or it has `Pragma: no-cache`.
    NoCache,
    /// The response has `Set-Cookie`.
    SetCookie,
    /// The `Content-Security-Policy` of the response has a nonce, and the response states no
    /// lifetime. A nonce is for one response only.
    Nonce,
    /// The response has `Vary: *`, or a `Vary` that is not valid.
    Vary,
    /// The handler prevented that the response is stored, and gave this reason.
    Handler(&'static str),
    /// A rule excludes the response from the store.
    Rule,
    /// The response has no freshness lifetime, or a lifetime of zero: neither the response nor the
    /// policy gives it a longer one.
    NoLifetime,
    /// The response was stale when it arrived from the handler.
    Stale,
    /// The request has `Authorization`, and the response does not say that it may be shared.
    Authorization,
    /// The request has cookies, and the response does not say that it may be shared.
    Cookie,
    /// The request has other credentials, and the response does not say that it may be shared.
    Credentials,
    /// The body or the header fields of the response exceed the size limit.
    TooLarge,
    /// The response has more than 64 tags, or a tag of more than 256 bytes.
    Tags,
    /// The responses that are being stored already fill the memory for such bodies.
    Busy,
    /// The response is an endless stream, by its media type: `text/event-stream` or
    /// `multipart/x-mixed-replace`.
    Endless,
    /// The response lacks the body that its status code requires, or has a body that its status
    /// code forbids.
    NoBody,
    /// A middleware between the cache and the handler changed a request field that `Vary` names, or
    /// the request turned out to have a body.
    RequestChanged,
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
            Self::Upgrade => "upgrade",
            Self::Condition => "condition",
            Self::Host => "host",
            Self::StoreError => "store-error",
            Self::Draining => "draining",
        }
    }
}

impl NotStored {
    /// The token of the reason in the `detail` parameter of `Cache-Status`. `None` for
    /// [`NotAttempted`](Self::NotAttempted), because the `fwd` parameter has the reason.
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
            Self::Handler(_) => "handler",
            Self::Rule => "rule",
            Self::NoLifetime => "no-lifetime",
            Self::Stale => "stale",
            Self::Authorization => "authorization",
            Self::Cookie => "cookie",
            Self::Credentials => "credentials",
            Self::TooLarge => "too-large",
            Self::Tags => "tags",
            Self::Busy => "busy",
            Self::Endless => "endless",
            Self::NoBody => "no-body",
            Self::RequestChanged => "request-changed",
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
    /// Returns the outcome of a request that has waited for another request.
    pub(crate) const fn after_waiting(self, reason: Forward) -> Self {
        match self {
            Self::Hit { age, .. } | Self::StaleHit { age, .. } => Self::Collapsed { reason, age },
            other => other,
        }
    }

    /// Whether a stored response answered the request without a call of the handler.
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

    /// Whether the store has a fresh response once the request has ended.
    pub(crate) const fn leaves_fresh_response(&self) -> bool {
        self.is_stored() || matches!(self, Self::Hit { .. } | Self::Collapsed { .. })
    }

    /// The value of the `detail` parameter of `Cache-Status`, if there is one.
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

/// Formats the parameters that this cache writes into `Cache-Status` (RFC 9211 section 2).
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit { ttl, .. } => write!(f, "hit; ttl={}", ttl.as_secs())?,
            // RFC 9211 section 2.4: a stale response has a negative ttl.
            Self::StaleHit { over, .. } => write!(f, "hit; ttl=-{}", over.as_secs())?,
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
            // The request was not forwarded, so there is no `fwd`.
            Self::OnlyIfCached => return f.write_str("detail=only-if-cached"),
        }
        if self.is_stored() {
            f.write_str("; stored")?;
        }
        self.detail().map_or(Ok(()), |detail| write!(f, "; detail={detail}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_formats_as_rfc_9211_parameters() {
        let hit = Outcome::Hit { age: Duration::from_secs(3), ttl: Duration::from_millis(57_900) };
        let forward = |reason, stored| Outcome::Forward { reason, stored };
        for (outcome, want) in [
            (hit, "hit; ttl=57"),
            (forward(Forward::UriMiss, Stored::Yes), "fwd=uri-miss; stored"),
            (
                forward(Forward::VaryMiss, Stored::No(NotStored::SetCookie)),
                "fwd=vary-miss; detail=set-cookie",
            ),
            (forward(Forward::Method, Stored::No(NotStored::NotAttempted)), "fwd=method"),
            (
                forward(Forward::Bypass(Bypass::Rule), Stored::No(NotStored::NotAttempted)),
                "fwd=bypass; detail=rule",
            ),
            (
                Outcome::StaleHit { age: Duration::ZERO, over: Duration::from_millis(7_900) },
                "hit; ttl=-7",
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
