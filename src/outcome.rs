//! What became of a request: the one enum behind `Cache-Status`, the log line and the observer.

use std::{fmt, time::Duration};

use actix_web::http::StatusCode;

/// What a cache did with a request.
///
/// It is known, and reported once, when the head of the answer is: a body that later breaks off
/// is not stored although [`Stored::Yes`] was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Answered from the store.
    Hit {
        /// Age of the response (RFC 9111 section 4.2.3).
        age: Duration,
        /// What is left of its freshness lifetime.
        ttl: Duration,
    },
    /// Answered from the store although no longer fresh: while it is refreshed, or because the
    /// client takes it.
    StaleHit {
        /// Age of the response.
        age: Duration,
        /// How long its freshness lifetime is over.
        over: Duration,
    },
    /// Not in the store at first; another request for the same asked the handler, and its answer was
    /// stored and is this one's, too.
    Collapsed {
        /// Why the store did not answer at first.
        reason: Forward,
        /// Age of the response.
        age: Duration,
    },
    /// The handler said that what is stored still holds, which answered then (RFC 9111 section
    /// 4.3).
    Revalidated {
        /// Why the handler was asked.
        reason: Forward,
        /// Whether what is stored was freshened.
        stored: Stored,
    },
    /// The handler failed, and what is stored answered instead (RFC 5861 section 4).
    StaleIfError {
        /// Why the handler was asked.
        reason: Forward,
        /// How it failed; nothing if it had no answer at all.
        status: Option<StatusCode>,
    },
    /// Answered by the handler.
    Forward {
        /// Why the store did not answer.
        reason: Forward,
        /// Whether the handler's answer is being stored.
        stored: Stored,
    },
    /// Neither: the client asked for a stored response only, and there was none (504).
    OnlyIfCached,
}

/// Why the handler was called: RFC 9211 section 2.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Forward {
    /// The cache does not handle such requests.
    Bypass(Bypass),
    /// The method asks for more than a stored response.
    Method,
    /// Nothing is stored for the URL.
    UriMiss,
    /// What is stored was selected by other request fields.
    VaryMiss,
    /// What is stored is no longer fresh, or, where
    /// [`refresh_ahead`](crate::Policy::refresh_ahead) renews it, soon will be.
    Stale,
    /// Something is stored, but this request may not have it, or wants it checked.
    Request,
}

/// Why a cache stays out of an exchange altogether.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Bypass {
    /// A rule or the policy says so.
    Rule,
    /// The request has a body.
    RequestBody,
    /// The request asks for another protocol.
    Upgrade,
    /// The request has conditions that only the handler can judge (`If-Match`,
    /// `If-Unmodified-Since`).
    Condition,
    /// The request does not say unambiguously which host it means.
    Host,
    /// The store failed or took too long.
    StoreError,
    /// The cache is about to end: see [`Cache::drain`](crate::Cache::drain).
    Draining,
}

/// Whether an answer is being stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stored {
    /// It is, if its body ends well.
    Yes,
    /// It is not.
    No(NotStored),
}

/// Why an answer is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotStored {
    /// Nothing was to be stored in this exchange; the forward reason says it all.
    NotAttempted,
    /// The request is a `HEAD`: its answer has no body to store.
    Head,
    /// The request is for a part (`Range`), and nothing complete is stored to cut it from.
    Range,
    /// The request says `no-store`.
    RequestNoStore,
    /// The status code is not stored (1xx, 206, 304) or not under these terms.
    Status,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: private`.
    Private,
    /// `Cache-Control: no-cache` without a validator to ask by, or `Pragma: no-cache`.
    NoCache,
    /// `Set-Cookie`.
    SetCookie,
    /// `Vary: *`, or a `Vary` nobody can compare.
    Vary,
    /// The handler said so; it may have given a reason.
    Handler(&'static str),
    /// A rule says so.
    Rule,
    /// Neither the response nor the policy gives it a lifetime.
    NoLifetime,
    /// Its lifetime is over already.
    Stale,
    /// The request has `Authorization`, and the response does not say that it may be shared.
    Authorization,
    /// The request has cookies, and the response does not say that it may be shared.
    Cookie,
    /// The request has other credentials, and the response does not say that it may be shared.
    Credentials,
    /// The body or the head is over the size limit.
    TooLarge,
    /// It has more than 64 tags, or one longer than 256 bytes, so that purges could miss it.
    Tags,
    /// Too many bytes of bodies are on their way at once.
    Busy,
    /// The body is of a kind that never ends: `text/event-stream`, `multipart/x-mixed-replace`.
    Endless,
    /// The response has no body of a length, where its status wants one.
    NoBody,
    /// Something between cache and handler changed a request field that `Vary` names.
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
    /// A token that names the reason, as in `Cache-Status`' `detail`.
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
    /// A token that names the reason, as in `Cache-Status`' `detail`; none where the forward
    /// reason says enough.
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

impl Outcome {
    /// The same of a request that had to wait for another's answer.
    pub(crate) const fn collapsed(self, reason: Forward) -> Self {
        match self {
            Self::Hit { age, .. } | Self::StaleHit { age, .. } => Self::Collapsed { reason, age },
            other => other,
        }
    }

    /// Whether the store answered without asking the handler first.
    #[must_use]
    pub const fn is_hit(&self) -> bool {
        matches!(self, Self::Hit { .. } | Self::StaleHit { .. })
    }

    /// Whether the handler's answer is being stored.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        matches!(
            self,
            Self::Forward { stored: Stored::Yes, .. }
                | Self::Revalidated { stored: Stored::Yes, .. }
        )
    }

    /// Whether something fresh is stored after it.
    pub(crate) const fn renews(&self) -> bool {
        self.is_stored() || matches!(self, Self::Hit { .. } | Self::Collapsed { .. })
    }

    /// A token that says more than RFC 9211's parameters do.
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

/// The parameters of this cache's member of `Cache-Status` (RFC 9211 section 2).
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit { ttl, .. } => write!(f, "hit; ttl={}", ttl.as_secs())?,
            // RFC 9211 section 2.4: negative for what is stale.
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
            // Nothing was forwarded, so no `fwd`: the detail alone says why.
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
    fn outcomes_are_written_as_rfc_9211_parameters() {
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
            (hit.collapsed(Forward::UriMiss), "fwd=uri-miss; collapsed"),
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
