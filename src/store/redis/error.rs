//! The reasons why a Redis store cannot be built or used.

use std::{convert::Infallible, error::Error, fmt, time::Duration};

/// The reason why a [`RedisStore`](crate::RedisStore) cannot be built or used.
///
/// No variant holds a URL, as a URL may contain a password.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisStoreError {
    /// A URL is not valid, or the URLs of several Sentinels differ in their credentials or in the
    /// use of TLS.
    InvalidUrl,
    /// The URL needs a feature of this crate that is not enabled. The value is the name of the
    /// feature.
    MissingFeature(&'static str),
    /// A certificate or private key cannot be used. The value is the reason.
    InvalidCertificate(String),
    /// The namespace is empty or contains `{` or `}`. The value is the namespace.
    InvalidNamespace(String),
    /// [`RedisStoreBuilder::max_record`](super::RedisStoreBuilder::max_record) is zero.
    ZeroMaxRecord,
    /// A [check](crate::RedisStore::check) has shown that Redis cannot be used. The value is the
    /// reason.
    Unusable(String),
    /// A time setting is too short.
    TooShort {
        /// The name of the setting.
        setting: &'static str,
        /// The time that was set.
        value: Duration,
        /// The shortest time that the setting accepts.
        least: Duration,
    },
}

impl fmt::Display for RedisStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidUrl => f.write_str(
                "invalid Redis URL: expected redis://[user:password@]host[:port][/database], \
                 redis-cluster://host:port,... or redis-sentinel://host:port,.../primary (rediss... for \
                 TLS)",
            ),
            Self::MissingFeature(feature) => write!(
                f,
                "Redis URL not supported by this build: enable the feature `{feature}` of \
                 actix-web-cache"
            ),
            Self::InvalidCertificate(reason) => write!(f, "invalid TLS certificates: {reason}"),
            Self::InvalidNamespace(namespace) => write!(
                f,
                "invalid Redis namespace `{namespace}`: it must not be empty, and must not contain \
                 `{{` or `}}`, which choose the slot in a Cluster"
            ),
            Self::ZeroMaxRecord => f.write_str(
                "max_record is 0, so no response could be stored: give the largest response in \
                 bytes, or leave it out for the default of 16 MiB",
            ),
            Self::Unusable(reason) => write!(f, "Redis cannot be used: {reason}"),
            Self::TooShort { setting, value, least } => {
                write!(f, "invalid {setting} {value:?}: set it to {least:?} or more")
            }
        }
    }
}

impl Error for RedisStoreError {}

/// Lets `RedisStore::new` accept a `RedisSource`, whose conversion into itself cannot fail.
impl From<Infallible> for RedisStoreError {
    fn from(error: Infallible) -> Self {
        match error {}
    }
}
