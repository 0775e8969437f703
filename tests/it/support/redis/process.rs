//! A child process that ends with the test and can be suspended.

use std::{
    env, fs,
    io::ErrorKind,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::super::block_until;

/// A running `redis-server`. It is killed on drop, and by a guard process if the test process dies.
pub(super) struct Process {
    server: Child,
    guard: Child,
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
            // Ctrl-C reaches only the test process, whose end makes the guard kill the server.
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{}", advice(&program, error.kind())));
        let guard = Command::new("sh")
            .args(["-c", r#"read -r _; kill -KILL "$1"; rm -rf "$2""#, "sh"])
            .arg(server.id().to_string())
            .arg(dir)
            // The pipe closes when the test process ends.
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("sh");
        Self { server, guard }
    }

    pub(super) fn id(&self) -> u32 {
        self.server.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.server.try_wait().unwrap().is_some()
    }

    /// Suspends the process, like a machine that swaps or lost its network.
    pub(super) fn freeze(&self) {
        self.signal("STOP");
        let stat = format!("/proc/{}/stat", self.id());
        block_until("the server is suspended", || {
            // Other systems than Linux have no such file.
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
        // The guard first: otherwise it might kill a new process with the same id.
        for child in [&mut self.guard, &mut self.server] {
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

/// Reads the log of a server.
pub(super) fn log(dir: &Path) -> String {
    fs::read_to_string(log_of(dir)).unwrap_or_default()
}

fn log_of(dir: &Path) -> PathBuf {
    dir.join("log")
}

/// The server program. `REDIS_SERVER=valkey-server` tests Valkey.
fn program() -> String {
    env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

fn advice(program: &str, error: ErrorKind) -> String {
    format!(
        "{program} does not start ({error}): these tests run real servers; install Redis 7.0 or \
         later (Debian: apt-get install redis-server), or name another in REDIS_SERVER"
    )
}
