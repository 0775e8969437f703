//! Makes connections to a single server, to a Cluster, or to a primary that Sentinels watch.

use std::{fmt, time::Duration};

#[cfg(feature = "redis-cluster")]
use deadpool_redis::redis::cluster::{ClusterClient, ClusterClientBuilder};
#[cfg(feature = "redis-sentinel")]
use deadpool_redis::redis::{
    ConnectionAddr, RedisConnectionInfo, RedisError, TlsMode,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};
use deadpool_redis::{
    Connection as PoolConnection, Manager, Pool, Runtime, Timeouts,
    redis::{
        AsyncConnectionConfig, Client, ConnectionInfo,
        aio::{MultiplexedConnection, PubSub},
    },
};

#[cfg(any(feature = "redis-cluster", feature = "redis-sentinel"))]
use super::address::tcp_settings;
use super::{
    address::{RedisSource, Servers},
    certificates::Certificates,
    connection::Connection,
    error::RedisStoreError,
    failure::Failure,
};

/// The time that the connection pool may take to make a connection. If the request for which the
/// pool connects times out earlier, the pool continues to connect.
const POOL_TIMEOUT: Duration = Duration::from_secs(2);

/// The maximum number of connections that the pool makes at the same time. Each thread makes at
/// most six connections. The limit is high, so that no thread waits for the connections of another
/// thread.
const MAX_CONNECTING: usize = 512;

/// Makes connections to Redis. Each connection does its I/O in the tokio runtime in which it was
/// made.
///
/// The connections to a single server come from a pool of deadpool-redis. The pools of
/// deadpool-redis for a Cluster and for Sentinels take neither certificates nor TCP settings. So
/// connections to a Cluster and to a primary with Sentinels come from clients of the crate `redis`.
pub(super) enum Connector {
    Single(Box<SingleServer>),
    #[cfg(feature = "redis-cluster")]
    Cluster(Box<ClusterServers>),
    #[cfg(feature = "redis-sentinel")]
    Sentinels(Box<SentinelSettings>),
}

/// A single server, which is not part of a Cluster and has no Sentinels.
pub(super) struct SingleServer {
    pool: Pool,
    /// The client for subscriptions to announcements of invalidations, because a pool cannot
    /// subscribe.
    client: Client,
}

/// The servers of a Cluster.
#[cfg(feature = "redis-cluster")]
pub(super) struct ClusterServers {
    client: ClusterClient,
    /// The clients of the nodes in the URL, for subscriptions to announcements of invalidations.
    /// Any node of a Cluster delivers all announcements.
    nodes: Vec<Client>,
}

impl Connector {
    /// Prepares connections to `source`. Does not connect yet.
    pub(super) fn new(source: &RedisSource) -> Result<Self, RedisStoreError> {
        let certificates = Certificates::new(source)?;
        let data_server = |server: &ConnectionInfo| {
            let settings = source.data_settings(server.redis_settings().clone());
            server.clone().set_redis_settings(settings)
        };
        match &source.servers {
            Servers::Single(server) => {
                let client = certificates.client(data_server(server))?;
                Ok(Self::Single(Box::new(SingleServer::new(client)?)))
            }
            #[cfg(feature = "redis-cluster")]
            Servers::Cluster(nodes) => {
                let nodes: Vec<_> = nodes.iter().map(data_server).collect();
                // This client reads from primaries only, because a replica may lack the latest
                // invalidations.
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
                    data: source.data_settings(RedisConnectionInfo::default()),
                    certificates,
                };
                // Report invalid settings now, not in `connect`.
                settings.client().map_err(|_| RedisStoreError::InvalidUrl)?;
                Ok(Self::Sentinels(Box::new(settings)))
            }
        }
    }

    /// Makes a new connection.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        let connection = match self {
            Self::Single(server) => server.connect().await?,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(servers) => {
                return Ok(Connection::Cluster(servers.client.get_async_connection().await?));
            }
            #[cfg(feature = "redis-sentinel")]
            Self::Sentinels(settings) => {
                settings.client()?.get_async_connection_with_config(&connection_config()).await?
            }
        };
        Ok(Connection::Single(connection))
    }

    /// Subscribes to a channel, on a new connection.
    pub(super) async fn subscribe(&self, channel: &str) -> Result<PubSub, Failure> {
        let mut subscription = match self {
            Self::Single(server) => server.client.get_async_pubsub().await?,
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

/// The settings of a connection, which turn off the client library's own time-out. That time-out
/// would end each call after 500 ms, even if a time-out of the store is longer.
fn connection_config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_response_timeout(None)
}

impl SingleServer {
    /// Prepares connections with the address, the settings and the certificates of `client`.
    fn new(client: Client) -> Result<Self, RedisStoreError> {
        let server = client.get_connection_info().clone();
        let manager = Manager::new_with_config(server, connection_config())
            .map_err(|_| RedisStoreError::InvalidUrl)?;
        let pool = Pool::builder(manager)
            .max_size(MAX_CONNECTING)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| RedisStoreError::InvalidUrl)?;
        Ok(Self { pool, client })
    }

    /// Takes a new connection out of the pool, and never returns it. The pool could give a returned
    /// connection to another thread. The calls of the other thread would then wait whenever the
    /// thread that made the connection is busy, because the connection does its I/O on the thread
    /// that made it.
    async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        let timeouts = Timeouts {
            wait: Some(POOL_TIMEOUT),
            create: Some(POOL_TIMEOUT),
            recycle: Some(POOL_TIMEOUT),
        };
        Ok(PoolConnection::take(self.pool.timeout_get(&timeouts).await?))
    }
}

/// Connects to the first node of a Cluster that answers, for a subscription.
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

/// The Sentinels that watch a primary, and the settings for connections to the primary.
#[cfg(feature = "redis-sentinel")]
pub(super) struct SentinelSettings {
    /// At least one Sentinel. All Sentinels have the same credentials, and either all or none use
    /// TLS.
    sentinels: Vec<ConnectionInfo>,
    primary: String,
    data: RedisConnectionInfo,
    certificates: Certificates,
}

#[cfg(feature = "redis-sentinel")]
impl SentinelSettings {
    /// Makes a client for a single connection. No client is kept for a second connection, because a
    /// client caches its connections to Sentinels, and a connection works only in the runtime in
    /// which it was made.
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
