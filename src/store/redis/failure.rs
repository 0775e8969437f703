//! The reasons why a call to Redis fails, and the effect of each reason on the connection and on
//! the circuit breaker.

use std::fmt;

use deadpool_redis::{
    PoolError,
    redis::{ErrorKind, RedisError, ServerErrorKind, Value},
};

use crate::store::{interface::StoreError, remote::error::RemoteError};

/// The reason why a call to Redis failed.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Redis was not called, because the circuit breaker is open.
    CircuitOpen,
    /// Redis did not answer in time.
    TimedOut,
    /// There is no tokio runtime in which to call Redis.
    NoRuntime,
    /// The client library panicked.
    Panicked,
    /// Redis or the client library reported an error.
    Redis(RedisError),
    /// Redis has no table of invalidations, and refused to make one. No lookup can succeed without
    /// the table.
    NoTable(RedisError),
}

impl Failure {
    /// Returns whether the next call needs a new connection, because the connection of the failed
    /// call may have caused the failure.
    pub(super) fn ends_connection(&self) -> bool {
        match self {
            Self::CircuitOpen | Self::NoRuntime => false,
            Self::TimedOut | Self::Panicked | Self::NoTable(_) => true,
            Self::Redis(error) => match error.kind() {
                ErrorKind::Server(
                    ServerErrorKind::MasterDown
                    | ServerErrorKind::BusyLoading
                    | ServerErrorKind::ClusterDown
                    // The connection has an outdated map of the Cluster's slots.
                    | ServerErrorKind::Moved
                    | ServerErrorKind::Ask,
                ) => true,
                ErrorKind::Server(_) => false,
                ErrorKind::Extension => error.code() == Some("NOAUTH"),
                _ => true,
            },
        }
    }

    /// Returns whether other calls will probably fail too, so that the circuit breaker counts the
    /// failure.
    pub(super) fn is_outage(&self) -> bool {
        match self {
            Self::TimedOut | Self::Panicked | Self::NoTable(_) => true,
            Self::CircuitOpen | Self::NoRuntime => false,
            Self::Redis(_) => self.ends_connection(),
        }
    }

    /// Returns whether the server refused a write because it is a replica. Such a server still
    /// answers lookups, so the failure does not end the connection and is no outage.
    pub(super) fn is_refused_write(&self) -> bool {
        matches!(self, Self::Redis(error) if error.code() == Some("READONLY"))
    }
}

/// Turns the error for a Redis key of another type into a nil reply.
pub(super) fn nil_if_wrong_type(error: RedisError) -> Result<Value, RedisError> {
    if is_wrong_type(&error) { Ok(Value::Nil) } else { Err(error) }
}

/// Returns whether the error says that a Redis key has another type than expected. Another program
/// may have written the key.
pub(super) fn is_wrong_type(error: &RedisError) -> bool {
    let command_errors = error.clone().into_server_errors();
    error.code() == Some("WRONGTYPE")
        || command_errors
            .is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "WRONGTYPE"))
}

/// Shows neither the error text of the server nor a URL, because both may contain secrets.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CircuitOpen => f.write_str("Redis not called: its circuit breaker is open"),
            Self::TimedOut => f.write_str("Redis did not answer in time"),
            Self::NoRuntime => f.write_str("Redis not called: there is no tokio runtime"),
            Self::Panicked => f.write_str("Redis call failed: the client library panicked"),
            Self::Redis(error) | Self::NoTable(error) => match error.code() {
                Some(code) => write!(f, "Redis returned the error {code}{}", advice(code)),
                None if error.is_io_error() => write!(f, "Redis cannot be reached: {error}"),
                None if error.kind() == ErrorKind::AuthenticationFailed => {
                    f.write_str("Redis refused the login: check user and password")
                }
                None => write!(f, "Redis call failed: {}", error.category()),
            },
        }
    }
}

fn advice(code: &str) -> &'static str {
    match code {
        "NOAUTH" | "WRONGPASS" => ": check user and password",
        "NOPERM" => {
            ": the user needs more permissions: docs/many-processes.md lists the commands, ACL LOG shows \
             the refused one"
        }
        "OOM" => ": raise maxmemory, and set maxmemory-policy to volatile-lru",
        "READONLY" => ": the server is a replica: connect to the primary",
        "LOADING" => ": the server is loading its data from disk",
        "CLUSTERDOWN" => ": some slots of the Cluster have no node",
        _ => "",
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        // The error of a pipeline may say only that some command failed, so use the error of the
        // first command that failed.
        let is_vague = matches!(error.code(), None | Some("EXECABORT"));
        if is_vague
            && let Some(command_errors) = error.clone().into_server_errors()
            && let Some((_, first)) = command_errors.first()
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
            PoolError::NoRuntimeSpecified => Self::NoRuntime,
            // Of these errors only a time-out can occur, because the store never closes its pool
            // and the pool has no hooks.
            PoolError::Timeout(_) | PoolError::Closed | PoolError::PostCreateHook(_) => {
                Self::TimedOut
            }
        }
    }
}

impl From<RemoteError<Self>> for Failure {
    fn from(error: RemoteError<Self>) -> Self {
        match error {
            RemoteError::CircuitOpen => Self::CircuitOpen,
            RemoteError::TimedOut => Self::TimedOut,
            RemoteError::Failed(failure) => failure,
        }
    }
}

impl std::error::Error for Failure {}

impl Failure {
    /// Converts the failure of an invalidation into the error of the store. If the client has
    /// queued the invalidation, the error says so. The client queues each failed invalidation,
    /// unless there was no runtime in which to send it.
    pub(super) fn of_invalidation(self) -> StoreError {
        match self {
            Self::NoRuntime => StoreError::new(self),
            Self::CircuitOpen
            | Self::TimedOut
            | Self::Panicked
            | Self::Redis(_)
            | Self::NoTable(_) => StoreError::queued(self),
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        Self::new(failure)
    }
}
