//! The address of a Redis server, Cluster or group of Sentinels, with credentials and certificates.

use std::{fmt, str::FromStr};

#[cfg(any(feature = "redis-cluster", feature = "redis-sentinel", feature = "redis-rustls"))]
use deadpool_redis::redis::ConnectionAddr;
use deadpool_redis::redis::{
    ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, io::tcp::TcpSettings,
};

use super::error::RedisStoreError;
#[cfg(feature = "redis-rustls")]
use super::tls::TlsCertificateSettings;

/// The address of a Redis server, a Cluster, or the Sentinels that watch a primary.
///
/// `parse`, `try_from` and [`RedisStore::new`](crate::RedisStore::new) make a source from one of
/// these URLs:
///
/// | URL | server |
/// |---|---|
/// | `redis://[user:password@]host[:port][/database]` | one server, port 6379 by default |
/// | `redis+unix:///path` | one server, through a Unix socket |
/// | `redis-cluster://host:port,host:port` | a Cluster, found through these nodes (feature `redis-cluster`) |
/// | `redis-sentinel://host:port,host:port/primary` | the primary of this name, found through these Sentinels (feature `redis-sentinel`) |
///
/// The schemes `rediss`, `rediss-cluster` and `rediss-sentinel` connect by TLS (feature
/// `redis-rustls` or `redis-native-tls`). `rediss-sentinel` uses TLS both for the Sentinels and for
/// the primary. If a URL has several hosts, write `user:password@` before each host.
///
/// Use the methods to set values that a URL cannot hold, such as a password with a slash:
///
/// ```
/// use actix_web_cache::redis::{RedisSource, RedisStoreError};
///
/// # fn main() -> Result<(), RedisStoreError> {
/// let source: RedisSource = "redis://127.0.0.1:6379".parse()?;
/// let source = source.username("cache").password("p@ss/word").database(3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedisSource {
    pub(super) servers: Servers,
    username: Option<String>,
    password: Option<String>,
    database: Option<u16>,
    #[cfg(feature = "redis-rustls")]
    pub(super) certificates: TlsCertificateSettings,
}

/// The addresses of a [`RedisSource`].
#[derive(Clone)]
pub(super) enum Servers {
    Single(ConnectionInfo),
    /// At least one node of a Cluster.
    #[cfg(feature = "redis-cluster")]
    Cluster(Vec<ConnectionInfo>),
    /// At least one Sentinel, all with the same credentials, and the name of the primary.
    #[cfg(feature = "redis-sentinel")]
    Sentinels {
        sentinels: Vec<ConnectionInfo>,
        primary: String,
    },
}

impl RedisSource {
    /// Makes the source of a Cluster. `nodes` are the `redis://` or `rediss://` URLs of some nodes
    /// of the Cluster.
    ///
    /// # Errors
    ///
    /// [`RedisStoreError::InvalidUrl`] if there is no URL, or if a URL is invalid or names a Unix
    /// socket.
    #[cfg(feature = "redis-cluster")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis-cluster")))]
    pub fn cluster<U: AsRef<str>>(
        nodes: impl IntoIterator<Item = U>,
    ) -> Result<Self, RedisStoreError> {
        Ok(Self::with_servers(Servers::Cluster(parse_hosts(nodes)?)))
    }

    /// Makes the source of the primary with the name `primary`. `sentinels` are the `redis://` or
    /// `rediss://` URLs of the Sentinels that watch the primary.
    ///
    /// All URLs must have the same user and password, which are for the Sentinels. Set the
    /// credentials and the database of the primary by [`username`](Self::username),
    /// [`password`](Self::password) and [`database`](Self::database). If the URLs use TLS, the
    /// connection to the primary uses TLS too.
    ///
    /// # Errors
    ///
    /// [`RedisStoreError::InvalidUrl`] if there is no URL, `primary` is empty, a URL is invalid or
    /// names a Unix socket, or the URLs differ in their credentials or in the use of TLS.
    #[cfg(feature = "redis-sentinel")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis-sentinel")))]
    pub fn sentinel<U: AsRef<str>>(
        sentinels: impl IntoIterator<Item = U>,
        primary: impl Into<String>,
    ) -> Result<Self, RedisStoreError> {
        let (sentinels, primary) = (parse_hosts(sentinels)?, primary.into());
        let settings = |sentinel: &ConnectionInfo| {
            let settings = sentinel.redis_settings();
            let (username, password) = (settings.username(), settings.password());
            (username.map(str::to_owned), password.map(str::to_owned), uses_tls(sentinel))
        };
        let first = sentinels.first().map(settings);
        let agree = sentinels.iter().all(|sentinel| Some(settings(sentinel)) == first);
        if primary.is_empty() || !agree {
            return Err(RedisStoreError::InvalidUrl);
        }
        Ok(Self::with_servers(Servers::Sentinels { sentinels, primary }))
    }

    /// Sets the user name for the login, in place of the user name in the URL.
    #[must_use]
    pub fn username(mut self, username: impl Into<String>) -> Self {
        self.username = Some(username.into());
        self
    }

    /// Sets the password for the login, in place of the password in the URL.
    #[must_use]
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the number of the database, in place of the number in the URL. Default 0.
    #[must_use]
    pub const fn database(mut self, database: u16) -> Self {
        self.database = Some(database);
        self
    }

    /// Sets the root certificates to trust, in PEM format, in place of the system's root
    /// certificates.
    ///
    /// `RedisStoreBuilder::build` checks the certificates.
    #[cfg(feature = "redis-rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis-rustls")))]
    #[must_use]
    pub fn root_certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates.roots = Some(pem.into());
        self
    }

    /// Sets the certificate chain that the store presents to the server, and the private key of the
    /// certificate. Both are in PEM format.
    ///
    /// `RedisStoreBuilder::build` checks the certificates.
    #[cfg(feature = "redis-rustls")]
    #[cfg_attr(docsrs, doc(cfg(feature = "redis-rustls")))]
    #[must_use]
    pub fn client_certificate(
        mut self,
        chain_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> Self {
        self.certificates.client = Some((chain_pem.into(), key_pem.into()));
        self
    }

    fn with_servers(servers: Servers) -> Self {
        Self {
            servers,
            username: None,
            password: None,
            database: None,
            #[cfg(feature = "redis-rustls")]
            certificates: TlsCertificateSettings::default(),
        }
    }

    /// Returns whether the source connects by TLS.
    #[cfg(feature = "redis-rustls")]
    pub(super) fn uses_tls(&self) -> bool {
        match &self.servers {
            Servers::Single(server) => uses_tls(server),
            #[cfg(feature = "redis-cluster")]
            Servers::Cluster(nodes) => nodes.iter().any(uses_tls),
            #[cfg(feature = "redis-sentinel")]
            Servers::Sentinels { sentinels, .. } => sentinels.iter().any(uses_tls),
        }
    }

    /// Returns the user, password and database for a server that holds data (not a Sentinel).
    /// `of_url` has the values of the URL. Values that methods of the source have set replace them.
    pub(super) fn data_settings(&self, of_url: RedisConnectionInfo) -> RedisConnectionInfo {
        let mut settings = of_url;
        if let Some(username) = &self.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.password {
            settings = settings.set_password(password);
        }
        if let Some(database) = self.database {
            settings = settings.set_db(database.into());
        }
        settings
    }
}

impl fmt::Debug for RedisSource {
    /// Shows only the kind of the source, because its passwords are secret, and its addresses may
    /// be secret, too.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.servers {
            Servers::Single(_) => "single server",
            #[cfg(feature = "redis-cluster")]
            Servers::Cluster(_) => "cluster",
            #[cfg(feature = "redis-sentinel")]
            Servers::Sentinels { .. } => "sentinels",
        };
        f.debug_tuple("RedisSource").field(&kind).finish()
    }
}

impl FromStr for RedisSource {
    type Err = RedisStoreError;

    fn from_str(url: &str) -> Result<Self, RedisStoreError> {
        let (scheme, hosts) = url.split_once("://").ok_or(RedisStoreError::InvalidUrl)?;
        match scheme {
            "redis-cluster" | "rediss-cluster" => parse_cluster(scheme, hosts),
            "redis-sentinel" | "rediss-sentinel" => parse_sentinel(scheme, hosts),
            _ => Ok(Self::with_servers(Servers::Single(parse_host(url)?))),
        }
    }
}

impl TryFrom<&str> for RedisSource {
    type Error = RedisStoreError;

    fn try_from(url: &str) -> Result<Self, RedisStoreError> {
        url.parse()
    }
}

impl TryFrom<String> for RedisSource {
    type Error = RedisStoreError;

    fn try_from(url: String) -> Result<Self, RedisStoreError> {
        url.parse()
    }
}

impl TryFrom<&String> for RedisSource {
    type Error = RedisStoreError;

    fn try_from(url: &String) -> Result<Self, RedisStoreError> {
        url.parse()
    }
}

/// Returns TCP settings without Nagle's algorithm. Each write is a complete command, so delaying a
/// write to add more data would only cost time.
pub(super) fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// Parses the URL of one server.
fn parse_host(url: &str) -> Result<ConnectionInfo, RedisStoreError> {
    let is_tls = url.starts_with("rediss://") || url.starts_with("valkeys://");
    if is_tls && !cfg!(any(feature = "redis-rustls", feature = "redis-native-tls")) {
        return Err(RedisStoreError::MissingFeature("redis-rustls"));
    }
    // The error of the client library may contain the URL with its password, so replace the error.
    let server = url.into_connection_info().map_err(|_| RedisStoreError::InvalidUrl)?;
    Ok(server.set_tcp_settings(tcp_settings()))
}

#[cfg(any(feature = "redis-cluster", feature = "redis-sentinel"))]
fn parse_hosts<U: AsRef<str>>(
    urls: impl IntoIterator<Item = U>,
) -> Result<Vec<ConnectionInfo>, RedisStoreError> {
    let hosts: Vec<_> =
        urls.into_iter().map(|url| parse_host(url.as_ref())).collect::<Result<_, _>>()?;
    let has_socket = hosts.iter().any(|host| matches!(host.addr(), ConnectionAddr::Unix(_)));
    if hosts.is_empty() || has_socket {
        return Err(RedisStoreError::InvalidUrl);
    }
    Ok(hosts)
}

/// Splits `host:port,host:port` into one URL for each host.
#[cfg(any(feature = "redis-cluster", feature = "redis-sentinel"))]
fn split_hosts(scheme: &str, hosts: &str) -> Vec<String> {
    let scheme = if scheme.starts_with("rediss") { "rediss" } else { "redis" };
    let hosts = hosts.split(',').filter(|host| !host.is_empty());
    hosts.map(|host| format!("{scheme}://{host}")).collect()
}

#[cfg(feature = "redis-cluster")]
fn parse_cluster(scheme: &str, hosts: &str) -> Result<RedisSource, RedisStoreError> {
    RedisSource::cluster(split_hosts(scheme, hosts))
}

#[cfg(not(feature = "redis-cluster"))]
const fn parse_cluster(_: &str, _: &str) -> Result<RedisSource, RedisStoreError> {
    Err(RedisStoreError::MissingFeature("redis-cluster"))
}

#[cfg(feature = "redis-sentinel")]
fn parse_sentinel(scheme: &str, rest: &str) -> Result<RedisSource, RedisStoreError> {
    let (hosts, primary) = rest.rsplit_once('/').ok_or(RedisStoreError::InvalidUrl)?;
    RedisSource::sentinel(split_hosts(scheme, hosts), primary)
}

#[cfg(not(feature = "redis-sentinel"))]
const fn parse_sentinel(_: &str, _: &str) -> Result<RedisSource, RedisStoreError> {
    Err(RedisStoreError::MissingFeature("redis-sentinel"))
}

#[cfg(any(feature = "redis-sentinel", feature = "redis-rustls"))]
fn uses_tls(server: &ConnectionInfo) -> bool {
    matches!(server.addr(), ConnectionAddr::TcpTls { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<RedisSource, RedisStoreError> {
        url.parse()
    }

    #[test]
    fn invalid_url_is_refused_without_showing_its_password() {
        for url in
            ["", "127.0.0.1:6379", "http://h/", "redis://:secret@h:port/", "redis://h/not-a-number"]
        {
            let error = parse(url).unwrap_err();
            assert_eq!(error, RedisStoreError::InvalidUrl, "{url}");
            let text = error.to_string();
            assert!(text.starts_with("invalid Redis URL: expected redis://"), "{text}");
        }
        let source = parse("redis://user:secret@host/").unwrap();
        assert!(!format!("{source:?}").contains("secret"));
    }

    #[test]
    fn url_of_a_missing_feature_names_the_feature() {
        for (url, feature, is_enabled) in [
            ("redis-cluster://h:1", "redis-cluster", cfg!(feature = "redis-cluster")),
            ("redis-sentinel://h:1/p", "redis-sentinel", cfg!(feature = "redis-sentinel")),
            (
                "rediss://h",
                "redis-rustls",
                cfg!(any(feature = "redis-rustls", feature = "redis-native-tls")),
            ),
        ] {
            let error =
                if is_enabled { None } else { Some(RedisStoreError::MissingFeature(feature)) };
            assert_eq!(parse(url).err(), error, "{url}");
        }
    }

    #[test]
    fn settings_of_methods_replace_those_of_the_url() {
        let source = parse("redis://user:old@host/2").unwrap();
        #[cfg_attr(
            not(any(feature = "redis-cluster", feature = "redis-sentinel")),
            expect(irrefutable_let_patterns, reason = "all sources are of one server")
        )]
        let Servers::Single(server) = source.servers.clone() else { panic!("{source:?}") };
        let settings = source.data_settings(server.redis_settings().clone());
        let read = |settings: &RedisConnectionInfo| {
            (
                settings.username().map(str::to_owned),
                settings.password().map(str::to_owned),
                settings.db(),
            )
        };
        assert_eq!(read(&settings), (Some("user".to_owned()), Some("old".to_owned()), 2));
        let source = source.username("name").password("p@ss/word").database(3);
        let settings = source.data_settings(settings);
        assert_eq!(read(&settings), (Some("name".to_owned()), Some("p@ss/word".to_owned()), 3));
    }

    #[test]
    #[cfg(all(feature = "redis-cluster", feature = "redis-sentinel"))]
    fn sources_of_several_hosts_need_hosts_that_agree() {
        for url in
            ["redis-cluster://a:1,b:2", "redis-sentinel://a:1,b/p", "redis-sentinel://:x@a,:x@b/p"]
        {
            assert!(parse(url).is_ok(), "{url}");
        }
        for url in [
            "redis-cluster://",
            "redis-sentinel://a",
            "redis-sentinel://a/",
            "redis-sentinel:///p",
            "redis-sentinel://:x@a,:y@b/p",
        ] {
            assert_eq!(parse(url).err(), Some(RedisStoreError::InvalidUrl), "{url}");
        }
        assert!(RedisSource::cluster(["redis+unix:///x"]).is_err());
    }
}
