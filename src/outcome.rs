//! What became of a request: the one enum behind `Cache-Status`, the log line and the observer.

use std::{fmt, time::Duration};

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
    /// Answered by the handler.
    Forward {
        /// Why the store did not answer.
        reason: Forward,
        /// Whether the handler's answer is being stored.
        stored: Stored,
    },
    /// Neither: the client asked for a stored response only, and there was none (504).
    Unsatisfiable,
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
    /// What is stored is no longer fresh.
    Stale,
    /// Something fresh is stored, but this request may not have it.
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
    /// The request asks for a part (`Range`).
    Range,
    /// The request does not say unambiguously which host it means.
    Host,
    /// The store failed or took too long.
    StoreError,
    /// A cache further in is responsible.
    Inner,
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
    Forwarded,
    /// The request is a `HEAD`: its answer has no body to store.
    Head,
    /// The request says `no-store`.
    RequestNoStore,
    /// The status code is not stored (1xx, 206, 304) or not under these terms.
    Status,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: private`.
    Private,
    /// `Cache-Control: no-cache`.
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
    /// Too many bodies are being copied at once.
    Busy,
    /// The response has no body of a length, where its status wants one.
    NoBody,
    /// Something between cache and handler changed a request field that `Vary` names.
    RequestChanged,
    /// The resource was invalidated while the handler ran.
    Overtaken,
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
            Self::Range => "range",
            Self::Host => "host",
            Self::StoreError => "store-error",
            Self::Inner => "inner",
        }
    }
}

impl NotStored {
    /// A token that names the reason, as in `Cache-Status`' `detail`; none where the forward
    /// reason says enough.
    #[must_use]
    pub const fn token(self) -> Option<&'static str> {
        Some(match self {
            Self::Forwarded => return None,
            Self::Head => "head",
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
            Self::Busy => "busy",
            Self::NoBody => "no-body",
            Self::RequestChanged => "request-changed",
            Self::Overtaken => "overtaken",
        })
    }
}

impl Outcome {
    /// Whether the store answered.
    #[must_use]
    pub const fn is_hit(&self) -> bool {
        matches!(self, Self::Hit { .. })
    }

    /// Whether the handler's answer is being stored.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        matches!(self, Self::Forward { stored: Stored::Yes, .. })
    }

    /// A token that says more than RFC 9211's parameters do.
    #[must_use]
    pub const fn detail(&self) -> Option<&'static str> {
        match self {
            Self::Hit { .. } => None,
            Self::Forward { reason: Forward::Bypass(bypass), .. } => Some(bypass.token()),
            Self::Forward { stored: Stored::No(reason), .. } => reason.token(),
            Self::Forward { stored: Stored::Yes, .. } => None,
            Self::Unsatisfiable => Some("only-if-cached"),
        }
    }
}

/// The parameters of this cache's member of `Cache-Status` (RFC 9211 section 2).
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hit { ttl, .. } => write!(f, "hit; ttl={}", ttl.as_secs())?,
            Self::Forward { reason, stored } => {
                write!(f, "fwd={}", reason.token())?;
                if matches!(stored, Stored::Yes) {
                    f.write_str("; stored")?;
                }
            }
            // Nothing was forwarded, so no `fwd`: the detail alone says why.
            Self::Unsatisfiable => {}
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
            (forward(Forward::Method, Stored::No(NotStored::Forwarded)), "fwd=method"),
            (
                forward(Forward::Bypass(Bypass::Range), Stored::No(NotStored::Forwarded)),
                "fwd=bypass; detail=range",
            ),
            (Outcome::Unsatisfiable, "; detail=only-if-cached"),
        ] {
            assert_eq!(outcome.to_string(), want);
        }
    }
}
