//! Outcomes of requests, and their reasons.
//!
//! [`Outcome`] is the one source of `Cache-Status`, the log line and the observer's argument.

use std::{fmt, time::Duration};

use actix_web::http::StatusCode;

/// The outcome of a request: what the cache did with it.
///
/// The outcome is reported once, when the head of the response is complete. If the body ends early
/// after that, the response is not stored although the outcome says [`Stored::Yes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// A fresh stored response answered.
    #[non_exhaustive]
    Hit {
        /// The age of the response (RFC 9111 section 4.2.3).
        age: Duration,
        /// The rest of its freshness lifetime.
        ttl: Duration,
    },
    /// A stale stored response answered, while it is refreshed or because the client accepts it.
    #[non_exhaustive]
    StaleHit {
        /// The age of the response.
        age: Duration,
        /// The time since its freshness lifetime ended.
        over: Duration,
    },
    /// No stored response answered at first, but the request waited for another one that called the
    /// handler, and that response answered both (RFC 9211 section 2.6).
    #[non_exhaustive]
    Collapsed {
        /// The reason why no stored response answered at first.
        reason: Forward,
        /// The age of the response.
        age: Duration,
    },
    /// The stored response answered after the handler had validated it (RFC 9111 section 4.3).
    #[non_exhaustive]
    Revalidated {
        /// The reason why the handler was called.
        reason: Forward,
        /// Whether the stored response was freshened.
        stored: Stored,
    },
    /// The handler failed or took too long, and a stale stored response answered instead (RFC 5861
    /// section 4).
    #[non_exhaustive]
    StaleIfError {
        /// The reason why the handler was called.
        reason: Forward,
        /// The status of the handler's response; `None` if it returned an error or took too long.
        status: Option<StatusCode>,
    },
    /// The handler answered.
    #[non_exhaustive]
    Forward {
        /// The reason why no stored response answered.
        reason: Forward,
        /// Whether the handler's response is being stored.
        stored: Stored,
    },
    /// The client asked for a stored response only, and there was none: the cache answered 504 (RFC
    /// 9111 section 5.2.1.7).
    OnlyIfCached,
}

/// The reason why a handler was called (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forward {
    /// The cache does not handle this request.
    Bypass(Bypass),
    /// The method is neither `GET` nor `HEAD`.
    Method,
    /// No response is stored for the URL.
    UriMiss,
    /// Responses are stored, but for other values of the selecting request fields.
    VaryMiss,
    /// The stored response is stale, or will be soon and is refreshed ahead of time
    /// ([`refresh_ahead`](crate::Policy::refresh_ahead)).
    Stale,
    /// A response is stored, but must not answer this request, or the client wants it validated.
    Request,
}

/// The reason why a cache takes no part in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bypass {
    /// A rule or the policy excludes the request.
    Rule,
    /// The request has a body.
    RequestBody,
    /// The request asks for a protocol upgrade.
    Upgrade,
    /// The request has conditions that only the handler can evaluate (`If-Match`,
    /// `If-Unmodified-Since`).
    Condition,
    /// The host of the request is missing or ambiguous.
    Host,
    /// The store failed or took too long.
    StoreError,
    /// The cache is being drained: see [`Cache::drain`](crate::Cache::drain).
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
    /// The cache did not try to store the response; the reason for the handler's call tells why.
    NotAttempted,
    /// The request is a `HEAD`, whose response has no body to store.
    Head,
    /// The request has `Range`, and no complete response is stored.
    Range,
    /// The request has `Cache-Control: no-store`.
    RequestNoStore,
    /// Responses with this status are not stored: 1xx, 206 and 304 never, others by the policy.
    Status,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: private`.
    Private,
    /// `Cache-Control: no-cache` without a validator to ask by, or `Pragma: no-cache`.
    NoCache,
    /// `Set-Cookie`.
    SetCookie,
    /// `Vary: *`, or a `Vary` that is not valid.
    Vary,
    /// The handler refused to have the response stored, for the given reason.
    Handler(&'static str),
    /// A rule excludes the response.
    Rule,
    /// Neither the response nor the policy gives it a lifetime.
    NoLifetime,
    /// The freshness lifetime had ended before the response arrived.
    Stale,
    /// The request has `Authorization`, and the response does not allow sharing.
    Authorization,
    /// The request has cookies, and the response does not allow sharing.
    Cookie,
    /// The request has other credentials, and the response does not allow sharing.
    Credentials,
    /// The body or the head exceeds the size limit.
    TooLarge,
    /// The response has more than 64 tags, or a tag of more than 256 bytes.
    Tags,
    /// Too many bytes of response bodies are in progress.
    Busy,
    /// The media type is that of an endless stream: `text/event-stream`,
    /// `multipart/x-mixed-replace`.
    Endless,
    /// The response lacks the body that its status requires, or has one that its status forbids.
    NoBody,
    /// A middleware between cache and handler changed a request field that `Vary` names.
    RequestChanged,
    /// The resource was invalidated while the handler ran.
    Invalidated,
}

impl Forward {
    /// The token of RFC 9211 section 2.2.
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
    /// The token of the reason in the `detail` parameter of `Cache-Status`; `None` if the reason for
    /// the handler's call says enough.
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

/// One constructor for each variant with fields, for tests and tools that make outcomes.
impl Outcome {
    /// An [`Outcome::Hit`].
    #[must_use]
    pub const fn hit(age: Duration, ttl: Duration) -> Self {
        Self::Hit { age, ttl }
    }

    /// An [`Outcome::StaleHit`].
    #[must_use]
    pub const fn stale_hit(age: Duration, over: Duration) -> Self {
        Self::StaleHit { age, over }
    }

    /// An [`Outcome::Collapsed`].
    #[must_use]
    pub const fn collapsed(reason: Forward, age: Duration) -> Self {
        Self::Collapsed { reason, age }
    }

    /// An [`Outcome::Revalidated`].
    #[must_use]
    pub const fn revalidated(reason: Forward, stored: Stored) -> Self {
        Self::Revalidated { reason, stored }
    }

    /// An [`Outcome::StaleIfError`].
    #[must_use]
    pub const fn stale_if_error(reason: Forward, status: Option<StatusCode>) -> Self {
        Self::StaleIfError { reason, status }
    }

    /// An [`Outcome::Forward`].
    #[must_use]
    pub const fn forward(reason: Forward, stored: Stored) -> Self {
        Self::Forward { reason, stored }
    }
}

impl Outcome {
    /// The outcome of a request that had waited for another one.
    pub(crate) const fn after_waiting(self, reason: Forward) -> Self {
        match self {
            Self::Hit { age, .. } | Self::StaleHit { age, .. } => Self::Collapsed { reason, age },
            other => other,
        }
    }

    /// Whether a stored response answered without a call of the handler.
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

    /// Whether a fresh response is stored after a request with this outcome.
    pub(crate) const fn leaves_fresh_response(&self) -> bool {
        self.is_stored() || matches!(self, Self::Hit { .. } | Self::Collapsed { .. })
    }

    /// The `detail` parameter of `Cache-Status`, if there is one.
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

/// Formats the parameters of this cache's member of `Cache-Status` (RFC 9211 section 2).
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit { ttl, .. } => write!(f, "hit; ttl={}", ttl.as_secs())?,
            // RFC 9211 section 2.4: a stale response has a negative ttl.
            Self::StaleHit { over, .. } => write!(f, "hit; ttl=-{}", over.as_secs())?,
            Self::Forward { reason, .. } => write!(f, "fwd={}", reason.token())?,
            // RFC 9211 section 2.6.
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
