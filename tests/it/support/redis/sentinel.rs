//! A Redis master, its replica, and a Sentinel.

use std::{fs, io};

use super::{super::block_until, RedisServer};

/// Two servers, one of which is the master, and one Sentinel, which is a quorum.
pub(crate) struct RedisSentinel {
    servers: [RedisServer; 2],
    sentinel: RedisServer,
}

impl RedisSentinel {
    /// The name of the master in the Sentinel's configuration.
    pub(crate) const MASTER: &str = "mymaster";

    pub(crate) fn start() -> Self {
        const SETTINGS: [&str; 2] = ["--repl-diskless-sync-delay", "0"];
        let master = RedisServer::with(&SETTINGS);
        let replica = RedisServer::with(&SETTINGS);
        let port = master.port().to_string();
        replica.command(&["REPLICAOF", "127.0.0.1", &port]);
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
        // By default a Sentinel takes ten seconds to notice a replica, eight to reconfigure a former
        // master, and thirty to leave TILT mode after a busy machine delayed it.
        let settings =
            [("info-period", "500"), ("publish-period", "100"), ("tilt-trigger", "20000")];
        for (setting, millis) in settings {
            sentinel.command(&["SENTINEL", "DEBUG", setting, millis]);
        }
        let setup = Self { servers: [master, replica], sentinel };
        setup.settle();
        setup
    }

    /// Waits until the other server replicates the master and the Sentinel knows it as a replica.
    pub(crate) fn settle(&self) {
        block_until("the Sentinel sees a connected replica", || {
            let replicas = self.ask(&["REPLICAS", Self::MASTER]).unwrap_or_default();
            let lines: Vec<_> = replicas.lines().collect();
            let master = self.master().port().to_string();
            let wanted = [
                ("flags", "slave"),
                ("role-reported", "slave"),
                ("master-link-status", "ok"),
                ("master-port", &master),
            ];
            wanted.iter().all(|&(name, value)| lines.chunks(2).any(|pair| pair == [name, value]))
                && self.other().info("master_link_status").as_deref() == Some("up")
        });
    }

    pub(crate) const fn sentinel(&self) -> &RedisServer {
        &self.sentinel
    }

    /// The server that is the master according to the Sentinel.
    pub(crate) fn master(&self) -> &RedisServer {
        &self.servers[self.master_index()]
    }

    /// The server that is not the master. After a failover it may not be a replica yet.
    pub(crate) fn other(&self) -> &RedisServer {
        &self.servers[1 - self.master_index()]
    }

    fn master_index(&self) -> usize {
        let reply = self.sentinel.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", Self::MASTER]);
        let port = reply.lines().last().and_then(|port| port.parse().ok());
        self.servers.iter().position(|server| Some(server.port()) == port).expect("a master")
    }

    fn ask(&self, command: &[&str]) -> io::Result<String> {
        let reply = self.sentinel.ask(&[&["SENTINEL"], command].concat())?;
        Ok(reply.accepted()?.to_string())
    }

    /// Makes the other server the master and waits until it is. The former master becomes a replica a
    /// little later; see [`Self::settle`].
    pub(crate) fn failover(&self) {
        let former = self.master().port();
        block_until("the Sentinel agrees", || self.ask(&["FAILOVER", Self::MASTER]).is_ok());
        self.await_master_after(former);
    }

    /// Waits until the server with this port is not the master any more, for example in a failover that
    /// the Sentinel begins.
    pub(crate) fn await_master_after(&self, former: u16) {
        block_until("another server is the master", || {
            let master = self.master();
            master.port() != former && master.info("role").as_deref() == Some("master")
        });
    }
}
