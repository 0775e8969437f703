//! Real Redis servers. Each has a port and a directory of its own. Dropping a server ends it.

mod cluster;
mod process;
mod sentinel;
mod wire;

use std::{
    collections::BTreeMap,
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Mutex, MutexGuard},
};

use tempfile::TempDir;

use self::process::Process;
pub(crate) use self::{
    cluster::RedisCluster,
    sentinel::RedisSentinel,
    wire::{RedisReply, RedisWire},
};
use super::{block_until, free_port};

/// A server that keeps its data in memory only.
pub(crate) struct RedisServer {
    addr: SocketAddr,
    args: Vec<String>,
    process: Mutex<Process>,
    dir: TempDir,
    /// The address for TLS connections, if TLS is enabled.
    tls: Option<SocketAddr>,
}

/// Writes a certificate and its key to files and returns their paths.
fn write_pair(dir: &Path, certificate: &str, key: &str) -> [String; 2] {
    [("certificate.pem", certificate), ("key.pem", key)].map(|(name, text)| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    })
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Starts a server with further arguments, such as `["--maxmemory", "2mb"]`.
    pub(crate) fn with(more: &[&str]) -> Self {
        Self::launch(|_, _| {
            let settings = ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"];
            settings.iter().chain(more).map(|&arg| arg.to_owned()).collect()
        })
    }

    /// Starts a server that also accepts TLS connections, with this certificate.
    pub(crate) fn with_tls(certificate: &str, key: &str) -> Self {
        let mut tls = 0;
        let mut server = Self::launch(|_, dir| {
            tls = free_port();
            let [certificate, key] = write_pair(dir, certificate, key);
            // Redis requires a CA even if it asks clients for no certificate.
            let settings = [
                ["--save", ""],
                ["--tls-port", &tls.to_string()],
                ["--tls-cert-file", &certificate],
                ["--tls-key-file", &key],
                ["--tls-ca-cert-file", &certificate],
                ["--tls-auth-clients", "no"],
            ];
            settings.as_flattened().iter().map(|&arg| arg.to_owned()).collect()
        });
        server.tls = Some((Ipv4Addr::LOCALHOST, tls).into());
        server
    }

    /// Replaces the certificate for new connections.
    pub(crate) fn certify(&self, certificate: &str, key: &str) {
        let [certificate, key] = write_pair(self.dir.path(), certificate, key);
        let pair = ["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key];
        assert_eq!(self.command(&pair), "OK");
    }

    pub(crate) fn tls_addr(&self) -> SocketAddr {
        self.tls.expect("a server with TLS")
    }

    /// Starts a server with the arguments that `args` returns for a port and a directory.
    fn launch(mut args: impl FnMut(u16, &Path) -> Vec<String>) -> Self {
        let mut log = String::new();
        // Another process may take the port first.
        for _ in 0..5 {
            let dir = TempDir::with_prefix("redis").unwrap();
            let port = free_port();
            let mut all = args(port, dir.path());
            let place = dir.path().to_string_lossy().into_owned();
            for arg in ["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir", &place] {
                all.push(arg.to_owned());
            }
            let addr = (Ipv4Addr::LOCALHOST, port).into();
            let mut process = Process::start(&all, dir.path());
            if is_up(addr, &mut process) {
                return Self { addr, args: all, process: process.into(), dir, tls: None };
            }
            log = process::log(dir.path());
        }
        panic!("the server ends at once:\n{log}");
    }

    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) const fn port(&self) -> u16 {
        self.addr.port()
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}/", self.addr)
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap()
    }

    /// Suspends the process: its connections stay open, and it does not reply.
    pub(crate) fn freeze(&self) {
        self.process().freeze();
    }

    pub(crate) fn thaw(&self) {
        self.process().thaw();
    }

    /// Kills the process, as in a crash.
    pub(crate) fn kill(&self) {
        self.process().kill();
    }

    /// Kills the process and starts it again, with the same port and without data. Cluster nodes and
    /// Sentinels keep their knowledge of the others.
    pub(crate) fn restart(&self) {
        let mut process = self.process();
        process.kill();
        *process = Process::start(&self.args, self.dir.path());
        assert!(is_up(self.addr, &mut process), "no restart:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        process::log(self.dir.path())
    }

    /// Opens a connection for commands of the test.
    pub(crate) fn wire(&self) -> RedisWire {
        RedisWire::open(self.addr).unwrap()
    }

    /// Sends a command on a new connection and returns the text of the reply. Panics if that is an error.
    pub(crate) fn command(&self, command: &[impl AsRef<[u8]>]) -> String {
        self.wire().command(command)
    }

    /// Sends a command on a new connection and returns the reply, which may be an error.
    pub(crate) fn ask(&self, command: &[impl AsRef<[u8]>]) -> io::Result<RedisReply> {
        RedisWire::open(self.addr)?.ask(command)
    }

    /// The number of calls by command name, such as `get` or `config|set`, including calls in scripts and
    /// without the `INFO` of this function.
    pub(crate) fn calls(&self) -> BTreeMap<String, u64> {
        let count = |line: &str| {
            let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), numbers.split(',').next()?.parse().ok()?))
        };
        let stats = self.command(&["INFO", "commandstats"]);
        stats.lines().filter_map(count).filter(|(name, _)| name != "info").collect()
    }

    /// Resets the counts of [`calls`](Self::calls).
    pub(crate) fn forget_calls(&self) {
        self.command(&["CONFIG", "RESETSTAT"]);
    }

    /// Begins to record all commands.
    pub(crate) fn monitor(&self) -> RedisMonitor<'_> {
        let mut wire = self.wire();
        wire.command(&["MONITOR"]);
        RedisMonitor { server: self, wire }
    }

    /// The value of a line of `INFO`. Also `None` if the server does not reply, for example while it
    /// changes its role.
    pub(crate) fn info(&self, name: &str) -> Option<String> {
        info_of(&self.ask(&["INFO"]).ok()?.to_string(), name)
    }
}

/// A record of all commands that a server receives.
pub(crate) struct RedisMonitor<'a> {
    server: &'a RedisServer,
    wire: RedisWire,
}

impl RedisMonitor<'_> {
    /// The commands since the last call, each as `"GET" "key"`; those in scripts begin with `lua`.
    pub(crate) fn so_far(&mut self) -> Vec<String> {
        const MARK: &str = "end of the monitored commands";
        self.server.command(&["ECHO", MARK]);
        let mut commands = Vec::new();
        loop {
            let line = self.wire.receive().unwrap().to_string();
            // The prefix has the time and the client: `1700000000.000001 [0 127.0.0.1:5] `.
            let (prefix, command) = line.split_once("] ").expect("a line of MONITOR");
            if command.contains(MARK) {
                return commands;
            }
            // Of a command of a script, the prefix has `lua` in place of the client.
            let script = if prefix.ends_with(" lua") { "lua " } else { "" };
            commands.push(format!("{script}{command}"));
        }
    }
}

/// Waits until the server replies. Returns false if the process has ended.
fn is_up(addr: SocketAddr, process: &mut Process) -> bool {
    // The server of another process may listen on this port.
    let expected = Some(process.id().to_string());
    let mut up = false;
    block_until("the server answers", || {
        let info = RedisWire::open(addr).and_then(|mut wire| wire.ask(&["INFO", "server"]));
        up = info.is_ok_and(|info| info_of(&info.to_string(), "process_id") == expected);
        up || process.has_ended()
    });
    up
}

fn info_of(info: &str, name: &str) -> Option<String> {
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned());
    info.lines().find_map(value)
}
