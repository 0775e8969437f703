//! The TLS certificates for connections to Redis, in the types of the client library (the crate
//! `redis`). Without the feature `redis-rustls`, this crate passes no certificates to the client
//! library: the system's TLS library then uses the system's certificates.

#[cfg(feature = "redis-cluster")]
use deadpool_redis::redis::cluster::ClusterClientBuilder;
#[cfg(feature = "redis-sentinel")]
use deadpool_redis::redis::sentinel::SentinelClientBuilder;
use deadpool_redis::redis::{Client, ConnectionInfo};

#[cfg(feature = "redis-rustls")]
use super::tls;
use super::{address::RedisSource, error::RedisStoreError};

/// The TLS certificates for connections to one [`RedisSource`].
pub(super) struct Certificates {
    /// `None` if the connections do not use TLS.
    #[cfg(feature = "redis-rustls")]
    rustls: Option<deadpool_redis::redis::TlsCertificates>,
}

impl Certificates {
    /// Returns the certificates for connections to `source`. Installs the crypto provider of rustls
    /// if these connections use TLS.
    #[cfg(feature = "redis-rustls")]
    pub(super) fn new(source: &RedisSource) -> Result<Self, RedisStoreError> {
        if source.uses_tls() {
            tls::install_crypto_provider();
            let certificates = source.certificates.clone().into_certificates()?;
            // The client library parses certificates only when it makes a client, so make a client
            // to check the certificates.
            Client::build_with_tls("rediss://localhost", certificates.clone()).map_err(
                |error| {
                    let reason = error.detail().unwrap_or("they cannot be parsed");
                    RedisStoreError::InvalidCertificate(reason.to_owned())
                },
            )?;
            return Ok(Self { rustls: Some(certificates) });
        }
        if source.certificates.is_empty() {
            return Ok(Self { rustls: None });
        }
        Err(RedisStoreError::InvalidCertificate(
            "the URL does not use TLS: use the scheme rediss, rediss-cluster or rediss-sentinel"
                .to_owned(),
        ))
    }

    #[cfg(not(feature = "redis-rustls"))]
    pub(super) const fn new(_: &RedisSource) -> Result<Self, RedisStoreError> {
        Ok(Self {})
    }

    /// Makes a client for one server.
    pub(super) fn client(&self, server: ConnectionInfo) -> Result<Client, RedisStoreError> {
        #[cfg(feature = "redis-rustls")]
        if let Some(certificates) = &self.rustls {
            let client = Client::build_with_tls(server, certificates.clone());
            return client.map_err(|_| RedisStoreError::InvalidUrl);
        }
        Client::open(server).map_err(|_| RedisStoreError::InvalidUrl)
    }

    /// Sets the certificates for all nodes of a Cluster.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn set_for_cluster(&self, builder: ClusterClientBuilder) -> ClusterClientBuilder {
        #[cfg(feature = "redis-rustls")]
        if let Some(certificates) = &self.rustls {
            return builder.certs(certificates.clone());
        }
        builder
    }

    /// Sets the certificates for Sentinels and their primary.
    #[cfg(feature = "redis-sentinel")]
    pub(super) fn set_for_sentinels(
        &self,
        builder: SentinelClientBuilder,
    ) -> SentinelClientBuilder {
        #[cfg(feature = "redis-rustls")]
        if let Some(certificates) = &self.rustls {
            return builder
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        builder
    }
}
