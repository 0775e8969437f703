//! Real Redis servers, each with a port and a directory of its own, gone when dropped.

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
use super::{free_port, within};

/// A server that keeps its data in memory only.
pub(crate) struct RedisServer {
    addr: SocketAddr,
    args: Vec<String>,
    process: Mutex<Process>,
    dir: TempDir,
    /// Where it speaks TLS, if it does.
    tls: Option<SocketAddr>,
}

/// Writes a certificate and its key to files, and tells their names.
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

    /// With further arguments, such as `["--maxmemory", "2mb"]`.
    pub(crate) fn with(more: &[&str]) -> Self {
        Self::launch(|_, _| {
            let settings = ["--save", "", "--appendonly", "no", "--enable-debug-command", "yes"];
            settings.iter().chain(more).map(|&arg| arg.to_owned()).collect()
        })
    }

    /// One that speaks TLS too, and shows this certificate until [`certify`](Self::certify).
    pub(crate) fn with_tls(certificate: &str, key: &str) -> Self {
        let mut tls = 0;
        let mut server = Self::launch(|_, dir| {
            tls = free_port();
            let [certificate, key] = write_pair(dir, certificate, key);
            // Clients are asked for no certificate, and yet it wants to know whom it would trust.
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

    /// From now on it shows this certificate to who connects.
    pub(crate) fn certify(&self, certificate: &str, key: &str) {
        let [certificate, key] = write_pair(self.dir.path(), certificate, key);
        let pair = ["CONFIG", "SET", "tls-cert-file", &certificate, "tls-key-file", &key];
        assert_eq!(self.command(&pair), "OK");
    }

    pub(crate) fn tls_addr(&self) -> SocketAddr {
        self.tls.expect("a server with TLS")
    }

    /// By the arguments that suit a port and a directory.
    fn launch(mut args: impl FnMut(u16, &Path) -> Vec<String>) -> Self {
        let mut log = String::new();
        // Another process may be faster to take the port.
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

    /// Holds it still: it keeps its connections and answers none.
    pub(crate) fn freeze(&self) {
        self.process().freeze();
    }

    pub(crate) fn thaw(&self) {
        self.process().thaw();
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&self) {
        self.process().kill();
    }

    /// Starts it again, after its end or in its stead: at the same port, with nothing in it.
    /// What a cluster's node or a Sentinel knows of the others it still knows.
    pub(crate) fn restart(&self) {
        let mut process = self.process();
        process.kill();
        *process = Process::start(&self.args, self.dir.path());
        assert!(is_up(self.addr, &mut process), "no restart:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        process::log(self.dir.path())
    }

    /// A connection of the test's own.
    pub(crate) fn wire(&self) -> RedisWire {
        RedisWire::open(self.addr).unwrap()
    }

    /// The text of a reply that is not an error, over a connection of its own.
    pub(crate) fn command(&self, command: &[impl AsRef<[u8]>]) -> String {
        self.wire().command(command)
    }

    /// What a command comes to, be it an error.
    pub(crate) fn ask(&self, command: &[impl AsRef<[u8]>]) -> io::Result<RedisReply> {
        RedisWire::open(self.addr)?.ask(command)
    }

    /// How often each command was called, such as `get` or `config|set`, those inside of scripts
    /// too; without the question itself.
    pub(crate) fn calls(&self) -> BTreeMap<String, u64> {
        let count = |line: &str| {
            let (name, numbers) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), numbers.split(',').next()?.parse().ok()?))
        };
        let stats = self.command(&["INFO", "commandstats"]);
        stats.lines().filter_map(count).filter(|(name, _)| name != "info").collect()
    }

    /// Counts calls from nought again.
    pub(crate) fn forget_calls(&self) {
        self.command(&["CONFIG", "RESETSTAT"]);
    }

    /// Listens to all commands from now on.
    pub(crate) fn monitor(&self) -> RedisMonitor<'_> {
        let mut wire = self.wire();
        wire.command(&["MONITOR"]);
        RedisMonitor { server: self, wire }
    }

    /// A line of `INFO`; `None` too if the server does not tell, as when it changes its role.
    pub(crate) fn info(&self, name: &str) -> Option<String> {
        info_of(&self.ask(&["INFO"]).ok()?.to_string(), name)
    }
}

/// All commands that a server gets.
pub(crate) struct RedisMonitor<'a> {
    server: &'a RedisServer,
    wire: RedisWire,
}

impl RedisMonitor<'_> {
    /// The commands since the last question, each as `"GET" "key"`; those of scripts too.
    pub(crate) fn so_far(&mut self) -> Vec<String> {
        const MARK: &str = "the monitor's own question";
        self.server.command(&["ECHO", MARK]);
        let mut commands = Vec::new();
        loop {
            let line = self.wire.receive().unwrap().to_string();
            // What is in front is the time and who asked: `1700000000.000001 [0 127.0.0.1:5] `.
            let (_, command) = line.split_once("] ").expect("a line of MONITOR");
            if command.contains(MARK) {
                return commands;
            }
            commands.push(command.to_owned());
        }
    }
}

/// Waits until the server answers; false if it ends instead.
fn is_up(addr: SocketAddr, process: &mut Process) -> bool {
    // Somebody else's server may answer at this port, too.
    let us = Some(process.id().to_string());
    let mut up = false;
    within("the server answers", || {
        let info = RedisWire::open(addr).and_then(|mut wire| wire.ask(&["INFO", "server"]));
        up = info.is_ok_and(|info| info_of(&info.to_string(), "process_id") == us);
        up || process.has_ended()
    });
    up
}

fn info_of(info: &str, name: &str) -> Option<String> {
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.to_owned());
    info.lines().find_map(value)
}
