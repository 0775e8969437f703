//! The servers that are attacked: the cache over memory, over Redis, and in a reverse proxy.

use std::{env, io};

use crate::support::{Redis, Server};

pub(crate) const MIB: usize = 1024 * 1024;

/// The limit of the memory store, in bytes.
pub(crate) const STORE: usize = 64 * MIB;

/// The memory for bodies that are being stored.
const FILL_BUDGET: usize = 64 * MIB;

/// The environment variable with the Redis URL of a server.
pub(crate) const REDIS_URL: &str = "BENCH_REDIS_URL";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    Memory,
    Redis,
    /// The reverse proxy of the examples, with a memory store.
    Proxy,
}

/// A server, and the servers that it needs.
pub(crate) struct Site {
    pub(crate) server: Server,
    _redis: Option<Redis>,
    _origin: Option<Server>,
}

impl Setup {
    pub(crate) const ALL: [Self; 3] = [Self::Memory, Self::Redis, Self::Proxy];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
            Self::Proxy => "proxy",
        }
    }

    /// Returns the configured memory of the server in bytes.
    pub(crate) const fn configured(self) -> usize {
        match self {
            Self::Memory | Self::Proxy => STORE + FILL_BUDGET,
            Self::Redis => FILL_BUDGET,
        }
    }

    /// Returns the number of connections that the server has for each connection of a client.
    pub(crate) const fn connections_of_client(self) -> usize {
        match self {
            Self::Memory | Self::Redis => 1,
            Self::Proxy => 2,
        }
    }

    /// Starts the servers. Returns `None` for the reverse proxy if the arguments do not name its
    /// program.
    pub(crate) fn start(self) -> io::Result<Option<Site>> {
        Ok(match self {
            Self::Memory => {
                let server = Server::start("cached");
                Some(Site { server, _redis: None, _origin: None })
            }
            Self::Redis => {
                let redis = Redis::start()?;
                let server = Server::start_with("cached", &[(REDIS_URL, redis.url.clone())]);
                Some(Site { server, _redis: Some(redis), _origin: None })
            }
            Self::Proxy => {
                let program = env::args().skip_while(|argument| argument != "--proxy").nth(1);
                program.map(|program| {
                    let origin = Server::start("uncached");
                    let url = format!("http://{}", origin.addr);
                    let store = STORE.to_string();
                    let arguments = [
                        ["--listen", "127.0.0.1:0"],
                        ["--origin", &url],
                        ["--workers", "2"],
                        ["--memory-bytes", &store],
                    ];
                    let server = Server::run(&program, arguments.as_flattened());
                    Site { server, _redis: None, _origin: Some(origin) }
                })
            }
        })
    }
}
