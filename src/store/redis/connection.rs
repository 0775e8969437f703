//! How connections are made: to one server, to the one that Sentinels name, to a Cluster.

use std::{fmt, time::Duration};

use deadpool_redis::{
    Connection, Pool, Timeouts,
    redis::{
        Client, Cmd, ConnectionInfo, Pipeline, RedisFuture, Value,
        aio::{ConnectionLike, MultiplexedConnection, PubSub},
    },
};
#[cfg(feature = "redis-cluster")]
use deadpool_redis::{cluster, redis::cluster_async::ClusterConnection};
#[cfg(feature = "redis-sentinel")]
use deadpool_redis::{
    redis::{RedisError, sentinel::SentinelClient},
    sentinel,
};

use super::failure::Failure;

/// How long the pool may take. Requests do not wait for all of it; what they wait for goes on.
const POOL_LIMIT: Duration = Duration::from_secs(2);

/// A connection that many use at once, each by a clone.
#[derive(Clone)]
pub(super) enum Wire {
    One(MultiplexedConnection),
    #[cfg(feature = "redis-cluster")]
    Cluster(ClusterConnection),
}

impl Wire {
    /// Whether all keys are on one server, so that one pipeline may ask for any of them.
    pub(super) const fn is_one_server(&self) -> bool {
        match self {
            Self::One(_) => true,
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(_) => false,
        }
    }
}

impl ConnectionLike for Wire {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(cmd),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            #[cfg(feature = "redis-cluster")]
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Where connections come from.
pub(super) enum Pools {
    One(Pool),
    #[cfg(feature = "redis-cluster")]
    Cluster(cluster::Pool),
    #[cfg(feature = "redis-sentinel")]
    Sentinel(sentinel::Pool),
}

/// How a server is found that announces what others invalidate.
pub(super) enum Announcer {
    /// Any server of a Cluster does.
    Servers(Vec<ConnectionInfo>),
    #[cfg(feature = "redis-sentinel")]
    Sentinels(Box<dyn Fn() -> Result<SentinelClient, RedisError> + Send + Sync>),
    /// It is not known: a pool does not say where it leads.
    Unknown,
}

pub(super) struct Connector {
    pub(super) pools: Pools,
    pub(super) announcer: Announcer,
}

impl Connector {
    /// A new connection, driven by the runtime that this is called in.
    ///
    /// It is taken out of the pool for good: one that came back could be handed to another thread,
    /// and would then wait whenever this one is busy.
    pub(super) async fn connect(&self) -> Result<Wire, Failure> {
        let limits = Timeouts {
            wait: Some(POOL_LIMIT),
            create: Some(POOL_LIMIT),
            recycle: Some(POOL_LIMIT),
        };
        match &self.pools {
            Pools::One(pool) => {
                let connection = pool.timeout_get(&limits).await?;
                Ok(Wire::One(Connection::take(connection)))
            }
            #[cfg(feature = "redis-sentinel")]
            Pools::Sentinel(pool) => {
                let connection = pool.timeout_get(&limits).await?;
                Ok(Wire::One(sentinel::Connection::take(connection)))
            }
            #[cfg(feature = "redis-cluster")]
            Pools::Cluster(pool) => {
                let connection = pool.timeout_get(&limits).await?;
                Ok(Wire::Cluster(cluster::Connection::take(connection)))
            }
        }
    }

    /// A connection on which announcements are heard; nothing where no server for it is known.
    pub(super) async fn listen(&self, channel: &str) -> Result<Option<PubSub>, Failure> {
        let servers: Vec<Client> = match &self.announcer {
            Announcer::Servers(servers) => {
                servers.iter().cloned().map(Client::open).collect::<Result<_, _>>()?
            }
            #[cfg(feature = "redis-sentinel")]
            Announcer::Sentinels(sentinels) => vec![sentinels()?.async_get_client().await?],
            Announcer::Unknown => return Ok(None),
        };
        let mut failed = None;
        for server in servers {
            match server.get_async_pubsub().await {
                Ok(mut heard) => {
                    heard.subscribe(channel).await?;
                    return Ok(Some(heard));
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), |error| Err(error.into()))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

/// Where the application has not chosen by now. Connecting by TLS would panic without a choice.
#[cfg(feature = "redis-rustls")]
pub(super) fn choose_cryptography() {
    use rustls::crypto::{CryptoProvider, ring};
    if CryptoProvider::get_default().is_none()
        && ring::default_provider().install_default().is_err()
    {
        log::debug!("the application chose its cryptography at this moment");
    }
}
