//! The error of a call to a remote server.

use std::{error::Error, fmt};

use crate::store::interface::StoreError;

/// The reason why a call to a remote server has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RemoteError<E> {
    /// The call was not made, because the [`CircuitBreaker`](super::CircuitBreaker) is open.
    CircuitOpen,
    /// The call did not end before its [`Deadline`](super::Deadline).
    TimedOut,
    /// The call was made and failed.
    Failed(E),
}

impl<E> fmt::Display for RemoteError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CircuitOpen => "server not called: its circuit breaker is open",
            Self::TimedOut => "server did not answer in time",
            Self::Failed(_) => "call to the server failed",
        })
    }
}

impl<E: Error + 'static> Error for RemoteError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::CircuitOpen | Self::TimedOut => None,
            Self::Failed(error) => Some(error),
        }
    }
}

/// The error in [`RemoteError::Failed`] becomes the source of the [`StoreError`], so that the log
/// shows the text of this error.
impl<E: Error + Send + Sync + 'static> From<RemoteError<E>> for StoreError {
    fn from(error: RemoteError<E>) -> Self {
        match error {
            RemoteError::Failed(error) => Self::new(error),
            RemoteError::CircuitOpen | RemoteError::TimedOut => Self::new(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_call_has_its_error_as_source_and_not_in_its_text() {
        let error = RemoteError::Failed(fmt::Error);
        assert!(error.source().is_some_and(|source| source.is::<fmt::Error>()));
        assert!(!error.to_string().contains(&fmt::Error.to_string()));
        assert!(RemoteError::<fmt::Error>::TimedOut.source().is_none());
    }

    #[test]
    fn store_error_names_the_reason() {
        let failed = StoreError::from(RemoteError::Failed(fmt::Error));
        assert!(failed.source().is_some_and(|source| source.is::<fmt::Error>()));
        let open = StoreError::from(RemoteError::<fmt::Error>::CircuitOpen);
        assert!(open.source().is_some_and(|source| source.to_string().contains("circuit breaker")));
    }
}
