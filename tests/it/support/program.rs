//! Child processes: the examples.

use std::{
    env,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use super::origin::{RawMessage, ask, get};

/// A running program. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    lines: mpsc::Receiver<String>,
}

/// The command that starts an example. Cargo builds examples into the folder beside that of the tests;
/// `EXAMPLES_FOLDER` names another one.
pub(crate) fn example(name: &str) -> Command {
    let tests = env::current_exe().unwrap();
    let target = tests.ancestors().nth(2).unwrap();
    let folder = env::var_os("EXAMPLES_FOLDER").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| target.join("examples"));
    let path = folder.join(format!("{name}{}", env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{path:?} is missing: cargo build --workspace --all-features --examples"
    );
    let mut command = Command::new(path);
    command.env("PORT", "0").env("RUST_LOG", "off");
    command
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("a program");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|l| send.send(l)));
        Self { child, lines }
    }

    /// Waits for the next line of the output.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(Duration::from_secs(60)).expect("a line of output")
    }

    /// Waits for the line with the server's address.
    pub(crate) fn addr(&self) -> SocketAddr {
        loop {
            let line = self.line();
            if let Some((_, addr)) = line.split_once("listening on ") {
                return addr.trim_start_matches("http://").parse().expect("an address");
            }
        }
    }

    /// Kills the program and returns the rest of its output.
    pub(crate) fn stop(mut self) -> Vec<String> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.lines.iter().collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running reverse proxy example in front of an origin.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    _program: Program,
}

impl Proxy {
    pub(crate) fn of(origin: SocketAddr, options: &[&str]) -> Self {
        let mut command = example("reverse_proxy");
        command.args(["--origin", &format!("http://{origin}"), "--workers", "2"]).args(options);
        let program = Program::start(&mut command);
        Self { addr: program.addr(), _program: program }
    }

    pub(crate) fn get(&self, path: &str) -> RawMessage {
        ask(self.addr, get(path)).expect("a complete answer")
    }
}
