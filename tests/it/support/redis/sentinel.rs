//! A master, its replica, and a Sentinel that watches over them.

use std::fs;

use super::{super::within, RedisServer};

/// Two servers, one of which is the master, and one Sentinel, whose word is enough.
pub(crate) struct RedisSentinel {
    servers: [RedisServer; 2],
    sentinel: RedisServer,
}

impl RedisSentinel {
    /// What the Sentinel calls its master.
    pub(crate) const MASTER: &str = "mymaster";

    pub(crate) fn start() -> Self {
        const SETTINGS: [&str; 2] = ["--repl-diskless-sync-delay", "0"];
        let master = RedisServer::with(&SETTINGS);
        let replica = RedisServer::with(&SETTINGS);
        let port = master.port().to_string();
        replica.command(&["REPLICAOF", "127.0.0.1", &port]);
        within("the replica follows", || {
            replica.info("master_link_status").as_deref() == Some("up")
        });
        let sentinel = RedisServer::launch(|_, dir| {
            let name = Self::MASTER;
            let settings = format!(
                "sentinel monitor {name} 127.0.0.1 {port} 1\n\
                 sentinel down-after-milliseconds {name} 500\n\
                 sentinel failover-timeout {name} 3000\n"
            );
            let file = dir.join("sentinel.conf");
            fs::write(&file, settings).unwrap();
            vec![file.to_string_lossy().into_owned(), "--sentinel".to_owned()]
        });
        // Else it takes ten seconds to notice a replica, and eight to set a former master right.
        for period in ["info-period", "publish-period", "ping-period"] {
            sentinel.command(&["SENTINEL", "DEBUG", period, "100"]);
        }
        let house = Self { servers: [master, replica], sentinel };
        within("the Sentinel knows the replica", || {
            let replicas = house.sentinel.command(&["SENTINEL", "REPLICAS", Self::MASTER]);
            replicas.contains("master-link-status\nok")
        });
        house
    }

    pub(crate) const fn sentinel(&self) -> &RedisServer {
        &self.sentinel
    }

    pub(crate) fn sentinel_url(&self) -> String {
        self.sentinel.url()
    }

    /// The server that the Sentinel calls the master.
    pub(crate) fn master(&self) -> &RedisServer {
        &self.servers[self.master_index()]
    }

    /// The other one, be it a replica already or not.
    pub(crate) fn other(&self) -> &RedisServer {
        &self.servers[1 - self.master_index()]
    }

    fn master_index(&self) -> usize {
        let told = self.sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::MASTER]);
        let port = told.lines().last().and_then(|port| port.parse().ok());
        self.servers.iter().position(|server| Some(server.port()) == port).expect("a master")
    }

    /// Makes the other server the master, and waits until it is. The former master takes a moment
    /// longer to become a replica.
    pub(crate) fn failover(&self) {
        let former = self.master().port();
        within("the Sentinel agrees", || {
            self.sentinel.ask(&["SENTINEL", "FAILOVER", Self::MASTER]).unwrap().accepted().is_ok()
        });
        self.await_master_after(former);
    }

    /// Waits until the master is not the server at this port any more, as it is after a failover
    /// that the Sentinel has begun of itself.
    pub(crate) fn await_master_after(&self, former: u16) {
        within("another server is the master", || {
            let master = self.master();
            master.port() != former && master.info("role").as_deref() == Some("master")
        });
    }
}
