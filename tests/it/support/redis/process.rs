//! A child that ends with the test, and can be held still.

use std::{
    env, fs,
    io::ErrorKind,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::super::within;

/// A running `redis-server`. It is killed when dropped, and also if the test's own process dies
/// without dropping anything.
pub(super) struct Process {
    server: Child,
    leash: Child,
}

impl Process {
    /// Starts a server that writes its log into the directory.
    pub(super) fn start(args: &[String], dir: &Path) -> Self {
        let program = program();
        let log = fs::File::create(log_of(dir)).unwrap();
        let server = Command::new(&program)
            .args(args)
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log)
            // Ctrl-C is for the tests; this one ends with them, even while it is held still.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{}", advice(&program, error.kind())));
        let leash = Command::new("sh")
            .args(["-c", r#"read -r _; kill -KILL "$1"; rm -rf "$2""#, "sh"])
            .arg(server.id().to_string())
            .arg(dir)
            // Its other end closes when the test's process is no more.
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh");
        Self { server, leash }
    }

    pub(super) fn id(&self) -> u32 {
        self.server.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.server.try_wait().unwrap().is_some()
    }

    /// Stops it where it is, as a machine does that swaps or is cut off.
    pub(super) fn freeze(&self) {
        self.signal("STOP");
        let stat = format!("/proc/{}/stat", self.id());
        within("the server stands still", || {
            // Elsewhere than on Linux the signal is trusted.
            fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") T "))
        });
    }

    pub(super) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("sh");
        kill.args(["-c", r#"kill -s "$1" "$2""#, "sh", name]).arg(self.id().to_string());
        assert!(kill.status().expect("sh").success(), "no server to send {name} to");
    }

    pub(super) fn kill(&mut self) {
        // The leash first: it may not pull at a number that is somebody else's by then.
        for child in [&mut self.leash, &mut self.server] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a server has logged.
pub(super) fn log(dir: &Path) -> String {
    fs::read_to_string(log_of(dir)).unwrap_or_default()
}

fn log_of(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// Valkey is tested by `REDIS_SERVER=valkey-server`.
fn program() -> String {
    env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

fn advice(program: &str, error: ErrorKind) -> String {
    format!(
        "{program} does not start ({error}): these tests run real servers; install Redis 7.0 or \
         later (Debian: apt-get install redis-server), or name another in REDIS_SERVER"
    )
}
