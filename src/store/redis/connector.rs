//! Makes connections to a server, to a Cluster, or to the primary that Sentinels name.

use std::fmt;

#[cfg(feature = "redis-cluster")]
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::{Client, ConnectionInfo, aio::PubSub};
#[cfg(feature = "redis-sentinel")]
use redis::{
    ConnectionAddr, RedisError, TlsMode,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

#[cfg(any(feature = "redis-cluster", feature = "redis-sentinel"))]
use super::source::tcp_settings;
use super::{
    certificates::Certificates,
    connection::Connection,
    error::RedisStoreError,
    failure::Failure,
    source::{RedisSource, Servers},
};

/// Makes connections, each driven by the runtime in which it was made.
pub(super) enum Connector {
    Single(Box<Client>),
    #[cfg(feature = "redis-cluster")]
    Cluster(Box<ClusterServers>),
    #[cfg(feature = "redis-sentinel")]
    Sentinels(Box<SentinelSettings>),
}

/// The servers of a Cluster.
#[cfg(feature = "redis-cluster")]
pub(super) struct ClusterServers {
    client: ClusterClient,
    /// The nodes of the source. Each node of a Cluster sends announcements of invalidations.
    nodes: Vec<Client>,
}

impl Connector {
    /// Prepares connections to `source`; connects to nothing yet.
    pub(super) fn new(source: &RedisSource) -> Result<Self, RedisStoreError> {
        let certificates = Certificates::new(source)?;
        let data_server = |server: &ConnectionInfo| {
            let settings = source.data_settings(server.redis_settings().clone());
            server.clone().set_redis_settings(settings)
        };
        match &source.servers {
            Servers::Single(server) => {
                Ok(Self::Single(Box::new(certificates.client(data_server(server))?)))
            }
            #[cfg(feature = "redis-cluster")]
            Servers::Cluster(nodes) => {
                let nodes: Vec<_> = nodes.iter().map(data_server).collect();
                // Asks primaries only, as a replica may not have the latest invalidations.
                let builder = ClusterClientBuilder::new(nodes.clone()).tcp_settings(tcp_settings());
                let client = certificates.set_for_cluster(builder).build();
                let client = client.map_err(|_| RedisStoreError::InvalidUrl)?;
                let nodes = nodes.into_iter().map(|node| certificates.client(node));
                let nodes = nodes.collect::<Result<_, _>>()?;
                Ok(Self::Cluster(Box::new(ClusterServers { client, nodes })))
            }
            #[cfg(feature = "redis-sentinel")]
            Servers::Sentinels { sentinels, primary } => {
                let settings = SentinelSettings {
                    sentinels: sentinels.clone(),
                    primary: primary.clone(),
                    data: source.data_settings(redis::RedisConnectionInfo::default()),
                    certificates,
                };
                // The check that `connect` would make.
                settings.client().map_err(|_| RedisStoreError::InvalidUrl)?;
                Ok(Self::Sentinels(Box::new(settings)))
            }
        }
    }

    /// Makes a new connection.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let connection = match self {
            Self::Single(client) => client.get_multiplexed_async_connection().await?,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(servers) => {
                return Ok(Connection::Cluster(servers.client.get_async_connection().await?));
            }
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinels(settings) => settings.client()?.get_async_connection().await?,
        };
        Ok(Connection::Single(connection))
    }

    /// Subscribes to a channel, on a connection of its own.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSub, Failure> {
        let mut subscription = match self {
            Self::Single(client) => client.get_async_pubsub().await?,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(servers) => any_node(&servers.nodes).await?,
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinels(settings) => {
                settings.client()?.async_get_client().await?.get_async_pubsub().await?
            }
        };
        subscription.subscribe(channel).await?;
        Ok(subscription)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// Connects to the first node that answers.
#[cfg(feature = "redis-cluster")]
async fn any_node(nodes: &[Client]) -> Result<PubSub, Failure> {
    let mut last_failure = Failure::TimedOut;
    for node in nodes {
        match node.get_async_pubsub().await {
            Ok(subscription) => return Ok(subscription),
            Err(error) => last_failure = error.into(),
        }
    }
    Err(last_failure)
}

/// The settings of a primary that Sentinels name.
#[cfg(feature = "redis-sentinel")]
pub(super) struct SentinelSettings {
    /// Not empty; they share their credentials and the use of TLS.
    sentinels: Vec<ConnectionInfo>,
    primary: String,
    data: redis::RedisConnectionInfo,
    certificates: Certificates,
}

#[cfg(feature = "redis-sentinel")]
impl SentinelSettings {
    /// Makes a client for one use. It caches connections to Sentinels, which belong to one runtime, so
    /// it is not kept.
    fn client(&self) -> Result<SentinelClient, RedisError> {
        let addresses: Vec<_> = self.sentinels.iter().map(|server| server.addr().clone()).collect();
        let uses_tls = addresses.iter().any(|addr| matches!(addr, ConnectionAddr::TcpTls { .. }));
        let mut builder =
            SentinelClientBuilder::new(addresses, &self.primary, SentinelServerType::Master)?
                .set_client_to_redis_tcp_settings(tcp_settings())
                .set_client_to_sentinel_tcp_settings(tcp_settings())
                .set_client_to_redis_protocol(self.data.protocol())
                .set_client_to_redis_db(self.data.db());
        if let Some(username) = self.data.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = self.data.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(sentinel) = self.sentinels.first().map(ConnectionInfo::redis_settings) {
            builder = builder.set_client_to_sentinel_protocol(sentinel.protocol());
            if let Some(username) = sentinel.username() {
                builder = builder.set_client_to_sentinel_username(username);
            }
            if let Some(password) = sentinel.password() {
                builder = builder.set_client_to_sentinel_password(password);
            }
        }
        if uses_tls {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        }
        self.certificates.set_for_sentinels(builder).build()
    }
}
