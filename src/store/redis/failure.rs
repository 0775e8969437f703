//! What can go wrong between us and Redis, and what follows from it.

use std::fmt;

use deadpool_redis::{
    PoolError,
    redis::{ErrorKind, RedisError, ServerErrorKind},
};

use crate::store::interface::StoreError;

/// Why Redis did not do what it was asked to.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// It failed a short while ago and is not asked again yet.
    Open,
    /// It did not answer in time.
    Late,
    /// The pool has no connection to spare.
    Pool,
    /// Nothing can be awaited here.
    NoRuntime,
    /// The client that speaks with it has a fault.
    Panicked,
    Redis(RedisError),
}

impl Failure {
    /// Whether the connection may be to blame: another might do better.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::Open | Self::NoRuntime | Self::Pool => false,
            Self::Late | Self::Panicked => true,
            Self::Redis(error) => match error.kind() {
                ErrorKind::Server(
                    ServerErrorKind::ReadOnly
                    | ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading
                    | ServerErrorKind::ClusterDown
                    // Its map of the Cluster is not what it was.
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask,
                ) => true,
                ErrorKind::Server(_) => false,
                ErrorKind::Extension => error.code() == Some("NOAUTH"),
                _ => true,
            },
        }
    }

    /// Whether it is about all that Redis is asked, and not only about what it was asked now.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::Late | Self::Pool | Self::Panicked => true,
            Self::Open | Self::NoRuntime => false,
            Self::Redis(_) => self.ends_connection() && self.code() != Some("READONLY"),
        }
    }

    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Redis(error) => error.code(),
            Self::Open | Self::Late | Self::Pool | Self::NoRuntime | Self::Panicked => None,
        }
    }
}

/// Without what a server or a URL says in its own words: there may be secrets in it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("Redis failed a short while ago and is not asked yet"),
            Self::Late => f.write_str("Redis did not answer in time"),
            Self::Pool => f.write_str(
                "the pool of Redis connections has none to spare: give it one or two for each \
                 worker thread",
            ),
            Self::NoRuntime => f.write_str("Redis can be asked in a tokio runtime only"),
            Self::Panicked => f.write_str("the client of Redis panicked"),
            Self::Redis(error) => match error.code() {
                Some(code) => write!(f, "Redis says {code}{}", advice(code)),
                None if error.is_io_error() => write!(f, "Redis cannot be reached: {error}"),
                None if error.kind() == ErrorKind::AuthenticationFailed => {
                    f.write_str("Redis refuses our name and password: check its URL")
                }
                None => write!(f, "Redis: {}", error.category()),
            },
        }
    }
}

fn advice(code: &str) -> &'static str {
    match code {
        "NOAUTH" | "WRONGPASS" => ": check name and password in its URL",
        "NOPERM" => {
            ": its user may not do what is needed: docs/deployment.md has the commands, ACL LOG tells \
             which was refused"
        }
        "OOM" => ": give it memory, and the eviction policy volatile-lru",
        "READONLY" => ": this is a replica, the store needs the primary",
        "LOADING" => ": it reads its data from disk",
        "CLUSTERDOWN" => ": some slots of the Cluster have no server",
        _ => "",
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        // That some of what was sent was refused says nothing; what the first was refused for does.
        let vague = matches!(error.code(), None | Some("EXECABORT"));
        if vague
            && let Some(refused) = error.clone().into_server_errors()
            && let Some((_, first)) = refused.first()
        {
            return Self::Redis(first.clone().into());
        }
        Self::Redis(error)
    }
}

impl From<PoolError> for Failure {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => error.into(),
            PoolError::Timeout(_) | PoolError::Closed => Self::Pool,
            PoolError::NoRuntimeSpecified => Self::NoRuntime,
            PoolError::PostCreateHook(_) => Self::Pool,
        }
    }
}

impl std::error::Error for Failure {}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::new(failure)
    }
}
