//! The builder of a Redis store, with its settings.

use std::time::Duration;

use super::{
    address::RedisSource,
    client::Timeouts,
    connector::Connector,
    error::RedisStoreError,
    store::{RedisStore, Settings},
};

/// The shortest time that the builder accepts for a lease, for a lookup, and for each of the two
/// attempts to send an invalidation, which share the time-out of writes.
const MIN_TIME: Duration = Duration::from_millis(1);

impl RedisStore {
    /// Makes a store with the default settings. The store connects to Redis at the first request.
    ///
    /// `source` is a URL or a [`RedisSource`]. `namespace` is the beginning of all key names in
    /// Redis. Stores with the same namespace share all responses and purges, and stores with
    /// different namespaces share nothing. Use one namespace for all processes of an application,
    /// and different namespaces for different applications.
    ///
    /// # Errors
    ///
    /// The errors of [`RedisStoreBuilder::build`].
    pub fn new<S>(source: S, namespace: impl Into<String>) -> Result<Self, RedisStoreError>
    where
        S: TryInto<RedisSource, Error: Into<RedisStoreError>>,
    {
        Self::builder(source, namespace).build()
    }

    /// Returns a builder of a store. The parameters are those of [`new`](Self::new).
    ///
    /// [`RedisStoreBuilder::build`] returns an error if a parameter is invalid.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use actix_web_cache::{RedisStore, redis::RedisStoreError};
    ///
    /// # fn main() -> Result<(), RedisStoreError> {
    /// let store = RedisStore::builder("redis://127.0.0.1:6379", "shop")
    ///     .lease(Duration::from_secs(5))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder<S>(source: S, namespace: impl Into<String>) -> RedisStoreBuilder
    where
        S: TryInto<RedisSource, Error: Into<RedisStoreError>>,
    {
        RedisStoreBuilder {
            source: source.try_into().map_err(Into::into),
            namespace: namespace.into(),
            max_record: 16 * 1024 * 1024,
            lease: None,
            timeouts: Timeouts {
                lookup: Duration::from_millis(45),
                write: Duration::from_millis(200),
            },
        }
    }
}

/// Builds a [`RedisStore`].
#[derive(Debug)]
#[must_use]
pub struct RedisStoreBuilder {
    source: Result<RedisSource, RedisStoreError>,
    namespace: String,
    max_record: usize,
    lease: Option<Duration>,
    timeouts: Timeouts,
}

impl RedisStoreBuilder {
    /// Sets the maximum size of a stored response in bytes, header fields included. Default 16 MiB.
    ///
    /// Larger responses are served but not stored. The size must not be zero.
    pub const fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// Sets the time that a lookup may take, including the time to connect. Default 45 ms, at least
    /// 1 ms.
    ///
    /// If Redis takes longer, the handler answers the request. The circuit breaker, which stops
    /// calls to a failing server, counts a failure. The cache also limits each lookup by
    /// [`CacheBuilder::lookup_timeout`](crate::CacheBuilder::lookup_timeout), which is 50 ms by
    /// default. To wait longer for Redis, raise both time-outs.
    pub const fn lookup_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.lookup = timeout;
        self
    }

    /// Sets the time that writing a response or an invalidation may take, including the time to
    /// connect. Default 200 ms, at least 2 ms.
    ///
    /// No client waits for the write of a response. The store sends an invalidation a second time
    /// if the connection turns out to be closed. Each of the two attempts may take half of the
    /// time-out.
    pub const fn write_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.write = timeout;
        self
    }

    /// Lets only one process at a time run the handler for a response that is not stored. By
    /// default, each process that needs the response runs the handler.
    ///
    /// The process that runs the handler holds a lease, which expires after the time `lease`. The
    /// other processes wait for the response of this process, as concurrent requests within one
    /// process wait for each other. Set a time that is a little longer than the handlers run: if
    /// the holder of a lease crashes, other processes run the handler only once the lease has
    /// expired. No request waits for another process longer than
    /// [`Policy::wait_limit`](crate::Policy::wait_limit). With leases, each miss takes two more
    /// round trips. `docs/concurrent-requests.md` in the repository has the details.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Builds the store. The store connects to Redis at the first request;
    /// [`RedisStore::check`] connects earlier.
    ///
    /// With the feature `redis-rustls` and a source that connects by TLS, `build` reads the
    /// system's root certificates, unless the source has its own. `build` also installs ring as the
    /// crypto provider of rustls, unless the process has a provider. To use another provider,
    /// install it before the call.
    ///
    /// # Errors
    ///
    /// If the URL is invalid or needs a feature that is not enabled, the namespace is empty or
    /// contains `{` or `}`, a certificate cannot be used, a time setting is too short, or
    /// [`max_record`](Self::max_record) is zero.
    pub fn build(self) -> Result<RedisStore, RedisStoreError> {
        let Self { source, namespace, max_record, lease, timeouts } = self;
        let source = source?;
        if namespace.is_empty() || namespace.contains(['{', '}']) {
            return Err(RedisStoreError::InvalidNamespace(namespace));
        }
        for (setting, value, least) in [
            ("lease", lease.unwrap_or(MIN_TIME), MIN_TIME),
            ("lookup_timeout", timeouts.lookup, MIN_TIME),
            ("write_timeout", timeouts.write, MIN_TIME * 2),
        ] {
            if value < least {
                return Err(RedisStoreError::TooShort { setting, value, least });
            }
        }
        if max_record == 0 {
            return Err(RedisStoreError::ZeroMaxRecord);
        }
        let connector = Connector::new(&source)?;
        Ok(RedisStore::from_settings(Settings {
            connector,
            namespace,
            timeouts,
            max_record,
            lease,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "redis://127.0.0.1:6379";

    fn error_of(builder: RedisStoreBuilder) -> RedisStoreError {
        builder.build().unwrap_err()
    }

    #[test]
    fn store_is_built_from_a_url_or_a_source() {
        let source: RedisSource = URL.parse().unwrap();
        let text = URL.to_owned();
        let stores = [
            RedisStore::new(URL, "shop"),
            RedisStore::new(&text, "shop"),
            RedisStore::new(text.clone(), "shop".to_owned()),
            RedisStore::new(source, "shop"),
        ];
        assert!(stores.iter().all(Result::is_ok));
        let urls = ["redis+unix:///x", "redis://user:password@h:1/2"];
        assert!(urls.iter().all(|&url| RedisStore::new(url, "shop").is_ok()));
    }

    #[test]
    fn invalid_settings_are_refused_with_their_value() {
        assert_eq!(error_of(RedisStore::builder("h:1", "shop")), RedisStoreError::InvalidUrl);
        for namespace in ["", "a{b", "a}b"] {
            let error = error_of(RedisStore::builder(URL, namespace));
            assert_eq!(error, RedisStoreError::InvalidNamespace(namespace.to_owned()));
            assert!(error.to_string().contains(&format!("`{namespace}`")), "{error}");
        }
        let builder = || RedisStore::builder(URL, "shop");
        let error = error_of(builder().max_record(0));
        assert!(error.to_string().starts_with("max_record is 0"), "{error}");
        for (builder, setting) in [
            (builder().lease(Duration::ZERO), "lease"),
            (builder().lookup_timeout(Duration::from_micros(999)), "lookup_timeout"),
            (builder().write_timeout(Duration::from_millis(1)), "write_timeout"),
        ] {
            let text = error_of(builder).to_string();
            assert!(text.starts_with(&format!("invalid {setting}")), "{text}");
        }
    }

    #[test]
    #[cfg(feature = "redis-rustls")]
    fn certificates_need_tls_and_are_checked_at_build() {
        let build = |url: &str, roots: &str| {
            let source: RedisSource = url.parse().unwrap();
            RedisStore::new(source.root_certificates(roots), "shop").unwrap_err()
        };
        let broken = "-----BEGIN CERTIFICATE-----\n!";
        for (url, roots) in [
            (URL, broken),
            ("rediss://h", ""),
            ("rediss://h", broken),
            ("rediss://h", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"),
        ] {
            let error = build(url, roots);
            assert!(matches!(error, RedisStoreError::InvalidCertificate(_)), "{url}: {error}");
        }
    }
}
