//! Where a store's Redis is, and how it is made.

use std::{error::Error, fmt, time::Duration};

#[cfg(feature = "redis-cluster")]
use deadpool_redis::cluster;
use deadpool_redis::{
    Config, ConnectionInfo as ConfigInfo, Manager, Pool, PoolConfig, Runtime,
    redis::{ConnectionInfo, IntoConnectionInfo, io::tcp::TcpSettings},
};
#[cfg(feature = "redis-sentinel")]
use deadpool_redis::{redis::sentinel::SentinelClient, sentinel};

use super::{
    RedisStore,
    connection::{Announcer, Connector, Pools},
};

/// Where Redis is: a URL, or a configuration or a pool of `deadpool-redis`.
///
/// | URL | is |
/// |---|---|
/// | `redis://[name:password@]host[:port][/number]` | one server; `rediss://` by TLS (feature `redis-rustls` or `redis-native-tls`), `redis+unix:///path` by a socket |
/// | `redis-cluster://host:port,host:port` | a Cluster, by some of its servers (feature `redis-cluster`) |
/// | `redis-sentinel://host:port,host:port/name` | the primary called `name`, by Sentinels (feature `redis-sentinel`) |
///
/// The last two are `rediss-cluster` and `rediss-sentinel` by TLS, and may have a name and a password
/// before each host.
///
/// From a pool, connections are taken for good: one for each worker thread and one more for its
/// writes. Where a pool leads is not known, so announcements of invalidations are not heard: see
/// [`TieredStore`](crate::TieredStore).
pub struct RedisSource(Result<Connector, RedisStoreError>);

impl fmt::Debug for RedisSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSource").finish_non_exhaustive()
    }
}

impl RedisSource {
    fn parse(url: &str) -> Result<Connector, RedisStoreError> {
        let (scheme, rest) = url.split_once("://").ok_or(RedisStoreError::Url)?;
        match scheme {
            "redis-cluster" | "rediss-cluster" => cluster_at(scheme, rest),
            "redis-sentinel" | "rediss-sentinel" => sentinel_at(scheme, rest),
            _ => one(info(url)?, PoolConfig::default()),
        }
    }
}

/// The settings of one server's connections. Without Nagle's algorithm: what is sent is always a
/// whole question.
fn info(url: impl IntoConnectionInfo) -> Result<ConnectionInfo, RedisStoreError> {
    let info = url.into_connection_info().map_err(|_| RedisStoreError::Url)?;
    Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

fn one(info: ConnectionInfo, config: PoolConfig) -> Result<Connector, RedisStoreError> {
    let manager = Manager::new(info.clone()).map_err(|_| RedisStoreError::Url)?;
    let pool = Pool::builder(manager).config(config).runtime(Runtime::Tokio1).build();
    let pool = pool.map_err(|_| RedisStoreError::Pool)?;
    Ok(Connector { pools: Pools::One(pool), announcer: Announcer::Servers(vec![info]) })
}

/// The URLs of several hosts that share a scheme.
#[cfg(any(feature = "redis-cluster", feature = "redis-sentinel"))]
fn hosts(scheme: &str, rest: &str) -> Vec<String> {
    let scheme = if scheme.starts_with("rediss") { "rediss" } else { "redis" };
    let hosts = rest.split(',').filter(|host| !host.is_empty());
    hosts.map(|host| format!("{scheme}://{host}")).collect()
}

#[cfg(feature = "redis-cluster")]
fn cluster_at(scheme: &str, rest: &str) -> Result<Connector, RedisStoreError> {
    RedisSource::from(cluster::Config::from_urls(hosts(scheme, rest))).0
}

#[cfg(not(feature = "redis-cluster"))]
const fn cluster_at(_: &str, _: &str) -> Result<Connector, RedisStoreError> {
    Err(RedisStoreError::Feature("redis-cluster"))
}

#[cfg(feature = "redis-sentinel")]
fn sentinel_at(scheme: &str, rest: &str) -> Result<Connector, RedisStoreError> {
    let (list, name) = rest.rsplit_once('/').ok_or(RedisStoreError::Url)?;
    let primary = sentinel::SentinelServerType::Master;
    let config = sentinel::Config::from_urls(hosts(scheme, list), name.to_owned(), primary);
    RedisSource::from(config).0
}

#[cfg(not(feature = "redis-sentinel"))]
const fn sentinel_at(_: &str, _: &str) -> Result<Connector, RedisStoreError> {
    Err(RedisStoreError::Feature("redis-sentinel"))
}

impl From<&str> for RedisSource {
    fn from(url: &str) -> Self {
        Self(Self::parse(url))
    }
}

impl From<String> for RedisSource {
    fn from(url: String) -> Self {
        Self(Self::parse(&url))
    }
}

impl From<&String> for RedisSource {
    fn from(url: &String) -> Self {
        Self(Self::parse(url))
    }
}

impl From<Config> for RedisSource {
    fn from(config: Config) -> Self {
        let pool = config.get_pool_config();
        let info = match (config.url, config.connection) {
            (Some(url), None) => info(url),
            (None, Some(server)) => info(server),
            (None, None) => info(ConfigInfo::default()),
            (Some(_), Some(_)) => Err(RedisStoreError::Url),
        };
        Self(info.and_then(|info| one(info, pool)))
    }
}

impl From<Pool> for RedisSource {
    fn from(pool: Pool) -> Self {
        Self(Ok(Connector { pools: Pools::One(pool), announcer: Announcer::Unknown }))
    }
}

#[cfg(feature = "redis-cluster")]
impl From<cluster::Config> for RedisSource {
    fn from(config: cluster::Config) -> Self {
        let servers: Result<Vec<_>, _> = match (&config.urls, &config.connections) {
            (Some(urls), None) => urls.iter().map(|url| info(url.as_str())).collect(),
            (None, Some(servers)) => servers.iter().cloned().map(info).collect(),
            (None, None) | (Some(_), Some(_)) => Err(RedisStoreError::Url),
        };
        Self(servers.and_then(|servers| {
            if servers.is_empty() {
                return Err(RedisStoreError::Url);
            }
            // A replica does not know yet what was invalidated last.
            let manager = cluster::Manager::new(servers.clone(), false);
            let manager = manager.map_err(|_| RedisStoreError::Url)?;
            let pool = cluster::Pool::builder(manager).config(config.pool.unwrap_or_default());
            let pool = pool.runtime(Runtime::Tokio1).build().map_err(|_| RedisStoreError::Pool)?;
            Ok(Connector { pools: Pools::Cluster(pool), announcer: Announcer::Servers(servers) })
        }))
    }
}

#[cfg(feature = "redis-cluster")]
impl From<cluster::Pool> for RedisSource {
    fn from(pool: cluster::Pool) -> Self {
        Self(Ok(Connector { pools: Pools::Cluster(pool), announcer: Announcer::Unknown }))
    }
}

#[cfg(feature = "redis-sentinel")]
impl From<sentinel::Config> for RedisSource {
    fn from(mut config: sentinel::Config) -> Self {
        config.server_type = sentinel::SentinelServerType::Master;
        let pool = config.create_pool(Some(Runtime::Tokio1)).map_err(|_| RedisStoreError::Url);
        Self(pool.map(|pool| {
            let sentinels = move || {
                let servers: Vec<ConnectionInfo> = match (&config.urls, &config.connections) {
                    (Some(urls), _) => urls
                        .iter()
                        .map(|url| url.as_str().into_connection_info())
                        .collect::<Result<_, _>>()?,
                    (None, Some(servers)) => {
                        servers.iter().cloned().map(ConnectionInfo::from).collect()
                    }
                    (None, None) => Vec::new(),
                };
                SentinelClient::build(
                    servers,
                    config.master_name.clone(),
                    config.node_connection_info.clone().map(Into::into),
                    config.server_type.into(),
                )
            };
            let announcer = Announcer::Sentinels(Box::new(sentinels));
            Connector { pools: Pools::Sentinel(pool), announcer }
        }))
    }
}

#[cfg(feature = "redis-sentinel")]
impl From<sentinel::Pool> for RedisSource {
    fn from(pool: sentinel::Pool) -> Self {
        Self(Ok(Connector { pools: Pools::Sentinel(pool), announcer: Announcer::Unknown }))
    }
}

/// Makes a [`RedisStore`].
#[derive(Debug)]
#[must_use]
pub struct RedisStoreBuilder {
    source: RedisSource,
    namespace: String,
    max_record: usize,
    lease: Option<Duration>,
}

impl RedisStoreBuilder {
    pub(super) fn new(source: RedisSource) -> Self {
        Self {
            source,
            namespace: "actix-web-cache".to_owned(),
            max_record: 16 * 1024 * 1024,
            lease: None,
        }
    }

    /// What the names of all its keys in Redis begin with: stores of one namespace share everything,
    /// of several nothing. Default `actix-web-cache`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Bytes that one response may take in Redis, its fields included. Default 16 MiB.
    pub const fn max_record(mut self, bytes: usize) -> Self {
        self.max_record = bytes;
        self
    }

    /// Lets one process alone, of all that share the store, ask the handler for what is not stored;
    /// the others wait for its answer, as requests of one process do for each other's.
    ///
    /// `lease` is how long the one may take before another asks, too: a little more than the
    /// handlers do. One that dies with its process delays the others for no longer than that; none
    /// waits for longer than [`Policy::wait_limit`](crate::Policy::wait_limit). It costs each miss two
    /// round trips. Not used by default. `docs/concurrent-requests.md` in the repository tells who waits
    /// for what.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Makes the store. Nothing is connected before the first request.
    ///
    /// With the feature `redis-rustls` this makes ring the process's crypto provider, unless there is one
    /// by then: an application that wants another installs it before.
    ///
    /// # Errors
    ///
    /// If the source cannot be understood, or the configuration makes no sense.
    pub fn build(self) -> Result<RedisStore, RedisStoreError> {
        let connector = self.source.0?;
        if self.namespace.is_empty() || self.namespace.contains(['{', '}']) {
            return Err(RedisStoreError::Namespace);
        }
        if self.lease.is_some_and(|lease| lease < Duration::from_millis(1)) {
            return Err(RedisStoreError::Lease);
        }
        #[cfg(feature = "redis-rustls")]
        super::connection::choose_cryptography();
        Ok(RedisStore::make(connector, &self.namespace, self.max_record, self.lease))
    }
}

/// A [`RedisStore`] cannot be made like this.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RedisStoreError {
    /// The URL or the configuration cannot be understood. It is not shown, for it may hold a
    /// password.
    Url,
    /// The pool cannot be made.
    Pool,
    /// The URL asks for what is not compiled in.
    Feature(&'static str),
    /// The namespace is empty, or has a brace.
    Namespace,
    /// The lease is too short to be one.
    Lease,
}

impl fmt::Display for RedisStoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url => f.write_str(
                "this is no way to Redis: use redis://host:port, redis-cluster://host:port,… or \
                 redis-sentinel://host:port,…/name (rediss by TLS, which is a feature of its own)",
            ),
            Self::Pool => f.write_str("the pool's configuration contradicts itself"),
            Self::Feature(feature) => {
                write!(f, "this URL needs the feature {feature} of actix-web-cache")
            }
            Self::Namespace => f.write_str(
                "a namespace in Redis is not empty and has no braces, which mean something to a \
                 Cluster",
            ),
            Self::Lease => f.write_str("a lease lasts as long as handlers take: at least 1 ms"),
        }
    }
}

impl Error for RedisStoreError {}
