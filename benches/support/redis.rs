//! A redis-server process.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A Redis server on a free port. Dropping it ends the process.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    pub(crate) url: String,
}

impl Redis {
    pub(crate) fn start() -> io::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let redis = Self { child: spawn(port)?, port, url: format!("redis://127.0.0.1:{port}/") };
        redis.wait_until_ready()?;
        Ok(redis)
    }

    /// Kills the process. All its data are lost.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Kills the process, and starts an empty server on the same port.
    pub(crate) fn restart_on_same_port(&mut self) -> io::Result<()> {
        self.kill();
        self.child = spawn(self.port)?;
        self.wait_until_ready()
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        for _ in 0..500 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(io::Error::other(format!("redis-server does not listen on port {}", self.port)))
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16) -> io::Result<Child> {
    let port = port.to_string();
    Command::new("redis-server")
        .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
}
